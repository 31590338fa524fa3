//! The answers to frames that are too large.

use proptest::prelude::*;
use vswitch_net::too_big::{self, MAX_FRAME};
use vswitch_net::{Frame, L3, L4};

use crate::build::{self, V4};
use crate::vectors::{self, bytes};

fn answer(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let frame = Frame::parse(packet, packet.len()).unwrap();
    let mut out = [0xee; MAX_FRAME];
    let len = too_big::build(packet, &frame, mtu, &mut out)?;
    Some(out[..len].to_vec())
}

fn v4(dst: [u8; 4], protocol: u8, flags_fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = build::ethernet([2; 6], [4; 6], &[], 0x0800);
    let v4 = V4 {
        src: [10, 0, 0, 1],
        dst,
        protocol,
        options: 0,
        flags_fragment,
    };
    packet.extend(build::ipv4(&v4, payload));
    packet
}

fn v6(dst: [u8; 16], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = build::ethernet([2; 6], [4; 6], &[], 0x86dd);
    let src = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    packet.extend(build::ipv6(src, dst, 64, &[], protocol, payload));
    packet
}

#[test]
fn a_vlan_frame_is_answered_in_its_vlan() {
    let packet = bytes(vectors::VLAN_UDP4);
    let reply = answer(&packet, 1408).unwrap();
    let frame = Frame::parse(&reply, reply.len()).unwrap();
    let asked = Frame::parse(&packet, packet.len()).unwrap();
    assert_eq!((frame.src, frame.dst), (asked.dst, asked.src));
    assert_eq!(frame.vlan, asked.vlan);
    assert_eq!(
        (frame.src_ip(), frame.dst_ip()),
        (asked.dst_ip(), asked.src_ip())
    );
    assert!(matches!(frame.l4, L4::Icmp { ty: 3, code: 4, .. }));
    // Unused 0, next-hop MTU, then the packet from its IP header on.
    assert_eq!(reply[18 + 20 + 4..18 + 20 + 8], [0, 0, 0x05, 0x80]);
    assert_eq!(reply[18 + 28..], packet[18..]);
}

#[test]
fn no_answer_where_none_may_be() {
    const DF: u16 = 0x4000;
    let udp = build::udp(1, 2, &[0; 1600]);
    let icmp = |ty: u8| [&[ty, 0, 0, 0][..], &[0; 1600]].concat();
    assert!(answer(&v4([10, 0, 0, 2], 17, DF, &udp), 1408).is_some());
    assert!(answer(&v4([10, 0, 0, 2], 17, 0, &udp), 1408).is_none());
    assert!(answer(&v4([10, 0, 0, 2], 17, DF | 0x2000, &udp), 1408).is_some());
    assert!(answer(&v4([10, 0, 0, 2], 17, DF | 0x0100, &udp), 1408).is_none());
    for dst in [[224, 0, 0, 1], [255; 4], [0; 4], [127, 0, 0, 1]] {
        assert!(answer(&v4(dst, 17, DF, &udp), 1408).is_none(), "{dst:?}");
    }
    assert!(answer(&v4([10, 0, 0, 2], 1, DF, &icmp(8)), 1408).is_some());
    for ty in [3, 4, 5, 11, 12] {
        assert!(
            answer(&v4([10, 0, 0, 2], 1, DF, &icmp(ty)), 1408).is_none(),
            "{ty}"
        );
    }
    let host = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    assert!(answer(&v6(host, 17, &udp), 1408).is_some());
    assert!(answer(&v6([0xff; 16], 17, &udp), 1408).is_none());
    assert!(answer(&v6(host, 58, &icmp(128)), 1408).is_some());
    for ty in [1, 2, 3, 4, 100] {
        assert!(answer(&v6(host, 58, &icmp(ty)), 1408).is_none(), "{ty}");
    }
    let mut multicast = v4([10, 0, 0, 2], 17, DF, &udp);
    multicast[0] |= 1;
    assert!(answer(&multicast, 1408).is_none());
    assert!(answer(&bytes(vectors::ARP_REPLY), 1408).is_none());
    // Not enough room.
    let packet = v4([10, 0, 0, 2], 17, DF, &udp);
    let frame = Frame::parse(&packet, packet.len()).unwrap();
    assert_eq!(too_big::build(&packet, &frame, 1408, &mut [0; 589]), None);
    assert_eq!(
        too_big::build(&packet, &frame, 1408, &mut [0; 590]),
        Some(590)
    );
}

proptest! {
    #[test]
    fn answers_are_sound(
        six: bool, payload in prop::collection::vec(any::<u8>(), 0..3000), mtu: u16, keep: u16,
    ) {
        let udp = build::udp(1, 2, &payload);
        let host = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        let packet = if six { v6(host, 17, &udp) } else { v4([10, 0, 0, 2], 17, 0x4000, &udp) };
        let frame = Frame::parse(&packet, packet.len()).unwrap();
        // A chain: only the first segment is at hand.
        let head = &packet[..packet.len().min(usize::from(keep).max(62))];
        let mut out = [0; MAX_FRAME];
        let len = too_big::build(head, &frame, mtu, &mut out).unwrap();
        let reply = &out[..len];
        let back = Frame::parse(reply, len).unwrap();
        prop_assert_eq!(back.l3_end(), len);
        let quoted;
        if six {
            prop_assert!(len - 14 <= 1280);
            prop_assert!(matches!(back.l4, L4::Icmpv6 { ty: 2, code: 0, .. }), "{:?}", back);
            prop_assert_eq!(&reply[58..62], &u32::from(mtu).to_be_bytes());
            let pseudo = [&reply[22..54], &((len - 54) as u32).to_be_bytes(), &[0, 0, 0, 58]];
            let all = [&pseudo.concat(), &reply[54..]].concat();
            prop_assert_eq!(build::naive_sum(&all), 0);
            quoted = &reply[62..];
            prop_assert_eq!(quoted.len(), (head.len() - 14).min(1280 - 48));
        } else {
            prop_assert!(len - 14 <= 576);
            prop_assert!(matches!(back.l4, L4::Icmp { ty: 3, code: 4, .. }), "{:?}", back);
            prop_assert!(matches!(back.l3, L3::Ipv4 { ttl: 64, .. }), "{:?}", back);
            prop_assert_eq!(&reply[40..42], &mtu.to_be_bytes());
            prop_assert_eq!(build::naive_sum(&reply[14..34]), 0);
            prop_assert_eq!(build::naive_sum(&reply[34..]), 0);
            quoted = &reply[42..];
            prop_assert_eq!(quoted.len(), (head.len() - 14).min(576 - 28));
        }
        prop_assert_eq!(quoted, &packet[14..14 + quoted.len()]);
    }
}
