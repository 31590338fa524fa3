//! A tenant's Ethernet frame, parsed once: what forwarding, policy and suppression ask about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::byteorder::network_endian::U16;

use crate::arp::ArpPacket;
use crate::ethernet::{self, EthernetHeader, VlanTag, ethertype};
use crate::icmp::{self, IcmpHeader};
use crate::ip::{Fragment, protocol};
use crate::ipv4::{Ipv4, Ipv4Error};
use crate::ipv6::{Ipv6, Ipv6Error};
use crate::mac::MacAddr;
use crate::nd::{self, Nd, NdError};
use crate::tcp::TcpHeader;
use crate::udp::{self, UdpHeader};
use crate::wire::{self, Missing};

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
    /// Parses a frame of `total_len` octets of which `head` holds the first. All headers must
    /// lie in `head`; lengths are checked against `total_len`.
    pub fn parse(head: &[u8], total_len: usize) -> Result<Self, FrameError> {
        let len = u32::try_from(total_len).map_err(|_| FrameError::TooLong)?;
        let head = head.get(..total_len).unwrap_or(head);
        let eth: &EthernetHeader = wire::header_within(head, 0, total_len)?;
        let mut ethertype = eth.ethertype.get();
        let mut offset = ethernet::HEADER_LEN;
        let mut vlan = None;
        let mut tags = 0;
        while ethertype::is_vlan(ethertype) {
            if tags == MAX_TAGS {
                return Err(FrameError::TooManyTags);
            }
            let tag: &VlanTag = wire::header_within(head, offset, total_len)?;
            vlan = vlan.or(Some(tag.tci.get()));
            tags += 1;
            ethertype = tag.ethertype.get();
            offset += ethernet::TAG_LEN;
        }
        let (l3, l4) = match ethertype {
            ethertype::IPV4 => parse_ipv4(head, offset, total_len)?,
            ethertype::IPV6 => parse_ipv6(head, offset, total_len)?,
            ethertype::ARP => (parse_arp(head, offset, total_len)?, L4::None),
            other => (L3::Other(other), L4::None),
        };
        Ok(Self {
            dst: eth.dst,
            src: eth.src,
            vlan,
            tags,
            ethertype,
            l3_offset: offset as u16,
            len,
            l3,
            l4,
        })
    }

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

fn parse_arp(head: &[u8], offset: usize, total_len: usize) -> Result<L3, FrameError> {
    let arp: &ArpPacket =
        wire::header_within(head, offset, total_len).map_err(|missing| match missing {
            Missing::Packet => FrameError::ArpTruncated,
            Missing::Head => FrameError::NotInHead,
        })?;
    if !arp.is_ipv4_over_ethernet() {
        return Err(FrameError::ArpUnsupported);
    }
    Ok(L3::Arp {
        op: arp.operation.get(),
        sender_mac: arp.sender_mac,
        sender_ip: arp.sender_ip.into(),
        target_mac: arp.target_mac,
        target_ip: arp.target_ip.into(),
    })
}

fn parse_ipv4(head: &[u8], offset: usize, total_len: usize) -> Result<(L3, L4), FrameError> {
    let ip = Ipv4::parse(head, offset, total_len)?;
    let header = ip.header;
    let l4_offset = offset + ip.header_bytes.len();
    let fragment = header.fragment();
    let l4 = match fragment {
        Fragment::Later => {
            if header.protocol == protocol::TCP && header.fragment_offset() == 1 {
                return Err(FrameError::TcpOverlap);
            }
            L4::None
        }
        _ => {
            let upper = Upper {
                head,
                offset: l4_offset,
                end: offset + ip.total_len,
                first_fragment: fragment.is_fragment(),
            };
            match header.protocol {
                protocol::ICMP => {
                    let (icmp, id) = upper.icmp()?;
                    L4::Icmp {
                        ty: icmp.ty,
                        code: icmp.code,
                        id,
                    }
                }
                other => upper.ports(other)?,
            }
        }
    };
    let l3 = L3::Ipv4 {
        src: header.src.into(),
        dst: header.dst.into(),
        protocol: header.protocol,
        l4_offset: l4_offset as u16,
        df: header.dont_fragment(),
        fragment,
        total_len: header.total_len.get(),
        tos: header.tos,
        ttl: header.ttl,
    };
    Ok((l3, l4))
}

