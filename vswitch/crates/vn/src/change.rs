//! The language in which the control side tells workers what is new.

use thiserror::Error;
use vswitch_net::{MacAddr, Vni};

use crate::ids::{Destination, PeerId, PortId, TunnelId, VnId};
use crate::model::{Mapping, Peer, Port, VnConfig};

/// One step of a transaction.
///
/// Removal takes dependent things along: a network its ports, tunnels and entries; a port or
/// a tunnel the entries that point to it. A peer that still has tunnels is not removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new virtual network under an unused id.
    AddVn {
        /// Its id.
        id: VnId,
        /// What is decided about it.
        config: VnConfig,
    },
    /// New decisions about a network. Turning `learning` off forgets what tunnels taught.
    UpdateVn {
        /// Its id.
        id: VnId,
        /// What is decided now.
        config: VnConfig,
    },
    /// The network with its ports, tunnels, mappings and learned entries.
    RemoveVn {
        /// Its id.
        id: VnId,
    },
    /// A new attachment under an unused id; it receives what its network floods.
    AddPort {
        /// Its id.
        id: PortId,
        /// What it is.
        port: Port,
    },
    /// The attachment with the entries that point to it.
    RemovePort {
        /// Its id.
        id: PortId,
    },
    /// A new peer under an unused id.
    AddPeer {
        /// Its id.
        id: PeerId,
        /// What it is.
        peer: Peer,
    },
    /// New addresses or another encapsulation of a peer; its tunnels follow.
    UpdatePeer {
        /// Its id.
        id: PeerId,
        /// What it is now.
        peer: Peer,
    },
    /// A peer without tunnels.
    RemovePeer {
        /// Its id.
        id: PeerId,
    },
    /// A network becomes reachable at a peer. At most one tunnel per (network, peer).
    AddTunnel {
        /// Its id, unused so far.
        id: TunnelId,
        /// The network.
        vn: VnId,
        /// The peer.
        peer: PeerId,
        /// Whether the network's broadcast is replicated to it.
        flood: bool,
    },
    /// Joins or leaves the network's flood list.
    SetFlood {
        /// The tunnel.
        id: TunnelId,
        /// Whether the network's broadcast is replicated to it.
        flood: bool,
    },
    /// The tunnel with the entries that point to it.
    RemoveTunnel {
        /// Its id.
        id: TunnelId,
    },
    /// A mapping, new or of a higher generation than the one it replaces. Replaces what was
    /// learned about the address.
    AddMapping {
        /// The network.
        vn: VnId,
        /// The tenant's address, not a group address.
        mac: MacAddr,
        /// Where it is.
        mapping: Mapping,
    },
    /// Withdraws a mapping, unless it is newer than this change. The generation of an
    /// address that has no mapping is not remembered.
    RemoveMapping {
        /// The network.
        vn: VnId,
        /// The tenant's address.
        mac: MacAddr,
        /// The generation that is withdrawn, or a later one.
        generation: u64,
    },
    /// Forgets learned entries; mappings stay.
    FlushLearned(FlushScope),
}

/// Which learned entries are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushScope {
    /// All of them.
    All,
    /// Those of a network.
    Vn(VnId),
    /// Those that point to a port or tunnel.
    Destination(Destination),
}

/// A transaction that was refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("change {index}: {refusal}")]
pub struct ChangeError {
    /// Position of the first change that cannot be applied after those before it.
    pub index: usize,
    /// Why not.
    #[source]
    pub refusal: Refusal,
}

/// Why a change cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The id of a new thing is in use.
    #[error("the identifier is in use")]
    InUse,
    /// The identifier is beyond its limit.
    #[error("the identifier is too large")]
    IdTooLarge,
    /// No such network.
    #[error("no virtual network {0}")]
    NoVn(VnId),
    /// No such port.
    #[error("no port {0}")]
    NoPort(PortId),
    /// No such peer.
    #[error("no peer {0}")]
    NoPeer(PeerId),
    /// No such tunnel.
    #[error("no tunnel {0}")]
    NoTunnel(TunnelId),
    /// No such mapping.
    #[error("no mapping of {mac} in virtual network {vn}")]
    NoMapping {
        /// The network.
        vn: VnId,
        /// The address.
        mac: MacAddr,
    },
    /// Two networks with one VNI.
    #[error("VNI {vni} belongs to virtual network {owner}")]
    VniTaken {
        /// The identifier on the wire.
        vni: Vni,
        /// Who has it.
        owner: VnId,
    },
    /// Two peers with one address.
    #[error("a tunnel endpoint address belongs to peer {owner}")]
    AddressTaken {
        /// Who has it.
        owner: PeerId,
    },
    /// A peer without an address, with one twice, or with one that is not unicast.
    #[error("a peer needs unicast addresses, at least one, each once")]
    BadAddresses,
    /// A second tunnel for one (network, peer).
    #[error("tunnel {0} serves this network and peer")]
    TunnelExists(TunnelId),
    /// A peer that still has tunnels.
    #[error("tunnel {0} still leads to the peer")]
    PeerHasTunnels(TunnelId),
    /// A mapping to a port or tunnel of another network.
    #[error("the destination belongs to virtual network {0}")]
    OtherVn(VnId),
    /// A mapping of a group address or of zero.
    #[error("{0} is not the address of a station")]
    NotAStation(MacAddr),
    /// The generation does not grow.
    #[error("generation {offered} is older than {known}, or the same")]
    OldGeneration {
        /// What is there.
        known: u64,
        /// What was offered.
        offered: u64,
    },
    /// A VLAN identifier outside 1 to 4094.
    #[error("VLAN identifier {0} is not between 1 and 4094")]
    BadVlan(u16),
    /// A learning age of zero or too long, or a limit too large.
    #[error("learning age or limit out of range")]
    BadLearning,
    /// More mappings than the table is made for.
    #[error("too many mappings")]
    TooManyMappings,
}
