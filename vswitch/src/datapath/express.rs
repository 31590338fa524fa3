//! What nearly every frame is on its way into a tunnel: in one buffer with room around it, over
//! IPv4, with an SA of this worker's and none of its limits near. Frames of one tunnel that follow
//! one another are a run: what the tunnel decides is looked up once, their sequence numbers are
//! taken at once, and what each needs is written while its job is made. Everything else, and every
//! frame that somebody watches, goes the thorough way ([`super::encap`]), which writes the same
//! octets.

use std::vec::Drain;

use arrayvec::ArrayVec;
use vswitch_aead::{Job, Outcome};
use vswitch_net::envelope::{self, Envelope};
use vswitch_net::ip::protocol;
use vswitch_net::tunnel;
use vswitch_sa::{self as sa, AssignedRun, Load, Outbound};
use vswitch_vn::TunnelId;

use super::command::Event;
use super::encap::Sealing;
use super::outlet::Note;
use super::probe::{Probe, Stage};
use super::tunnels::TunnelState;
use super::verdict::Verdict;
use super::worker::{Gathered, SEAL_BATCH, Worker};
use crate::dpdk::mbuf::Mbuf;

const _: () = assert!(SEAL_BATCH <= 64, "a bit of each frame of a batch");

/// Why the way was left.
pub(super) enum Halt {
    /// This frame is unusual; it is as it came.
    Unusual(Gathered),
    /// This one is of another tunnel.
    Another(Gathered),
    /// There is none left.
    End,
}

/// Frames of one tunnel, whose numbers are assigned.
struct Run {
    tunnel: TunnelId,
    slot: usize,
    underlay: u16,
    numbers: AssignedRun,
    frames: usize,
}

/// Runs that wait for the cipher, and their frames, still as they came.
#[derive(Default)]
pub(super) struct Runs {
    runs: ArrayVec<Run, SEAL_BATCH>,
    frames: ArrayVec<Mbuf, SEAL_BATCH>,
}

/// Octets behind a frame at most: padding, trailer, ICV.
const BEHIND: usize = sa::sealed_len(3) - sa::PREFIX_LEN - 3;

impl<P: Probe> Worker<P> {
    /// Whether [`Self::express`] may take a frame up.
    #[inline(never)]
    pub(super) fn may_be_usual(&self, frame: &Gathered) -> bool {
        let usual = |state: &TunnelState| state.sa.is_some() && state.envelope.is_some();
        !P::OBSERVES
            && !P::DRY
            && self.tunnels.get(frame.tunnel).is_some_and(usual)
            && frame.packet.has_room(envelope::LEN, BEHIND)
    }

    /// Takes up a frame, and those of its tunnel that follow it, while no unusual frame waits.
    #[inline]
    pub(super) fn express(
        &mut self,
        first: Gathered,
        frames: &mut Drain<'_, Gathered>,
        ready: &mut Runs,
        batch: &mut ArrayVec<Sealing, SEAL_BATCH>,
    ) -> Halt {
        if P::OBSERVES || P::DRY {
            return Halt::Unusual(first);
        }
        let id = first.tunnel;
        let Some(state) = self.tunnels.get(id) else {
            return Halt::Unusual(first);
        };
        let (Some(slot), Some(_), Some(route)) = (state.sa, &state.envelope, &state.route) else {
            return Halt::Unusual(first);
        };
        let Some(out) = self.sas.outbound_mut(slot) else {
            return Halt::Unusual(first);
        };
        let start = ready.frames.len();
        let mut load = Load::default();
        let mut frame = first;
        let halt = loop {
            let payload = tunnel::HEADER_LEN + frame.packet.len();
            if !frame.packet.has_room(envelope::LEN, BEHIND) || !load.add(payload) {
                break Halt::Unusual(frame);
            }
            ready.frames.push(frame.packet);
            match frames.next() {
                Some(next) if next.tunnel == id => frame = next,
                Some(next) => break Halt::Another(next),
                None => break Halt::End,
            }
        };
        let taken = ready.frames.len() - start;
        if taken == 0 {
            return halt;
        }
        match out.sa.assign_run(load) {
            Some(numbers) => ready.runs.push(Run {
                tunnel: id,
                slot,
                underlay: route.underlay,
                numbers,
                frames: taken,
            }),
            None => {
                // A limit is near: one by one.
                let back: ArrayVec<Mbuf, SEAL_BATCH> = ready.frames.drain(start..).collect();
                for packet in back {
                    batch.extend(self.prepare(Gathered {
                        packet,
                        tunnel: id,
                        handed_in: false,
                    }));
                }
                return halt;
            }
        }
        if !out.asked && out.sa.reservation_left() < out.low_water {
            let event = Event::ReservationLow(self.id, id, out.sa.spi());
            out.asked = self.events.try_send(event).is_ok();
        }
        halt
    }

