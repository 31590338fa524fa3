//! How a change gets into the tables. What may be applied is decided in [`crate::draft`].

use std::net::IpAddr;

use vswitch_net::MacAddr;

use crate::change::{Change, ChangeError, FlushScope};
use crate::fdb::{Entry, Insert, Key, Origin};
use crate::ids::{Destination, PeerId, TunnelId, VnId};
use crate::model::{Mapping, Peer, Tunnel, Vn, VnConfig};
use crate::tables::Tables;

/// Sets a dense slot, extending the array to it.
fn set<T>(list: &mut Vec<Option<T>>, index: usize, value: T) {
    if list.len() <= index {
        list.resize_with(index + 1, || None);
    }
    if let Some(slot) = list.get_mut(index) {
        *slot = Some(value);
    }
}

fn get_mut<T>(list: &mut [Option<T>], index: usize) -> Option<&mut T> {
    list.get_mut(index).and_then(Option::as_mut)
}

fn take<T>(list: &mut [Option<T>], index: usize) -> Option<T> {
    list.get_mut(index).and_then(Option::take)
}

impl Tables {
    /// Validates the changes and applies all of them, or none.
    ///
    /// # Errors
    /// As [`Tables::validate`]; then nothing has changed.
    pub fn transact(&mut self, changes: &[Change]) -> Result<(), ChangeError> {
        self.validate(changes)?;
        self.apply_all(changes);
        Ok(())
    }

    /// Applies a validated list.
    pub fn apply_all(&mut self, changes: &[Change]) {
        let mappings = changes
            .iter()
            .filter(|change| matches!(change, Change::AddMapping { .. }));
        self.fdb.reserve(mappings.count());
        for change in changes {
            self.apply(change);
        }
    }

    /// Applies one change of a list that [`Tables::validate`] accepted on equal tables. A
    /// part of a change that makes no sense here has no effect.
    ///
    /// Removing a network, port or tunnel reads the whole forwarding database once.
    pub fn apply(&mut self, change: &Change) {
        self.changes += 1;
        match change {
            Change::AddVn { id, config } => {
                self.vnis.insert(config.vni, *id);
                set(&mut self.vns, id.index(), Vn::new(config.clone()));
                self.make_room();
            }
            Change::UpdateVn { id, config } => self.update_vn(*id, config),
            Change::RemoveVn { id } => self.remove_vn(*id),
            Change::AddPort { id, port } => {
                if let Some(vn) = get_mut(&mut self.vns, port.vn.index()) {
                    vn.flood_ports.push(*id);
                    set(&mut self.ports, id.index(), port.clone());
                }
            }
            Change::RemovePort { id } => {
                if let Some(port) = take(&mut self.ports, id.index()) {
                    if let Some(vn) = get_mut(&mut self.vns, port.vn.index()) {
                        vn.flood_ports.retain(|other| other != id);
                    }
                    self.forget_destination(Destination::Port(*id), true);
                }
            }
            Change::AddPeer { id, peer } => self.add_peer(*id, peer),
            Change::UpdatePeer { id, peer } => {
                self.addresses.retain(|_, owner| owner != id);
                self.add_peer(*id, peer);
                for tunnel in self.tunnels.iter_mut().flatten() {
                    if tunnel.peer == *id {
                        tunnel.encapsulation = peer.encapsulation;
                    }
                }
            }
            Change::RemovePeer { id } => {
                if take(&mut self.peers, id.index()).is_some() {
                    self.addresses.retain(|_, owner| owner != id);
                }
            }
            Change::AddTunnel {
                id,
                vn,
                peer,
                flood,
            } => self.add_tunnel(*id, *vn, *peer, *flood),
            Change::SetFlood { id, flood } => self.set_flood(*id, *flood),
            Change::RemoveTunnel { id } => {
                self.set_flood(*id, false);
                if let Some(tunnel) = take(&mut self.tunnels, id.index()) {
                    self.pairs.remove(&(tunnel.vn, tunnel.peer));
                    self.forget_destination(Destination::Tunnel(*id), true);
                }
            }
            Change::AddMapping { vn, mac, mapping } => self.add_mapping(*vn, *mac, mapping),
            Change::RemoveMapping { vn, mac, .. } => {
                let key = Key::new(*vn, *mac);
                if let Some(old) = self.mappings.remove(&key) {
                    self.holders.remove(key, &old);
                    self.fdb.remove(key);
                }
            }
            Change::FlushLearned(scope) => match *scope {
                FlushScope::All => self.forget_learned(|_, _| true),
                FlushScope::Vn(vn) => self.forget_learned(|key, _| key.vn() == vn),
                FlushScope::Destination(at) => self.forget_destination(at, false),
            },
        }
    }

