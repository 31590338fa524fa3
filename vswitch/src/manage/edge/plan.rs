//! Numbers: which ids the things of a configuration have. Ids index arrays of the workers and
//! stay with a thing for as long as it stays; those of removed things rest until no worker
//! and no packet remembers them (`rounds`).

use std::collections::{BTreeMap, BTreeSet};

use vswitch_policy::Bindings;
use vswitch_vn::{PeerId, PortId, TunnelId, VnId};

use crate::datapath::command::PortSetup;
use crate::manage::config::{self, AllowedIps, Attachment, Config};

/// A (VN, peer) pair: indices into the configuration's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TunnelPlan {
    /// The network.
    pub vn: config::VnId,
    /// The edge at the other end.
    pub peer: config::PeerId,
}

/// Ids of everything in a configuration. The configuration itself refers to its networks and
/// peers by their place in its lists; that changes with the file, the ids here do not.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// By place in the configuration.
    pub vns: Vec<VnId>,
    /// By place in the configuration.
    pub peers: Vec<PeerId>,
    /// By place in the configuration.
    pub ports: Vec<PortId>,
    /// What each tunnel joins.
    pub tunnels: BTreeMap<TunnelId, TunnelPlan>,
    pairs: BTreeMap<TunnelPlan, TunnelId>,
    vn_places: BTreeMap<VnId, usize>,
    port_places: BTreeMap<PortId, usize>,
}

/// A set of ids of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    /// Of networks.
    pub vns: BTreeSet<VnId>,
    /// Of peers.
    pub peers: BTreeSet<PeerId>,
    /// Of ports.
    pub ports: BTreeSet<PortId>,
    /// Of tunnels.
    pub tunnels: BTreeSet<TunnelId>,
}

/// There are no ids left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more {0} than there are identifiers for: remove some first")]
pub struct TooMany(&'static str);

impl Ids {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.vns.is_empty()
            && self.peers.is_empty()
            && self.ports.is_empty()
            && self.tunnels.is_empty()
    }

    /// Adds those of another set.
    pub fn extend(&mut self, other: &Ids) {
        self.vns.extend(&other.vns);
        self.peers.extend(&other.peers);
        self.ports.extend(&other.ports);
        self.tunnels.extend(&other.tunnels);
    }

    /// Takes those of another set out.
    pub fn remove(&mut self, other: &Ids) {
        self.vns.retain(|id| !other.vns.contains(id));
        self.peers.retain(|id| !other.peers.contains(id));
        self.ports.retain(|id| !other.ports.contains(id));
        self.tunnels.retain(|id| !other.tunnels.contains(id));
    }
}

impl Plan {
    /// The numbers of the first configuration: in the order of the file.
    pub fn first(config: &Config) -> Result<Self, TooMany> {
        Self::number(
            config,
            |_| None,
            |_| None,
            |_| None,
            |_| None,
            &Ids::default(),
        )
    }

    /// The numbers of a configuration that follows on `old`: things are known by their names,
    /// and one that stays keeps its id. A port that changes its network, or from a socket to
    /// a VLAN, is another port: what is under way to the old one must not reach the new.
    pub fn next(&self, old: &Config, config: &Config, resting: &Ids) -> Result<Self, TooMany> {
        let mut used = self.ids();
        used.extend(resting);
        let vns = named(&self.vns, old.vns.iter().map(|vn| &*vn.name));
        let peers = named(&self.peers, old.peers.iter().map(|peer| &*peer.name));
        let ports = named(&self.ports, old.ports.iter().map(|port| &*port.name));
        let pairs: BTreeMap<(&str, &str), TunnelId> = self
            .tunnels
            .iter()
            .filter_map(|(id, pair)| Some((pair_names(old, *pair)?, *id)))
            .collect();
        let same = |i: usize| {
            let port = config.ports.get(i)?;
            let id = *ports.get(&*port.name)?;
            let before = old.ports.get(*self.port_places.get(&id)?)?;
            let vn =
                |c: &'_ Config, p: &config::Port| c.vns.get(p.vn.index()).map(|vn| vn.name.clone());
            let kind = |p: &config::Port| matches!(p.attachment, Attachment::Vhost(_));
            (vn(old, before) == vn(config, port) && kind(before) == kind(port)).then_some(id)
        };
        Self::number(
            config,
            |i| vns.get(&*config.vns.get(i)?.name).copied(),
            |i| peers.get(&*config.peers.get(i)?.name).copied(),
            same,
            |pair| pairs.get(&pair_names(config, pair)?).copied(),
            &used,
        )
    }

