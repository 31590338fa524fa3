//! Out of the overlay: replay, open, replay again; the VNI must be the SA's. What is inside is
//! checked in [`super::inner`].

use std::net::IpAddr;

use vswitch_net::Vni;
use vswitch_net::ip::protocol;
use vswitch_net::tunnel::{self, Encapsulation, Tunnel, TunnelError, Usual};
use vswitch_sa::{Authenticated, Candidate, Inbound, OpenError, Opened};
use vswitch_vn::{Tables, TunnelId, VnId};

use super::chains::accept_chain;
use super::probe::Probe;
use super::sas::InboundSlot;
use super::sightings::Subject;
use super::verdict::Verdict;
use super::worker::Worker;
use crate::dpdk::mbuf::Mbuf;

/// An ESP packet whose SA is this worker's.
pub(super) struct Sealed {
    pub packet: Mbuf,
    pub slot: usize,
    /// Where ESP begins. It ends with the packet.
    pub start: usize,
    /// Outer source address.
    pub src: IpAddr,
}

/// What the tables say of an SA, kept beside it until they change: looking it up takes waits for
/// memory that depend on one another.
#[derive(Clone, Copy)]
pub struct Known {
    /// [`Tables::changes`] at that time.
    changes: u64,
    /// An address of its peer's.
    src: IpAddr,
    pub(super) expected: Expected,
}

impl Known {
    /// Of an SA of a tunnel, for packets from `src`, which must be its peer's.
    pub(super) fn of(tables: &Tables, id: TunnelId, src: IpAddr) -> Option<Self> {
        let peer = tables.peer(tables.tunnel(id)?.peer)?;
        Some(Known {
            changes: tables.changes(),
            src: peer.addresses.contains(&src).then_some(src)?,
            expected: Expected::of(tables, id)?,
        })
    }

    /// Whether that is so still, and for packets from `src`.
    #[inline(always)]
    pub(super) fn holds(&self, tables: &Tables, src: IpAddr) -> bool {
        self.changes == tables.changes() && self.src == src
    }
}

/// What the tunnel of an SA has inside.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    pub tunnel: TunnelId,
    pub vn: VnId,
    vni: Vni,
    encapsulation: Encapsulation,
    usual: Option<Usual>,
}

impl Expected {
    /// For a tunnel.
    #[inline]
    pub fn of(tables: &Tables, id: TunnelId) -> Option<Self> {
        let tunnel = tables.tunnel(id)?;
        Some(Expected {
            tunnel: id,
            vn: tunnel.vn,
            vni: tunnel.vni,
            encapsulation: tunnel.encapsulation,
            usual: Usual::new(tunnel.encapsulation, tunnel.vni),
        })
    }

    /// Replay once more, padding, next header, tunnel header, VNI. Leaves the inner frame of a
    /// packet whose ESP begins at `start`.
    #[inline(always)]
    pub fn accept(
        &self,
        sa: &mut Inbound,
        authenticated: Authenticated,
        packet: &mut Mbuf,
        start: usize,
    ) -> Result<(), Verdict> {
        let opened = accept(sa, authenticated, packet, start)?;
        self.unwrap(&opened, packet, start)
    }

    /// What [`Self::accept`] does behind the SA's part.
    #[inline(always)]
    pub fn unwrap(&self, opened: &Opened, packet: &mut Mbuf, start: usize) -> Result<(), Verdict> {
        if opened.next_header != protocol::UDP {
            return Err(Verdict::EspNextHeader);
        }
        let at = start + opened.payload.start;
        let head = packet.head();
        let end = head.len().min(start + opened.payload.end);
        let payload = head.get(at..end).ok_or(Verdict::NotContiguous)?;
        let usual = match payload.len() == opened.payload.len() {
            true => self.usual.and_then(|usual| usual.recognize(payload)),
            false => None,
        };
        let parsed = match usual {
            Some(parsed) => parsed,
            None => self.parse(payload, opened.payload.len())?,
        };
        if parsed.end < opened.payload.len() {
            packet.truncate(start + opened.payload.end);
            if !tunnel::is_zero(packet.segments(), at + parsed.end) {
                return Err(Verdict::TfcPadding);
            }
        }
        packet
            .narrow(at + parsed.inner, at + parsed.end)
            .map_err(|_| Verdict::NotContiguous)
    }

    /// A tunnel packet of `len` octets, of which `payload` has the first, that must be this
    /// tunnel's.
    #[inline(never)]
    fn parse(&self, payload: &[u8], len: usize) -> Result<Tunnel, Verdict> {
        let parsed = tunnel::parse_tunnel(payload, len).map_err(tunnel_verdict)?;
        if parsed.encapsulation != self.encapsulation {
            return Err(Verdict::TunnelMalformed);
        }
        if parsed.vni != self.vni {
            return Err(Verdict::WrongVni);
        }
        Ok(parsed)
    }
}

