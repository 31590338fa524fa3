//! SAs from a peer: chosen here, so that SPIs are free and RSS brings packets to their owner.

use std::time::Duration;

use super::api::{Direction, Output, SaAlgorithm};
use super::exchange::{Exchange, SaName};
use super::pair::{InSa, Pair};
use super::report::SaState;
use super::{Keying, PairKey};
use crate::message::peer::{MAX_WORKERS, VnMessage};

/// SAs of one of the peer's workers at the same time: one in use, one on its way, and former ones
/// that still drain when exchanges follow one another quickly.
pub const PER_WORKER: usize = 4;

impl Keying {
    /// A worker of the peer's needs an SA.
    pub(super) fn wanted(&mut self, now: Duration, key: &PairKey, pair: &mut Pair, worker: u16) {
        if worker >= MAX_WORKERS {
            self.counters.lies += 1;
            return;
        }
        let current = pair.exchange.as_ref().map(|exchange| exchange.id);
        let mut sas = pair.receivers.get(&worker).into_iter().flatten();
        let has =
            |sa: &InSa| Some(sa.exchange) == current && !matches!(sa.state, SaState::Draining(_));
        if sas.any(has) {
            self.counters.lies += 1; // Who does not use an SA any more says so first.
            return;
        }
        let often = self
            .peers
            .get_mut(&key.peer)
            .is_none_or(|peer| !peer.wants.take(now));
        if often {
            self.deny(key, pair, worker);
            return;
        }
        if !pair.receivers.contains_key(&worker) {
            let first = pair.receivers.keys().next().copied();
            let few = pair.receivers.len() < self.config.workers_per_pair
                && self.receivers < self.config.ample_sas;
            match first {
                Some(with) if !few => {
                    self.counters.shared += 1;
                    self.tell(key, pair, &VnMessage::Share { worker, with });
                    return;
                }
                None if self.receivers >= self.config.max_sas => {
                    self.deny(key, pair, worker);
                    return;
                }
                _ => {}
            }
        }
        self.make_room(key, pair, worker);
        let owner = self.steering.owner(&key.vn, &key.peer, worker);
        let algorithm = self.vns.get(&key.vn).map(|vn| vn.algorithm);
        let chosen = algorithm.zip(pair.exchange.as_ref());
        let chosen = chosen.and_then(|(algorithm, exchange)| {
            let (steered, index, spi) = self.choose(key, exchange, worker, owner, algorithm)?;
            let (sender, receiver) = (self.uri(&key.peer), self.uri(&self.me));
            let secret = exchange.key(&SaName {
                sender: &sender,
                receiver: &receiver,
                vn: &key.vn,
                worker,
                index,
                algorithm,
            })?;
            Some((steered, index, spi, secret, algorithm))
        });
        let Some((steered, index, spi, secret, algorithm)) = chosen else {
            // All indexes spent: another exchange has new ones.
            pair.due_by(now);
            self.deny(key, pair, worker);
            return;
        };
        let Some(exchange) = &mut pair.exchange else {
            return;
        };
        exchange.spend(worker, false, index);
        self.counters.unsteered += u64::from(!steered);
        let id = self.order(key, worker, Direction::Inbound);
        let sa = InSa {
            spi,
            id,
            exchange: exchange.id,
            epoch: exchange.epoch,
            born: exchange.born,
            state: SaState::Installing,
        };
        self.spis.insert(spi, (key.clone(), worker));
        let sas = pair.receivers.entry(worker).or_default();
        self.receivers += usize::from(sas.is_empty());
        sas.push(sa);
        self.outputs.push_back(Output::InstallInbound {
            id,
            vn: key.vn.clone(),
            peer: key.peer.clone(),
            sender_worker: worker,
            owner,
            spi,
            algorithm,
            secret,
        });
        let offer = VnMessage::Offer {
            worker,
            index,
            spi,
            algorithm,
        };
        self.tell(key, pair, &offer);
    }

    fn deny(&mut self, key: &PairKey, pair: &mut Pair, worker: u16) {
        self.counters.denied += 1;
        self.tell(key, pair, &VnMessage::Denied { worker });
    }

