//! Out of the overlay in the clear: only of VNs that ask for no protection, and from one of their
//! edges.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use vswitch_net::checksum::Checksum;
use vswitch_net::ip::protocol;
use vswitch_net::outer::Outer;
use vswitch_net::tunnel::{self, Encapsulation};
use vswitch_vn::{Protection, TunnelId, VnId};

use super::decap::tunnel_verdict;
use super::inner::Inners;
use super::probe::Probe;
use super::verdict::Verdict;
use super::worker::Worker;
use crate::dpdk::mbuf::{BURST, Mbuf};

/// A tunnel packet in the clear.
pub(super) struct Clear {
    pub encapsulation: Encapsulation,
    /// Where the tunnel header begins and the datagram ends.
    pub start: usize,
    pub end: usize,
    pub outer: Outer,
}

impl<P: Probe> Worker<P> {
    /// Tunnel packets in the clear: only of VNs that ask for no protection, and from one of
    /// their edges.
    pub(super) fn open_clear(&mut self, port: u16, clear: &mut ArrayVec<(Mbuf, Clear), BURST>) {
        let mut inners = Inners::default();
        for (mut packet, clear) in clear.drain(..) {
            match self.check_clear(&clear, &packet) {
                Ok((tunnel, vn, start)) => match packet.narrow(start, clear.end) {
                    Ok(()) => inners.push(packet, tunnel, vn),
                    Err(_) => self.underlay_drop(port, Verdict::NotContiguous, packet),
                },
                Err(verdict) => self.underlay_drop(port, verdict, packet),
            }
        }
        self.inner_input(&mut inners);
    }

    fn check_clear(
        &self,
        clear: &Clear,
        packet: &Mbuf,
    ) -> Result<(TunnelId, VnId, usize), Verdict> {
        let Clear {
            encapsulation,
            start,
            end,
            outer,
        } = clear;
        let head = packet.head().get(*start..).ok_or(Verdict::NotContiguous)?;
        let parsed =
            tunnel::parse_clear(*encapsulation, head, end - start).map_err(tunnel_verdict)?;
        let id = self
            .tables
            .vn_by_vni(parsed.vni)
            .ok_or(Verdict::ClearUnknownVni)?;
        let vn = self.tables.vn(id).ok_or(Verdict::ClearUnknownVni)?;
        if vn.config.protection != Protection::None {
            return Err(Verdict::ClearForProtected);
        }
        let tunnel = self
            .tables
            .peer_by_address(outer.src)
            .and_then(|peer| self.tables.tunnel_between(id, peer))
            .ok_or(Verdict::ClearUnknownPeer)?;
        if self
            .tables
            .tunnel(tunnel)
            .is_none_or(|t| t.encapsulation != *encapsulation)
        {
            return Err(Verdict::TunnelMalformed);
        }
        if !udp_checksum_ok(outer, packet) {
            return Err(Verdict::UdpChecksum);
        }
        Ok((tunnel, id, start + parsed.inner))
    }
}

/// Whether the UDP checksum is absent (RFC 768; RFC 6935 for tunnels over IPv6) or right.
fn udp_checksum_ok(outer: &Outer, packet: &Mbuf) -> bool {
    let Some(udp) = outer.udp.filter(|udp| udp.checksum != 0) else {
        return true;
    };
    let mut sum = Checksum::new();
    let len = udp.end - outer.payload;
    match (outer.src, outer.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            sum.add_pseudo_v4(src, dst, protocol::UDP, len as u16);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            sum.add_pseudo_v6(src, dst, protocol::UDP, len as u32);
        }
        _ => return false,
    }
    sum.add_range(packet.segments(), outer.payload, udp.end);
    sum.finish() == 0
}
