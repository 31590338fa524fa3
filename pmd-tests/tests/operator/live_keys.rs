//! Manual keys of a running edge: what is sealed under a key that comes back bears no number
//! twice, what was received under it is not received again, and it is replaced without a loss.

use std::collections::BTreeSet;

use pmd_tests::frames::{mac, pattern};
use pmd_tests::isolate::isolated;
use pmd_tests::live::{Live, apply, edited, key_file, order, timeless};
use pmd_tests::setup::Setup;
use pmd_tests::wire::{Outer, Sa};

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
    isolated(|| {
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
    isolated(|| {
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
    });
}

#[test]
fn a_key_is_replaced_without_a_loss_if_the_receiver_begins() {
    isolated(|| {
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
    });
}

#[test]
fn a_key_is_not_used_in_the_other_direction() {
    isolated(|| {
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
