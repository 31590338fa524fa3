//! Geneve (RFC 8926).

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ethernet::ethertype;
use crate::tunnel::TunnelError;
use crate::vni::Vni;
use crate::wire::{self, Missing};

/// UDP destination port (IANA).
pub const PORT: u16 = 6081;
/// Octets of the header without options.
pub const HEADER_LEN: usize = size_of::<GeneveHeader>();
/// The O bit: a control packet.
pub const FLAG_CONTROL: u8 = 0x80;
/// The C bit: critical options are present.
pub const FLAG_CRITICAL: u8 = 0x40;

/// The fixed header (3.4).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct GeneveHeader {
    /// Version (2 bits, 0) and length of the options in words of 4 octets (6 bits).
    pub version_len: u8,
    /// [`FLAG_CONTROL`], [`FLAG_CRITICAL`], reserved (6 bits).
    pub flags: u8,
    /// EtherType of the payload.
    pub protocol: U16,
    /// Virtual network.
    pub vni: [u8; 3],
    /// Zero when sent, ignored when received.
    pub reserved: u8,
}

/// What an option begins with (3.5).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct OptionHeader {
    /// Namespace of the type.
    pub class: U16,
    /// Type; its upper bit says "critical".
    pub ty: u8,
    /// Reserved (3 bits) and length of the data in words of 4 octets (5 bits).
    pub len: u8,
}

impl GeneveHeader {
    /// A data header without options before an Ethernet frame.
    #[inline]
    pub fn new(vni: Vni) -> Self {
        Self {
            version_len: 0,
            flags: 0,
            protocol: ethertype::TEB.into(),
            vni: vni.to_bytes(),
            reserved: 0,
        }
    }

    /// Octets of the options.
    #[inline]
    pub const fn options_len(&self) -> usize {
        (self.version_len & 0x3f) as usize * 4
    }
}

/// Parses the header at `offset` of `head`, in a datagram that ends at `end`; returns the VNI
/// and where the inner frame begins. Options without the critical bit are skipped; no critical
/// one is known, so any is an error, whatever the C bit says.
#[inline]
pub fn parse(head: &[u8], offset: usize, end: usize) -> Result<(Vni, usize), TunnelError> {
    let header: &GeneveHeader = wire::header_within(head, offset, end)?;
    if header.version_len >> 6 != 0 {
        return Err(TunnelError::Version);
    }
    if header.flags & FLAG_CONTROL != 0 {
        return Err(TunnelError::Control);
    }
    if header.protocol != ethertype::TEB {
        return Err(TunnelError::Protocol);
    }
    let start = offset + HEADER_LEN;
    let inner = start + header.options_len();
    if inner > end {
        return Err(TunnelError::Truncated);
    }
    if inner != start {
        check_options(head, start, inner)?;
    }
    Ok((Vni::from_bytes(header.vni), inner))
}

#[cold]
fn check_options(head: &[u8], mut offset: usize, end: usize) -> Result<(), TunnelError> {
    while offset < end {
        let option: &OptionHeader =
            wire::header_within(head, offset, end).map_err(|missing| match missing {
                Missing::Packet => TunnelError::Options,
                Missing::Head => TunnelError::NotInHead,
            })?;
        if option.ty & 0x80 != 0 {
            return Err(TunnelError::CriticalOption);
        }
        offset += size_of::<OptionHeader>() + usize::from(option.len & 0x1f) * 4;
    }
    if offset == end {
        Ok(())
    } else {
        Err(TunnelError::Options)
    }
}
