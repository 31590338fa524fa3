//! One worker's copy of everything it forwards by, and how a change gets into it.

use std::collections::HashMap;
use std::net::IpAddr;

use vswitch_net::{MacAddr, Vni};

use crate::change::{Change, ChangeError, FlushScope};
use crate::draft::Draft;
use crate::fdb::{Entry, Fdb, Insert, Key, Origin};
use crate::hash::KeyedHash;
use crate::ids::{Destination, PeerId, PortId, TunnelId, VnId};
use crate::model::{Mapping, Peer, Port, Tunnel, Vn, VnConfig};

pub(crate) type Map<K, V> = HashMap<K, V, KeyedHash>;

/// What one worker needs to know to forward. See the crate's text.
///
/// Cloning gives an independent copy. Two are equal if they know the same, learned entries
/// included.
#[derive(Clone, Debug)]
pub struct Tables {
    pub(crate) vns: Vec<Option<Vn>>,
    pub(crate) ports: Vec<Option<Port>>,
    pub(crate) peers: Vec<Option<Peer>>,
    pub(crate) tunnels: Vec<Option<Tunnel>>,
    pub(crate) fdb: Fdb,
    pub(crate) mappings: Map<Key, Mapping>,
    pub(crate) vnis: Map<Vni, VnId>,
    pub(crate) addresses: Map<IpAddr, PeerId>,
    pub(crate) pairs: Map<(VnId, PeerId), TunnelId>,
    pub(crate) expire_cursor: usize,
}

/// Sets a dense slot, extending the array to it.
fn set<T>(list: &mut Vec<Option<T>>, index: usize, value: T) {
    if list.len() <= index {
        list.resize_with(index + 1, || None);
    }
    if let Some(slot) = list.get_mut(index) {
        *slot = Some(value);
    }
}

fn get<T>(list: &[Option<T>], index: usize) -> Option<&T> {
    list.get(index).and_then(Option::as_ref)
}

fn get_mut<T>(list: &mut [Option<T>], index: usize) -> Option<&mut T> {
    list.get_mut(index).and_then(Option::as_mut)
}

fn take<T>(list: &mut [Option<T>], index: usize) -> Option<T> {
    list.get_mut(index).and_then(Option::take)
}

impl Tables {
    /// The most mappings there may be.
    pub const MAX_MAPPINGS: usize = 1 << 22;

    /// Empty tables. The seed is random and secret, for instance another one per worker.
    pub fn new(seed: u64) -> Self {
        // The maps get secrets of their own, so that nothing is learned from one about another.
        let map = |n: u64| KeyedHash::new(seed ^ n.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self {
            vns: Vec::new(),
            ports: Vec::new(),
            peers: Vec::new(),
            tunnels: Vec::new(),
            fdb: Fdb::new(seed),
            mappings: Map::with_hasher(map(1)),
            vnis: Map::with_hasher(map(2)),
            addresses: Map::with_hasher(map(3)),
            pairs: Map::with_hasher(map(4)),
            expire_cursor: 0,
        }
    }

    /// A virtual network.
    #[inline]
    pub fn vn(&self, id: VnId) -> Option<&Vn> {
        get(&self.vns, id.index())
    }

    /// An attachment.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        get(&self.ports, id.index())
    }

