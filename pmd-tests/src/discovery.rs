//! ARP, Neighbor Discovery and IPv6 extension headers, byte by byte: what stations say of
//! themselves, and what may stand before it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frames::{self, BROADCAST, Mac, ethernet};

/// All nodes of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The group MAC of [`ALL_NODES`] (RFC 2464, 7).
pub const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// ARP operation.
pub const REQUEST: u8 = 1;
/// ARP operation.
pub const REPLY: u8 = 2;

/// ICMPv6 types of Neighbor Discovery (RFC 4861, 4).
pub const ROUTER_SOLICIT: u8 = 133;
/// See [`ROUTER_SOLICIT`].
pub const ROUTER_ADVERT: u8 = 134;
/// See [`ROUTER_SOLICIT`].
pub const NEIGHBOR_SOLICIT: u8 = 135;
/// See [`ROUTER_SOLICIT`].
pub const NEIGHBOR_ADVERT: u8 = 136;
/// See [`ROUTER_SOLICIT`].
pub const REDIRECT: u8 = 137;

/// Option types: source and target link-layer address (RFC 4861, 4.6).
pub const SOURCE_LLA: u8 = 1;
/// See [`SOURCE_LLA`].
pub const TARGET_LLA: u8 = 2;

/// IPv6 extension headers (RFC 8200, 4).
pub const HOP_BY_HOP: u8 = 0;
/// See [`HOP_BY_HOP`].
pub const ROUTING: u8 = 43;
/// See [`HOP_BY_HOP`].
pub const FRAGMENT: u8 = 44;
/// See [`HOP_BY_HOP`].
pub const DESTINATION: u8 = 60;
/// ICMPv6.
pub const ICMPV6: u8 = 58;

/// A broadcast ARP frame of station `src`.
pub fn arp(src: Mac, op: u8, sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    arp_to(BROADCAST, src, op, sender, target)
}

/// The same to `dst`.
pub fn arp_to(dst: Mac, src: Mac, op: u8, sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, op];
    let (mac, ip) = (sender.0, sender.1.octets());
    let body = [&head[..], &mac, &ip, &[0; 6], &target.octets()].concat();
    ethernet(dst, src, 0x0806, &body)
}

/// A link-layer address option.
pub fn lla(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

/// An ICMPv6 message with its checksum: type, code 0, `body` behind the checksum.
pub fn icmp6(src: Ipv6Addr, dst: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], body].concat();
    let sum = frames::upper_checksum(IpAddr::V6(src), IpAddr::V6(dst), ICMPV6, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Body of a solicitation or advertisement about `target`.
pub fn about(flags: u32, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    [&flags.to_be_bytes()[..], &target.octets(), options].concat()
}

/// Body of a router advertisement: hop limit 64, lifetime 1800 s.
pub fn router(options: &[u8]) -> Vec<u8> {
    [&[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..], options].concat()
}

/// An IPv6 frame to all nodes, hop limit 255.
pub fn on_link(mac: Mac, src: Ipv6Addr, next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = frames::ipv6(src, ALL_NODES, next, body);
    packet[7] = 255;
    ethernet(ALL_NODES_MAC, mac, 0x86dd, &packet)
}

/// A message of Neighbor Discovery to all nodes.
pub fn nd(mac: Mac, src: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    on_link(mac, src, ICMPV6, &icmp6(src, ALL_NODES, kind, body))
}

/// Extension headers (8 bytes each, PadN where they have options) before `body` of protocol
/// `last`; returns the first header's number and the bytes.
pub fn chain(headers: &[u8], last: u8, body: &[u8]) -> (u8, Vec<u8>) {
    let mut next = last;
    let mut bytes = body.to_vec();
    for header in headers.iter().rev() {
        let options = match *header {
            // Type 0 without segments left.
            ROUTING => [0, 0, 0, 0, 0, 0],
            // PadN of four.
            _ => [1, 4, 0, 0, 0, 0],
        };
        bytes = [&[next, 0][..], &options, &bytes].concat();
        next = *header;
    }
    (next, bytes)
}

/// A fragment header before a part of a packet: `offset` in units of 8 bytes.
pub fn fragment(next: u8, offset: u16, more: bool, part: &[u8]) -> Vec<u8> {
    let field = offset << 3 | u16::from(more);
    [&[next, 0][..], &field.to_be_bytes(), &[0, 0, 0, 9], part].concat()
}

/// The link-local address that a MAC address makes (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}
