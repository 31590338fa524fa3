//! The addresses of a packet that filters and people ask about.

use std::net::IpAddr;

use vswitch_net::MacAddr;
use vswitch_net::frame::{Frame, L3, L4};

/// Ethernet to layer 4 of one frame, read as far as it can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers {
    /// Source MAC.
    pub src_mac: MacAddr,
    /// Destination MAC.
    pub dst_mac: MacAddr,
    /// VLAN identifier of the outermost tag.
    pub vlan: Option<u16>,
    /// EtherType behind the tags; below 0x600 a length (802.3).
    pub ethertype: u16,
    /// Source and destination address of IP; sender and target of ARP.
    pub ips: Option<(IpAddr, IpAddr)>,
    /// Protocol of the IP payload.
    pub protocol: Option<u8>,
    /// Source and destination port of TCP or UDP.
    pub ports: Option<(u16, u16)>,
    /// Bytes of the whole packet, FCS not included.
    pub len: u32,
}

impl Headers {
    /// Reads a packet of `len` bytes whose first segment is `head`. `None`: not even an
    /// Ethernet header. What is malformed behind it is left out.
    pub fn read(head: &[u8], len: usize) -> Option<Headers> {
        if let Ok(frame) = Frame::parse(head, len) {
            return Some(Headers::of(&frame));
        }
        let (dst, rest) = head.split_first_chunk::<6>()?;
        let (src, rest) = rest.split_first_chunk::<6>()?;
        let kind = rest.first_chunk::<2>()?;
        Some(Headers {
            src_mac: MacAddr(*src),
            dst_mac: MacAddr(*dst),
            ethertype: u16::from_be_bytes(*kind),
            len: len as u32,
            ..Headers::default()
        })
    }

    /// Of a parsed frame.
    pub fn of(frame: &Frame) -> Headers {
        let ips = match frame.l3 {
            L3::Arp {
                sender_ip,
                target_ip,
                ..
            } => Some((IpAddr::V4(sender_ip), IpAddr::V4(target_ip))),
            _ => frame.src_ip().zip(frame.dst_ip()),
        };
        let ports = match frame.l4 {
            L4::Udp { sport, dport, .. } | L4::Tcp { sport, dport, .. } => Some((sport, dport)),
            _ => None,
        };
        Headers {
            src_mac: frame.src,
            dst_mac: frame.dst,
            vlan: frame.vlan.map(|tci| tci & 0xfff),
            ethertype: frame.ethertype,
            ips,
            protocol: frame.ip_protocol(),
            ports,
            len: frame.len,
        }
    }
}
