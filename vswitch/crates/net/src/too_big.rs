//! The answer to a tenant frame too large for the overlay: ICMP "fragmentation needed" (RFC
//! 1191) or ICMPv6 "packet too big" (RFC 4443, 3.2), from the address the frame was sent to.

use std::net::IpAddr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::Checksum;
use crate::ethernet::EthernetHeader;
use crate::frame::{Frame, L3, L4};
use crate::icmp::{self, IcmpHeader};
use crate::ip::{Fragment, protocol};
use crate::ipv4::{self, DONT_FRAGMENT, Ipv4Header};
use crate::ipv6::{self, Ipv6Header};
use crate::wire;

/// The longest ICMP packet for IPv4 (RFC 1812, 4.3.2.3).
pub const MAX_V4: usize = 576;
/// The longest ICMPv6 error packet: the least MTU of IPv6 (RFC 4443, 2.4 (c)).
pub const MAX_V6: usize = 1280;
/// The longest frame [`build`] writes.
pub const MAX_FRAME: usize = 14 + 4 * crate::frame::MAX_TAGS as usize + MAX_V6;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FragmentationNeeded {
    icmp: IcmpHeader,
    unused: U16,
    mtu: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PacketTooBig {
    icmp: IcmpHeader,
    mtu: U32,
}

/// Writes the answer to `frame`, whose first octets are `head`, into `out` and returns its
/// length. `mtu` is the IP packet size, in octets, that would have fit.
///
/// `None` where no answer may be sent (RFC 1122, 3.2.2; RFC 4443, 2.4 (e)): not IP; an ICMP
/// error; a later fragment; to a multicast or broadcast address of either layer; from an
/// address that is not one host's; IPv4 without DF. `None` too if `out` is too short.
pub fn build(head: &[u8], frame: &Frame, mtu: u16, out: &mut [u8]) -> Option<usize> {
    if frame.dst.is_multicast() || frame.src.is_multicast() {
        return None;
    }
    if !is_one_host(frame.src_ip()?) || !is_one_host(frame.dst_ip()?) {
        return None;
    }
    match frame.l4 {
        L4::Icmp { ty, .. } if icmp::v4::is_error(ty) => return None,
        L4::Icmpv6 { ty, .. } if icmp::v6::is_error(ty) => return None,
        _ if frame.fragment() == Fragment::Later => return None,
        _ => {}
    }
    let l3 = usize::from(frame.l3_offset);
    let packet = head.get(l3..frame.l3_end().min(head.len()))?;
    let (l2, out_l3) = out.split_at_mut_checked(l3)?;
    // Tags and all: the answer goes back the way the frame came.
    l2.copy_from_slice(head.get(..l3)?);
    let eth: &mut EthernetHeader = wire::header_mut(l2, 0)?;
    std::mem::swap(&mut eth.dst, &mut eth.src);
    let len = match frame.l3 {
        L3::Ipv4 { df: true, .. } => write_v4(packet, mtu, out_l3)?,
        L3::Ipv6 { .. } => write_v6(packet, mtu, out_l3)?,
        _ => return None,
    };
    Some(l3 + len)
}

fn is_one_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            // 0/8, 127/8, 224/3 (multicast, class E, limited broadcast).
            let [first, ..] = a.octets();
            first != 0 && first != 127 && first < 224
        }
        IpAddr::V6(a) => !a.is_multicast() && !a.is_unspecified() && !a.is_loopback(),
    }
}

fn write_v4(packet: &[u8], mtu: u16, out: &mut [u8]) -> Option<usize> {
    const HEADERS: usize = ipv4::MIN_HEADER_LEN + size_of::<FragmentationNeeded>();
    let original: &Ipv4Header = wire::header(packet, 0)?;
    let quote = packet.get(..packet.len().min(MAX_V4 - HEADERS))?;
    let len = HEADERS + quote.len();
    let mut ip = Ipv4Header {
        version_ihl: 0x45,
        tos: 0,
        total_len: u16::try_from(len).ok()?.into(),
        id: 0.into(),
        flags_fragment: DONT_FRAGMENT.into(),
        ttl: 64,
        protocol: protocol::ICMP,
        checksum: 0.into(),
        src: original.dst,
        dst: original.src,
    };
    ip.checksum = ipv4::header_checksum(ip.as_bytes()).into();
    let mut message = FragmentationNeeded {
        icmp: IcmpHeader {
            ty: icmp::v4::DEST_UNREACHABLE,
            code: icmp::v4::CODE_FRAGMENTATION_NEEDED,
            checksum: 0.into(),
        },
        unused: 0.into(),
        mtu: mtu.into(),
    };
    let mut sum = Checksum::new();
    sum.add(message.as_bytes());
    sum.add(quote);
    message.icmp.checksum = sum.finish().into();
    let at = wire::put(out, 0, &ip)?;
    let at = wire::put(out, at, &message)?;
    wire::put(out, at, quote)
}

fn write_v6(packet: &[u8], mtu: u16, out: &mut [u8]) -> Option<usize> {
    const HEADERS: usize = ipv6::HEADER_LEN + size_of::<PacketTooBig>();
    let original: &Ipv6Header = wire::header(packet, 0)?;
    let quote = packet.get(..packet.len().min(MAX_V6 - HEADERS))?;
    let payload_len = u16::try_from(size_of::<PacketTooBig>() + quote.len()).ok()?;
    let ip = Ipv6Header {
        version_class_flow: 0x6000_0000.into(),
        payload_len: payload_len.into(),
        next_header: protocol::ICMPV6,
        hop_limit: 64,
        src: original.dst,
        dst: original.src,
    };
    let mut message = PacketTooBig {
        icmp: IcmpHeader {
            ty: icmp::v6::PACKET_TOO_BIG,
            code: 0,
            checksum: 0.into(),
        },
        mtu: u32::from(mtu).into(),
    };
    let mut sum = Checksum::new();
    sum.add_pseudo_v6(
        ip.src.into(),
        ip.dst.into(),
        protocol::ICMPV6,
        u32::from(payload_len),
    );
    sum.add(message.as_bytes());
    sum.add(quote);
    message.icmp.checksum = sum.finish().into();
    let at = wire::put(out, 0, &ip)?;
    let at = wire::put(out, at, &message)?;
    wire::put(out, at, quote)
}
