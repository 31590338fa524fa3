//! Dense identifiers: the control side hands them out, workers index arrays with them.

use std::fmt;

use serde::Serialize;

/// Identifier of a virtual network on this edge (not its VNI).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct VnId(pub u16);

/// Identifier of an attachment of this edge: a tenant's port or a VLAN of a physical port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PortId(pub u16);

/// Identifier of another edge. Below [`PeerId::LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PeerId(pub u32);

/// Identifier of one (virtual network, peer) pair. Below [`TunnelId::LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TunnelId(pub u32);

impl VnId {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl PortId {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl PeerId {
    /// Identifiers are array indices; one beyond this is a mistake and not a large network.
    pub const LIMIT: u32 = 1 << 20;

    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl TunnelId {
    /// Identifiers are array indices; one beyond this is a mistake and not a large network.
    pub const LIMIT: u32 = 1 << 22;

    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

macro_rules! display_number {
    ($($id:ty),*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

display_number!(VnId, PortId, PeerId, TunnelId);

/// Where a frame goes: out of a port of this edge, or through a tunnel to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Destination {
    /// A local attachment.
    Port(PortId),
    /// Another edge.
    Tunnel(TunnelId),
}
