//! From tenants: the source is checked before anything else is believed of a frame.

use vswitch_net::MacAddr;
use vswitch_net::checksum;
use vswitch_net::frame::Frame;
use vswitch_net::quick;
use vswitch_net::too_big;
use vswitch_policy::{Spoof, check_source, check_stranger};
use vswitch_vn::{Destination, Key, Mapping, PortId, Tables, TunnelId, VnId};

use super::counters::Sum;
use super::forward::{LastTunnel, Origin};
use super::observe::Step;
use super::probe::{Probe, Stage};
use super::verdict::Verdict;
use super::worker::Worker;
use crate::dpdk::mbuf::{BURST, Burst, Mbuf};

const _: () = assert!(BURST <= 32, "a bit of each packet of a burst in 32");

/// Headers that must lie in the first buffer: Ethernet to L4, with IPv6 extensions.
const HEADERS: usize = 192;

/// What forwarding needs of a frame that passed the check.
pub(super) struct Admitted {
    pub src: MacAddr,
    pub dst: MacAddr,
    /// Admitted without a binding or mapping.
    pub stranger: bool,
    /// Its checksum was completed.
    completed: bool,
}

impl<P: Probe> Worker<P> {
    /// A burst from a tenant's queue.
    pub(super) fn tenant_input(&mut self, port: PortId, burst: &mut Burst) {
        self.counters.probe.enter();
        let n = burst.len();
        let Some(vn) = self.tables.port(port).map(|p| p.vn) else {
            for packet in burst.drain(..) {
                if let Some(traffic) = self.counters.ports.get_mut(port.index()) {
                    traffic.rx(packet.len());
                    traffic.rx_dropped += 1;
                }
                self.counters.end(Verdict::NoVn, packet);
            }
            return;
        };
        // What nearly all frames are, and bound to the port: a bit of each. An observer wants to
        // know more of them.
        let (mut usual, mut keys) = (0_u32, [Key::default(); BURST]);
        let (mut received, mut longest) = (Sum::default(), 0);
        for packet in burst.iter() {
            received.add(packet.len());
            longest = longest.max(packet.len());
        }
        if !P::OBSERVES
            && let Some(Some(attachment)) = self.attachments.get(port.index())
            && let Some(bindings) = &attachment.bindings
        {
            let mut bit = 1;
            for (packet, key) in burst.iter().zip(&mut keys) {
                if !packet.needs_l4_checksum()
                    && let Some(quick) = quick::frame(packet.head(), packet.len())
                    && bindings.binds(quick.src, quick.src_ip)
                {
                    *key = Key::of(vn, quick.dst);
                    usual |= bit;
                }
                bit <<= 1;
            }
        }
        if let Some(traffic) = self.counters.ports.get_mut(port.index()) {
            traffic.rx_all(received);
        }
        let mut admitted = received;
        self.counters.probe.leave(Stage::Check, n);
        let mut found = [None; BURST];
        if usual != 0 {
            let keys = keys.get(..n).unwrap_or(&keys);
            self.tables.lookup_burst(keys, &mut found);
        }
        let all = usual.count_ones() as usize == n;
        let (asked, answers) = (keys.get(..n), found.get(..n));
        if all
            && let Some(tunnel) = asked.zip(answers).and_then(|(k, f)| one_tunnel(k, f))
            && longest <= self.tunnels.max_frame(tunnel)
        {
            for packet in burst.drain(..) {
                self.encapsulate(tunnel, packet);
            }
        }
        let mut last = LastTunnel::default();
        let mut bit = 1;
        let known = keys.iter().zip(found.iter());
        for (packet, (key, found)) in burst.drain(..).zip(known) {
            if usual & bit != 0 {
                self.forward_usual(vn, port, *key, *found, packet, &mut last);
            } else {
                let len = packet.len();
                if !self.tenant_thorough(port, vn, packet) {
                    admitted.remove(len);
                }
            }
            bit <<= 1;
        }
        if let Some(traffic) = self.counters.vns.get_mut(vn.index()) {
            traffic.rx_all(admitted);
        }
        self.counters.probe.leave(Stage::Forward, n);
    }

    /// Checks and forwards a frame of a tenant's; tells whether it was admitted.
    #[inline(never)]
    fn tenant_thorough(&mut self, port: PortId, vn: VnId, mut packet: Mbuf) -> bool {
        match self.check(port, &mut packet) {
            Ok(frame) => {
                self.note_admitted(port, &frame, &packet);
                self.forward(vn, Origin::Port(port), frame.dst, packet);
                true
            }
            Err(verdict) => {
                self.end(Origin::Port(port), vn, verdict, packet);
                false
            }
        }
    }

    /// Parses a tenant's frame and checks that its sources are placed on the port. What it
    /// learned of the frame stays here but for a few bytes: copies of a whole [`Frame`] cost
    /// more than all of the check.
    pub(super) fn check(&self, port: PortId, packet: &mut Mbuf) -> Result<Admitted, Verdict> {
        let Some(Some(attachment)) = self.attachments.get(port.index()) else {
            return Err(Verdict::NoVn);
        };
        if packet.head().len() < HEADERS.min(packet.len()) && packet.linearize().is_err() {
            return Err(Verdict::NotContiguous);
        }
        let parsed = Frame::parse(packet.head(), packet.len());
        let frame = parsed.as_ref().map_err(|_| Verdict::Malformed)?;
        let stranger = match &attachment.bindings {
            Some(bindings) => {
                bindings.check(frame).map_err(spoof_verdict)?;
                false
            }
            None => self.check_vlan_source(port, frame)?,
        };
        let completed = packet.needs_l4_checksum();
        if completed {
            complete_checksum(frame, packet)?;
        }
        Ok(Admitted {
            src: frame.src,
            dst: frame.dst,
            stranger,
            completed,
        })
    }

