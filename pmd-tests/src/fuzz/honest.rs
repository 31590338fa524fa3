//! Whether a frame that was let through says the truth about its sender: a second reading of
//! the headers, not with the code under test, and only as deep as is needed for that.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::discovery::{
    self as nd, DESTINATION, HOP_BY_HOP, ICMPV6, NEIGHBOR_ADVERT, REDIRECT, ROUTER_ADVERT, ROUTING,
};
use crate::frames::{ip4, ip6, mac};

fn v4(bytes: &[u8]) -> Ipv4Addr {
    <[u8; 4]>::try_from(bytes).expect("4 bytes").into()
}

fn v6(bytes: &[u8]) -> Ipv6Addr {
    <[u8; 16]>::try_from(bytes).expect("16 bytes").into()
}

/// Panics unless the frame may be tenant `n`'s, which is bound to its addresses.
pub fn check(frame: &[u8], n: u8) {
    assert!(frame.len() >= 14, "no frame: {frame:02x?}");
    assert_eq!(frame[6..12], mac(n), "source MAC: {frame:02x?}");
    let payload = &frame[14..];
    match u16::from_be_bytes([frame[12], frame[13]]) {
        0x0800 => {
            let src = v4(&payload[12..16]);
            let dhcp = src.is_unspecified() && payload[16..20] == [255; 4] && payload[9] == 17;
            assert!(src == ip4(n) || dhcp, "{src} from tenant {n}");
        }
        0x0806 => {
            assert_eq!(payload[8..14], mac(n), "ARP sender");
            let (sender, target) = (v4(&payload[14..18]), v4(&payload[24..28]));
            let probe = sender.is_unspecified() && target == ip4(n);
            assert!(sender == ip4(n) || probe, "ARP for {sender} by tenant {n}");
        }
        0x86dd => check_ipv6(payload, n),
        ethertype => {
            let hidden = [0x8100, 0x88a8, 0x9100, 0x9200, 0x9300].contains(&ethertype);
            assert!(ethertype >= 0x600 && !hidden, "EtherType {ethertype:#06x}");
        }
    }
}

fn check_ipv6(packet: &[u8], n: u8) {
    let (own, local) = (ip6(n), nd::link_local(mac(n)));
    let src = v6(&packet[8..24]);
    assert!(
        src == own || src == local || src.is_unspecified(),
        "{src} from tenant {n}"
    );
    let end = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let (mut next, mut at) = (packet[6], 40);
    while [HOP_BY_HOP, ROUTING, DESTINATION].contains(&next) {
        assert!(at + 8 <= end, "an extension header is cut off");
        let len = (usize::from(packet[at + 1]) + 1) * 8;
        (next, at) = (packet[at], at + len);
    }
    if next != ICMPV6 {
        assert!(!src.is_unspecified(), "no source, and no ICMPv6: {next}");
        return;
    }
    let kind = packet[at];
    assert!(
        kind != ROUTER_ADVERT && kind != REDIRECT,
        "tenant {n} is no router"
    );
    if kind == NEIGHBOR_ADVERT {
        let target = v6(&packet[at + 8..at + 24]);
        assert!(
            target == own || target == local,
            "tenant {n} has not {target}"
        );
    }
}
