//! The walk over IPv6's extension headers.

use proptest::prelude::*;
use vswitch_net::Fragment;
use vswitch_net::ipv6::{Ipv6, Ipv6Error, MAX_EXTENSIONS};

use crate::build;

fn packet(extensions: &[(u8, Vec<u8>)], protocol: u8) -> Vec<u8> {
    build::ipv6([1; 16], [2; 16], 64, extensions, protocol, b"payload")
}

fn walk(packet: &[u8]) -> Result<(u8, usize, Fragment), Ipv6Error> {
    Ipv6::parse(packet, 0, packet.len()).map(|ip| (ip.protocol, ip.upper_offset, ip.fragment))
}

#[test]
fn ends_at_protocols() {
    for protocol in [6, 17, 50, 58, 59, 132, 200] {
        assert_eq!(
            walk(&packet(&[], protocol)),
            Ok((protocol, 40, Fragment::None))
        );
        let one = packet(&[(60, build::options(2))], protocol);
        assert_eq!(walk(&one), Ok((protocol, 56, Fragment::None)));
    }
}

#[test]
fn ah_counts_in_words() {
    // RFC 4302, 2.2: the length is in words of 4 octets, minus 2.
    let mut ah = vec![0; 28];
    ah[1] = 5;
    assert_eq!(walk(&packet(&[(51, ah)], 6)), Ok((6, 68, Fragment::None)));
}

#[test]
fn fragments() {
    let with = |offset, more| packet(&[(44, build::fragment(offset, more))], 17);
    assert_eq!(walk(&with(0, true)), Ok((17, 48, Fragment::First)));
    assert_eq!(walk(&with(3, true)), Ok((17, 48, Fragment::Later)));
    assert_eq!(walk(&with(3, false)), Ok((17, 48, Fragment::Later)));
    let atomic = with(0, false);
    let ip = Ipv6::parse(&atomic, 0, atomic.len()).unwrap();
    assert_eq!(
        (ip.fragment, ip.fragment_id),
        (Fragment::None, Some(0xdead_beef))
    );
    // A later fragment's data is not read as headers.
    let later = packet(&[(44, build::fragment(3, false))], 60);
    assert_eq!(walk(&later), Ok((60, 48, Fragment::Later)));
}

#[test]
fn order_and_number() {
    let options = || build::options(1);
    let twice = [(0, options()), (60, options()), (0, options())];
    assert_eq!(walk(&packet(&twice, 6)), Err(Ipv6Error::ExtensionOrder));
    let nested = [
        (44, build::fragment(0, true)),
        (44, build::fragment(0, true)),
    ];
    assert_eq!(walk(&packet(&nested, 6)), Err(Ipv6Error::ExtensionOrder));
    let most: Vec<_> = (0..MAX_EXTENSIONS).map(|_| (60, options())).collect();
    assert_eq!(walk(&packet(&most, 6)), Ok((6, 40 + 64, Fragment::None)));
    let more: Vec<_> = (0..=MAX_EXTENSIONS).map(|_| (60, options())).collect();
    assert_eq!(walk(&packet(&more, 6)), Err(Ipv6Error::TooManyExtensions));
}

#[test]
fn truncation() {
    let whole = packet(&[(60, build::options(4))], 17);
    let mut short = whole[..40 + 31].to_vec();
    short[5] = 31;
    assert_eq!(walk(&short), Err(Ipv6Error::ExtensionTruncated));
    assert_eq!(walk(&whole[..39]), Err(Ipv6Error::Truncated));
    assert_eq!(
        Ipv6::parse(&whole[..39], 0, 79).unwrap_err(),
        Ipv6Error::NotInHead
    );
    assert_eq!(
        Ipv6::parse(&whole[..41], 0, 79).unwrap_err(),
        Ipv6Error::NotInHead
    );
    assert_eq!(walk(&whole[..78]), Err(Ipv6Error::PayloadLen));
    // Nothing behind the header, though it promises an extension.
    let mut empty = whole[..40].to_vec();
    empty[5] = 0;
    assert_eq!(walk(&empty), Err(Ipv6Error::ExtensionTruncated));
}

proptest! {
    #[test]
    fn any_chain_adds_up(
        kinds in prop::collection::vec((0u8..3, 1u8..5), 0..=MAX_EXTENSIONS), protocol: u8,
    ) {
        prop_assume!(![0, 43, 44, 51, 60].contains(&protocol));
        let mut left = 0;
        let extensions: Vec<_> = kinds.iter().map(|(kind, units)| match kind {
            0 => (60, build::options(*units)),
            1 => {
                let mut routing = build::options(*units);
                routing[3] = units - 1;
                left += units - 1;
                (43, routing)
            }
            _ => {
                let mut ah = vec![0; usize::from(*units) * 4 + 8];
                ah[1] = *units;
                (51, ah)
            }
        }).collect();
        let bytes = packet(&extensions, protocol);
        let ip = Ipv6::parse(&bytes, 0, bytes.len()).unwrap();
        prop_assert_eq!(ip.protocol, protocol);
        prop_assert_eq!(&bytes[ip.upper_offset..ip.end], b"payload");
        prop_assert_eq!(ip.routing, left > 0);
    }
}
