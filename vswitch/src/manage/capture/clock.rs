//! What time it was by the wall clock when the TSC showed a number.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::dpdk::time::{TscClock, tsc};

/// The TSC against the wall clock. Compared anew now and then, since the wall clock is
/// steered and the TSC's frequency known to some parts in a million only.
pub(super) struct WallClock {
    clock: TscClock,
    /// The TSC, and nanoseconds since 1970 at the same time.
    tsc: u64,
    wall: u64,
}

/// Of so many readings the quickest is the most exact.
const READINGS: u32 = 5;

impl WallClock {
    pub(super) fn new(clock: TscClock) -> Self {
        let mut wall_clock = WallClock {
            clock,
            tsc: 0,
            wall: 0,
        };
        wall_clock.anchor();
        wall_clock
    }

    /// Compares the two.
    pub(super) fn anchor(&mut self) {
        let mut best = u64::MAX;
        for _ in 0..READINGS {
            let before = tsc();
            let wall = SystemTime::now();
            let took = tsc().wrapping_sub(before);
            if took < best {
                best = took;
                self.tsc = before.wrapping_add(took / 2);
                // A clock set before 1970 counts as 1970.
                let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
                self.wall = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
            }
        }
    }

    /// Nanoseconds since 1970 when the TSC was at `then`, shortly before or after now.
    pub(super) fn at(&self, then: u64) -> u64 {
        // Which of the two is the later is the sign of their difference.
        let ahead = then.wrapping_sub(self.tsc);
        if ahead <= u64::MAX / 2 {
            self.wall.saturating_add(self.clock.to_ns(ahead))
        } else {
            let behind = self.tsc.wrapping_sub(then);
            self.wall.saturating_sub(self.clock.to_ns(behind))
        }
    }

    /// Nanoseconds since 1970 now.
    pub(super) fn now(&self) -> u64 {
        self.at(tsc())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_before_and_after_the_comparison_have_their_time() {
        let mut clock = WallClock::new(TscClock::with_frequency(1_000_000_000));
        (clock.tsc, clock.wall) = (1_000, 5_000_000_000_000);
        assert_eq!(clock.at(1_000), 5_000_000_000_000);
        let near = |at: u64, expected: u64| at.abs_diff(expected) <= 1;
        assert!(near(clock.at(501_000), 5_000_000_500_000));
        assert!(near(clock.at(400), 4_999_999_999_400));
        // The TSC may be compared shortly after it has wrapped.
        clock.tsc = 100;
        let before = 100_u64.wrapping_sub(1_000);
        assert!(near(clock.at(before), 4_999_999_999_000));
    }

    #[test]
    fn the_wall_clock_is_met() {
        let clock = WallClock::new(TscClock::with_frequency(1_000_000_000));
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(clock.at(clock.tsc).abs_diff(wall.as_nanos() as u64) < 100_000_000);
    }
}
