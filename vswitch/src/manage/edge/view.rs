//! The forwarding tables that a configuration asks for, under their ids, and the changes that
//! lead from one such view to another: at the start from nothing, later from what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use vswitch_net::{MacAddr, Vni};
use vswitch_vn::{
    Change, Destination, Mapping, Peer, PeerId, Port, PortId, PortKind, TunnelId, VnConfig, VnId,
};

use super::plan::Plan;
use crate::manage::config::{self, AllowedIps, Attachment, Config};

/// Learned entries per VN at most.
const LEARNING_LIMIT: u32 = 65_536;

/// Largest frame between two ports of one edge: nothing here fragments or refuses them.
const MAX_FRAME: u32 = 65_535;

/// The IP addresses of a MAC address, and where it is.
pub type Place = (Arc<[IpAddr]>, Destination);

/// What the tables shall hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Networks.
    pub vns: BTreeMap<VnId, VnConfig>,
    /// Other edges.
    pub peers: BTreeMap<PeerId, Peer>,
    /// Networks at other edges.
    pub tunnels: BTreeMap<TunnelId, (VnId, PeerId)>,
    /// Attachments.
    pub ports: BTreeMap<PortId, Port>,
    /// Who is where.
    pub mappings: BTreeMap<(VnId, MacAddr), Place>,
}

impl View {
    /// What a configuration asks for.
    pub fn of(config: &Config, plan: &Plan) -> Self {
        let mut view = View::default();
        let awaited = |vn: &config::Vn| vn.source == config::Source::Awaited;
        for (vn, id) in config
            .vns
            .iter()
            .zip(&plan.vns)
            .filter(|(vn, _)| !awaited(vn))
        {
            let wanted = VnConfig {
                protection: vn.protection,
                unknown_unicast: vn.unknown_unicast,
                learning: vn.learning,
                learning_age: vn.learning_age,
                learning_limit: LEARNING_LIMIT,
                ..VnConfig::new(vn.vni, MAX_FRAME)
            };
            view.vns.insert(*id, wanted);
        }
        for (peer, id) in config.peers.iter().zip(&plan.peers) {
            let wanted = Peer {
                addresses: peer.addresses.clone().into(),
                encapsulation: peer.encapsulation,
            };
            view.peers.insert(*id, wanted);
        }
        for (id, pair) in &plan.tunnels {
            let vn = plan.vns.get(pair.vn.index());
            let peer = plan.peers.get(pair.peer.index());
            if let (Some(vn), Some(peer)) = (vn, peer) {
                view.tunnels.insert(*id, (*vn, *peer));
            }
        }
        for (port, id) in config.ports.iter().zip(&plan.ports) {
            if config.vns.get(port.vn.index()).is_some_and(awaited) {
                continue;
            }
            // The configuration's ports are all of its networks.
            let Some(vn) = plan.vns.get(port.vn.index()).copied() else {
                continue;
            };
            let kind = match &port.attachment {
                Attachment::Vhost(_) => PortKind::Tenant,
                Attachment::Vlan(vlan) => PortKind::Vlan { vid: vlan.vid },
            };
            let learning = port.learning;
            view.ports.insert(*id, Port { vn, kind, learning });
            for address in &port.addresses {
                let ips: Arc<[IpAddr]> = match &address.ips {
                    AllowedIps::Any => Arc::from([]),
                    AllowedIps::Only(ips) => ips.clone().into(),
                };
                let mapping = (ips, Destination::Port(*id));
                view.mappings.insert((vn, address.mac), mapping);
            }
        }
        for (i, vn) in config.vns.iter().enumerate() {
            let Some(id) = plan.vns.get(i).copied() else {
                continue;
            };
            for mapping in &vn.mappings {
                let place = config::VnId(i as u16);
                // The configuration admits mappings to the VN's edges only.
                let Some(tunnel) = plan.tunnel(place, mapping.peer) else {
                    continue;
                };
                let ips: Arc<[IpAddr]> = mapping.ips.clone().into();
                let there = (ips, Destination::Tunnel(tunnel));
                view.mappings.insert((id, mapping.mac), there);
            }
        }
        view
    }

