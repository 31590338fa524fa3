//! What nearly every packet is, recognized with a few loads: a whole IPv4 packet of UDP or TCP
//! without VLAN tag or options, whose lengths are consistent. Anything else is `None` here and
//! goes the thorough way, [`Frame::parse`](crate::Frame::parse) or
//! [`outer::classify`](crate::outer::classify), which finds the same fields in what is
//! recognized here.

use std::net::Ipv4Addr;

use crate::ip::protocol;
use crate::ipv4::MORE_FRAGMENTS;
use crate::{tcp, udp};

/// Octets of Ethernet and IPv4 header.
const L4: usize = 34;
/// Octets of Ethernet, IPv4 and UDP header.
const UDP_END: usize = L4 + udp::HEADER_LEN;
/// Where the TCP header says how long it is.
const TCP_LEN: usize = L4 + 12;

/// Addresses of a recognized frame. MAC addresses are numbers, as [`MacAddr::as_u64`](crate::MacAddr::as_u64) makes them:
/// octets that are taken apart and put together again cost more than all the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quick {
    /// Destination MAC.
    pub dst: u64,
    /// Source MAC.
    pub src: u64,
    /// Source address.
    pub src_ip: Ipv4Addr,
}

/// Stands for a frame that is not recognized: nobody vouches for the address zero.
pub const NOTHING: Quick = Quick {
    dst: 0,
    src: 0,
    src_ip: Ipv4Addr::UNSPECIFIED,
};

/// A recognized UDP packet of the underlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuickOuter {
    /// Destination MAC, as in [`Quick`].
    pub dst_mac: u64,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// UDP destination port.
    pub dport: u16,
    /// Where the UDP payload ends; it begins at [`QuickOuter::PAYLOAD`].
    pub end: usize,
}

impl QuickOuter {
    /// Where the UDP payload begins.
    pub const PAYLOAD: usize = UDP_END;
}

const fn u16_at<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The bits of a MAC address.
const MAC: u64 = (1 << 48) - 1;

const fn u64_at<const N: usize>(b: &[u8; N], at: usize) -> u64 {
    u64::from_be_bytes([
        b[at],
        b[at + 1],
        b[at + 2],
        b[at + 3],
        b[at + 4],
        b[at + 5],
        b[at + 6],
        b[at + 7],
    ])
}

/// The payload's length and protocol, if this is an untagged, whole IPv4 packet without options
/// that fits into `total_len` octets of frame.
#[inline(always)]
const fn ipv4(head: &[u8; UDP_END], total_len: usize) -> Option<(usize, u8)> {
    // EtherType, version and header length in one comparison; TOS is any.
    let kind = u32::from_be_bytes([head[12], head[13], head[14], head[15]]);
    if kind & 0xffff_ff00 != 0x0800_4500 {
        return None;
    }
    let len = u16_at(head, 16) as usize;
    let offset_and_more = MORE_FRAGMENTS | 0x1fff;
    if len < 20 || len > total_len - 14 || u16_at(head, 20) & offset_and_more != 0 {
        return None;
    }
    Some((len - 20, head[23]))
}

const fn address(head: &[u8; UDP_END], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3])
}

/// Recognizes a tenant's frame of `total_len` octets, of which `head` holds the first.
#[inline(always)]
pub fn frame(head: &[u8], total_len: usize) -> Option<Quick> {
    let first: &[u8; UDP_END] = head.first_chunk()?;
    if head.len() > total_len {
        return None;
    }
    let (payload, proto) = ipv4(first, total_len)?;
    match proto {
        protocol::UDP => {
            let len = usize::from(u16_at(first, L4 + 4));
            if len < udp::HEADER_LEN || len > payload {
                return None;
            }
        }
        protocol::TCP => {
            let len = usize::from(head.get(TCP_LEN)? >> 4) * 4;
            if len < tcp::MIN_HEADER_LEN || len > payload || head.len() < L4 + tcp::MIN_HEADER_LEN {
                return None;
            }
        }
        _ => return None,
    }
    Some(Quick {
        dst: u64_at(first, 0) >> 16,
        src: u64_at(first, 4) & MAC,
        src_ip: address(first, 26),
    })
}

/// Recognizes a UDP packet of the underlay, its header checksum verified.
#[inline(always)]
pub fn outer(head: &[u8], total_len: usize) -> Option<QuickOuter> {
    let first: &[u8; UDP_END] = head.first_chunk()?;
    if head.len() > total_len {
        return None;
    }
    let (payload, proto) = ipv4(first, total_len)?;
    let len = usize::from(u16_at(first, L4 + 4));
    if proto != protocol::UDP || len < udp::HEADER_LEN || len > payload || !checksum_ok(first) {
        return None;
    }
    Some(QuickOuter {
        dst_mac: u64_at(first, 0) >> 16,
        src: address(first, 26),
        dst: address(first, 30),
        dport: u16_at(first, L4 + 2),
        end: L4 + len,
    })
}

