//! Frames longer than a buffer: chains are sealed and opened as they are, wherever the cuts
//! lie, and come out whole.

use pmd_tests::frames::{BROADCAST, mac, pattern};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::Setup;
use pmd_tests::wire::{Algorithm, Encapsulation};

fn jumbo() -> Setup {
    Setup {
        mtu: 9216,
        trunk_mtu: 9000,
        ..Setup::new()
    }
}

/// Lengths around every place where a buffer of 2048 bytes ends, for the tag, the headers
/// before the frame and the trailer behind it.
fn lengths() -> Vec<usize> {
    let mut lengths = vec![60, 1500, 9014];
    for buffers in 1..=4 {
        lengths.extend((buffers * 2048 - 150)..(buffers * 2048 + 40));
    }
    lengths
}

fn both_ways(setup: Setup) {
    let mut rig = Rig::start(setup);
    for (part, lengths) in lengths().chunks(32).enumerate() {
        let first = part as u64 * 32 + 1;
        let there: Vec<_> = lengths
            .iter()
            .map(|n| pattern(mac(2), mac(1), 1, *n))
            .collect();
        rig.from_vlan(101, &there);
        let back: Vec<_> = lengths
            .iter()
            .map(|n| pattern(mac(1), mac(2), 1, *n))
            .collect();
        let packets: Vec<_> = back
            .iter()
            .zip(first..)
            .map(|(f, seq)| rig.sealed("blue", "b", seq, f))
            .collect();
        rig.from_underlay(&packets);
        let out = rig.settle();
        assert_eq!(
            out.underlay.len(),
            there.len(),
            "{:?}",
            out.changes.verdicts
        );
        for ((packet, frame), seq) in out.underlay.iter().zip(there).zip(first..) {
            assert_eq!(rig.opened("blue", "b", packet), (seq, frame));
        }
        let expected: Vec<_> = back.into_iter().map(|f| (101, f)).collect();
        assert_eq!(out.trunk, expected);
        let n = lengths.len() as u64;
        out.changes
            .expect_verdicts(&[("to-underlay", n), ("to-vlan", n)]);
    }
    // Bits in the last buffer count, and forgeries are not let through there either.
    let seq = lengths().len() as u64 + 1;
    for at in [1, 17, 2100, 4200, 6300, 8300] {
        let frame = pattern(mac(1), mac(2), 1, 9000);
        let mut packet = rig.sealed("blue", "b", seq, &frame);
        let end = packet.len() - at;
        packet[end] ^= 0x10;
        rig.from_underlay(&[packet]);
        let out = rig.settle();
        assert!(out.trunk.is_empty());
        out.changes.expect_verdicts(&[("auth-failed", 1)]);
    }
    // Copies of a chain, and a chain from port to port.
    let all = pattern(BROADCAST, mac(1), 1, 9000);
    let local = pattern(mac(3), mac(1), 1, 9000);
    rig.from_vlan(101, &[all.clone(), local.clone()]);
    let out = rig.settle();
    assert_eq!(out.trunk, [(103, all.clone()), (103, local)]);
    assert_eq!(rig.opened("blue", "b", &out.underlay[0]), (seq, all));
    rig.stop();
}

#[test]
fn chains_cross_under_gcm() {
    isolated(|| both_ways(jumbo()));
}

#[test]
fn chains_cross_under_gmac() {
    isolated(|| {
        let mut setup = jumbo();
        (setup.vns[0].protection, setup.vns[0].algorithm) = ("integrity", Algorithm::Gmac128);
        both_ways(setup);
    });
}

#[test]
fn chains_cross_over_ipv6_with_checksums_in_vxlan() {
    isolated(|| {
        let mut setup = Setup {
            mtu: 9216,
            trunk_mtu: 9000,
            ..Setup::over_ipv6()
        };
        setup.peers[0].encapsulation = Encapsulation::Vxlan;
        both_ways(setup);
    });
}
