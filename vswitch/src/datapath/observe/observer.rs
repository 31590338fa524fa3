//! The probe of a worker whose packets somebody watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::channel::Sender;
use vswitch_vn::VnId;

use super::exchange::{Exchange, Key, Passed};
use super::filter::Match;
use super::record::{Place, Record};
use super::recorder::Recorder;
use super::step::Step;
use crate::datapath::command::WorkerId;
use crate::datapath::probe::{Probe, Stage};
use crate::datapath::verdict::Verdict;
use crate::dpdk::mbuf::Mbuf;
use crate::dpdk::time;

/// Observations at a time, of traces and captures together.
pub const MAX_OBSERVATIONS: usize = 8;

/// What a worker is asked to watch. All workers get the same, each its own clone.
#[derive(Clone)]
pub struct Observation {
    /// Below [`MAX_OBSERVATIONS`], no other's at the time.
    pub id: u8,
    /// Which packets.
    pub filter: Match,
    /// Bytes to keep of a packet as it arrived, and as many of it as it ended. 0: none.
    pub snaplen: usize,
    /// Where records of packets that match go. A full channel loses them, which is counted;
    /// nobody waits. The reader should poll: to wake one that sleeps is a system call.
    pub reports: Sender<Box<Record>>,
    /// Records that were lost.
    pub lost: Arc<AtomicU64>,
    /// The way of records to other workers.
    pub exchange: Exchange,
}

/// Keeps records of packets that may match, and reports those that do.
pub struct Observer {
    recorder: Recorder,
    observations: [Option<Box<Observation>>; MAX_OBSERVATIONS],
    exchange: Exchange,
}

impl Observer {
    /// For worker `worker`, with its first observation.
    pub fn new(worker: WorkerId, first: Box<Observation>) -> Self {
        let exchange = first.exchange.clone();
        // What is left from an earlier time: those packets are long gone.
        while exchange.receive(worker).is_some() {}
        let mut observer = Observer {
            recorder: Recorder::new(worker),
            observations: Default::default(),
            exchange,
        };
        observer.install(first);
        observer
    }

    fn install(&mut self, observation: Box<Observation>) {
        if let Some(place) = self.observations.get_mut(usize::from(observation.id)) {
            *place = Some(observation);
        }
        self.set_snaplen();
    }

    fn set_snaplen(&mut self) {
        let longest = self.observations.iter().flatten().map(|o| o.snaplen).max();
        self.recorder.snaplen = longest.unwrap_or(0);
    }

    fn candidates(&self, record: &Record) -> u8 {
        let mut candidates = 0;
        for observation in self.observations.iter().flatten() {
            if observation.filter.possible(record) {
                candidates |= 1 << observation.id;
            }
        }
        candidates
    }

    fn report(&mut self, record: Option<Box<Record>>) {
        let Some(record) = record else { return };
        for observation in self.observations.iter().flatten() {
            if record.candidates & 1 << observation.id != 0
                && observation.filter.holds(&record)
                && observation.reports.try_send(record.clone()).is_err()
            {
                observation.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.recorder.recycle(record);
    }

    /// Counts a packet that cannot be reported to these observations.
    fn lose(&self, candidates: u8) {
        for observation in self.observations.iter().flatten() {
            if candidates & 1 << observation.id != 0 {
                observation.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes over what other workers passed.
    fn read_exchange(&mut self) {
        while let Some(passed) = self.exchange.receive(self.recorder.worker()) {
            match passed {
                Passed::Goes(key, record) => {
                    let candidates = record.candidates;
                    if !self.recorder.adopt(key, record) {
                        self.lose(candidates);
                    }
                }
                Passed::Stays(key, verdict, tsc) => {
                    let mut record = self.recorder.end(key, verdict);
                    if let Some(record) = &mut record {
                        record.ended = tsc;
                    }
                    self.report(record);
                }
            }
        }
    }
}

impl Probe for Observer {
    const OBSERVES: bool = true;

    fn enter(&mut self) {}

    fn leave(&mut self, _: Stage, _: usize) {}

    fn arrived(&mut self, from: Place, vn: Option<VnId>, packet: &Mbuf) {
        let Some(mut record) = self.recorder.begin(from, vn, packet) else {
            // Whether anybody wanted it is not known: better one too many.
            return self.lose(u8::MAX);
        };
        record.candidates = self.candidates(&record);
        if record.candidates == 0 {
            self.recorder.recycle(record);
        } else {
            self.recorder.keep(packet, record);
        }
    }

    fn handed_in(&mut self, from: WorkerId, packet: &Mbuf) {
        self.read_exchange();
        self.recorder.step(packet, Step::HandedIn(from));
    }

    fn step(&mut self, packet: &Mbuf, step: Step) {
        self.recorder.step(packet, step);
    }

    fn copied(&mut self, original: &Mbuf, copy: Option<&Mbuf>) {
        match copy {
            Some(copy) => self.recorder.fork(original, copy, None),
            None => {
                let lost = self.recorder.stillborn(original, Verdict::BufferExhausted);
                self.report(lost);
            }
        }
    }

    fn generated(&mut self, about: &Mbuf, made: &Mbuf) {
        self.recorder.fork(about, made, Some(Step::Generated));
    }

    fn handing_over(&mut self, packet: &Mbuf, to: WorkerId) -> bool {
        self.recorder.step(packet, Step::HandedOut(to));
        let key = packet.key();
        let Some(record) = self.recorder.take(key) else {
            return false;
        };
        match self.exchange.send(to, Passed::Goes(key, record)) {
            Ok(()) => true,
            Err(Passed::Goes(_, mut record)) => {
                // What is known so far is better than nothing.
                record.verdict = Verdict::HandedOut;
                record.ended = time::tsc();
                self.report(Some(record));
                false
            }
            Err(Passed::Stays(..)) => false,
        }
    }

    fn not_handed_over(&mut self, key: Key, to: WorkerId, verdict: Verdict) {
        // If there is no room the record stays with the colleague until the buffer comes
        // again, and is replaced then.
        let _ = self
            .exchange
            .send(to, Passed::Stays(key, verdict, time::tsc()));
    }

    fn leaving(&mut self, packet: &Mbuf) {
        self.recorder.last_bytes(packet);
    }

    fn ended(&mut self, key: Key, verdict: Verdict) {
        let record = self.recorder.end(key, verdict);
        self.report(record);
    }

    fn boundary(&mut self) {
        self.read_exchange();
    }

    fn observe(&mut self, observation: Box<Observation>) -> Option<Box<Observation>> {
        self.install(observation);
        None
    }

    fn unobserve(&mut self, id: u8) -> Option<Box<Observation>> {
        let gone = self.observations.get_mut(usize::from(id))?.take();
        self.set_snaplen();
        gone
    }

    fn is_over(&self) -> bool {
        self.observations.iter().all(Option::is_none)
    }
}
