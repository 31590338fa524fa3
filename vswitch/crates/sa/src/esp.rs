//! The shape of an ESP packet: lengths, padding, associated data and nonce.

use vswitch_aead::{Aad, Data};
use zerocopy::byteorder::network_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute};

use crate::error::OpenError;
use crate::keys::Algorithm;

/// SPI and sequence number.
pub const HEADER_LEN: usize = 8;
/// Explicit IV of RFC 4106 section 3.1.
pub const IV_LEN: usize = 8;
/// Header and IV: what precedes the payload.
pub const PREFIX_LEN: usize = HEADER_LEN + IV_LEN;
/// Integrity check value: the whole GCM tag.
pub const ICV_LEN: usize = 16;
/// Pad length and next header.
pub(crate) const TRAILER_LEN: usize = 2;
/// Shortest ESP packet: nothing but two bytes of padding, trailer and ICV.
pub const MIN_PACKET_LEN: usize = PREFIX_LEN + 4 + ICV_LEN;
/// Longest ESP packet: what one UDP datagram over IPv4 carries.
pub const MAX_PACKET_LEN: usize = 65_535 - 20 - 8;

/// Longest payload of one packet: its ESP packet is no longer than [`MAX_PACKET_LEN`].
pub(crate) const MAX_PAYLOAD_LEN: usize = {
    let longest = (MAX_PACKET_LEN - PREFIX_LEN - ICV_LEN) / 4 * 4 - TRAILER_LEN;
    assert!(sealed_len(longest) <= MAX_PACKET_LEN && sealed_len(longest + 1) > MAX_PACKET_LEN);
    assert!(longest <= u16::MAX as usize);
    longest
};

/// ESP header (RFC 4303 section 2) and explicit IV as on the wire.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Prefix {
    pub(crate) spi: U32,
    pub(crate) seq: U32,
    pub(crate) iv: U64,
}

impl Prefix {
    #[inline(always)]
    pub(crate) fn read(bytes: &[u8; PREFIX_LEN]) -> Self {
        transmute!(*bytes)
    }

    #[inline(always)]
    pub(crate) fn write(self, bytes: &mut [u8; PREFIX_LEN]) {
        *bytes = transmute!(self);
    }
}

/// Padding of a payload, in bytes: what RFC 4303 section 2.4 needs and no more.
#[inline]
pub(crate) const fn pad_len(payload_len: usize) -> usize {
    // Pads payload, padding and two trailer bytes to a multiple of four.
    2_usize.wrapping_sub(payload_len) % 4
}

/// Length in bytes of the ESP packet around a payload, from ESP header to ICV.
#[must_use]
#[inline]
pub const fn sealed_len(payload_len: usize) -> usize {
    (PREFIX_LEN + ICV_LEN + TRAILER_LEN + pad_len(payload_len)).saturating_add(payload_len)
}

/// AES blocks a payload costs: its ciphertext's, and one for the tag. The same is charged
/// under AES-GMAC, where it bounds the data authenticated under one key.
#[inline]
pub(crate) const fn blocks(payload_len: usize) -> u64 {
    (payload_len + pad_len(payload_len) + TRAILER_LEN).div_ceil(16) as u64 + 1
}

/// Writes padding, pad length and next header into exactly the bytes given: two, and
/// [`pad_len`].
#[inline]
pub(crate) fn write_trailer(trailer: &mut [u8], next_header: u8) {
    // No loop: every packet passes here, and [`pad_len`] has four values.
    match trailer {
        [pad, next] => (*pad, *next) = (0, next_header),
        [one, pad, next] => (*one, *pad, *next) = (1, 1, next_header),
        [one, two, pad, next] => (*one, *two, *pad, *next) = (1, 2, 2, next_header),
        [one, two, three, pad, next] => {
            (*one, *two, *three, *pad, *next) = (1, 2, 3, 3, next_header);
        }
        _ => {}
    }
}

/// Trailers by [`pad_len`], next header zero.
const TRAILERS: [[u8; 8]; 4] = [
    [0, 0, 0, 0, 0, 0, 0, 0],
    [1, 1, 0, 0, 0, 0, 0, 0],
    [1, 2, 2, 0, 0, 0, 0, 0],
    [1, 2, 3, 3, 0, 0, 0, 0],
];

/// As [`write_trailer`], behind a payload of `payload_len` bytes at the beginning of `rest`, which
/// has the ICV at its end. Some bytes of that may be written too: whoever seals writes them again.
#[inline(always)]
pub(crate) fn write_trailer_before_icv(rest: &mut [u8], payload_len: usize, next_header: u8) {
    const { assert!(TRAILER_LEN + ICV_LEN >= 8) };
    let pad = pad_len(payload_len);
    let place = rest.get_mut(payload_len..payload_len + 8);
    if let (Some(place), Some(trailer)) = (place, TRAILERS.get(pad)) {
        let next = u64::from(next_header) << (8 * (pad + 1));
        place.copy_from_slice(&(u64::from_le_bytes(*trailer) | next).to_le_bytes());
    }
}

/// As [`parse_trailer`], of a packet in one piece without its ICV, for the paddings that an
/// honest sender writes: [`pad_len`] bytes at most. `None` decides nothing.
#[inline(always)]
pub(crate) fn parse_short_trailer(packet: &[u8]) -> Option<(usize, u8)> {
    let [.., a, b, c, pad, next_header] = *packet else {
        return None;
    };
    // As a number, whose last octets are to be those of the padding.
    let found = u32::from_be_bytes([0, a, b, c]);
    let (expected, of) = match pad {
        0 => (0, 0),
        1 => (0x01, 0xff),
        2 => (0x0102, 0xffff),
        3 => (0x01_0203, 0xff_ffff),
        _ => return None,
    };
    (found & of == expected).then_some((usize::from(pad), next_header))
}

