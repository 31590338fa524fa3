//! What a stage decided about a packet, and from which entry. Ids only: the control side knows
//! the names.

use vswitch_net::MacAddr;
use vswitch_net::tunnel::Encapsulation;
use vswitch_vn::{Destination, PortId, Tables, TunnelId, VnId};

use super::record::Place;
use crate::datapath::command::WorkerId;
use crate::datapath::probe::Stage;

/// What made a table say where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A mapping of the configuration or the authority, by its generation.
    Mapping(u64),
    /// Learned from data.
    Learned,
}

impl Rule {
    /// Whose entry an address that is known has.
    pub(in crate::datapath) fn of(tables: &Tables, vn: VnId, mac: MacAddr) -> Rule {
        match tables.mapping(vn, mac) {
            Some(mapping) => Rule::Mapping(mapping.generation),
            None => Rule::Learned,
        }
    }
}

/// One decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// receive: taken from a queue.
    Received(Place),
    /// receive: taken over from another worker.
    HandedIn(WorkerId),
    /// receive: made by the switch itself, about the packet whose record it continues.
    Generated,
    /// check: the frame came with this VLAN, which is this port.
    Vlan {
        /// 802.1Q VLAN identifier.
        vid: u16,
        /// The port that it is.
        port: PortId,
        /// That port's VN.
        vn: VnId,
    },
    /// check: the source MAC and IP are placed on the port.
    Placed {
        /// The port.
        port: PortId,
        /// The source.
        mac: MacAddr,
    },
    /// check: the source is behind a VLAN, which admits what no mapping contradicts.
    AdmittedByVlan {
        /// The VLAN's port.
        port: PortId,
        /// The source.
        mac: MacAddr,
        /// Whether a mapping has it there; else it is a stranger.
        mapped: bool,
    },
    /// check: completed the layer 4 checksum that the tenant left to the switch.
    ChecksumCompleted,
    /// forward: an entry of the VN's table.
    Lookup {
        /// The VN.
        vn: VnId,
        /// The address looked up.
        mac: MacAddr,
        /// Whose entry it is.
        rule: Rule,
        /// What it says.
        destination: Destination,
    },
    /// forward: no entry, and the VN floods unknown unicast.
    UnknownFlooded {
        /// The VN.
        vn: VnId,
    },
    /// forward: a group address.
    Flooded {
        /// The VN.
        vn: VnId,
    },
    /// forward: this copy goes here.
    Copied {
        /// The destination.
        to: Destination,
    },
    /// forward: too long for where it would go.
    TooLong {
        /// Bytes of the frame.
        len: usize,
        /// Bytes of the longest that fits.
        max: usize,
    },
    /// encapsulate: headers written, and the number that the SA spends on it.
    Encapsulated {
        /// The tunnel.
        tunnel: TunnelId,
        /// Its header.
        encapsulation: Encapsulation,
        /// Its VNI.
        vni: u32,
        /// SPI and sequence number; `None` in the clear.
        sa: Option<(u32, u64)>,
        /// The underlay port of its path, by index.
        underlay: u16,
        /// The next hop's MAC.
        next_hop: MacAddr,
    },
    /// seal: done, by this algorithm.
    Sealed {
        /// Its name.
        algorithm: &'static str,
    },
    /// classify: ESP, and who has its SA.
    Esp {
        /// Security parameters index.
        spi: u32,
        /// As the wire has it.
        seq: u32,
        /// The worker that has the SA; `None`: nobody knows the SPI.
        owner: Option<WorkerId>,
        /// The SA's tunnel and VN, if the SA is here.
        tunnel: Option<(TunnelId, VnId)>,
    },
    /// classify: a tunnel packet in the clear.
    Clear(Encapsulation),
    /// classify: not overlay traffic, so it is the host kernel's.
    ForKernel,
    /// open: neither replayed nor too old, and from the SA's peer.
    Fresh {
        /// The packet's 64-bit sequence number.
        seq: u64,
        /// The highest that was accepted before.
        highest: u64,
    },
    /// open: the integrity check value is right.
    Authenticated {
        /// By this algorithm.
        algorithm: &'static str,
    },
    /// decapsulate: the tunnel header is the tunnel's.
    Decapsulated {
        /// The tunnel.
        tunnel: TunnelId,
        /// The tunnel's VN.
        vn: VnId,
        /// The tunnel's header.
        encapsulation: Encapsulation,
        /// The tunnel's VNI.
        vni: u32,
    },
    /// decapsulate: the inner source is mapped to the sending peer.
    SourceMapped {
        /// The source.
        mac: MacAddr,
        /// Generation of the mapping.
        generation: u64,
    },
    /// decapsulate: the inner source is not mapped, and the VN learns.
    SourceUnmapped {
        /// The source.
        mac: MacAddr,
    },
    /// transmit: handed to another worker, for its queue or SA.
    HandedOut(WorkerId),
    /// transmit: given to a port's transmit queue.
    Queued(Place),
}

impl Step {
    /// The stage that decides this.
    pub const fn stage(&self) -> Stage {
        match self {
            Step::Received(_) | Step::HandedIn(_) | Step::Generated => Stage::Receive,
            Step::Vlan { .. }
            | Step::Placed { .. }
            | Step::AdmittedByVlan { .. }
            | Step::ChecksumCompleted => Stage::Check,
            Step::Lookup { .. }
            | Step::UnknownFlooded { .. }
            | Step::Flooded { .. }
            | Step::Copied { .. }
            | Step::TooLong { .. } => Stage::Forward,
            Step::Encapsulated { .. } => Stage::Encapsulate,
            Step::Sealed { .. } => Stage::Seal,
            Step::Esp { .. } | Step::Clear(_) | Step::ForKernel => Stage::Classify,
            Step::Fresh { .. } | Step::Authenticated { .. } => Stage::Open,
            Step::Decapsulated { .. } | Step::SourceMapped { .. } | Step::SourceUnmapped { .. } => {
                Stage::Decapsulate
            }
            Step::HandedOut(_) | Step::Queued(_) => Stage::Transmit,
        }
    }
}
