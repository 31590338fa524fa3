//! The parts of a report that are measured and added up: latencies, peers, memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use vswitch_aead::Form;

use super::control::Control;
use crate::datapath::latency::{Direction, histogram};
use crate::datapath::snapshot::{MemorySnapshot, WorkerSnapshot};
use crate::dpdk::memory;
use crate::dpdk::mempool::Mempool;
use crate::manage::status::{
    Bucket, Heap, Latency, Memory, Pages, Peer, Percentiles, Pool, Ring, Sa, Tables, Tunnel,
};

/// Bounds of the buckets in nanoseconds: 1, 2, 5 of each power of ten, 100 ns to 1 s.
pub(super) const BOUNDS: [u64; 22] = [
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
];

/// The least that a window covers, so that whoever asks often does not see single packets.
const WINDOW: Duration = Duration::from_millis(900);

type ByDirection = Vec<Histogram<u64>>;

/// What had been found at two moments, so that a report can tell what came since.
#[derive(Debug)]
pub(super) struct Windows {
    base: (Instant, ByDirection),
    last: (Instant, ByDirection),
}

impl Windows {
    /// Nothing found yet.
    pub(super) fn new(now: Instant) -> Self {
        Windows {
            base: (now, Vec::new()),
            last: (now, Vec::new()),
        }
    }

    /// The latencies of a report, all workers together.
    pub(super) fn latency(&mut self, snapshots: &[WorkerSnapshot], now: Instant) -> Vec<Latency> {
        let found: ByDirection = Direction::ALL.iter().filter_map(|_| histogram()).collect();
        let mut sums = (now, found);
        for (direction, found) in snapshots.iter().flat_map(|s| s.counters.latency.found()) {
            if let Some(sum) = sums.1.get_mut(direction as usize) {
                // All have the same bounds, so they can be added.
                let _ = sum.add(found);
            }
        }
        if now.duration_since(self.last.0) >= WINDOW {
            self.base = std::mem::replace(&mut self.last, sums.clone());
        }
        let (since, base) = &self.base;
        let window = now.duration_since(*since).as_secs_f64();
        Direction::ALL
            .iter()
            .zip(&sums.1)
            .enumerate()
            .map(|(i, (direction, sum))| {
                let mut recent = sum.clone();
                if let Some(before) = base.get(i) {
                    // Counts only grow, so what was is in what is.
                    let _ = recent.subtract(before);
                }
                let buckets = buckets(sum);
                Latency {
                    direction: direction.name().to_owned(),
                    total: percentiles(sum),
                    recent: percentiles(&recent),
                    window,
                    buckets,
                }
            })
            .collect()
    }
}

fn percentiles(found: &Histogram<u64>) -> Percentiles {
    if found.is_empty() {
        return Percentiles::default();
    }
    let middle = |value| u128::from(found.median_equivalent(value));
    let sum: u128 = found
        .iter_recorded()
        .map(|step| middle(step.value_iterated_to()) * u128::from(step.count_at_value()))
        .sum();
    Percentiles {
        samples: found.len(),
        sum: u64::try_from(sum).unwrap_or(u64::MAX),
        p50: found.value_at_quantile(0.5),
        p90: found.value_at_quantile(0.9),
        p99: found.value_at_quantile(0.99),
        p999: found.value_at_quantile(0.999),
        max: found.max(),
    }
}

fn buckets(found: &Histogram<u64>) -> Vec<Bucket> {
    let mut buckets = BOUNDS.map(|le| Bucket { le, samples: 0 });
    for step in found.iter_recorded() {
        let value = found.lowest_equivalent(step.value_iterated_to());
        if let Some(bucket) = buckets.iter_mut().find(|bucket| value <= bucket.le) {
            bucket.samples += step.count_at_value();
        }
    }
    let mut sum = 0;
    for bucket in &mut buckets {
        sum += bucket.samples;
        bucket.samples = sum;
    }
    buckets.to_vec()
}

impl Control {
    /// The peers: what their tunnels and SAs add up to.
    pub(super) fn peers(&self, tunnels: &[Tunnel], sas: &[Sa]) -> Vec<Peer> {
        let peers = self.config.peers.iter();
        peers
            .map(|config| {
                let mut peer = Peer {
                    name: config.name.clone(),
                    addresses: config.addresses.clone(),
                    ..Peer::default()
                };
                for tunnel in tunnels.iter().filter(|t| t.peer == config.name) {
                    peer.tunnels += 1;
                    peer.tunnels_up += u64::from(tunnel.state == "up");
                    peer.traffic.add(&tunnel.traffic);
                }
                for sa in sas.iter().filter(|sa| sa.peer == config.name) {
                    peer.sas += 1;
                    peer.replayed += sa.replayed;
                    peer.auth_failed += sa.auth_failed;
                }
                peer
            })
            .collect()
    }

