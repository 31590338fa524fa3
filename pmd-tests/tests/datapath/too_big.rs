//! Frames too large for the overlay: answered with the ICMP message that the RFCs have for
//! it, byte for byte, and the largest that fits passes.

use std::net::IpAddr;

use pmd_tests::changes::rx;
use pmd_tests::frames::{
    DF, ethernet, internet_checksum, ip4, ip6, ipv4, ipv6, mac, pattern, udp4, udp6, upper_checksum,
};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::Setup;

/// Of 1500: IPv4 20, UDP 8, ESP 8, IV 8, ICV 16 leave 1440, a multiple of 4; two of it are
/// the trailer; UDP 8 and Geneve 8.
const FRAME_V4: usize = 1440 - 2 - 16;
/// IPv6 takes 20 more.
const FRAME_V6: usize = FRAME_V4 - 20;

/// RFC 792 and 1191: type 3, code 4, next-hop MTU; the packet, 576 bytes in all.
fn fragmentation_needed(frame: &[u8], mtu: u16) -> Vec<u8> {
    let quote = &frame[14..(14 + 576 - 28).min(frame.len())];
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(quote);
    let sum = internet_checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    // From the address that it was sent to.
    ethernet(
        mac(1),
        mac(2),
        0x0800,
        &ipv4(ip4(2), ip4(1), 1, DF, 0, &message),
    )
}

/// RFC 4443, 3.2: type 2, MTU, as much of the packet as fits 1280 bytes.
fn packet_too_big(frame: &[u8], mtu: u16) -> Vec<u8> {
    let quote = &frame[14..(14 + 1280 - 48).min(frame.len())];
    let mut message = vec![2, 0, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(quote);
    let (src, dst) = (IpAddr::from(ip6(2)), IpAddr::from(ip6(1)));
    let sum = upper_checksum(src, dst, 58, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ethernet(mac(1), mac(2), 0x86dd, &ipv6(ip6(2), ip6(1), 58, &message))
}

fn answers(setup: Setup, largest: usize) {
    let mut rig = Rig::start(setup);
    let mtu = largest as u16 - 14;
    assert_eq!(
        rig.status().vns[0].mtu,
        mtu,
        "what `show ports` tells the operator"
    );
    // The largest fits to the byte.
    for frame in [
        udp4(1, 2, DF, largest),
        udp6(1, 2, largest),
        pattern(mac(2), mac(1), 0, largest),
    ] {
        rig.from_vlan(101, std::slice::from_ref(&frame));
        let out = rig.settle();
        assert!(out.underlay[0].len() <= 14 + 1500 && out.underlay[0].len() > 14 + 1496);
        assert_eq!(rig.opened("blue", "b", &out.underlay[0]).1, frame);
        assert!(out.trunk.is_empty());
    }
    // One byte more is answered.
    for len in [largest + 1, largest + 60, 1514] {
        for (frame, answer) in [
            (
                udp4(1, 2, DF, len),
                fragmentation_needed(&udp4(1, 2, DF, len), mtu),
            ),
            (udp6(1, 2, len), packet_too_big(&udp6(1, 2, len), mtu)),
        ] {
            rig.from_vlan(101, &[frame]);
            let out = rig.settle();
            assert!(out.underlay.is_empty());
            let [(101, got)] = &out.trunk[..] else {
                panic!("{out:?}")
            };
            assert_eq!(hex(got), hex(&answer));
            out.changes
                .expect_verdicts(&[("to-vlan", 1), ("too-big", 1)])
                .expect_traffic(&[
                    ("port blue-1", rx(1, len).dropped(1).tx(1, answer.len())),
                    ("vn blue", rx(1, len).dropped(1)),
                ])
                .expect_books(1, 1, 0, 0);
        }
    }
    // No message exists for these: IPv4 that may be fragmented, no IP, ICMP errors.
    let error = ipv4(
        ip4(1),
        ip4(2),
        1,
        DF,
        0,
        &[&[3, 1, 0, 0][..], &[0; 1450]].concat(),
    );
    for frame in [
        udp4(1, 2, 0, 1514),
        pattern(mac(2), mac(1), 0, 1514),
        ethernet(mac(2), mac(1), 0x0800, &error),
    ] {
        rig.from_vlan(101, &[frame]);
        let out = rig.settle();
        assert!(out.underlay.is_empty() && out.trunk.is_empty());
        out.changes
            .expect_verdicts(&[("too-big", 1)])
            .expect_books(1, 0, 0, 0);
    }
    // Between two ports of this edge it is not too big.
    let local = pattern(mac(3), mac(1), 0, 1514);
    rig.from_vlan(101, std::slice::from_ref(&local));
    assert_eq!(rig.settle().trunk, [(103, local)]);
    rig.stop();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn tenants_are_told_over_ipv4() {
    isolated(|| answers(Setup::new(), FRAME_V4));
}

#[test]
fn tenants_are_told_over_ipv6() {
    isolated(|| answers(Setup::over_ipv6(), FRAME_V6));
}

#[test]
fn answers_are_limited() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        let frames: Vec<_> = (0..500).map(|_| udp4(1, 2, DF, 1514)).collect();
        rig.from_vlan(101, &frames);
        let out = rig.settle();
        let answers = out.trunk.len() as u64;
        // A hundred a second, and at most a second's worth at once.
        assert!((100..=150).contains(&answers), "{answers}");
        out.changes
            .expect_verdicts(&[("to-vlan", answers), ("too-big", 500)]);
        out.changes.expect_books(500, answers, 0, 0);
        rig.stop();
    });
}
