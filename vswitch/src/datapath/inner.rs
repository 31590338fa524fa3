//! A peer's frames, out of their tunnel: the source must be mapped to that peer, and what the
//! frame says of its sender's IP addresses must not contradict the mappings. The peer has
//! checked this too, but a member edge must not be able to speak for another's tenant.

use arrayvec::ArrayVec;
use vswitch_net::frame::Frame;
use vswitch_net::quick;
use vswitch_policy::Spoof;
use vswitch_vn::{Claim, Destination, Key, SourceVerdict, TunnelId, VnId};

use super::counters::Sum;
use super::forward::{LastPort, Origin};
use super::observe::Step;
use super::probe::Probe;
use super::tenant::check_addresses;
use super::verdict::Verdict;
use super::worker::Worker;
use crate::dpdk::mbuf::{BURST, Mbuf};

/// Frames of one tunnel that follow one another.
struct Run {
    tunnel: TunnelId,
    vn: VnId,
    frames: usize,
}

/// Frames out of tunnels, and whose they are.
#[derive(Default)]
pub(super) struct Inners {
    runs: ArrayVec<Run, BURST>,
    frames: ArrayVec<Mbuf, BURST>,
}

impl Inners {
    /// One more.
    #[inline(always)]
    pub fn push(&mut self, frame: Mbuf, tunnel: TunnelId, vn: VnId) {
        self.frames.push(frame);
        match self.runs.last_mut() {
            Some(run) if run.tunnel == tunnel => run.frames += 1,
            _ => self.runs.push(Run {
                tunnel,
                vn,
                frames: 1,
            }),
        }
    }
}

/// What is asked of the tables for the frames of a burst, and what they answer.
struct Asked {
    /// Which frames are usual: for these there are claims and keys.
    usual: u32,
    claims: [Claim; BURST],
    keys: [Key; BURST],
    vouched: [bool; BURST],
    found: [Option<Destination>; BURST],
}

/// Inner headers that must lie in the first buffer.
const HEADERS: usize = 192;

impl<P: Probe> Worker<P> {
    /// Forwards what passes the check.
    #[inline]
    pub(super) fn inner_input(&mut self, inners: &mut Inners) {
        let mut asked = Asked {
            usual: 0,
            claims: [Claim::default(); BURST],
            keys: [Key::default(); BURST],
            vouched: [false; BURST],
            found: [None; BURST],
        };
        self.recognize(inners, &mut asked);
        let n = inners.frames.len();
        if asked.usual != 0 {
            let claims = asked.claims.get(..n).unwrap_or(&asked.claims);
            self.tables.vouch_burst(claims, &mut asked.vouched);
            let keys = asked.keys.get(..n).unwrap_or(&asked.keys);
            self.tables.lookup_burst(keys, &mut asked.found);
        }
        if self.sas.are_many() {
            self.prefetch_ports(&asked.found);
        }
        let mut bit = 1_u32;
        let mut frames = inners.frames.drain(..);
        let mut answers = asked.keys.iter().zip(asked.vouched).zip(asked.found);
        for run in inners.runs.drain(..) {
            let (mut sum, mut last) = (Sum::default(), LastPort::default());
            let mine = frames.by_ref().zip(answers.by_ref()).take(run.frames);
            for (packet, ((key, vouched), found)) in mine {
                if asked.usual & bit != 0 && vouched {
                    sum.add(packet.len());
                    self.forward_inward(run.vn, run.tunnel, *key, found, packet, &mut last);
                } else {
                    self.forward_gathered(&mut last);
                    self.inner_thorough(run.tunnel, run.vn, packet);
                }
                bit = bit.wrapping_shl(1);
            }
            self.forward_gathered(&mut last);
            if let Some(traffic) = self.counters.vns.get_mut(run.vn.index()) {
                traffic.tx_all(sum);
            }
        }
    }

    /// Finds out which frames are usual, and counts all of them for their tunnels.
    #[inline(never)]
    fn recognize(&mut self, inners: &mut Inners, asked: &mut Asked) {
        let many = self.sas.are_many();
        let mut bit = 1_u32;
        let mut left = inners.frames.as_mut_slice();
        let mut places = asked.claims.iter_mut().zip(&mut asked.keys);
        for run in &inners.runs {
            let (frames, rest) = left.split_at_mut(run.frames.min(left.len()));
            left = rest;
            let mut sum = Sum::default();
            for (packet, (claim, key)) in frames.iter_mut().zip(places.by_ref()) {
                packet.clear_offload_flags();
                sum.add(packet.len());
                self.tell_decapsulated(packet, run.tunnel, run.vn);
                // What nearly all frames are. An observer wants to know of the mapping too.
                if !P::OBSERVES
                    && let Some(known) = quick::frame(packet.head(), packet.len())
                {
                    *claim = Claim {
                        key: Key::of(run.vn, known.src),
                        destination: Destination::Tunnel(run.tunnel),
                        ipv4: known.src_ip,
                    };
                    *key = Key::of(run.vn, known.dst);
                    asked.usual |= bit;
                    if many {
                        self.prefetch_entries([claim.key, *key]);
                    }
                }
                bit = bit.wrapping_shl(1);
            }
            if let Some(traffic) = self.counters.tunnels.get_mut(run.tunnel.index()) {
                traffic.rx_all(sum);
            }
        }
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
