//! How often a frontend may connect. Each connection can hold librte_vhost's one event thread
//! up once, with half a message; so that this stays a small share of the thread's time,
//! connections of one socket have a rate, and those that had to be cut off count more.

use std::time::{Duration, Instant};

/// What a connection costs, in tokens.
pub(super) const CONNECTION: u32 = 1;
/// What one that we had to end costs besides.
pub(super) const FAULT: u32 = 10;

/// Tokens at most: a guest's firmware, loader and system each connect a few times.
const MOST: u32 = 32;
/// Time to a further token. With half a message per connection, the thread is held up for a
/// tenth of the time; with faults that are noticed, for a hundredth.
const REFILL: Duration = Duration::from_millis(500);

/// A bucket of tokens, which may fall below zero by one fault.
#[derive(Debug)]
pub(super) struct Admission {
    tokens: u32,
    debt: u32,
    since: Instant,
}

impl Admission {
    pub(super) fn new(now: Instant) -> Self {
        Admission {
            tokens: MOST,
            debt: 0,
            since: now,
        }
    }

    /// Takes tokens if they are there.
    pub(super) fn take(&mut self, now: Instant, tokens: u32) -> bool {
        self.refill(now);
        let there = self.debt == 0 && self.tokens >= tokens;
        if there {
            self.tokens -= tokens;
        }
        there
    }

    /// Takes tokens that may not be there yet.
    pub(super) fn charge(&mut self, now: Instant, tokens: u32) {
        self.refill(now);
        let covered = tokens.min(self.tokens);
        self.tokens -= covered;
        self.debt = (self.debt + tokens - covered).min(FAULT);
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        let new = passed.as_nanos() / REFILL.as_nanos();
        let Ok(new) = u32::try_from(new.min(u128::from(MOST + FAULT))) else {
            return;
        };
        if new == MOST + FAULT {
            (self.tokens, self.debt, self.since) = (MOST, 0, now);
            return;
        }
        self.since += REFILL * new;
        let repaid = new.min(self.debt);
        self.debt -= repaid;
        self.tokens = (self.tokens + new - repaid).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_a_rate_and_faults_cost_more() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut bucket = Admission::new(start);
        let admitted = (0..100).filter(|_| bucket.take(start, CONNECTION)).count();
        assert_eq!(admitted, 32);
        assert!(!bucket.take(after(499), CONNECTION));
        assert!(bucket.take(after(500), CONNECTION));
        assert!(!bucket.take(after(999), CONNECTION));
        // A fault without tokens: five seconds, and no more for a second fault.
        bucket.charge(after(999), FAULT);
        bucket.charge(after(999), FAULT);
        assert!(!bucket.take(after(5_499), CONNECTION));
        assert!(
            !bucket.take(after(5_999), CONNECTION),
            "the last of the debt"
        );
        assert!(bucket.take(after(6_000), CONNECTION));
        // After a while everything is forgiven, and no more than that.
        let admitted = (0..100)
            .filter(|_| bucket.take(after(60_000), CONNECTION))
            .count();
        assert_eq!(admitted, 32);
    }
}
