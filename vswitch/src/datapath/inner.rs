//! A peer's frames, out of their tunnel: the source must be mapped to that peer, and what the
//! frame says of its sender's IP addresses must not contradict the mappings. The peer has
//! checked this too, but a member edge must not be able to speak for another's tenant.

use arrayvec::ArrayVec;
use vswitch_net::frame::Frame;
use vswitch_net::quick;
use vswitch_policy::Spoof;
use vswitch_vn::{Claim, Destination, Key, SourceVerdict, TunnelId, VnId};

use super::counters::{Sum, TrafficTable};
use super::forward::Origin;
use super::observe::Step;
use super::probe::Probe;
use super::tenant::check_addresses;
use super::verdict::Verdict;
use super::worker::Worker;
use crate::dpdk::mbuf::{BURST, Mbuf};

/// A frame, and whose it is.
pub(super) struct Inner {
    pub packet: Mbuf,
    pub tunnel: TunnelId,
    pub vn: VnId,
}

/// What the frames of one virtual network that follow one another amount to.
struct VnSum {
    vn: VnId,
    sum: Sum,
}

impl Default for VnSum {
    fn default() -> Self {
        VnSum {
            vn: VnId(u16::MAX),
            sum: Sum::default(),
        }
    }
}

impl VnSum {
    /// Counts them.
    #[inline]
    fn enter(&mut self, vns: &mut TrafficTable) {
        let sum = std::mem::take(&mut self.sum);
        if let Some(traffic) = vns.get_mut(self.vn.index()) {
            traffic.tx_all(sum);
        }
    }
}

/// Inner headers that must lie in the first buffer.
const HEADERS: usize = 192;

impl<P: Probe> Worker<P> {
    /// Forwards what passes the check.
    #[inline]
    pub(super) fn inner_input(&mut self, frames: &mut ArrayVec<Inner, BURST>) {
        let n = frames.len();
        let (mut usual, mut bit) = (0_u32, 1_u32);
        let (mut claims, mut keys) = ([Claim::default(); BURST], [Key::default(); BURST]);
        // Frames of one tunnel mostly follow one another.
        for run in frames.chunk_by_mut(|a, b| a.tunnel == b.tunnel) {
            let Some(tunnel) = run.first().map(|first| first.tunnel) else {
                continue;
            };
            let mut sum = Sum::default();
            let places = claims
                .iter_mut()
                .zip(&mut keys)
                .skip(bit.trailing_zeros() as usize);
            for (Inner { packet, vn, .. }, (claim, key)) in run.iter_mut().zip(places) {
                packet.clear_offload_flags();
                sum.add(packet.len());
                self.tell_decapsulated(packet, tunnel, *vn);
                // What nearly all frames are. An observer wants to know of the mapping too.
                if !P::OBSERVES
                    && let Some(known) = quick::frame(packet.head(), packet.len())
                {
                    *claim = Claim {
                        key: Key::of(*vn, known.src),
                        destination: Destination::Tunnel(tunnel),
                        ipv4: known.src_ip,
                    };
                    *key = Key::of(*vn, known.dst);
                    usual |= bit;
                }
                bit <<= 1;
            }
            if let Some(traffic) = self.counters.tunnels.get_mut(tunnel.index()) {
                traffic.rx_all(sum);
            }
        }
        let (mut vouched, mut found) = ([false; BURST], [None; BURST]);
        if usual != 0 {
            self.tables
                .vouch_burst(claims.get(..n).unwrap_or(&claims), &mut vouched);
            self.tables
                .lookup_burst(keys.get(..n).unwrap_or(&keys), &mut found);
        }
        if self.sas.are_many() {
            self.touch_ports(&found);
        }
        let known = keys.iter().zip(vouched).zip(found);
        let (mut bit, mut sums) = (1, VnSum::default());
        for (Inner { packet, tunnel, vn }, ((key, vouched), found)) in frames.drain(..).zip(known) {
            if usual & bit != 0 && vouched {
                if sums.vn != vn {
                    sums.enter(&mut self.counters.vns);
                    sums.vn = vn;
                }
                sums.sum.add(packet.len());
                self.forward_inward(vn, tunnel, *key, found, packet);
            } else {
                self.inner_thorough(tunnel, vn, packet);
            }
            bit <<= 1;
        }
        sums.enter(&mut self.counters.vns);
    }

