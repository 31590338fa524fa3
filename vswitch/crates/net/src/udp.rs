//! UDP (RFC 768).

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Octets of the header.
pub const HEADER_LEN: usize = size_of::<UdpHeader>();
/// Where in the header the checksum is.
pub const CHECKSUM_OFFSET: usize = 6;

/// The UDP header.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct UdpHeader {
    /// Source port.
    pub sport: U16,
    /// Destination port.
    pub dport: U16,
    /// Octets of header and payload.
    pub len: U16,
    /// Checksum over pseudo-header, header and payload; 0 means none.
    pub checksum: U16,
}

impl UdpHeader {
    /// A header without checksum before `payload_len` octets; `None` if they are too many.
    #[inline]
    pub fn new(sport: u16, dport: u16, payload_len: usize) -> Option<Self> {
        let len = u16::try_from(payload_len.checked_add(HEADER_LEN)?).ok()?;
        Some(Self {
            sport: sport.into(),
            dport: dport.into(),
            len: len.into(),
            checksum: 0.into(),
        })
    }

    /// The length field, if header and payload fit into `available` octets.
    #[inline]
    pub fn checked_len(&self, available: usize) -> Option<usize> {
        let len = usize::from(self.len.get());
        (len >= HEADER_LEN && len <= available).then_some(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    proptest! {
        #[test]
        fn round_trip(sport: u16, dport: u16, payload in 0usize..70000, spare in 0usize..9) {
            let Some(udp) = UdpHeader::new(sport, dport, payload) else {
                prop_assert!(payload + 8 > 65535);
                return Ok(());
            };
            let parsed: &UdpHeader = wire::header(udp.as_bytes(), 0).unwrap();
            prop_assert_eq!(parsed, &udp);
            prop_assert_eq!(parsed.checked_len(payload + 8 + spare), Some(payload + 8));
            prop_assert_eq!(parsed.checked_len(payload + 7), None);
        }
    }

    #[test]
    fn a_length_below_the_header_is_refused() {
        let bytes = [0x11, 0x94, 0x11, 0x94, 0, 7, 0, 0];
        let udp: &UdpHeader = wire::header(&bytes, 0).unwrap();
        assert_eq!((udp.sport.get(), udp.dport.get()), (4500, 4500));
        assert_eq!(udp.checked_len(100), None);
        assert!(UdpHeader::new(1, 2, usize::MAX).is_none());
    }
}