    fn number(
        config: &Config,
        vn: impl Fn(usize) -> Option<VnId>,
        peer: impl Fn(usize) -> Option<PeerId>,
        port: impl Fn(usize) -> Option<PortId>,
        tunnel: impl Fn(TunnelPlan) -> Option<TunnelId>,
        used: &Ids,
    ) -> Result<Self, TooMany> {
        let short = |n: u32| u16::try_from(n).ok();
        let vns = assign(0..config.vns.len(), vn, &used.vns, |n| {
            Some(VnId(short(n)?))
        })
        .ok_or(TooMany("networks"))?;
        let peers = assign(0..config.peers.len(), peer, &used.peers, |n| {
            (n < PeerId::LIMIT).then_some(PeerId(n))
        })
        .ok_or(TooMany("peers"))?;
        let ports = assign(0..config.ports.len(), port, &used.ports, |n| {
            Some(PortId(short(n)?))
        })
        .ok_or(TooMany("ports"))?;
        let pairs: Vec<TunnelPlan> = config
            .vns
            .iter()
            .enumerate()
            .flat_map(|(i, vn)| {
                let vn_id = config::VnId(i as u16);
                vn.edges.iter().map(move |peer| TunnelPlan {
                    vn: vn_id,
                    peer: *peer,
                })
            })
            .collect();
        let tunnels = assign(pairs.iter().copied(), tunnel, &used.tunnels, |n| {
            (n < TunnelId::LIMIT).then_some(TunnelId(n))
        })
        .ok_or(TooMany("tunnels"))?;
        Ok(Plan {
            vn_places: places(&vns),
            port_places: places(&ports),
            tunnels: tunnels.iter().copied().zip(pairs.iter().copied()).collect(),
            pairs: pairs.into_iter().zip(tunnels).collect(),
            vns,
            peers,
            ports,
        })
    }

    /// All ids.
    pub fn ids(&self) -> Ids {
        Ids {
            vns: self.vns.iter().copied().collect(),
            peers: self.peers.iter().copied().collect(),
            ports: self.ports.iter().copied().collect(),
            tunnels: self.tunnels.keys().copied().collect(),
        }
    }

    /// The tunnel between a VN and a peer of the configuration.
    pub fn tunnel(&self, vn: config::VnId, peer: config::PeerId) -> Option<TunnelId> {
        self.pairs.get(&TunnelPlan { vn, peer }).copied()
    }

    /// Place of a network in the configuration.
    pub fn vn_place(&self, id: VnId) -> Option<usize> {
        self.vn_places.get(&id).copied()
    }

    /// Place of a port in the configuration.
    pub fn port_place(&self, id: PortId) -> Option<usize> {
        self.port_places.get(&id).copied()
    }
}

fn named<'a, I: Copy>(ids: &[I], names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, I> {
    names.zip(ids.iter().copied()).collect()
}

fn places<I: Copy + Ord>(ids: &[I]) -> BTreeMap<I, usize> {
    ids.iter().enumerate().map(|(i, id)| (*id, i)).collect()
}

/// Names of a (VN, peer) pair.
pub fn pair_names(config: &Config, pair: TunnelPlan) -> Option<(&str, &str)> {
    let vn = config.vns.get(pair.vn.index())?;
    let peer = config.peers.get(pair.peer.index())?;
    Some((&vn.name, &peer.name))
}

/// Ids of `things`: those they have, else the least that nobody has.
fn assign<T: Copy, I: Copy + Ord>(
    things: impl Iterator<Item = T>,
    had: impl Fn(T) -> Option<I>,
    used: &BTreeSet<I>,
    make: impl Fn(u32) -> Option<I>,
) -> Option<Vec<I>> {
    let mut free = (0..=u32::MAX)
        .map_while(make)
        .filter(|id| !used.contains(id));
    things
        .map(|thing| had(thing).or_else(|| free.next()))
        .collect()
}

/// What a worker needs to know of port `i` of the configuration. `queues` says how many
/// receive queues each VLAN device has, and thereby workers that share the rate of its VLANs;
/// who shares a tenant's is known when it connects
/// ([`crate::datapath::command::Command::Attach`]).
pub fn port_setup(config: &Config, plan: &Plan, i: usize, queues: &[u16]) -> Option<PortSetup> {
    let port = config.ports.get(i)?;
    let id = *plan.ports.get(i)?;
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
        id,
        bindings,
        bum_rate,
        trunk,
        vid,
    })
}
