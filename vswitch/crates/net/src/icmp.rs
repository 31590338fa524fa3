//! ICMP (RFC 792) and ICMPv6 (RFC 4443).

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use crate::nd::Nd;

/// Types of ICMP for IPv4.
#[allow(missing_docs)]
pub mod v4 {
    pub const ECHO_REPLY: u8 = 0;
    pub const DEST_UNREACHABLE: u8 = 3;
    pub const SOURCE_QUENCH: u8 = 4;
    pub const REDIRECT: u8 = 5;
    pub const ECHO_REQUEST: u8 = 8;
    pub const TIME_EXCEEDED: u8 = 11;
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// Code of [`DEST_UNREACHABLE`]: "fragmentation needed and DF set".
    pub const CODE_FRAGMENTATION_NEEDED: u8 = 4;

    /// An error message: never answered by another (RFC 1122, 3.2.2).
    pub const fn is_error(ty: u8) -> bool {
        matches!(
            ty,
            DEST_UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM
        )
    }
}

/// Types of ICMPv6.
#[allow(missing_docs)]
pub mod v6 {
    pub const PACKET_TOO_BIG: u8 = 2;
    pub const ECHO_REQUEST: u8 = 128;
    pub const ECHO_REPLY: u8 = 129;
    pub const MLD_QUERY: u8 = 130;
    pub const MLD_REPORT: u8 = 131;
    pub const MLD_DONE: u8 = 132;
    pub const ROUTER_SOLICIT: u8 = 133;
    pub const ROUTER_ADVERT: u8 = 134;
    pub const NEIGHBOR_SOLICIT: u8 = 135;
    pub const NEIGHBOR_ADVERT: u8 = 136;
    pub const REDIRECT: u8 = 137;
    pub const MLD2_REPORT: u8 = 143;

    /// Never answered by an error (RFC 4443, 2.4 (e)): errors and redirects.
    pub const fn is_error(ty: u8) -> bool {
        ty < 128 || ty == REDIRECT
    }

    /// A message of Neighbor Discovery (RFC 4861, 4).
    pub const fn is_nd(ty: u8) -> bool {
        matches!(ty, ROUTER_SOLICIT..=REDIRECT)
    }
}

/// What all messages begin with.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct IcmpHeader {
    /// Type, see [`v4`] and [`v6`].
    pub ty: u8,
    /// Code.
    pub code: u8,
    /// Checksum over the message; for ICMPv6 over a pseudo-header too.
    pub checksum: U16,
}

/// Octets of [`IcmpHeader`].
pub const HEADER_LEN: usize = size_of::<IcmpHeader>();

/// Echo request and reply, without data.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Echo {
    /// Type, code, checksum.
    pub icmp: IcmpHeader,
    /// Identifier: tells the askers of one host apart.
    pub id: U16,
    /// Sequence number.
    pub seq: U16,
}
