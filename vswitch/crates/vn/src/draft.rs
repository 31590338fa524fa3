//! What tables would be after changes that are only tried: how a transaction is validated
//! as a whole without a copy of the tables.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;

use vswitch_net::{MacAddr, Vni};

use crate::change::{Change, FlushScope, Refusal};
use crate::fdb::Key;
use crate::ids::{Destination, PeerId, PortId, TunnelId, VnId};
use crate::learn::is_station;
use crate::model::{Mapping, Peer, Port, PortKind, VnConfig};
use crate::tables::Tables;

/// Tables with a layer of tried changes above them: `None` hides what is below.
pub(crate) struct Draft<'a> {
    base: &'a Tables,
    /// VNI of each network.
    vns: HashMap<VnId, Option<Vni>>,
    vnis: HashMap<Vni, Option<VnId>>,
    ports: HashMap<PortId, Option<VnId>>,
    peers: HashMap<PeerId, Option<Vec<IpAddr>>>,
    addresses: HashMap<IpAddr, Option<PeerId>>,
    tunnels: HashMap<TunnelId, Option<(VnId, PeerId)>>,
    pairs: HashMap<(VnId, PeerId), Option<TunnelId>>,
    mappings: HashMap<Key, Option<Known>>,
    /// Mappings of the base that lead there went with it, even if the id is in use again.
    gone: HashSet<Destination>,
    gone_vns: HashSet<VnId>,
    /// An upper bound of the number of mappings.
    mapping_count: usize,
}

#[derive(Clone, Copy)]
struct Known {
    destination: Destination,
    generation: u64,
}

/// The upper layer's word if it has one, else the lower's.
fn over<K: Eq + Hash, V: Clone>(
    layer: &HashMap<K, Option<V>>,
    key: &K,
    base: impl FnOnce() -> Option<V>,
) -> Option<V> {
    layer.get(key).cloned().unwrap_or_else(base)
}

type Verdict = Result<(), Refusal>;

fn ensure(condition: bool, refusal: Refusal) -> Verdict {
    if condition { Ok(()) } else { Err(refusal) }
}

impl<'a> Draft<'a> {
    pub(crate) fn new(base: &'a Tables) -> Self {
        Self {
            base,
            vns: HashMap::new(),
            vnis: HashMap::new(),
            ports: HashMap::new(),
            peers: HashMap::new(),
            addresses: HashMap::new(),
            tunnels: HashMap::new(),
            pairs: HashMap::new(),
            mappings: HashMap::new(),
            gone: HashSet::new(),
            gone_vns: HashSet::new(),
            mapping_count: base.mappings.len(),
        }
    }

    fn vn(&self, id: VnId) -> Result<Vni, Refusal> {
        over(&self.vns, &id, || self.base.vn(id).map(|vn| vn.config.vni)).ok_or(Refusal::NoVn(id))
    }

    fn port(&self, id: PortId) -> Result<VnId, Refusal> {
        over(&self.ports, &id, || self.base.port(id).map(|port| port.vn)).ok_or(Refusal::NoPort(id))
    }

    fn peer(&self, id: PeerId) -> Result<Vec<IpAddr>, Refusal> {
        over(&self.peers, &id, || {
            self.base.peer(id).map(|peer| peer.addresses.to_vec())
        })
        .ok_or(Refusal::NoPeer(id))
    }

    fn tunnel(&self, id: TunnelId) -> Result<(VnId, PeerId), Refusal> {
        over(&self.tunnels, &id, || {
            self.base.tunnel(id).map(|tunnel| (tunnel.vn, tunnel.peer))
        })
        .ok_or(Refusal::NoTunnel(id))
    }

    fn mapping(&self, key: Key) -> Option<Known> {
        over(&self.mappings, &key, || {
            let mapping = self.base.mappings.get(&key)?;
            let gone =
                self.gone_vns.contains(&key.vn()) || self.gone.contains(&mapping.destination);
            (!gone).then_some(Known {
                destination: mapping.destination,
                generation: mapping.generation,
            })
        })
    }

