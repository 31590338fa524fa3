//! Forwarding inside a virtual network: from a checked frame to where it goes.

use vswitch_net::MacAddr;
use vswitch_net::ethernet::HEADER_LEN;
use vswitch_vn::{Destination, Key, PortId, TunnelId, UnknownUnicast, VnId};

use super::handoff::Work;
use super::observe::{Rule, Step};
use super::outlet::Way;
use super::probe::Probe;
use super::resolve::Unknown;
use super::sightings::Subject;
use super::verdict::Verdict;
use super::worker::Worker;
use crate::dpdk::mbuf::{Burst, Mbuf};

/// Where a frame entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A tenant's port or a VLAN.
    Port(PortId),
    /// A peer edge.
    Tunnel(TunnelId),
}

impl Origin {
    fn destination(self) -> Destination {
        match self {
            Origin::Port(port) => Destination::Port(port),
            Origin::Tunnel(tunnel) => Destination::Tunnel(tunnel),
        }
    }
}

/// The tunnel of the frame before, and what fits into it: those of a burst mostly go one way.
#[derive(Default)]
pub(super) struct LastTunnel {
    id: Option<TunnelId>,
    max_frame: usize,
}

/// Frames that follow one another to one tenant's queue.
#[derive(Default)]
pub(super) struct LastPort {
    /// While there are frames, whose they are.
    id: Option<PortId>,
    frames: Burst,
}

impl<P: Probe> Worker<P> {
    /// Sends a checked frame to `dst` on its way within `vn`.
    #[inline]
    pub(super) fn forward(&mut self, vn: VnId, origin: Origin, dst: MacAddr, packet: Mbuf) {
        let found = self.tables.lookup(vn, dst);
        self.forward_to(vn, origin, dst, found, packet);
    }

    /// Sends a checked frame from a port on its way, whose destination has been looked up. `last`
    /// is the burst's.
    #[inline(always)]
    pub(super) fn forward_usual(
        &mut self,
        vn: VnId,
        port: PortId,
        key: Key,
        found: Option<Destination>,
        packet: Mbuf,
        last: &mut LastTunnel,
    ) {
        if !P::OBSERVES
            && let Some(Destination::Tunnel(tunnel)) = found
            && !key.is_group()
        {
            if last.id != Some(tunnel) {
                *last = LastTunnel {
                    id: Some(tunnel),
                    max_frame: self.tunnels.max_frame(tunnel),
                };
            }
            if packet.len() <= last.max_frame {
                return self.encapsulate(tunnel, packet);
            }
        }
        self.forward_to(vn, Origin::Port(port), key.mac(), found, packet);
    }

    /// Sends a checked frame from a tunnel on its way, whose destination has been looked up: mostly
    /// to a tenant's queue, where it leaves with those of the burst that go there too, by
    /// [`Self::forward_gathered`]. `last` is the run's.
    #[inline(always)]
    pub(super) fn forward_inward(
        &mut self,
        vn: VnId,
        tunnel: TunnelId,
        key: Key,
        found: Option<Destination>,
        packet: Mbuf,
        last: &mut LastPort,
    ) {
        if !P::OBSERVES
            && !P::DRY
            && let Some(Destination::Port(port)) = found
            && !key.is_group()
        {
            if last.id != Some(port) {
                self.forward_gathered(last);
                last.id = self.has_own_queue(port).then_some(port);
            }
            if last.id.is_some() {
                return last.frames.push(packet);
            }
        }
        self.forward_gathered(last);
        self.forward_to(vn, Origin::Tunnel(tunnel), key.mac(), found, packet);
    }

    /// Whether a port is a tenant's, with a queue of this worker's.
    #[inline]
    fn has_own_queue(&self, port: PortId) -> bool {
        if self.vlan_of(port).is_some() {
            return false;
        }
        let attachment = self.attachments.get(port.index()).and_then(Option::as_ref);
        attachment.is_some_and(|attachment| matches!(attachment.way, Way::Mine(_)))
    }

    /// Sends what [`Self::forward_inward`] gathered.
    #[inline(always)]
    pub(super) fn forward_gathered(&mut self, last: &mut LastPort) {
        if let Some(port) = last.id.take() {
            self.send_gathered(port, last);
        }
    }

    #[inline(never)]
    fn send_gathered(&mut self, port: PortId, last: &mut LastPort) {
        if let Some(Some(attachment)) = self.attachments.get_mut(port.index())
            && let Way::Mine(outlet) = &mut attachment.way
        {
            if outlet.held() == 0 {
                self.waiting.push(port);
            }
            let frames = last.frames.drain(..);
            return outlet.push_all(frames, &self.reader, &mut self.counters);
        }
        for packet in last.frames.drain(..) {
            self.port_drop(port, Verdict::TenantDown, packet);
        }
    }

