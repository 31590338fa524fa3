//! SAs to a peer: which worker needs one, and how it comes to it.

use std::time::Duration;

use super::api::{Direction, Output, SaAlgorithm};
use super::exchange::SaName;
use super::pair::{OutSa, Pair, Sender, Step};
use super::report::Report;
use super::{Keying, PairKey};
use crate::message::peer::{MAX_WORKERS, VnMessage};

/// A need so soon behind its SA's install was written down before it.
const AFTERTHOUGHT: Duration = Duration::from_secs(1);

impl Keying {
    /// A worker has a packet and no SA.
    pub(super) fn need(&mut self, now: Duration, key: PairKey, worker: u16) {
        if !self.is_member(&key) || worker >= MAX_WORKERS {
            self.counters.needs_unknown += 1;
            return;
        }
        let pairs = self.pairs.get(&key.peer);
        let pair = pairs.and_then(|pairs| pairs.get(&key.vn));
        if pair.is_none() && !self.new_pairs.take(now) {
            self.counters.needs_limited += 1;
            return;
        }
        self.with_new_pair(now, &key, |this, pair| {
            if let Some(sender) = pair.senders.get_mut(&worker) {
                let soon = now.saturating_sub(sender.needed) < AFTERTHOUGHT;
                let resting = sender.step == Step::Rest;
                if !resting || soon {
                    this.counters.needs_coalesced += 1;
                    if !resting {
                        sender.needed = now;
                    }
                    return;
                }
                // The data plane has lost it.
                sender.needed = now;
                this.retire(&key, pair, worker, false);
            } else if !this.room_to_send(now, &key, pair, worker) {
                return;
            } else {
                let sender = Sender {
                    current: None,
                    step: Step::Waiting,
                    needed: now,
                };
                pair.senders.insert(worker, sender);
                pair.shares.remove(&worker);
                this.senders += 1;
            }
            if pair.exchange.is_some() {
                this.want(now, &key, pair, worker);
            } else if pair.pending.is_none() && pair.due.is_none() {
                pair.due = Some(now);
            }
        });
    }

    /// Whether one more worker may have an SA; else it shares, if there is what to share.
    fn room_to_send(&mut self, now: Duration, key: &PairKey, pair: &mut Pair, worker: u16) -> bool {
        let sharing = pair.shares.get(&worker).copied();
        if let Some((with, until)) = sharing
            && now < until
            && pair.senders.contains_key(&with)
        {
            self.counters.needs_coalesced += 1;
            return false;
        }
        let first = pair.senders.keys().next().copied();
        let few = pair.senders.len() < self.config.workers_per_pair
            && self.senders < self.config.ample_sas;
        match first {
            Some(with) if !few => {
                self.lend(now, key, pair, (worker, with));
                false
            }
            None if self.senders >= self.config.max_sas => {
                self.counters.denied += 1;
                false
            }
            _ => true,
        }
    }

    /// A worker uses another's SA, and asks for its own again some time later.
    fn lend(&mut self, now: Duration, key: &PairKey, pair: &mut Pair, (worker, with): (u16, u16)) {
        let until = now + self.config.need_lifetime;
        let before = pair.shares.insert(worker, (with, until));
        if before.is_some_and(|(before, _)| before == with) {
            return;
        }
        self.counters.shared += 1;
        self.outputs.push_back(Output::Share {
            vn: key.vn.clone(),
            peer: key.peer.clone(),
            worker,
            with,
        });
    }

    /// Asks the receiver for an SA under the exchange that there is.
    pub(super) fn want(&mut self, now: Duration, key: &PairKey, pair: &mut Pair, worker: u16) {
        let deadline = now + self.config.answer_timeout;
        let there = pair.exchange.is_some();
        let Some(sender) = pair.senders.get_mut(&worker) else {
            return;
        };
        if matches!(sender.step, Step::Installing { .. }) {
            return; // Once it is installed, it moves on if it must.
        }
        if !there {
            sender.step = Step::Waiting;
            return;
        }
        sender.step = Step::Wanted { deadline };
        self.tell(key, pair, &VnMessage::Want { worker });
    }

    /// The receiver names an SA: it must be what the exchange gives.
    pub(super) fn offered(
        &mut self,
        now: Duration,
        key: &PairKey,
        pair: &mut Pair,
        (worker, index, spi, algorithm): (u16, u16, u32, SaAlgorithm),
    ) {
        let deadline = now + self.config.answer_timeout;
        let asked = pair.senders.get_mut(&worker);
        let asked = asked.filter(|sender| matches!(sender.step, Step::Wanted { .. }));
        let (Some(sender), Some(exchange)) = (asked, &mut pair.exchange) else {
            self.counters.lies += 1;
            return;
        };
        let (me, peer) = (self.uri(&self.me), self.uri(&key.peer));
        let name = SaName {
            sender: &me,
            receiver: &peer,
            vn: &key.vn,
            worker,
            index,
            algorithm,
        };
        let right = self.vns.get(&key.vn).map(|vn| vn.algorithm) == Some(algorithm)
            && exchange
                .free_indexes(worker, true)
                .contains(&u32::from(index))
            && exchange.spi(&name) == Some(spi);
        if right {
            exchange.spend(worker, true, index);
            sender.step = Step::Offered {
                index,
                spi,
                deadline,
            };
        } else {
            self.counters.lies += 1;
            sender.step = Step::Retry {
                at: now + self.config.retry_max,
            };
        }
    }

