//! Into the overlay: tunnel header, ESP, outer headers; sealed as one batch per burst.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use vswitch_aead::{Backend, Job, Outcome};
use vswitch_net::template;
use vswitch_net::{tunnel, udp};
use vswitch_sa::{self as sa, Assigned, Outbound, SealError};
use vswitch_vn::{Protection, TunnelId};

use super::command::{Event, Path};
use super::counters::Account;
use super::express::{Halt, Runs};
use super::handoff::Work;
use super::observe::Step;
use super::outlet::{Note, Way};
use super::probe::{Probe, Stage};
use super::sightings::Subject;
use super::verdict::Verdict;
use super::worker::{Gathered, SEAL_BATCH, Worker};
use crate::dpdk::mbuf::{Mbuf, NoRoom};
use crate::dpdk::mempool::Mempool;

/// Buffers in one packet at most: a 64 KiB frame in buffers of 2 KiB, and a trailer.
const MAX_SEGMENTS: usize = 40;

/// Next header of the protected payload: UDP.
const UDP: u8 = 17;

/// A packet whose headers are written and which waits for the cipher.
pub(super) struct Sealing {
    pub packet: Mbuf,
    /// Spent by the job that seals it.
    pub assigned: Option<Assigned>,
    pub slot: usize,
    pub tunnel: TunnelId,
    /// Octets of outer headers, before ESP.
    pub outer: u16,
    /// The port that it leaves by.
    pub underlay: u16,
    /// Whether the outer UDP header wants a checksum.
    pub checksum: bool,
}

impl<P: Probe> Worker<P> {
    /// Gathers a frame for a tunnel.
    #[inline(always)]
    pub(super) fn encapsulate(&mut self, tunnel: TunnelId, packet: Mbuf) {
        self.gather(tunnel, packet, false);
    }

    /// As [`Self::encapsulate`]; tells whether a colleague handed the frame in.
    #[inline(always)]
    pub(super) fn gather(&mut self, tunnel: TunnelId, packet: Mbuf, handed_in: bool) {
        if self.sealing.len() >= SEAL_BATCH {
            self.seal();
        }
        self.sealing.push(Gathered {
            packet,
            tunnel,
            handed_in,
        });
    }

    /// Carries all gathered frames to the underlay's outlets.
    pub(super) fn seal(&mut self) {
        if self.sealing.is_empty() {
            return;
        }
        self.counters.probe.enter();
        let mut gathered = std::mem::take(&mut self.sealing);
        // Frames for many peers, one behind the other.
        let first = gathered.first().map(|frame| frame.tunnel);
        if gathered.iter().any(|frame| Some(frame.tunnel) != first) {
            let slots = self
                .tunnels
                .touch(gathered.iter().map(|frame| frame.tunnel));
            self.sas.touch_outbound(slots.iter().copied());
        }
        let (mut ready, mut batch) = (Runs::default(), ArrayVec::new());
        let mut frames = gathered.drain(..);
        let mut next = frames.next();
        while let Some(frame) = next {
            if !batch.is_empty() && self.may_be_usual(&frame) {
                // What is behind an unusual frame stays behind it.
                self.seal_runs(&mut ready);
                self.seal_batch(&mut batch);
            }
            next = match self.express(frame, &mut frames, &mut ready, &mut batch) {
                Halt::Unusual(frame) => {
                    batch.extend(self.prepare(frame));
                    frames.next()
                }
                Halt::Another(frame) => Some(frame),
                Halt::End => None,
            };
        }
        drop(frames);
        if self.sealing.is_empty() {
            self.sealing = gathered;
        }
        self.seal_runs(&mut ready);
        if !batch.is_empty() {
            self.seal_batch(&mut batch);
        }
        // In the clear that was all.
        self.counters.probe.leave(Stage::Encapsulate, 0);
    }

    /// Seals packets that went the thorough way, and sends them.
    #[inline(never)]
    fn seal_batch(&mut self, batch: &mut ArrayVec<Sealing, SEAL_BATCH>) {
        let n = batch.len();
        self.counters.probe.leave(Stage::Encapsulate, n);
        let sealed = self.run_cipher(batch);
        self.counters.probe.leave(Stage::Seal, n);
        for (sealing, sealed) in batch.drain(..).zip(sealed) {
            if sealed {
                let sas = &self.sas;
                self.counters.step(&sealing.packet, || Step::Sealed {
                    algorithm: sas
                        .outbound(sealing.slot)
                        .map_or("", |out| out.sa.algorithm().name()),
                });
                self.finish(sealing);
            } else {
                // Fail closed: nothing leaves in the clear.
                self.tunnel_drop(sealing.tunnel, Verdict::NoSa, sealing.packet);
            }
        }
        self.counters.probe.leave(Stage::Encapsulate, 0);
    }

