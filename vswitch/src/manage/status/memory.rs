//! What memory is there and who has it.

use serde::{Deserialize, Serialize};

/// Memory of the switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Whether DPDK's memory is hugepages.
    pub hugepages: bool,
    /// The host's hugepages, by size.
    pub pages: Vec<Pages>,
    /// DPDK's heaps.
    pub heaps: Vec<Heap>,
    /// Pools of packet buffers.
    pub pools: Vec<Pool>,
    /// Hand-off rings between workers.
    pub rings: Vec<Ring>,
    /// The tables of the control thread and of each worker.
    pub tables: Vec<Tables>,
}

/// The host's hugepages of one size, from sysfs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    /// NUMA node; absent where the host has one only.
    pub numa: Option<u32>,
    /// Bytes of a page.
    pub size: u64,
    /// Pages that the kernel has set aside.
    pub total: u64,
    /// Of them, those that no process has.
    pub free: u64,
}

/// A heap of DPDK: pools, rings and queues are made of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heap {
    /// NUMA node.
    pub numa: u32,
    /// Bytes that it has.
    pub size: u64,
    /// Bytes that are given out.
    pub used: u64,
    /// Bytes of the largest piece that is free.
    pub largest_free: u64,
}

/// A pool of packet buffers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// The vhost port whose guest's packets it holds; absent of a pool of the workers.
    pub port: Option<String>,
    /// NUMA node it was asked for; absent where any would do.
    pub numa: Option<u32>,
    /// Buffers.
    pub size: u64,
    /// Buffers that hold packets or wait in a receive queue.
    pub in_use: u64,
    /// Free buffers that rest in the caches of threads.
    pub cached: u64,
    /// Bytes of all of it.
    pub bytes: u64,
}

/// A ring from a worker to another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// The worker that hands packets out.
    pub from: u16,
    /// The worker that takes them over.
    pub to: u16,
    /// Packets that fit.
    pub size: u64,
    /// Packets in it.
    pub used: u64,
}

/// The tables of one thread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    /// The worker; absent of the control thread's master copy.
    pub worker: Option<u16>,
    /// Forwarding entries.
    pub fdb_entries: u64,
    /// Entries that fit before the table grows.
    pub fdb_capacity: u64,
    /// Bytes of the forwarding table.
    pub fdb_bytes: u64,
    /// Security associations that it owns.
    pub sas: u64,
    /// Bytes of these, keys left out.
    pub sa_bytes: u64,
    /// Bytes of their expanded keys.
    pub key_bytes: u64,
    /// Bytes of counters and latencies.
    pub counter_bytes: u64,
}