fn parse_ipv6(head: &[u8], offset: usize, total_len: usize) -> Result<(L3, L4), FrameError> {
    let ip = Ipv6::parse(head, offset, total_len)?;
    let upper = Upper {
        head,
        offset: ip.upper_offset,
        end: ip.end,
        first_fragment: ip.fragment.is_fragment(),
    };
    let l4 = match (ip.fragment, ip.protocol) {
        (Fragment::Later, _) => L4::None,
        (_, protocol::ICMPV6) => {
            let (icmp, id) = upper.icmp()?;
            let nd = if icmp::v6::is_nd(icmp.ty) {
                upper.nd(&ip, icmp)?
            } else {
                None
            };
            L4::Icmpv6 {
                ty: icmp.ty,
                code: icmp.code,
                id,
                nd,
            }
        }
        (_, other) => upper.ports(other)?,
    };
    let l3 = L3::Ipv6 {
        src: ip.header.src.into(),
        dst: ip.header.dst.into(),
        protocol: ip.protocol,
        // At most 8 extension headers of 2 KiB behind at most 70 octets.
        l4_offset: ip.upper_offset as u16,
        fragment: ip.fragment,
        routing: ip.routing,
        payload_len: ip.header.payload_len.get(),
        traffic_class: ip.header.traffic_class(),
        hop_limit: ip.header.hop_limit,
    };
    Ok((l3, l4))
}

/// The transport layer's place in a packet.
struct Upper<'a> {
    head: &'a [u8],
    offset: usize,
    end: usize,
    /// The rest of the datagram is elsewhere: lengths cannot be checked against this packet.
    first_fragment: bool,
}

impl<'a> Upper<'a> {
    #[inline]
    fn header<T>(&self) -> Result<&'a T, FrameError>
    where
        T: zerocopy::FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
    {
        wire::header_within(self.head, self.offset, self.end).map_err(|missing| match missing {
            Missing::Packet => FrameError::L4Truncated,
            Missing::Head => FrameError::NotInHead,
        })
    }

    #[inline]
    fn ports(&self, proto: u8) -> Result<L4, FrameError> {
        let available = self.end.saturating_sub(self.offset);
        match proto {
            protocol::UDP => {
                let header: &UdpHeader = self.header()?;
                let len = header.len.get();
                let sound = if self.first_fragment {
                    usize::from(len) >= udp::HEADER_LEN
                } else {
                    header.checked_len(available).is_some()
                };
                if !sound {
                    return Err(FrameError::UdpLen);
                }
                Ok(L4::Udp {
                    sport: header.sport.get(),
                    dport: header.dport.get(),
                    len,
                })
            }
            protocol::TCP => {
                let header: &TcpHeader = self.header()?;
                let available = if self.first_fragment { 60 } else { available };
                if header.checked_len(available).is_none() {
                    return Err(FrameError::TcpHeaderLen);
                }
                Ok(L4::Tcp {
                    sport: header.sport.get(),
                    dport: header.dport.get(),
                    flags: header.flags,
                })
            }
            _ => Ok(L4::None),
        }
    }

    /// Type, code, and the two octets behind the checksum (zero where there are none).
    #[inline]
    fn icmp(&self) -> Result<(&'a IcmpHeader, u16), FrameError> {
        let icmp: &IcmpHeader = self.header()?;
        let id = wire::header_within::<U16>(self.head, self.offset + icmp::HEADER_LEN, self.end)
            .map_or(0, |id| id.get());
        Ok((icmp, id))
    }

    #[inline(never)]
    fn nd(&self, ip: &Ipv6<'_>, icmp: &IcmpHeader) -> Result<Option<Nd>, FrameError> {
        if ip.fragment_id.is_some() {
            return Err(FrameError::Nd(NdError::Fragmented));
        }
        if ip.header.hop_limit != 255 || icmp.code != 0 {
            return Err(FrameError::Nd(NdError::Invalid));
        }
        let message = self
            .head
            .get(self.offset..self.end)
            .ok_or(FrameError::NotInHead)?;
        nd::parse(icmp.ty, message).map_err(FrameError::Nd)
    }
}
