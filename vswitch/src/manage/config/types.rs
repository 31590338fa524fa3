//! The choices an operator has by name, and the names other crates have for them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use vswitch_net::{MacAddr, Vni};
pub use vswitch_sa::{Algorithm, Limits, Spi};
pub use vswitch_vn::{Encapsulation, PeerId, Protection, UnknownUnicast, VnId};

/// Where DPDK's memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// Hugepages where there are some, ordinary memory otherwise.
    Auto,
    /// Hugepages, or the start fails.
    Hugepages,
    /// Ordinary memory.
    NoHuge,
}

/// What a worker does when it found nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Idle {
    /// It polls again at once.
    Poll,
    /// It gives its time slice away: for machines where cores are shared.
    Yield,
}

/// The implementation of AES-GCM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aead {
    /// The fastest that the CPU can run.
    Auto,
    /// The one that every CPU can run.
    Portable,
    /// Vectors of 256 bits.
    VaesAvx2,
    /// Vectors of 512 bits.
    VaesAvx512,
}

impl Aead {
    /// As in the file.
    pub fn name(self) -> &'static str {
        self.forced().unwrap_or("auto")
    }

    /// The backend that must be it, by the name it has in `vswitch_aead`.
    pub fn forced(self) -> Option<&'static str> {
        match self {
            Self::Auto => None,
            Self::Portable => Some("portable"),
            Self::VaesAvx2 => Some("vaes-avx2"),
            Self::VaesAvx512 => Some("vaes-avx512"),
        }
    }
}

/// Who creates the socket of a vhost-user port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VhostMode {
    /// The virtual machine monitor does; the switch connects, again and again.
    Client,
    /// The switch does.
    Server,
}

/// What becomes of a network whose authority has not been heard of for as long as its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseEnd {
    /// What the authority said of the network.
    AsTold,
    /// It is left, whatever the authority said.
    Stop,
}

impl LeaseEnd {
    /// As in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::AsTold => "as-told",
            Self::Stop => "stop",
        }
    }
}

/// The direction of a security association, seen from this edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Packets this edge opens.
    Inbound,
    /// Packets this edge seals.
    Outbound,
}

/// Index of an entry of `devices`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DeviceId(pub u16);

/// An address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpPrefix {
    /// The address; host bits may be set (an interface's address) or not (a route's target).
    pub addr: IpAddr,
    /// Bits, at most 32 or 128.
    pub len: u8,
}

impl IpPrefix {
    fn bits(addr: IpAddr) -> (u128, u8) {
        match addr {
            IpAddr::V4(a) => (u128::from(a.to_bits()) << 96, 32),
            IpAddr::V6(a) => (a.to_bits(), 128),
        }
    }

    fn mask(self) -> u128 {
        match self.len {
            0 => 0,
            n => u128::MAX.checked_shl(128 - u32::from(n)).unwrap_or(0),
        }
    }

    /// Whether `addr` is within.
    pub fn contains(self, addr: IpAddr) -> bool {
        self.addr.is_ipv4() == addr.is_ipv4()
            && (Self::bits(self.addr).0 ^ Self::bits(addr).0) & self.mask() == 0
    }

    /// The same prefix with its host bits cleared.
    pub fn network(self) -> Self {
        let bits = Self::bits(self.addr).0 & self.mask();
        let addr = match self.addr {
            // The low 96 bits are zero by construction.
            IpAddr::V4(_) => IpAddr::V4(((bits >> 96) as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(bits.into()),
        };
        Self { addr, ..self }
    }
}

/// Text that is not a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address with a prefix length, such as 192.0.2.1/24")]
pub struct NotAPrefix;

impl FromStr for IpPrefix {
    type Err = NotAPrefix;

    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        let (addr, len) = text.split_once('/').ok_or(NotAPrefix)?;
        let addr: IpAddr = addr.parse().map_err(|_| NotAPrefix)?;
        if len.is_empty() || len.len() > 3 || !len.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotAPrefix);
        }
        let len: u8 = len.parse().map_err(|_| NotAPrefix)?;
        if len > Self::bits(addr).1 {
            return Err(NotAPrefix);
        }
        Ok(Self { addr, len })
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}