    fn update_vn(&mut self, id: VnId, config: &VnConfig) {
        let Some(vn) = get_mut(&mut self.vns, id.index()) else {
            return;
        };
        let old = std::mem::replace(&mut vn.config, config.clone());
        if old.vni != config.vni {
            self.vnis.remove(&old.vni);
            self.vnis.insert(config.vni, id);
        }
        for tunnel in self.tunnels.iter_mut().flatten() {
            if tunnel.vn == id {
                tunnel.vni = config.vni;
                tunnel.protection = config.protection;
            }
        }
        if old.learning && !config.learning {
            self.forget_learned(|key, at| key.vn() == id && matches!(at, Destination::Tunnel(_)));
        }
    }

    fn remove_vn(&mut self, id: VnId) {
        let Some(vn) = take(&mut self.vns, id.index()) else {
            return;
        };
        self.vnis.remove(&vn.config.vni);
        for port in &mut self.ports {
            port.take_if(|port| port.vn == id);
        }
        for tunnel in &mut self.tunnels {
            tunnel.take_if(|tunnel| tunnel.vn == id);
        }
        self.pairs.retain(|(vn, _), _| *vn != id);
        self.mappings.retain(|key, _| key.vn() != id);
        self.holders.remove_vn(id);
        self.fdb.retain(|key, _| key.vn() != id);
    }

    fn add_peer(&mut self, id: PeerId, peer: &Peer) {
        for &address in peer.addresses.iter() {
            self.addresses.insert(address, id);
        }
        set(&mut self.peers, id.index(), peer.clone());
    }

    fn add_tunnel(&mut self, id: TunnelId, vn: VnId, peer: PeerId, flood: bool) {
        let (Some(network), Some(edge)) = (self.vn(vn), self.peer(peer)) else {
            return;
        };
        let tunnel = Tunnel {
            vn,
            peer,
            vni: network.config.vni,
            encapsulation: edge.encapsulation,
            protection: network.config.protection,
        };
        set(&mut self.tunnels, id.index(), tunnel);
        self.pairs.insert((vn, peer), id);
        self.set_flood(id, flood);
    }

    fn set_flood(&mut self, id: TunnelId, flood: bool) {
        let Some(vn) = self.tunnel(id).map(|tunnel| tunnel.vn) else {
            return;
        };
        if let Some(vn) = get_mut(&mut self.vns, vn.index()) {
            let member = vn.flood_tunnels.contains(&id);
            if flood && !member {
                vn.flood_tunnels.push(id);
            } else if !flood && member {
                vn.flood_tunnels.retain(|other| *other != id);
            }
        }
    }

    fn add_mapping(&mut self, vn: VnId, mac: MacAddr, mapping: &Mapping) {
        let key = Key::new(vn, mac);
        let entry = Entry {
            destination: mapping.destination,
            origin: Origin::Static {
                ipv4: mapping.ips.iter().find_map(|ip| match ip {
                    IpAddr::V4(ip) => Some(*ip),
                    IpAddr::V6(_) => None,
                }),
            },
        };
        if let Insert::Replaced(Entry {
            origin: Origin::Learned { .. },
            ..
        }) = self.fdb.insert(key, entry)
            && let Some(vn) = get_mut(&mut self.vns, vn.index())
        {
            vn.learned = vn.learned.saturating_sub(1);
        }
        self.holders.add(key, mapping);
        if let Some(old) = self.mappings.insert(key, mapping.clone()) {
            self.holders.remove(key, &old);
        }
    }

    /// Removes the entries that point there: the learned ones, and mappings as well if asked.
    fn forget_destination(&mut self, at: Destination, mappings: bool) {
        if !mappings {
            return self.forget_learned(|_, destination| destination == at);
        }
        // One pass over the table, and none over the mappings: workers wait for it.
        let (vns, known, holders) = (&mut self.vns, &mut self.mappings, &mut self.holders);
        self.fdb.retain(|key, entry| {
            if entry.destination != at {
                return true;
            }
            match entry.origin {
                Origin::Static { .. } => {
                    if let Some(old) = known.remove(&key) {
                        holders.remove(key, &old);
                    }
                }
                Origin::Learned { .. } => {
                    if let Some(vn) = get_mut(vns, key.vn().index()) {
                        vn.learned = vn.learned.saturating_sub(1);
                    }
                }
            }
            false
        });
    }

    fn forget_learned(&mut self, forget: impl Fn(Key, Destination) -> bool) {
        let vns = &mut self.vns;
        self.fdb.retain(|key, entry| {
            let learned = matches!(entry.origin, Origin::Learned { .. });
            let gone = learned && forget(key, entry.destination);
            if gone && let Some(vn) = get_mut(vns, key.vn().index()) {
                vn.learned = vn.learned.saturating_sub(1);
            }
            !gone
        });
    }
}
