//! Tenant frames: what parsing finds in them, what it refuses, and their checksums.

use proptest::prelude::*;
use vswitch_net::checksum::{L4Checksum, complete_l4};
use vswitch_net::ipv4::Ipv4Error;
use vswitch_net::ipv6::Ipv6Error;
use vswitch_net::{Fragment, Frame, FrameError, L3, L4, MacAddr};

use crate::build::{self, V4};
use crate::vectors::{self, bytes};

const A: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const B: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);

fn parse(packet: &[u8]) -> Frame {
    Frame::parse(packet, packet.len()).unwrap()
}

/// The checksum in the packet, if ours comes to the same.
fn checksum_agrees(packet: &[u8]) {
    let sum = complete_l4(&parse(packet), [packet]).unwrap();
    assert_eq!(packet[sum.offset..sum.offset + 2], sum.value.to_be_bytes());
}

#[test]
fn vlan_udp() {
    let packet = bytes(vectors::VLAN_UDP4);
    let frame = parse(&packet);
    assert_eq!((frame.src, frame.dst), (A, B));
    assert_eq!((frame.vlan, frame.tags), (Some(3 << 13 | 100), 1));
    assert_eq!(
        (frame.ethertype, frame.l3_offset, frame.len),
        (0x0800, 18, 51)
    );
    let L3::Ipv4 {
        src,
        dst,
        protocol,
        l4_offset,
        df,
        fragment,
        total_len,
        ..
    } = frame.l3
    else {
        panic!("{frame:?}")
    };
    assert_eq!((src.octets(), dst.octets()), ([10, 0, 0, 1], [10, 0, 0, 2]));
    assert_eq!((protocol, l4_offset, df, total_len), (17, 38, true, 33));
    assert_eq!(fragment, Fragment::None);
    assert_eq!(
        frame.l4,
        L4::Udp {
            sport: 1234,
            dport: 53,
            len: 13
        }
    );
    checksum_agrees(&packet);
}

#[test]
fn two_tags_and_ip_options() {
    let packet = bytes(vectors::QINQ_UDP4);
    let frame = parse(&packet);
    assert_eq!((frame.vlan, frame.tags, frame.l3_offset), (Some(5), 2, 22));
    assert_eq!(frame.l4_offset(), Some(22 + 24));
    checksum_agrees(&packet);
}

#[test]
fn tcp() {
    let packet = bytes(vectors::TCP4_SYN);
    assert_eq!(
        parse(&packet).l4,
        L4::Tcp {
            sport: 40000,
            dport: 443,
            flags: 2
        }
    );
    checksum_agrees(&packet);
    let packet = bytes(vectors::TCP6);
    let frame = parse(&packet);
    assert_eq!(
        frame.l4,
        L4::Tcp {
            sport: 40000,
            dport: 22,
            flags: 0x18
        }
    );
    let L3::Ipv6 {
        traffic_class,
        payload_len,
        hop_limit,
        ..
    } = frame.l3
    else {
        panic!("{frame:?}")
    };
    assert_eq!((traffic_class, payload_len, hop_limit), (0xb8, 25, 64));
    checksum_agrees(&packet);
}

#[test]
fn ipv6_extensions() {
    let packet = bytes(vectors::UDP6_EXT);
    let frame = parse(&packet);
    assert_eq!(
        frame.l4,
        L4::Udp {
            sport: 5,
            dport: 6,
            len: 11
        }
    );
    assert_eq!(frame.l4_offset(), Some(14 + 40 + 8 + 16));
    checksum_agrees(&packet);

    let packet = bytes(vectors::UDP6_ROUTING);
    let frame = parse(&packet);
    assert!(matches!(
        frame.l3,
        L3::Ipv6 {
            routing: true,
            protocol: 17,
            ..
        }
    ));
    assert_eq!(complete_l4(&frame, [&packet[..]]), None);

    let packet = bytes(vectors::UDP6_FIRST);
    let frame = parse(&packet);
    assert_eq!(frame.fragment(), Fragment::First);
    assert_eq!(
        frame.l4,
        L4::Udp {
            sport: 5,
            dport: 6,
            len: 2000
        }
    );
    assert_eq!(complete_l4(&frame, [&packet[..]]), None);

    let frame = parse(&bytes(vectors::UDP6_LATER));
    assert_eq!((frame.fragment(), frame.l4), (Fragment::Later, L4::None));
    assert_eq!(frame.ip_protocol(), Some(17));

    let packet = bytes(vectors::AH4);
    assert!(matches!(
        parse(&packet).l4,
        L4::Tcp {
            sport: 1,
            dport: 2,
            ..
        }
    ));
}