    /// The same, when `dst` has been looked up already.
    pub(super) fn forward_to(
        &mut self,
        vn: VnId,
        origin: Origin,
        dst: MacAddr,
        found: Option<Destination>,
        packet: Mbuf,
    ) {
        if dst.is_multicast() {
            if is_link_local_group(dst) {
                return self.end(origin, vn, Verdict::LinkLocalMulticast, packet);
            }
            let packet = match origin {
                Origin::Port(port) if self.terms.is_some() => {
                    match self.resolve(vn, port, packet) {
                        Some(packet) => packet,
                        None => return,
                    }
                }
                _ => packet,
            };
            self.counters.step(&packet, || Step::Flooded { vn });
            return self.flood(vn, origin, packet);
        }
        if let Some(destination) = found {
            let tables = &self.tables;
            self.counters.step(&packet, || Step::Lookup {
                vn,
                mac: dst,
                rule: Rule::of(tables, vn, dst),
                destination,
            });
        }
        match found {
            Some(destination) if destination == origin.destination() => {
                self.end(origin, vn, Verdict::SamePort, packet);
            }
            Some(Destination::Port(port)) => self.deliver_or_too_big(port, origin, vn, packet),
            Some(Destination::Tunnel(tunnel)) => match origin {
                // Edges are a full mesh: what one sent us is never sent to a third.
                Origin::Tunnel(_) => self.end(origin, vn, Verdict::SplitHorizon, packet),
                Origin::Port(port) => self.tunnel_or_too_big(port, tunnel, packet),
            },
            None => match self.tables.vn(vn).map(|vn| vn.config.unknown_unicast) {
                Some(UnknownUnicast::Flood) => {
                    self.counters.step(&packet, || Step::UnknownFlooded { vn });
                    self.flood(vn, origin, packet);
                }
                Some(UnknownUnicast::Drop) => {
                    self.missed(vn, origin, Unknown::Mac(dst));
                    self.end(origin, vn, Verdict::UnknownUnicast, packet);
                }
                None => self.end(origin, vn, Verdict::NoVn, packet),
            },
        }
    }

    /// Broadcast, multicast and flooded unicast: to every port of the VN here, and from a
    /// port also to every edge of the VN (head-end replication). The last one gets the
    /// original, the others copies.
    fn flood(&mut self, vn: VnId, origin: Origin, packet: Mbuf) {
        if let Origin::Port(port) = origin
            && let Some(Some(attachment)) = self.attachments.get_mut(port.index())
            && !self.counters.admit(&mut attachment.bum, self.now)
        {
            return self.end(origin, vn, Verdict::BumRate, packet);
        }
        let mut original = Some(packet);
        let mut previous: Option<Destination> = None;
        let mut i = 0;
        while let Some(target) = self.flood_target(vn, origin, i) {
            i += 1;
            if target == origin.destination() {
                continue;
            }
            if let Some(previous) = previous.replace(target)
                && let Some(original) = &original
            {
                let mut copy = original.copy(&self.pool);
                self.counters.copy(original, copy.as_mut());
                match copy {
                    Some(copy) => self.flood_to(previous, origin, vn, copy),
                    None => {
                        let traffic = match previous {
                            Destination::Port(port) => self.counters.ports.get_mut(port.index()),
                            Destination::Tunnel(id) => self.counters.tunnels.get_mut(id.index()),
                        };
                        if let Some(traffic) = traffic {
                            traffic.tx_dropped += 1;
                        }
                    }
                }
            }
        }
        let Some(packet) = original.take() else {
            return;
        };
        match previous {
            Some(last) => self.flood_to(last, origin, vn, packet),
            None => self.end(origin, vn, Verdict::NoReceiver, packet),
        }
    }

    /// The i-th place that a flooded frame of `vn` may go to.
    fn flood_target(&self, vn: VnId, origin: Origin, i: usize) -> Option<Destination> {
        let vn = self.tables.vn(vn)?;
        if let Some(port) = vn.flood_ports.get(i) {
            return Some(Destination::Port(*port));
        }
        match origin {
            Origin::Tunnel(_) => None,
            Origin::Port(_) => {
                let tunnel = vn.flood_tunnels.get(i - vn.flood_ports.len())?;
                Some(Destination::Tunnel(*tunnel))
            }
        }
    }

