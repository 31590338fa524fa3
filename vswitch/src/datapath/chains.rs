//! Opening packets that lie in several buffers, or that somebody watches: packet by packet, where
//! [`super::inward`] has runs of them.

use arrayvec::ArrayVec;
use vswitch_aead::{Backend, Job};
use vswitch_sa::{Authenticated, Candidate, Inbound, Opened};

use super::decap::{Sealed, open_verdict};
use super::inner::Inners;
use super::observe::Step;
use super::probe::{Probe, Stage};
use super::verdict::Verdict;
use super::worker::Worker;
use crate::dpdk::mbuf::{BURST, Mbuf};

/// A packet past the first replay check.
struct Opening {
    packet: Mbuf,
    slot: usize,
    start: usize,
    state: State,
}

/// How far opening has come.
enum State {
    /// Past the first replay check.
    Candidate(Candidate),
    /// The cipher has vouched for it.
    Authenticated(Authenticated),
    /// It has not.
    Forged,
}

impl State {
    /// A candidate is what it is found to be; for nothing else is this called.
    #[inline(always)]
    fn judge(&mut self, find: impl FnOnce(Candidate) -> Option<Authenticated>) {
        if let State::Candidate(candidate) = std::mem::replace(self, State::Forged)
            && let Some(authenticated) = find(candidate)
        {
            *self = State::Authenticated(authenticated);
        }
    }
}

/// Buffers in one packet at most, as in `encap`.
const MAX_SEGMENTS: usize = 40;

impl<P: Probe> Worker<P> {
    /// For chains of buffers and where somebody watches.
    #[inline(never)]
    pub(super) fn open_thoroughly(
        &mut self,
        port: u16,
        sealed: impl Iterator<Item = Sealed>,
        inners: &mut Inners,
    ) {
        let mut batch: ArrayVec<Opening, BURST> = ArrayVec::new();
        let mut n = 0;
        for sealed in sealed {
            n += 1;
            match self.before_opening(&sealed) {
                Ok((candidate, slot)) => {
                    let highest = slot.sa.highest();
                    self.counters.step(&sealed.packet, || Step::Fresh {
                        seq: candidate.esn(),
                        highest,
                    });
                    batch.push(Opening {
                        packet: sealed.packet,
                        slot: sealed.slot,
                        start: sealed.start,
                        state: State::Candidate(candidate),
                    });
                }
                Err(verdict) => self.sa_drop(port, sealed.slot, verdict, sealed.packet),
            }
        }
        self.run_open(&mut batch);
        self.counters.probe.leave(Stage::Open, n);

        for opening in batch.drain(..) {
            let Opening {
                mut packet,
                slot,
                start,
                state,
            } = opening;
            let State::Authenticated(authenticated) = state else {
                self.sa_drop(port, slot, Verdict::AuthFailed, packet);
                continue;
            };
            let sas = &self.sas;
            self.counters.step(&packet, || Step::Authenticated {
                algorithm: sas
                    .inbound(slot)
                    .map_or("", |slot| slot.sa.algorithm().name()),
            });
            match self.after_opening(slot, start, authenticated, &mut packet) {
                Ok((tunnel, vn)) => inners.push(packet, tunnel, vn),
                Err(verdict) => self.sa_drop(port, slot, verdict, packet),
            }
        }
    }

    fn run_open(&self, batch: &mut ArrayVec<Opening, BURST>) {
        let mut jobs: ArrayVec<Job<'_>, BURST> = ArrayVec::new();
        let mut places: ArrayVec<_, BURST> = ArrayVec::new();
        for opening in batch {
            let Opening {
                packet,
                slot,
                start,
                state,
            } = opening;
            let (Some(slot), State::Candidate(candidate)) = (self.sas.inbound(*slot), &*state)
            else {
                continue;
            };
            if !packet.is_contiguous() {
                state.judge(|known| open_chain(self.backend, &slot.sa, known, packet, *start));
            } else if let Some(esp) = packet.head_mut().get_mut(*start..)
                && let Ok(()) = slot.sa.open_job(candidate, esp, |job| jobs.push(job))
            {
                places.push(state);
            }
        }
        self.backend.open(&mut jobs);
        for (job, state) in jobs.iter().zip(places) {
            state.judge(|known| known.verdict(job).ok());
        }
    }
}

/// The slow way for a chain: opened alone, its segments read as one.
fn open_chain(
    backend: &dyn Backend,
    sa: &Inbound,
    candidate: Candidate,
    packet: &mut Mbuf,
    start: usize,
) -> Option<Authenticated> {
    // An array and no ArrayVec: the job borrows it for as long as the slices in it live.
    let mut segments: [&mut [u8]; MAX_SEGMENTS] = std::array::from_fn(|_| Default::default());
    let mut used = 0;
    for (i, segment) in packet.segments_mut().enumerate() {
        *segments.get_mut(i)? = segment.get_mut(if i == 0 { start } else { 0 }..)?;
        used += 1;
    }
    let mut jobs = [sa
        .open_job_segments(&candidate, segments.get_mut(..used)?)
        .ok()?];
    backend.open(&mut jobs);
    let [job] = &jobs;
    candidate.verdict(job).ok()
}

#[cold]
#[inline(never)]
pub(super) fn accept_chain(
    sa: &mut Inbound,
    authenticated: Authenticated,
    packet: &Mbuf,
    start: usize,
) -> Result<Opened, Verdict> {
    let mut segments: ArrayVec<&[u8], MAX_SEGMENTS> = ArrayVec::new();
    for (i, segment) in packet.segments().enumerate() {
        let part = segment
            .get(if i == 0 { start } else { 0 }..)
            .unwrap_or_default();
        segments
            .try_push(part)
            .map_err(|_| Verdict::NotContiguous)?;
    }
    sa.accept_segments(authenticated, &segments)
        .map_err(open_verdict)
}