    /// Tries a change: refuses it or makes it part of the draft.
    pub(crate) fn apply(&mut self, change: &Change) -> Verdict {
        match change {
            Change::AddVn { id, config } => {
                ensure(self.vn(*id).is_err(), Refusal::InUse)?;
                self.set_vn(*id, config)
            }
            Change::UpdateVn { id, config } => {
                let old = self.vn(*id)?;
                self.set_vn(*id, config)?;
                if old != config.vni {
                    self.vnis.insert(old, None);
                }
                Ok(())
            }
            Change::RemoveVn { id } => self.remove_vn(*id),
            Change::AddPort { id, port } => self.add_port(*id, port),
            Change::RemovePort { id } => {
                self.port(*id)?;
                self.ports.insert(*id, None);
                self.drop_mappings(Destination::Port(*id));
                Ok(())
            }
            Change::AddPeer { id, peer } => {
                ensure(self.peer(*id).is_err(), Refusal::InUse)?;
                ensure(id.0 < PeerId::LIMIT, Refusal::IdTooLarge)?;
                self.set_peer(*id, peer)
            }
            Change::UpdatePeer { id, peer } => {
                let old = self.peer(*id)?;
                self.set_peer(*id, peer)?;
                for address in old {
                    if !peer.addresses.contains(&address) {
                        self.addresses.insert(address, None);
                    }
                }
                Ok(())
            }
            Change::RemovePeer { id } => self.remove_peer(*id),
            Change::AddTunnel { id, vn, peer, .. } => self.add_tunnel(*id, *vn, *peer),
            Change::SetFlood { id, .. } => self.tunnel(*id).map(drop),
            Change::RemoveTunnel { id } => {
                let pair = self.tunnel(*id)?;
                self.tunnels.insert(*id, None);
                self.pairs.insert(pair, None);
                self.drop_mappings(Destination::Tunnel(*id));
                Ok(())
            }
            Change::AddMapping { vn, mac, mapping } => self.add_mapping(*vn, *mac, mapping),
            Change::RemoveMapping {
                vn,
                mac,
                generation,
            } => self.remove_mapping(*vn, *mac, *generation),
            Change::FlushLearned(scope) => match *scope {
                FlushScope::All => Ok(()),
                FlushScope::Vn(id) => self.vn(id).map(drop),
                FlushScope::Destination(at) => self.destination(at).map(drop),
            },
        }
    }

    fn set_vn(&mut self, id: VnId, config: &VnConfig) -> Verdict {
        ensure(
            (1..=VnConfig::MAX_AGE).contains(&config.learning_age)
                && config.learning_limit <= VnConfig::MAX_LEARNED,
            Refusal::BadLearning,
        )?;
        let vni = config.vni;
        let owner = over(&self.vnis, &vni, || self.base.vn_by_vni(vni));
        if let Some(owner) = owner.filter(|&owner| owner != id) {
            return Err(Refusal::VniTaken { vni, owner });
        }
        self.vns.insert(id, Some(vni));
        self.vnis.insert(vni, Some(id));
        Ok(())
    }

    fn remove_vn(&mut self, id: VnId) -> Verdict {
        let vni = self.vn(id)?;
        self.vns.insert(id, None);
        self.vnis.insert(vni, None);
        for (port, owner) in self.base.ports() {
            if owner.vn == id {
                self.ports.entry(port).or_insert(None);
            }
        }
        for owner in self.ports.values_mut() {
            owner.take_if(|vn| *vn == id);
        }
        for (tunnel, owner) in self.base.tunnels() {
            if owner.vn == id {
                self.tunnels.entry(tunnel).or_insert(None);
                self.pairs.insert((id, owner.peer), None);
            }
        }
        for owner in self.tunnels.values_mut() {
            owner.take_if(|(vn, _)| *vn == id);
        }
        for ((vn, _), tunnel) in &mut self.pairs {
            if *vn == id {
                *tunnel = None;
            }
        }
        for (key, known) in &mut self.mappings {
            if key.vn() == id {
                *known = None;
            }
        }
        self.gone_vns.insert(id);
        Ok(())
    }

    fn add_port(&mut self, id: PortId, port: &Port) -> Verdict {
        ensure(self.port(id).is_err(), Refusal::InUse)?;
        self.vn(port.vn)?;
        if let PortKind::Vlan { vid } = port.kind {
            ensure((1..=4094).contains(&vid), Refusal::BadVlan(vid))?;
        }
        self.ports.insert(id, Some(port.vn));
        Ok(())
    }

