//! Changes of a running edge: each kind has its effect, the way back restores, and what is
//! sealed under a key that comes back bears no number twice.

use std::collections::BTreeSet;
use std::path::Path;

use pmd_tests::frames::{self, mac, pattern};
use pmd_tests::isolate::isolated;
use pmd_tests::live::{apply, edited, key_file, order, rollback, timeless};
use pmd_tests::rig::{Outcome, Rig};
use pmd_tests::setup::{Setup, Vn};
use pmd_tests::wire::{Outer, Sa};
use vswitch::manage::edge::Handle;

fn two_networks() -> Setup {
    Setup {
        vns: vec![Vn::blue(), Vn::red()],
        ..Setup::new()
    }
}

/// A rig, the text that it runs, and how to change it.
struct Live<'a> {
    rig: Rig,
    handle: Handle,
    dir: &'a Path,
    text: String,
}

impl<'a> Live<'a> {
    fn start(setup: Setup, dir: &'a Path) -> Self {
        let text = setup.yaml(dir);
        let rig = Rig::start_in(setup, dir);
        let handle = rig.handle();
        Live {
            rig,
            handle,
            dir,
            text,
        }
    }

    /// Applies the text with these replacements.
    #[track_caller]
    fn change(&mut self, replacements: &[(&str, &str)]) {
        let text = edited(&self.text, replacements);
        let applied = apply(&self.handle, &text, self.dir);
        assert!(!applied.diff.is_empty());
        self.rig.rebase();
    }

    /// Goes back, after which everything but counters is as before the change.
    #[track_caller]
    fn back(&mut self) {
        rollback(&self.handle, None);
        self.rig.rebase();
        let order = order(&self.text, self.dir);
        let diff =
            vswitch::manage::change::Diff::between(&self.handle.running().config, &order.config);
        assert!(diff.is_empty(), "{diff}");
    }

    fn vlan(&mut self, vid: u16, frame: &[u8]) -> Outcome {
        self.rig.from_vlan(vid, &[frame.to_vec()]);
        self.rig.settle()
    }

    fn underlay(&mut self, packet: Vec<u8>) -> Outcome {
        self.rig.from_underlay(&[packet]);
        self.rig.settle()
    }
}

