//! The underlay side: templates written and packets classified.

use std::net::IpAddr;

use proptest::prelude::*;
use vswitch_net::ipv4::Ipv4Error;
use vswitch_net::outer::classify;
use vswitch_net::template::{self, LEN_V4, LEN_V6, Template, VersionMismatch};
use vswitch_net::tunnel;
use vswitch_net::{Encapsulation, Fragment, MacAddr, Outer, OuterError, Vni};

use crate::build::{self, V4};
use crate::vectors::{self, bytes};

const MAC1: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const MAC2: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn template(src: &str, dst: &str, sport: u16, dport: u16) -> Template {
    let (src, dst): (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
    Template::new(MAC1, MAC2, src, dst, sport, dport).unwrap()
}

#[test]
fn templates_write_what_scapy_writes() {
    let esp = bytes(vectors::ESP4);
    let mut out = [0xee; 64];
    let t = template("192.0.2.1", "192.0.2.2", 51000, 4500);
    assert_eq!(t.write(&mut out, esp.len() - LEN_V4), Some(LEN_V4));
    assert_eq!(out[..LEN_V4], esp[..LEN_V4]);
    assert_eq!(out[LEN_V4..], [0xee; 64 - LEN_V4]);

    let geneve = bytes(vectors::GENEVE6);
    let t = template("2001:db8::a", "2001:db8::b", 50000, 6081);
    assert_eq!(t.write(&mut out, geneve.len() - LEN_V6), Some(LEN_V6));
    let payload = &geneve[LEN_V6..];
    template::set_ipv6_udp_checksum(&mut out, &[&payload[..7], &payload[7..]]).unwrap();
    assert_eq!(out[..LEN_V6], geneve[..LEN_V6]);
    assert_eq!(&out[60..62], &[0xec, 0x1f]);
}

#[test]
fn template_limits() {
    let v4 = template("192.0.2.1", "192.0.2.2", 1, 2);
    let v6 = template("::1", "::2", 1, 2);
    assert_eq!((v4.len(), v6.len()), (42, 62));
    assert_eq!(v4.write(&mut [0; 41], 0), None);
    assert_eq!(v6.write(&mut [0; 61], 0), None);
    assert_eq!(v4.write(&mut [0; 42], 65507), Some(42));
    assert_eq!(v4.write(&mut [0; 42], 65508), None);
    assert_eq!(v6.write(&mut [0; 62], 65527), Some(62));
    assert_eq!(v6.write(&mut [0; 62], 65528), None);
    assert_eq!(v4.write(&mut [0; 42], usize::MAX), None);
    let mixed = Template::new(
        MAC1,
        MAC2,
        "192.0.2.1".parse().unwrap(),
        "::2".parse().unwrap(),
        1,
        2,
    );
    assert_eq!(mixed, Err(VersionMismatch));
    assert_eq!(template::ipv6_udp_checksum(&[0; 61], []), None);
}

#[test]
fn known_packets() {
    let packet = bytes(vectors::ESP4);
    let outer = classify(&packet, packet.len()).unwrap();
    assert_eq!((outer.src_mac, outer.dst_mac), (MAC1, MAC2));
    assert_eq!(outer.src, "192.0.2.1".parse::<IpAddr>().unwrap());
    assert_eq!(outer.dst, "192.0.2.2".parse::<IpAddr>().unwrap());
    assert_eq!(
        (outer.payload, outer.end, outer.hop_limit),
        (34, packet.len(), 64)
    );
    let udp = outer.udp.unwrap();
    assert_eq!(
        (udp.sport, udp.dport, udp.payload, udp.end),
        (51000, 4500, 42, packet.len())
    );
    let packet = bytes(vectors::GENEVE6);
    let outer = classify(&packet, packet.len()).unwrap();
    assert_eq!(outer.udp.unwrap().checksum, 0xec1f);
    let inner = &packet[outer.udp.unwrap().payload..outer.udp.unwrap().end];
    let found = tunnel::parse_clear(Encapsulation::Geneve, inner, inner.len()).unwrap();
    assert_eq!(found.vni, Vni::new(0x010203).unwrap());
}

#[test]
fn what_is_not_ours_says_what_it_is() {
    let refuse = |packet: &[u8]| classify(packet, packet.len()).unwrap_err();
    assert_eq!(
        refuse(&bytes(vectors::ARP_REPLY)),
        OuterError::NotIp(0x0806)
    );
    assert_eq!(
        refuse(&bytes(vectors::VLAN_UDP4)),
        OuterError::NotIp(0x8100)
    );
    let esp = bytes(vectors::ESP4);
    let patched = |at: usize, with: u8| {
        let mut packet = esp.clone();
        packet[at] = with;
        refuse(&packet)
    };
    assert_eq!(patched(22, 63), OuterError::Ipv4(Ipv4Error::Checksum));
    assert_eq!(patched(39, 7), OuterError::UdpLen);
    assert_eq!(patched(39, 57), OuterError::UdpLen);
    assert_eq!(refuse(&esp[..13]), OuterError::Truncated);
    assert_eq!(refuse(&esp[..50]), OuterError::Ipv4(Ipv4Error::TotalLen));
    assert_eq!(classify(&esp[..41], esp.len()), Err(OuterError::NotInHead));
    assert!(classify(&esp[..42], esp.len()).is_ok());
    // Not UDP: fine, and without ports.
    let echo = bytes(vectors::ICMP4_ECHO);
    let outer = classify(&echo, echo.len()).unwrap();
    assert_eq!((outer.protocol, outer.udp), (1, None));
}

#[test]
fn fragments_of_either_version() {
    let packet = |flags_fragment: u16| {
        let v4 = V4 {
            src: [1; 4],
            dst: [2; 4],
            protocol: 17,
            options: 1,
            flags_fragment,
        };
        let mut packet = build::ethernet([2; 6], [4; 6], &[], 0x0800);
        packet.extend(build::ipv4(&v4, &build::udp(9, 4500, &[7; 80])[..24]));
        packet
    };
    let first = packet(0x2000);
    let outer = classify(&first, first.len()).unwrap();
    assert_eq!(
        (outer.fragment, outer.fragment_id),
        (Fragment::First, 0x1234)
    );
    assert_eq!(
        outer.udp.map(|u| (u.dport, u.payload, u.end)),
        Some((4500, 46, 62))
    );
    let later = packet(0x0003);
    let outer = classify(&later, later.len()).unwrap();
    assert_eq!((outer.fragment, outer.udp), (Fragment::Later, None));
    let v6 = bytes(vectors::UDP6_LATER);
    let outer = classify(&v6, v6.len()).unwrap();
    assert_eq!(
        (outer.fragment, outer.fragment_id),
        (Fragment::Later, 0x0102_0304)
    );
    assert_eq!((outer.protocol, outer.udp), (17, None));
    let v6 = bytes(vectors::UDP6_FIRST);
    let outer = classify(&v6, v6.len()).unwrap();
    assert_eq!(
        (outer.fragment, outer.udp.map(|u| u.dport)),
        (Fragment::First, Some(6))
    );
}

proptest! {
    #[test]
    fn templates_parse_back(
        smac: [u8; 6], dmac: [u8; 6], s4: [u8; 4], d4: [u8; 4], s6: [u8; 16], d6: [u8; 16],
        v6: bool, sport: u16, dport: u16, payload in build::payload(300), padding in 0usize..30,
        cuts in build::cuts(),
    ) {
        let (src, dst) = if v6 { (s6.into(), d6.into()) } else { (s4.into(), d4.into()) };
        let t = Template::new(MacAddr(smac), MacAddr(dmac), src, dst, sport, dport).unwrap();
        let mut packet = vec![0xaa; t.len()];
        t.write(&mut packet, payload.len()).unwrap();
        if v6 {
            let segments = build::cut(&payload, &cuts);
            template::set_ipv6_udp_checksum(&mut packet, &segments).unwrap();
            let len = (8 + payload.len() as u32).to_be_bytes();
            let all = [&s6[..], &d6, &len, &[0, 0, 0, 17], &packet[54..], &payload].concat();
            prop_assert_eq!(build::naive_sum(&all), 0);
        } else {
            prop_assert_eq!(build::naive_sum(&packet[14..34]), 0);
            prop_assert_eq!(&packet[18..22], &[0, 0, 0x40, 0], "ID 0, DF");
        }
        packet.extend(&payload);
        let end = packet.len();
        packet.resize(end + padding, 0x55);
        let outer: Outer = classify(&packet, packet.len()).unwrap();
        prop_assert_eq!((outer.src_mac.0, outer.dst_mac.0), (smac, dmac));
        prop_assert_eq!((outer.src, outer.dst, outer.protocol), (src, dst, 17));
        prop_assert_eq!((outer.dscp(), outer.ecn(), outer.hop_limit), (0, 0, 64));
        prop_assert_eq!((outer.end, outer.fragment), (end, Fragment::None));
        let udp = outer.udp.unwrap();
        prop_assert_eq!((udp.sport, udp.dport), (sport, dport));
        prop_assert_eq!(&packet[udp.payload..udp.end], &payload[..]);
        prop_assert_eq!(udp.checksum == 0, !v6);
    }
}
