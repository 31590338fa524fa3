//! Stage timing for benchmarks, of no cost in production: [`NoProbe`] compiles to nothing.

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

/// Told when a stage begins and ends.
pub trait Probe {
    /// A stage begins.
    fn enter(&mut self);
    /// It ended, having handled `packets`.
    fn leave(&mut self, stage: Stage, packets: usize);
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
