//! Learning: off by default, possible per network and per VLAN, and never over a mapping.

use pmd_tests::frames::{Mac, mac, pattern, text};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::Setup;

/// Learned entries: address and destination.
fn learned(rig: &Rig) -> Vec<(String, String)> {
    let status = rig.status();
    let entries = status.fdb.into_iter().filter(|e| e.origin == "learned");
    entries.map(|e| (e.mac, e.destination)).collect()
}

/// `peer` sends a frame of `src` to tenant 1; returns whether it arrived.
fn speaks(rig: &mut Rig, peer: &str, seq: u64, src: Mac) -> bool {
    let frame = pattern(mac(1), src, 0, 70);
    let packet = rig.sealed("blue", peer, seq, &frame);
    rig.from_underlay(&[packet]);
    let out = rig.settle();
    if out.trunk.is_empty() {
        out.changes.expect_verdicts(&[("spoofed-remote", 1)]);
        return false;
    }
    assert_eq!(out.trunk, [(101, frame)]);
    true
}

#[test]
fn remote_addresses_are_learned_where_asked_and_never_over_a_mapping() {
    isolated(|| {
        let mut setup = Setup::with_c();
        setup.vns[0].learning = true;
        setup.workers = 2;
        setup.outbound_worker = 1;
        let mut rig = Rig::start(setup);
        assert!(speaks(&mut rig, "b", 1, mac(50)));
        rig.wait("the control side knows", |s| {
            s.fdb.iter().any(|e| e.mac == text(mac(50)))
        });
        assert_eq!(learned(&rig), [(text(mac(50)), "b".to_owned())]);
        rig.from_vlan(101, &[pattern(mac(50), mac(1), 0, 70)]);
        let out = rig.settle();
        rig.opened("blue", "b", &out.underlay[0]);

        // It moves, and the traffic with it.
        assert!(speaks(&mut rig, "c", 1, mac(50)));
        rig.wait("it moved", |s| {
            s.fdb
                .iter()
                .any(|e| e.mac == text(mac(50)) && e.destination == "c")
        });
        rig.from_vlan(101, &[pattern(mac(50), mac(1), 0, 70)]);
        let out = rig.settle();
        rig.opened("blue", "c", &out.underlay[0]);

        // Mapped to `c`, to a port here, to `b`: the mapping holds.
        assert!(!speaks(&mut rig, "b", 2, mac(4)));
        assert!(!speaks(&mut rig, "b", 3, mac(3)));
        assert!(!speaks(&mut rig, "c", 2, mac(2)));
        assert!(speaks(&mut rig, "b", 4, mac(2)));
        assert_eq!(learned(&rig), [(text(mac(50)), "c".to_owned())]);
        rig.from_vlan(101, &[pattern(mac(4), mac(1), 0, 70)]);
        let out = rig.settle();
        rig.opened("blue", "c", &out.underlay[0]);
        rig.stop();
    });
}

#[test]
fn remote_addresses_are_not_learned_by_default() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        assert!(!speaks(&mut rig, "b", 1, mac(50)));
        assert!(speaks(&mut rig, "b", 2, mac(2)));
        assert_eq!(learned(&rig), []);
        rig.stop();
    });
}

#[test]
fn a_vlan_learns_what_is_behind_it() {
    isolated(|| {
        let mut setup = Setup::new();
        setup.vns[0].ports[1].learning = true;
        let mut rig = Rig::start(setup);
        // Unknown behind the VLAN: dropped, until it has spoken.
        let to_50 = |n| pattern(mac(50), mac(2), n, 70);
        let packet = rig.sealed("blue", "b", 1, &to_50(0));
        rig.from_underlay(&[packet]);
        rig.settle()
            .changes
            .expect_verdicts(&[("unknown-unicast", 1)]);
        rig.from_vlan(103, &[pattern(mac(2), mac(50), 0, 70)]);
        let out = rig.settle();
        rig.opened("blue", "b", &out.underlay[0]);
        let packet = rig.sealed("blue", "b", 2, &to_50(1));
        rig.from_underlay(&[packet]);
        assert_eq!(rig.settle().trunk, [(103, to_50(1))]);
        rig.wait("the control side knows", |s| {
            s.fdb
                .iter()
                .any(|e| e.mac == text(mac(50)) && e.destination == "blue-3")
        });
        // A remote tenant's and the other port's addresses stay theirs.
        for spoofed in [mac(2), mac(1)] {
            rig.from_vlan(103, &[pattern(mac(1), spoofed, 0, 70)]);
            rig.settle().changes.expect_verdicts(&[("spoofed-mac", 1)]);
        }
        // The other port does not learn.
        rig.from_vlan(101, &[pattern(mac(3), mac(60), 0, 70)]);
        let out = rig.settle();
        assert!(!out.changes.verdicts.is_empty());
        assert_eq!(learned(&rig), [(text(mac(50)), "blue-3".to_owned())]);
        rig.stop();
    });
}
