//! Exchanges: begun, answered, refused, replaced; and messages under their channels.

use std::time::Duration;

use super::api::Output;
use super::exchange::Exchange;
use super::pair::{Pair, Pending, Step, Turn};
use super::report::{Report, SaState};
use super::{Keying, PairKey};
use crate::hybrid::{self, Answer, ExchangeId, Initiator, Offer, Root, Transcript};
use crate::message::peer::{PeerMessage, Refusal, VnMessage};
use crate::message::{Bounded, decode, encode};
use crate::types::Epoch;
use crate::vnchannel::Side;

/// So many failures in a row are reported.
const REPORTED_FAILURES: u32 = 4;

impl Keying {
    /// What is due for a pair.
    pub(super) fn tick(&mut self, now: Duration, key: &PairKey, pair: &mut Pair) {
        self.expire(now, key, pair);
        self.drain(now, key, pair);
        let late = pair.pending.as_ref().is_some_and(|it| it.deadline <= now);
        if late {
            pair.pending = None;
        }
        let stuck = self.step_senders(now, key, pair);
        if late || stuck {
            self.failure(now, key, pair);
        }
        if pair.pending.is_none() && pair.due.is_some_and(|due| due <= now) {
            pair.due = None;
            self.begin(now, key, pair);
        }
    }

    /// An exchange did not lead to what it was for: the next one comes later.
    fn failure(&mut self, now: Duration, key: &PairKey, pair: &mut Pair) {
        self.counters.exchanges_failed += 1;
        pair.failures = pair.failures.saturating_add(1);
        if pair.failures == REPORTED_FAILURES {
            self.outputs.push_back(Output::Report(Report::Failing {
                vn: key.vn.clone(),
                peer: key.peer.clone(),
                failures: pair.failures,
            }));
        }
        let wait = self.backoff(pair.failures);
        pair.due = Some(now + wait);
    }

