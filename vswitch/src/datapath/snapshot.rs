//! What a worker reports of itself, taken at one burst boundary.

use serde::Serialize;
use vswitch_vn::TunnelId;

use super::command::WorkerId;
use super::counters::Counters;
use super::probe::Probe;
use super::worker::Worker;

/// One SA as its owner sees it. No key material.
#[derive(Debug, Clone, Serialize)]
pub struct SaSnapshot {
    /// Its owner.
    pub worker: WorkerId,
    /// Whether it protects what we send.
    pub outbound: bool,
    /// Security parameters index.
    pub spi: u32,
    /// The tunnel it belongs to.
    pub tunnel: TunnelId,
    /// Algorithm's name.
    pub algorithm: &'static str,
    /// Outbound: the next sequence number. Inbound: the highest accepted.
    pub sequence: u64,
    /// Outbound manual keys: numbers reserved up to here, exclusive.
    pub reserved_until: Option<u64>,
    /// AES blocks processed under the key.
    pub blocks: u64,
    /// AES blocks at which it closes.
    pub hard_limit: u64,
    /// Packets protected or accepted.
    pub packets: u64,
    /// Bytes of inner payload.
    pub bytes: u64,
    /// Inbound: packets refused as replayed or too old.
    pub replayed: u64,
    /// Inbound: packets that failed authentication.
    pub auth_failed: u64,
}

/// Counters of a worker at a burst boundary.
#[derive(Debug, Clone)]
pub struct WorkerSnapshot {
    /// Which worker.
    pub worker: WorkerId,
    /// Its counters.
    pub counters: Counters,
    /// Packets in its hands.
    pub held: u64,
    /// Its SAs.
    pub sas: Vec<SaSnapshot>,
    /// What its tables take.
    pub memory: MemorySnapshot,
}

/// What a worker's tables take.
#[derive(Debug, Clone, Default)]
pub struct MemorySnapshot {
    /// Forwarding entries.
    pub fdb_entries: usize,
    /// Entries that fit before the table grows.
    pub fdb_capacity: usize,
    /// Bytes of the table.
    pub fdb_bytes: usize,
    /// SAs that it owns.
    pub sas: usize,
    /// Bytes of these, keys left out.
    pub sa_bytes: usize,
    /// Bytes of counters and latencies.
    pub counter_bytes: usize,
    /// The rings to its colleagues: worker, packets in it, packets that fit.
    pub rings: Vec<(WorkerId, usize, usize)>,
}

impl<P: Probe> Worker<P> {
    /// What its tables take at this moment.
    pub(super) fn memory(&self) -> MemorySnapshot {
        let fdb = self.tables.fdb();
        let (sas, sa_bytes) = self.sas.usage();
        MemorySnapshot {
            fdb_entries: fdb.len(),
            fdb_capacity: fdb.capacity(),
            fdb_bytes: fdb.memory_bytes(),
            sas,
            sa_bytes,
            counter_bytes: self.counters.memory_bytes(),
            rings: self.handoff.usage().collect(),
        }
    }
}