#[test]
fn arp_and_echo() {
    let frame = parse(&bytes(vectors::ARP_REPLY));
    let L3::Arp {
        op,
        sender_mac,
        sender_ip,
        target_mac,
        target_ip,
    } = frame.l3
    else {
        panic!("{frame:?}")
    };
    assert_eq!((op, sender_mac, target_mac), (2, A, B));
    assert_eq!(
        (sender_ip.octets(), target_ip.octets()),
        ([10, 0, 0, 1], [10, 0, 0, 2])
    );
    let frame = parse(&bytes(vectors::ICMP4_ECHO));
    assert_eq!(
        frame.l4,
        L4::Icmp {
            ty: 8,
            code: 0,
            id: 0x77
        }
    );
}

#[test]
fn a_zero_udp_checksum_is_sent_as_ones() {
    // The payload is chosen so that the sum comes to zero.
    let v4 = V4 {
        src: [0; 4],
        dst: [0; 4],
        protocol: 17,
        options: 0,
        flags_fragment: 0,
    };
    // Pseudo-header: 17 + 10; header: length 10; payload: what is missing to 0xffff.
    let udp = build::udp(0, 0, &(0xffffu16 - 17 - 10 - 10).to_be_bytes());
    let mut packet = build::ethernet(B.0, A.0, &[], 0x0800);
    packet.extend(build::ipv4(&v4, &udp));
    let sum = complete_l4(&parse(&packet), [&packet[..]]);
    assert_eq!(
        sum,
        Some(L4Checksum {
            offset: 40,
            value: 0xffff
        })
    );
}

#[test]
fn a_checksum_field_that_is_not_there_is_not_filled_in() {
    let v4 = V4 {
        src: [1; 4],
        dst: [2; 4],
        protocol: 17,
        options: 0,
        flags_fragment: 0,
    };
    let mut packet = build::ethernet(B.0, A.0, &[], 0x0800);
    packet.extend(build::ipv4(&v4, &build::udp(1, 2, &[])));
    let frame = parse(&packet);
    assert!(complete_l4(&frame, [&packet[..]]).is_some());
    assert_eq!(complete_l4(&frame, [&packet[..41]]), None);
    assert_eq!(complete_l4(&frame, [&packet[..40]]), None);
}

#[test]
fn refusals() {
    let refuse = |packet: &[u8]| Frame::parse(packet, packet.len()).unwrap_err();
    let patched = |hex: &str, at: usize, with: &[u8]| {
        let mut packet = bytes(hex);
        packet[at..at + with.len()].copy_from_slice(with);
        refuse(&packet)
    };
    let udp = bytes(vectors::VLAN_UDP4);
    assert_eq!(refuse(&udp[..13]), FrameError::Truncated);
    assert_eq!(refuse(&udp[..17]), FrameError::Truncated);
    assert_eq!(refuse(&udp[..37]), FrameError::Ipv4(Ipv4Error::Truncated));
    assert_eq!(refuse(&udp[..50]), FrameError::Ipv4(Ipv4Error::TotalLen));
    assert_eq!(Frame::parse(&udp[..40], 51), Err(FrameError::NotInHead));
    assert_eq!(Frame::parse(&udp[..46], 51), Frame::parse(&udp, 51));
    let v = vectors::VLAN_UDP4;
    assert_eq!(
        patched(v, 18, &[0x44]),
        FrameError::Ipv4(Ipv4Error::HeaderLen)
    );
    assert_eq!(
        patched(v, 18, &[0x65]),
        FrameError::Ipv4(Ipv4Error::Version)
    );
    assert_eq!(patched(v, 20, &[0, 27]), FrameError::L4Truncated);
    assert_eq!(patched(v, 42, &[0, 7]), FrameError::UdpLen);
    assert_eq!(patched(v, 42, &[0, 14]), FrameError::UdpLen);
    let v = vectors::TCP4_SYN;
    assert_eq!(patched(v, 46, &[0x40]), FrameError::TcpHeaderLen);
    assert_eq!(patched(v, 46, &[0xf0]), FrameError::TcpHeaderLen);
    assert_eq!(patched(v, 20, &[0, 1]), FrameError::TcpOverlap);
    let v = vectors::TCP6;
    assert_eq!(
        patched(v, 14, &[0x40]),
        FrameError::Ipv6(Ipv6Error::Version)
    );
    assert_eq!(
        patched(v, 18, &[0, 26]),
        FrameError::Ipv6(Ipv6Error::PayloadLen)
    );
    assert_eq!(patched(v, 18, &[0, 19]), FrameError::L4Truncated);
    let v = vectors::ARP_REPLY;
    assert_eq!(patched(v, 14, &[0, 6]), FrameError::ArpUnsupported);
    assert_eq!(refuse(&bytes(v)[..41]), FrameError::ArpTruncated);
    assert_eq!(
        refuse(&build::ethernet([0; 6], [0; 6], &[1; 5], 0x0800)),
        FrameError::TooManyTags
    );
    assert_eq!(Frame::parse(&udp, 1 << 32), Err(FrameError::TooLong));
}

