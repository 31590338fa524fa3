//! Changes of a running edge: each kind has its effect, and the way back restores.

use pmd_tests::frames::{self, mac, pattern};
use pmd_tests::isolate::isolated;
use pmd_tests::live::{Live, apply};
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};

fn two_networks() -> Setup {
    Setup {
        vns: vec![Vn::blue(), Vn::red()],
        ..Setup::new()
    }
}

#[test]
fn ports_come_and_go_and_change() {
    isolated(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let mut live = Live::start(two_networks(), dir.path());
        let to_1 = pattern(mac(1), mac(5), 1, 100);
        let to_3 = pattern(mac(3), mac(1), 1, 100);
        let to_5 = pattern(mac(5), mac(1), 1, 100);
        let unexpected = &[("unexpected-vlan", 1)][..];

        live.vlan(105, &to_1).changes.expect_verdicts(unexpected);
        let new = "ports:\n  - name: blue-5\n    vn: blue\n    vlan: {device: trunk0, vid: 105}\n    \
                   addresses: [{mac: \"52:54:00:00:00:05\"}]\n  - name: blue-1\n";
        live.change(&[("ports:\n  - name: blue-1\n", new)]);
        assert_eq!(live.vlan(105, &to_1).trunk, [(101, to_1.clone())]);
        assert_eq!(live.vlan(101, &to_5).trunk, [(105, to_5.clone())]);
        live.back();
        live.vlan(105, &to_1).changes.expect_verdicts(unexpected);
        let out = live.vlan(101, &to_5);
        out.changes.expect_verdicts(&[("unknown-unicast", 1)]);

        // Another VLAN, then its former one is another port's.
        live.change(&[("vid: 103}", "vid: 113}")]);
        assert_eq!(live.vlan(101, &to_3).trunk, [(113, to_3.clone())]);
        let from_3 = pattern(mac(1), mac(3), 1, 100);
        live.vlan(103, &from_3).changes.expect_verdicts(unexpected);
        assert_eq!(live.vlan(113, &from_3).trunk, [(101, from_3.clone())]);
        live.back();
        assert_eq!(live.vlan(103, &from_3).trunk, [(101, from_3.clone())]);

        // Two exchange their VLANs at once.
        live.change(&[
            ("vid: 103}", "vid: X}"),
            ("vid: 101}", "vid: 103}"),
            ("vid: X}", "vid: 101}"),
        ]);
        assert_eq!(live.vlan(103, &to_3).trunk, [(101, to_3.clone())]);
        live.back();
        assert_eq!(live.vlan(101, &to_3).trunk, [(103, to_3.clone())]);

        // The other network's port, which has the same addresses.
        live.change(&[("    vn: red\n    vlan: {device: trunk0, vid: 203}", "    vn: blue\n    vlan: {device: trunk0, vid: 203}"),
            ("203}\n    learning: false\n    bum-rate: 100000\n    addresses: [{mac: \"52:54:00:00:00:03\"}]",
             "203}\n    learning: false\n    bum-rate: 100000\n    addresses: [{mac: \"52:54:00:00:00:06\"}]")]);
        let to_6 = pattern(mac(6), mac(1), 1, 100);
        assert_eq!(live.vlan(101, &to_6).trunk, [(203, to_6.clone())]);
        let out = live.vlan(201, &to_3);
        out.changes.expect_verdicts(&[("unknown-unicast", 1)]);
        live.back();
        assert_eq!(live.vlan(201, &to_3).trunk, [(203, to_3.clone())]);

        // Rates: the burst is one second's.
        let broadcast = pattern(frames::BROADCAST, mac(1), 1, 100);
        live.change(&[(
            "101}\n    learning: false\n    bum-rate: 100000",
            "101}\n    learning: false\n    bum-rate: 3",
        )]);
        live.rig.from_vlan(101, &vec![broadcast; 40]);
        let dropped = live.rig.settle().changes.verdicts["bum-rate"];
        // A few more while the test goes on.
        assert!((30..=37).contains(&dropped), "{dropped}");
        live.back();
        live.rig.stop();
    });
}

