//! EAL starts once per process, so every test gets a process of its own: the test binary
//! runs itself again for this one test, in a network namespace of its own where asked.
#![allow(dead_code)] // each test binary uses a part

use std::env;
use std::process::Command;

use vswitch::dpdk::eal::{Eal, EalConfig, Memory};
use vswitch::dpdk::mbuf::Mbuf;
use vswitch::dpdk::mempool::Mempool;

const CHILD: &str = "VSWITCH_TEST_CHILD";

/// Runs `body` in a process of its own. `name` is the test function's.
pub(crate) fn isolated(name: &str, body: impl FnOnce()) {
    run(name, &[], body);
}

/// As [`isolated`], in a new network namespace; needs root.
pub(crate) fn isolated_in_netns(name: &str, body: impl FnOnce()) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped {name}: a network namespace needs root");
        return;
    }
    run(name, &["unshare", "--net"], body);
}

fn run(name: &str, prefix: &[&str], body: impl FnOnce()) {
    if env::var(CHILD).as_deref() == Ok(name) {
        return body();
    }
    let exe = env::current_exe().expect("path of the test binary");
    let mut command = match prefix {
        [] => Command::new(exe),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(exe);
            command
        }
    };
    let args = [name, "--exact", "--nocapture", "--test-threads=1"];
    let output = command
        .args(args)
        .env(CHILD, name)
        .output()
        .expect("child process");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{name}: {}\n{out}\n{err}",
        output.status
    );
    assert!(out.contains("1 passed"), "{name} did not run:\n{out}");
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
