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

/// So many a second, and so many at once (GCRA, as in ITU-T I.371).
#[derive(Debug)]
pub struct Bucket {
    /// From one to the next.
    interval: Duration,
    /// What may be taken beforehand.
    depth: Duration,
    /// When the next one would come if none were taken beforehand.
    next: Duration,
}

impl Bucket {
    /// A second's worth at once.
    pub fn new(per_second: u32) -> Self {
        Self::with_burst(per_second, per_second)
    }

    /// Full at first.
    pub fn with_burst(per_second: u32, at_once: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second);
        let interval = interval.unwrap_or(Duration::MAX);
        Self {
            interval,
            depth: interval.saturating_mul(at_once),
            next: Duration::ZERO,
        }
    }

    /// From now on this rate; what was taken stays taken.
    pub(crate) fn resize(&mut self, per_second: u32, at_once: u32) {
        let Self {
            interval, depth, ..
        } = Self::with_burst(per_second, at_once);
        (self.interval, self.depth) = (interval, depth);
    }

    /// From now on one of so many equal parts of this rate; at least one at once.
    pub(crate) fn share(&mut self, per_second: u32, parts: u32) {
        let whole = Self::new(per_second);
        self.interval = whole.interval.saturating_mul(parts);
        self.depth = match whole.depth {
            Duration::ZERO => Duration::ZERO,
            depth => depth.max(self.interval),
        };
    }

    /// Whether there is one at `now`; if so it is taken.
    pub fn take(&mut self, now: Duration) -> bool {
        let free = self.wait(now).is_zero();
        if free {
            self.next = self.next.max(now).saturating_add(self.interval);
        }
        free
    }

    /// Whether nothing was taken for long enough.
    pub fn is_full(&self, now: Duration) -> bool {
        self.next <= now
    }

    /// Takes one in any case, and says how long to wait before it is used.
    pub fn reserve(&mut self, now: Duration) -> Duration {
        let wait = self.wait(now);
        self.next = self.next.max(now).saturating_add(self.interval);
        wait
    }

    fn wait(&self, now: Duration) -> Duration {
        let used = self.next.max(now).saturating_add(self.interval);
        used.saturating_sub(now).saturating_sub(self.depth)
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
        assert_eq!(given(&mut Bucket::new(0), ms(60_000)), 0);
        assert_eq!(given(&mut Bucket::new(u32::MAX), ms(0)), 100);
    }

    #[test]
    fn another_rate_forgets_nothing() {
        let mut bucket = Bucket::with_burst(10, 2);
        assert!(bucket.take(ms(0)) && bucket.take(ms(0)) && !bucket.take(ms(0)));
        // Three more places; of those there were, all are taken.
        bucket.resize(10, 5);
        let given = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take(at)).count();
        assert_eq!(given(&mut bucket, ms(0)), 3);
        bucket.resize(10, 2);
        assert_eq!(given(&mut bucket, ms(300)), 0);
        assert_eq!(given(&mut bucket, ms(60_000)), 2);
    }

    #[test]
    fn who_reserves_waits_its_turn() {
        let mut bucket = Bucket::with_burst(10, 2);
        let waits: Vec<_> = (0..4).map(|_| bucket.reserve(ms(0))).collect();
        assert_eq!(waits, [ms(0), ms(0), ms(100), ms(200)]);
        assert!(!bucket.take(ms(250)));
        assert!(bucket.take(ms(300)));
    }
}
