//! ESP (RFC 4303) with AES-GCM's explicit IV (RFC 4106), inside UDP (RFC 3948): lengths, the
//! header, and what a datagram on the shared UDP port is.

use zerocopy::byteorder::network_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire;

/// UDP port of ESP and IKE behind NAT (RFC 3948, 2.1).
pub const PORT: u16 = 4500;
/// Octets of SPI and sequence number.
pub const HEADER_LEN: usize = size_of::<EspHeader>();
/// Octets of the explicit IV of AES-GCM and AES-GMAC (RFC 4106, 3.1; RFC 4543).
pub const IV_LEN: usize = 8;
/// Octets of the integrity check value.
pub const ICV_LEN: usize = 16;
/// Octets of pad length and next header.
pub const TRAILER_LEN: usize = 2;
/// Payload, padding and trailer fill a multiple of this (RFC 4303, 2.4).
pub const ALIGN: usize = 4;
/// SPIs below are reserved (RFC 4303, 2.1).
pub const MIN_SPI: u32 = 256;

/// The header (2.1, 2.2).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct EspHeader {
    /// Security parameters index.
    pub spi: U32,
    /// Low half of the sequence number.
    pub seq: U32,
}

/// Header and explicit IV.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct EspIvHeader {
    /// SPI and sequence number.
    pub esp: EspHeader,
    /// The IV; ours is the extended sequence number.
    pub iv: U64,
}

/// What a UDP payload on the port shared by ESP and IKE is (RFC 3948, 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UdpPayload {
    /// An ESP packet.
    Esp {
        /// Security parameters index; not zero.
        spi: u32,
        /// Low half of the sequence number.
        seq: u32,
    },
    /// An IKE message behind the non-ESP marker (2.2).
    Ike,
    /// A NAT keepalive, one octet 0xff (2.3).
    Keepalive,
    /// Too short for any of these.
    Short,
    /// Long enough, but the first segment does not hold the header.
    NotInHead,
}

/// Classifies a UDP payload of `total_len` octets of which `head` holds the first.
#[inline]
pub fn classify(head: &[u8], total_len: usize) -> UdpPayload {
    let head = head.get(..total_len).unwrap_or(head);
    match wire::header_within::<U32>(head, 0, total_len) {
        Err(wire::Missing::Head) => return UdpPayload::NotInHead,
        Err(wire::Missing::Packet) => {
            return match head {
                [0xff] => UdpPayload::Keepalive,
                _ => UdpPayload::Short,
            };
        }
        Ok(spi) if *spi == 0 => return UdpPayload::Ike,
        Ok(_) => {}
    }
    match wire::header_within::<EspHeader>(head, 0, total_len) {
        Ok(esp) => UdpPayload::Esp {
            spi: esp.spi.get(),
            seq: esp.seq.get(),
        },
        Err(wire::Missing::Head) => UdpPayload::NotInHead,
        Err(wire::Missing::Packet) => UdpPayload::Short,
    }
}

/// Octets of padding behind a payload (with its TFC padding) of `payload_len`: 0 to 3.
#[inline]
pub const fn padding_len(payload_len: usize) -> usize {
    payload_len.wrapping_add(TRAILER_LEN).wrapping_neg() % ALIGN
}

/// Octets from the SPI to the ICV around a payload of `payload_len`.
#[inline]
pub const fn packet_len(payload_len: usize) -> usize {
    let around = HEADER_LEN + IV_LEN + padding_len(payload_len) + TRAILER_LEN + ICV_LEN;
    payload_len.saturating_add(around)
}

/// The longest payload whose ESP packet is no longer than `packet_len`; `None` if none is.
#[inline]
pub const fn max_payload_len(packet_len: usize) -> Option<usize> {
    match packet_len.checked_sub(HEADER_LEN + IV_LEN + ICV_LEN) {
        Some(room) => (room / ALIGN * ALIGN).checked_sub(TRAILER_LEN),
        None => None,
    }
}