    /// Another edge.
    #[inline]
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        get(&self.peers, id.index())
    }

    /// A network at a peer.
    #[inline]
    pub fn tunnel(&self, id: TunnelId) -> Option<&Tunnel> {
        get(&self.tunnels, id.index())
    }

    /// All networks.
    pub fn vns(&self) -> impl Iterator<Item = (VnId, &Vn)> {
        (0..=u16::MAX).map(VnId).zip(&self.vns).filter_map(present)
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &Port)> {
        (0..=u16::MAX)
            .map(PortId)
            .zip(&self.ports)
            .filter_map(present)
    }

    /// All peers.
    pub fn peers(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        (0..PeerId::LIMIT)
            .map(PeerId)
            .zip(&self.peers)
            .filter_map(present)
    }

    /// All tunnels.
    pub fn tunnels(&self) -> impl Iterator<Item = (TunnelId, &Tunnel)> {
        (0..TunnelId::LIMIT)
            .map(TunnelId)
            .zip(&self.tunnels)
            .filter_map(present)
    }

    /// All mappings, in no order.
    pub fn mappings(&self) -> impl Iterator<Item = (Key, &Mapping)> {
        self.mappings.iter().map(|(&key, mapping)| (key, mapping))
    }

    /// The network with this identifier on the wire.
    #[inline]
    pub fn vn_by_vni(&self, vni: Vni) -> Option<VnId> {
        self.vnis.get(&vni).copied()
    }

    /// The peer with this tunnel endpoint address.
    #[inline]
    pub fn peer_by_address(&self, address: IpAddr) -> Option<PeerId> {
        self.addresses.get(&address).copied()
    }

    /// The tunnel of a network to a peer.
    #[inline]
    pub fn tunnel_between(&self, vn: VnId, peer: PeerId) -> Option<TunnelId> {
        self.pairs.get(&(vn, peer)).copied()
    }

    /// The forwarding database, for looking.
    #[inline]
    pub const fn fdb(&self) -> &Fdb {
        &self.fdb
    }

    /// Where a frame to `mac` goes.
    #[inline]
    pub fn lookup(&self, vn: VnId, mac: MacAddr) -> Option<Destination> {
        self.fdb.lookup(Key::new(vn, mac))
    }

    /// [`Fdb::lookup_burst`].
    #[inline]
    pub fn lookup_burst(&self, keys: &[Key], out: &mut [Option<Destination>]) {
        self.fdb.lookup_burst(keys, out);
    }

    /// What the control side said about an address.
    pub fn mapping(&self, vn: VnId, mac: MacAddr) -> Option<&Mapping> {
        self.mappings.get(&Key::new(vn, mac))
    }

    /// Where a source address belongs, by mapping or as learned.
    pub fn source_of(&self, vn: VnId, mac: MacAddr) -> Option<Destination> {
        self.fdb.lookup(Key::new(vn, mac))
    }

    /// Whether the changes can be applied, in this order, all of them.
    ///
    /// What is learned has no influence, so the answer holds for every worker that went
    /// through the same changes.
    ///
    /// # Errors
    /// The first change that cannot be applied after those before it.
    pub fn validate(&self, changes: &[Change]) -> Result<(), ChangeError> {
        let mut draft = Draft::new(self);
        for (index, change) in changes.iter().enumerate() {
            draft
                .apply(change)
                .map_err(|refusal| ChangeError { index, refusal })?;
        }
        Ok(())
    }

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
                if self.mappings.remove(&key).is_some() {
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
        let Some(vn) = get(&self.tunnels, id.index()).map(|tunnel| tunnel.vn) else {
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
            origin: Origin::Static,
        };
        if let Insert::Replaced(Entry {
            origin: Origin::Learned { .. },
            ..
        }) = self.fdb.insert(key, entry)
            && let Some(vn) = get_mut(&mut self.vns, vn.index())
        {
            vn.learned = vn.learned.saturating_sub(1);
        }
        self.mappings.insert(key, mapping.clone());
    }

    /// Removes the entries that point there: the learned ones, and mappings as well if asked.
    fn forget_destination(&mut self, at: Destination, mappings: bool) {
        self.forget_learned(|_, destination| destination == at);
        if mappings {
            self.mappings.retain(|_, mapping| mapping.destination != at);
            self.fdb.retain(|_, entry| entry.destination != at);
        }
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

fn present<I, T>((id, item): (I, &Option<T>)) -> Option<(I, &T)> {
    item.as_ref().map(|item| (id, item))
}

impl PartialEq for Tables {
    fn eq(&self, other: &Self) -> bool {
        self.vns().eq(other.vns())
            && self.ports().eq(other.ports())
            && self.peers().eq(other.peers())
            && self.tunnels().eq(other.tunnels())
            && self.mappings == other.mappings
            && self.vnis == other.vnis
            && self.addresses == other.addresses
            && self.pairs == other.pairs
            && self.fdb == other.fdb
    }
}
