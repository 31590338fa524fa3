//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ethernet::ethertype;
use crate::mac::MacAddr;
use crate::wire;

/// Operation: who has the target address?
pub const REQUEST: u16 = 1;
/// Operation: the sender has it.
pub const REPLY: u16 = 2;

/// An ARP packet with its 6-octet hardware and 4-octet protocol addresses.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ArpPacket {
    /// Hardware type, 1 for Ethernet.
    pub hardware: U16,
    /// Protocol type, 0x0800 for IPv4.
    pub protocol: U16,
    /// Octets of a hardware address, 6.
    pub hardware_len: u8,
    /// Octets of a protocol address, 4.
    pub protocol_len: u8,
    /// [`REQUEST`], [`REPLY`] or another.
    pub operation: U16,
    /// Sender's hardware address.
    pub sender_mac: MacAddr,
    /// Sender's protocol address.
    pub sender_ip: [u8; 4],
    /// Target's hardware address, unspecified in a request.
    pub target_mac: MacAddr,
    /// Target's protocol address.
    pub target_ip: [u8; 4],
}

impl ArpPacket {
    /// Octets of the packet.
    pub const LEN: usize = size_of::<Self>();

    /// A packet for IPv4 over Ethernet.
    pub fn new(operation: u16, sender: (MacAddr, Ipv4Addr), target: (MacAddr, Ipv4Addr)) -> Self {
        Self {
            hardware: 1.into(),
            protocol: ethertype::IPV4.into(),
            hardware_len: 6,
            protocol_len: 4,
            operation: operation.into(),
            sender_mac: sender.0,
            sender_ip: sender.1.octets(),
            target_mac: target.0,
            target_ip: target.1.octets(),
        }
    }

    /// The packet at the start of `bytes`, whatever its types; `None` if it does not fit.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<&Self> {
        wire::header(bytes, 0)
    }

    /// It is about IPv4 over Ethernet.
    #[inline]
    pub fn is_ipv4_over_ethernet(&self) -> bool {
        self.hardware == 1
            && self.protocol == ethertype::IPV4
            && self.hardware_len == 6
            && self.protocol_len == 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    /// `arping`-style request, as on the wire.
    const REQUEST_BYTES: [u8; 28] = [
        0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
    ];

    #[test]
    fn known_request() {
        let arp = ArpPacket::parse(&REQUEST_BYTES).unwrap();
        assert!(arp.is_ipv4_over_ethernet());
        assert_eq!(arp.operation, REQUEST);
        let built = ArpPacket::new(
            REQUEST,
            (
                MacAddr([0x52, 0x54, 0, 0, 0, 1]),
                Ipv4Addr::new(10, 0, 0, 1),
            ),
            (MacAddr::ZERO, Ipv4Addr::new(10, 0, 0, 2)),
        );
        assert_eq!(built.as_bytes(), REQUEST_BYTES);
        assert_eq!(ArpPacket::parse(&REQUEST_BYTES[..27]), None);
    }

    proptest! {
        #[test]
        fn round_trip(op: u16, smac: [u8; 6], sip: [u8; 4], tmac: [u8; 6], tip: [u8; 4]) {
            let arp = ArpPacket::new(
                op, (MacAddr(smac), sip.into()), (MacAddr(tmac), tip.into()),
            );
            prop_assert_eq!(ArpPacket::parse(arp.as_bytes()), Some(&arp));
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(ArpPacket::parse(&bytes).is_some(), bytes.len() >= 28);
        }
    }
}
