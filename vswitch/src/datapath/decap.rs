//! Out of the overlay: replay, open, replay again; the VNI must be the SA's. What is inside is
//! checked in [`super::inner`].

use std::net::IpAddr;

use arrayvec::ArrayVec;
use vswitch_aead::Job;
use vswitch_net::Vni;
use vswitch_net::ip::protocol;
use vswitch_net::tunnel::{self, Encapsulation, Tunnel, TunnelError, Usual};
use vswitch_sa::{Authenticated, Candidate, Inbound, OpenError, Opened};
use vswitch_vn::{TunnelId, VnId};

use super::chains::accept_chain;
use super::inner::Inner;
use super::probe::{Probe, Stage};
use super::sas::InboundSlot;
use super::sightings::Subject;
use super::verdict::Verdict;
use super::worker::Worker;
use crate::dpdk::mbuf::{BURST, Mbuf};

/// An ESP packet whose SA is this worker's.
pub(super) struct Sealed {
    pub packet: Mbuf,
    pub slot: usize,
    /// Where ESP begins and ends in the packet.
    pub start: usize,
    pub end: usize,
    /// Outer source address.
    pub src: IpAddr,
}

/// What the tunnel of an SA has inside.
pub(super) struct Expected {
    slot: usize,
    id: TunnelId,
    vn: VnId,
    vni: Vni,
    encapsulation: Encapsulation,
    usual: Option<Usual>,
}

impl Expected {
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
    /// Opens ESP packets as one batch and forwards what they carried.
    pub(super) fn open(&mut self, port: u16, sealed: &mut ArrayVec<Sealed, BURST>) {
        self.counters.probe.enter();
        let n = sealed.len();
        if self.sas.are_many() {
            let (tables, tunnels) = (&self.tables, &self.counters.tunnels);
            let slots = sealed.iter().map(|sealed| sealed.slot);
            self.sas.touch_inbound(slots, |tunnel| {
                let vni = tables.tunnel(tunnel).map_or(0, |t| t.vni.get());
                u64::from(vni) ^ tunnels.get(tunnel.index()).map_or(0, |t| t.rx_packets)
            });
        }
        let mut inner = ArrayVec::new();
        if P::OBSERVES || P::DRY || sealed.iter().any(|s| !s.packet.is_contiguous()) {
            self.open_thoroughly(port, sealed, &mut inner);
        } else {
            self.open_quickly(port, sealed, &mut inner);
        }
        self.inner_input(&mut inner);
        self.counters.probe.leave(Stage::Decapsulate, n);
    }

    /// Opens packets that lie in one buffer each, where they are.
    #[inline(always)]
    pub(super) fn open_quickly(
        &mut self,
        port: u16,
        sealed: &mut ArrayVec<Sealed, BURST>,
        inner: &mut ArrayVec<Inner, BURST>,
    ) {
        let n = sealed.len();
        let mut jobs: ArrayVec<Job<'_>, BURST> = ArrayVec::new();
        let mut candidates: ArrayVec<Candidate, BURST> = ArrayVec::new();
        let mut refused = [Verdict::AuthFailed; BURST];
        // Which packets have a job.
        let (mut made, mut bit) = (0_u32, 1_u32);
        let mut known = None;
        for (sealed, refused) in sealed.iter_mut().zip(&mut refused) {
            match self.before_opening(sealed, &mut known) {
                Ok((candidate, slot)) => {
                    sealed.packet.truncate(sealed.end);
                    if let Some(esp) = sealed.packet.head_mut().get_mut(sealed.start..)
                        && let Ok(()) = slot.sa.open_job(&candidate, esp, |job| jobs.push(job))
                    {
                        candidates.push(candidate);
                        made |= bit;
                    }
                }
                Err(verdict) => *refused = verdict,
            }
            bit <<= 1;
        }
        self.backend.open(&mut jobs);
        let judged: ArrayVec<Option<Authenticated>, BURST> = candidates
            .drain(..)
            .zip(&jobs)
            .map(|(candidate, job)| candidate.verdict(job).ok())
            .collect();
        drop(jobs);
        self.counters.probe.leave(Stage::Open, n);

        let (mut expected, mut bit) = (None, 1_u32);
        let mut judged = judged.into_iter();
        for (sealed, refused) in sealed.drain(..).zip(refused) {
            let Sealed {
                mut packet,
                slot,
                start,
                ..
            } = sealed;
            let result = match made & bit != 0 {
                true => match judged.next().flatten() {
                    Some(authenticated) => {
                        self.after_opening(slot, start, authenticated, &mut packet, &mut expected)
                    }
                    None => Err(Verdict::AuthFailed),
                },
                false => Err(refused),
            };
            bit <<= 1;
            match result {
                Ok((tunnel, vn)) => inner.push(Inner { packet, tunnel, vn }),
                Err(verdict) => self.sa_drop(port, slot, verdict, packet),
            }
        }
    }

