//! Watching packets, on the control side: the operator's filter with names in it
//! ([`Filter`]), the names of what records hold as numbers ([`Names`]), and what is read from
//! ([`Watch`]). `trace` and `capture` are built on these.

pub mod ctl;
mod filter;
pub mod frame;
mod names;
mod sentence;
pub mod text;
mod trace;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::channel::Receiver;

pub use filter::{Filter, FilterError, From, protocol};
pub use names::Names;
pub use trace::{FrameView, Trace, TraceEnd, TraceLine, TraceRequest, TraceStep};

use crate::datapath::observe::Record;
use crate::dpdk::time::TscClock;

/// What to watch.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Which packets.
    pub filter: Filter,
    /// Bytes to keep of each, as it arrived and as it ended; 0 for none.
    pub snaplen: usize,
    /// Records that may wait to be read; those beyond are lost and counted.
    pub depth: usize,
}

/// An observation under way. Dropping it ends it, in some milliseconds.
pub struct Watch {
    /// What matched, of all workers, each worker's in order. To be polled with `try_recv`: a
    /// reader that sleeps on it would cost the worker a system call.
    pub records: Receiver<Box<Record>>,
    /// The names of what the records hold as numbers, as of the beginning.
    pub names: Arc<Names>,
    /// Converts the records' ticks.
    pub clock: TscClock,
    pub(crate) lost: Arc<AtomicU64>,
    /// The control thread sees that nobody holds it any more.
    pub(crate) _alive: Arc<()>,
}

impl Watch {
    /// Of records that come from elsewhere than a switch's workers.
    pub fn new(records: Receiver<Box<Record>>, names: Arc<Names>, clock: TscClock) -> Self {
        Watch {
            records,
            names,
            clock,
            lost: Arc::default(),
            _alive: Arc::default(),
        }
    }

    /// Records lost so far, because they were not read in time.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// A packet for a dry run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inject {
    /// Name of the port it arrives at: a tenant's, a VLAN's (the frame without its tag) or of
    /// the underlay.
    pub port: String,
    /// The frame from Ethernet header to payload, without FCS; in JSON as hexadecimal digits.
    #[serde(with = "hex")]
    pub frame: Vec<u8>,
}

/// What would happen to it.
pub struct Rehearsed {
    /// The packet, its copies and what the switch would answer, in the order of their ends.
    pub records: Vec<Box<Record>>,
    /// The names of what the records hold as numbers.
    pub names: Arc<Names>,
    /// Converts the records' ticks.
    pub clock: TscClock,
}

/// Why there is no dry run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// No such port.
    #[error(transparent)]
    Port(#[from] FilterError),
    /// More bytes than a packet can have.
    #[error("{0} bytes are more than a packet can have, 65535")]
    TooLong(usize),
    /// No buffers.
    #[error("the worker has no buffer free for it: see `vswitchctl show drops`")]
    NoBuffer,
    /// Random numbers.
    #[error("the kernel gives no random numbers: {0}")]
    Random(String),
}

/// Why nothing is watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The filter names something that is not there.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// All observations are taken.
    #[error("{0} traces and captures are under way, more are not possible: end one of them")]
    TooMany(usize),
}
