//! Neighbor Discovery for IPv6 (RFC 4861): who speaks for which address.

use std::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::icmp::{IcmpHeader, v6};
use crate::mac::MacAddr;
use crate::wire;

/// Option type: source link-layer address.
pub const OPTION_SOURCE_LLA: u8 = 1;
/// Option type: target link-layer address.
pub const OPTION_TARGET_LLA: u8 = 2;
/// Flag of an advertisement: the sender is a router.
pub const FLAG_ROUTER: u32 = 0x8000_0000;
/// Flag of an advertisement: it answers a solicitation.
pub const FLAG_SOLICITED: u32 = 0x4000_0000;
/// Flag of an advertisement: it overrides a cached address.
pub const FLAG_OVERRIDE: u32 = 0x2000_0000;

/// A message of Neighbor Discovery, with the options that name link-layer addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nd {
    /// Who has `target`? (4.3)
    NeighborSolicit {
        /// The address asked for.
        target: Ipv6Addr,
        /// The asker's MAC, if given.
        source_lla: Option<MacAddr>,
    },
    /// Somebody has `target` (4.4).
    NeighborAdvert {
        /// The address spoken for.
        target: Ipv6Addr,
        /// Its MAC, if given.
        target_lla: Option<MacAddr>,
        /// [`FLAG_ROUTER`], [`FLAG_SOLICITED`], [`FLAG_OVERRIDE`].
        flags: u32,
    },
    /// Which routers are there? (4.1)
    RouterSolicit {
        /// The asker's MAC, if given.
        source_lla: Option<MacAddr>,
    },
    /// The sender is a router (4.2).
    RouterAdvert {
        /// Its MAC, if given.
        source_lla: Option<MacAddr>,
    },
    /// Reach `destination` by `target` (4.5).
    Redirect {
        /// The better first hop.
        target: Ipv6Addr,
        /// What is to be reached.
        destination: Ipv6Addr,
        /// The first hop's MAC, if given.
        target_lla: Option<MacAddr>,
    },
}

/// Why a message of Neighbor Discovery is refused; hosts must discard it too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum NdError {
    /// Too short for its type.
    #[error("neighbor discovery message truncated")]
    Truncated,
    /// Hop limit not 255, or code not 0: from off the link, or forged (RFC 4861, 6.1 and 7.1).
    #[error("neighbor discovery message with wrong hop limit or code")]
    Invalid,
    /// In a packet with a fragment header (RFC 6980).
    #[error("neighbor discovery message in a fragment")]
    Fragmented,
    /// An option of length zero, beyond the message, or a link-layer address not of Ethernet.
    #[error("malformed neighbor discovery option")]
    Option,
    /// Two link-layer address options of one type: which one a host believes is unknown.
    #[error("link-layer address option given twice")]
    Ambiguous,
}

/// Solicitation or advertisement with one link-layer address option, ready to be sent.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct NeighborMessage {
    /// Type, code, checksum.
    pub icmp: IcmpHeader,
    /// Flags of an advertisement, in the upper three bits.
    pub flags: U32,
    /// The address in question.
    pub target: [u8; 16],
    /// [`OPTION_SOURCE_LLA`] or [`OPTION_TARGET_LLA`].
    pub option: u8,
    /// Length of the option in units of 8 octets: 1.
    pub option_len: u8,
    /// The link-layer address.
    pub lla: MacAddr,
}

impl NeighborMessage {
    /// An advertisement of `target` at `mac`; the checksum is still to be filled in.
    pub fn advert(target: Ipv6Addr, mac: MacAddr, flags: u32) -> Self {
        Self::new(v6::NEIGHBOR_ADVERT, target, OPTION_TARGET_LLA, mac, flags)
    }

    /// A solicitation of `target` by `mac`; the checksum is still to be filled in.
    pub fn solicit(target: Ipv6Addr, mac: MacAddr) -> Self {
        Self::new(v6::NEIGHBOR_SOLICIT, target, OPTION_SOURCE_LLA, mac, 0)
    }

    fn new(ty: u8, target: Ipv6Addr, option: u8, lla: MacAddr, flags: u32) -> Self {
        Self {
            icmp: IcmpHeader {
                ty,
                code: 0,
                checksum: 0.into(),
            },
            flags: flags.into(),
            target: target.octets(),
            option,
            option_len: 1,
            lla,
        }
    }
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct LlaOption {
    ty: u8,
    len: u8,
    lla: MacAddr,
}

/// Parses a message of type `ty`, given from its ICMPv6 type octet to its end. `None` for types
/// that are not Neighbor Discovery. Hop limit, code and checksum are the caller's to check.
pub fn parse(ty: u8, message: &[u8]) -> Result<Option<Nd>, NdError> {
    let address = |offset| {
        wire::header::<[u8; 16]>(message, offset)
            .map(|octets| Ipv6Addr::from(*octets))
            .ok_or(NdError::Truncated)
    };
    Ok(Some(match ty {
        v6::NEIGHBOR_SOLICIT => Nd::NeighborSolicit {
            target: address(8)?,
            source_lla: lla_option(message, 24, OPTION_SOURCE_LLA)?,
        },
        v6::NEIGHBOR_ADVERT => Nd::NeighborAdvert {
            target: address(8)?,
            target_lla: lla_option(message, 24, OPTION_TARGET_LLA)?,
            flags: wire::header::<U32>(message, 4)
                .map(|flags| flags.get() & (FLAG_ROUTER | FLAG_SOLICITED | FLAG_OVERRIDE))
                .ok_or(NdError::Truncated)?,
        },
        v6::ROUTER_SOLICIT => Nd::RouterSolicit {
            source_lla: lla_option(message, 8, OPTION_SOURCE_LLA)?,
        },
        v6::ROUTER_ADVERT => Nd::RouterAdvert {
            source_lla: lla_option(message, 16, OPTION_SOURCE_LLA)?,
        },
        v6::REDIRECT => Nd::Redirect {
            target: address(8)?,
            destination: address(24)?,
            target_lla: lla_option(message, 40, OPTION_TARGET_LLA)?,
        },
        _ => return Ok(None),
    }))
}

/// The link-layer address in the option of type `wanted`; all options from `offset` on are
/// checked (RFC 4861, 4.6).
fn lla_option(message: &[u8], offset: usize, wanted: u8) -> Result<Option<MacAddr>, NdError> {
    let mut rest = message.get(offset..).ok_or(NdError::Truncated)?;
    let mut found = None;
    while !rest.is_empty() {
        let &[ty, units, ..] = rest else {
            return Err(NdError::Option);
        };
        let len = usize::from(units) * 8;
        if len == 0 || len > rest.len() {
            return Err(NdError::Option);
        }
        if ty == wanted {
            let option: &LlaOption = wire::header(rest, 0).ok_or(NdError::Option)?;
            if option.len != 1 {
                return Err(NdError::Option);
            }
            if found.replace(option.lla).is_some() {
                return Err(NdError::Ambiguous);
            }
        }
        rest = rest.get(len..).ok_or(NdError::Option)?;
    }
    Ok(found)
}
