//! TCP (RFC 9293): ports, flags and lengths; the switch does not follow connections here.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Octets of the header without options.
pub const MIN_HEADER_LEN: usize = size_of::<TcpHeader>();
/// Where in the header the checksum is.
pub const CHECKSUM_OFFSET: usize = 16;

/// Bits of [`TcpHeader::flags`].
#[allow(missing_docs)]
pub mod flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
}

/// The fixed part of the header.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct TcpHeader {
    /// Source port.
    pub sport: U16,
    /// Destination port.
    pub dport: U16,
    /// Sequence number.
    pub seq: U32,
    /// Acknowledgment number.
    pub ack: U32,
    /// Header length in words of 4 octets (4 bits), reserved (4 bits).
    pub data_offset: u8,
    /// See [`flags`].
    pub flags: u8,
    /// Window.
    pub window: U16,
    /// Checksum over pseudo-header, header and payload.
    pub checksum: U16,
    /// Urgent pointer.
    pub urgent: U16,
}

impl TcpHeader {
    /// The header's length with options, if sound and within `available` octets.
    #[inline]
    pub fn checked_len(&self, available: usize) -> Option<usize> {
        let len = usize::from(self.data_offset >> 4) * 4;
        (len >= MIN_HEADER_LEN && len <= available).then_some(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;
    use proptest::prelude::*;

    #[test]
    fn known_syn() {
        let bytes = [
            0xc0, 0x00, 0x00, 0x50, 1, 2, 3, 4, 0, 0, 0, 0, 0x60, 0x02, 0xff, 0xff, 0xab, 0xcd, 0,
            0,
        ];
        let tcp: &TcpHeader = wire::header(&bytes, 0).unwrap();
        assert_eq!((tcp.sport.get(), tcp.dport.get()), (0xc000, 80));
        assert_eq!(tcp.flags, flags::SYN);
        assert_eq!(tcp.checked_len(24), Some(24));
        assert_eq!(tcp.checked_len(23), None);
        assert_eq!(bytes[CHECKSUM_OFFSET..][..2], tcp.checksum.to_bytes());
    }

    proptest! {
        #[test]
        fn any_header_length(bytes: [u8; 20], available in 0usize..80) {
            let tcp: &TcpHeader = wire::header(&bytes, 0).unwrap();
            let len = usize::from(bytes[12] >> 4) * 4;
            prop_assert_eq!(tcp.checked_len(available).is_some(), (20..=available).contains(&len));
        }
    }
}