    fn set_peer(&mut self, id: PeerId, peer: &Peer) -> Verdict {
        ensure(Peer::are_usable(&peer.addresses), Refusal::BadAddresses)?;
        for &address in peer.addresses.iter() {
            let owner = over(&self.addresses, &address, || {
                self.base.peer_by_address(address)
            });
            if let Some(owner) = owner.filter(|&owner| owner != id) {
                return Err(Refusal::AddressTaken { owner });
            }
        }
        for &address in peer.addresses.iter() {
            self.addresses.insert(address, Some(id));
        }
        self.peers.insert(id, Some(peer.addresses.to_vec()));
        Ok(())
    }

    fn remove_peer(&mut self, id: PeerId) -> Verdict {
        let addresses = self.peer(id)?;
        let below = self.base.pairs.iter().filter_map(|(pair, &tunnel)| {
            let hidden = self.pairs.contains_key(pair);
            (!hidden && pair.1 == id).then_some(tunnel)
        });
        let above = self
            .pairs
            .iter()
            .filter_map(|(pair, tunnel)| tunnel.filter(|_| pair.1 == id));
        // The least, so that the answer does not depend on the order of a hash table.
        if let Some(tunnel) = below.chain(above).min() {
            return Err(Refusal::PeerHasTunnels(tunnel));
        }
        self.peers.insert(id, None);
        for address in addresses {
            self.addresses.insert(address, None);
        }
        Ok(())
    }

    fn add_tunnel(&mut self, id: TunnelId, vn: VnId, peer: PeerId) -> Verdict {
        ensure(self.tunnel(id).is_err(), Refusal::InUse)?;
        ensure(id.0 < TunnelId::LIMIT, Refusal::IdTooLarge)?;
        self.vn(vn)?;
        self.peer(peer)?;
        let pair = (vn, peer);
        if let Some(other) = over(&self.pairs, &pair, || self.base.tunnel_between(vn, peer)) {
            return Err(Refusal::TunnelExists(other));
        }
        self.tunnels.insert(id, Some(pair));
        self.pairs.insert(pair, Some(id));
        Ok(())
    }

    /// The network a destination belongs to.
    fn destination(&self, at: Destination) -> Result<VnId, Refusal> {
        match at {
            Destination::Port(id) => self.port(id),
            Destination::Tunnel(id) => self.tunnel(id).map(|(vn, _)| vn),
        }
    }

    fn drop_mappings(&mut self, at: Destination) {
        for known in self.mappings.values_mut() {
            known.take_if(|known| known.destination == at);
        }
        self.gone.insert(at);
    }

    fn add_mapping(&mut self, vn: VnId, mac: MacAddr, mapping: &Mapping) -> Verdict {
        self.vn(vn)?;
        ensure(is_station(mac), Refusal::NotAStation(mac))?;
        let owner = self.destination(mapping.destination)?;
        ensure(owner == vn, Refusal::OtherVn(owner))?;
        let key = Key::new(vn, mac);
        let offered = mapping.generation;
        match self.mapping(key) {
            Some(Known {
                generation: known, ..
            }) => ensure(offered > known, Refusal::OldGeneration { known, offered })?,
            None => {
                ensure(
                    self.mapping_count < Tables::MAX_MAPPINGS,
                    Refusal::TooManyMappings,
                )?;
                self.mapping_count += 1;
            }
        }
        let known = Known {
            destination: mapping.destination,
            generation: offered,
        };
        self.mappings.insert(key, Some(known));
        Ok(())
    }

    fn remove_mapping(&mut self, vn: VnId, mac: MacAddr, offered: u64) -> Verdict {
        self.vn(vn)?;
        let key = Key::new(vn, mac);
        let known = self.mapping(key).ok_or(Refusal::NoMapping { vn, mac })?;
        let known = known.generation;
        ensure(offered >= known, Refusal::OldGeneration { known, offered })?;
        self.mappings.insert(key, None);
        self.mapping_count = self.mapping_count.saturating_sub(1);
        Ok(())
    }
}
