//! The underlay side of a packet: what arrived on the wire, before anybody trusts it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ethernet::{self, EthernetHeader, ethertype};
use crate::ip::{Fragment, protocol};
use crate::ipv4::{Ipv4, Ipv4Error};
use crate::ipv6::{Ipv6, Ipv6Error};
use crate::mac::MacAddr;
use crate::udp::{self, UdpHeader};
use crate::wire::{self, Missing};

/// A packet of the underlay whose headers are sound. Offsets count from the start of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outer {
    /// Destination MAC.
    pub dst_mac: MacAddr,
    /// Source MAC.
    pub src_mac: MacAddr,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Protocol of the payload, behind IPv6's extension headers.
    pub protocol: u8,
    /// DSCP (6 bits) and ECN (2 bits).
    pub traffic_class: u8,
    /// Time to live, hop limit.
    pub hop_limit: u8,
    /// Where the IP payload begins: the UDP header, if it is UDP.
    pub payload: usize,
    /// Where the IP packet ends. What follows pads the frame.
    pub end: usize,
    /// Part of a datagram.
    pub fragment: Fragment,
    /// Identification of the datagram; 0 for IPv6 without fragment header.
    pub fragment_id: u32,
    /// Of a UDP packet that is whole, or the first fragment.
    pub udp: Option<OuterUdp>,
}

/// The UDP header of an underlay packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OuterUdp {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Where the UDP payload begins.
    pub payload: usize,
    /// Where it ends, by UDP's own length; in a first fragment where the fragment ends.
    pub end: usize,
    /// The checksum field; 0 means none. Not verified.
    pub checksum: u16,
}

/// Why a packet of the underlay is not an [`Outer`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum OuterError {
    /// Shorter than an Ethernet header.
    #[error("underlay frame truncated")]
    Truncated,
    /// The first segment ends inside the headers.
    #[error("underlay headers not in the first segment")]
    NotInHead,
    /// Another EtherType (ARP, a VLAN tag, LLDP ...): the kernel's, not malformed.
    #[error("underlay frame is not IP (EtherType {0:#06x})")]
    NotIp(u16),
    /// IPv4 header malformed, or its checksum wrong.
    #[error(transparent)]
    Ipv4(Ipv4Error),
    /// IPv6 headers malformed.
    #[error(transparent)]
    Ipv6(Ipv6Error),
    /// The packet ends inside the UDP header.
    #[error("underlay UDP header truncated")]
    UdpTruncated,
    /// UDP length below 8 or beyond the packet.
    #[error("underlay UDP length does not fit")]
    UdpLen,
}

impl From<Missing> for OuterError {
    #[inline]
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Packet => Self::Truncated,
            Missing::Head => Self::NotInHead,
        }
    }
}

impl From<Ipv4Error> for OuterError {
    fn from(error: Ipv4Error) -> Self {
        match error {
            Ipv4Error::NotInHead => Self::NotInHead,
            other => Self::Ipv4(other),
        }
    }
}

impl From<Ipv6Error> for OuterError {
    fn from(error: Ipv6Error) -> Self {
        match error {
            Ipv6Error::NotInHead => Self::NotInHead,
            other => Self::Ipv6(other),
        }
    }
}

impl Outer {
    /// Differentiated services code point.
    #[inline]
    pub const fn dscp(&self) -> u8 {
        self.traffic_class >> 2
    }

    /// Explicit congestion notification (RFC 3168).
    #[inline]
    pub const fn ecn(&self) -> u8 {
        self.traffic_class & 3
    }
}

/// Parses an untagged frame of `total_len` octets of which `head` holds the first: Ethernet,
/// IPv4 (checksum verified) or IPv6, and UDP.
#[inline]
pub fn classify(head: &[u8], total_len: usize) -> Result<Outer, OuterError> {
    let head = head.get(..total_len).unwrap_or(head);
    let eth: &EthernetHeader = wire::header_within(head, 0, total_len)?;
    let mut outer = match eth.ethertype.get() {
        ethertype::IPV4 => {
            let ip = Ipv4::parse(head, ethernet::HEADER_LEN, total_len)?;
            if !ip.checksum_ok() {
                return Err(OuterError::Ipv4(Ipv4Error::Checksum));
            }
            Outer {
                dst_mac: eth.dst,
                src_mac: eth.src,
                src: IpAddr::V4(Ipv4Addr::from(ip.header.src)),
                dst: IpAddr::V4(Ipv4Addr::from(ip.header.dst)),
                protocol: ip.header.protocol,
                traffic_class: ip.header.tos,
                hop_limit: ip.header.ttl,
                payload: ethernet::HEADER_LEN + ip.header_bytes.len(),
                end: ethernet::HEADER_LEN + ip.total_len,
                fragment: ip.header.fragment(),
                fragment_id: u32::from(ip.header.id.get()),
                udp: None,
            }
        }
        ethertype::IPV6 => {
            let ip = Ipv6::parse(head, ethernet::HEADER_LEN, total_len)?;
            Outer {
                dst_mac: eth.dst,
                src_mac: eth.src,
                src: IpAddr::V6(Ipv6Addr::from(ip.header.src)),
                dst: IpAddr::V6(Ipv6Addr::from(ip.header.dst)),
                protocol: ip.protocol,
                traffic_class: ip.header.traffic_class(),
                hop_limit: ip.header.hop_limit,
                payload: ip.upper_offset,
                end: ip.end,
                fragment: ip.fragment,
                fragment_id: ip.fragment_id.unwrap_or(0),
                udp: None,
            }
        }
        other => return Err(OuterError::NotIp(other)),
    };
    if outer.protocol == protocol::UDP && outer.fragment != Fragment::Later {
        outer.udp = Some(parse_udp(head, &outer)?);
    }
    Ok(outer)
}

#[inline]
fn parse_udp(head: &[u8], outer: &Outer) -> Result<OuterUdp, OuterError> {
    let udp: &UdpHeader =
        wire::header_within(head, outer.payload, outer.end).map_err(|missing| match missing {
            Missing::Packet => OuterError::UdpTruncated,
            Missing::Head => OuterError::NotInHead,
        })?;
    let end = if outer.fragment.is_fragment() {
        outer.end
    } else {
        let available = outer.end.saturating_sub(outer.payload);
        outer.payload + udp.checked_len(available).ok_or(OuterError::UdpLen)?
    };
    Ok(OuterUdp {
        sport: udp.sport.get(),
        dport: udp.dport.get(),
        payload: outer.payload + udp::HEADER_LEN,
        end,
        checksum: udp.checksum.get(),
    })
}
