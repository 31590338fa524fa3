//! ESP from the underlay that is not what it should be: dropped under its reason, never
//! answered, never delivered, and the next good packet passes.

use std::collections::BTreeMap;

use pmd_tests::changes::rx;
use pmd_tests::frames::{BROADCAST, mac, pattern, tagged};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};
use pmd_tests::wire::{Algorithm, Craft, Encapsulation, Sa};

/// Lets one packet in and expects its end; nothing may come out of any port.
#[track_caller]
fn refused(rig: &mut Rig, packet: Vec<u8>, why: &str) {
    let len = packet.len();
    rig.from_underlay(&[packet]);
    let out = rig.settle();
    assert!(
        out.underlay.is_empty() && out.trunk.is_empty(),
        "{why}: {out:?}"
    );
    out.changes
        .expect_verdicts(&[(why, 1)])
        .expect_books(1, 0, 0, 0);
    assert_eq!(out.changes.traffic["port up0"].rx, (1, len as u64), "{why}");
}

/// A good packet arrives.
#[track_caller]
fn passes(rig: &mut Rig, seq: u64) {
    let frame = pattern(mac(1), mac(2), seq as u8, 90);
    let packet = rig.sealed("blue", "b", seq, &frame);
    rig.from_underlay(&[packet]);
    let out = rig.settle();
    assert_eq!(out.trunk, [(101, frame)], "{:?}", out.changes);
    out.changes.expect_verdicts(&[("to-vlan", 1)]);
}

#[test]
fn unknown_spis_are_dropped() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        let payload = rig.overlay("blue", "b", &pattern(mac(1), mac(2), 0, 90));
        let from = rig.from("b");
        for (spi, why) in [
            (0x7777, "unknown-spi"),
            // Our own outbound SPI is nobody's inbound.
            (0x1234_5600, "unknown-spi"),
            (u32::MAX, "unknown-spi"),
            (1, "spi-reserved"),
            (255, "spi-reserved"),
            (256, "unknown-spi"),
        ] {
            let sa = Sa::new(spi, Algorithm::Gcm256);
            let packet = from.packet(&sa.seal(1, &payload));
            let len = packet.len();
            rig.from_underlay(&[packet]);
            let out = rig.settle();
            assert!(out.underlay.is_empty() && out.trunk.is_empty());
            out.changes
                .expect_verdicts(&[(why, 1)])
                .expect_traffic(&[("port up0", rx(1, len).dropped(1))]);
        }
        passes(&mut rig, 1);
        rig.stop();
    });
}

#[test]
fn replays_are_dropped_once_seen_or_too_old() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        let sealed =
            |rig: &Rig, seq| rig.sealed("blue", "b", seq, &pattern(mac(1), mac(2), seq as u8, 90));
        passes(&mut rig, 7);
        let packet = sealed(&rig, 7);
        let len = packet.len();
        rig.from_underlay(&[packet]);
        let out = rig.settle();
        out.changes
            .expect_verdicts(&[("replayed", 1)])
            .expect_traffic(&[
                ("port up0", rx(1, len).dropped(1)),
                ("tunnel blue/b", rx(0, 0).dropped(1)),
            ]);
        // Two copies in one burst: both pass the first check, one the second.
        let twice = vec![
            sealed(&rig, 8),
            sealed(&rig, 8),
            sealed(&rig, 9),
            sealed(&rig, 8),
        ];
        rig.from_underlay(&twice);
        let out = rig.settle();
        assert_eq!(out.trunk.len(), 2);
        out.changes
            .expect_verdicts(&[("replayed", 2), ("to-vlan", 2)]);
        // The window is 1024 wide: 5000 - 1023 is in it, 5000 - 1024 is not.
        passes(&mut rig, 5000);
        passes(&mut rig, 5000 - 1023);
        for (seq, why) in [
            (5000 - 1023, "replayed"),
            (5000 - 1024, "too-old"),
            (1, "too-old"),
        ] {
            let packet = sealed(&rig, seq);
            refused(&mut rig, packet, why);
        }
        // No packet has the number zero.
        let packet = sealed(&rig, 0);
        refused(&mut rig, packet, "replayed");
        // Beyond 32 bits, back and forth over the edge of the lower half.
        passes(&mut rig, (1 << 32) + 5);
        passes(&mut rig, (1 << 32) - 5);
        passes(&mut rig, 1 << 32);
        passes(&mut rig, 7 << 32);
        let status = rig.stop();
        let sa = status
            .sas
            .iter()
            .find(|sa| sa.direction == "inbound")
            .expect("an SA");
        assert_eq!((sa.sequence, sa.replayed, sa.auth_failed), (7 << 32, 7, 0));
    });
}