    #[inline(always)]
    pub(super) fn note_admitted(&mut self, port: PortId, admitted: &Admitted, packet: &Mbuf) {
        let placed = match self.attachments.get(port.index()) {
            Some(Some(attachment)) if P::OBSERVES => attachment.bindings.is_some(),
            _ => false,
        };
        let mac = admitted.src;
        let mapped = !admitted.stranger;
        self.counters.step(packet, || match placed {
            true => Step::Placed { port, mac },
            false => Step::AdmittedByVlan { port, mac, mapped },
        });
        if admitted.completed {
            self.counters.step(packet, || Step::ChecksumCompleted);
        }
    }

    /// Ends a packet on its way to a port, which is charged.
    pub(super) fn port_drop(&mut self, port: PortId, verdict: Verdict, packet: Mbuf) {
        if let Some(traffic) = self.counters.ports.get_mut(port.index()) {
            traffic.tx_dropped += 1;
        }
        self.counters.end(verdict, packet);
    }

    /// A frame longer than where it would go carries: the tenant is told where the
    /// protocol has a message for it, from the address it was sent to, at a limited rate.
    pub(super) fn too_big(&mut self, port: PortId, max_frame: usize, packet: Mbuf) {
        let vn = self.tables.port(port).map_or(VnId(u16::MAX), |p| p.vn);
        let admitted = match self.attachments.get_mut(port.index()) {
            Some(Some(attachment)) => self.counters.admit(&mut attachment.icmp, self.now),
            _ => false,
        };
        // Parsed anew: only what is answered needs it a second time.
        if admitted
            && let Ok(frame) = Frame::parse(packet.head(), packet.len())
            && let Some(mut answer) = self.pool.alloc()
        {
            let l2 = usize::from(frame.l3_offset);
            let mtu = u16::try_from(max_frame.saturating_sub(l2)).unwrap_or(u16::MAX);
            let room = answer.tailroom();
            let written = answer
                .append(room.min(too_big::MAX_FRAME))
                .ok()
                .and_then(|out| too_big::build(packet.head(), &frame, mtu, out));
            if let Some(len) = written {
                answer.truncate(len);
                self.counters.generate(&packet, &mut answer);
                self.deliver(port, answer);
            }
        }
        self.end(Origin::Port(port), vn, Verdict::TooBig, packet);
    }
}

/// The tunnel that all of these frames go into, if they do.
#[inline(always)]
fn one_tunnel(keys: &[Key], found: &[Option<Destination>]) -> Option<TunnelId> {
    let first = *found.first()?;
    let Some(Destination::Tunnel(tunnel)) = first else {
        return None;
    };
    let mut all = true;
    for (key, found) in keys.iter().zip(found) {
        all &= *found == first && !key.is_group();
    }
    all.then_some(tunnel)
}

/// Whether what a frame from elsewhere than a tenant's port says of its sender's IP addresses
/// agrees with the mappings: with the source's own, or if that lists none, with all others.
///
/// `physical`: whether it comes from a physical port, where routers are.
#[inline]
pub(super) fn check_addresses(
    tables: &Tables,
    vn: VnId,
    mapping: Option<&Mapping>,
    physical: bool,
    frame: &Frame,
) -> Result<(), Spoof> {
    match mapping {
        Some(mapping) if !mapping.ips.is_empty() => {
            check_source(frame.src, &mapping.ips, physical, frame)
        }
        _ => check_stranger(frame, physical, |ip| {
            tables.is_held_by_other(vn, frame.src, ip)
        }),
    }
}

pub(super) fn spoof_verdict(spoof: Spoof) -> Verdict {
    match spoof {
        Spoof::Mac => Verdict::SpoofedMac,
        Spoof::Vlan => Verdict::UnexpectedVlan,
        Spoof::Ipv4 | Spoof::Ipv6 => Verdict::SpoofedIp,
        Spoof::ArpMac | Spoof::ArpIp => Verdict::SpoofedArp,
        Spoof::NdTarget | Spoof::NdLinkLayer => Verdict::SpoofedNd,
        Spoof::Llc => Verdict::LlcFrame,
        Spoof::RouterAdvertisement | Spoof::Redirect => Verdict::RogueRouter,
    }
}

/// Completes the checksum that a guest left to us (VIRTIO_NET_F_CSUM).
fn complete_checksum(frame: &Frame, packet: &mut Mbuf) -> Result<(), Verdict> {
    let sum = checksum::complete_l4(frame, packet.segments()).ok_or(Verdict::ChecksumOffload)?;
    let field = packet
        .head_mut()
        .get_mut(sum.offset..sum.offset + 2)
        .ok_or(Verdict::ChecksumOffload)?;
    field.copy_from_slice(&sum.value.to_be_bytes());
    Ok(())
}