    /// The changes that turn tables of `self` into tables of `new`, in an order in which each
    /// finds what it needs. `generation` is higher than that of every mapping before.
    pub fn changes(&self, new: &View, generation: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        // Ports that are taken out, be it to come back changed: mappings go with them.
        let gone: BTreeSet<Destination> = self
            .ports
            .iter()
            .filter(|(id, port)| new.ports.get(id) != Some(port))
            .map(|(id, _)| Destination::Port(*id))
            .chain(
                self.tunnels
                    .keys()
                    .filter(|id| !new.tunnels.contains_key(id))
                    .map(|id| Destination::Tunnel(*id)),
            )
            .collect();
        let stays = |vn: &VnId| new.vns.contains_key(vn);
        for ((vn, mac), (_, destination)) in &self.mappings {
            let dropped = !new.mappings.contains_key(&(*vn, *mac));
            if dropped && stays(vn) && !gone.contains(destination) {
                changes.push(Change::RemoveMapping {
                    vn: *vn,
                    mac: *mac,
                    generation,
                });
            }
        }
        for (id, port) in &self.ports {
            if gone.contains(&Destination::Port(*id)) && stays(&port.vn) {
                changes.push(Change::RemovePort { id: *id });
            }
        }
        for (id, (vn, _)) in &self.tunnels {
            if gone.contains(&Destination::Tunnel(*id)) && stays(vn) {
                changes.push(Change::RemoveTunnel { id: *id });
            }
        }
        // These take along what is left of theirs.
        changes.extend(missing(&self.vns, &new.vns).map(|id| Change::RemoveVn { id }));
        changes.extend(missing(&self.peers, &new.peers).map(|id| Change::RemovePeer { id }));
        self.update_vns(new, &mut changes);
        self.update_peers(new, &mut changes);
        for (id, (vn, peer)) in &new.tunnels {
            if !self.tunnels.contains_key(id) {
                changes.push(Change::AddTunnel {
                    id: *id,
                    vn: *vn,
                    peer: *peer,
                    flood: true,
                });
            }
        }
        for (id, port) in &new.ports {
            if self.ports.get(id) != Some(port) {
                let port = port.clone();
                changes.push(Change::AddPort { id: *id, port });
            }
        }
        for (key, there) in &new.mappings {
            let (ips, destination) = there;
            let same = self.mappings.get(key) == Some(there) && !gone.contains(destination);
            if !same {
                changes.push(Change::AddMapping {
                    vn: key.0,
                    mac: key.1,
                    mapping: Mapping {
                        ips: Arc::clone(ips),
                        destination: *destination,
                        generation,
                    },
                });
            }
        }
        changes
    }

    /// A VNI is free for its next owner only when the one before has given it up.
    fn update_vns(&self, new: &View, changes: &mut Vec<Change>) {
        let staying = self.vns.iter().filter(|(id, _)| new.vns.contains_key(id));
        let held = staying.map(|(id, config)| (config.vni, *id)).collect();
        let aside = |config: &VnConfig, in_use: &dyn Fn(&Vni) -> bool| {
            let mut spare = (1..=Vni::MAX.get()).rev().filter_map(Vni::new);
            let vni = spare.find(|vni| !in_use(vni))?;
            let config = config.clone();
            Some(VnConfig { vni, ..config })
        };
        let changed = changed(&self.vns, &new.vns);
        for (id, config) in hand_over(held, changed, |config| vec![config.vni], aside) {
            changes.push(Change::UpdateVn { id, config });
        }
        for (id, config) in &new.vns {
            if !self.vns.contains_key(id) {
                let config = config.clone();
                changes.push(Change::AddVn { id: *id, config });
            }
        }
    }

