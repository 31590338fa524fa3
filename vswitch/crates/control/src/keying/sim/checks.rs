//! What must hold at every step, and what once everything has had time to heal.

use std::collections::BTreeMap;

use super::World;
use super::plane::Flow;
use crate::keying::receiving::PER_WORKER;
use crate::keying::{Direction, SaState};
use crate::types::VnName;

impl World {
    /// An SA is sent with only after it can be opened.
    pub fn check_twin(
        &self,
        from: usize,
        to: usize,
        vn: &VnName,
        worker: u16,
        (spi, key): (u32, [u8; 36]),
    ) {
        let twin = self.edges[to].plane.inbound.get(&spi);
        let right = twin.is_some_and(|twin| {
            twin.key == key
                && twin.vn == *vn
                && twin.worker == worker
                && twin.peer == self.edges[from].name
        });
        let excused = self.excused.contains(&(from, to));
        assert!(
            right || excused,
            "{:?}: {from} has {spi:#x} before {to}",
            self.now
        );
    }

    /// The books about limits are right, and the limits kept.
    pub fn check_limits(&self, edge: usize) {
        let Some(keying) = &self.edges[edge].keying else {
            return;
        };
        let (mut senders, mut receivers) = (0, 0);
        for (peer, pairs) in &keying.pairs {
            let of_peer: usize = pairs.values().map(|pair| pair.receivers.len()).sum();
            let noted = keying.receivers_of.get(peer).copied();
            assert_eq!(noted.unwrap_or(0), of_peer);
        }
        assert!(keying.receivers_of.values().all(|own| *own > 0));
        for pair in keying.pairs.values().flat_map(BTreeMap::values) {
            assert!(pair.senders.len() <= self.config.workers_per_pair);
            assert!(pair.receivers.len() <= self.config.workers_per_pair);
            senders += pair.senders.len();
            receivers += pair.receivers.len();
            for sas in pair.receivers.values() {
                assert!((1..=PER_WORKER).contains(&sas.len()));
                assert!(sas.iter().all(|sa| keying.spis.contains_key(&sa.spi)));
            }
        }
        assert_eq!((senders, receivers), (keying.senders, keying.receivers));
        assert!(senders <= self.config.max_sas && receivers <= self.config.max_sas);
        let inbound = keying.sas().filter(|sa| sa.direction == Direction::Inbound);
        assert_eq!(inbound.count(), keying.spis.len());
        for vn in keying.sas().map(|sa| (sa.vn, sa.peer)) {
            assert!(
                keying.vns[&vn.0].members.contains(&vn.1),
                "{vn:?} is no pair"
            );
        }
    }

    /// Everything is as it should be: every flow between members has its SA, which can be opened,
    /// under the current epoch.
    pub fn check_converged(&self) {
        if let Some((index, flow, what)) = self.wrong() {
            let (here, there) = (self.describe(index), self.describe(self.index(&flow.1)));
            panic!("{index} {flow:?}: {what}\n{here}{there}");
        }
    }

    /// The first flow that is not as it should be, whose, and why.
    pub fn wrong(&self) -> Option<(usize, &Flow, &'static str)> {
        let mut flows = self.edges.iter().enumerate().flat_map(|(index, edge)| {
            let flows = edge.flows.iter();
            flows.map(move |flow| (index, edge, flow))
        });
        flows.find_map(|(index, edge, flow)| {
            let (vn, peer, _) = flow;
            let (epoch, members) = &self.vns[vn];
            let (sa, wrong) = (self.sa_of(index, flow), |what| Some((index, flow, what)));
            if !members.contains(&edge.name) || !members.contains(peer) {
                return sa.and_then(|_| wrong("still sent"));
            }
            let Some((spi, key)) = sa else {
                return wrong("no SA");
            };
            let twin = self.edges[self.index(peer)].plane.inbound.get(&spi);
            if twin.is_none_or(|twin| twin.key != key) {
                return wrong("an SA that cannot be opened");
            }
            let mut sas = edge.keying.as_ref()?.sas();
            let sa = sas.find(|sa| sa.direction == Direction::Outbound && sa.spi == spi);
            let Some(sa) = sa else {
                return wrong("an SA that only the data plane has");
            };
            // A rekey may have come so far that only the answer to its install is missing.
            match sa.state {
                SaState::Live | SaState::Installing if sa.epoch == *epoch => None,
                SaState::Live | SaState::Installing => wrong("another epoch's SA"),
                _ => wrong("neither live nor installing"),
            }
        })
    }

    /// Nothing is left over: an inbound SA for each outbound one, and the data planes have what the
    /// state machines think they have.
    pub fn check_tidy(&self) {
        let mut outbound = Vec::new();
        let mut inbound = Vec::new();
        for (index, edge) in self.edges.iter().enumerate() {
            let keying = edge.keying.as_ref().unwrap();
            let there = edge.plane.outbound.iter();
            outbound.extend(there.map(|((_, peer, _), (spi, _))| (self.index(peer), *spi)));
            inbound.extend(edge.plane.inbound.keys().map(|spi| (index, *spi)));
            let known = |direction| {
                let sas = keying.sas().filter(move |sa| sa.direction == direction);
                let mut spis: Vec<_> = sas.map(|sa| sa.spi).collect();
                spis.sort_unstable();
                spis
            };
            let spis: Vec<_> = edge.plane.inbound.keys().copied().collect();
            assert_eq!(known(Direction::Inbound), spis, "{}", self.describe(index));
            let mut spis: Vec<_> = edge.plane.outbound.values().map(|(spi, _)| *spi).collect();
            spis.sort_unstable();
            assert_eq!(known(Direction::Outbound), spis, "{}", self.describe(index));
        }
        outbound.sort_unstable();
        inbound.sort_unstable();
        let all: Vec<_> = (0..self.edges.len()).map(|at| self.describe(at)).collect();
        assert_eq!(outbound, inbound, "{}", all.join("\n"));
    }

    /// For a failed test: what an edge has.
    pub fn describe(&self, index: usize) -> String {
        let keying = self.edges[index].keying.as_ref().unwrap();
        let mut text = format!("edge {index} at {:?}: {:?}\n", self.now, keying.counters());
        for (vn, known) in &keying.vns {
            text += &format!("  {vn}: {:?} {:?}\n", known.epoch, known.members);
        }
        let edge = &self.edges[index];
        text += &format!(
            "  told {:?}, to be told {:?}; so is {:?}\n",
            edge.told, edge.word, self.vns
        );
        for session in keying.sessions() {
            text += &format!("  session {session:?}\n");
        }
        for (peer, pairs) in &keying.pairs {
            for (vn, pair) in pairs {
                text += &format!(
                    "  {peer} {vn}: exchange {:?} pending {} due {:?} failures {}\n    {:?}\n    {:?}\n",
                    pair.exchange.as_ref().map(|it| (it.id, it.epoch)),
                    pair.pending.is_some(),
                    pair.due,
                    pair.failures,
                    pair.senders,
                    pair.receivers,
                );
            }
        }
        text
    }
}
