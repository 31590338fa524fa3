//! What else arrives on the underlay: clear tunnel packets, fragments, packets for others,
//! and what is the host kernel's, on a port without a tap.

use pmd_tests::changes::rx;
use pmd_tests::frames::{self, ethernet, ipv4, mac, pattern};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};
use pmd_tests::wire::{Encapsulation, Outer};

#[track_caller]
fn refused(rig: &mut Rig, packet: Vec<u8>, why: &str) {
    let len = packet.len();
    rig.from_underlay(&[packet]);
    let out = rig.settle();
    assert!(
        out.underlay.is_empty() && out.trunk.is_empty(),
        "{why}: {out:?}"
    );
    let expected = match why {
        "keepalive" => rx(1, len),
        _ => rx(1, len).dropped(1),
    };
    out.changes
        .expect_verdicts(&[(why, 1)])
        .expect_traffic(&[("port up0", expected)])
        .expect_books(1, 0, 0, 0);
}

fn clear_setup() -> Setup {
    let mut setup = Setup::with_c();
    let mut red = Vn::red();
    red.protection = "none";
    setup.vns.push(red);
    setup
}

fn clear(rig: &Rig, peer: &str) -> Outer {
    Outer {
        dport: 6081,
        ..rig.from(peer)
    }
}

#[test]
fn clear_packets_need_a_clear_network_and_a_listed_peer() {
    isolated(|| {
        let mut rig = Rig::start(clear_setup());
        let frame = pattern(mac(1), mac(2), 0, 100);
        let geneve = |vni| Encapsulation::Geneve.wrap(vni, &frame);
        let from_b = clear(&rig, "b");
        let stranger = Outer {
            src: [192, 0, 2, 99].into(),
            ..from_b
        };
        let vxlan = Outer {
            dport: 4789,
            ..from_b
        };
        refused(
            &mut rig,
            from_b.packet(&geneve(1001)),
            "clear-for-protected",
        );
        refused(
            &mut rig,
            stranger.packet(&geneve(1001)),
            "clear-for-protected",
        );
        refused(&mut rig, from_b.packet(&geneve(9)), "clear-unknown-vni");
        // `c` is a peer, but no edge of this network.
        let from_c = clear(&rig, "c");
        refused(&mut rig, from_c.packet(&geneve(2002)), "clear-unknown-peer");
        refused(
            &mut rig,
            stranger.packet(&geneve(2002)),
            "clear-unknown-peer",
        );
        let wrapped = Encapsulation::Vxlan.wrap(2002, &frame);
        refused(&mut rig, vxlan.packet(&wrapped), "tunnel-malformed");
        refused(
            &mut rig,
            from_b.packet(&geneve(2002)[..7]),
            "tunnel-malformed",
        );
        let mut wrong_sum = from_b.packet(&geneve(2002));
        wrong_sum[14 + 20 + 7] = 1;
        refused(&mut rig, wrong_sum, "udp-checksum");

        // Without a checksum and with the right one.
        let without = from_b.packet(&geneve(2002));
        let payload = geneve(2002);
        let datagram = frames::udp(from_b.src, from_b.dst, from_b.sport, 6081, &payload);
        let mut with = without.clone();
        with[40..42].copy_from_slice(&datagram[6..8]);
        let len = without.len();
        rig.from_underlay(&[without, with]);
        let out = rig.settle();
        assert_eq!(out.trunk, [(201, frame.clone()), (201, frame.clone())]);
        out.changes
            .expect_verdicts(&[("to-vlan", 2)])
            .expect_traffic(&[
                ("port red-1", pmd_tests::changes::tx(2, 200)),
                ("port up0", rx(2, 2 * len)),
                ("tunnel red/b", rx(2, 200)),
                ("vn red", pmd_tests::changes::tx(2, 200)),
            ]);

        // And out again: byte for byte.
        let frame = pattern(mac(2), mac(1), 0, 100);
        rig.from_vlan(201, std::slice::from_ref(&frame));
        let out = rig.settle();
        let (outer, payload) = Outer::parse(&out.underlay[0]);
        assert_eq!(outer.dport, 6081);
        assert!(outer.sport >= 49152);
        assert_eq!(payload, Encapsulation::Geneve.wrap(2002, &frame));
        rig.stop();
    });
}

