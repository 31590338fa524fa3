//! Mappings that changed and nothing else: worked out without looking at the rest, so that what a change costs
//! depends on how many addresses changed and how many edges their network has, not on how much
//! there is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use vswitch_vn::{Change, Destination, Tables};

use super::wanted::Wanted;
use super::{Order, Remote};
use crate::manage::config::{Config, MacAddr, Mapping, PeerId, Source, VnId};
use crate::manage::edge::plan::Plan;

/// What orders have touched since what is wanted was last made so.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// More than mappings.
    whole: bool,
    /// Addresses by network.
    macs: BTreeMap<String, BTreeSet<MacAddr>>,
}

/// Changes of mappings alone.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Of the tables.
    pub(super) changes: Vec<Change>,
    /// Of the configuration: network, address, and where it is now.
    mappings: Vec<(VnId, MacAddr, Option<Mapping>)>,
}

impl Touched {
    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        !self.whole && self.macs.is_empty()
    }

    /// Notes an order that is about to be taken.
    pub(super) fn note(&mut self, order: &Order) {
        match order {
            Order::Mappings {
                vn,
                full: false,
                upserts,
                withdrawals,
            } if !self.whole => {
                let macs = self.macs.entry(vn.clone()).or_default();
                macs.extend(upserts.iter().map(|remote| remote.mac));
                macs.extend(withdrawals);
            }
            Order::InstallOutbound(..)
            | Order::InstallInbound(..)
            | Order::RemoveOutbound { .. }
            | Order::RemoveInbound { .. } => {}
            _ => self.whole = true,
        }
    }
}

impl Wanted {
    /// What follows from orders that touched mappings alone; `None` if all has to be looked at.
    pub(super) fn moves(
        &self,
        touched: &Touched,
        (config, plan, tables): (&Config, &Plan, &Tables),
        generation: u64,
    ) -> Option<Moves> {
        if touched.whole || self.behind {
            return None;
        }
        let mut moves = Moves::default();
        for (name, macs) in &touched.macs {
            let place = config.vns.iter().position(|vn| vn.name == *name);
            // A network that is not the authority's has none of its mappings.
            let Some((place, vn)) = place.and_then(|place| Some((place, config.vns.get(place)?)))
            else {
                continue;
            };
            if vn.source != Source::Authority {
                continue;
            }
            let (id, place) = (*plan.vns.get(place)?, VnId(u16::try_from(place).ok()?));
            let edges: BTreeMap<&str, PeerId> = vn
                .edges
                .iter()
                .filter_map(|peer| Some((&*config.peers.get(peer.index())?.name, *peer)))
                .collect();
            for mac in macs {
                // Here, whatever else is said.
                if self.is_admitted(name, *mac) {
                    continue;
                }
                let before = tables.mapping(id, *mac);
                if before.is_some_and(|it| matches!(it.destination, Destination::Port(_))) {
                    return None;
                }
                let mapped = self.mapped(name, *mac).and_then(|remote: &Remote| {
                    let peer = *edges.get(&*remote.peer)?;
                    let tunnel = plan.tunnel(place, peer)?;
                    Some((remote, peer, tunnel))
                });
                let Some((remote, peer, tunnel)) = mapped else {
                    if before.is_some() {
                        moves.changes.push(Change::RemoveMapping {
                            vn: id,
                            mac: *mac,
                            generation,
                        });
                        moves.mappings.push((place, *mac, None));
                    }
                    continue;
                };
                let destination = Destination::Tunnel(tunnel);
                let same = |it: &vswitch_vn::Mapping| {
                    it.destination == destination && *it.ips == *remote.ips
                };
                if before.is_some_and(same) {
                    continue;
                }
                let ips: Arc<[IpAddr]> = remote.ips.clone().into();
                moves.changes.push(Change::AddMapping {
                    vn: id,
                    mac: *mac,
                    mapping: vswitch_vn::Mapping {
                        ips,
                        destination,
                        generation,
                    },
                });
                let mapping = Mapping {
                    mac: *mac,
                    ips: remote.ips.clone(),
                    peer,
                };
                moves.mappings.push((place, *mac, Some(mapping)));
            }
        }
        Some(moves)
    }
}

impl Moves {
    /// Makes the configuration say so too.
    pub(super) fn note_in(&mut self, config: &mut Config) {
        config.adjust(|model| {
            for (vn, mac, mapping) in self.mappings.drain(..) {
                // In the order of addresses, as `Wanted::adapt` leaves them.
                let Some(vn) = model.vns.get_mut(vn.index()) else {
                    continue;
                };
                let at = vn.mappings.binary_search_by_key(&mac, |it| it.mac);
                match (at, mapping) {
                    (Ok(at), Some(mapping)) => {
                        if let Some(there) = vn.mappings.get_mut(at) {
                            *there = mapping;
                        }
                    }
                    (Err(at), Some(mapping)) => vn.mappings.insert(at, mapping),
                    (Ok(at), None) => drop(vn.mappings.remove(at)),
                    (Err(_), None) => {}
                }
            }
        });
    }
}
