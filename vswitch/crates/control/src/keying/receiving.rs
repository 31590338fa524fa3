//! SAs from a peer: chosen here, so that SPIs are free and RSS brings packets to their owner.

use std::time::Duration;

use super::api::{Direction, Output, SaAlgorithm};
use super::exchange::{Exchange, SaName};
use super::pair::{InSa, Pair};
use super::report::{Report, SaState};
use super::{Keying, PairKey};
use crate::message::peer::{MAX_WORKERS, VnMessage};
use crate::types::NveName;

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
        if !self.allowance(now, &key.peer).wants.take(now) {
            self.deny(key, pair, worker);
            return;
        }
        if !pair.receivers.contains_key(&worker) {
            let first = pair.receivers.keys().next().copied();
            let (own, fair, most) = self.room_to_receive(&key.peer);
            let few = pair.receivers.len() < self.config.workers_per_pair
                && (self.receivers < self.config.ample_sas || own < fair);
            let full = self.receivers >= self.config.max_sas;
            match first {
                Some(with) if !few || full || own >= most => {
                    self.counters.shared += 1;
                    self.tell(key, pair, &VnMessage::Share { worker, with });
                    return;
                }
                None if full || own >= most => {
                    if !full {
                        self.crowds(&key.peer, own);
                    }
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
        let first = sas.is_empty();
        sas.push(sa);
        if first {
            self.receivers += 1;
            *self.receivers_of.entry(key.peer.clone()).or_default() += 1;
        }
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
        let fewer = workers.into_iter().filter(empty).count();
        self.fewer_received(&key.peer, fewer);
    }

    /// So many (pair, worker) of a peer are not received any more.
    pub(super) fn fewer_received(&mut self, peer: &NveName, fewer: usize) {
        self.receivers -= fewer;
        if fewer > 0
            && let Some(peer) = self.peers.get_mut(peer)
        {
            peer.crowding = false;
        }
        if let Some(own) = self.receivers_of.get_mut(peer) {
            *own -= fewer;
            if *own == 0 {
                self.receivers_of.remove(peer);
            }
        }
    }

    /// A peer asks for more than one peer may have.
    fn crowds(&mut self, peer: &NveName, has: usize) {
        self.counters.denied_share += 1;
        if !core::mem::replace(&mut self.peer(peer).crowding, true) {
            let peer = peer.clone();
            let report = Report::Crowding { peer, has };
            self.outputs.push_back(Output::Report(report));
        }
    }

    /// How many (pair, worker) of a peer are received; what it has for sure whatever others take; and how
    /// many it may have at most. Half of all is kept for all peers, the same for each. From the other
    /// half, which is for whoever comes, one peer gets half of what others leave: with
    /// `own <= fair + (open - others) / 2`, what is kept finds room whatever the order they come in.
    fn room_to_receive(&self, peer: &NveName) -> (usize, usize, usize) {
        let most = self.config.max_sas;
        let peers = self.shared.len().max(1);
        let own = self.receivers_of.get(peer).copied().unwrap_or(0);
        // There is nobody to keep anything for.
        if peers == 1 {
            return (own, most, most);
        }
        let open = most / 2;
        let fair = ((most - open) / peers).max(1);
        let others = self.receivers - own;
        (own, fair, fair + open.saturating_sub(others) / 2)
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