    /// Seals the batch in place; tells which packets are sealed.
    #[inline]
    fn run_cipher(&self, batch: &mut ArrayVec<Sealing, SEAL_BATCH>) -> [bool; SEAL_BATCH] {
        let mut sealed = [false; SEAL_BATCH];
        let mut jobs: ArrayVec<Job<'_>, SEAL_BATCH> = ArrayVec::new();
        let mut places: ArrayVec<&mut bool, SEAL_BATCH> = ArrayVec::new();
        for (sealing, place) in batch.iter_mut().zip(&mut sealed) {
            let Some(slot) = self.sas.outbound(sealing.slot) else {
                continue;
            };
            let outer = usize::from(sealing.outer);
            if !sealing.packet.is_contiguous() {
                *place = seal_chain(self.backend, &slot.sa, sealing);
            } else if let Some(esp) = sealing.packet.head_mut().get_mut(outer..)
                && let Some(assigned) = sealing.assigned.take()
                && let Ok(job) = slot.sa.seal_job(assigned, esp, UDP, |job| job)
            {
                jobs.push(job);
                places.push(place);
            }
        }
        self.backend.seal(&mut jobs);
        for (job, place) in jobs.iter().zip(places) {
            *place = job.outcome() == Outcome::Sealed;
        }
        sealed
    }

