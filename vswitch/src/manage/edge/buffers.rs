//! Packet buffers: a pool on each NUMA node that has a worker, so that a worker's packets are
//! in memory of its own node.

use std::collections::BTreeMap;
use std::fs;

use crate::dpdk::mempool::{Mempool, MempoolError};
use crate::manage::config::Config;

/// The pool of each worker; workers of one node share one.
pub(super) fn pools(config: &Config, shared_cores: bool) -> Result<Vec<Mempool>, MempoolError> {
    let nodes: Vec<Option<u32>> = config
        .workers
        .cores
        .iter()
        .map(|core| node_of(*core))
        .collect();
    let mut by_node: BTreeMap<Option<u32>, Mempool> = BTreeMap::new();
    for node in &nodes {
        if !by_node.contains_key(node) {
            let name = node.map_or_else(|| "packets".to_owned(), |n| format!("packets-{n}"));
            let room = usize::from(config.mempool.data_room);
            let pool = Mempool::create(&name, config.mempool.mbufs, room, *node, shared_cores)?;
            by_node.insert(*node, pool);
        }
    }
    let of_worker = nodes.iter().filter_map(|node| by_node.get(node));
    Ok(of_worker.cloned().collect())
}

/// The NUMA node of a core; `None` where the machine has one only.
fn node_of(core: u16) -> Option<u32> {
    if !std::path::Path::new("/sys/devices/system/node/node1").exists() {
        return None;
    }
    fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}"))
        .ok()?
        .filter_map(Result::ok)
        .find_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.strip_prefix("node")?.parse().ok()
        })
}
