//! No input makes a parser panic, and what it returns lies within the packet. The noise is of
//! two kinds: octets at random, and good packets with a few octets changed.

use proptest::prelude::*;
use vswitch_net::checksum::complete_l4;
use vswitch_net::esp;
use vswitch_net::ipv6::Ipv6;
use vswitch_net::outer::classify;
use vswitch_net::template;
use vswitch_net::too_big::{self, MAX_FRAME};
use vswitch_net::tunnel;
use vswitch_net::{Encapsulation, Frame};

use crate::build;
use crate::vectors::{self, bytes};

const ALL: [&str; 21] = [
    vectors::VLAN_UDP4,
    vectors::QINQ_UDP4,
    vectors::TCP4_SYN,
    vectors::TCP6,
    vectors::UDP6_EXT,
    vectors::UDP6_ROUTING,
    vectors::UDP6_FIRST,
    vectors::UDP6_LATER,
    vectors::ICMP4_ECHO,
    vectors::NS,
    vectors::NA,
    vectors::RA,
    vectors::RS,
    vectors::REDIRECT,
    vectors::ARP_REPLY,
    vectors::GENEVE4,
    vectors::GENEVE6,
    vectors::VXLAN4,
    vectors::GENEVE_OPTS,
    vectors::ESP4,
    vectors::AH4,
];

/// A packet and the length it claims to have.
fn noise() -> impl Strategy<Value = (Vec<u8>, usize)> {
    let random = build::payload(200);
    let mutated = (
        prop::sample::select(&ALL[..]),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(hex, changes, keep)| {
            let mut packet = bytes(hex);
            for (at, with) in changes {
                let at = at.index(packet.len());
                packet[at] = with;
            }
            // Half of the time whole, else cut somewhere.
            let keep = keep.index(packet.len() * 2);
            packet.truncate(keep.max(1));
            packet
        });
    let packet = prop_oneof![1 => random, 4 => mutated];
    let claim = prop_oneof![
        4 => Just(None),
        2 => (0usize..300).prop_map(Some),
        1 => any::<usize>().prop_map(Some),
    ];
    (packet, claim).prop_map(|(packet, claim)| {
        let len = claim.unwrap_or(packet.len());
        (packet, len)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 16 } else { 4000 }))]

    #[test]
    fn tenant_frames((packet, len) in noise(), cuts in build::cuts()) {
        if let Ok(frame) = Frame::parse(&packet, len) {
            prop_assert!(frame.l3_end() <= len);
            prop_assert!(frame.l4_offset().is_none_or(|at| at <= frame.l3_end()));
            if let Some(sum) = complete_l4(&frame, build::cut(&packet, &cuts)) {
                prop_assert!(sum.offset + 2 <= frame.l3_end());
            }
            let mut out = [0; MAX_FRAME];
            let _ = too_big::build(&packet, &frame, 1400, &mut out);
            // A frame that is not the head's: the offsets must not be trusted.
            let _ = too_big::build(&packet[..packet.len() / 2], &frame, 1400, &mut out);
        }
    }

    #[test]
    fn underlay_packets((packet, len) in noise()) {
        if let Ok(outer) = classify(&packet, len) {
            prop_assert!(outer.payload <= outer.end && outer.end <= len);
            if let Some(udp) = outer.udp {
                prop_assert!(outer.payload < udp.payload);
                prop_assert!(udp.payload <= udp.end && udp.end <= outer.end);
            }
        }
        let _ = template::ipv6_udp_checksum(&packet, [&packet[..]]);
    }

    #[test]
    fn tunnels((packet, len) in noise(), skip in 0usize..60) {
        let packet = packet.get(skip..).unwrap_or_default();
        let len = len.saturating_sub(skip);
        for found in [
            tunnel::parse_tunnel(packet, len),
            tunnel::parse_clear(Encapsulation::Geneve, packet, len),
            tunnel::parse_clear(Encapsulation::Vxlan, packet, len),
        ].into_iter().flatten() {
            prop_assert!(found.inner <= found.end && found.end <= len);
            let _ = tunnel::is_zero([packet], found.end);
        }
        let _ = esp::classify(packet, len);
    }

    #[test]
    fn ipv6_at_any_offset((packet, len) in noise(), offset in 0usize..100) {
        if let Ok(ip) = Ipv6::parse(&packet, offset, len) {
            prop_assert!(offset + 40 <= ip.upper_offset);
            prop_assert!(ip.upper_offset <= ip.end && ip.end <= len);
        }
    }
}
