//! Changes under load: whoever they do not concern loses no packet. Exact counts, end to end,
//! while another network is changed again and again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pmd_tests::frames::{mac, pattern};
use pmd_tests::isolate::isolated;
use pmd_tests::live::{apply, edited, key_file, rollback};
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn, port};
use pmd_tests::wire::{Outer, Sa};
use vswitch::manage::edge::Handle;

/// Changes that are made at least.
const CHANGES: u64 = 60;
/// Frames of each kind at once.
const BURST: usize = 32;

/// Changes red again and again, and blue in ways that do not concern its traffic: a port, a
/// peer, rates, keys and networks come and go.
fn keep_changing(handle: &Handle, dir: &Path, stop: &AtomicBool, changes: &AtomicU64) {
    let base = two_networks();
    let text = base.yaml(dir);
    let red = base.outbound("red", "b");
    let spare = Sa::new(red.spi + 0x1000, red.algorithm);
    let file = key_file(&spare, dir);
    let mut larger = base.clone();
    larger.peers.push(Setup::peer("c", 3));
    larger.vns[1].edges.push("c");
    larger.vns[1].mappings.push((mac(4), "c"));
    larger.vns[1].ports.push(port("red-5", 205, 5));
    larger.vns[0].ports.push(port("blue-7", 107, 7));
    let mut smaller = base.clone();
    smaller.vns.truncate(1);
    let mut third = base.clone();
    third.vns.push(Vn {
        name: "green",
        vni: 3003,
        ports: vec![port("green-1", 301, 1)],
        ..Vn::blue()
    });
    let spi = format!("spi: {}\n", red.spi);
    let key = format!("key-file: {:x}.key", red.spi);
    let texts = [
        smaller.yaml(dir),
        text.clone(),
        larger.yaml(dir),
        edited(
            &text,
            &[
                (&spi, &format!("spi: {}\n", spare.spi)),
                (&key, &format!("key-file: {file}")),
            ],
        ),
        third.yaml(dir),
        edited(
            &text,
            &[("vni: 2002", "vni: 2003"), ("vid: 203}", "vid: 233}")],
        ),
        edited(
            &text,
            &[(
                "203}\n    learning: false\n    bum-rate: 100000",
                "203}\n    learning: true\n    bum-rate: 5",
            )],
        ),
        text,
    ];
    while !stop.load(Ordering::Relaxed) {
        for text in &texts {
            apply(handle, text, dir);
            changes.fetch_add(1, Ordering::Relaxed);
        }
        rollback(handle, None);
        changes.fetch_add(1, Ordering::Relaxed);
        // To where the next turn differs from.
        apply(handle, &texts[1], dir);
    }
}

fn two_networks() -> Setup {
    Setup {
        workers: 2,
        underlay_queues: 2,
        vns: vec![Vn::blue(), Vn::red()],
        ..Setup::new()
    }
}

#[test]
fn whoever_a_change_does_not_concern_loses_nothing() {
    isolated(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let mut rig = Rig::start_in(two_networks(), dir.path());
        let handle = rig.handle();
        let (stop, changes) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let changer = {
            let (stop, changes) = (Arc::clone(&stop), Arc::clone(&changes));
            let dir = dir.path().to_owned();
            std::thread::spawn(move || keep_changing(&handle, &dir, &stop, &changes))
        };
        // Blue: from VLAN to VLAN, into the tunnel, and out of it.
        let local: Vec<_> = (0..BURST)
            .map(|i| pattern(mac(3), mac(1), i as u8, 200))
            .collect();
        let away: Vec<_> = (0..BURST)
            .map(|i| pattern(mac(2), mac(1), i as u8, 300))
            .collect();
        let back = pattern(mac(1), mac(2), 7, 400);
        let outbound = rig.setup.outbound("blue", "b");
        let (mut turns, mut last) = (0_u64, 0_u64);
        let began = Instant::now();
        while changes.load(Ordering::Relaxed) < CHANGES || turns < 100 {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{changes:?} changes"
            );
            assert!(!changer.is_finished(), "the changes stopped");
            let first = turns * BURST as u64 + 1;
            let sealed: Vec<_> = (first..first + BURST as u64)
                .map(|seq| rig.sealed("blue", "b", seq, &back))
                .collect();
            rig.from_vlan(101, &local);
            rig.from_vlan(101, &away);
            rig.from_underlay_on((turns % 2) as usize, &sealed);
            let (underlay, trunk) = rig.collect();
            assert_eq!(underlay.len(), BURST, "into the tunnel, turn {turns}");
            for packet in &underlay {
                let (_, esp) = Outer::parse(packet);
                let (seq, _) = outbound.open(&esp);
                assert!(seq > last, "in order");
                last = seq;
            }
            let to = |vid: u16| trunk.iter().filter(|(v, _)| *v == vid).count();
            assert_eq!((to(103), to(101)), (BURST, BURST), "turn {turns}");
            assert_eq!(trunk.len(), 2 * BURST);
            turns += 1;
        }
        stop.store(true, Ordering::Relaxed);
        changer.join().expect("every change was applied");
        // Not one packet was dropped for any reason, nor a number left out by another SA.
        rig.rebase();
        let status = rig.stop();
        let drops: Vec<_> = status.drops.iter().filter(|d| d.packets > 0).collect();
        assert!(drops.is_empty(), "{drops:#?}");
        let n = turns * BURST as u64;
        let received: u64 = status.workers.iter().map(|w| w.received).sum();
        assert_eq!(received, 3 * n);
        assert_eq!(last, n, "one SA from first to last");
        let tunnel = status
            .tunnels
            .iter()
            .find(|t| t.vn == "blue")
            .expect("blue");
        assert_eq!(
            (tunnel.traffic.tx_packets, tunnel.traffic.rx_packets),
            (n, n)
        );
        println!(
            "{n} packets of each kind, {} changes",
            changes.load(Ordering::Relaxed)
        );
    });
}