    /// The first free index whose SPI RSS brings to the owner; if none of many does, the first that
    /// is free at all, and packets are handed over. With it, whether they need not be.
    fn choose(
        &self,
        key: &PairKey,
        exchange: &Exchange,
        worker: u16,
        owner: u16,
        algorithm: SaAlgorithm,
    ) -> Option<(bool, u16, u32)> {
        let (sender, receiver) = (self.uri(&key.peer), self.uri(&self.me));
        let free = exchange.free_indexes(worker, false);
        let mut candidates = free
            .take(usize::from(self.config.steering_tries))
            .filter_map(|index| {
                let index = u16::try_from(index).ok()?;
                let spi = exchange.spi(&SaName {
                    sender: &sender,
                    receiver: &receiver,
                    vn: &key.vn,
                    worker,
                    index,
                    algorithm,
                })?;
                let free = !self.spis.contains_key(&spi) && self.steering.free(spi);
                free.then_some((index, spi))
            });
        let steers = |spi| self.steering.steers(&key.peer, spi, owner);
        let (index, spi) = candidates.next()?;
        if steers(spi) {
            return Some((true, index, spi));
        }
        let steered = candidates.find(|(_, spi)| steers(*spi));
        Some(steered.map_or((false, index, spi), |(index, spi)| (true, index, spi)))
    }

    /// At most [`PER_WORKER`] SAs of one worker: those least needed go first.
    fn make_room(&mut self, key: &PairKey, pair: &mut Pair, worker: u16) {
        let Some(sas) = pair.receivers.get_mut(&worker) else {
            return;
        };
        while sas.len() >= PER_WORKER {
            let former = |sa: &InSa| matches!(sa.state, SaState::Draining(_));
            let at = sas.iter().position(former).unwrap_or(0);
            let sa = sas.remove(at);
            self.remove_inbound(key, &sa);
        }
    }

    /// Orders what is needed to be rid of SAs that have been taken out of a pair.
    pub(super) fn forget_inbound(&mut self, key: &PairKey, pair: &Pair, gone: Vec<InSa>) {
        let mut workers = std::collections::BTreeSet::new();
        for sa in gone {
            if let Some((_, worker)) = self.spis.get(&sa.spi) {
                workers.insert(*worker);
            }
            self.remove_inbound(key, &sa);
        }
        let empty = |worker: &u16| !pair.receivers.contains_key(worker);
        self.receivers -= workers.into_iter().filter(empty).count();
    }

    /// The sender says with what it may still send: the rest drains, what it never used goes.
    pub(super) fn reconcile(
        &mut self,
        now: Duration,
        key: &PairKey,
        pair: &mut Pair,
        spis: &[u32],
    ) {
        let until = now + self.config.drain;
        let current = pair.exchange.as_ref().map(|it| it.id);
        let mut gone = Vec::new();
        pair.receivers.retain(|_, sas| {
            for sa in sas.iter_mut() {
                match sa.state {
                    SaState::Live if !spis.contains(&sa.spi) => {
                        sa.state = SaState::Draining(until);
                    }
                    // Whatever it was here, the sender has it.
                    SaState::Ready | SaState::Draining(_) if spis.contains(&sa.spi) => {
                        sa.state = SaState::Live;
                    }
                    _ => {}
                }
            }
            gone.extend(sas.extract_if(.., |sa| {
                let unused = matches!(sa.state, SaState::Ready | SaState::Installing);
                unused && Some(sa.exchange) != current
            }));
            !sas.is_empty()
        });
        self.forget_inbound(key, pair, gone);
    }

    /// The sender uses this SA; the worker's others drain.
    pub(super) fn switched(&mut self, now: Duration, pair: &mut Pair, spi: u32) {
        let until = now + self.config.drain;
        let found = pair
            .inbound(spi)
            .filter(|(_, sa)| matches!(sa.state, SaState::Ready | SaState::Live));
        let Some((worker, id)) = found.map(|(worker, sa)| (worker, sa.id)) else {
            self.counters.lies += 1;
            return;
        };
        for sa in pair.receivers.get_mut(&worker).into_iter().flatten() {
            if sa.id == id {
                sa.state = SaState::Live;
            } else if sa.id < id && !matches!(sa.state, SaState::Draining(_)) {
                sa.state = SaState::Draining(until);
            }
        }
    }

    /// The sender does not use this SA any more.
    pub(super) fn retired(&mut self, now: Duration, pair: &mut Pair, spi: u32) {
        let until = now + self.config.drain;
        match pair.inbound(spi) {
            Some((_, sa)) if matches!(sa.state, SaState::Draining(_)) => {}
            Some((_, sa)) => sa.state = SaState::Draining(until),
            None => self.counters.lies += 1,
        }
    }
}
