//! The Internet checksum (RFC 1071): a one's complement sum over any number of slices, and the
//! completion of a tenant's TCP and UDP checksums.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::frame::{Frame, L3, L4};
use crate::ip::protocol;
use crate::{tcp, udp};

/// A running one's complement sum. Slices may have any length: the sum knows whether the next
/// octet is the upper or the lower one of its 16-bit word.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum {
    /// Folded lazily; 16-bit words in native order (RFC 1071, 2(B): order does not matter).
    sum: u64,
    /// An odd number of octets went in so far.
    odd: bool,
}

#[inline(always)]
const fn add_carry(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    // Cannot overflow again: a carry leaves a sum below 2^64 - 1.
    sum.wrapping_add(carry as u64)
}

#[inline(always)]
const fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The unfolded sum of one slice that starts on an even octet.
#[inline]
fn sum_slice(bytes: &[u8]) -> u64 {
    // 128 bits, so that carries are counted, not added back each time: an `add`, `adc` per word.
    // Two chains, or each addition would wait for the one before.
    let (blocks, rest) = bytes.as_chunks::<16>();
    let (mut even, mut odd) = (0u128, 0u128);
    for block in blocks {
        if let ([first, second], _) = block.as_chunks::<8>() {
            even += u128::from(u64::from_ne_bytes(*first));
            odd += u128::from(u64::from_ne_bytes(*second));
        }
    }
    let (words, tail) = rest.as_chunks::<8>();
    for word in words {
        even += u128::from(u64::from_ne_bytes(*word));
    }
    // No loop over octets: most headers end here.
    let (words, tail) = tail.as_chunks::<4>();
    for word in words {
        odd += u128::from(u32::from_ne_bytes(*word));
    }
    odd += u128::from(match *tail {
        [a, b, c] => u32::from_ne_bytes([a, b, c, 0]),
        [a, b] => u32::from_ne_bytes([a, b, 0, 0]),
        [a] => u32::from_ne_bytes([a, 0, 0, 0]),
        _ => 0,
    });
    let sum = even + odd;
    add_carry(sum as u64, (sum >> 64) as u64)
}

impl Checksum {
    /// An empty sum.
    #[inline]
    pub const fn new() -> Self {
        Self { sum: 0, odd: false }
    }

    /// Adds `bytes` behind what is summed already.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        let mut sum = sum_slice(bytes);
        if self.odd {
            // RFC 1071, 2(B): octets one place on exchange their roles in the word.
            sum = u64::from(fold(sum).swap_bytes());
        }
        self.sum = add_carry(self.sum, sum);
        self.odd ^= !bytes.len().is_multiple_of(2);
    }

    /// Adds one 16-bit value, in host order, as an aligned word of the data.
    #[inline]
    pub fn add_u16(&mut self, value: u16) {
        self.sum = add_carry(self.sum, u64::from(value.to_be()));
    }

    /// Adds the pseudo-header of TCP and UDP over IPv4 (RFC 768, RFC 9293).
    #[inline]
    pub fn add_pseudo_v4(&mut self, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u16) {
        self.sum = add_carry(self.sum, sum_slice(&src.octets()));
        self.sum = add_carry(self.sum, sum_slice(&dst.octets()));
        self.add_u16(u16::from(protocol));
        self.add_u16(len);
    }

    /// Adds the pseudo-header of the upper layers over IPv6 (RFC 8200, 8.1).
    #[inline]
    pub fn add_pseudo_v6(&mut self, src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, len: u32) {
        self.sum = add_carry(self.sum, sum_slice(&src.octets()));
        self.sum = add_carry(self.sum, sum_slice(&dst.octets()));
        self.add_u16(u16::from(protocol));
        self.add_u16((len >> 16) as u16);
        self.add_u16(len as u16);
    }

    /// Adds octets `start..end` of the concatenation of `segments`; returns how many of them
    /// there were.
    pub fn add_range<'a>(
        &mut self,
        segments: impl IntoIterator<Item = &'a [u8]>,
        start: usize,
        end: usize,
    ) -> usize {
        let mut base = 0usize;
        let mut added = 0;
        for segment in segments {
            let from = start.saturating_sub(base).min(segment.len());
            let to = end.saturating_sub(base).min(segment.len());
            if let Some(part) = segment.get(from..to) {
                self.add(part);
                added += part.len();
            }
            base = base.saturating_add(segment.len());
            if base >= end {
                break;
            }
        }
        added
    }

    /// The sum folded to 16 bits, not complemented, in host order.
    #[inline]
    pub const fn partial(&self) -> u16 {
        u16::from_be(fold(self.sum))
    }

    /// The checksum: the complement of the sum, in host order. Zero over data that contains its
    /// own right checksum.
    #[inline]
    pub const fn finish(&self) -> u16 {
        !self.partial()
    }

    /// As [`Checksum::finish`], for UDP, where zero on the wire means "none" (RFC 768).
    #[inline]
    pub const fn finish_udp(&self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            sum => sum,
        }
    }
}

/// A checksum and where in the frame it belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct L4Checksum {
    /// Offset of its two octets from the start of the frame.
    pub offset: usize,
    /// Its value, in host order.
    pub value: u16,
}

