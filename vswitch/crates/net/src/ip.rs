//! What IPv4 and IPv6 have in common: protocol numbers and the state of fragmentation.

use serde::{Deserialize, Serialize};

/// Protocol numbers (IANA), also the "next header" values of IPv6.
#[allow(missing_docs)]
pub mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const ESP: u8 = 50;
    pub const AH: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const NO_NEXT_HEADER: u8 = 59;
    pub const DEST_OPTIONS: u8 = 60;
    pub const SCTP: u8 = 132;
}

/// Which part of a datagram a packet carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Fragment {
    /// All of it.
    #[default]
    None,
    /// The first fragment: it has the transport header.
    First,
    /// A later one: it has no transport header.
    Later,
}

impl Fragment {
    /// From the offset (in units of 8 octets) and the "more fragments" flag.
    #[inline]
    pub const fn new(offset: u16, more: bool) -> Self {
        match (offset, more) {
            (0, false) => Self::None,
            (0, true) => Self::First,
            _ => Self::Later,
        }
    }

    /// One of several.
    #[inline]
    pub const fn is_fragment(self) -> bool {
        !matches!(self, Self::None)
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum IpVersion {
    /// RFC 791.
    #[serde(rename = "ipv4")]
    V4,
    /// RFC 8200.
    #[serde(rename = "ipv6")]
    V6,
}

impl IpVersion {
    /// The version of an address.
    pub const fn of(address: std::net::IpAddr) -> Self {
        match address {
            std::net::IpAddr::V4(_) => Self::V4,
            std::net::IpAddr::V6(_) => Self::V6,
        }
    }

    /// Octets of the header without options or extensions: 20 or 40.
    pub const fn header_len(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }
}