    /// Who has what memory.
    pub(super) fn memory(&self, snapshots: &[WorkerSnapshot]) -> Memory {
        let mut pools: BTreeMap<&str, Pool> = BTreeMap::new();
        for mempool in &self.pools {
            pools.insert(mempool.name(), pool(mempool, None));
        }
        for (id, tenant) in &self.tenants {
            let port = self.port_name(*id).to_owned();
            pools.insert(tenant.pool.name(), pool(&tenant.pool, Some(port)));
        }
        let fdb = self.tables.fdb();
        let master = Tables {
            worker: None,
            fdb_entries: fdb.len() as u64,
            fdb_capacity: fdb.capacity() as u64,
            fdb_bytes: fdb.memory_bytes() as u64,
            ..Tables::default()
        };
        let workers = snapshots
            .iter()
            .map(|s| tables(s.worker, &s.memory, self.backend.form()));
        Memory {
            hugepages: self.hugepages,
            pages: memory::hugepages().into_iter().map(Pages::from).collect(),
            heaps: heaps(),
            pools: pools.into_values().collect(),
            rings: snapshots.iter().flat_map(rings).collect(),
            tables: std::iter::once(master).chain(workers).collect(),
        }
    }
}

fn pool(pool: &Mempool, port: Option<String>) -> Pool {
    Pool {
        name: pool.name().to_owned(),
        port,
        numa: pool.numa(),
        size: pool.capacity() as u64,
        in_use: pool.in_use() as u64,
        cached: pool.cached() as u64,
        bytes: pool.memory_bytes() as u64,
    }
}

fn tables(worker: u16, memory: &MemorySnapshot, keys: Form) -> Tables {
    Tables {
        worker: Some(worker),
        fdb_entries: memory.fdb_entries as u64,
        fdb_capacity: memory.fdb_capacity as u64,
        fdb_bytes: memory.fdb_bytes as u64,
        sas: memory.sas as u64,
        sa_bytes: memory.sa_bytes as u64,
        key_bytes: (memory.sas * keys.memory()) as u64,
        counter_bytes: memory.counter_bytes as u64,
    }
}

fn rings(snapshot: &WorkerSnapshot) -> impl Iterator<Item = Ring> {
    let rings = snapshot.memory.rings.iter();
    rings.map(|(to, used, size)| Ring {
        from: snapshot.worker,
        to: *to,
        size: *size as u64,
        used: *used as u64,
    })
}

fn heaps() -> Vec<Heap> {
    let heaps = memory::heaps().unwrap_or_default();
    let heap = |heap: memory::Heap| Heap {
        numa: heap.numa,
        size: heap.size as u64,
        used: heap.used as u64,
        largest_free: heap.largest_free as u64,
    };
    heaps.into_iter().map(heap).collect()
}

impl From<memory::Pages> for Pages {
    fn from(pages: memory::Pages) -> Self {
        Pages {
            numa: pages.numa,
            size: pages.size,
            total: pages.total,
            free: pages.free,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_took_no_longer() {
        let mut found = histogram().expect("constant bounds");
        for ns in [99, 150, 900, 1_000, 30_000, 1_000_000_000] {
            found.saturating_record(ns);
        }
        let buckets = buckets(&found);
        let at = |le| {
            buckets
                .iter()
                .find(|b| b.le == le)
                .expect("a bound")
                .samples
        };
        assert_eq!(
            [at(100), at(200), at(1_000), at(20_000), at(50_000)],
            [1, 2, 4, 4, 5]
        );
        assert_eq!(at(1_000_000_000), 6);
        let sum = percentiles(&found).sum;
        assert!(sum.abs_diff(1_000_032_149) < 10_000_000, "{sum}");
    }

    #[test]
    fn no_samples_no_figures() {
        let found = histogram().expect("constant bounds");
        assert_eq!(percentiles(&found), Percentiles::default());
        assert!(buckets(&found).iter().all(|bucket| bucket.samples == 0));
    }
}
