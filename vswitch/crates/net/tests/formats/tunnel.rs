//! Geneve and VXLAN in UDP, and ESP's lengths and classification.

use std::net::Ipv6Addr;

use proptest::prelude::*;
use vswitch_net::esp::{self, UdpPayload};
use vswitch_net::tunnel::{self, Tunnel, TunnelError};
use vswitch_net::{Encapsulation, Vni};

use crate::build;
use crate::vectors::{self, bytes};

fn vni(value: u32) -> Vni {
    Vni::new(value).unwrap()
}

fn encapsulation() -> impl Strategy<Value = Encapsulation> {
    prop::sample::select(vec![Encapsulation::Geneve, Encapsulation::Vxlan])
}

#[test]
fn known_packets() {
    let arp = bytes(vectors::ARP_REPLY);
    for (hex, offset, encapsulation) in [
        (vectors::GENEVE4, 34, Encapsulation::Geneve),
        (vectors::VXLAN4, 34, Encapsulation::Vxlan),
        (vectors::GENEVE6, 54, Encapsulation::Geneve),
    ] {
        let packet = bytes(hex);
        let payload = &packet[offset..];
        let found = tunnel::parse_tunnel(payload, payload.len()).unwrap();
        let expected = Tunnel {
            vni: vni(0x010203),
            encapsulation,
            inner: 16,
            end: 58,
        };
        assert_eq!(found, expected);
        assert_eq!(payload[found.inner..found.end], arp);
        // The same octets come out of the writer, but for IPv6's checksum.
        let mut head = [0xff; 16];
        let len = encapsulation.write(&mut head, 50000, vni(0x010203), arp.len());
        assert_eq!(len, Some(16));
        if offset == 54 {
            let (src, dst): (Ipv6Addr, Ipv6Addr) = (
                "2001:db8::a".parse().unwrap(),
                "2001:db8::b".parse().unwrap(),
            );
            tunnel::set_udp_checksum_v6(&mut head, &[&arp[..5], &arp[5..]], src, dst).unwrap();
        }
        assert_eq!(head, payload[..16]);
    }
}

#[test]
fn geneve_options() {
    let packet = bytes(vectors::GENEVE_OPTS);
    let parse = |packet: &[u8]| {
        tunnel::parse_clear(Encapsulation::Geneve, packet, packet.len())
            .map(|t| (t.vni.get(), t.inner))
    };
    assert_eq!(parse(&packet), Ok((7, 20)));
    let patched = |at: usize, with: u8| {
        let mut packet = packet.clone();
        packet[at] = with;
        parse(&packet)
    };
    assert_eq!(patched(10, 0x80), Err(TunnelError::CriticalOption));
    assert_eq!(patched(18, 0x83), Err(TunnelError::CriticalOption));
    // An option beyond the options; options beyond the packet.
    assert_eq!(patched(11, 3), Err(TunnelError::Options));
    assert_eq!(patched(0, 0x3f), Err(TunnelError::Truncated));
    assert_eq!(patched(0, 0x43), Err(TunnelError::Version));
    assert_eq!(patched(1, 0x80), Err(TunnelError::Control));
    // The C bit alone says nothing about options we look at ourselves.
    assert_eq!(patched(1, 0x40), Ok((7, 20)));
    assert_eq!(patched(3, 0x59), Err(TunnelError::Protocol));
    assert_eq!(patched(7, 0xff), Ok((7, 20)));
    assert_eq!(
        tunnel::parse_clear(Encapsulation::Geneve, &packet[..18], packet.len()),
        Err(TunnelError::NotInHead)
    );
}

#[test]
fn refusals() {
    let packet = bytes(vectors::VXLAN4);
    let payload = &packet[34..];
    let patched = |at: usize, with: u8| {
        let mut payload = payload.to_vec();
        payload[at] = with;
        tunnel::parse_tunnel(&payload, payload.len())
    };
    assert_eq!(patched(8, 0xf7), Err(TunnelError::NoVni));
    assert_eq!(patched(3, 0xb6), Err(TunnelError::Port));
    assert_eq!(patched(5, 59), Err(TunnelError::UdpLen));
    assert_eq!(patched(5, 7), Err(TunnelError::UdpLen));
    assert_eq!(patched(5, 15), Err(TunnelError::Truncated));
    assert_eq!(patched(5, 57).map(|t| t.end), Ok(57));
    assert_eq!(
        tunnel::parse_tunnel(&payload[..7], 7),
        Err(TunnelError::Truncated)
    );
    assert_eq!(
        tunnel::parse_tunnel(&payload[..15], 58),
        Err(TunnelError::NotInHead)
    );
    let mut short = [0; 15];
    assert_eq!(tunnel::write_geneve(&mut short, 1, Vni::MAX, 0), None);
    assert_eq!(tunnel::write_vxlan(&mut [0; 16], 1, Vni::MAX, 65520), None);
    assert_eq!(
        tunnel::write_vxlan(&mut [0; 16], 1, Vni::MAX, 65519),
        Some(16)
    );
}

