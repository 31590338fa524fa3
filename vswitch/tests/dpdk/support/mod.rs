//! EAL starts once per process, so every test gets a process of its own, in a network namespace
//! of its own where asked; and what such a test needs.

#[path = "../../../../pmd-tests/src/isolate/process.rs"]
mod process;

use std::process::Command;

pub(crate) use process::again;
use process::{isolated_through, skipped};
use vswitch::dpdk::eal::{Eal, EalConfig, Memory};
use vswitch::dpdk::mbuf::Mbuf;
use vswitch::dpdk::mempool::Mempool;

/// Runs `body`, the whole of a test, in a process of its own.
pub(crate) fn isolated(body: impl FnOnce()) {
    isolated_through(&[], body);
}

/// As [`isolated`], in a new network namespace; needs root.
pub(crate) fn isolated_in_netns(body: impl FnOnce()) {
    if !rustix::process::geteuid().is_root() {
        return skipped("a network namespace needs root");
    }
    isolated_through(&["unshare", "--net"], body);
}

/// Runs a command that must succeed.
pub(crate) fn sh(command: &str) {
    let status = Command::new("sh")
        .args(["-ec", command])
        .status()
        .expect("sh");
    assert!(status.success(), "{command}");
}

/// EAL without hugepages, logging to standard error.
pub(crate) fn eal() -> Eal {
    eal_with(Memory::NoHuge)
}

/// EAL with the memory asked for, logging to standard error.
pub(crate) fn eal_with(memory: Memory) -> Eal {
    let _first_wins = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .try_init();
    let config = EalConfig {
        memory,
        memory_mb: 128,
        ..EalConfig::default()
    };
    Eal::init(&config).expect("EAL")
}

/// A pool for `mbufs` packets of up to 2048 bytes.
pub(crate) fn pool(name: &str, mbufs: u32) -> Mempool {
    Mempool::create(name, mbufs, 2048, None, true).expect("pool")
}

/// A packet with these bytes in one segment.
pub(crate) fn packet(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let mut packet = pool.alloc().expect("a buffer");
    packet
        .append(bytes.len())
        .expect("room")
        .copy_from_slice(bytes);
    packet
}

/// The packet's bytes, all segments.
pub(crate) fn bytes(packet: &Mbuf) -> Vec<u8> {
    packet.segments().flatten().copied().collect()
}
