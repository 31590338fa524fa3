//! Several workers on one core, each queue and each SA with one owner: packets reach their
//! owner over rings, all of them, in order, and the books of every worker balance.

use std::collections::BTreeMap;

use pmd_tests::frames::{BROADCAST, mac, pattern};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::Setup;

fn three_workers() -> Setup {
    Setup {
        workers: 3,
        outbound_worker: 1,
        inbound_worker: 2,
        ..Setup::with_c()
    }
}

/// What one worker counts.
fn verdicts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    counts.iter().map(|(v, n)| ((*v).to_owned(), *n)).collect()
}

#[test]
fn packets_reach_the_owner_of_their_sa_and_queue() {
    isolated(|| {
        // Worker 0 owns the queues, 1 seals, 2 opens.
        let mut rig = Rig::start(three_workers());
        let mut n = 0;
        for _ in 0..10 {
            let there: Vec<_> = (0..100).map(|i| pattern(mac(2), mac(1), i, 200)).collect();
            rig.from_vlan(101, &there);
            let back: Vec<_> = (0..100).map(|i| pattern(mac(1), mac(2), i, 200)).collect();
            let packets: Vec<_> = back
                .iter()
                .zip(n + 1..)
                .map(|(f, seq)| rig.sealed("blue", "b", seq, f))
                .collect();
            rig.from_underlay(&packets);
            let out = rig.settle();
            let opened: Vec<_> = out
                .underlay
                .iter()
                .map(|p| rig.opened("blue", "b", p))
                .collect();
            let expected: Vec<_> = there
                .into_iter()
                .zip(n + 1..)
                .map(|(f, s)| (s, f))
                .collect();
            assert_eq!(opened, expected);
            assert_eq!(
                out.trunk,
                back.into_iter().map(|f| (101, f)).collect::<Vec<_>>()
            );
            // 0 → 1 → 0 on the way out, 0 → 2 → 0 on the way in.
            out.changes.expect_books(200, 0, 0, 400);
            assert_eq!(
                out.changes.workers,
                [
                    verdicts(&[("handed-out", 200), ("to-underlay", 100), ("to-vlan", 100)]),
                    verdicts(&[("handed-out", 100)]),
                    verdicts(&[("handed-out", 100)]),
                ]
            );
            n += 100;
        }
        let status = rig.stop();
        let owners: Vec<_> = status
            .sas
            .iter()
            .map(|sa| (sa.direction.as_str(), sa.worker))
            .collect();
        assert_eq!(
            owners,
            [
                ("outbound", 1),
                ("inbound", 2),
                ("outbound", 1),
                ("inbound", 2)
            ]
        );
    });
}

#[test]
fn every_queue_serves_its_own_worker() {
    isolated(|| {
        let setup = Setup {
            underlay_queues: 3,
            trunk_queues: 3,
            ..three_workers()
        };
        let mut rig = Rig::start(setup);
        // Two copies of a packet on different queues: one owner, one replay window.
        let frames: Vec<_> = (0..90).map(|i| pattern(mac(1), mac(2), i, 100)).collect();
        let packets: Vec<_> = frames
            .iter()
            .zip(1..)
            .map(|(f, seq)| rig.sealed("blue", "b", seq, f))
            .collect();
        for queue in 0..3 {
            rig.from_underlay_on(queue, &packets);
        }
        let out = rig.settle();
        let mut arrived: Vec<_> = out.trunk.into_iter().map(|(_, f)| f).collect();
        let mut expected = frames;
        arrived.sort();
        expected.sort();
        assert_eq!(arrived, expected, "each once");
        out.changes
            .expect_verdicts(&[("handed-out", 180), ("replayed", 180), ("to-vlan", 90)])
            .expect_books(270, 0, 0, 180);
        // Worker 2 has a queue of the trunk of its own: what it opened leaves there.
        assert_eq!(
            out.changes.workers[2],
            verdicts(&[("replayed", 180), ("to-vlan", 90)])
        );
        rig.stop();
    });
}

#[test]
fn copies_are_handed_over_too() {
    isolated(|| {
        let mut rig = Rig::start(three_workers());
        let all: Vec<_> = (0..50)
            .map(|i| pattern(BROADCAST, mac(1), i, 150))
            .collect();
        rig.from_vlan(101, &all);
        let out = rig.settle();
        assert_eq!(
            out.trunk,
            all.iter().map(|f| (103, f.clone())).collect::<Vec<_>>()
        );
        assert_eq!(out.underlay.len(), 100);
        for peer in ["b", "c"] {
            let address = rig.setup.peer_named(peer).address;
            let mut seqs = Vec::new();
            for packet in &out.underlay {
                if pmd_tests::wire::Outer::parse(packet).0.dst == address {
                    let (seq, frame) = rig.opened("blue", peer, packet);
                    assert_eq!(frame, all[seq as usize - 1]);
                    seqs.push(seq);
                }
            }
            assert_eq!(seqs, (1..=50).collect::<Vec<u64>>(), "to {peer}");
        }
        out.changes
            .expect_verdicts(&[("handed-out", 200), ("to-underlay", 100), ("to-vlan", 50)])
            .expect_books(50, 0, 100, 200);
        rig.stop();
    });
}

#[test]
fn stopping_accounts_for_what_is_under_way() {
    isolated(|| {
        let mut rig = Rig::start(three_workers());
        let there: Vec<_> = (0..200).map(|i| pattern(mac(2), mac(1), i, 200)).collect();
        for _ in 0..4 {
            rig.from_vlan(101, &there);
        }
        // Not settled: the workers stop with packets in the rings between them. Whatever
        // they took up has a verdict, and every buffer is back.
        let status = rig.stop();
        let sum = |of: fn(&vswitch::manage::status::Worker) -> u64| -> u64 {
            status.workers.iter().map(of).sum()
        };
        assert_eq!(sum(|w| w.handed_in), sum(|w| w.handed_out));
        assert_eq!(sum(|w| w.received), sum(|w| w.sent) + sum(|w| w.dropped));
    });
}
