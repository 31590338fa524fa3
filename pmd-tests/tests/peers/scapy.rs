//! ESP + Geneve and ESP + VXLAN with scapy, both directions, across 2³².
//!
//! Independent here: every header and the AES-GCM of scapy 2.5 (which has it from OpenSSL). A
//! packet that the switch sends is opened by scapy, and written by scapy once more, which must
//! give the same bytes; a packet that scapy seals is taken by the switch.

use pmd_tests::frames::{mac, pattern};
use pmd_tests::isolate::isolated;
use pmd_tests::records;
use pmd_tests::rig::Rig;
use pmd_tests::scapy::{Decoded, Scapy};
use pmd_tests::setup::Setup;
use pmd_tests::wire::{Algorithm, Encapsulation, Outer};

const BOUNDARY: u64 = 1 << 32;

/// Frames of every length of padding, numbered from `first`.
fn both_ways(setup: Setup, first: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let (out, inn) = (setup.outbound("blue", "b"), setup.inbound("blue", "b"));
    records::goes_on_at(&dir.path().join("state"), &out, first);
    let encapsulation = setup.peer_named("b").encapsulation;
    let esn = setup.esn;
    let mut rig = Rig::start_in(setup, dir.path());
    let mut scapy = Scapy::start();
    let lengths = [14, 60, 61, 62, 63, 512, 1388];
    for (len, seq) in lengths.into_iter().zip(first..) {
        let frame = pattern(mac(2), mac(1), 3, len);
        rig.from_vlan(101, std::slice::from_ref(&frame));
        let sent = rig.settle().underlay;
        let [packet] = &sent[..] else {
            panic!("{} packets", sent.len());
        };
        let high = (seq >> 32) as u32;
        let decoded = scapy.decode(&out, packet, high, esn).expect("the ICV");
        let from_b = rig.from("b");
        let outer = Outer {
            src_mac: from_b.dst_mac,
            dst_mac: from_b.src_mac,
            src: from_b.dst,
            dst: from_b.src,
            ..decoded.outer
        };
        let expected = Decoded {
            outer,
            spi: out.spi,
            seq: seq as u32,
            iv: seq,
            encapsulation,
            vni: 1001,
            frame: frame.clone(),
        };
        assert_eq!(decoded, expected, "{len}");
        assert_eq!(outer.dport, 4500);
        // The upper half is authenticated: with another one scapy refuses it.
        let other = scapy.decode(&out, packet, high ^ 1, esn);
        assert_eq!(other.is_none(), esn, "{len}");
        let again = scapy.encode(&outer, &out, seq, seq, esn, encapsulation, 1001, &frame);
        assert_eq!(hex::encode(again), hex::encode(packet), "{len}");

        let frame = pattern(mac(1), mac(2), 5, len);
        let mut seal =
            |seq, iv, esn| scapy.encode(&from_b, &inn, seq, iv, esn, encapsulation, 1001, &frame);
        // As the one above, but not authenticated with its upper half, or with another.
        let wrong = [seal(seq, seq, !esn), seal(seq ^ BOUNDARY, seq, true)];
        rig.from_underlay(&wrong);
        let out = rig.settle();
        out.changes.expect_verdicts(&[("auth-failed", 2)]);
        assert!(out.trunk.is_empty());
        rig.from_underlay(&[seal(seq, seq, esn)]);
        let out = rig.settle();
        assert_eq!(out.trunk, [(101, frame)], "{len}");
        out.changes.expect_verdicts(&[("to-vlan", 1)]);
    }
    rig.stop();
}

#[test]
fn scapy_geneve_in_aes_256_gcm_across_the_boundary() {
    isolated(|| {
        both_ways(Setup::new(), BOUNDARY - 3);
    });
}

#[test]
fn scapy_vxlan_in_aes_128_gcm_across_the_boundary() {
    isolated(|| {
        let mut setup = Setup::new();
        setup.vns[0].algorithm = Algorithm::Gcm128;
        setup.peers[0].encapsulation = Encapsulation::Vxlan;
        both_ways(setup, BOUNDARY - 3);
    });
}

#[test]
fn scapy_geneve_in_aes_128_gcm_over_ipv6_across_the_boundary() {
    isolated(|| {
        let mut setup = Setup::over_ipv6();
        setup.vns[0].algorithm = Algorithm::Gcm128;
        both_ways(setup, BOUNDARY - 3);
    });
}

#[test]
fn scapy_vxlan_in_aes_256_gcm_over_ipv6_with_short_numbers() {
    isolated(|| {
        let mut setup = Setup::over_ipv6();
        setup.peers[0].encapsulation = Encapsulation::Vxlan;
        setup.peers[0].foreign = true;
        setup.esn = false;
        both_ways(setup, 1);
    });
}