#[test]
fn no_bit_can_be_changed() {
    isolated(|| tamper("confidential", Algorithm::Gcm128));
}

#[test]
fn no_bit_can_be_changed_under_gmac() {
    isolated(|| tamper("integrity", Algorithm::Gmac256));
}

fn tamper(protection: &'static str, algorithm: Algorithm) {
    let mut setup = Setup::new();
    (setup.vns[0].protection, setup.vns[0].algorithm) = (protection, algorithm);
    let mut rig = Rig::start(setup);
    let payload = rig.overlay("blue", "b", &pattern(mac(1), mac(2), 0, 90));
    let (sa, from) = (rig.setup.inbound("blue", "b"), rig.from("b"));
    let good = sa.seal(3, &payload);
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    let mut packets = Vec::new();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        packets.push(from.packet(&bad));
        let why = match bit / 8 {
            0..4 => "unknown-spi",
            // Number and IV contradict one another.
            4..8 | 12..16 => "iv-mismatch",
            _ => "auth-failed",
        };
        *expected.entry(why).or_default() += 1;
    }
    for part in packets.chunks(512) {
        rig.from_underlay(part);
        let out = rig.settle();
        assert!(out.underlay.is_empty() && out.trunk.is_empty());
        for (why, n) in &out.changes.verdicts {
            let left = expected
                .get_mut(why.as_str())
                .unwrap_or_else(|| panic!("{why}"));
            *left -= n;
        }
    }
    assert!(expected.values().all(|left| *left == 0), "{expected:?}");
    // The forged high number did not move the window.
    passes(&mut rig, 3);
    rig.stop();
}

#[test]
fn truncated_packets_are_dropped_at_any_length() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        let payload = rig.overlay("blue", "b", &pattern(mac(1), mac(2), 0, 90));
        let (sa, from) = (rig.setup.inbound("blue", "b"), rig.from("b"));
        let esp = sa.seal(1, &payload);
        // The datagram is cut, its headers agree.
        let cut: Vec<_> = (0..esp.len()).map(|n| from.packet(&esp[..n])).collect();
        let forged = (0..esp.len()).filter(|n| *n >= 36 && n % 4 == 0).count() as u64;
        rig.from_underlay(&cut);
        let out = rig.settle();
        assert!(out.underlay.is_empty() && out.trunk.is_empty());
        let rest = cut.len() as u64 - forged;
        out.changes
            .expect_verdicts(&[("auth-failed", forged), ("esp-truncated", rest)]);
        // The frame is cut, its headers contradict it.
        let whole = from.packet(&esp);
        let cut: Vec<_> = (1..whole.len()).map(|n| whole[..n].to_vec()).collect();
        rig.from_underlay(&cut);
        let out = rig.settle();
        assert!(out.underlay.is_empty() && out.trunk.is_empty());
        out.changes
            .expect_verdicts(&[("malformed", cut.len() as u64)]);
        // Trailing bytes beyond the IP packet (Ethernet's padding) do no harm.
        rig.from_underlay(&[[&whole[..], &[0; 9]].concat()]);
        rig.settle().changes.expect_verdicts(&[("to-vlan", 1)]);
        passes(&mut rig, 2);
        rig.stop();
    });
}

