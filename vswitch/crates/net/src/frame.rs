//! A tenant's Ethernet frame, parsed once: what forwarding, policy and suppression ask about.

mod parse;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ip::Fragment;
use crate::ipv4::Ipv4Error;
use crate::ipv6::Ipv6Error;
use crate::mac::MacAddr;
use crate::nd::{Nd, NdError};
use crate::wire::Missing;

/// A frame with more VLAN tags than this is refused.
pub const MAX_TAGS: u8 = 4;

/// A parsed frame. Offsets count from the start of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Destination MAC.
    pub dst: MacAddr,
    /// Source MAC.
    pub src: MacAddr,
    /// Control information of the outermost VLAN tag.
    pub vlan: Option<u16>,
    /// How many VLAN tags there are.
    pub tags: u8,
    /// EtherType behind all tags.
    pub ethertype: u16,
    /// Where the network layer begins: behind all tags.
    pub l3_offset: u16,
    /// Octets of the frame, without FCS.
    pub len: u32,
    /// Network layer.
    pub l3: L3,
    /// Transport layer.
    pub l4: L4,
}

/// Network layer of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum L3 {
    /// ARP for IPv4 over Ethernet.
    Arp {
        /// [`crate::arp::REQUEST`], [`crate::arp::REPLY`] or another.
        op: u16,
        /// Sender's MAC; to be believed no more than the frame's source.
        sender_mac: MacAddr,
        /// Sender's address; unspecified in a probe (RFC 5227).
        sender_ip: Ipv4Addr,
        /// Target's MAC; meaningless in a request.
        target_mac: MacAddr,
        /// The address asked for, or the asker's.
        target_ip: Ipv4Addr,
    },
    /// IPv4, lengths checked; the header checksum is not.
    Ipv4 {
        /// Source address.
        src: Ipv4Addr,
        /// Destination address.
        dst: Ipv4Addr,
        /// Protocol of the payload.
        protocol: u8,
        /// Where the payload begins.
        l4_offset: u16,
        /// The "don't fragment" flag.
        df: bool,
        /// Part of a datagram.
        fragment: Fragment,
        /// Octets of header and payload.
        total_len: u16,
        /// DSCP and ECN.
        tos: u8,
        /// Time to live.
        ttl: u8,
    },
    /// IPv6, lengths and extension headers checked.
    Ipv6 {
        /// Source address.
        src: Ipv6Addr,
        /// Destination address.
        dst: Ipv6Addr,
        /// Protocol behind the extension headers.
        protocol: u8,
        /// Where that begins.
        l4_offset: u16,
        /// Part of a datagram.
        fragment: Fragment,
        /// A routing header names further destinations.
        routing: bool,
        /// Octets behind the fixed header.
        payload_len: u16,
        /// DSCP and ECN.
        traffic_class: u8,
        /// Hop limit.
        hop_limit: u8,
    },
    /// Any other EtherType, or a length (802.3) if below 0x600.
    Other(u16),
}

/// Transport layer of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum L4 {
    /// Not IP, a later fragment, or a protocol not listed here.
    None,
    /// UDP.
    Udp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// Octets of header and payload; may exceed the packet in a first fragment only.
        len: u16,
    },
    /// TCP.
    Tcp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// See [`crate::tcp::flags`].
        flags: u8,
    },
    /// ICMP for IPv4.
    Icmp {
        /// Type.
        ty: u8,
        /// Code.
        code: u8,
        /// Identifier of an echo; of other messages the two octets in its place.
        id: u16,
    },
    /// ICMPv6.
    Icmpv6 {
        /// Type.
        ty: u8,
        /// Code.
        code: u8,
        /// Identifier of an echo; of other messages the two octets in its place.
        id: u16,
        /// The message, if of Neighbor Discovery.
        nd: Option<Nd>,
    },
}