    /// The receiver has installed what it offered: our turn.
    pub(super) fn peer_installed(&mut self, key: &PairKey, pair: &mut Pair, spi: u32) {
        let mut offered = pair.senders.iter_mut().filter_map(|(worker, sender)| {
            let Step::Offered {
                index, spi: named, ..
            } = sender.step
            else {
                return None;
            };
            (named == spi).then_some((*worker, index, sender))
        });
        let found = offered.next();
        let algorithm = self.vns.get(&key.vn).map(|vn| vn.algorithm);
        let (Some((worker, index, sender)), Some(exchange), Some(algorithm)) =
            (found, &pair.exchange, algorithm)
        else {
            self.counters.lies += 1;
            return;
        };
        let (me, peer) = (self.uri(&self.me), self.uri(&key.peer));
        let secret = exchange.key(&SaName {
            sender: &me,
            receiver: &peer,
            vn: &key.vn,
            worker,
            index,
            algorithm,
        });
        let Some(secret) = secret else {
            return;
        };
        let sa = OutSa {
            spi,
            exchange: exchange.id,
            epoch: exchange.epoch,
            born: exchange.born,
        };
        let id = self.order(key, worker, Direction::Outbound);
        sender.step = Step::Installing { id, sa };
        self.outputs.push_back(Output::InstallOutbound {
            id,
            vn: key.vn.clone(),
            peer: key.peer.clone(),
            worker,
            spi,
            algorithm,
            secret,
        });
    }

    /// The receiver has no SA for this worker, but one to share.
    pub(super) fn share(
        &mut self,
        now: Duration,
        key: &PairKey,
        pair: &mut Pair,
        worker: u16,
        with: u16,
    ) {
        let other = with != worker && pair.senders.contains_key(&with);
        let asked = pair.senders.get(&worker);
        let asked = asked.filter(|sender| matches!(sender.step, Step::Wanted { .. }));
        let Some(sender) = asked else {
            self.counters.lies += 1;
            return;
        };
        if !other || sender.current.is_some() {
            self.denied(now, pair, worker);
            return;
        }
        pair.senders.remove(&worker);
        self.senders -= 1;
        self.lend(now, key, pair, (worker, with));
    }

    /// The receiver has no SA for this worker now.
    pub(super) fn denied(&mut self, now: Duration, pair: &mut Pair, worker: u16) {
        let asked = pair.senders.get_mut(&worker);
        let asked =
            asked.filter(|it| matches!(it.step, Step::Wanted { .. } | Step::Offered { .. }));
        let Some(sender) = asked else {
            self.counters.lies += 1;
            return;
        };
        self.counters.denied += 1;
        sender.step = Step::Retry {
            at: now + self.config.retry_max,
        };
    }

    /// The receiver has removed an SA: nothing more is sent with it.
    pub(super) fn gone(&mut self, now: Duration, key: &PairKey, pair: &mut Pair, spi: u32) {
        let mut senders = pair.senders.iter();
        let found = senders.find(|(_, sender)| sender.current.is_some_and(|sa| sa.spi == spi));
        if let Some(worker) = found.map(|(worker, _)| *worker) {
            self.retire(key, pair, worker, false);
            self.release(now, pair, worker);
            return;
        }
        for sender in pair.senders.values_mut() {
            if matches!(sender.step, Step::Offered { spi: named, .. } if named == spi) {
                sender.step = Step::Retry {
                    at: now + self.config.retry_first,
                };
            }
        }
    }

    /// Removes what a worker sends with, because of a hard limit or not, and tells the receiver.
    pub(super) fn retire(&mut self, key: &PairKey, pair: &mut Pair, worker: u16, limit: bool) {
        let sender = pair.senders.get_mut(&worker);
        let Some(sa) = sender.and_then(|sender| sender.current.take()) else {
            return;
        };
        self.outputs.push_back(Output::RemoveOutbound {
            vn: key.vn.clone(),
            peer: key.peer.clone(),
            worker,
            spi: sa.spi,
            limit,
        });
        self.tell(key, pair, &VnMessage::Retire { spi: sa.spi });
    }

    /// Forgets a worker without an SA that is not on its way to one.
    pub(super) fn release(&mut self, now: Duration, pair: &mut Pair, worker: u16) {
        let idle = pair
            .senders
            .get(&worker)
            .is_some_and(|it| it.current.is_none() && it.step == Step::Rest);
        if idle {
            pair.senders.remove(&worker);
            self.senders -= 1;
        }
        self.rest(now, pair);
    }

    /// An SA has carried half of what it may.
    pub(super) fn soft_limit(&mut self, now: Duration, key: &PairKey, worker: u16, spi: u32) {
        self.with_pair(now, key, |_, pair| {
            let sender = pair.senders.get(&worker);
            let current = sender.and_then(|sender| sender.current);
            // Behind failures the backoff goes on, and one that moves already is left to it.
            let moving = pair.exchange.as_ref().map(|it| it.id) != current.map(|sa| sa.exchange);
            if current.is_some_and(|sa| sa.spi == spi)
                && (!moving || pair.exchange.is_none())
                && pair.failures == 0
            {
                pair.due_by(now);
            }
        });
    }

    /// An SA has carried all it may.
    pub(super) fn hard_limit(&mut self, now: Duration, key: &PairKey, worker: u16, spi: u32) {
        self.with_pair(now, key, |this, pair| {
            let Some(sender) = pair.senders.get_mut(&worker) else {
                return;
            };
            if sender.current.is_none_or(|sa| sa.spi != spi) {
                return;
            }
            sender.needed = now;
            this.outputs.push_back(Output::Report(Report::HardLimit {
                vn: key.vn.clone(),
                peer: key.peer.clone(),
                worker,
                spi,
            }));
            if sender.step == Step::Rest {
                sender.step = Step::Waiting;
                if pair.failures == 0 {
                    pair.due_by(now);
                }
            }
            this.retire(key, pair, worker, true);
        });
    }
}
