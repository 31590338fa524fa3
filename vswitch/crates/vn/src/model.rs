//! The things a virtual network is made of, as a worker sees them.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vswitch_net::{Encapsulation, Vni};

use crate::ids::{Destination, PeerId, PortId, TunnelId, VnId};

/// How a virtual network's frames are protected between edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protection {
    /// ESP with AES-GCM (RFC 4106): nobody on the way reads or forges.
    #[default]
    Confidential,
    /// ESP with AES-GMAC (RFC 4543): readable on the way, not forgeable.
    Integrity,
    /// Plain tunnel packets.
    None,
}

impl Protection {
    /// Whether it protects less than another.
    #[must_use]
    pub fn is_weaker_than(self, other: Self) -> bool {
        self as u8 > other as u8
    }
}

/// What happens to a unicast frame whose destination nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownUnicast {
    /// Dropped and counted.
    #[default]
    Drop,
    /// Sent to every port and every edge of the network, policed like broadcast.
    Flood,
}

/// What is decided about a virtual network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VnConfig {
    /// Its identifier on the wire, unique on this edge.
    pub vni: Vni,
    /// Protection between edges.
    pub protection: Protection,
    /// Fate of unknown unicast.
    pub unknown_unicast: UnknownUnicast,
    /// Whether remote MAC addresses are learned from data.
    pub learning: bool,
    /// Seconds after which an unused learned entry is forgotten; 1 to [`VnConfig::MAX_AGE`].
    pub learning_age: u32,
    /// The most learned entries the network may have.
    pub learning_limit: u32,
    /// The largest inner Ethernet frame in bytes, header included, FCS not.
    pub max_frame: u32,
}

impl VnConfig {
    /// The largest `learning_age`: table entries keep the time of last use modulo 2²⁹ s.
    pub const MAX_AGE: u32 = 1 << 27;
    /// The largest `learning_limit`.
    pub const MAX_LEARNED: u32 = 1 << 20;

    /// The defaults of a protected network: nothing learned, nothing flooded.
    pub const fn new(vni: Vni, max_frame: u32) -> Self {
        Self {
            vni,
            protection: Protection::Confidential,
            unknown_unicast: UnknownUnicast::Drop,
            learning: false,
            learning_age: 300,
            learning_limit: 4096,
            max_frame,
        }
    }
}

/// A virtual network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vn {
    /// What was decided about it.
    pub config: VnConfig,
    /// Its ports on this edge: where broadcast goes locally. In order of addition.
    pub flood_ports: Vec<PortId>,
    /// Its other edges: where broadcast is replicated to (head-end replication).
    pub flood_tunnels: Vec<TunnelId>,
    pub(crate) learned: u32,
}

impl Vn {
    pub(crate) const fn new(config: VnConfig) -> Self {
        Self {
            config,
            flood_ports: Vec::new(),
            flood_tunnels: Vec::new(),
            learned: 0,
        }
    }

    /// The number of entries learned at present.
    pub const fn learned(&self) -> u32 {
        self.learned
    }
}

/// What a port is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum PortKind {
    /// A tenant system: its frames are untagged.
    Tenant,
    /// One 802.1Q VLAN of a physical port.
    Vlan {
        /// VLAN identifier, 1 to 4094.
        vid: u16,
    },
}

/// An attachment of this edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The network it belongs to.
    pub vn: VnId,
    /// What it is attached to.
    pub kind: PortKind,
    /// Whether MAC addresses behind it are learned from data.
    pub learning: bool,
}

/// Another edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its tunnel endpoint addresses, the preferred one first; at least one, and no other
    /// peer's.
    pub addresses: Arc<[IpAddr]>,
    /// The overlay header it is sent.
    pub encapsulation: Encapsulation,
}

impl Peer {
    /// Whether addresses may be a peer's, whatever others have: at least one, each of a single
    /// host, none twice.
    pub fn are_usable(addresses: &[IpAddr]) -> bool {
        let mut seen = HashSet::new();
        let good = addresses.iter().all(|&address| {
            let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
            let unicast = !address.is_unspecified() && !address.is_multicast() && !broadcast;
            unicast && seen.insert(address)
        });
        good && !seen.is_empty()
    }
}

/// A virtual network at a peer: everything needed to send there in one look.
///
/// `vni`, `protection` and `encapsulation` are copies of the network's and the peer's, kept
/// up to date by [`crate::Tables::apply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The network.
    pub vn: VnId,
    /// The edge at the other end.
    pub peer: PeerId,
    /// The network's identifier on the wire.
    pub vni: Vni,
    /// The overlay header.
    pub encapsulation: Encapsulation,
    /// The protection.
    pub protection: Protection,
}

/// Where a tenant's address is, as the control side says (RFC 8014 §4.3: a mapping).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The IP addresses that belong to the MAC address; empty if not known.
    pub ips: Arc<[IpAddr]>,
    /// Where it is.
    pub destination: Destination,
    /// Grows with every change of this mapping; an older one never replaces a newer.
    pub generation: u64,
}