    /// Everything up to the cipher. `None` if the packet has ended or gone elsewhere.
    #[inline(never)]
    pub(super) fn prepare(&mut self, frame: Gathered) -> Option<Sealing> {
        let Gathered {
            packet,
            tunnel: id,
            handed_in,
        } = frame;
        let (Some(tunnel), Some(state)) = (self.tables.tunnel(id), self.tunnels.get(id)) else {
            self.tunnel_drop(id, Verdict::NoSa, packet);
            return None;
        };
        let protected = tunnel.protection != Protection::None;
        if protected && state.sa.is_none() {
            let on_demand = state.demand.is_some();
            match state.owner {
                Some(owner) if owner != self.id && !handed_in => {
                    let work = Work::Encapsulate(id);
                    self.handoff.send(owner, work, packet, &mut self.counters);
                    if on_demand {
                        self.ask_for_key(id);
                    }
                }
                _ if on_demand => self.await_key(Gathered {
                    packet,
                    tunnel: id,
                    handed_in,
                }),
                _ => self.tunnel_drop(id, Verdict::NoSa, packet),
            }
            return None;
        }
        let Some(route) = &state.route else {
            self.tunnel_drop(id, Verdict::NoNeighbour, packet);
            return None;
        };
        let mut packet = packet;
        let frame = packet.len();
        let outer = route.template.len();
        // In the clear the outer UDP header is the tunnel's own.
        let tunnel_header = tunnel::HEADER_LEN - udp::HEADER_LEN;
        let payload = tunnel::HEADER_LEN + frame;
        let (before, behind) = if protected {
            let sealed = sa::sealed_len(payload);
            (
                outer + sa::PREFIX_LEN + tunnel::HEADER_LEN,
                sealed - sa::PREFIX_LEN - payload,
            )
        } else {
            (outer + tunnel_header, 0)
        };
        if grow(&mut packet, before, behind, &self.pool).is_err() {
            self.tunnel_drop(id, Verdict::NoRoom, packet);
            return None;
        }
        let mut spent = None;
        let slot = state.sa.unwrap_or(usize::MAX);
        if protected {
            // Never the real SA in a dry run: its numbers are for what is sent.
            let usable = !P::DRY || {
                let secret = self.counters.probe.throw_away_secret();
                let backend = self.backend;
                self.sas.rehearse_outbound(slot, secret, backend).is_some()
            };
            let Some(out) = self.sas.outbound_mut(slot).filter(|_| usable) else {
                self.tunnel_drop(id, Verdict::NoSa, packet);
                return None;
            };
            match out.sa.assign(payload) {
                Ok(assigned) => {
                    if assigned.soft_limit_hit() && !P::DRY {
                        let event = Event::SoftLimit(self.id, id, out.sa.spi());
                        if self.events.try_send(event).is_err() {
                            out.sa.soft_limit_unheard();
                        }
                    }
                    if !P::DRY && !out.asked && out.sa.reservation_left() < out.low_water {
                        let event = Event::ReservationLow(self.id, id, out.sa.spi());
                        out.asked = self.events.try_send(event).is_ok();
                    }
                    spent = Some(assigned);
                }
                Err(error) => {
                    let verdict = match error {
                        SealError::ReservationExhausted => Verdict::SaReservation,
                        SealError::TooLong => Verdict::TooBig,
                        _ => Verdict::SaHardLimit,
                    };
                    let spi = out.sa.spi();
                    let event = match verdict {
                        Verdict::SaHardLimit => Some(Event::HardLimit(self.id, id, spi)),
                        // Nobody heard it while there was some left.
                        Verdict::SaReservation => Some(Event::ReservationLow(self.id, id, spi)),
                        _ => None,
                    };
                    if let Some(event) = event.filter(|_| !P::DRY && !out.asked) {
                        out.asked = self.events.try_send(event).is_ok();
                    }
                    // As the tenant sent it: what tells of the drop must not read headroom.
                    let _ = packet.trim_front(before);
                    packet.truncate(frame);
                    self.tunnel_drop(id, verdict, packet);
                    return None;
                }
            }
        }
        let port = tunnel.encapsulation.port();
        let (udp_payload, written) = if protected {
            let headers = packet.head_mut().get_mut(outer + sa::PREFIX_LEN..);
            let written =
                headers.and_then(|out| tunnel.encapsulation.write(out, port, tunnel.vni, frame));
            (sa::sealed_len(payload), written)
        } else {
            let header = packet.head_mut().get_mut(outer..);
            let written = header.and_then(|out| tunnel.encapsulation.write_header(out, tunnel.vni));
            (tunnel_header + frame, written)
        };
        let headers = route.template.write(packet.head_mut(), udp_payload);
        let checksum = !protected
            || set_inner_checksum(&mut packet, outer + sa::PREFIX_LEN, payload, &route.path);
        if written.is_none() || headers.is_none() || !checksum {
            self.tunnel_drop(id, Verdict::TooBig, packet);
            return None;
        }
        Note::tunnel(id, frame).put(&mut packet);
        let path = &route.path;
        let sealing = Sealing {
            packet,
            tunnel: id,
            slot,
            assigned: spent,
            // Of a header or two.
            outer: outer as u16,
            underlay: route.underlay,
            checksum: path.dst.is_ipv6(),
        };
        self.counters.step(&sealing.packet, || Step::Encapsulated {
            tunnel: id,
            encapsulation: tunnel.encapsulation,
            vni: tunnel.vni.get(),
            sa: self
                .sas
                .outbound(slot)
                .zip(sealing.assigned.as_ref())
                .map(|(out, assigned)| (out.sa.spi().get(), assigned.seq())),
            underlay: path.underlay,
            next_hop: path.dst_mac,
        });
        if protected {
            return Some(sealing);
        }
        self.finish(sealing);
        None
    }

    /// Behind the cipher: checksum where IPv6 asks for one, outlet.
    #[inline]
    fn finish(&mut self, sealing: Sealing) {
        let mut packet = sealing.packet;
        if sealing.checksum && !set_outer_checksum(&mut packet) {
            return self.tunnel_drop(sealing.tunnel, Verdict::NoRoom, packet);
        }
        self.transmit(sealing.underlay, packet);
    }

    /// Hands complete frames to an underlay port.
    #[inline]
    pub(super) fn transmit_all(&mut self, underlay: u16, packets: impl Iterator<Item = Mbuf>) {
        match self.underlays.get_mut(usize::from(underlay)) {
            Some(Way::Mine(outlet)) => {
                outlet.push_all(packets, &self.reader, &mut self.counters);
            }
            _ => packets.for_each(|packet| self.transmit(underlay, packet)),
        }
    }

    /// Hands a complete frame to an underlay port.
    #[inline]
    pub(super) fn transmit(&mut self, underlay: u16, packet: Mbuf) {
        match self.underlays.get_mut(usize::from(underlay)) {
            Some(Way::Mine(outlet)) => outlet.push(packet, &self.reader, &mut self.counters),
            Some(Way::Via(worker)) => {
                let worker = *worker;
                self.handoff
                    .send(worker, Work::Transmit(underlay), packet, &mut self.counters);
            }
            Some(Way::Down) | None => {
                let account = Account::Underlay(underlay);
                Note::of(&packet).count(account, false, &mut self.counters);
                if let Some(traffic) = self.counters.account(account) {
                    traffic.tx_dropped += 1;
                }
                self.counters.end(Verdict::UnderlayTxFull, packet);
            }
        }
    }

