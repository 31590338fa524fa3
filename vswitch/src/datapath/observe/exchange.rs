//! How the record of a packet goes along when the packet is handed to another worker.

use crossbeam::channel::{Receiver, Sender, bounded};

use super::record::Record;
use crate::datapath::command::WorkerId;
use crate::datapath::verdict::Verdict;

/// Records on their way to one worker at most.
const DEPTH: usize = 1024;

/// A packet, as the number of its buffer: unique as long as the packet is under way.
pub(crate) type Key = usize;

/// What one observer tells another.
pub(super) enum Passed {
    /// This packet comes over the ring, with this record. Sent before the packet is.
    Goes(Key, Box<Record>),
    /// It does not after all: the ring refused it.
    Stays(Key, Verdict, u64),
}

/// An inbox for each worker; every observer has a clone.
#[derive(Clone)]
pub struct Exchange {
    inboxes: Vec<(Sender<Passed>, Receiver<Passed>)>,
}

impl Exchange {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Exchange {
            inboxes: (0..workers).map(|_| bounded(DEPTH)).collect(),
        }
    }

    /// Never waits; `Err` hands back what there was no room for.
    pub(super) fn send(&self, to: WorkerId, passed: Passed) -> Result<(), Passed> {
        match self.inboxes.get(usize::from(to)) {
            Some((inbox, _)) => inbox.try_send(passed).map_err(|error| error.into_inner()),
            None => Err(passed),
        }
    }

    pub(super) fn receive(&self, by: WorkerId) -> Option<Passed> {
        self.inboxes
            .get(usize::from(by))
            .and_then(|(_, inbox)| inbox.try_recv().ok())
    }
}
