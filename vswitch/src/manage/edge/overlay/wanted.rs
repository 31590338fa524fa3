//! What the authority has said, and how the operator's configuration looks with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vswitch_vn::Protection;

use super::{Order, Remote};
use crate::manage::config::{Config, Encapsulation, MacAddr, Mapping, Peer, PeerId, Source, Vni};

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
    /// It could not be carried out: the next word is looked at as a whole again.
    pub(super) behind: bool,
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
                    let upserts = upserts.into_iter().map(|remote| (remote.mac, remote));
                    network.mappings.extend(upserts);
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

    /// The operator's configuration with what the authority says of its networks. What would
    /// contradict the file, or another network, is left out and logged: the file is the
    /// operator's word about this host.
    pub(in crate::manage::edge) fn adapt(&self, local: &Config) -> Config {
        local.adapted(|model| {
            let mut names: BTreeMap<String, PeerId> = BTreeMap::new();
            let mut addresses: BTreeSet<IpAddr> = model
                .peers
                .iter()
                .flat_map(|peer| peer.addresses.iter().copied())
                .chain(model.underlay.local.iter().copied())
                .collect();
            let manual: BTreeSet<String> = model.peers.iter().map(|p| p.name.clone()).collect();
            for (name, at) in &self.peers {
                let taken = at.iter().any(|address| addresses.contains(address));
                if taken || at.is_empty() || manual.contains(name) || *name == model.name {
                    tracing::error!(
                        peer = name, addresses = ?at,
                        "the authority's peer has no address, or a name or address that is taken \
                         here: it is left out"
                    );
                    continue;
                }
                addresses.extend(at);
                names.insert(name.clone(), PeerId(model.peers.len() as u32));
                model.peers.push(Peer {
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
                let Some(network) = self.networks.get(&vn.name) else {
                    continue;
                };
                if !vnis.insert(network.vni.get()) {
                    tracing::error!(
                        vn = vn.name, vni = %network.vni,
                        "the authority gives the network a VNI that is taken here: it is left out"
                    );
                    continue;
                }
                // Whoever has taken over the authority must not have all frames in the clear by a word.
                if network.protection.is_weaker_than(vn.least) {
                    tracing::error!(
                        vn = vn.name, given = ?network.protection, least = ?vn.least,
                        "the authority gives the network less protection than `vns[].protection` \
                         asks for here: it is left out"
                    );
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
        })
    }
}
