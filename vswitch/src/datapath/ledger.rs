//! Where packets begin and end: a worker's counters, with the probe beside them, so that no
//! packet is counted that an observer does not hear of, and none ends without a verdict.
//!
//! From [`Ledger::receive`] and its like to [`Ledger::end`] and its like a packet owes a
//! verdict; in a debug build, one that is dropped in between is reported where it happens
//! (see [`Mbuf::owe_verdict`]).

use std::ops::{Deref, DerefMut};

use arrayvec::ArrayVec;
use vswitch_vn::VnId;

use super::command::WorkerId;
use super::counters::Counters;
use super::observe::{Place, Step};
use super::probe::Probe;
use super::verdict::Verdict;
use crate::dpdk::mbuf::{BURST, Burst, Mbuf, free_burst};
use vswitch_policy::TokenBucket;

/// Counters and probe. Reads and writes like [`Counters`].
pub struct Ledger<P> {
    counters: Counters,
    pub(super) probe: P,
}

impl<P> Deref for Ledger<P> {
    type Target = Counters;
    #[inline(always)]
    fn deref(&self) -> &Counters {
        &self.counters
    }
}

impl<P> DerefMut for Ledger<P> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }
}

/// The packets of a burst that is given away, noted before it is: nothing without an observer.
pub struct Leaving(ArrayVec<usize, BURST>);

impl<P: Probe> Ledger<P> {
    /// Opens the books.
    pub fn new(counters: Counters, probe: P) -> Self {
        Ledger { counters, probe }
    }

    /// Closes them.
    pub fn into_parts(self) -> (Counters, P) {
        (self.counters, self.probe)
    }

    /// Enters packets that were taken from a receive queue.
    #[inline]
    pub fn receive(&mut self, from: Place, vn: Option<VnId>, burst: &mut Burst) {
        self.counters.received += burst.len() as u64;
        if cfg!(debug_assertions) || P::OBSERVES {
            for packet in burst {
                packet.owe_verdict();
                self.probe.arrived(from, vn, packet);
            }
        }
    }

    /// Enters a packet that a colleague handed over; `observed`: its observer marked it.
    #[inline]
    pub fn hand_in(&mut self, from: WorkerId, observed: bool, packet: &mut Mbuf) {
        self.counters.handed_in += 1;
        packet.owe_verdict();
        if P::OBSERVES && observed {
            self.probe.handed_in(from, packet);
        }
    }

    /// Enters a copy, or one that could not be made, which ends at once.
    #[inline]
    pub fn copy(&mut self, original: &Mbuf, copy: Option<&mut Mbuf>) {
        self.counters.copied += 1;
        match copy {
            Some(copy) => {
                copy.owe_verdict();
                self.probe.copied(original, Some(copy));
            }
            None => {
                self.counters.verdicts.add(Verdict::BufferExhausted, 1);
                self.probe.copied(original, None);
            }
        }
    }

    /// Enters a packet that the switch made about another.
    #[inline]
    pub fn generate(&mut self, about: &Mbuf, made: &mut Mbuf) {
        self.counters.generated += 1;
        made.owe_verdict();
        self.probe.generated(about, made);
    }

    /// Ends one packet: counts the verdict and returns the buffer to its pool.
    #[inline]
    pub fn end(&mut self, verdict: Verdict, mut packet: Mbuf) {
        self.counters.verdicts.add(verdict, 1);
        packet.settle();
        if P::OBSERVES {
            self.probe.leaving(&packet);
            self.probe.ended(packet.key(), verdict);
        }
        drop(packet);
    }

    /// Ends a whole burst.
    pub fn end_all(&mut self, verdict: Verdict, burst: &mut Burst) {
        if cfg!(debug_assertions) || P::OBSERVES {
            for packet in burst.drain(..) {
                self.end(verdict, packet);
            }
        } else {
            self.counters.verdicts.add(verdict, burst.len() as u64);
            free_burst(burst);
        }
    }

    /// Before a burst is given to a queue, which takes the packets from its front; then
    /// [`Self::gave`].
    #[inline]
    pub fn giving(&mut self, burst: &mut Burst) -> Leaving {
        let mut leaving = Leaving(ArrayVec::new());
        if cfg!(debug_assertions) || P::OBSERVES {
            for packet in burst {
                packet.settle();
                if P::OBSERVES {
                    self.probe.leaving(packet);
                    leaving.0.push(packet.key());
                }
            }
        }
        leaving
    }

    /// The next `n` packets of what was to leave ended so: not counted here.
    #[inline]
    pub fn gave(&mut self, leaving: &mut Leaving, n: usize, verdict: Verdict) {
        if P::OBSERVES {
            for key in leaving.0.drain(..n.min(leaving.0.len())) {
                self.probe.ended(key, verdict);
            }
        }
    }

    /// Keeps a dry run's packet from the ring to a colleague.
    pub fn set_aside(&mut self, to: WorkerId, mut packet: Mbuf) {
        packet.settle();
        self.probe.set_aside(to, packet);
    }

    /// A stage decided something. `step` is computed only if somebody watches.
    #[inline(always)]
    pub fn step(&mut self, packet: &Mbuf, step: impl FnOnce() -> Step) {
        if P::OBSERVES {
            self.probe.step(packet, step());
        }
    }

    /// Takes a token, which a dry run does not use up.
    #[inline(always)]
    pub fn admit(&self, bucket: &mut TokenBucket, now: u64) -> bool {
        if P::DRY {
            bucket.clone().take(now)
        } else {
            bucket.take(now)
        }
    }
}
