//! What all simulated edges together have come to know, and since when.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use vswitch_control::message::overlay::Mapping;
use vswitch_control::types::Mac;

/// Without any progress for so long, a measurement has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// A number that many add to.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// More.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Less.
    pub fn take(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A change that not everybody knows yet.
struct Pending {
    since: Instant,
    ip: IpAddr,
    left: usize,
}

/// Times in microseconds, of which every one counts.
pub struct Times(Histogram<u64>);

impl Times {
    /// None yet; up to an hour.
    pub fn new() -> anyhow::Result<Self> {
        let histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3);
        Ok(Times(histogram.context("histogram")?))
    }

    /// Adds one.
    pub fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(micros.max(1));
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// The time that this share of them (0 to 1) did not exceed, in milliseconds.
    pub fn ms(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1000.0
    }
}

/// What is known by whom, in sums.
pub struct Watch {
    /// Edges that were welcomed.
    pub welcomed: Count,
    /// Networks that edges came into.
    pub joined: Count,
    /// Registrations taken.
    pub registered: Count,
    /// Mappings that edges know: one that five know counts five times.
    pub known: Count,
    /// Updates received.
    pub updates: Count,
    /// Edges that were stopped.
    pub ended: Count,
    /// Messages that the watched edge received.
    pub probe_messages: Count,
    /// And their bytes, with the length before each.
    pub probe_bytes: Count,
    pending: Mutex<HashMap<Mac, Pending>>,
    times: Mutex<Times>,
    /// Changes that may be under way.
    pub window: Semaphore,
    failed: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Nothing yet.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Watch {
            welcomed: Count::default(),
            joined: Count::default(),
            registered: Count::default(),
            known: Count::default(),
            updates: Count::default(),
            ended: Count::default(),
            probe_messages: Count::default(),
            probe_bytes: Count::default(),
            pending: Mutex::default(),
            times: Mutex::new(Times::new()?),
            window: Semaphore::new(0),
            failed: Mutex::default(),
        })
    }

    /// An edge cannot go on; the first reason is kept.
    pub fn fail(&self, why: &str) {
        lock(&self.failed).get_or_insert(why.to_owned());
    }

    /// Whether an edge could not go on.
    pub fn check(&self) -> anyhow::Result<()> {
        match &*lock(&self.failed) {
            Some(why) => bail!("{why}"),
            None => Ok(()),
        }
    }

    /// Waits until there are so many. Fails if nothing moves any more.
    pub async fn wait(
        &self,
        what: &str,
        count: impl Fn(&Watch) -> u64,
        until: u64,
    ) -> anyhow::Result<()> {
        let (mut last, mut moved) = (count(self), Instant::now());
        loop {
            self.check()?;
            let now = count(self);
            if now == until {
                return Ok(());
            }
            if now != last {
                (last, moved) = (now, Instant::now());
            } else if moved.elapsed() > PATIENCE {
                bail!("{what}: {now} of {until}, and no more");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A mapping is about to get this IP address, of which `members` are to hear. Not if it has another
    /// before it.
    pub fn expect(&self, mac: Mac, ip: IpAddr, members: usize) -> bool {
        let mut all = lock(&self.pending);
        if all.contains_key(&mac) {
            return false;
        }
        let pending = Pending {
            since: Instant::now(),
            ip,
            left: members,
        };
        all.insert(mac, pending);
        true
    }

    /// An edge has heard of a mapping.
    pub fn saw(&self, mapping: &Mapping) {
        let mut all = lock(&self.pending);
        let Some(pending) = all.get_mut(&mapping.mac) else {
            return;
        };
        if mapping.ips.first() != Some(&pending.ip) {
            return;
        }
        pending.left = pending.left.saturating_sub(1);
        if pending.left == 0 {
            let took = pending.since.elapsed();
            all.remove(&mapping.mac);
            drop(all);
            lock(&self.times).record(took);
            self.window.add_permits(1);
        }
    }

    /// Changes that everybody knows of since the last call, and how long that took.
    pub fn times(&self) -> anyhow::Result<Times> {
        Ok(std::mem::replace(&mut *lock(&self.times), Times::new()?))
    }
}