/// Reads the trailer from its end: next header, pad length, and padding that must count
/// down to 1 (RFC 4303 section 2.4). Returns pad length and next header.
pub(crate) fn parse_trailer<'p>(
    mut backwards: impl Iterator<Item = &'p u8>,
    room: usize,
) -> Result<(usize, u8), OpenError> {
    let mut next = || backwards.next().copied().ok_or(OpenError::Truncated);
    let next_header = next()?;
    let pad = next()?;
    if usize::from(pad) > room {
        return Err(OpenError::Padding);
    }
    for expected in (1..=pad).rev() {
        if next()? != expected {
            return Err(OpenError::Padding);
        }
    }
    Ok((usize::from(pad), next_header))
}

/// Nonce of RFC 4106 section 4: salt and IV.
#[inline(always)]
pub(crate) fn nonce(salt: [u8; 4], iv: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&salt);
    nonce[4..].copy_from_slice(&iv.to_be_bytes());
    nonce
}

/// The sequence number as it is authenticated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence {
    pub(crate) spi: u32,
    pub(crate) number: u64,
    pub(crate) esn: bool,
}

impl Sequence {
    /// Associated data of AES-GCM with an extended sequence number (RFC 4106 section 5).
    #[inline(always)]
    pub(crate) fn extended<'a>(self) -> Aad<'a> {
        let long = u128::from(self.spi) << 64 | u128::from(self.number);
        Aad::new(low_bytes::<12>(long))
    }

    /// Associated data, and what is left to encipher. AES-GCM (RFC 4106 section 5) covers
    /// SPI and sequence number and enciphers the payload; AES-GMAC (RFC 4543 section 3.3)
    /// covers the IV and the payload as well, and enciphers nothing.
    #[inline(always)]
    pub(crate) fn split<'a>(
        self,
        algorithm: Algorithm,
        iv: u64,
        data: Data<'a>,
    ) -> (Aad<'a>, Data<'a>) {
        let spi = u128::from(self.spi);
        let low = u128::from(self.number as u32);
        let long = spi << 64 | u128::from(self.number);
        let nothing = Data::Contiguous(&mut []);
        match (algorithm.is_confidential(), self.esn) {
            (true, true) => (self.extended(), data),
            (true, false) => (Aad::new(low_bytes::<8>(spi << 32 | low)), data),
            (false, true) => {
                let mut head = [0; 20];
                head[..12].copy_from_slice(&low_bytes::<12>(long));
                head[12..].copy_from_slice(&iv.to_be_bytes());
                (with_tail(head, data), nothing)
            }
            (false, false) => {
                let head = spi << 96 | low << 64 | u128::from(iv);
                (with_tail(head.to_be_bytes(), data), nothing)
            }
        }
    }
}

fn with_tail<const N: usize>(head: [u8; N], tail: Data<'_>) -> Aad<'_> {
    match tail {
        Data::Contiguous(d) => Aad::with_tail(head, d),
        Data::Segments(s) => Aad::with_segments(head, s),
    }
}

/// The `N` low bytes of a number, in network byte order.
fn low_bytes<const N: usize>(value: u128) -> [u8; N] {
    const { assert!(N <= 16) };
    let mut out = [0; N];
    out.copy_from_slice(&value.to_be_bytes()[16 - N..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_aligned_and_minimal() {
        for payload in 0..100 {
            let len = sealed_len(payload);
            assert_eq!(len % 4, 0);
            assert!(pad_len(payload) < 4);
            assert_eq!(len, payload + pad_len(payload) + 34);
        }
        assert_eq!(sealed_len(0), MIN_PACKET_LEN);
        assert!(sealed_len(usize::MAX) > MAX_PACKET_LEN);
    }

    #[test]
    fn trailer() {
        let mut t = [0xff; 5];
        write_trailer(&mut t, 17);
        assert_eq!(t, [1, 2, 3, 3, 17]);
        let mut t = [0xff; 2];
        write_trailer(&mut t, 17);
        assert_eq!(t, [0, 17]);
        for payload in 0..9 {
            let mut expected = vec![0xee; payload + pad_len(payload) + TRAILER_LEN];
            write_trailer(&mut expected[payload..], 200);
            let mut found = vec![0xee; expected.len() + ICV_LEN];
            write_trailer_before_icv(&mut found, payload, 200);
            assert_eq!(found[..expected.len()], expected);
        }
    }

    #[test]
    fn block_count() {
        assert_eq!(blocks(0), 2);
        assert_eq!(blocks(14), 2);
        assert_eq!(blocks(15), 3);
        assert_eq!(blocks(1400), 89);
    }

    #[test]
    fn trailers() {
        let parse = |bytes: &[u8], room| parse_trailer(bytes.iter().rev(), room);
        assert_eq!(parse(&[9, 0, 17], 1), Ok((0, 17)));
        assert_eq!(parse(&[1, 2, 3, 3, 17], 3), Ok((3, 17)));
        assert_eq!(parse(&[1, 2, 3, 3, 17], 2), Err(OpenError::Padding));
        assert_eq!(parse(&[1, 2, 4, 3, 17], 9), Err(OpenError::Padding));
        assert_eq!(parse(&[0, 2, 3, 3, 17], 9), Err(OpenError::Padding));
        assert_eq!(parse(&[17], 9), Err(OpenError::Truncated));
        let longest: Vec<u8> = (1..=255).chain([255, 4]).collect();
        assert_eq!(parse(&longest, 255), Ok((255, 4)));
        assert_eq!(parse(&longest, 254), Err(OpenError::Padding));
    }
}
