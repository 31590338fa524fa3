//! What must hold at every moment, and what must be so when everything has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use vswitch_control::client::{Alarm, Event};
use vswitch_control::message::overlay::{Endpoint, Mapping};
use vswitch_control::types::{Generation, Mac, NveName, Version, VnName};

use super::edge::{View, mac};
use super::{EDGES, VNS, World, name, vn};
use crate::model::State;

/// Up to which version of each network's log an edge without rights may know it.
pub type Bounds = BTreeMap<(NveName, VnName), Version>;

impl World {
    /// What an edge is told.
    pub fn believe(&mut self, n: usize, event: Event) {
        let bound = |vn: &VnName| self.bounds.get(&(name(n), vn.clone())).copied();
        let edge = &mut self.edges[n];
        match event {
            Event::Joined { vn, .. } => {
                edge.views.entry(vn).or_default();
            }
            Event::Members { vn, epoch, members } => {
                let view = edge.views.get_mut(&vn).expect("on the network first");
                assert!(epoch >= view.epoch, "{n}: epochs only grow");
                view.epoch = epoch;
                let members = members.into_iter().map(|it| (it.nve, it.endpoint));
                view.members = members.collect();
                assert!(!view.members.contains_key(&name(n)));
            }
            Event::Mappings {
                vn,
                full,
                upserts,
                withdrawals,
            } => {
                let limit = bound(&vn);
                let view = edge.views.get_mut(&vn).expect("on the network first");
                if full {
                    view.mappings.clear();
                }
                for mac in withdrawals {
                    view.mappings.remove(&mac);
                }
                for mapping in upserts {
                    let generation = mapping.generation;
                    let known = limit.is_none_or(|limit| generation.0 <= limit.0);
                    assert!(
                        known,
                        "{n} is told {mapping:?} of {vn}, whose member it was"
                    );
                    let latest = view.latest.entry(mapping.mac).or_insert(Generation(0));
                    assert!(generation >= *latest, "{n}: {mapping:?} after {latest:?}");
                    *latest = generation;
                    assert_ne!(mapping.nve, name(n));
                    view.mappings.insert(mapping.mac, mapping);
                }
            }
            Event::Admitted { vn, macs } => {
                let view = edge.views.get_mut(&vn).expect("on the network first");
                view.admitted = macs.into_iter().collect();
            }
            Event::Left { vn, .. } => drop(edge.views.remove(&vn)),
            Event::Revoked(_) => {}
            Event::Alarm(Alarm::Protocol(why)) => panic!("{n}: honest servers: {why}"),
            Event::Alarm(_) => {}
        }
    }

    /// What is stored.
    pub fn truth(&self) -> State {
        State::load(100, self.store.load().0)
    }

    /// An edge has just lost its rights in a network, or got them back.
    pub fn bound(&mut self, n: usize, network: usize) {
        let truth = self.truth();
        let key = (name(n), vn(network));
        let clock = truth.vns.get(&key.1).map(|it| it.clock.version);
        match (truth.admits(&key.1, &key.0), clock) {
            (false, Some(version)) => {
                self.bounds.entry(key).or_insert(version);
            }
            _ => {
                self.bounds.remove(&key);
            }
        }
    }

    /// Everything has come to rest: all edges know what is so, and nothing else.
    pub fn check(&self) {
        let truth = self.truth();
        for at in &self.servers {
            let (own, stored) = (at.engine.state(), &truth);
            assert!(!at.broken && !self.store.is_behind(&at.known));
            for (name, vn) in &stored.vns {
                assert_eq!(own.vns[name].mappings, vn.mappings);
                assert_eq!(own.vns[name].joined, vn.joined);
            }
        }
        for (n, network) in (0..EDGES.len()).flat_map(|n| (0..VNS.len()).map(move |v| (n, v))) {
            self.check_view(&truth, n, network);
        }
    }

    fn check_view(&self, truth: &State, n: usize, network: usize) {
        let (me, net) = (name(n), vn(network));
        let (edge, case) = (&self.edges[n], format!("{me} in {net}"));
        let wanted = edge.wanted.get(&net);
        let view = edge.views.get(&net);
        if !truth.admits(&net, &me) || wanted.is_none() {
            assert!(view.is_none(), "{case}: not on it, and knows {view:?}");
            let joined = truth.vns.get(&net).map(|vn| vn.joined.contains_key(&me));
            assert!(joined != Some(true), "{case}: has not left");
            return;
        }
        let (Some(view), Some(wanted)) = (view, wanted) else {
            panic!("{case}: is not on it: {:?}", edge.client.status(self.now));
        };
        let vn = &truth.vns[&net];
        assert!(vn.joined.contains_key(&me), "{case}");
        let others = vn.joined.iter().filter(|(nve, _)| **nve != me);
        let members: BTreeMap<NveName, Endpoint> = others
            .map(|(nve, joined)| (nve.clone(), joined.endpoint.clone()))
            .collect();
        assert_eq!(view.members, members, "{case}");
        assert_eq!(view.epoch, vn.clock.epoch, "{case}");
        let theirs = vn.mappings.iter().filter(|(_, it)| it.nve != me);
        let theirs: BTreeMap<Mac, Mapping> = theirs
            .filter_map(|(mac, _)| Some((*mac, vn.mapping(*mac)?)))
            .collect();
        assert_eq!(view.mappings, theirs, "{case}");
        let ours = vn.mappings.iter().filter(|(_, it)| it.nve == me);
        let ours: BTreeSet<Mac> = ours.map(|(mac, _)| *mac).collect();
        assert_eq!(
            view.admitted,
            ours,
            "{case}: {:?}",
            edge.client.status(self.now)
        );
        // Nothing is registered that no port has, and all that is placed here and plugged in is.
        let plugged: BTreeSet<Mac> = wanted.iter().map(|machine| mac(*machine)).collect();
        assert!(ours.is_subset(&plugged), "{case}: {ours:?} {plugged:?}");
        if network == 0 {
            let placed = vn.placements.iter().filter(|(_, it)| it.nve == me);
            let placed: BTreeSet<Mac> = placed.map(|(mac, _)| *mac).collect();
            let expected: BTreeSet<Mac> = placed.intersection(&plugged).copied().collect();
            assert_eq!(ours, expected, "{case}: {:?}", edge.client.status(self.now));
        }
    }
}

impl View {
    /// Whether there is anything to be known.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.mappings.is_empty()
    }
}
