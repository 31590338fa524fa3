//! From tenants to tenants and peers: each frame where it belongs, and every counter.

use pmd_tests::changes::{Counts, rx, tx};
use pmd_tests::frames::{BROADCAST, mac, pattern, tagged};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};

/// Bytes of an underlay packet around a frame: Ethernet, IPv4, UDP, SPI and sequence number,
/// IV, UDP, Geneve; then the frame, padding to four, two bytes of trailer, ICV.
fn sealed_len(frame: usize) -> usize {
    let text = (16 + frame + 2).next_multiple_of(4);
    14 + 20 + 8 + 8 + 8 + text + 16
}

#[test]
fn known_unicast_stays_local() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        let frames: Vec<_> = (0..40).map(|i| pattern(mac(3), mac(1), i, 100)).collect();
        rig.from_vlan(101, &frames);
        let out = rig.settle();
        assert!(out.underlay.is_empty());
        let expected: Vec<_> = frames.into_iter().map(|f| (103, f)).collect();
        assert_eq!(out.trunk, expected);
        out.changes
            .expect_verdicts(&[("to-vlan", 40)])
            .expect_traffic(&[
                ("port blue-1", rx(40, 4000)),
                ("port blue-3", tx(40, 4000)),
                ("vn blue", rx(40, 4000)),
            ])
            .expect_books(40, 0, 0, 0);
        rig.stop();
    });
}

#[test]
fn known_unicast_crosses_in_both_directions() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        let there: Vec<_> = (0..70)
            .map(|i| pattern(mac(2), mac(1), i, 60 + i as usize))
            .collect();
        rig.from_vlan(101, &there);
        let out = rig.settle();
        assert!(out.trunk.is_empty());
        let opened: Vec<_> = out
            .underlay
            .iter()
            .map(|p| rig.opened("blue", "b", p))
            .collect();
        let expected: Vec<_> = there
            .iter()
            .cloned()
            .zip(1..)
            .map(|(f, n)| (n, f))
            .collect();
        assert_eq!(opened, expected, "in order, numbered from one");
        let bytes = there.iter().map(Vec::len).sum();
        let outer = there.iter().map(|f| sealed_len(f.len())).sum();
        out.changes
            .expect_verdicts(&[("to-underlay", 70)])
            .expect_traffic(&[
                ("port blue-1", rx(70, bytes)),
                ("port up0", tx(70, outer)),
                ("tunnel blue/b", tx(70, bytes)),
                ("vn blue", rx(70, bytes)),
            ])
            .expect_books(70, 0, 0, 0);

        let back: Vec<_> = (0..70)
            .map(|i| pattern(mac(1), mac(2), i, 60 + i as usize))
            .collect();
        let packets: Vec<_> = back
            .iter()
            .zip(1..)
            .map(|(f, n)| rig.sealed("blue", "b", n, f))
            .collect();
        rig.from_underlay(&packets);
        let out = rig.settle();
        assert!(out.underlay.is_empty());
        let expected: Vec<_> = back.into_iter().map(|f| (101, f)).collect();
        assert_eq!(out.trunk, expected);
        out.changes
            .expect_verdicts(&[("to-vlan", 70)])
            .expect_traffic(&[
                ("port blue-1", tx(70, bytes)),
                ("port up0", rx(70, outer)),
                ("tunnel blue/b", rx(70, bytes)),
                ("vn blue", tx(70, bytes)),
            ])
            .expect_books(70, 0, 0, 0);
        let status = rig.stop();
        let sas: Vec<_> = status
            .sas
            .iter()
            .map(|sa| (sa.direction.as_str(), sa.spi, sa.packets, sa.sequence))
            .collect();
        assert_eq!(
            sas,
            [
                ("outbound", 0x1234_5600, 70, 71),
                ("inbound", 0x2345_6700, 70, 70)
            ]
        );
    });
}

#[test]
fn broadcast_is_copied_for_every_port_and_edge() {
    isolated(|| {
        let mut rig = Rig::start(Setup::with_c());
        let frame = pattern(BROADCAST, mac(1), 9, 64);
        rig.from_vlan(101, std::slice::from_ref(&frame));
        let out = rig.settle();
        assert_eq!(
            out.trunk,
            [(103, frame.clone())],
            "to the other port, not back"
        );
        let [to_b, to_c] = &out.underlay[..] else {
            panic!("{:?}", out.underlay)
        };
        assert_eq!(rig.opened("blue", "b", to_b), (1, frame.clone()));
        assert_eq!(rig.opened("blue", "c", to_c), (1, frame.clone()));
        out.changes
            .expect_verdicts(&[("to-underlay", 2), ("to-vlan", 1)])
            .expect_traffic(&[
                ("port blue-1", rx(1, 64)),
                ("port blue-3", tx(1, 64)),
                ("port up0", tx(2, 2 * sealed_len(64))),
                ("tunnel blue/b", tx(1, 64)),
                ("tunnel blue/c", tx(1, 64)),
                ("vn blue", rx(1, 64)),
            ])
            .expect_books(1, 0, 2, 0);

        // From a peer: to the ports here, never to another peer.
        let frame = pattern([0x33, 0x33, 0, 0, 0, 1], mac(2), 9, 64);
        let packet = rig.sealed("blue", "b", 1, &frame);
        rig.from_underlay(&[packet]);
        let out = rig.settle();
        assert_eq!(out.trunk, [(101, frame.clone()), (103, frame)]);
        assert!(out.underlay.is_empty());
        out.changes
            .expect_verdicts(&[("to-vlan", 2)])
            .expect_books(1, 0, 1, 0);
        rig.stop();
    });
}

