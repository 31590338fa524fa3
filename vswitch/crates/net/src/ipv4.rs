//! IPv4 (RFC 791).

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::Checksum;
use crate::ip::Fragment;
use crate::wire::{self, Missing};

/// Octets of the header without options.
pub const MIN_HEADER_LEN: usize = size_of::<Ipv4Header>();
/// "Don't fragment" in `flags_fragment`.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// "More fragments" in `flags_fragment`.
pub const MORE_FRAGMENTS: u16 = 0x2000;

/// The fixed part of the header.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Ipv4Header {
    /// Version (4 bits) and header length in words of 4 octets (4 bits).
    pub version_ihl: u8,
    /// DSCP (6 bits) and ECN (2 bits).
    pub tos: u8,
    /// Octets of header and payload.
    pub total_len: U16,
    /// Identification of a datagram's fragments.
    pub id: U16,
    /// Flags (3 bits) and fragment offset in units of 8 octets (13 bits).
    pub flags_fragment: U16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: U16,
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
}

/// Why an IPv4 header is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Ipv4Error {
    /// The packet ends inside the header.
    #[error("IPv4 header truncated")]
    Truncated,
    /// The first segment ends inside the header.
    #[error("IPv4 header not in the first segment")]
    NotInHead,
    /// Not version 4.
    #[error("IP version is not 4")]
    Version,
    /// Header length below 20.
    #[error("IPv4 header length below 20")]
    HeaderLen,
    /// Total length below the header's or beyond the frame.
    #[error("IPv4 total length does not fit")]
    TotalLen,
    /// Header checksum wrong.
    #[error("IPv4 header checksum is wrong")]
    Checksum,
}

/// A checked IPv4 packet: the lengths are consistent with each other and with the frame.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    /// The fixed part.
    pub header: &'a Ipv4Header,
    /// The whole header, with options.
    pub header_bytes: &'a [u8],
    /// Octets of header and payload.
    pub total_len: usize,
}

impl Ipv4Header {
    /// Octets of the header with options, as it says itself.
    #[inline]
    pub const fn header_len(&self) -> usize {
        (self.version_ihl & 0x0f) as usize * 4
    }

    /// The "don't fragment" flag.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.flags_fragment.get() & DONT_FRAGMENT != 0
    }

    /// Fragment offset in units of 8 octets.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        self.flags_fragment.get() & 0x1fff
    }

    /// Which part of a datagram this is.
    #[inline]
    pub fn fragment(&self) -> Fragment {
        let flags = self.flags_fragment.get();
        Fragment::new(flags & 0x1fff, flags & MORE_FRAGMENTS != 0)
    }
}

impl<'a> Ipv4<'a> {
    /// Checks the packet at `offset` of `head`, in a frame of `frame_len` octets. The header
    /// checksum is not verified: see [`Ipv4::checksum_ok`].
    #[inline]
    pub fn parse(head: &'a [u8], offset: usize, frame_len: usize) -> Result<Self, Ipv4Error> {
        let header: &Ipv4Header = wire::header_within(head, offset, frame_len)?;
        if header.version_ihl >> 4 != 4 {
            return Err(Ipv4Error::Version);
        }
        let header_len = header.header_len();
        if header_len < MIN_HEADER_LEN {
            return Err(Ipv4Error::HeaderLen);
        }
        let available = frame_len.saturating_sub(offset);
        let total_len = usize::from(header.total_len.get());
        if header_len > available {
            return Err(Ipv4Error::Truncated);
        }
        if total_len < header_len || total_len > available {
            return Err(Ipv4Error::TotalLen);
        }
        let header_bytes = head
            .get(offset..offset + header_len)
            .ok_or(Ipv4Error::NotInHead)?;
        Ok(Self {
            header,
            header_bytes,
            total_len,
        })
    }

    /// The header checksum is right.
    #[inline]
    pub fn checksum_ok(&self) -> bool {
        let mut sum = Checksum::new();
        sum.add(self.header_bytes);
        sum.finish() == 0
    }
}

