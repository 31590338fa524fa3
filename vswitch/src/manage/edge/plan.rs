//! From the configuration to forwarding tables: which ids things get, and the changes that
//! build the tables of a fresh worker.

use std::sync::Arc;

use vswitch_policy::Bindings;
use vswitch_vn::{
    Change, Destination, Mapping, Peer, PeerId, Port, PortId, PortKind, TunnelId, VnConfig, VnId,
};

use crate::datapath::command::PortSetup;
use crate::manage::config::{AllowedIps, Attachment, Config};

/// A (VN, peer) pair of the configuration; its index is its [`TunnelId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelPlan {
    /// The network.
    pub vn: VnId,
    /// The edge at the other end.
    pub peer: PeerId,
}

/// Everything the workers' tables hold at the start.
#[derive(Debug)]
pub struct Plan {
    /// By [`TunnelId`].
    pub tunnels: Vec<TunnelPlan>,
    /// In an order in which each change finds what it needs.
    pub changes: Arc<[Change]>,
}

/// Learned entries per VN at most.
const LEARNING_LIMIT: u32 = 65_536;

/// Largest frame between two ports of one edge: nothing here fragments or refuses them.
const MAX_FRAME: u32 = 65_535;

impl Plan {
    /// Numbers everything in the order of the file.
    pub fn new(config: &Config) -> Self {
        let mut changes = Vec::new();
        let mut tunnels = Vec::new();
        for (i, vn) in config.vns.iter().enumerate() {
            changes.push(Change::AddVn {
                id: vn_id(i),
                config: VnConfig {
                    protection: vn.protection,
                    unknown_unicast: vn.unknown_unicast,
                    learning: vn.learning,
                    learning_age: vn.learning_age,
                    learning_limit: LEARNING_LIMIT,
                    ..VnConfig::new(vn.vni, MAX_FRAME)
                },
            });
        }
        for (i, peer) in config.peers.iter().enumerate() {
            changes.push(Change::AddPeer {
                id: PeerId(i as u32),
                peer: Peer {
                    addresses: peer.addresses.clone().into(),
                    encapsulation: peer.encapsulation,
                },
            });
        }
        for (i, vn) in config.vns.iter().enumerate() {
            for peer in &vn.edges {
                let id = TunnelId(tunnels.len() as u32);
                tunnels.push(TunnelPlan {
                    vn: vn_id(i),
                    peer: *peer,
                });
                changes.push(Change::AddTunnel {
                    id,
                    vn: vn_id(i),
                    peer: *peer,
                    flood: true,
                });
            }
        }
        for (i, port) in config.ports.iter().enumerate() {
            let id = port_id(i);
            let kind = match &port.attachment {
                Attachment::Vhost(_) => PortKind::Tenant,
                Attachment::Vlan(vlan) => PortKind::Vlan { vid: vlan.vid },
            };
            let learning = port.learning;
            changes.push(Change::AddPort {
                id,
                port: Port {
                    vn: port.vn,
                    kind,
                    learning,
                },
            });
            for address in &port.addresses {
                let ips = match &address.ips {
                    AllowedIps::Any => Arc::from([]),
                    AllowedIps::Only(ips) => ips.clone().into(),
                };
                let destination = Destination::Port(id);
                let mapping = Mapping {
                    ips,
                    destination,
                    generation: 1,
                };
                changes.push(Change::AddMapping {
                    vn: port.vn,
                    mac: address.mac,
                    mapping,
                });
            }
        }
        for (i, vn) in config.vns.iter().enumerate() {
            for mapping in &vn.mappings {
                let here = TunnelPlan {
                    vn: vn_id(i),
                    peer: mapping.peer,
                };
                // The configuration admits mappings to the VN's edges only.
                let Some(tunnel) = tunnels.iter().position(|t| *t == here) else {
                    continue;
                };
                let destination = Destination::Tunnel(TunnelId(tunnel as u32));
                changes.push(Change::AddMapping {
                    vn: here.vn,
                    mac: mapping.mac,
                    mapping: Mapping {
                        ips: mapping.ips.clone().into(),
                        destination,
                        generation: 1,
                    },
                });
            }
        }
        Plan {
            tunnels,
            changes: changes.into(),
        }
    }

    /// The tunnel between a VN and a peer.
    pub fn tunnel(&self, vn: VnId, peer: PeerId) -> Option<TunnelId> {
        let at = self
            .tunnels
            .iter()
            .position(|t| t.vn == vn && t.peer == peer)?;
        Some(TunnelId(at as u32))
    }
}

/// What a worker needs to know of port `i`. `queues` says how many receive queues each VLAN
/// device has, and thereby workers that share the rate of its VLANs; who shares a tenant's
/// is known when it connects ([`crate::datapath::command::Command::Attach`]).
pub fn port_setup(config: &Config, i: usize, queues: &[u16]) -> Option<PortSetup> {
    let port = config.ports.get(i)?;
    let (bindings, trunk, vid) = match &port.attachment {
        Attachment::Vhost(_) => {
            let addresses = port.addresses.iter().map(|address| {
                let ips = match &address.ips {
                    AllowedIps::Any => Vec::new(),
                    AllowedIps::Only(ips) => ips.clone(),
                };
                (address.mac, ips)
            });
            (Some(Bindings::new(addresses)), None, 0)
        }
        Attachment::Vlan(vlan) => (None, Some(vlan.device.0), vlan.vid),
    };
    let receivers = trunk.and_then(|device| queues.get(usize::from(device)));
    let receivers = receivers.map_or(1, |queues| u64::from(*queues).max(1));
    let bum_rate = u64::from(port.bum_rate).div_ceil(receivers);
    Some(PortSetup {
        id: port_id(i),
        bindings,
        bum_rate,
        trunk,
        vid,
    })
}

/// Index of a VN in the configuration as its id; the configuration bounds the number.
pub fn vn_id(i: usize) -> VnId {
    VnId(i as u16)
}

/// Index of a port likewise.
pub fn port_id(i: usize) -> PortId {
    PortId(i as u16)
}
