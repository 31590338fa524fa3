//! What the authority has said, and how the operator's configuration looks with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vswitch_vn::{Peer, Protection};

use super::parts::{LeftOut, Part};
use super::{Order, Remote};
use crate::manage::config::{self, Config, Encapsulation, MacAddr, Mapping, PeerId, Source, Vni};

/// A network as the authority describes it.
#[derive(Debug, Clone)]
struct Network {
    vni: Vni,
    protection: Protection,
    edges: BTreeSet<String>,
    mappings: BTreeMap<MacAddr, Remote>,
    admitted: BTreeSet<MacAddr>,
}

/// All that the authority has said.
#[derive(Debug, Clone, Default)]
pub(in crate::manage::edge) struct Wanted {
    networks: BTreeMap<String, Network>,
    peers: BTreeMap<String, Vec<IpAddr>>,
    /// It could not be carried out, or not all of it: the next word is looked at as a whole again.
    pub(super) behind: bool,
    /// Parts that could not be carried out, and why.
    pub(super) refused: LeftOut,
    /// What the operator has been told of parts that are left out.
    pub(super) told: LeftOut,
}

impl Wanted {
    /// Takes an order; `Some` gives one back that is not about what is wanted but about a key.
    pub(super) fn take(&mut self, order: Order) -> Option<Order> {
        match order {
            Order::Vn {
                vn,
                vni,
                protection,
            } => {
                let network = self.networks.entry(vn).or_insert_with(|| Network {
                    vni,
                    protection,
                    edges: BTreeSet::new(),
                    mappings: BTreeMap::new(),
                    admitted: BTreeSet::new(),
                });
                (network.vni, network.protection) = (vni, protection);
            }
            Order::LeaveVn { vn } => {
                self.networks.remove(&vn);
            }
            Order::Peer { name, addresses } => {
                self.peers.insert(name, addresses);
            }
            Order::RemovePeer { name } => {
                self.peers.remove(&name);
            }
            Order::Edges { vn, peers } => {
                if let Some(network) = self.networks.get_mut(&vn) {
                    network.edges = peers.into_iter().collect();
                }
            }
            Order::Mappings {
                vn,
                full,
                upserts,
                withdrawals,
            } => {
                if let Some(network) = self.networks.get_mut(&vn) {
                    if full {
                        network.mappings.clear();
                    }
                    for mac in withdrawals {
                        network.mappings.remove(&mac);
                    }
                    for remote in upserts {
                        if !remote.mac.is_multicast() && !remote.mac.is_zero() {
                            network.mappings.insert(remote.mac, remote);
                        } else {
                            tracing::error!(vn, mac = %remote.mac, "no station has such an address");
                        }
                    }
                }
            }
            Order::Admitted { vn, macs } => {
                if let Some(network) = self.networks.get_mut(&vn) {
                    network.admitted = macs.into_iter().collect();
                }
            }
            about_keys => return Some(about_keys),
        }
        None
    }

    /// Where an address is, as the authority says.
    pub(super) fn mapped(&self, vn: &str, mac: MacAddr) -> Option<&Remote> {
        self.networks.get(vn)?.mappings.get(&mac)
    }

    /// Whether it is one of a port here.
    pub(super) fn is_admitted(&self, vn: &str, mac: MacAddr) -> bool {
        let network = self.networks.get(vn);
        network.is_some_and(|network| network.admitted.contains(&mac))
    }

    /// Edges, then networks.
    pub(super) fn parts(&self) -> Vec<Part> {
        let peers = self.peers.keys().cloned().map(Part::Peer);
        let networks = self.networks.keys().cloned().map(Part::Vn);
        peers.chain(networks).collect()
    }

    /// The operator's configuration with what the authority says of its networks. What would
    /// contradict the file, or another network, is left out: the file is the operator's word about
    /// this host.
    pub(in crate::manage::edge) fn adapt(&self, local: &Config) -> Config {
        let refused = self.refused.keys().cloned().collect();
        self.adapt_without(local, &refused).0
    }

