//! What a worker tells of its packets: stage timing for benchmarks, observation for `trace`
//! and `capture`. Of no cost in production: [`NoProbe`] compiles to nothing.

use vswitch_vn::VnId;

use super::command::WorkerId;
use super::observe::{Observation, Place, Step};
use super::verdict::Verdict;
use crate::dpdk::mbuf::Mbuf;
use crate::dpdk::time;

/// The stages of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// Taking packets from a receive queue.
    Receive,
    /// Parsing and checking the source of tenants' frames.
    Check,
    /// Forwarding inside the VN.
    Forward,
    /// Writing tunnel, ESP and outer headers.
    Encapsulate,
    /// Sealing.
    Seal,
    /// Classifying underlay packets and looking up their SA.
    Classify,
    /// Opening.
    Open,
    /// Checks after opening, and removal of the headers.
    Decapsulate,
    /// Handing packets to transmit queues and rings.
    Transmit,
}

impl Stage {
    /// All stages in pipeline order.
    pub const ALL: [Stage; 9] = [
        Stage::Receive,
        Stage::Check,
        Stage::Forward,
        Stage::Encapsulate,
        Stage::Seal,
        Stage::Classify,
        Stage::Open,
        Stage::Decapsulate,
        Stage::Transmit,
    ];

    /// Name for tables.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Receive => "receive",
            Stage::Check => "check",
            Stage::Forward => "forward",
            Stage::Encapsulate => "encapsulate",
            Stage::Seal => "seal",
            Stage::Classify => "classify",
            Stage::Open => "open",
            Stage::Decapsulate => "decapsulate",
            Stage::Transmit => "transmit",
        }
    }
}

/// Told when a stage begins and ends, and what becomes of each packet.
///
/// All but the first two do nothing unless a probe says otherwise. A `key` is
/// [`Mbuf::key`] of a packet that may be gone already.
pub trait Probe {
    /// Whether it looks at packets: what only an observer wants is computed only for one.
    const OBSERVES: bool = false;
    /// Whether the run is a dry one: nothing but the probe may change, nothing is sent.
    const DRY: bool = false;

    /// A stage begins.
    fn enter(&mut self);
    /// It ended, having handled `packets`.
    fn leave(&mut self, stage: Stage, packets: usize);
    /// A packet was taken from a receive queue.
    #[inline(always)]
    fn arrived(&mut self, _from: Place, _vn: Option<VnId>, _packet: &Mbuf) {}
    /// A packet that a colleague's observer marked was taken over.
    #[inline(always)]
    fn handed_in(&mut self, _from: WorkerId, _packet: &Mbuf) {}
    /// A stage decided something about a packet.
    #[inline(always)]
    fn step(&mut self, _packet: &Mbuf, _step: Step) {}
    /// A packet was copied, or could not be.
    #[inline(always)]
    fn copied(&mut self, _original: &Mbuf, _copy: Option<&Mbuf>) {}
    /// The switch made a packet about another.
    #[inline(always)]
    fn generated(&mut self, _about: &Mbuf, _made: &Mbuf) {}
    /// A packet is about to be put on the ring to a colleague. Returns whether it is marked
    /// as observed.
    #[inline(always)]
    fn handing_over(&mut self, _packet: &Mbuf, _to: WorkerId) -> bool {
        false
    }
    /// The ring refused a packet that was marked.
    #[inline(always)]
    fn not_handed_over(&mut self, _key: usize, _to: WorkerId, _verdict: Verdict) {}
    /// A packet is about to be given to a transmit queue, or to be dropped: its bytes can be
    /// read for the last time.
    #[inline(always)]
    fn leaving(&mut self, _packet: &Mbuf) {}
    /// A packet ended. Of every packet this is told once, unless it was handed over.
    #[inline(always)]
    fn ended(&mut self, _key: usize, _verdict: Verdict) {}
    /// A dry run's packet would go to a colleague, with what its mark says.
    #[inline(always)]
    fn set_aside(&mut self, _to: WorkerId, packet: Mbuf) {
        drop(packet);
    }
    /// Random bytes for the throw-away keys of a dry run.
    #[inline(always)]
    fn throw_away_secret(&self) -> &[u8] {
        &[]
    }
    /// The burst boundary.
    #[inline(always)]
    fn boundary(&mut self) {}
    /// Begins an observation; hands it back if this probe cannot observe.
    #[inline(always)]
    fn observe(&mut self, observation: Box<Observation>) -> Option<Box<Observation>> {
        Some(observation)
    }
    /// Ends an observation and hands it back.
    #[inline(always)]
    fn unobserve(&mut self, _id: u8) -> Option<Box<Observation>> {
        None
    }
    /// Whether nobody watches any more.
    #[inline(always)]
    fn is_over(&self) -> bool {
        false
    }
}

/// Does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProbe;

impl Probe for NoProbe {
    #[inline(always)]
    fn enter(&mut self) {}
    #[inline(always)]
    fn leave(&mut self, _: Stage, _: usize) {}
}

/// Sums the TSC ticks of each stage.
#[derive(Debug, Clone, Copy, Default)]
pub struct TickProbe {
    start: u64,
    ticks: [u64; Stage::ALL.len()],
}

impl TickProbe {
    /// Ticks spent in each stage so far, in the order of [`Stage::ALL`].
    pub fn ticks(&self) -> [u64; Stage::ALL.len()] {
        self.ticks
    }

    /// Starts over.
    pub fn reset(&mut self) {
        self.ticks = Default::default();
    }
}

impl Probe for TickProbe {
    #[inline]
    fn enter(&mut self) {
        self.start = time::tsc();
    }

    #[inline]
    fn leave(&mut self, stage: Stage, _: usize) {
        let now = time::tsc();
        if let Some(ticks) = self.ticks.get_mut(stage as usize) {
            *ticks += now.wrapping_sub(self.start);
        }
        self.start = now;
    }
}
