//! Tenants' frames, byte by byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A MAC address.
pub type Mac = [u8; 6];

/// Everybody.
pub const BROADCAST: Mac = [0xff; 6];

/// 802.1Q.
pub const VLAN: u16 = 0x8100;

/// The `n`-th tenant's address.
pub const fn mac(n: u8) -> Mac {
    [0x52, 0x54, 0, 0, 0, n]
}

/// As the configuration writes it.
pub fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The `n`-th tenant's IPv4 address.
pub const fn ip4(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

/// The `n`-th tenant's IPv6 address.
pub const fn ip6(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n as u16)
}

/// An Ethernet frame.
pub fn ethernet(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst[..], &src, &ethertype.to_be_bytes(), payload].concat()
}

/// A frame of an experimental ethertype (0x88b5) with `len` bytes counting up from `first`,
/// `len` of all the frame.
pub fn pattern(dst: Mac, src: Mac, first: u8, len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len - 14)
        .map(|i| (i as u8).wrapping_add(first))
        .collect();
    ethernet(dst, src, 0x88b5, &payload)
}

/// The frame with an 802.1Q tag.
pub fn tagged(vid: u16, frame: &[u8]) -> Vec<u8> {
    [
        &frame[..12],
        &VLAN.to_be_bytes(),
        &vid.to_be_bytes(),
        &frame[12..],
    ]
    .concat()
}

/// The VLAN and the frame without its tag.
pub fn untagged(frame: &[u8]) -> (u16, Vec<u8>) {
    assert_eq!(frame[12..14], VLAN.to_be_bytes(), "no tag: {frame:02x?}");
    let tci = u16::from_be_bytes([frame[14], frame[15]]);
    (tci, [&frame[..12], &frame[16..]].concat())
}

/// Ones' complement sum of 16-bit words (RFC 1071), complemented.
pub fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let all = parts.concat();
    let mut sum: u32 = 0;
    for word in all.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum of an upper-layer message over the pseudo header of its addresses.
pub fn upper_checksum(src: IpAddr, dst: IpAddr, protocol: u8, message: &[u8]) -> u16 {
    let len = message.len() as u32;
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let tail = [0, protocol, (len >> 8) as u8, len as u8];
            internet_checksum(&[&src.octets(), &dst.octets(), &tail, message])
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let tail = [0, 0, 0, protocol];
            let len = len.to_be_bytes();
            internet_checksum(&[&src.octets(), &dst.octets(), &len, &tail, message])
        }
        _ => panic!("addresses of one family"),
    }
}

/// An IPv4 packet with header checksum, TTL 64.
pub fn ipv4(
    src: Ipv4Addr,
    dst: Ipv4Addr,
    protocol: u8,
    flags: u16,
    id: u16,
    body: &[u8],
) -> Vec<u8> {
    let total = (20 + body.len()) as u16;
    let mut header = vec![0x45, 0];
    header.extend(total.to_be_bytes());
    header.extend(id.to_be_bytes());
    header.extend(flags.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(src.octets());
    header.extend(dst.octets());
    let sum = internet_checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend(body);
    header
}

/// An IPv6 packet, hop limit 64.
pub fn ipv6(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, body: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((body.len() as u16).to_be_bytes());
    header.extend([next_header, 64]);
    header.extend(src.octets());
    header.extend(dst.octets());
    header.extend(body);
    header
}

/// A UDP datagram with checksum.
pub fn udp(src: IpAddr, dst: IpAddr, sport: u16, dport: u16, body: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(sport.to_be_bytes());
    datagram.extend(dport.to_be_bytes());
    datagram.extend(((8 + body.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(body);
    let sum = match upper_checksum(src, dst, 17, &datagram) {
        0 => 0xffff,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// "Don't fragment".
pub const DF: u16 = 0x4000;

/// A UDP frame over IPv4 of `len` bytes in all, from tenant `from` to tenant `to`.
pub fn udp4(from: u8, to: u8, flags: u16, len: usize) -> Vec<u8> {
    let (src, dst) = (ip4(from), ip4(to));
    let body = vec![from; len - 14 - 20 - 8];
    let datagram = udp(src.into(), dst.into(), 1024, 2048, &body);
    ethernet(
        mac(to),
        mac(from),
        0x0800,
        &ipv4(src, dst, 17, flags, 7, &datagram),
    )
}

/// A UDP frame over IPv6 of `len` bytes in all, from tenant `from` to tenant `to`.
pub fn udp6(from: u8, to: u8, len: usize) -> Vec<u8> {
    let (src, dst) = (ip6(from), ip6(to));
    let body = vec![from; len - 14 - 40 - 8];
    let datagram = udp(src.into(), dst.into(), 1024, 2048, &body);
    ethernet(mac(to), mac(from), 0x86dd, &ipv6(src, dst, 17, &datagram))
}