#[test]
fn esp_on_the_shared_port() {
    let packet = bytes(vectors::ESP4);
    let payload = &packet[42..];
    let esp = UdpPayload::Esp {
        spi: 0x1122_3344,
        seq: 5,
    };
    assert_eq!(esp::classify(payload, payload.len()), esp);
    assert_eq!(esp::classify(&payload[..8], payload.len()), esp);
    assert_eq!(
        esp::classify(&payload[..7], payload.len()),
        UdpPayload::NotInHead
    );
    assert_eq!(
        esp::classify(&payload[..3], payload.len()),
        UdpPayload::NotInHead
    );
    assert_eq!(esp::classify(&payload[..7], 7), UdpPayload::Short);
    assert_eq!(esp::classify(&[0xff], 1), UdpPayload::Keepalive);
    assert_eq!(esp::classify(&[0xff, 0xff], 2), UdpPayload::Short);
    assert_eq!(esp::classify(&[0xff], 60), UdpPayload::NotInHead);
    assert_eq!(esp::classify(&[], 0), UdpPayload::Short);
    assert_eq!(
        esp::classify(&[0, 0, 0, 0, 1, 2, 3, 4], 40),
        UdpPayload::Ike
    );
    assert_eq!(esp::classify(&[0, 0, 0, 0], 4), UdpPayload::Ike);
}

proptest! {
    /// What is recognized is what the parser finds, whatever is changed; and what we write is
    /// recognized.
    #[test]
    fn the_usual_header_is_what_the_parser_says(
        kind in encapsulation(),
        id in 1..0x00ff_ffff_u32,
        frame in 0..200_usize,
        behind in 0..20_usize,
        changes in prop::collection::vec((0..16_usize, any::<u8>()), 0..3),
    ) {
        let id = vni(id);
        let usual = tunnel::Usual::new(kind, id).unwrap();
        let mut payload = vec![0; tunnel::HEADER_LEN + frame + behind];
        kind.write(&mut payload, 4711, id, frame).unwrap();
        let ours = usual.recognize(&payload);
        prop_assert_eq!(ours.map(|t| t.end), Some(tunnel::HEADER_LEN + frame));
        for (at, with) in changes {
            payload[at] = with;
        }
        if let Some(found) = usual.recognize(&payload) {
            prop_assert_eq!(tunnel::parse_tunnel(&payload, payload.len()), Ok(found));
        }
    }

    #[test]
    fn tunnels_round_trip(
        encapsulation in encapsulation(), id in 0u32..1 << 24, sport: u16,
        frame in build::payload(200), tfc in 0usize..50, dirt in any::<prop::sample::Index>(),
        cuts in build::cuts(),
    ) {
        let mut packet = vec![0; 16];
        encapsulation.write(&mut packet, sport, vni(id), frame.len()).unwrap();
        prop_assert_eq!(&packet[..2], &sport.to_be_bytes());
        packet.extend(&frame);
        packet.resize(packet.len() + tfc, 0);
        let found = tunnel::parse_tunnel(&packet, packet.len()).unwrap();
        let expected =
            Tunnel { vni: vni(id), encapsulation, inner: 16, end: 16 + frame.len() };
        prop_assert_eq!(found, expected);
        let clear = tunnel::parse_clear(encapsulation, &packet[8..], packet.len() - 8).unwrap();
        prop_assert_eq!((clear.vni, clear.inner), (vni(id), 8));
        prop_assert!(tunnel::is_zero(build::cut(&packet, &cuts), found.end));
        if tfc > 0 {
            let at = found.end + dirt.index(tfc);
            packet[at] = 1;
            prop_assert!(!tunnel::is_zero(build::cut(&packet, &cuts), found.end));
            prop_assert!(tunnel::is_zero(build::cut(&packet, &cuts), at + 1));
        }
    }

    #[test]
    fn udp_checksum_over_ipv6(
        src: [u8; 16], dst: [u8; 16], payload in build::payload(200), cuts in build::cuts(),
    ) {
        let mut head = build::udp(7, 6081, &payload)[..8].to_vec();
        let rest = build::cut(&payload, &cuts);
        let sum = tunnel::set_udp_checksum_v6(&mut head, &rest, src.into(), dst.into());
        prop_assert!(sum.is_some_and(|sum| sum != 0));
        let len = (8 + payload.len() as u32).to_be_bytes();
        let all = [&src[..], &dst, &len, &[0, 0, 0, 17], &head, &payload].concat();
        prop_assert_eq!(build::naive_sum(&all), 0);
        let short = tunnel::set_udp_checksum_v6(&mut head[..7], &[], src.into(), dst.into());
        prop_assert_eq!(short, None);
    }

    #[test]
    fn esp_lengths(payload in 0usize..3000) {
        let pad = esp::padding_len(payload);
        prop_assert!(pad < 4);
        prop_assert_eq!((payload + pad + 2) % 4, 0);
        let len = esp::packet_len(payload);
        prop_assert_eq!(len, 8 + 8 + payload + pad + 2 + 16);
        let max = esp::max_payload_len(len).unwrap();
        prop_assert!(max >= payload && esp::packet_len(max) == len);
        prop_assert!(esp::packet_len(max + 1) > len);
    }
}