#[test]
fn networks_and_peers_come_and_go_and_change() {
    isolated(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let mut live = Live::start(two_networks(), dir.path());
        let out_2 = pattern(mac(2), mac(1), 1, 100);
        let in_1 = pattern(mac(1), mac(2), 1, 100);
        let seal = |rig: &Rig, vn: &str, seq| rig.sealed(vn, "b", seq, &in_1);

        // Another VNI on the wire.
        live.change(&[("vni: 1001", "vni: 1005")]);
        let old = seal(&live.rig, "blue", 1);
        live.underlay(old)
            .changes
            .expect_verdicts(&[("wrong-vni", 1)]);
        live.rig.setup.vns[0].vni = 1005;
        let new = seal(&live.rig, "blue", 2);
        assert_eq!(live.underlay(new).trunk, [(101, in_1.clone())]);
        let sent = live.vlan(101, &out_2).underlay;
        assert_eq!(live.rig.opened("blue", "b", &sent[0]).1, out_2);
        live.rig.setup.vns[0].vni = 1001;
        live.back();
        let sent = live.vlan(101, &out_2).underlay;
        assert_eq!(live.rig.opened("blue", "b", &sent[0]).1, out_2);

        // Unknown unicast is flooded, and no more.
        let to_9 = pattern(mac(9), mac(1), 1, 100);
        live.change(&[(
            "vni: 1001\n    protection: confidential\n    unknown-unicast: drop",
            "vni: 1001\n    protection: confidential\n    unknown-unicast: flood",
        )]);
        let out = live.vlan(101, &to_9);
        assert_eq!(
            (out.trunk.as_slice(), out.underlay.len()),
            (&[(103, to_9.clone())][..], 1)
        );
        live.back();
        let out = live.vlan(101, &to_9);
        out.changes.expect_verdicts(&[("unknown-unicast", 1)]);

        // The peer moves; packets from where it was are refused.
        let moved = [
            (
                "- {address: \"192.0.2.2\", mac: \"02:00:00:00:00:02\"}",
                "- {address: \"192.0.2.9\", mac: \"02:00:00:00:00:09\"}",
            ),
            ("addresses: [\"192.0.2.2\"]", "addresses: [\"192.0.2.9\"]"),
        ];
        let before = seal(&live.rig, "blue", 3);
        live.change(&moved);
        live.rig.wait("the peer's new next hop", |s| {
            s.tunnels
                .iter()
                .all(|t| t.remote == Some([192, 0, 2, 9].into()) && t.state == "up")
        });
        live.underlay(before)
            .changes
            .expect_verdicts(&[("wrong-peer", 1)]);
        live.rig.setup.peers[0].address = [192, 0, 2, 9].into();
        live.rig.setup.peers[0].mac = [2, 0, 0, 0, 0, 9];
        let packet = seal(&live.rig, "blue", 3);
        assert_eq!(live.underlay(packet).trunk, [(101, in_1.clone())]);
        let sent = live.vlan(101, &out_2).underlay;
        assert_eq!(live.rig.opened("blue", "b", &sent[0]).1, out_2);
        live.rig.setup.peers[0] = Setup::peer("b", 2);
        live.back();
        live.rig.wait("the peer's former next hop", |s| {
            s.tunnels
                .iter()
                .all(|t| t.remote == Some([192, 0, 2, 2].into()) && t.state == "up")
        });
        let sent = live.vlan(101, &out_2).underlay;
        assert_eq!(live.rig.opened("blue", "b", &sent[0]).1, out_2);

        // The network goes: its ports, its tunnel, its SAs; and comes back.
        let smaller = Setup::new().yaml(dir.path());
        apply(&live.handle, &smaller, dir.path());
        live.rig.rebase();
        assert_eq!(live.rig.status().vns.len(), 1);
        live.vlan(201, &out_2)
            .changes
            .expect_verdicts(&[("unexpected-vlan", 1)]);
        let packet = seal(&live.rig, "red", 1);
        live.underlay(packet)
            .changes
            .expect_verdicts(&[("unknown-spi", 1)]);
        let packet = seal(&live.rig, "blue", 4);
        assert_eq!(live.underlay(packet).trunk, [(101, in_1.clone())]);
        live.back();
        let packet = seal(&live.rig, "red", 1);
        assert_eq!(live.underlay(packet).trunk, [(201, in_1.clone())]);
        let sent = live.vlan(201, &out_2).underlay;
        assert_eq!(live.rig.opened("red", "b", &sent[0]).1, out_2);

        // A third edge with a tenant, its keys and its neighbour entry.
        let mut larger = two_networks();
        larger.peers.push(Setup::peer("c", 3));
        larger.vns[0].edges.push("c");
        larger.vns[0].mappings.push((mac(4), "c"));
        let to_4 = pattern(mac(4), mac(1), 1, 100);
        let out = live.vlan(101, &to_4);
        out.changes.expect_verdicts(&[("unknown-unicast", 1)]);
        apply(&live.handle, &larger.yaml(dir.path()), dir.path());
        live.rig.rebase();
        let was = std::mem::replace(&mut live.rig.setup, larger);
        live.rig
            .wait("a next hop", |s| s.tunnels.iter().all(|t| t.state == "up"));
        let sent = live.vlan(101, &to_4).underlay;
        assert_eq!(live.rig.opened("blue", "c", &sent[0]).1, to_4);
        let from_4 = pattern(mac(1), mac(4), 1, 100);
        let packet = live.rig.sealed("blue", "c", 1, &from_4);
        assert_eq!(live.underlay(packet).trunk, [(101, from_4)]);
        live.rig.setup = was;
        live.back();
        let out = live.vlan(101, &to_4);
        out.changes.expect_verdicts(&[("unknown-unicast", 1)]);

        // Identifiers come back into use: the arrays of the workers do not grow for ever.
        for _ in 0..3 {
            apply(&live.handle, &smaller, dir.path());
            live.back();
        }
        let history = live.handle.running().history.clone();
        assert!(
            history
                .windows(2)
                .all(|pair| pair[0].number + 1 == pair[1].number)
        );
        live.rig.stop();
    });
}
