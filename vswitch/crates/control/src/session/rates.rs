//! Rates: of all, and of each of many, of whom some are remembered. Pure: time is a parameter.

use std::collections::HashMap;
use std::time::Duration;

use super::known::Prefix;
use super::limits::Rate;

/// Tokens that come back with time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    tokens: f64,
    filled: Duration,
}

impl Bucket {
    pub(super) const fn full(rate: Rate, now: Duration) -> Self {
        let tokens = rate.burst;
        Self {
            tokens,
            filled: now,
        }
    }

    fn level(&self, rate: Rate, now: Duration) -> f64 {
        let since = now.saturating_sub(self.filled).as_secs_f64();
        (self.tokens + since * rate.per_second).min(rate.burst)
    }

    pub(super) fn take(&mut self, rate: Rate, now: Duration) -> bool {
        let level = self.level(rate, now);
        let enough = level >= 1.0;
        self.tokens = if enough { level - 1.0 } else { level };
        self.filled = now;
        enough
    }
}

/// A bucket for each.
#[derive(Debug)]
pub(super) struct Buckets {
    rate: Rate,
    pub(super) each: HashMap<Prefix, Bucket>,
    most: usize,
    /// Of all for which there is no room.
    rest: Bucket,
    /// When to look for those that can be forgotten.
    forget: Duration,
}

impl Buckets {
    pub(super) fn new(rate: Rate, most: usize, now: Duration) -> Self {
        Self {
            rate,
            each: HashMap::new(),
            most,
            rest: Bucket::full(rate, now),
            forget: now,
        }
    }

    pub(super) fn take(&mut self, prefix: Prefix, now: Duration) -> bool {
        let rate = self.rate;
        if let Some(bucket) = self.each.get_mut(&prefix) {
            return bucket.take(rate, now);
        }
        if self.each.len() >= self.most && now >= self.forget {
            // A full bucket says nothing that a new one would not. Not looked for at every packet.
            self.each
                .retain(|_, bucket| bucket.level(rate, now) < rate.burst);
            self.forget = now + Duration::from_secs(1);
        }
        if self.each.len() >= self.most {
            return self.rest.take(rate, now);
        }
        let mut bucket = Bucket::full(rate, now);
        let allowed = bucket.take(rate, now);
        self.each.insert(prefix, bucket);
        allowed
    }
}