/// The right TCP or UDP checksum of a tenant frame, whatever its checksum field holds now.
///
/// `segments` are all of the frame, from its first octet. `None` for other protocols, for
/// fragments, behind an IPv6 routing header (the final destination is another), and where the
/// segments are shorter than the frame.
pub fn complete_l4<'a, I>(frame: &Frame, segments: I) -> Option<L4Checksum>
where
    I: IntoIterator<Item = &'a [u8]>,
    I::IntoIter: Clone,
{
    let (proto, field, start, len) = match frame.l4 {
        L4::Tcp { .. } => {
            let start = frame.l4_offset()?;
            let len = frame.l3_end().checked_sub(start)?;
            (protocol::TCP, tcp::CHECKSUM_OFFSET, start, len)
        }
        L4::Udp { len, .. } => {
            let start = frame.l4_offset()?;
            (protocol::UDP, udp::CHECKSUM_OFFSET, start, usize::from(len))
        }
        _ => return None,
    };
    let mut sum = Checksum::new();
    match frame.l3 {
        L3::Ipv4 {
            src, dst, fragment, ..
        } if !fragment.is_fragment() => {
            sum.add_pseudo_v4(src, dst, proto, u16::try_from(len).ok()?);
        }
        L3::Ipv6 {
            src,
            dst,
            fragment,
            routing: false,
            ..
        } if !fragment.is_fragment() => {
            sum.add_pseudo_v6(src, dst, proto, u32::try_from(len).ok()?);
        }
        _ => return None,
    }
    let segments = segments.into_iter();
    let (offset, end) = (start + field, start + len);
    let mut added = sum.add_range(segments.clone(), start, offset);
    // The field itself counts as zero; its two octets keep the parity. But it must be there.
    added += Checksum::new().add_range(segments.clone(), offset, offset + 2);
    added += sum.add_range(segments, offset + 2, end);
    (added == len).then(|| L4Checksum {
        offset,
        value: if proto == protocol::UDP {
            sum.finish_udp()
        } else {
            sum.finish()
        },
    })
}

/// The UDP checksum over IPv6 of a datagram given in `segments` (header first, checksum field
/// included and ignored), which end with it. `None` if shorter than a header.
pub fn udp_checksum_v6<'a, I>(src: Ipv6Addr, dst: Ipv6Addr, segments: I) -> Option<u16>
where
    I: IntoIterator<Item = &'a [u8]>,
    I::IntoIter: Clone,
{
    let segments = segments.into_iter();
    let mut sum = Checksum::new();
    let before = sum.add_range(segments.clone(), 0, udp::CHECKSUM_OFFSET);
    let field = Checksum::new().add_range(segments.clone(), before, udp::HEADER_LEN);
    let len = before + field + sum.add_range(segments, udp::HEADER_LEN, usize::MAX);
    if len < udp::HEADER_LEN {
        return None;
    }
    // The pseudo-header is made of aligned words: the order of adding is free.
    sum.add_pseudo_v6(src, dst, protocol::UDP, u32::try_from(len).ok()?);
    Some(sum.finish_udp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 in its plainest form.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn rfc1071_example() {
        // Section 3: the sum of 00 01 f2 03 f4 f5 f6 f7 is ddf2.
        let mut sum = Checksum::new();
        sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.partial(), 0xddf2);
        assert_eq!(sum.finish(), 0x220d);
    }

    #[test]
    fn all_ones_carry_round() {
        for len in [0, 1, 2, 31, 32, 33, 64, 1500, 65535] {
            let bytes = vec![0xff; len];
            let mut sum = Checksum::new();
            sum.add(&bytes);
            assert_eq!(sum.finish(), naive(&bytes), "{len}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_form(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut sum = Checksum::new();
            sum.add(&bytes);
            prop_assert_eq!(sum.finish(), naive(&bytes));
        }

        #[test]
        fn cuts_do_not_matter(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            mut cuts in prop::collection::vec(0usize..300, 0..6),
            start in 0usize..320, len in 0usize..320,
        ) {
            for cut in &mut cuts {
                *cut = (*cut).min(bytes.len());
            }
            cuts.sort_unstable();
            let mut segments: Vec<&[u8]> = Vec::new();
            let mut at = 0;
            for cut in cuts {
                segments.push(&bytes[at..cut]);
                at = cut;
            }
            segments.push(&bytes[at..]);
            let mut sum = Checksum::new();
            for segment in &segments {
                sum.add(segment);
            }
            prop_assert_eq!(sum.finish(), naive(&bytes));

            let (from, to) = (start.min(bytes.len()), (start + len).min(bytes.len()));
            let mut sum = Checksum::new();
            let added = sum.add_range(segments.iter().copied(), start, start + len);
            prop_assert_eq!(added, to - from);
            prop_assert_eq!(sum.finish(), naive(&bytes[from..to]));
        }

        #[test]
        fn pseudo_headers(src: [u8; 16], dst: [u8; 16], proto: u8, len: u32, s4: [u8; 4], d4: [u8; 4]) {
            let mut sum = Checksum::new();
            sum.add_pseudo_v6(src.into(), dst.into(), proto, len);
            let plain = [&src[..], &dst, &len.to_be_bytes(), &[0, 0, 0, proto]].concat();
            prop_assert_eq!(sum.finish(), naive(&plain));
            let mut sum = Checksum::new();
            sum.add_pseudo_v4(s4.into(), d4.into(), proto, len as u16);
            let plain = [&s4[..], &d4, &[0, proto], &(len as u16).to_be_bytes()].concat();
            prop_assert_eq!(sum.finish(), naive(&plain));
        }
    }
}
