//! What edges, the mapping authority and operators all say about a VN.

use core::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::Bounded;
use super::prefix::Prefix;
use crate::types::{Generation, Mac, NveName, PortName};

/// Most IP addresses of one MAC address.
pub const MAX_IPS: usize = 16;
/// Most tunnel addresses of one edge.
pub const MAX_TUNNEL_ADDRESSES: usize = 8;

/// IP addresses that belong to one MAC address.
pub type Ips = Bounded<IpAddr, MAX_IPS>;
/// Addresses at which an edge receives tunnel packets.
pub type TunnelAddresses = Bounded<IpAddr, MAX_TUNNEL_ADDRESSES>;

/// Most ranges of one list.
pub const MAX_PREFIXES: usize = 8;

/// Ranges of addresses.
pub type Prefixes = Bounded<Prefix, MAX_PREFIXES>;

/// More than 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no VNI: 0 to 16777215")]
pub struct VniError(u32);

/// Identifier of a VN in tunnel packets: 24 bits (RFC 8926, section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

impl Vni {
    /// Its number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vni {
    type Error = VniError;

    fn try_from(vni: u32) -> Result<Self, VniError> {
        if vni >> 24 != 0 {
            return Err(VniError(vni));
        }
        Ok(Self(vni))
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$item:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        pub enum $name {
            $($(#[$item])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// As operators write it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl core::str::FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("{word:?} is none of {}", [$($word),*].join(", "))),
                }
            }
        }
    };
}

words! {
    /// How a VN's frames are protected between edges.
    Protection {
        /// ESP with AES-GCM (RFC 4106).
        #[default]
        Confidential = "confidential",
        /// ESP with AES-GMAC (RFC 4543).
        Integrity = "integrity",
        /// Plain tunnel packets.
        None = "none",
    }
}

words! {
    /// What an edge does with a VN when its membership lease has run out.
    LeaseEnd {
        /// Forwarding stops, keys are destroyed.
        #[default]
        Stop = "stop",
        /// It goes on with an alarm: availability before revocation.
        Keep = "keep",
    }
}

words! {
    /// Who may register an address.
    Admission {
        /// Only the edge on which it is placed.
        #[default]
        Strict = "strict",
        /// Whoever claims it first, where nothing is placed. For the lab.
        FirstClaim = "first-claim",
    }
}

/// What is the same for every member of a VN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VnSettings {
    /// Its identifier in tunnel packets.
    pub vni: Vni,
    /// How its frames are protected.
    #[serde(default)]
    pub protection: Protection,
    /// What happens when a membership lease has run out.
    #[serde(default)]
    pub lease_end: LeaseEnd,
    /// Who may register an address.
    #[serde(default)]
    pub admission: Admission,
}

/// Where an edge is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it receives tunnel packets.
    pub tunnel_addresses: TunnelAddresses,
    /// Where it takes sessions of other edges.
    pub control_address: SocketAddr,
}

/// One MAC address of a VN: who has it, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The address.
    pub mac: Mac,
    /// How new this is: only grows, whoever registers the address.
    pub generation: Generation,
    /// The edge behind which it is.
    pub nve: NveName,
    /// Its IP addresses.
    pub ips: Ips,
}

/// What belongs on which edge, as an operator says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// The address, unique in the VN.
    pub mac: Mac,
    /// Its IP addresses, unique in the VN. An edge registers one of them or more; only where none is
    /// listed does it register none, which is to say any that nobody else has.
    #[serde(default)]
    pub ips: Ips,
    /// The edge.
    pub nve: NveName,
    /// The edge's port.
    pub port: PortName,
}
