//! What a key's life is bound by: the hard limit, and that no nonce is used twice, however
//! often the switch is killed.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pmd_tests::frames::{mac, pattern};
use pmd_tests::isolate::{again, isolated};
use pmd_tests::rig::Rig;
use pmd_tests::setup::Setup;
use pmd_tests::wire::{KEYS_OF, Outer};

#[test]
fn at_the_hard_limit_the_sa_sends_no_more() {
    isolated(|| {
        // 100 bytes of frame, 16 of headers, 2 of trailer, 2 of padding: 8 blocks, and one
        // for the tag. 11 packets are 99 blocks.
        let mut rig = Rig::start(Setup {
            hard_limit: Some(100),
            ..Setup::new()
        });
        let frames: Vec<_> = (0..20).map(|i| pattern(mac(2), mac(1), i, 100)).collect();
        rig.from_vlan(101, &frames);
        let out = rig.settle();
        assert_eq!(out.underlay.len(), 11);
        out.changes
            .expect_verdicts(&[("sa-hard-limit", 9), ("to-underlay", 11)]);
        let tunnel = out.changes.traffic["tunnel blue/b"];
        assert_eq!((tunnel.tx, tunnel.tx_dropped), ((11, 1100), 9));
        // Not for shorter frames either: it is closed.
        rig.from_vlan(101, &[pattern(mac(2), mac(1), 0, 14)]);
        let out = rig.settle();
        assert!(out.underlay.is_empty());
        out.changes.expect_verdicts(&[("sa-hard-limit", 1)]);
        // What comes in still does.
        let frame = pattern(mac(1), mac(2), 0, 80);
        let packet = rig.sealed("blue", "b", 1, &frame);
        rig.from_underlay(&[packet]);
        assert_eq!(rig.settle().trunk, [(101, frame)]);
        let status = rig.stop();
        let sa = status
            .sas
            .iter()
            .find(|sa| sa.direction == "outbound")
            .expect("an SA");
        assert_eq!((sa.packets, sa.blocks, sa.hard_limit), (11, 99, 100));
    });
}

const LIFE: &str = "VSWITCH_TEST_LIFE";
const DIR: &str = "VSWITCH_TEST_DIR";
/// Packets sent in each life.
const PACKETS: usize = 300;

/// Runs this test again in the role of life number `life`.
fn live(dir: &Path, life: u64) {
    let child = again()
        .env(LIFE, life.to_string())
        .env(DIR, dir)
        .env(KEYS_OF, std::process::id().to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child");
    let runtime = format!("/var/run/dpdk/vswitch-{}", child.id());
    let output = child.wait_with_output().expect("a child");
    // EAL cannot tidy up after a kill.
    let _ = fs::remove_dir_all(runtime);
    assert_eq!(
        output.status.signal(),
        Some(9),
        "life {life}: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// In which life we are, if this process is one.
fn life() -> Option<(u64, PathBuf)> {
    let life = env::var(LIFE).ok()?.parse().expect("a number");
    Some((life, env::var_os(DIR).expect("a directory").into()))
}

fn die() -> ! {
    let me = rustix::process::getpid();
    rustix::process::kill_process(me, rustix::process::Signal::KILL).expect("kill");
    unreachable!("killed")
}

#[test]
fn no_nonce_is_used_twice_whatever_is_killed() {
    isolated(|| {
        if let Some((_, dir)) = life() {
            return sends_and_is_killed(&dir);
        }
        let dir = tempfile::tempdir().expect("a directory");
        const LIVES: u64 = 5;
        for n in 0..LIVES {
            live(dir.path(), n);
        }
        let wire = fs::read_to_string(dir.path().join("wire")).expect("what was on the wire");
        let nonces: Vec<&str> = wire.lines().collect();
        let distinct: BTreeSet<&str> = nonces.iter().copied().collect();
        assert_eq!(nonces.len(), LIVES as usize * PACKETS);
        assert_eq!(distinct.len(), nonces.len(), "a nonce was used twice");
    });
}

/// Sends packets, notes SPI and IV of each that is on the wire, and is killed while more are
/// under way.
fn sends_and_is_killed(dir: &Path) {
    let mut rig = Rig::start_in(Setup::new(), dir);
    let frames: Vec<_> = (0..PACKETS)
        .map(|i| pattern(mac(2), mac(1), i as u8, 100))
        .collect();
    rig.from_vlan(101, &frames);
    let out = rig.settle();
    let mut wire = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(dir.join("wire"))
        .expect("a file");
    for packet in &out.underlay {
        let (seq, _) = rig.opened("blue", "b", packet);
        let (_, esp) = Outer::parse(packet);
        let spi = u32::from_be_bytes(esp[..4].try_into().expect("4 bytes"));
        writeln!(wire, "{spi:08x} {seq:016x}").expect("written");
    }
    wire.sync_all().expect("on the disk");
    rig.from_vlan(101, &frames);
    die()
}

#[test]
fn what_was_received_before_a_kill_is_not_received_again() {
    isolated(|| {
        if let Some((n, dir)) = life() {
            return receives_and_is_killed(n, &dir);
        }
        let dir = tempfile::tempdir().expect("a directory");
        for n in 0..3 {
            live(dir.path(), n);
        }
    });
}

fn receives_and_is_killed(life: u64, dir: &Path) {
    let mut rig = Rig::start_in(Setup::new(), dir);
    let frame = pattern(mac(1), mac(2), 0, 100);
    let packets = |rig: &Rig, numbers: std::ops::Range<u64>| -> Vec<_> {
        numbers
            .map(|seq| rig.sealed("blue", "b", seq, &frame))
            .collect()
    };
    // Everything of the lives before.
    let old = packets(&rig, 1..life * 100 + 1);
    if !old.is_empty() {
        rig.from_underlay(&old);
        let out = rig.settle();
        assert!(out.trunk.is_empty(), "replayed into the next life");
        let refused: u64 = ["replayed", "too-old"]
            .iter()
            .filter_map(|why| out.changes.verdicts.get(*why))
            .sum();
        assert_eq!(refused, old.len() as u64);
    }
    let new = packets(&rig, life * 100 + 1..life * 100 + 101);
    rig.from_underlay(&new);
    assert_eq!(rig.settle().trunk.len(), 100);
    die()
}