    #[inline(always)]
    fn tell_decapsulated(&mut self, packet: &Mbuf, tunnel: TunnelId, vn: VnId) {
        let tables = &self.tables;
        self.counters.step(packet, || {
            let entry = tables.tunnel(tunnel);
            Step::Decapsulated {
                tunnel,
                vn,
                encapsulation: entry.map(|t| t.encapsulation).unwrap_or_default(),
                vni: entry.map_or(0, |t| t.vni.get()),
            }
        });
    }

    /// As [`SaTable::touch_inbound`](super::sas::SaTable::touch_inbound), for where frames go.
    fn touch_ports(&self, found: &[Option<Destination>]) {
        let ports = found.iter().filter_map(|found| match found {
            Some(Destination::Port(port)) => Some(port.index()),
            _ => None,
        });
        let mut seen = 0;
        for port in ports.clone() {
            let attached = self.attachments.get(port).is_some_and(Option::is_some);
            seen ^= u64::from(attached);
            seen ^= self.counters.ports.get(port).map_or(0, |t| t.tx_packets);
        }
        for port in ports {
            if let Some(Some(attachment)) = self.attachments.get(port) {
                seen ^= u64::from(attachment.vid) ^ u64::from(attachment.trunk.is_some());
            }
        }
        std::hint::black_box(seen);
    }

    #[inline(never)]
    fn inner_thorough(&mut self, tunnel: TunnelId, vn: VnId, mut packet: Mbuf) {
        let origin = Origin::Tunnel(tunnel);
        if packet.head().len() < HEADERS.min(packet.len()) && packet.linearize().is_err() {
            return self.end(origin, vn, Verdict::NotContiguous, packet);
        }
        let parsed = Frame::parse(packet.head(), packet.len());
        let Ok(frame) = &parsed else {
            return self.end(origin, vn, Verdict::Malformed, packet);
        };
        if frame.vlan.is_some() {
            return self.end(origin, vn, Verdict::UnexpectedVlan, packet);
        }
        let Ok(known) = self.tables.check_remote_source(vn, frame.src, tunnel) else {
            return self.end(origin, vn, Verdict::SpoofedRemote, packet);
        };
        let mapping = match known {
            SourceVerdict::Mapped => self.tables.mapping(vn, frame.src),
            SourceVerdict::Learn => None,
        };
        if let Err(spoof) = check_addresses(&self.tables, vn, mapping, false, frame) {
            return self.end(origin, vn, remote_verdict(spoof), packet);
        }
        let (mac, generation) = (frame.src, mapping.map(|mapping| mapping.generation));
        self.counters.step(&packet, || match generation {
            Some(generation) => Step::SourceMapped { mac, generation },
            None => Step::SourceUnmapped { mac },
        });
        if known == SourceVerdict::Learn {
            self.learn(vn, frame.src, Destination::Tunnel(tunnel));
        }
        if let Some(traffic) = self.counters.vns.get_mut(vn.index()) {
            traffic.tx(packet.len());
        }
        self.forward(vn, origin, frame.dst, packet);
    }
}

fn remote_verdict(spoof: Spoof) -> Verdict {
    match spoof {
        Spoof::Vlan => Verdict::UnexpectedVlan,
        Spoof::Llc => Verdict::LlcFrame,
        Spoof::Mac => Verdict::SpoofedRemote,
        Spoof::ArpMac
        | Spoof::ArpIp
        | Spoof::Ipv4
        | Spoof::Ipv6
        | Spoof::NdTarget
        | Spoof::NdLinkLayer => Verdict::SpoofedRemoteIp,
        Spoof::RouterAdvertisement | Spoof::Redirect => Verdict::RogueRouter,
    }
}
