//! Ethernet II header and 802.1Q / 802.1ad tags.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::mac::MacAddr;

/// EtherType values (IEEE registry). Values below 0x600 are lengths (802.3).
#[allow(missing_docs)]
pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    /// Transparent Ethernet bridging: an Ethernet frame (Geneve's payload).
    pub const TEB: u16 = 0x6558;
    pub const RARP: u16 = 0x8035;
    /// 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    pub const IPV6: u16 = 0x86dd;
    /// 802.1ad service tag.
    pub const QINQ: u16 = 0x88a8;
    pub const LLDP: u16 = 0x88cc;

    /// A VLAN tag follows.
    #[inline]
    pub const fn is_vlan(ethertype: u16) -> bool {
        matches!(ethertype, VLAN | QINQ)
    }
}

/// Octets of the header without tags.
pub const HEADER_LEN: usize = size_of::<EthernetHeader>();
/// Octets of one tag.
pub const TAG_LEN: usize = size_of::<VlanTag>();

/// Destination, source, EtherType. No preamble, no FCS.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct EthernetHeader {
    /// Destination address.
    pub dst: MacAddr,
    /// Source address.
    pub src: MacAddr,
    /// EtherType of the payload, or of the first tag.
    pub ethertype: U16,
}

/// What follows a tag's own EtherType: the control information, then the next EtherType.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct VlanTag {
    /// Priority (3 bits), DEI (1), VLAN id (12).
    pub tci: U16,
    /// EtherType of what the tag precedes.
    pub ethertype: U16,
}

/// The VLAN id of a tag's control information; 0 means "priority only".
#[inline]
pub const fn vlan_id(tci: u16) -> u16 {
    tci & 0x0fff
}

/// The priority code point of a tag's control information.
#[inline]
pub const fn vlan_priority(tci: u16) -> u8 {
    (tci >> 13) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{header, put};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(dst: [u8; 6], src: [u8; 6], ethertype: u16, tci: u16, next: u16) {
            let eth = EthernetHeader {
                dst: MacAddr(dst), src: MacAddr(src), ethertype: ethertype.into(),
            };
            let tag = VlanTag { tci: tci.into(), ethertype: next.into() };
            let mut buf = [0; 18];
            prop_assert_eq!(put(&mut buf, 0, &eth), Some(14));
            prop_assert_eq!(put(&mut buf, 14, &tag), Some(18));
            prop_assert_eq!(put(&mut buf, 15, &tag), None);
            prop_assert_eq!(header::<EthernetHeader>(&buf, 0), Some(&eth));
            prop_assert_eq!(header::<VlanTag>(&buf, 14), Some(&tag));
            prop_assert_eq!(header::<VlanTag>(&buf, 15), None);
            prop_assert_eq!(vlan_id(tci) | u16::from(vlan_priority(tci)) << 13 | tci & 0x1000, tci);
        }
    }
}