    pub(super) fn tunnel_drop(&mut self, tunnel: TunnelId, verdict: Verdict, packet: Mbuf) {
        self.note(verdict, Subject::Tunnel(tunnel), &packet);
        if let Some(traffic) = self.counters.tunnels.get_mut(tunnel.index()) {
            traffic.tx_dropped += 1;
        }
        self.counters.end(verdict, packet);
    }
}

/// Makes room before and behind a frame. A chain is joined where it fits into one buffer;
/// where it does not, headers and trailer each stay in one piece.
#[inline]
fn grow(packet: &mut Mbuf, before: usize, behind: usize, pool: &Mempool) -> Result<(), NoRoom> {
    match packet.grow(before, behind) {
        Ok(()) => Ok(()),
        Err(NoRoom) => grow_thoroughly(packet, before, behind, pool),
    }
}

#[cold]
fn grow_thoroughly(
    packet: &mut Mbuf,
    before: usize,
    behind: usize,
    pool: &Mempool,
) -> Result<(), NoRoom> {
    // What does not fit into one buffer stays a chain, which costs more but works.
    let _ = packet.linearize();
    packet.prepend(before)?;
    if packet.tailroom() < behind {
        let trailer = pool.alloc().ok_or(NoRoom)?;
        packet.append_segment(trailer).map_err(|_| NoRoom)?;
    }
    packet.append(behind)?;
    Ok(())
}

/// The slow way for a chain: sealed alone, its segments read as one.
fn seal_chain(backend: &dyn Backend, sa: &Outbound, sealing: &mut Sealing) -> bool {
    // An array and no ArrayVec: the job borrows it for as long as the slices in it live.
    let mut segments: [&mut [u8]; MAX_SEGMENTS] = std::array::from_fn(|_| Default::default());
    let mut used = 0;
    for (i, segment) in sealing.packet.segments_mut().enumerate() {
        let skip = if i == 0 {
            usize::from(sealing.outer)
        } else {
            0
        };
        let (Some(place), Some(part)) = (segments.get_mut(i), segment.get_mut(skip..)) else {
            return false;
        };
        *place = part;
        used += 1;
    }
    let job = sealing
        .assigned
        .take()
        .zip(segments.get_mut(..used))
        .and_then(|(assigned, segments)| sa.seal_job_segments(assigned, segments, UDP).ok());
    let Some(job) = job else { return false };
    let mut jobs = [job];
    backend.seal(&mut jobs);
    jobs.iter().all(|job| job.outcome() == Outcome::Sealed)
}

/// The checksum of the UDP header inside ESP, which IPv6 asks for (RFC 8200, 8.1; over IPv4
/// it is zero, RFC 8926, 3.3).
fn set_inner_checksum(packet: &mut Mbuf, at: usize, payload: usize, path: &Path) -> bool {
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (path.src, path.dst) else {
        return true;
    };
    let mut rest: ArrayVec<&[u8], MAX_SEGMENTS> = ArrayVec::new();
    let mut left = payload;
    let mut segments = packet.segments_mut();
    let Some(head) = segments.next().and_then(|head| head.get_mut(at..)) else {
        return false;
    };
    let len = left.min(head.len());
    let Some(head) = head.get_mut(..len) else {
        return false;
    };
    left -= len;
    for segment in segments {
        let part = segment.get(..left.min(segment.len())).unwrap_or_default();
        left -= part.len();
        if rest.try_push(part).is_err() {
            return false;
        }
    }
    tunnel::set_udp_checksum_v6(head, &rest, src, dst).is_some()
}

/// The checksum of the outer UDP header over IPv6.
fn set_outer_checksum(packet: &mut Mbuf) -> bool {
    let mut rest: ArrayVec<&[u8], MAX_SEGMENTS> = ArrayVec::new();
    let mut segments = packet.segments_mut();
    let Some((headers, payload)) = segments
        .next()
        .and_then(|head| head.split_at_mut_checked(template::LEN_V6))
    else {
        return false;
    };
    rest.push(payload);
    for segment in segments {
        if rest.try_push(segment).is_err() {
            return false;
        }
    }
    template::set_ipv6_udp_checksum(headers, &rest).is_some()
}
