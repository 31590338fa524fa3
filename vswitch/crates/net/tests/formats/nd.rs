//! Neighbor Discovery: its messages and options, and what must not pass as one.

use std::net::Ipv6Addr;

use proptest::prelude::*;
use vswitch_net::nd::{self, FLAG_OVERRIDE, FLAG_SOLICITED, NdError, NeighborMessage};
use vswitch_net::{Frame, FrameError, L4, MacAddr, Nd};
use zerocopy::IntoBytes;

use crate::build;
use crate::vectors::{self, bytes};

const A: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const B: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);

fn found(hex: &str) -> Option<Nd> {
    let packet = bytes(hex);
    match Frame::parse(&packet, packet.len()).unwrap().l4 {
        L4::Icmpv6 { nd, .. } => nd,
        other => panic!("{other:?}"),
    }
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

#[test]
fn known_messages() {
    let target = address("2001:db8::2");
    assert_eq!(
        found(vectors::NS),
        Some(Nd::NeighborSolicit {
            target,
            source_lla: Some(A)
        })
    );
    assert_eq!(
        found(vectors::NA),
        Some(Nd::NeighborAdvert {
            target,
            target_lla: Some(B),
            flags: FLAG_SOLICITED | FLAG_OVERRIDE,
        })
    );
    assert_eq!(
        found(vectors::RS),
        Some(Nd::RouterSolicit { source_lla: None })
    );
    assert_eq!(
        found(vectors::RA),
        Some(Nd::RouterAdvert {
            source_lla: Some(A)
        })
    );
    assert_eq!(
        found(vectors::REDIRECT),
        Some(Nd::Redirect {
            target: address("fe80::7"),
            destination: address("2001:db8:1::1"),
            target_lla: Some(B),
        })
    );
}

/// The message in `hex`, changed, in a packet of its own.
fn refused(
    hex: &str,
    hop_limit: u8,
    extensions: &[(u8, Vec<u8>)],
    change: impl FnOnce(&mut Vec<u8>),
) -> NdError {
    let packet = bytes(hex);
    let mut message = packet[54..].to_vec();
    change(&mut message);
    let mut frame = packet[..14].to_vec();
    frame.extend(build::ipv6(
        [1; 16], [2; 16], hop_limit, extensions, 58, &message,
    ));
    match Frame::parse(&frame, frame.len()) {
        Err(FrameError::Nd(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn refusals() {
    let ns = vectors::NS;
    assert_eq!(refused(ns, 254, &[], |_| ()), NdError::Invalid);
    assert_eq!(refused(ns, 255, &[], |m| m[1] = 1), NdError::Invalid);
    assert_eq!(
        refused(ns, 255, &[], |m| m.truncate(23)),
        NdError::Truncated
    );
    assert_eq!(refused(ns, 255, &[], |m| m.truncate(25)), NdError::Option);
    assert_eq!(refused(ns, 255, &[], |m| m[25] = 0), NdError::Option);
    assert_eq!(refused(ns, 255, &[], |m| m[25] = 2), NdError::Option);
    assert_eq!(
        refused(ns, 255, &[], |m| {
            m[25] = 2;
            m.extend([0; 8]);
        }),
        NdError::Option
    );
    assert_eq!(
        refused(ns, 255, &[], |m| m.extend([1, 1, 6, 6, 6, 6, 6, 6])),
        NdError::Ambiguous
    );
    // RFC 6980: not even in an atomic fragment.
    let atomic = [(44, build::fragment(0, false))];
    assert_eq!(refused(ns, 255, &atomic, |_| ()), NdError::Fragmented);
    assert_eq!(
        refused(vectors::REDIRECT, 255, &[], |m| m.truncate(39)),
        NdError::Truncated
    );
}

#[test]
fn behind_extension_headers_it_is_found_too() {
    // RFC 7113: a way past filters that look at the first next header only.
    let packet = bytes(vectors::RA);
    let mut frame = packet[..14].to_vec();
    let extensions = [(0, build::options(1)), (60, build::options(2))];
    frame.extend(build::ipv6(
        [1; 16],
        [2; 16],
        255,
        &extensions,
        58,
        &packet[54..],
    ));
    let l4 = Frame::parse(&frame, frame.len()).unwrap().l4;
    assert!(matches!(
        l4,
        L4::Icmpv6 {
            nd: Some(Nd::RouterAdvert { .. }),
            ..
        }
    ));
}

proptest! {
    #[test]
    fn neighbor_messages_round_trip(target: [u8; 16], mac: [u8; 6], flags: u32) {
        let (target, mac) = (Ipv6Addr::from(target), MacAddr(mac));
        let advert = NeighborMessage::advert(target, mac, flags & 0xe000_0000);
        prop_assert_eq!(
            nd::parse(136, advert.as_bytes()),
            Ok(Some(Nd::NeighborAdvert {
                target, target_lla: Some(mac), flags: flags & 0xe000_0000,
            }))
        );
        let solicit = NeighborMessage::solicit(target, mac);
        prop_assert_eq!(
            nd::parse(135, solicit.as_bytes()),
            Ok(Some(Nd::NeighborSolicit { target, source_lla: Some(mac) }))
        );
    }

    #[test]
    fn other_options_are_skipped(others in prop::collection::vec((3u8.., 1u8..4), 0..5)) {
        let packet = bytes(vectors::RS);
        let mut message = packet[54..].to_vec();
        for (ty, units) in others {
            message.extend([ty, units]);
            message.resize(message.len() + usize::from(units) * 8 - 2, 9);
        }
        message.extend([1, 1]);
        message.extend(A.0);
        prop_assert_eq!(
            nd::parse(133, &message),
            Ok(Some(Nd::RouterSolicit { source_lla: Some(A) }))
        );
    }

    #[test]
    fn noise(ty in 130u8..140, message in build::payload(100)) {
        if let Ok(nd) = nd::parse(ty, &message) {
            prop_assert_eq!(nd.is_some(), (133..=137).contains(&ty));
        }
    }
}