proptest! {
    #[test]
    fn built_frames_parse_back(
        dst: [u8; 6], src: [u8; 6], tags in prop::collection::vec(any::<u16>(), 0..=4),
        sip: [u8; 4], dip: [u8; 4], s6: [u8; 16], d6: [u8; 16], options in 0usize..=10,
        v6: bool, is_tcp: bool, df: bool, sport: u16, dport: u16, flags: u8,
        extensions in prop::collection::vec(1u8..4, 0..4),
        payload in build::payload(200), padding in 0usize..20, cuts in build::cuts(),
    ) {
        let l4 = if is_tcp {
            build::tcp(sport, dport, flags, &payload)
        } else {
            build::udp(sport, dport, &payload)
        };
        let proto = if is_tcp { 6 } else { 17 };
        let mut packet = build::ethernet(dst, src, &tags, if v6 { 0x86dd } else { 0x0800 });
        let pseudo = if v6 {
            let extensions: Vec<_> =
                extensions.iter().map(|units| (60, build::options(*units))).collect();
            packet.extend(build::ipv6(s6, d6, 64, &extensions, proto, &l4));
            let len = (l4.len() as u32).to_be_bytes();
            [&s6[..], &d6, &len, &[0, 0, 0, proto]].concat()
        } else {
            let flags_fragment = if df { 0x4000 } else { 0 };
            let v4 = V4 { src: sip, dst: dip, protocol: proto, options, flags_fragment };
            packet.extend(build::ipv4(&v4, &l4));
            let len = (l4.len() as u16).to_be_bytes();
            [&sip[..], &dip, &[0, proto], &len].concat()
        };
        let end = packet.len();
        packet.resize(end + padding, 0xee);
        let frame = parse(&packet);
        prop_assert_eq!((frame.dst.0, frame.src.0), (dst, src));
        prop_assert_eq!(frame.vlan, tags.first().copied());
        prop_assert_eq!(usize::from(frame.tags), tags.len());
        prop_assert_eq!(usize::from(frame.l3_offset), 14 + 4 * tags.len());
        prop_assert_eq!(frame.l3_end(), end);
        prop_assert_eq!(frame.l4_offset(), Some(end - l4.len()));
        prop_assert_eq!(frame.ip_protocol(), Some(proto));
        if v6 {
            prop_assert_eq!(frame.src_ip(), Some(s6.into()));
            prop_assert_eq!(frame.dst_ip(), Some(d6.into()));
        } else {
            prop_assert_eq!(frame.src_ip(), Some(sip.into()));
            prop_assert_eq!(frame.dst_ip(), Some(dip.into()));
            prop_assert!(matches!(frame.l3, L3::Ipv4 { df: found, .. } if found == df), "{:?}", frame);
        }
        if is_tcp {
            prop_assert_eq!(frame.l4, L4::Tcp { sport, dport, flags });
        } else {
            prop_assert_eq!(frame.l4, L4::Udp { sport, dport, len: l4.len() as u16 });
        }
        // A checksum that comes to the plain way's, however the frame lies in segments.
        let segments = build::cut(&packet, &cuts);
        let sum = complete_l4(&frame, segments.iter().copied()).unwrap();
        let mut plain = l4.clone();
        let at = if is_tcp { 16 } else { 6 };
        plain[at..at + 2].fill(0);
        let expected = match build::naive_sum(&[pseudo, plain].concat()) {
            0 if !is_tcp => 0xffff,
            sum => sum,
        };
        prop_assert_eq!(sum, L4Checksum { offset: end - l4.len() + at, value: expected });
        // Segments that end early are noticed.
        prop_assert_eq!(complete_l4(&frame, [&packet[..end - 1]]), None);
    }

    #[test]
    fn a_short_head_never_changes_what_is_found(
        which in 0usize..8, keep in any::<prop::sample::Index>(),
    ) {
        let packet = bytes([
            vectors::VLAN_UDP4, vectors::TCP4_SYN, vectors::TCP6, vectors::UDP6_EXT, vectors::NS,
            vectors::REDIRECT, vectors::ARP_REPLY, vectors::ICMP4_ECHO,
        ][which]);
        let head = &packet[..keep.index(packet.len())];
        match Frame::parse(head, packet.len()) {
            Ok(frame) => {
                // An echo's identifier is the one field that may be left out.
                if !matches!(frame.l4, L4::Icmp { .. }) {
                    prop_assert_eq!(frame, parse(&packet));
                }
            }
            Err(error) => prop_assert_eq!(error, FrameError::NotInHead),
        }
    }
}