    /// Likewise the addresses of peers.
    fn update_peers(&self, new: &View, changes: &mut Vec<Change>) {
        let mut held: BTreeMap<IpAddr, PeerId> = BTreeMap::new();
        for (id, peer) in &self.peers {
            if new.peers.contains_key(id) {
                held.extend(peer.addresses.iter().map(|address| (*address, *id)));
            }
        }
        let aside = |peer: &Peer, in_use: &dyn Fn(&IpAddr) -> bool| {
            let mut spare = (1..=u64::MAX).map(discard);
            let address = spare.find(|address| !in_use(address))?;
            let addresses = Arc::from([address]);
            Some(Peer {
                addresses,
                ..peer.clone()
            })
        };
        let changed = changed(&self.peers, &new.peers);
        for (id, peer) in hand_over(held, changed, |peer| peer.addresses.to_vec(), aside) {
            changes.push(Change::UpdatePeer { id, peer });
        }
        for (id, peer) in &new.peers {
            if !self.peers.contains_key(id) {
                let peer = peer.clone();
                changes.push(Change::AddPeer { id: *id, peer });
            }
        }
    }
}

/// An address that nobody answers from (RFC 6666).
fn discard(n: u64) -> IpAddr {
    Ipv6Addr::from_bits(0x0100 << 112 | u128::from(n)).into()
}

/// An order for updates of things of which each has what only one may have, so that each finds
/// free what it is to have. Things that exchange theirs stand aside for a moment: `aside` gives
/// one of them what is not in use. Changes take effect together, so no packet sees that.
fn hand_over<I: Copy + Ord, T: Clone, R: Ord>(
    mut held: BTreeMap<R, I>,
    mut waiting: Vec<(I, &T)>,
    has: impl Fn(&T) -> Vec<R>,
    aside: impl Fn(&T, &dyn Fn(&R) -> bool) -> Option<T>,
) -> Vec<(I, T)> {
    let wanted: BTreeSet<R> = waiting.iter().flat_map(|(_, thing)| has(thing)).collect();
    let mut updates = Vec::new();
    let mut stood_aside = BTreeSet::new();
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain(|(id, thing)| {
            let taken = |r: &R| held.get(r).is_some_and(|owner| owner != id);
            if has(thing).iter().any(taken) {
                return true;
            }
            held.retain(|_, owner| owner != id);
            held.extend(has(thing).into_iter().map(|r| (r, *id)));
            updates.push((*id, (*thing).clone()));
            false
        });
        if waiting.len() < before {
            continue;
        }
        let next = waiting.iter().find(|(id, _)| !stood_aside.contains(id));
        let parked = next.and_then(|(id, thing)| {
            let in_use = |r: &R| held.contains_key(r) || wanted.contains(r);
            Some((*id, aside(thing, &in_use)?))
        });
        let Some((id, thing)) = parked else {
            // Two are to have the same, which the configuration excludes: the tables refuse it.
            updates.extend(waiting.drain(..).map(|(id, thing)| (id, thing.clone())));
            break;
        };
        held.retain(|_, owner| *owner != id);
        held.extend(has(&thing).into_iter().map(|r| (r, id)));
        updates.push((id, thing));
        stood_aside.insert(id);
    }
    updates
}

fn missing<'a, I: Copy + Ord, T>(
    old: &'a BTreeMap<I, T>,
    new: &'a BTreeMap<I, T>,
) -> impl Iterator<Item = I> + 'a {
    old.keys().copied().filter(|id| !new.contains_key(id))
}

fn changed<'a, I: Copy + Ord, T: PartialEq>(
    old: &BTreeMap<I, T>,
    new: &'a BTreeMap<I, T>,
) -> Vec<(I, &'a T)> {
    let differs = |(id, now): &(&I, &T)| old.get(id).is_some_and(|before| before != *now);
    new.iter()
        .filter(differs)
        .map(|(id, now)| (*id, now))
        .collect()
}