    /// As [`Self::adapt`], without some parts, and with those that contradict the file.
    pub(super) fn adapt_without(
        &self,
        local: &Config,
        without: &BTreeSet<Part>,
    ) -> (Config, LeftOut) {
        let mut left_out = LeftOut::new();
        let config = local.adapted(|model| {
            let has = |part: &Part| !without.contains(part);
            let mut names: BTreeMap<String, PeerId> = BTreeMap::new();
            let mut addresses: BTreeSet<IpAddr> = model
                .peers
                .iter()
                .flat_map(|peer| peer.addresses.iter().copied())
                .chain(model.underlay.local.iter().copied())
                .collect();
            let manual: BTreeSet<String> = model.peers.iter().map(|p| p.name.clone()).collect();
            for (name, at) in &self.peers {
                let part = Part::Peer(name.clone());
                if !has(&part) {
                    continue;
                }
                let taken = at.iter().any(|address| addresses.contains(address));
                let named = manual.contains(name) || *name == model.name;
                if taken || named || !is_reachable(at) {
                    let why =
                        format!("its addresses {at:?} are unusable, or they or its name taken");
                    left_out.insert(part, why);
                    continue;
                }
                addresses.extend(at);
                names.insert(name.clone(), PeerId(model.peers.len() as u32));
                model.peers.push(config::Peer {
                    name: name.clone(),
                    addresses: at.clone(),
                    encapsulation: Encapsulation::Geneve,
                    esp_source_port: None,
                    foreign: false,
                });
            }
            let mut vnis: BTreeSet<u32> = model
                .vns
                .iter()
                .filter(|vn| vn.source == Source::File)
                .map(|vn| vn.vni.get())
                .collect();
            let mut admitted: Vec<Option<&BTreeSet<MacAddr>>> = Vec::new();
            for vn in &mut model.vns {
                admitted.push(None);
                if vn.source == Source::File {
                    continue;
                }
                let part = Part::Vn(vn.name.clone());
                let Some(network) = self.networks.get(&vn.name).filter(|_| has(&part)) else {
                    continue;
                };
                if !vnis.insert(network.vni.get()) {
                    left_out.insert(part, format!("its VNI {} is taken here", network.vni));
                    continue;
                }
                // Whoever has taken over the authority must not have all frames in the clear by a word.
                if network.protection.is_weaker_than(vn.least) {
                    let (given, least) = (network.protection, vn.least);
                    let why =
                        format!("{given:?} is less than `vns[].protection` asks for, {least:?}");
                    left_out.insert(part, why);
                    continue;
                }
                vn.source = Source::Authority;
                vn.vni = network.vni;
                vn.protection = network.protection;
                let edges = network.edges.iter();
                vn.edges = edges.filter_map(|name| names.get(name).copied()).collect();
                let on_it: BTreeSet<PeerId> = vn.edges.iter().copied().collect();
                let mappings = network.mappings.values();
                vn.mappings = mappings
                    .filter(|remote| !network.admitted.contains(&remote.mac))
                    .filter_map(|remote| {
                        let peer = *names.get(&remote.peer).filter(|p| on_it.contains(p))?;
                        Some(Mapping {
                            mac: remote.mac,
                            ips: remote.ips.clone(),
                            peer,
                        })
                    })
                    .collect();
                if let Some(last) = admitted.last_mut() {
                    *last = Some(&network.admitted);
                }
            }
            for port in &mut model.ports {
                let vn = model.vns.get(port.vn.index());
                if vn.is_none_or(|vn| vn.source == Source::File) {
                    continue;
                }
                let admitted = admitted.get(port.vn.index()).copied().flatten();
                let admits = |mac| admitted.is_some_and(|macs| macs.contains(&mac));
                port.addresses.retain(|address| admits(address.mac));
            }
        });
        (config, left_out)
    }
}

/// Whether the authority may name these for an edge: what no table refuses, and what leads to another
/// host under one name only.
fn is_reachable(addresses: &[IpAddr]) -> bool {
    let elsewhere = |ip: &IpAddr| !ip.is_loopback() && ip.to_canonical() == *ip;
    Peer::are_usable(addresses) && addresses.iter().all(elsewhere)
}
