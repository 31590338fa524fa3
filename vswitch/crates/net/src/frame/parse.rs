//! How a tenant's frame becomes a [`Frame`]: link layer, network layer, transport layer.

use zerocopy::byteorder::network_endian::U16;

use super::{Frame, FrameError, L3, L4, MAX_TAGS};
use crate::arp::ArpPacket;
use crate::ethernet::{self, EthernetHeader, VlanTag, ethertype};
use crate::icmp::{self, IcmpHeader};
use crate::ip::{Fragment, protocol};
use crate::ipv4::Ipv4;
use crate::ipv6::Ipv6;
use crate::nd::{self, Nd, NdError};
use crate::tcp::TcpHeader;
use crate::udp::{self, UdpHeader};
use crate::wire::{self, Missing};

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
