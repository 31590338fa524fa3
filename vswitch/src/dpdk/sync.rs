//! The primitives `quiescence` and `vhost::vrings` are built from, named in one place so that
//! their model checks (`tests/models/quiescence.rs`, `tests/models/vrings.rs`) can compile the same
//! source over loom's instead.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
pub(super) use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a reader may stay away from a boundary before that is worth shouting about.
const PATIENCE: Duration = Duration::from_secs(1);
/// Yields before the first sleep: a worker's burst is over in microseconds.
const YIELDS: u32 = 64;
const NAP: Duration = Duration::from_micros(50);

/// Waiting in small steps, loud when it takes long.
pub(super) struct Wait {
    since: Instant,
    next_shout: Duration,
    steps: u32,
}

impl Wait {
    pub(super) fn new() -> Self {
        Wait {
            since: Instant::now(),
            next_shout: PATIENCE,
            steps: 0,
        }
    }

    pub(super) fn step(&mut self, whom: &str) {
        self.steps = self.steps.saturating_add(1);
        if self.steps <= YIELDS {
            std::thread::yield_now();
            return;
        }
        std::thread::sleep(NAP);
        let waited = self.since.elapsed();
        if waited >= self.next_shout {
            self.next_shout = waited + PATIENCE;
            tracing::error!(
                reader = whom,
                seconds = waited.as_secs(),
                "a worker reaches no burst boundary; a teardown waits for it"
            );
        }
    }
}
