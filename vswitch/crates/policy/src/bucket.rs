//! A token bucket in integer arithmetic, exact at any rate of its clock.

/// Passes at most `rate` × time + `burst` tokens.
///
/// Credit is kept in units of one token divided by the clock's rate, so that a tick is worth
/// exactly `rate` units and nothing is rounded: no division, no float, and 128 bits so that
/// no tick value overflows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Tokens per second.
    rate: u64,
    /// Units of a token: the clock's ticks per second.
    token: u64,
    /// Units of a full bucket.
    full: u128,
    /// Units at hand at `last`.
    credit: u128,
    last: u64,
}

impl TokenBucket {
    /// A full bucket at tick `now`. `rate` in tokens per second, `burst` in tokens,
    /// `ticks_per_second` at least 1 (0 is taken as 1).
    ///
    /// A burst of 0 passes nothing; a rate of 0 passes the burst once.
    pub const fn new(rate: u64, burst: u64, ticks_per_second: u64, now: u64) -> Self {
        let token = if ticks_per_second == 0 {
            1
        } else {
            ticks_per_second
        };
        let full = burst as u128 * token as u128;
        Self {
            rate,
            token,
            full,
            credit: full,
            last: now,
        }
    }

    /// Takes one token at tick `now`. Returns whether there was one.
    #[inline]
    pub fn take(&mut self, now: u64) -> bool {
        self.take_n(now, 1)
    }

    /// Takes `n` tokens at tick `now`, or none. Returns whether there were so many.
    ///
    /// A tick before the latest one seen earns nothing and takes nothing back: a clock that
    /// jitters cannot be made to pay twice for the same time.
    #[inline]
    pub fn take_n(&mut self, now: u64, n: u64) -> bool {
        if now > self.last {
            let gained = u128::from(now - self.last) * u128::from(self.rate);
            self.credit = self.credit.saturating_add(gained).min(self.full);
            self.last = now;
        }
        match self
            .credit
            .checked_sub(u128::from(n) * u128::from(self.token))
        {
            Some(rest) => {
                self.credit = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn passes_the_burst_then_the_rate() {
        let mut bucket = TokenBucket::new(10, 5, 1000, 0);
        assert_eq!((0..20).filter(|_| bucket.take(0)).count(), 5);
        // 10 per second at 1000 ticks per second: one each 100 ticks, not a tick earlier.
        assert!(!bucket.take(99));
        assert!(bucket.take(100));
        assert!(!bucket.take(100));
        // A long pause fills it to the burst and not beyond.
        assert_eq!((0..20).filter(|_| bucket.take(1_000_000)).count(), 5);
    }

    #[test]
    #[cfg_attr(miri, ignore = "minutes under Miri")]
    fn rates_that_do_not_divide_the_clock_are_exact() {
        // 3 per second on a clock of 7 ticks per second, for a million seconds.
        let mut bucket = TokenBucket::new(3, 2, 7, 0);
        let passed = (1..=7_000_000).filter(|&now| bucket.take(now)).count();
        assert!((3_000_000..=3_000_002).contains(&passed), "{passed}");
    }

    #[test]
    fn faster_than_its_clock() {
        let mut bucket = TokenBucket::new(1000, 100, 1, 0);
        assert!(bucket.take_n(0, 100));
        assert_eq!((0..200).filter(|_| bucket.take(1)).count(), 100);
    }

    #[test]
    fn all_or_none() {
        let mut bucket = TokenBucket::new(0, 10, 1000, 0);
        assert!(!bucket.take_n(0, 11));
        assert!(bucket.take_n(0, 10));
        assert!(!bucket.take(u64::MAX));
        assert!(bucket.take_n(u64::MAX, 0));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let max = u64::MAX;
        let mut bucket = TokenBucket::new(max, max, max, 0);
        assert!(bucket.take_n(0, max));
        assert!(bucket.take_n(max, max));
        assert!(!bucket.take_n(max, max));
        assert!(!TokenBucket::new(max, 0, max, 0).take(max));
        assert!(TokenBucket::new(1, 1, 0, 0).take(0));
    }

    #[test]
    fn a_jittering_clock_earns_nothing() {
        let mut bucket = TokenBucket::new(1000, 1, 1000, 1_000_000);
        assert!(bucket.take(1_000_000));
        for _ in 0..1000 {
            assert!(!bucket.take(0));
            assert!(!bucket.take(1_000_000));
        }
        assert!(bucket.take(1_000_001));
    }

    proptest! {
        #[test]
        fn never_more_than_rate_times_time_plus_burst(
            rate in 0u64..1_000_000,
            burst in 0u64..10_000,
            ticks in 1u64..5_000_000_000,
            start in any::<u64>(),
            steps in prop::collection::vec((any::<u64>(), 0u64..64, any::<bool>(), 0u64..2000), 1..200),
        ) {
            let mut bucket = TokenBucket::new(rate, burst, ticks, start);
            let (mut now, mut latest, mut passed) = (start, start, 0u128);
            for (jump, shift, back, n) in steps {
                let jump = jump >> shift;
                now = if back { now.saturating_sub(jump) } else { now.saturating_add(jump) };
                latest = latest.max(now);
                if bucket.take_n(now, n) {
                    passed += u128::from(n);
                }
                // In units of 1 / ticks, so that nothing is rounded here either.
                let allowed = u128::from(latest - start) * u128::from(rate)
                    + u128::from(burst) * u128::from(ticks);
                prop_assert!(passed * u128::from(ticks) <= allowed);
            }
        }

        /// And not less: a sender that keeps below the rate loses nothing.
        #[test]
        fn a_conforming_sender_is_never_refused(
            rate in 1u64..100_000,
            burst in 1u64..100,
            ticks in 1u64..5_000_000_000,
            counts in prop::collection::vec(1u64..100, 1..100),
        ) {
            let mut bucket = TokenBucket::new(rate, burst, ticks, 0);
            let mut now = 0;
            for n in counts {
                let n = n.min(burst);
                // The time after which n tokens have come, rounded up.
                now += (n * ticks).div_ceil(rate);
                prop_assert!(bucket.take_n(now, n));
            }
        }
    }
}