/// The checksum of a header of 20 octets behind Ethernet's (RFC 1071): five words of 32 bits,
/// whose carries have room in 64.
#[inline(always)]
const fn checksum_ok(head: &[u8; UDP_END]) -> bool {
    // In whatever byte order (RFC 1071, 2 B).
    let mut sum = 0_u64;
    let mut at = 14;
    while at < L4 {
        sum += u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as u64;
        at += 4;
    }
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fragment, Frame, L3, L4, outer};
    use proptest::prelude::*;

    /// Frames that are nearly right: every field that decides is so in most of them.
    fn near() -> impl Strategy<Value = (Vec<u8>, usize)> {
        let kind = prop_oneof![9 => Just([8_u8, 0, 0x45]), 1 => any::<[u8; 3]>()];
        let fragment = prop_oneof![9 => Just([0x40_u8, 0]), 1 => any::<[u8; 2]>()];
        let proto = prop_oneof![4 => Just(17_u8), 4 => Just(6_u8), 1 => any::<u8>()];
        let slack = prop_oneof![3 => Just(0_i32), 1 => -30..30_i32];
        let cut = prop_oneof![4 => Just(0_usize), 1 => 0..80_usize];
        (
            prop::collection::vec(any::<u8>(), 34..140),
            (kind, fragment, proto),
            (slack.clone(), slack.clone(), 4..8_u8, any::<bool>()),
            cut,
        )
            .prop_map(
                |(mut f, (kind, fragment, proto), (a, b, words, sum), cut)| {
                    let len = f.len() as i32 - 14;
                    f[12..14].copy_from_slice(&kind[..2]);
                    f[14] = kind[2];
                    f[16..18].copy_from_slice(&((len + a) as u16).to_be_bytes());
                    f[20..22].copy_from_slice(&fragment);
                    f[23] = proto;
                    if f.len() >= 48 {
                        match proto {
                            17 => f[38..40].copy_from_slice(&((len - 20 + b) as u16).to_be_bytes()),
                            _ => f[46] = words << 4,
                        }
                    }
                    if sum {
                        let right = crate::ipv4::header_checksum(&f[14..34]);
                        f[24..26].copy_from_slice(&right.to_be_bytes());
                    }
                    let total = f.len();
                    f.truncate(total - cut.min(total));
                    (f, total)
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 20 } else { 4000 }))]

        #[test]
        fn a_recognized_frame_is_what_the_parser_says((head, total) in near()) {
            if let Some(quick) = frame(&head, total) {
                let parsed = Frame::parse(&head, total);
                prop_assert!(parsed.is_ok(), "{:?}", parsed);
                let parsed = parsed.unwrap();
                prop_assert_eq!((parsed.dst.as_u64(), parsed.src.as_u64()), (quick.dst, quick.src));
                prop_assert_eq!(parsed.vlan, None);
                prop_assert_eq!(parsed.fragment(), Fragment::None);
                let whole = matches!(parsed.l4, L4::Udp { .. } | L4::Tcp { .. });
                prop_assert!(whole);
                let L3::Ipv4 { src, .. } = parsed.l3 else {
                    return Err(TestCaseError::fail("not IPv4"));
                };
                prop_assert_eq!(src, quick.src_ip);
            }
        }

        #[test]
        fn a_recognized_outer_packet_is_what_the_parser_says((head, total) in near()) {
            if let Some(quick) = super::outer(&head, total) {
                let parsed = outer::classify(&head, total);
                prop_assert!(parsed.is_ok(), "{:?}", parsed);
                let parsed = parsed.unwrap();
                prop_assert_eq!(parsed.dst_mac.as_u64(), quick.dst_mac);
                prop_assert_eq!(parsed.src, std::net::IpAddr::V4(quick.src));
                prop_assert_eq!(parsed.dst, std::net::IpAddr::V4(quick.dst));
                prop_assert_eq!(parsed.fragment, Fragment::None);
                let udp = parsed.udp.unwrap();
                prop_assert_eq!((udp.dport, udp.payload), (quick.dport, QuickOuter::PAYLOAD));
                prop_assert_eq!(udp.end, quick.end);
            }
        }
    }

    /// The usual frames are recognized, or the thorough way would be the only one.
    #[test]
    fn ordinary_frames_are_recognized() {
        let mut f = vec![0; 64];
        f[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        f[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
        f[12..15].copy_from_slice(&[8, 0, 0x45]);
        f[16..18].copy_from_slice(&50_u16.to_be_bytes());
        f[20] = 0x40;
        f[23] = 17;
        f[26..34].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
        f[36..38].copy_from_slice(&4500_u16.to_be_bytes());
        f[38..40].copy_from_slice(&30_u16.to_be_bytes());
        let quick = frame(&f, 64).expect("UDP");
        assert_eq!(quick.src, 0x0200_0000_0002);
        assert_eq!(quick.src_ip, Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(super::outer(&f, 64), None, "checksum");
        let sum = crate::ipv4::header_checksum(&f[14..34]);
        f[24..26].copy_from_slice(&sum.to_be_bytes());
        let found = super::outer(&f, 64).expect("right checksum");
        assert_eq!((found.dport, found.end), (4500, 64));
        f[23] = 6;
        f[46] = 5 << 4;
        assert!(frame(&f, 64).is_some(), "TCP");
        f[20] = 0x20;
        assert_eq!(frame(&f, 64), None, "a fragment");
    }
}