#[test]
fn what_esp_carries_is_checked() {
    isolated(|| {
        let mut setup = Setup::with_c();
        setup.vns.push(Vn::red());
        let mut rig = Rig::start(setup);
        let (sa, from) = (rig.setup.inbound("blue", "b"), rig.from("b"));
        let frame = pattern(mac(1), mac(2), 0, 90);
        let right = rig.overlay("blue", "b", &frame);
        let geneve = |vni, frame: &[u8]| Encapsulation::Geneve.datagram(vni, frame);
        let spoofed = |src| geneve(1001, &pattern(mac(1), src, 0, 90));
        let with = |at: usize, byte: u8| {
            let mut payload = right.clone();
            payload[at] = byte;
            payload
        };
        // Geneve with one option of four bytes; its type says whether it is critical.
        let option = |ty: u8| {
            let inner = Encapsulation::Geneve.wrap(1001, &frame);
            let geneve = [&[1, 0][..], &inner[2..8], &[0x01, 0x02, ty, 0], &inner[8..]].concat();
            let len = ((8 + geneve.len()) as u16).to_be_bytes();
            [&[0x17, 0xc1, 0x17, 0xc1][..], &len, &[0, 0], &geneve].concat()
        };
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (geneve(1002, &frame), "wrong-vni"),
            // A VN that is here, but not this SA's.
            (geneve(2002, &frame), "wrong-vni"),
            (
                Encapsulation::Vxlan.datagram(1001, &frame),
                "tunnel-malformed",
            ),
            // Version, control bit, protocol, UDP length too long and too short, port.
            (with(8, 0x40), "tunnel-malformed"),
            (with(9, 0x80), "tunnel-malformed"),
            (with(10, 0x66), "tunnel-malformed"),
            (with(4, 0xff), "tunnel-malformed"),
            (with(5, 0x07), "tunnel-malformed"),
            (with(3, 0x00), "tunnel-malformed"),
            (right[..12].to_vec(), "tunnel-malformed"),
            (vec![], "tunnel-malformed"),
            (option(0x81), "geneve-critical"),
            ([&right[..], &[0, 0, 0, 1]].concat(), "tfc-padding"),
            // Inner sources: a local tenant's, another peer's, nobody's, a group's.
            (spoofed(mac(1)), "spoofed-remote"),
            (spoofed(mac(4)), "spoofed-remote"),
            (spoofed(mac(77)), "spoofed-remote"),
            (spoofed(BROADCAST), "spoofed-remote"),
            (spoofed([0; 6]), "spoofed-remote"),
            (geneve(1001, &frame[..13]), "malformed"),
            (geneve(1001, &tagged(5, &frame)), "unexpected-vlan"),
        ];
        let mut seq = 0;
        for (payload, why) in cases {
            seq += 1;
            let packet = from.packet(&sa.seal(seq, &payload));
            refused(&mut rig, packet, why);
        }
        // An option that is not critical is skipped, zero padding behind the datagram too.
        for payload in [option(0x01), [&right[..], &[0; 40]].concat()] {
            seq += 1;
            rig.from_underlay(&[from.packet(&sa.seal(seq, &payload))]);
            let out = rig.settle();
            assert_eq!(
                out.trunk,
                [(101, frame.clone())],
                "{:?}",
                out.changes.verdicts
            );
        }
        let text = right.len() + 2;
        let aligned = (4 - text % 4) % 4;
        let padded = |bytes: Vec<u8>| Some(bytes);
        for (craft, why) in [
            (
                Craft {
                    iv: 1,
                    ..Craft::right(seq + 1)
                },
                "iv-mismatch",
            ),
            (
                Craft {
                    next_header: 59,
                    ..Craft::right(seq + 2)
                },
                "esp-next-header",
            ),
            (
                Craft {
                    next_header: 4,
                    ..Craft::right(seq + 3)
                },
                "esp-next-header",
            ),
            (
                Craft {
                    padding: padded(vec![0; aligned + 4]),
                    ..Craft::right(seq + 4)
                },
                "esp-padding",
            ),
            (
                Craft {
                    padding: padded((2..aligned as u8 + 6).collect()),
                    ..Craft::right(seq + 5)
                },
                "esp-padding",
            ),
        ] {
            let packet = from.packet(&sa.craft(&craft, &right));
            refused(&mut rig, packet, why);
        }
        // More padding than needed is allowed (RFC 4303, 2.4), if it counts up.
        let craft = Craft {
            padding: padded((1..aligned as u8 + 9).collect()),
            ..Craft::right(seq + 6)
        };
        rig.from_underlay(&[from.packet(&sa.craft(&craft, &right))]);
        assert_eq!(rig.settle().trunk, [(101, frame)]);
        passes(&mut rig, seq + 7);
        rig.stop();
    });
}