    /// What can be refused without the key. `known` is the last SA and source that belonged
    /// together: packets of one SA mostly follow one another.
    #[inline(always)]
    pub(super) fn before_opening(
        &self,
        sealed: &Sealed,
        known: &mut Option<(usize, IpAddr)>,
    ) -> Result<(Candidate, &InboundSlot), Verdict> {
        let slot = self.sas.inbound(sealed.slot).ok_or(Verdict::UnknownSpi)?;
        let pair = Some((sealed.slot, sealed.src));
        if *known != pair {
            let tunnel = self.tables.tunnel(slot.tunnel).ok_or(Verdict::UnknownSpi)?;
            let peer = self.tables.peer(tunnel.peer).ok_or(Verdict::UnknownSpi)?;
            if !peer.addresses.contains(&sealed.src) {
                return Err(Verdict::WrongPeer);
            }
            *known = pair;
        }
        let head = sealed.packet.head();
        let first = head
            .get(sealed.start..sealed.end.min(head.len()))
            .ok_or(Verdict::EspTruncated)?;
        let candidate = slot
            .sa
            .precheck_segments(first, sealed.end - sealed.start)
            .map_err(open_verdict)?;
        Ok((candidate, slot))
    }

    /// Replay once more, padding, next header, tunnel header, VNI. Leaves the inner frame.
    /// `expected` is of the packet before, which mostly was of the same SA.
    #[inline(always)]
    pub(super) fn after_opening(
        &mut self,
        slot: usize,
        start: usize,
        authenticated: Authenticated,
        packet: &mut Mbuf,
        expected: &mut Option<Expected>,
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
        if opened.next_header != protocol::UDP {
            return Err(Verdict::EspNextHeader);
        }
        let known = match expected {
            Some(known) if known.slot == slot => known,
            _ => {
                let id = inbound.tunnel;
                let tunnel = self.tables.tunnel(id).ok_or(Verdict::NoVn)?;
                expected.insert(Expected {
                    slot,
                    id,
                    vn: tunnel.vn,
                    vni: tunnel.vni,
                    encapsulation: tunnel.encapsulation,
                    usual: Usual::new(tunnel.encapsulation, tunnel.vni),
                })
            }
        };
        let at = start + opened.payload.start;
        let head = packet.head();
        let end = head.len().min(start + opened.payload.end);
        let payload = head.get(at..end).ok_or(Verdict::NotContiguous)?;
        let usual = match payload.len() == opened.payload.len() {
            true => known.usual.and_then(|usual| usual.recognize(payload)),
            false => None,
        };
        let parsed = match usual {
            Some(parsed) => parsed,
            None => known.parse(payload, opened.payload.len())?,
        };
        if parsed.end < opened.payload.len() {
            packet.truncate(start + opened.payload.end);
            if !tunnel::is_zero(packet.segments(), at + parsed.end) {
                return Err(Verdict::TfcPadding);
            }
        }
        packet
            .narrow(at + parsed.inner, at + parsed.end)
            .map_err(|_| Verdict::NotContiguous)?;
        Ok((known.id, known.vn))
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
