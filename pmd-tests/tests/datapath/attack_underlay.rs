//! Whoever has no key: fragments, clear tunnel packets for protected networks, unknown SPIs,
//! in both families. All of it ends here under its reason, nothing is answered, nothing is
//! the host kernel's. Every counter is checked.

use pmd_tests::changes::tx;
use pmd_tests::discovery::{self as nd, fragment};
use pmd_tests::frames::{self, ethernet, internet_checksum, mac, pattern, tagged};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};
use pmd_tests::tally::Tally;
use pmd_tests::wire::{Algorithm, Encapsulation, Outer, Sa};

/// Plays packets; each must be dropped for its reason, at the port's charge.
#[track_caller]
fn dropped(rig: &mut Rig, packets: &[(Vec<u8>, &'static str)]) {
    for part in packets.chunks(500) {
        let mut tally = Tally::new();
        let mut frames = Vec::new();
        for (packet, why) in part {
            tally.underlay_drop(packet.len(), why);
            frames.push(packet.clone());
        }
        rig.from_underlay(&frames);
        let out = rig.settle();
        tally.check(&out.changes);
        assert!(out.underlay.is_empty() && out.trunk.is_empty());
    }
}

#[track_caller]
fn passes(rig: &mut Rig, seq: u64) {
    let frame = pattern(mac(1), mac(2), 0, 90);
    let packet = rig.sealed("blue", "b", seq, &frame);
    let mut tally = Tally::new();
    tally.delivered(packet.len(), ("blue", "b"), "blue-1", 90);
    rig.from_underlay(&[packet]);
    let out = rig.settle();
    tally.check(&out.changes);
    assert_eq!(out.trunk, [(101, frame)]);
}

/// Blue, protected, and red, in the clear.
fn with_clear(mut setup: Setup) -> Setup {
    setup.vns.push(Vn {
        protection: "none",
        ..Vn::red()
    });
    setup
}

/// The IPv4 packet in two fragments, the first with `first` bytes behind the header.
fn in_two(packet: &[u8], first: usize) -> [Vec<u8>; 2] {
    let (head, body) = packet.split_at(34);
    let part = |bytes: &[u8], field: u16| {
        let mut head = head.to_vec();
        head[16..18].copy_from_slice(&((20 + bytes.len()) as u16).to_be_bytes());
        head[20..22].copy_from_slice(&field.to_be_bytes());
        head[24..26].fill(0);
        let sum = internet_checksum(&[&head[14..34]]);
        head[24..26].copy_from_slice(&sum.to_be_bytes());
        [&head[..], bytes].concat()
    };
    let more = 0x2000;
    [
        part(&body[..first], more),
        part(&body[first..], (first / 8) as u16),
    ]
}

#[test]
fn fragments_over_ipv4() {
    isolated(|| {
        let mut rig = Rig::start(with_clear(Setup::new()));
        let frame = pattern(mac(1), mac(2), 0, 90);
        let esp = rig.sealed("blue", "b", 1, &frame);
        let clear = Outer {
            dport: 6081,
            ..rig.from("b")
        };
        let clear = clear.packet(&Encapsulation::Geneve.wrap(2002, &frame));
        let vxlan = Outer {
            dport: 4789,
            ..rig.from("b")
        };
        let vxlan = vxlan.packet(&Encapsulation::Vxlan.wrap(2002, &frame));
        let mut packets = Vec::new();
        for packet in [&esp, &clear, &vxlan] {
            for first in (8..packet.len() - 34).step_by(8) {
                packets.extend(in_two(packet, first).map(|part| (part, "underlay-fragment")));
            }
            // A first fragment that ends inside the UDP header (RFC 1858): no port to read.
            let [tiny, _] = in_two(packet, 4);
            packets.push((tiny, "malformed"));
            // The last offset there is, and one that overlaps the header.
            for offset in [1, 0x1fff] {
                let [mut part, _] = in_two(packet, 16);
                part[20..22].copy_from_slice(&(0x2000 | offset as u16).to_be_bytes());
                part[24..26].fill(0);
                let sum = internet_checksum(&[&part[14..34]]);
                part[24..26].copy_from_slice(&sum.to_be_bytes());
                packets.push((part, "underlay-fragment"));
            }
        }
        dropped(&mut rig, &packets);
        passes(&mut rig, 1);
        rig.stop();
    });
}

/// The IPv6 packet with `body` of type `next` in place of its UDP datagram.
fn rewritten(packet: &[u8], next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = [&packet[..54], body].concat();
    packet[18..20].copy_from_slice(&(body.len() as u16).to_be_bytes());
    packet[20] = next;
    packet
}

#[test]
fn fragments_over_ipv6() {
    isolated(|| {
        const UDP: u8 = 17;
        let mut rig = Rig::start(with_clear(Setup::over_ipv6()));
        let frame = pattern(mac(1), mac(2), 0, 90);
        let esp = rig.sealed("blue", "b", 1, &frame);
        let clear = Outer {
            dport: 6081,
            ..rig.from("b")
        };
        let clear = clear.packet(&Encapsulation::Geneve.wrap(2002, &frame));
        let mut packets = Vec::new();
        for packet in [&esp, &clear] {
            let udp = &packet[54..];
            for at in (8..udp.len()).step_by(8) {
                let first = fragment(UDP, 0, true, &udp[..at]);
                let rest = fragment(UDP, (at / 8) as u16, false, &udp[at..]);
                for part in [first, rest] {
                    packets.push((rewritten(packet, nd::FRAGMENT, &part), "underlay-fragment"));
                }
            }
            // The UDP header behind options, in the unfragmentable and the fragmentable part.
            let (next, behind) = nd::chain(&[nd::DESTINATION], UDP, udp);
            let part = fragment(next, 0, true, &behind[..48]);
            packets.push((rewritten(packet, nd::FRAGMENT, &part), "underlay-fragment"));
            let part = fragment(UDP, 0, true, &udp[..48]);
            let (next, behind) = nd::chain(&[nd::HOP_BY_HOP], nd::FRAGMENT, &part);
            packets.push((rewritten(packet, next, &behind), "underlay-fragment"));
            // All headers must be in the first fragment (RFC 7112).
            let (next, behind) = nd::chain(&[nd::DESTINATION, nd::DESTINATION], UDP, udp);
            let part = fragment(next, 0, true, &behind[..8]);
            packets.push((rewritten(packet, nd::FRAGMENT, &part), "malformed"));
            // Two fragment headers.
            let part = fragment(nd::FRAGMENT, 0, true, &fragment(UDP, 0, true, &udp[..48]));
            packets.push((rewritten(packet, nd::FRAGMENT, &part), "malformed"));
        }
        dropped(&mut rig, &packets);
        // An "atomic" fragment is a whole packet (RFC 6946), options say nothing here.
        let mut tally = Tally::new();
        let mut wholes = Vec::new();
        for (seq, headers) in [
            (1, &[nd::FRAGMENT][..]),
            (2, &[nd::HOP_BY_HOP, nd::DESTINATION]),
        ] {
            let packet = rig.sealed("blue", "b", seq, &frame);
            let (next, body) = match headers {
                [nd::FRAGMENT] => (nd::FRAGMENT, fragment(UDP, 0, false, &packet[54..])),
                _ => nd::chain(headers, UDP, &packet[54..]),
            };
            wholes.push(rewritten(&packet, next, &body));
        }
        for packet in &wholes {
            tally.delivered(packet.len(), ("blue", "b"), "blue-1", 90);
        }
        rig.from_underlay(&wholes);
        let out = rig.settle();
        tally.check(&out.changes);
        assert_eq!(out.trunk, [(101, frame.clone()), (101, frame)]);
        rig.stop();
    });
}

/// Clear tunnel packets into protected networks, from everyone, by every encapsulation.
fn injected(setup: Setup) {
    let mut rig = Rig::start(with_clear(setup));
    let frame = pattern(mac(1), mac(2), 0, 90);
    let b = rig.from("b");
    let stranger = match b.src.is_ipv4() {
        true => [192, 0, 2, 99].into(),
        false => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99].into(),
    };
    let mut packets = Vec::new();
    for src in [b.src, stranger] {
        let to = |dport| Outer { src, dport, ..b };
        for (encapsulation, port) in [(Encapsulation::Geneve, 6081), (Encapsulation::Vxlan, 4789)] {
            let clear = |vni| to(port).packet(&encapsulation.wrap(vni, &frame));
            packets.push((clear(1001), "clear-for-protected"));
            packets.push((clear(1), "clear-unknown-vni"));
            packets.push((clear(0xff_ffff), "clear-unknown-vni"));
            let short = encapsulation.wrap(1001, &[]);
            packets.push((to(port).packet(&short), "clear-for-protected"));
            for len in 0..8 {
                packets.push((to(port).packet(&short[..len]), "tunnel-malformed"));
            }
        }
        // To the other's port: neither header is taken for the other.
        let vxlan = Encapsulation::Vxlan.wrap(1001, &frame);
        packets.push((to(6081).packet(&vxlan), "tunnel-malformed"));
        let geneve = Encapsulation::Geneve.wrap(1001, &frame);
        packets.push((to(4789).packet(&geneve), "tunnel-malformed"));
        // In the port of ESP it is ESP: the VNI's header is an SPI.
        packets.push((to(4500).packet(&geneve), "unknown-spi"));
        // Red is in the clear, but a stranger is no edge of it, and b's encapsulation is Geneve.
        let why = if src == b.src {
            "tunnel-malformed"
        } else {
            "clear-unknown-peer"
        };
        packets.push((
            to(4789).packet(&Encapsulation::Vxlan.wrap(2002, &frame)),
            why,
        ));
    }
    dropped(&mut rig, &packets);

    // Into red, in the clear as it asks for: as a member, but not in another's name.
    let clear = Outer { dport: 6081, ..b };
    for (src, why) in [(mac(1), "spoofed-remote"), (mac(4), "spoofed-remote")] {
        let packet = clear.packet(&Encapsulation::Geneve.wrap(2002, &pattern(mac(1), src, 0, 90)));
        let mut tally = Tally::new();
        tally.inner_drop(packet.len(), ("red", "b"), 90, why);
        rig.from_underlay(&[packet]);
        let out = rig.settle();
        tally.check(&out.changes);
        assert!(out.trunk.is_empty());
    }
    // Red's clear packet does not lead to blue's tenant of the same address.
    let packet = clear.packet(&Encapsulation::Geneve.wrap(2002, &frame));
    rig.from_underlay(std::slice::from_ref(&packet));
    let out = rig.settle();
    assert_eq!(out.trunk, [(201, frame)]);
    assert_eq!(out.changes.traffic["port red-1"], tx(1, 90));
    passes(&mut rig, 1);
    rig.stop();
}

#[test]
fn clear_packets_injected_over_ipv4() {
    isolated(|| injected(Setup::new()));
}

#[test]
fn clear_packets_injected_over_ipv6() {
    isolated(|| injected(Setup::over_ipv6()));
}

/// A thousand SPIs that nobody has, around the ones that there are and all over.
fn unknown_spis(setup: Setup) {
    let mut rig = Rig::start(setup);
    let text = rig.overlay("blue", "b", &pattern(mac(1), mac(2), 0, 90));
    let known = rig.setup.inbound("blue", "b").spi;
    let from = rig.from("b");
    let around = (1..64).flat_map(|i| [known.wrapping_add(i), known.wrapping_sub(i)]);
    let spread = (1..900u32).map(|i| i.wrapping_mul(0x9e37_79b9));
    let reserved = 1..256;
    let own = std::iter::once(rig.setup.outbound("blue", "b").spi);
    let mut packets = Vec::new();
    for spi in around
        .chain(spread)
        .chain(own)
        .chain([256, u32::MAX])
        .chain(reserved)
    {
        let sa = Sa::new(spi, Algorithm::Gcm256);
        let why = if spi < 256 {
            "spi-reserved"
        } else {
            "unknown-spi"
        };
        assert_ne!(spi, known);
        packets.push((from.packet(&sa.seal(1, &text)), why));
    }
    // Short of a whole packet, it is still nobody's.
    for len in 8..36 {
        let esp = Sa::new(0x7777, Algorithm::Gcm256).seal(1, &text);
        packets.push((from.packet(&esp[..len]), "unknown-spi"));
    }
    dropped(&mut rig, &packets);
    // Tagged frames are no packets of an untagged underlay.
    let good = rig.sealed("blue", "b", 1, &pattern(mac(1), mac(2), 0, 90));
    dropped(
        &mut rig,
        &[
            (tagged(0, &good), "unexpected-vlan"),
            (tagged(101, &good), "unexpected-vlan"),
            (tagged(0, &tagged(0, &good)), "unexpected-vlan"),
            (
                ethernet(from.dst_mac, from.src_mac, 0x88a8, &good[12..]),
                "unexpected-vlan",
            ),
        ],
    );
    passes(&mut rig, 1);
    rig.stop();
}

#[test]
fn unknown_spis_over_ipv4() {
    isolated(|| unknown_spis(Setup::new()));
}

#[test]
fn unknown_spis_over_ipv6() {
    isolated(|| unknown_spis(Setup::over_ipv6()));
}

#[test]
fn what_is_not_for_the_overlay_is_not_taken_for_it() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        let (b, good) = (
            rig.from("b"),
            rig.sealed("blue", "b", 1, &pattern(mac(1), mac(2), 0, 90)),
        );
        let esp = &good[42..];
        let (src, dst) = ([192, 0, 2, 2].into(), [192, 0, 2, 1].into());
        let ip = |protocol, body: &[u8]| {
            let packet = frames::ipv4(src, dst, protocol, frames::DF, 0, body);
            ethernet(b.dst_mac, b.src_mac, 0x0800, &packet)
        };
        let mut options = good.clone();
        // Sixteen bytes of options (NOP), so that the UDP header is further back.
        options.splice(34..34, [1; 16]);
        options[14] = 0x49;
        options[16..18].copy_from_slice(&((good.len() - 14 + 16) as u16).to_be_bytes());
        options[24..26].fill(0);
        let sum = internet_checksum(&[&options[14..50]]);
        options[24..26].copy_from_slice(&sum.to_be_bytes());
        dropped(
            &mut rig,
            &[
                // ESP without UDP, UDP-Lite, the packet within a packet, TCP to the port.
                (ip(50, esp), "no-exception-port"),
                (ip(136, &good[34..]), "no-exception-port"),
                (ip(4, &good[14..]), "no-exception-port"),
                (ip(6, &good[34..]), "no-exception-port"),
                // The ports exchanged, and that of NAT traversal's beginning.
                (
                    Outer {
                        sport: 4500,
                        dport: 50_000,
                        ..b
                    }
                    .packet(esp),
                    "no-exception-port",
                ),
                (Outer { dport: 500, ..b }.packet(esp), "no-exception-port"),
            ],
        );
        // IP options are legal and say nothing.
        let mut tally = Tally::new();
        tally.delivered(options.len(), ("blue", "b"), "blue-1", 90);
        rig.from_underlay(&[options]);
        tally.check(&rig.settle().changes);
        passes(&mut rig, 2);
        rig.stop();
    });
}