#[test]
fn unknown_unicast_is_dropped_by_default_and_flooded_by_request() {
    isolated(|| {
        let mut setup = Setup::new();
        let mut red = Vn::red();
        red.unknown_unicast = "flood";
        setup.vns.push(red);
        let mut rig = Rig::start(setup);
        let frame = pattern(mac(99), mac(1), 0, 64);
        rig.from_vlan(101, std::slice::from_ref(&frame));
        let out = rig.settle();
        assert!(out.underlay.is_empty() && out.trunk.is_empty());
        out.changes
            .expect_verdicts(&[("unknown-unicast", 1)])
            .expect_traffic(&[
                ("port blue-1", rx(1, 64).dropped(1)),
                ("vn blue", rx(1, 64).dropped(1)),
            ]);

        rig.from_vlan(201, std::slice::from_ref(&frame));
        let out = rig.settle();
        assert_eq!(out.trunk, [(203, frame.clone())]);
        assert_eq!(rig.opened("red", "b", &out.underlay[0]), (1, frame));
        out.changes
            .expect_verdicts(&[("to-underlay", 1), ("to-vlan", 1)])
            .expect_books(1, 0, 1, 0);
        rig.stop();
    });
}

#[test]
fn frames_that_go_nowhere_say_why() {
    isolated(|| {
        let mut rig = Rig::start(Setup::with_c());
        for (vid, frame, why) in [
            (101, pattern(mac(1), mac(9), 0, 64), "same-port"),
            (
                101,
                pattern([1, 0x80, 0xc2, 0, 0, 0x0e], mac(1), 0, 64),
                "link-local-group",
            ),
            (101, pattern(mac(3), mac(2), 0, 64), "spoofed-mac"),
            (101, pattern(mac(3), mac(3), 0, 64), "spoofed-mac"),
            (101, pattern(mac(3), BROADCAST, 0, 64), "spoofed-mac"),
            (
                101,
                tagged(5, &pattern(mac(3), mac(1), 0, 64)),
                "unexpected-vlan",
            ),
            (101, vec![0x52; 13], "malformed"),
        ] {
            let len = frame.len();
            rig.from_vlan(vid, &[frame]);
            let out = rig.settle();
            assert!(out.underlay.is_empty() && out.trunk.is_empty(), "{why}");
            out.changes.expect_verdicts(&[(why, 1)]);
            let port = out.changes.traffic["port blue-1"];
            assert_eq!(port, rx(1, len).dropped(1), "{why}");
        }
        // A VLAN that nobody attached, and no VLAN at all.
        rig.from_vlan(999, &[pattern(mac(3), mac(1), 0, 64)]);
        rig.from_trunk(&[pattern(mac(3), mac(1), 0, 64)]);
        let out = rig.settle();
        out.changes
            .expect_verdicts(&[("unexpected-vlan", 2)])
            .expect_traffic(&[]);
        assert!(out.trunk.is_empty());
        // From a peer for a tenant of another peer.
        let packet = rig.sealed("blue", "b", 1, &pattern(mac(4), mac(2), 0, 64));
        rig.from_underlay(&[packet]);
        let out = rig.settle();
        assert!(out.underlay.is_empty());
        out.changes.expect_verdicts(&[("split-horizon", 1)]);
        rig.stop();
    });
}

#[test]
fn the_same_addresses_in_two_networks_stay_apart() {
    isolated(|| {
        let mut setup = Setup::new();
        setup.vns.push(Vn::red());
        let mut rig = Rig::start(setup);
        for (vn, vid, other_local) in [("blue", 101, 103), ("red", 201, 203)] {
            let local = pattern(mac(3), mac(1), vid as u8, 80);
            let remote = pattern(mac(2), mac(1), vid as u8, 80);
            let all = pattern(BROADCAST, mac(1), vid as u8, 80);
            rig.from_vlan(vid, &[local.clone(), remote.clone(), all.clone()]);
            let out = rig.settle();
            assert_eq!(
                out.trunk,
                [(other_local, local), (other_local, all.clone())]
            );
            let opened: Vec<_> = out
                .underlay
                .iter()
                .map(|p| rig.opened(vn, "b", p))
                .collect();
            assert_eq!(opened, [(1, remote), (2, all)]);

            let back = pattern(mac(1), mac(2), vid as u8, 80);
            let packet = rig.sealed(vn, "b", 1, &back);
            rig.from_underlay(&[packet]);
            assert_eq!(rig.settle().trunk, [(vid, back)]);
        }
        rig.stop();
    });
}

#[test]
fn broadcasts_are_policed_per_port() {
    isolated(|| {
        let mut setup = Setup::new();
        setup.vns[0].ports[0].bum_rate = 10;
        let mut rig = Rig::start(setup);
        let all: Vec<_> = (0..200)
            .map(|i| pattern(BROADCAST, mac(1), i, 64))
            .collect();
        rig.from_vlan(101, &all);
        let out = rig.settle();
        let admitted = out.trunk.len() as u64;
        // The burst, and what the time that this takes is worth.
        assert!((10..=40).contains(&admitted), "{admitted}");
        out.changes.expect_verdicts(&[
            ("bum-rate", 200 - admitted),
            ("to-underlay", admitted),
            ("to-vlan", admitted),
        ]);
        let counts: Counts = out.changes.traffic["port blue-1"];
        assert_eq!(counts, rx(200, 200 * 64).dropped(200 - admitted));
        out.changes.expect_books(200, 0, admitted, 0);
        // The other port and known unicast are not affected.
        rig.from_vlan(103, &[pattern(BROADCAST, mac(3), 0, 64)]);
        rig.from_vlan(101, &[pattern(mac(3), mac(1), 0, 64)]);
        let out = rig.settle();
        out.changes
            .expect_verdicts(&[("to-underlay", 1), ("to-vlan", 2)]);
        rig.stop();
    });
}
