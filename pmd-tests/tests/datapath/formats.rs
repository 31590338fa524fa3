//! The wire format in all its variants; `Rig::opened` compares every byte with what the RFCs
//! say, written out by hand.

use std::collections::BTreeSet;

use pmd_tests::frames::{mac, pattern, udp4};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};
use pmd_tests::wire::{Algorithm, Craft, Encapsulation, Outer};

/// Frames of many lengths, so that every length of padding occurs, in both directions.
fn both_ways(setup: Setup) {
    let mut rig = Rig::start(setup);
    let lengths = [14, 15, 16, 17, 60, 61, 62, 63, 64, 512, 1400];
    let mut ports = BTreeSet::new();
    for (len, seq) in lengths.into_iter().zip(1..) {
        let frame = pattern(mac(2), mac(1), 3, len);
        rig.from_vlan(101, std::slice::from_ref(&frame));
        let out = rig.settle();
        assert_eq!(out.underlay.len(), 1, "{len}: {:?}", out.changes.verdicts);
        assert_eq!(rig.opened("blue", "b", &out.underlay[0]), (seq, frame));
        ports.insert(Outer::parse(&out.underlay[0]).0.sport);
        let frame = pattern(mac(1), mac(2), 3, len);
        let packet = rig.sealed("blue", "b", seq, &frame);
        rig.from_underlay(&[packet]);
        assert_eq!(rig.settle().trunk, [(101, frame)], "{len}");
    }
    // Constant for an SA, whatever is inside.
    assert_eq!(ports.len(), 1);
    assert!(ports.iter().all(|port| *port >= 49152));
    rig.stop();
}

#[test]
fn geneve_in_aes_128_gcm() {
    isolated(|| {
        let mut setup = Setup::new();
        setup.vns[0].algorithm = Algorithm::Gcm128;
        both_ways(setup);
    });
}

#[test]
fn vxlan_in_aes_256_gcm() {
    isolated(|| {
        let mut setup = Setup::new();
        setup.peers[0].encapsulation = Encapsulation::Vxlan;
        both_ways(setup);
    });
}

#[test]
fn geneve_in_aes_256_gmac() {
    isolated(|| {
        let mut setup = Setup::new();
        (setup.vns[0].protection, setup.vns[0].algorithm) = ("integrity", Algorithm::Gmac256);
        both_ways(setup);
    });
}

#[test]
fn vxlan_in_aes_128_gmac_over_ipv6() {
    isolated(|| {
        let mut setup = Setup::over_ipv6();
        (setup.vns[0].protection, setup.vns[0].algorithm) = ("integrity", Algorithm::Gmac128);
        setup.peers[0].encapsulation = Encapsulation::Vxlan;
        both_ways(setup);
    });
}

#[test]
fn geneve_in_aes_256_gcm_over_ipv6() {
    isolated(|| both_ways(Setup::over_ipv6()));
}

#[test]
fn clear_vxlan_over_ipv6_has_a_checksum() {
    isolated(|| {
        let mut setup = Setup::over_ipv6();
        setup.vns[0].protection = "none";
        setup.peers[0].encapsulation = Encapsulation::Vxlan;
        let mut rig = Rig::start(setup);
        for len in [14, 61, 62, 700, 1400] {
            let frame = pattern(mac(2), mac(1), 3, len);
            rig.from_vlan(101, std::slice::from_ref(&frame));
            let out = rig.settle();
            let (outer, payload) = Outer::parse(&out.underlay[0]);
            assert_eq!(outer.dport, 4789);
            assert_eq!(payload, Encapsulation::Vxlan.wrap(1001, &frame));
            let back = pattern(mac(1), mac(2), 3, len);
            let from = Outer {
                dport: 4789,
                ..rig.from("b")
            };
            rig.from_underlay(&[from.packet(&Encapsulation::Vxlan.wrap(1001, &back))]);
            assert_eq!(rig.settle().trunk, [(101, back)]);
        }
        rig.stop();
    });
}

#[test]
fn networks_have_their_own_keys_and_ports() {
    isolated(|| {
        let mut setup = Setup::with_c();
        setup.vns.push(Vn::red());
        let mut rig = Rig::start(setup);
        let mut sports = BTreeSet::new();
        for (vid, vn, tenant, peer) in [
            (101, "blue", 2, "b"),
            (101, "blue", 4, "c"),
            (201, "red", 2, "b"),
        ] {
            let frame = udp4(1, tenant, 0, 100);
            rig.from_vlan(vid, std::slice::from_ref(&frame));
            let out = rig.settle();
            assert_eq!(rig.opened(vn, peer, &out.underlay[0]), (1, frame));
            sports.insert(Outer::parse(&out.underlay[0]).0.sport);
        }
        assert_eq!(sports.len(), 3, "ECMP and RSS tell them apart");
        rig.stop();
    });
}

#[test]
fn a_foreign_peer_may_choose_ivs_and_has_its_port() {
    isolated(|| {
        let mut setup = Setup::new();
        setup.peers[0].foreign = true;
        setup.peers[0].esp_source_port = "4500";
        let mut rig = Rig::start(setup);
        let frame = pattern(mac(2), mac(1), 3, 100);
        rig.from_vlan(101, std::slice::from_ref(&frame));
        let out = rig.settle();
        assert_eq!(Outer::parse(&out.underlay[0]).0.sport, 4500);
        assert_eq!(rig.opened("blue", "b", &out.underlay[0]), (1, frame));

        // Any IV; the upper half of the number is inferred, across its boundary too.
        let (sa, from) = (rig.setup.inbound("blue", "b"), rig.from("b"));
        let back = pattern(mac(1), mac(2), 3, 100);
        let payload = rig.overlay("blue", "b", &back);
        for seq in [1, 2, 1 << 31, (1 << 32) - 1, (1 << 32) + 1, 1 << 32] {
            let craft = Craft {
                iv: 0xdead_beef_0000_0000 ^ seq,
                ..Craft::right(seq)
            };
            rig.from_underlay(&[from.packet(&sa.craft(&craft, &payload))]);
            let out = rig.settle();
            assert_eq!(
                out.trunk,
                [(101, back.clone())],
                "{seq}: {:?}",
                out.changes.verdicts
            );
        }
        let craft = Craft {
            iv: 77,
            ..Craft::right((1 << 32) + 1)
        };
        rig.from_underlay(&[from.packet(&sa.craft(&craft, &payload))]);
        rig.settle().changes.expect_verdicts(&[("replayed", 1)]);
        rig.stop();
    });
}
