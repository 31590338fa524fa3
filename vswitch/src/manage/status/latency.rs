//! How long packets take inside the switch.

use serde::{Deserialize, Serialize};

/// One direction: from the moment a burst was received to the moment the packet was handed to
/// the outgoing queue, of a sample of packets (each worker follows one at a time, a new one at
/// most every 50 µs). Nanoseconds, off by 1 % at most.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The way through the switch, such as `tenant-to-underlay`.
    pub direction: String,
    /// Since the start.
    pub total: Percentiles,
    /// Of the last `window` seconds.
    pub recent: Percentiles,
    /// Seconds that `recent` covers.
    pub window: f64,
    /// Samples since the start that took no longer than each bound.
    pub buckets: Vec<Bucket>,
}

/// What part of the samples took no longer. All zero if there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many packets were followed.
    pub samples: u64,
    /// Sum of all samples.
    pub sum: u64,
    /// Half of them.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// All.
    pub max: u64,
}

impl Percentiles {
    /// The percentiles with their share, in order.
    pub fn shares(&self) -> [(f64, u64); 4] {
        [
            (0.5, self.p50),
            (0.9, self.p90),
            (0.99, self.p99),
            (0.999, self.p999),
        ]
    }
}

/// Samples up to a bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// The bound in nanoseconds.
    pub le: u64,
    /// Samples that took no longer.
    pub samples: u64,
}
