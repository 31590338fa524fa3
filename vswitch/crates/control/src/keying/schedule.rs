//! Deadlines by owner, and token buckets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// At most one deadline for each `K`; the next one is found without looking at all.
#[derive(Debug)]
pub struct Timers<K> {
    queue: BTreeSet<(Duration, K)>,
    of: BTreeMap<K, Duration>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self {
            queue: BTreeSet::new(),
            of: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Replaces the deadline of `key`.
    pub fn set(&mut self, key: &K, at: Option<Duration>) {
        if self.of.get(key).copied() == at {
            return;
        }
        if let Some(former) = self.of.remove(key) {
            self.queue.remove(&(former, key.clone()));
        }
        if let Some(at) = at {
            self.of.insert(key.clone(), at);
            self.queue.insert((at, key.clone()));
        }
    }

    /// Whether `key` has a deadline.
    pub fn is_set(&self, key: &K) -> bool {
        self.of.contains_key(key)
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Duration> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes out who is due at `now`.
    pub fn pop(&mut self, now: Duration) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.queue.pop_first()?;
        self.of.remove(&key);
        Some(key)
    }
}

/// So many a second, and at once no more than a second's worth.
#[derive(Debug)]
pub struct Bucket {
    rate: u64,
    /// In thousandths of a token.
    tokens: u64,
    filled: Duration,
}

impl Bucket {
    /// Full at first.
    pub fn new(per_second: u32) -> Self {
        let rate = u64::from(per_second);
        Self {
            rate,
            tokens: rate * 1000,
            filled: Duration::ZERO,
        }
    }

    /// Whether there is one more at `now`.
    pub fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.filled).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        if passed > 0 {
            let more = passed.saturating_mul(self.rate);
            self.tokens = self.tokens.saturating_add(more).min(self.rate * 1000);
            self.filled = now;
        }
        if self.tokens < 1000 {
            return false;
        }
        self.tokens -= 1000;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn timers_come_in_order_and_once() {
        let mut timers = Timers::default();
        timers.set(&'a', Some(ms(5)));
        timers.set(&'b', Some(ms(3)));
        timers.set(&'a', Some(ms(2)));
        timers.set(&'c', Some(ms(4)));
        timers.set(&'c', None);
        assert_eq!(timers.next(), Some(ms(2)));
        assert_eq!(timers.pop(ms(1)), None);
        assert_eq!(timers.pop(ms(9)), Some('a'));
        assert!(!timers.is_set(&'a') && timers.is_set(&'b'));
        assert_eq!(timers.pop(ms(9)), Some('b'));
        assert_eq!(timers.pop(ms(9)), None);
    }

    #[test]
    fn a_bucket_gives_its_rate_and_no_burst_beyond_a_second() {
        let mut bucket = Bucket::new(10);
        let given = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take(at)).count();
        assert_eq!(given(&mut bucket, ms(0)), 10);
        assert_eq!(given(&mut bucket, ms(100)), 1);
        assert_eq!(given(&mut bucket, ms(60_000)), 10);
    }
}