impl<P: Probe> Worker<P> {
    /// The SA in a slot, for a packet from `src`: its peer must have that address.
    #[inline]
    pub(super) fn sa_of_its_peer(&self, slot: usize, src: IpAddr) -> Result<&InboundSlot, Verdict> {
        let slot = self.sas.inbound(slot).ok_or(Verdict::UnknownSpi)?;
        if matches!(&slot.known, Some(known) if known.holds(&self.tables, src)) {
            return Ok(slot);
        }
        let tunnel = self.tables.tunnel(slot.tunnel).ok_or(Verdict::UnknownSpi)?;
        let peer = self.tables.peer(tunnel.peer).ok_or(Verdict::UnknownSpi)?;
        match peer.addresses.contains(&src) {
            true => Ok(slot),
            false => Err(Verdict::WrongPeer),
        }
    }

    /// What can be refused without the key, of a packet that may lie in several buffers.
    pub(super) fn before_opening(
        &self,
        sealed: &Sealed,
    ) -> Result<(Candidate, &InboundSlot), Verdict> {
        let slot = self.sa_of_its_peer(sealed.slot, sealed.src)?;
        let first = sealed.packet.head().get(sealed.start..);
        let first = first.ok_or(Verdict::EspTruncated)?;
        let candidate = slot
            .sa
            .precheck_segments(first, sealed.packet.len() - sealed.start)
            .map_err(open_verdict)?;
        Ok((candidate, slot))
    }

    /// All that [`Expected::accept`] does; in a dry run, without a trace in the SA.
    pub(super) fn after_opening(
        &mut self,
        slot: usize,
        start: usize,
        authenticated: Authenticated,
        packet: &mut Mbuf,
    ) -> Result<(TunnelId, VnId), Verdict> {
        let inbound = self.sas.inbound_mut(slot).ok_or(Verdict::UnknownSpi)?;
        let opened = if P::DRY {
            inbound
                .sa
                .rehearse(|sa| accept(sa, authenticated, packet, start))
        } else {
            let opened = accept(&mut inbound.sa, authenticated, packet, start);
            inbound.keep_floor();
            opened
        };
        let opened = opened?;
        let expected = Expected::of(&self.tables, inbound.tunnel).ok_or(Verdict::NoVn)?;
        expected.unwrap(&opened, packet, start)?;
        Ok((expected.tunnel, expected.vn))
    }

    /// Ends an ESP packet and charges its SA and tunnel.
    pub(super) fn sa_drop(&mut self, port: u16, slot: usize, verdict: Verdict, packet: Mbuf) {
        if !P::DRY
            && let Some(inbound) = self.sas.inbound_mut(slot)
        {
            let subject = Subject::Inbound {
                spi: inbound.sa.spi().get(),
                tunnel: inbound.tunnel,
            };
            self.sightings.note(verdict, subject, &packet);
            match verdict {
                Verdict::Replayed | Verdict::TooOld => inbound.replayed += 1,
                Verdict::AuthFailed => inbound.auth_failed += 1,
                _ => {}
            }
            if let Some(traffic) = self.counters.tunnels.get_mut(inbound.tunnel.index()) {
                traffic.rx_dropped += 1;
            }
        }
        self.underlay_end(port, verdict, packet);
    }
}

/// Replay once more, and padding, of a packet whose ESP begins at `start`.
#[inline(always)]
fn accept(
    sa: &mut Inbound,
    authenticated: Authenticated,
    packet: &Mbuf,
    start: usize,
) -> Result<Opened, Verdict> {
    if !packet.is_contiguous() {
        return accept_chain(sa, authenticated, packet, start);
    }
    let esp = packet.head().get(start..).ok_or(Verdict::EspTruncated)?;
    sa.accept(authenticated, esp).map_err(open_verdict)
}

pub(super) fn open_verdict(error: OpenError) -> Verdict {
    match error {
        OpenError::Truncated | OpenError::Misaligned => Verdict::EspTruncated,
        OpenError::WrongSpi => Verdict::UnknownSpi,
        OpenError::IvMismatch => Verdict::IvMismatch,
        OpenError::Replayed => Verdict::Replayed,
        OpenError::TooOld => Verdict::TooOld,
        OpenError::Forged | OpenError::WrongPacket => Verdict::AuthFailed,
        OpenError::Padding => Verdict::EspPadding,
        OpenError::Layout => Verdict::NotContiguous,
    }
}

pub(super) fn tunnel_verdict(error: TunnelError) -> Verdict {
    match error {
        TunnelError::CriticalOption => Verdict::GeneveCritical,
        TunnelError::NotInHead => Verdict::NotContiguous,
        _ => Verdict::TunnelMalformed,
    }
}