    fn flood_to(&mut self, target: Destination, origin: Origin, vn: VnId, packet: Mbuf) {
        self.counters.step(&packet, || Step::Copied { to: target });
        match (target, origin) {
            (Destination::Port(port), _) => self.deliver_or_too_big(port, origin, vn, packet),
            (Destination::Tunnel(tunnel), Origin::Port(port)) => {
                self.tunnel_or_too_big(port, tunnel, packet);
            }
            (Destination::Tunnel(_), Origin::Tunnel(_)) => {
                self.end(origin, vn, Verdict::SplitHorizon, packet);
            }
        }
    }

    #[inline]
    fn tunnel_or_too_big(&mut self, port: PortId, tunnel: TunnelId, packet: Mbuf) {
        let max_frame = self.tunnels.max_frame(tunnel);
        if packet.len() > max_frame {
            self.counters.step(&packet, || Step::TooLong {
                len: packet.len(),
                max: max_frame,
            });
            self.too_big(port, max_frame, packet);
        } else {
            self.encapsulate(tunnel, packet);
        }
    }

    /// To a port here. The physical port behind a VLAN carries its MTU and no more; a tenant's
    /// ring takes what the guest made room for.
    #[inline]
    fn deliver_or_too_big(&mut self, port: PortId, origin: Origin, vn: VnId, packet: Mbuf) {
        let vlan = self.vlan_of(port);
        let mtu = vlan.and_then(|vlan| self.trunk_mtus.get(usize::from(vlan.device)));
        let max_frame = mtu.map_or(usize::MAX, |mtu| usize::from(*mtu) + HEADER_LEN);
        if packet.len() <= max_frame {
            return self.deliver(port, packet);
        }
        self.counters.step(&packet, || Step::TooLong {
            len: packet.len(),
            max: max_frame,
        });
        match origin {
            Origin::Port(from) => self.too_big(from, max_frame, packet),
            Origin::Tunnel(_) => self.end(origin, vn, Verdict::TooBig, packet),
        }
    }

    /// Hands a frame to a tenant or VLAN port: by its own queue or through its owner.
    #[inline]
    pub(super) fn deliver(&mut self, port: PortId, mut packet: Mbuf) {
        if let Some(vlan) = self.vlan_of(port) {
            return self.deliver_to_vlan(port, vlan, packet);
        }
        let Some(Some(attachment)) = self.attachments.get_mut(port.index()) else {
            return self.port_drop(port, Verdict::TenantDown, packet);
        };
        match &mut attachment.way {
            Way::Mine(outlet) => {
                packet.clear_offload_flags();
                if outlet.held() == 0 {
                    self.waiting.push(port);
                }
                outlet.push(packet, &self.reader, &mut self.counters);
            }
            Way::Via(worker) => {
                let worker = *worker;
                self.handoff
                    .send(worker, Work::Deliver(port), packet, &mut self.counters);
            }
            Way::Down => self.port_drop(port, Verdict::TenantDown, packet),
        }
    }

    /// Notes a drop that somebody should know of. A dry run's is none.
    #[inline]
    pub(super) fn note(&mut self, verdict: Verdict, subject: impl Into<Subject>, packet: &Mbuf) {
        if !P::DRY {
            self.sightings.note(verdict, subject, packet);
        }
    }

    /// Ends a packet and charges the drop to where it came from.
    pub(super) fn end(&mut self, origin: Origin, vn: VnId, verdict: Verdict, packet: Mbuf) {
        self.note(verdict, origin, &packet);
        let traffic = match origin {
            Origin::Port(port) => self.counters.ports.get_mut(port.index()),
            Origin::Tunnel(tunnel) => self.counters.tunnels.get_mut(tunnel.index()),
        };
        if let Some(traffic) = traffic {
            traffic.rx_dropped += 1;
        }
        if let Some(traffic) = self.counters.vns.get_mut(vn.index()) {
            traffic.rx_dropped += 1;
        }
        self.counters.end(verdict, packet);
    }
}

/// 01:80:c2:00:00:00 to 0f: never forwarded by a bridge (IEEE 802.1Q, 8.6.3).
fn is_link_local_group(mac: MacAddr) -> bool {
    matches!(mac.0, [0x01, 0x80, 0xc2, 0, 0, last] if last < 0x10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridge_group_addresses() {
        assert!(is_link_local_group(MacAddr([1, 0x80, 0xc2, 0, 0, 0])));
        assert!(is_link_local_group(MacAddr([1, 0x80, 0xc2, 0, 0, 0x0e])));
        assert!(!is_link_local_group(MacAddr([1, 0x80, 0xc2, 0, 0, 0x10])));
        assert!(!is_link_local_group(MacAddr([0xff; 6])));
    }
}