/// Why a frame is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum FrameError {
    /// Shorter than an Ethernet header and its tags.
    #[error("Ethernet frame truncated")]
    Truncated,
    /// Longer than 2³² − 1 octets.
    #[error("frame too long")]
    TooLong,
    /// The first segment ends inside the headers.
    #[error("headers not in the first segment")]
    NotInHead,
    /// More than [`MAX_TAGS`] VLAN tags.
    #[error("too many VLAN tags")]
    TooManyTags,
    /// The frame ends inside the ARP packet.
    #[error("ARP packet truncated")]
    ArpTruncated,
    /// ARP, but not for IPv4 over Ethernet.
    #[error("ARP for another protocol")]
    ArpUnsupported,
    /// IPv4 header malformed.
    #[error(transparent)]
    Ipv4(Ipv4Error),
    /// IPv6 headers malformed.
    #[error(transparent)]
    Ipv6(Ipv6Error),
    /// The packet, or first fragment, ends inside the transport header.
    #[error("transport header truncated")]
    L4Truncated,
    /// UDP length below 8 or beyond the packet.
    #[error("UDP length does not fit")]
    UdpLen,
    /// TCP header length below 20 or beyond the packet.
    #[error("TCP header length does not fit")]
    TcpHeaderLen,
    /// An IPv4 fragment that would overwrite the TCP header of the first (RFC 1858, 4.2).
    #[error("fragment overlaps the TCP header")]
    TcpOverlap,
    /// Neighbor Discovery malformed.
    #[error(transparent)]
    Nd(NdError),
}

impl From<Missing> for FrameError {
    #[inline]
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Packet => Self::Truncated,
            Missing::Head => Self::NotInHead,
        }
    }
}

impl From<Ipv4Error> for FrameError {
    fn from(error: Ipv4Error) -> Self {
        match error {
            Ipv4Error::NotInHead => Self::NotInHead,
            other => Self::Ipv4(other),
        }
    }
}

impl From<Ipv6Error> for FrameError {
    fn from(error: Ipv6Error) -> Self {
        match error {
            Ipv6Error::NotInHead => Self::NotInHead,
            other => Self::Ipv6(other),
        }
    }
}

impl Frame {
    /// Source address of an IP packet.
    #[inline]
    pub const fn src_ip(&self) -> Option<IpAddr> {
        match self.l3 {
            L3::Ipv4 { src, .. } => Some(IpAddr::V4(src)),
            L3::Ipv6 { src, .. } => Some(IpAddr::V6(src)),
            _ => None,
        }
    }

    /// Destination address of an IP packet.
    #[inline]
    pub const fn dst_ip(&self) -> Option<IpAddr> {
        match self.l3 {
            L3::Ipv4 { dst, .. } => Some(IpAddr::V4(dst)),
            L3::Ipv6 { dst, .. } => Some(IpAddr::V6(dst)),
            _ => None,
        }
    }

    /// Protocol of an IP packet's payload.
    #[inline]
    pub const fn ip_protocol(&self) -> Option<u8> {
        match self.l3 {
            L3::Ipv4 { protocol, .. } | L3::Ipv6 { protocol, .. } => Some(protocol),
            _ => None,
        }
    }

    /// Where the payload of an IP packet begins, behind its extension headers.
    #[inline]
    pub const fn l4_offset(&self) -> Option<usize> {
        match self.l3 {
            L3::Ipv4 { l4_offset, .. } | L3::Ipv6 { l4_offset, .. } => Some(l4_offset as usize),
            _ => None,
        }
    }

    /// Which part of a datagram the frame carries; `None` too if it is not IP.
    #[inline]
    pub const fn fragment(&self) -> Fragment {
        match self.l3 {
            L3::Ipv4 { fragment, .. } | L3::Ipv6 { fragment, .. } => fragment,
            _ => Fragment::None,
        }
    }

    /// Where an IP packet ends; what follows pads the frame. Else the end of the frame.
    #[inline]
    pub const fn l3_end(&self) -> usize {
        let offset = self.l3_offset as usize;
        match self.l3 {
            L3::Ipv4 { total_len, .. } => offset + total_len as usize,
            L3::Ipv6 { payload_len, .. } => offset + 40 + payload_len as usize,
            _ => self.len as usize,
        }
    }
}