/// The packet as a fragment: `field` is flags and offset.
fn fragment(packet: &[u8], field: u16) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[20..22].copy_from_slice(&field.to_be_bytes());
    packet[24..26].fill(0);
    let sum = frames::internet_checksum(&[&packet[14..34]]);
    packet[24..26].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn fragments_of_tunnel_packets_are_dropped() {
    isolated(|| {
        const MORE: u16 = 0x2000;
        let mut rig = Rig::start(clear_setup());
        let frame = pattern(mac(1), mac(2), 0, 100);
        let esp = rig.sealed("blue", "b", 1, &frame);
        let geneve = clear(&rig, "b").packet(&Encapsulation::Geneve.wrap(2002, &frame));
        for packet in [&esp, &geneve] {
            refused(&mut rig, fragment(packet, MORE), "underlay-fragment");
            refused(&mut rig, fragment(packet, 5), "underlay-fragment");
            refused(&mut rig, fragment(packet, MORE | 5), "underlay-fragment");
        }
        // Fragments of something else, from somebody else, are the kernel's.
        let other = Outer {
            src: [192, 0, 2, 99].into(),
            dport: 53,
            ..rig.from("b")
        };
        let packet = other.packet(&[0; 64]);
        refused(&mut rig, fragment(&packet, MORE), "no-exception-port");
        refused(&mut rig, fragment(&packet, 5), "no-exception-port");
        rig.from_underlay(&[esp]);
        assert_eq!(rig.settle().trunk, [(101, frame)]);
        rig.stop();
    });
}

#[test]
fn packets_for_others_are_dropped() {
    isolated(|| {
        let mut rig = Rig::start(clear_setup());
        let frame = pattern(mac(1), mac(2), 0, 100);
        let esp = {
            let payload = rig.overlay("blue", "b", &frame);
            rig.setup.inbound("blue", "b").seal(1, &payload)
        };
        let from = rig.from("b");
        let elsewhere = Outer {
            dst: [192, 0, 2, 77].into(),
            ..from
        };
        let other_station = Outer {
            dst_mac: mac(1),
            ..from
        };
        let stranger = Outer {
            src: [192, 0, 2, 99].into(),
            ..from
        };
        let other_peer = Outer {
            src: rig.from("c").src,
            ..from
        };
        let geneve = Outer {
            dport: 6081,
            ..elsewhere
        };
        refused(&mut rig, elsewhere.packet(&esp), "underlay-destination");
        let wrapped = Encapsulation::Geneve.wrap(2002, &frame);
        refused(&mut rig, geneve.packet(&wrapped), "underlay-destination");
        refused(&mut rig, other_station.packet(&esp), "not-for-us");
        for outer in [stranger, other_peer] {
            let packet = outer.packet(&esp);
            let len = packet.len();
            rig.from_underlay(&[packet]);
            let out = rig.settle();
            assert!(out.trunk.is_empty() && out.underlay.is_empty());
            out.changes
                .expect_verdicts(&[("wrong-peer", 1)])
                .expect_traffic(&[
                    ("port up0", rx(1, len).dropped(1)),
                    ("tunnel blue/b", rx(0, 0).dropped(1)),
                ]);
        }
        // None of them was taken for the real one.
        rig.from_underlay(&[from.packet(&esp)]);
        assert_eq!(rig.settle().trunk, [(101, frame)]);
        rig.stop();
    });
}

#[test]
fn the_kernels_packets_are_told_apart() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        let from = rig.from("b");
        // IKE behind the non-ESP marker (RFC 3948, 2.2), a keepalive (2.3), neither.
        refused(
            &mut rig,
            from.packet(&[0, 0, 0, 0, 1, 2, 3, 4, 5]),
            "no-exception-port",
        );
        refused(&mut rig, from.packet(&[0, 0, 0, 0]), "no-exception-port");
        refused(&mut rig, from.packet(&[0xff]), "keepalive");
        refused(&mut rig, from.packet(&[0xfe]), "esp-truncated");
        refused(&mut rig, from.packet(&[0xff, 0xff]), "esp-truncated");
        refused(&mut rig, from.packet(&[]), "esp-truncated");
        refused(&mut rig, from.packet(&[0, 0, 1]), "esp-truncated");
        let arp = ethernet([0xff; 6], from.src_mac, 0x0806, &[0; 28]);
        refused(&mut rig, arp, "no-exception-port");
        let other_stations = ethernet(mac(9), from.src_mac, 0x0806, &[0; 28]);
        refused(&mut rig, other_stations, "not-for-us");
        let dns = Outer { dport: 53, ..from };
        refused(&mut rig, dns.packet(&[0; 20]), "no-exception-port");
        let ping = ipv4(
            [192, 0, 2, 2].into(),
            [192, 0, 2, 1].into(),
            1,
            0,
            1,
            &[8, 0, 0xf7, 0xff],
        );
        let ping = ethernet(from.dst_mac, from.src_mac, 0x0800, &ping);
        refused(&mut rig, ping.clone(), "no-exception-port");
        let mut bad_sum = ping;
        bad_sum[24] ^= 1;
        refused(&mut rig, bad_sum, "malformed");
        rig.stop();
    });
}