#[test]
fn ports_come_and_go_and_change() {
    isolated("ports_come_and_go_and_change", || {
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
    isolated("networks_and_peers_come_and_go_and_change", || {
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

/// SPI and sequence number of each packet, opened with the SA that it must be of.
fn numbers(packets: &[Vec<u8>], sa: &Sa) -> Vec<(u32, u64)> {
    packets
        .iter()
        .map(|packet| {
            let (_, esp) = Outer::parse(packet);
            let (seq, _) = sa.open(&esp);
            (sa.spi, seq)
        })
        .collect()
}

#[test]
fn a_key_that_comes_back_uses_no_number_twice() {
    isolated("a_key_that_comes_back_uses_no_number_twice", || {
        let dir = tempfile::tempdir().expect("a directory");
        let setup = Setup {
            workers: 2,
            ..Setup::new()
        };
        let first = setup.outbound("blue", "b");
        let mut live = Live::start(setup, dir.path());
        let second = Sa::new(first.spi + 0x1000, first.algorithm);
        let file = key_file(&second, dir.path());
        let frames: Vec<_> = (0..50).map(|i| pattern(mac(2), mac(1), i, 100)).collect();
        let mut seen = BTreeSet::new();
        let mut send = |live: &mut Live<'_>, sa: &Sa| {
            live.rig.from_vlan(101, &frames);
            let out = live.rig.settle();
            assert_eq!(out.underlay.len(), frames.len());
            for used in numbers(&out.underlay, sa) {
                assert!(seen.insert(used), "{used:?} twice");
            }
        };
        send(&mut live, &first);
        let spi = format!("spi: {}\n", first.spi);
        let key = format!("key-file: {:x}.key", first.spi);
        let other = [
            (spi.as_str(), &*format!("spi: {}\n", second.spi)),
            (key.as_str(), &*format!("key-file: {file}")),
        ]
        .map(|(old, new)| (old.to_owned(), new.to_owned()));
        let other: Vec<(&str, &str)> = other.iter().map(|(o, n)| (&**o, &**n)).collect();
        for _ in 0..3 {
            live.change(&other);
            send(&mut live, &second);
            live.back();
            send(&mut live, &first);
        }
        // The same key sent with by the other worker, under another source port, and taken
        // away and given back.
        let owner = format!("direction: outbound\n    worker: 0\n    spi: {}", first.spi);
        let to_1 = owner.replace("worker: 0", "worker: 1");
        live.change(&[(&owner, &to_1)]);
        send(&mut live, &first);
        live.back();
        send(&mut live, &first);
        live.change(&[(
            "esp-source-port: auto, foreign: false",
            "esp-source-port: 4500, foreign: true",
        )]);
        send(&mut live, &first);
        live.back();
        let sa = live
            .text
            .find("  - vn: blue\n    peer: b\n    direction: outbound")
            .expect("an SA");
        let inbound = live
            .text
            .find("  - vn: blue\n    peer: b\n    direction: inbound")
            .expect("an SA");
        let without = live.text[..sa].to_owned() + &live.text[inbound..];
        apply(&live.handle, &without, dir.path());
        live.rig.rebase();
        live.vlan(101, &frames[0])
            .changes
            .expect_verdicts(&[("no-sa", 1)]);
        live.back();
        send(&mut live, &first);
        live.rig.stop();
    });
}

#[test]
fn what_was_received_under_a_key_is_not_received_again_when_it_comes_back() {
    isolated(
        "what_was_received_under_a_key_is_not_received_again_when_it_comes_back",
        || {
            let dir = tempfile::tempdir().expect("a directory");
            let setup = Setup {
                workers: 2,
                ..Setup::new()
            };
            let first = setup.inbound("blue", "b");
            let mut live = Live::start(setup, dir.path());
            let frame = pattern(mac(1), mac(2), 1, 100);
            let packets = |live: &Live<'_>, numbers: std::ops::Range<u64>| -> Vec<_> {
                numbers
                    .map(|seq| live.rig.sealed("blue", "b", seq, &frame))
                    .collect()
            };
            let mut received = 0;
            let mut receive = |live: &mut Live<'_>, n: u64| {
                if received > 0 {
                    let old = packets(live, 1..received + 1);
                    live.rig.from_underlay(&old);
                    let out = live.rig.settle();
                    assert!(out.trunk.is_empty(), "replayed");
                    let refused: u64 = ["replayed", "too-old"]
                        .iter()
                        .filter_map(|why| out.changes.verdicts.get(*why))
                        .sum();
                    assert_eq!(refused, old.len() as u64);
                }
                let new = packets(live, received + 1..received + n + 1);
                live.rig.from_underlay(&new);
                assert_eq!(live.rig.settle().trunk.len() as u64, n);
                received += n;
            };
            receive(&mut live, 40);
            // Away and back; with another worker; under a wider window.
            let spi = format!("spi: {}\n", first.spi);
            let key = format!("key-file: {:x}.key", first.spi);
            let second = Sa::new(first.spi + 0x1000, first.algorithm);
            let file = key_file(&second, dir.path());
            let (other_spi, other_key) = (
                format!("spi: {}\n", second.spi),
                format!("key-file: {file}"),
            );
            live.change(&[(&spi, &other_spi), (&key, &other_key)]);
            let packet = packets(&live, 41..42).remove(0);
            live.underlay(packet)
                .changes
                .expect_verdicts(&[("unknown-spi", 1)]);
            live.back();
            receive(&mut live, 40);
            let owner = format!("direction: inbound\n    worker: 0\n    spi: {}", first.spi);
            live.change(&[(&owner, &owner.replace("worker: 0", "worker: 1"))]);
            receive(&mut live, 40);
            live.back();
            receive(&mut live, 40);
            live.change(&[(&spi, &format!("{spi}    replay-window: 8192\n"))]);
            receive(&mut live, 40);
            live.rig.stop();
        },
    );
}

#[test]
fn a_key_is_replaced_without_a_loss_if_the_receiver_begins() {
    isolated(
        "a_key_is_replaced_without_a_loss_if_the_receiver_begins",
        || {
            let dir = tempfile::tempdir().expect("a directory");
            let mut live = Live::start(Setup::new(), dir.path());
            let first = live.rig.setup.inbound("blue", "b");
            let second = Sa::new(first.spi + 0x1000, first.algorithm);
            let file = key_file(&second, dir.path());
            let frame = pattern(mac(1), mac(2), 1, 100);
            let inner = live.rig.overlay("blue", "b", &frame);
            let outer = live.rig.from("b");
            let receive = |live: &mut Live<'_>, sa: &Sa, seq| {
                let packet = outer.packet(&sa.seal(seq, &inner));
                live.underlay(packet)
            };
            assert_eq!(receive(&mut live, &first, 1).trunk.len(), 1);
            // First the receiver has both.
            let both = live.text.clone()
                + &format!(
                    "  - {{vn: blue, peer: b, direction: inbound, spi: {}, algorithm: {}, key-file: \
                 {file}}}\n",
                    second.spi,
                    second.algorithm.name()
                );
            apply(&live.handle, &both, dir.path());
            live.rig.rebase();
            // What is under way under the old one and the new one, in any order.
            for (sa, seq) in [(&first, 2), (&second, 1), (&first, 3), (&second, 2)] {
                assert_eq!(
                    receive(&mut live, sa, seq).trunk.len(),
                    1,
                    "{} {seq}",
                    sa.spi
                );
            }
            // When the sender has the new one, the old one goes.
            let at = both.find("    direction: inbound\n").expect("an SA");
            let at = both[..at].rfind("  - vn: blue").expect("its start");
            let end = both.rfind("  - {vn: blue").expect("the new one");
            let only = both[..at].to_owned() + &both[end..];
            apply(&live.handle, &only, dir.path());
            live.rig.rebase();
            assert_eq!(receive(&mut live, &second, 3).trunk.len(), 1);
            let out = receive(&mut live, &first, 4);
            out.changes.expect_verdicts(&[("unknown-spi", 1)]);
            live.rig.stop();
        },
    );
}

#[test]
fn a_key_is_not_used_in_the_other_direction() {
    isolated("a_key_is_not_used_in_the_other_direction", || {
        let dir = tempfile::tempdir().expect("a directory");
        let mut live = Live::start(Setup::new(), dir.path());
        let (out, inb) = (
            live.rig.setup.outbound("blue", "b"),
            live.rig.setup.inbound("blue", "b"),
        );
        let (out, inb) = (format!("{:x}.key", out.spi), format!("{:x}.key", inb.spi));
        let before = timeless(live.rig.status());
        // Exchanged: either end would seal under numbers that the other has used.
        let text = edited(
            &live.text,
            &[(&out, "x.key"), (&inb, &out), ("x.key", &inb)],
        );
        let refused = pmd_tests::live::change(&live.handle, order(&text, dir.path()));
        let refused = refused.expect_err("refused").to_string();
        assert!(refused.contains("other direction"), "{refused}");
        assert_eq!(timeless(live.rig.status()), before);
        let sent = live.vlan(101, &pattern(mac(2), mac(1), 1, 100)).underlay;
        assert_eq!(
            live.rig.opened("blue", "b", &sent[0]).0,
            1,
            "nothing was used up"
        );
        live.rig.stop();
    });
}