impl From<Missing> for Ipv4Error {
    #[inline]
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Packet => Self::Truncated,
            Missing::Head => Self::NotInHead,
        }
    }
}

/// The checksum of a header whose checksum field is at its usual place; its present content
/// does not count.
pub fn header_checksum(header_bytes: &[u8]) -> u16 {
    let mut sum = Checksum::new();
    let (before, rest) = header_bytes.split_at(header_bytes.len().min(10));
    sum.add(before);
    sum.add(rest.get(2..).unwrap_or_default());
    sum.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    /// The worked example found in most texts on the header checksum: 0xb861.
    const KNOWN: [u8; 20] = [
        0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
        0xc7,
    ];

    #[test]
    fn known_header() {
        let ip = Ipv4::parse(&KNOWN, 0, 0x73).unwrap();
        assert!(ip.checksum_ok());
        assert_eq!(header_checksum(&KNOWN), 0xb861);
        assert!(ip.header.dont_fragment());
        assert_eq!(ip.header.fragment(), Fragment::None);
        assert_eq!(
            (ip.total_len, ip.header.ttl, ip.header.protocol),
            (0x73, 64, 17)
        );
        assert_eq!(
            Ipv4::parse(&KNOWN, 0, 0x72).unwrap_err(),
            Ipv4Error::TotalLen
        );
        assert_eq!(
            Ipv4::parse(&KNOWN[..19], 0, 0x73).unwrap_err(),
            Ipv4Error::NotInHead
        );
        assert_eq!(
            Ipv4::parse(&KNOWN[..19], 0, 19).unwrap_err(),
            Ipv4Error::Truncated
        );
    }

    #[test]
    fn refusals() {
        let with = |at: usize, value: u8| {
            let mut bytes = KNOWN;
            bytes[at] = value;
            Ipv4::parse(&bytes, 0, 0x73).err()
        };
        assert_eq!(with(0, 0x65), Some(Ipv4Error::Version));
        assert_eq!(with(0, 0x44), Some(Ipv4Error::HeaderLen));
        assert_eq!(with(0, 0x46), Some(Ipv4Error::NotInHead));
        assert_eq!(with(3, 19), Some(Ipv4Error::TotalLen));
    }

    proptest! {
        #[test]
        fn round_trip(
            tos: u8, id: u16, flags: u16, ttl: u8, protocol: u8, src: [u8; 4], dst: [u8; 4],
            options in 0usize..=10, payload in 0usize..100, offset in 0usize..20,
        ) {
            let total = 20 + options * 4 + payload;
            let header = Ipv4Header {
                version_ihl: 0x45 + options as u8, tos, total_len: (total as u16).into(),
                id: id.into(), flags_fragment: flags.into(), ttl, protocol,
                checksum: 0.into(), src, dst,
            };
            let mut bytes = vec![0u8; offset];
            bytes.extend(header.as_bytes());
            bytes.resize(offset + total, 7);
            let sum = header_checksum(&bytes[offset..offset + 20 + options * 4]);
            bytes[offset + 10..offset + 12].copy_from_slice(&sum.to_be_bytes());
            let ip = Ipv4::parse(&bytes, offset, bytes.len()).unwrap();
            prop_assert!(ip.checksum_ok());
            prop_assert_eq!(ip.header, &Ipv4Header { checksum: sum.into(), ..header });
            prop_assert_eq!(ip.header_bytes.len(), 20 + options * 4);
            bytes[offset + 8] ^= 1;
            prop_assert!(!Ipv4::parse(&bytes, offset, bytes.len()).unwrap().checksum_ok());
        }

        #[test]
        fn never_panics(
            bytes in prop::collection::vec(any::<u8>(), 0..80), offset in 0usize..100, len: usize,
        ) {
            let _ = header_checksum(&bytes);
            if let Ok(ip) = Ipv4::parse(&bytes, offset, len) {
                prop_assert!(offset + ip.total_len <= len);
                let _ = ip.checksum_ok();
            }
        }
    }
}