    /// How long to wait behind so many failures in a row: doubled each time, and up to half more.
    pub(super) fn backoff(&mut self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1));
        let wait = self
            .config
            .retry_first
            .checked_mul(doubled.unwrap_or(u32::MAX));
        let wait = wait.unwrap_or(Duration::MAX).min(self.config.retry_max);
        (wait + self.up_to(wait / 2)).min(self.config.retry_max)
    }

    /// Begins an exchange, if there is anything to begin it for, and with whom.
    fn begin(&mut self, now: Duration, key: &PairKey, pair: &mut Pair) {
        if !pair.is_used() && !pair.asked {
            pair.exchange = None;
            pair.turn = Turn::None;
            return;
        }
        if self.session(&key.peer).is_none() {
            pair.turn = Turn::None;
            return; // The next session begins one.
        }
        if !self.has_turn(now, key, pair) {
            return;
        }
        pair.asked = false;
        let Some(vn) = self.vns.get(&key.vn) else {
            return;
        };
        let epoch = vn.epoch;
        let Ok(initiator) = Initiator::new() else {
            self.failure(now, key, pair);
            return;
        };
        let mut id = [0; 16];
        self.rng.fill(&mut id);
        let id = ExchangeId(id);
        let request = PeerMessage::KeyRequest {
            vn: key.vn.clone(),
            epoch,
            exchange: id,
            offer: initiator.offer().clone(),
        };
        self.send(&key.peer, &request);
        pair.pending = Some(Pending {
            id,
            epoch,
            initiator,
            deadline: now + self.config.answer_timeout,
        });
    }

    /// A peer begins an exchange.
    pub(super) fn requested(
        &mut self,
        now: Duration,
        key: &PairKey,
        epoch: Epoch,
        id: ExchangeId,
        offer: &Offer,
    ) {
        let busy = !self.allowance(now, &key.peer).requests.take(now);
        let admitted = match self.admits(now, key, epoch) {
            _ if busy => Err(Refusal::Busy),
            Ok(_) => Ok(()),
            Err(why) => Err(why),
        };
        if let Err(why) = admitted {
            self.refuse(key, id, why);
            // A member that is behind: it can be served if the request comes from here.
            let behind = self.vns.get(&key.vn).is_some_and(|vn| epoch < vn.epoch);
            if why == Refusal::Epoch && behind {
                self.with_new_pair(now, key, |_, pair| {
                    pair.asked = true;
                    pair.due_by(now);
                });
            }
            return;
        }
        self.with_new_pair(now, key, |this, pair| {
            if pair.exchange.as_ref().is_some_and(|it| it.id == id) {
                return; // Said twice.
            }
            // Of two at once, that of the higher epoch stays, else that of the smaller name.
            if let Some(pending) = &pair.pending {
                let theirs = (epoch, &this.me) > (pending.epoch, &key.peer);
                this.counters.ties += 1;
                if !theirs {
                    return;
                }
                pair.pending = None;
            }
            this.respond(now, key, pair, epoch, id, offer);
        });
    }

    fn respond(
        &mut self,
        now: Duration,
        key: &PairKey,
        pair: &mut Pair,
        epoch: Epoch,
        id: ExchangeId,
        offer: &Offer,
    ) {
        let (initiator, responder) = (self.uri(&key.peer), self.uri(&self.me));
        let Some(binding) = self.session(&key.peer).map(|session| session.binding) else {
            return;
        };
        let transcript = Transcript {
            initiator: &initiator,
            responder: &responder,
            vn: &key.vn,
            epoch,
            exchange: id,
            binding: &binding,
        };
        let Ok((answer, root)) = hybrid::respond(offer, &transcript) else {
            self.refuse(key, id, Refusal::Offer);
            return;
        };
        let response = PeerMessage::KeyResponse {
            vn: key.vn.clone(),
            exchange: id,
            answer,
        };
        self.send(&key.peer, &response);
        self.counters.exchanges_answered += 1;
        self.established(now, key, pair, (root, &transcript, Side::Responder));
    }

    fn refuse(&mut self, key: &PairKey, exchange: ExchangeId, why: Refusal) {
        *match why {
            Refusal::NotMember => &mut self.counters.refused_membership,
            Refusal::Epoch => &mut self.counters.refused_epoch,
            Refusal::Busy => &mut self.counters.refused_busy,
            Refusal::Offer => &mut self.counters.refused_share,
            Refusal::Exchange => &mut self.counters.stale,
        } += 1;
        let vn = key.vn.clone();
        self.send(&key.peer, &PeerMessage::Refuse { vn, exchange, why });
    }

    /// A peer answers an exchange.
    pub(super) fn answered(
        &mut self,
        now: Duration,
        key: &PairKey,
        id: ExchangeId,
        answer: &Answer,
    ) {
        let Some(binding) = self.session(&key.peer).map(|session| session.binding) else {
            return;
        };
        let (initiator, responder) = (self.uri(&self.me), self.uri(&key.peer));
        self.with_pair(now, key, |this, pair| {
            let Some(pending) = pair.pending.take_if(|pending| pending.id == id) else {
                return; // Given up meanwhile.
            };
            let transcript = Transcript {
                initiator: &initiator,
                responder: &responder,
                vn: &key.vn,
                epoch: pending.epoch,
                exchange: id,
                binding: &binding,
            };
            let Ok(root) = pending.initiator.finish(answer, &transcript) else {
                this.counters.refused_share += 1;
                this.failure(now, key, pair);
                return;
            };
            this.counters.exchanges_begun += 1;
            this.established(now, key, pair, (root, &transcript, Side::Initiator));
        });
    }

    /// A peer does not serve an exchange.
    pub(super) fn refused(&mut self, now: Duration, key: &PairKey, id: ExchangeId, why: Refusal) {
        self.with_pair(now, key, |this, pair| {
            if pair.pending.take_if(|pending| pending.id == id).is_some() {
                // It has nothing with us in this VN, so nothing we sent would be opened.
                if why == Refusal::NotMember {
                    this.purge_sas(key, pair);
                    pair.forget_exchange();
                }
                this.failure(now, key, pair);
            } else if why == Refusal::Exchange
                && pair.exchange.as_ref().is_some_and(|it| it.id == id)
            {
                pair.forget_exchange();
                this.failure(now, key, pair);
            }
        });
    }

    /// There is a new exchange: the former is gone, every SA moves.
    fn established(
        &mut self,
        now: Duration,
        key: &PairKey,
        pair: &mut Pair,
        (root, transcript, side): (Root, &Transcript<'_>, Side),
    ) {
        pair.forget_exchange();
        let Ok(exchange) = Exchange::new(now, root, transcript, side) else {
            self.failure(now, key, pair);
            return;
        };
        pair.exchange = Some(exchange);
        pair.failures = 0;
        let early = self.up_to(self.config.rekey_jitter);
        pair.due = Some(now + self.config.rekey_after.saturating_sub(early));
        if let Ok(spis) = Bounded::try_from(pair.outbound_spis()) {
            self.tell(key, pair, &VnMessage::Outbound { spis });
        }
        let workers: Vec<_> = pair.senders.keys().copied().collect();
        for worker in workers {
            self.want(now, key, pair, worker);
        }
        // The epoch may be our former one, or have changed on the way.
        let epoch = self.vns.get(&key.vn).map(|vn| vn.epoch);
        if epoch.is_some_and(|epoch| epoch > transcript.epoch) {
            let wait = self.config.retry_first;
            pair.due_by(now + wait);
        }
    }

    /// Seals a message and sends it.
    pub(super) fn tell(&mut self, key: &PairKey, pair: &mut Pair, message: &VnMessage) {
        let Some(exchange) = &mut pair.exchange else {
            return;
        };
        let sealed = encode(message).ok();
        let sealed = sealed.and_then(|bytes| exchange.channel.seal(&bytes).ok());
        let Some(bytes) = sealed.and_then(|bytes| Bounded::try_from(bytes).ok()) else {
            return;
        };
        let message = PeerMessage::Sealed {
            vn: key.vn.clone(),
            exchange: exchange.id,
            bytes,
        };
        self.send(&key.peer, &message);
    }

    /// A sealed message.
    pub(super) fn sealed(&mut self, now: Duration, key: &PairKey, id: ExchangeId, bytes: &[u8]) {
        let (mut known, mut malformed) = (false, false);
        self.with_pair(now, key, |this, pair| {
            let Some(exchange) = pair.exchange.as_mut().filter(|it| it.id == id) else {
                return;
            };
            known = true;
            let Ok(opened) = exchange.channel.open(bytes) else {
                this.counters.unauthentic += 1;
                // In a session nothing is lost: the two sides do not agree about the exchange.
                known = false;
                pair.forget_exchange();
                this.failure(now, key, pair);
                return;
            };
            match decode::<VnMessage>(&opened) {
                Ok(message) => this.told(now, key, pair, message),
                Err(_) => malformed = true,
            }
        });
        if malformed {
            self.violation(now, &key.peer);
        } else if !known {
            self.refuse(key, id, Refusal::Exchange);
        }
    }

    fn told(&mut self, now: Duration, key: &PairKey, pair: &mut Pair, message: VnMessage) {
        match message {
            VnMessage::Outbound { spis } => self.reconcile(now, key, pair, &spis),
            VnMessage::Want { worker } => self.wanted(now, key, pair, worker),
            VnMessage::Offer {
                worker,
                index,
                spi,
                algorithm,
            } => self.offered(now, key, pair, (worker, index, spi, algorithm)),
            VnMessage::Share { worker, with } => self.share(now, key, pair, worker, with),
            VnMessage::Denied { worker } => self.denied(now, pair, worker),
            VnMessage::Installed { spi } => self.peer_installed(key, pair, spi),
            VnMessage::Switched { spi } => self.switched(now, pair, spi),
            VnMessage::Retire { spi } => self.retired(now, pair, spi),
            VnMessage::Gone { spi } => self.gone(now, key, pair, spi),
        }
    }

    /// Removes inbound SAs whose time is over.
    fn drain(&mut self, now: Duration, key: &PairKey, pair: &mut Pair) {
        let over = |sa: &super::pair::InSa| match sa.state {
            SaState::Draining(until) => until <= now,
            _ => false,
        };
        let mut gone = Vec::new();
        pair.receivers.retain(|_, sas| {
            gone.extend(sas.extract_if(.., |sa| over(sa)));
            !sas.is_empty()
        });
        self.forget_inbound(key, pair, gone);
        self.rest(now, pair);
    }

    /// A pair without SAs keeps its exchange for a while only.
    pub(super) fn rest(&mut self, now: Duration, pair: &mut Pair) {
        if !pair.is_used() && pair.exchange.is_some() && pair.pending.is_none() {
            pair.due_by(now + self.config.need_lifetime);
        }
    }

    /// Senders whose step takes too long, or who are forgotten. Whether one is stuck in spite of an
    /// exchange.
    fn step_senders(&mut self, now: Duration, key: &PairKey, pair: &mut Pair) -> bool {
        let config = &self.config;
        let before = pair.senders.len();
        pair.senders
            .retain(|_, sender| sender.expires(config).is_none_or(|at| at > now));
        self.senders -= before - pair.senders.len();
        let (mut stuck, mut again) = (false, Vec::new());
        for (worker, sender) in &mut pair.senders {
            match sender.step {
                Step::Wanted { deadline } | Step::Offered { deadline, .. } if deadline <= now => {
                    sender.step = Step::Waiting;
                    stuck = true;
                }
                Step::Retry { at } if at <= now => again.push(*worker),
                _ => {}
            }
        }
        for worker in again {
            self.want(now, key, pair, worker);
        }
        self.rest(now, pair);
        stuck
    }
}
