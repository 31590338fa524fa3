//! Who sent a packet to whom, by its headers alone: nothing of what was in it.

use vswitch_net::MacAddr;
use vswitch_net::frame::{Frame, L4};

/// What the log says of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketSummary {
    /// Source MAC address.
    pub src_mac: Option<String>,
    /// Destination MAC address.
    pub dst_mac: Option<String>,
    /// Source IP address; of ARP, the sender's.
    pub src: Option<String>,
    /// Destination IP address; of ARP, the target's.
    pub dst: Option<String>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// UDP or TCP source port.
    pub src_port: Option<u16>,
    /// UDP or TCP destination port.
    pub dst_port: Option<u16>,
    /// Bytes of the frame, as far as it had not been taken apart.
    pub length: u32,
}

impl PacketSummary {
    /// Of a frame of `len` bytes that begins with `head`.
    pub fn new(head: &[u8], len: u32) -> Self {
        let mac = |at: usize| {
            let bytes = head.get(at..)?.first_chunk::<6>()?;
            Some(MacAddr(*bytes).to_string())
        };
        let mut summary = PacketSummary {
            src_mac: mac(6),
            dst_mac: mac(0),
            src: None,
            dst: None,
            protocol: None,
            src_port: None,
            dst_port: None,
            length: len,
        };
        if let Some(frame) = parse(head, len) {
            summary.src = frame.src_ip().map(|ip| ip.to_string());
            summary.dst = frame.dst_ip().map(|ip| ip.to_string());
            summary.protocol = frame.ip_protocol();
            if let L4::Udp { sport, dport, .. } | L4::Tcp { sport, dport, .. } = frame.l4 {
                (summary.src_port, summary.dst_port) = (Some(sport), Some(dport));
            }
        }
        summary
    }

    /// The SPI of an ESP-in-UDP packet (RFC 3948, 2.1).
    pub fn spi(head: &[u8], len: u32) -> Option<u32> {
        let frame = parse(head, len)?;
        let esp = head.get(frame.l4_offset()? + 8..)?;
        Some(u32::from_be_bytes(*esp.first_chunk()?))
    }
}

/// Also of a packet whose trailer is gone already, so that it is shorter than it says.
fn parse(head: &[u8], len: u32) -> Option<Frame> {
    const LONGEST: usize = 1 << 17;
    Frame::parse(head, len as usize)
        .or_else(|_| Frame::parse(head, LONGEST))
        .ok()
}
