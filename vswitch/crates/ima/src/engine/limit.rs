//! A token bucket.

use std::time::Duration;

/// So many a second in the long run, so many at once. Time is a parameter.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    /// Full at `now`. A rate of 0 is one of 1.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, now: Duration) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            per_second: f64::from(per_second.max(1)),
            burst,
            tokens: burst,
            at: now,
        }
    }

    /// Takes one if there is one.
    pub fn try_take(&mut self, now: Duration) -> bool {
        let taken = self.tokens_at(now) >= 1.0;
        self.tokens -= f64::from(u8::from(taken));
        taken
    }

    /// Whether nothing was taken for long enough.
    pub fn is_full(&mut self, now: Duration) -> bool {
        self.tokens_at(now) >= self.burst
    }

    fn tokens_at(&mut self, now: Duration) -> f64 {
        let elapsed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.per_second).min(self.burst);
        self.tokens
    }

    /// Takes one. Gives how long to wait before acting on it: zero while there are any.
    pub fn take(&mut self, now: Duration) -> Duration {
        self.tokens = self.tokens_at(now) - 1.0;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-self.tokens / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_in_the_long_run() {
        let mut bucket = Bucket::new(10, 5, Duration::ZERO);
        for _ in 0..5 {
            assert_eq!(bucket.take(Duration::ZERO), Duration::ZERO);
        }
        // Whoever waits as told gets ten a second.
        let mut now = Duration::ZERO;
        for _ in 0..100 {
            now += bucket.take(now);
        }
        let seconds = now.as_secs_f64();
        assert!((9.9..10.1).contains(&seconds), "{seconds}");
        // A clock that stands or goes back gives nothing.
        let wait = bucket.take(Duration::ZERO);
        assert!(wait > Duration::ZERO);
    }
}