    /// Seals the runs that wait, and sends them.
    #[inline]
    pub(super) fn seal_runs(&mut self, ready: &mut Runs) {
        let n = ready.frames.len();
        if n == 0 {
            return;
        }
        let sealed = self.seal_frames(ready);
        let mut frames = ready.frames.drain(..);
        let mut bit = 1_u64;
        for run in ready.runs.drain(..) {
            let frames = frames.by_ref().take(run.frames);
            if sealed == u64::MAX {
                self.transmit_all(run.underlay, frames);
                continue;
            }
            for packet in frames {
                if sealed & bit != 0 {
                    self.transmit(run.underlay, packet);
                } else {
                    // Fail closed: nothing leaves in the clear.
                    self.tunnel_drop(run.tunnel, Verdict::NoSa, packet);
                }
                bit <<= 1;
            }
        }
        self.counters.probe.leave(Stage::Encapsulate, 0);
    }

    /// Writes what is around the frames and seals them. A bit of each that is sealed; all bits if
    /// all are.
    #[inline]
    fn seal_frames(&mut self, ready: &mut Runs) -> u64 {
        let n = ready.frames.len();
        let mut jobs: ArrayVec<Job<'_>, SEAL_BATCH> = ArrayVec::new();
        // Which frames have a job.
        let (mut made, mut bit) = (0_u64, 1_u64);
        let mut left = ready.frames.as_mut_slice();
        for run in &mut ready.runs {
            let (frames, rest) = left.split_at_mut(run.frames.min(left.len()));
            left = rest;
            let state = self.tunnels.get(run.tunnel);
            let envelope = state.and_then(|state| state.envelope.as_ref());
            let (Some(envelope), Some(out)) = (envelope, self.sas.outbound(run.slot)) else {
                bit = bit.unbounded_shl(run.frames as u32);
                continue;
            };
            for packet in frames {
                if wrap(packet, run, envelope, &out.sa, &mut jobs).is_some() {
                    made |= bit;
                }
                bit <<= 1;
            }
        }
        self.counters.probe.leave(Stage::Encapsulate, n);
        self.backend.seal(&mut jobs);
        let mut good = jobs.len() == n;
        for job in &jobs {
            good &= job.outcome() == Outcome::Sealed;
        }
        let sealed = match good {
            true => u64::MAX,
            false => which(made, &jobs),
        };
        self.counters.probe.leave(Stage::Seal, n);
        sealed
    }
}

/// Writes what is before a frame and behind it, and makes its job.
#[inline(always)]
fn wrap<'a>(
    packet: &'a mut Mbuf,
    run: &mut Run,
    envelope: &Envelope,
    sa: &'a Outbound,
    jobs: &mut ArrayVec<Job<'a>, SEAL_BATCH>,
) -> Option<()> {
    let len = packet.len();
    let payload = tunnel::HEADER_LEN + len;
    let esp = sa::sealed_len(payload);
    let behind = esp - sa::PREFIX_LEN - payload;
    packet.grow(envelope::LEN, behind).ok()?;
    Note::tunnel(run.tunnel, len).put(packet);
    let head = packet.head_mut();
    if !envelope.write(head.first_chunk_mut()?, esp, len) {
        return None;
    }
    let assigned = run.numbers.next(payload)?;
    let esp = head.get_mut(Envelope::ESP..)?;
    sa.seal_job(assigned, esp, protocol::UDP, |job| jobs.push(job))
        .ok()
}

/// A bit of each frame whose job ended well, of those that have one.
#[cold]
fn which(made: u64, jobs: &[Job<'_>]) -> u64 {
    let places = (0..u64::BITS).map(|i| 1 << i).filter(|bit| made & bit != 0);
    places
        .zip(jobs)
        .filter(|(_, job)| job.outcome() == Outcome::Sealed)
        .fold(0, |bits, (bit, _)| bits | bit)
}
