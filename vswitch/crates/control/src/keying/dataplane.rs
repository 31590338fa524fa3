//! What the data plane answers and reports about SAs.

use std::time::Duration;

use super::api::{Direction, OrderId, Output};
use super::pair::{Pair, Step};
use super::report::{Report, SaState};
use super::{Keying, PairKey};
use crate::message::peer::VnMessage;

impl Keying {
    /// An install is done.
    pub(super) fn installed(&mut self, now: Duration, id: OrderId) {
        let Some(ordered) = self.ordered.remove(&id) else {
            return; // Of a pair that is gone: its removal was ordered too.
        };
        self.with_pair(now, &ordered.key, |this, pair| {
            pair.uninstallable = false;
            match ordered.direction {
                Direction::Inbound => {
                    this.inbound_installed(&ordered.key, pair, ordered.worker, id);
                }
                Direction::Outbound => {
                    this.outbound_installed(now, &ordered.key, pair, ordered.worker, id);
                }
            }
        });
    }

    /// The sender may know: from now on its packets can be opened.
    fn inbound_installed(&mut self, key: &PairKey, pair: &mut Pair, worker: u16, id: OrderId) {
        let current = pair.exchange.as_ref().map(|exchange| exchange.id);
        let mut sas = pair.receivers.get_mut(&worker).into_iter().flatten();
        let Some(sa) = sas.find(|sa| sa.id == id) else {
            return;
        };
        self.counters.inbound_installed += 1;
        if sa.state != SaState::Installing {
            return; // Retired meanwhile.
        }
        sa.state = SaState::Ready;
        let spi = sa.spi;
        // Of a former exchange: the sender has asked anew under this one.
        if current == Some(sa.exchange) {
            self.tell(key, pair, &VnMessage::Installed { spi });
        }
    }

    /// The worker has switched.
    fn outbound_installed(
        &mut self,
        now: Duration,
        key: &PairKey,
        pair: &mut Pair,
        worker: u16,
        id: OrderId,
    ) {
        let exchange = pair.exchange.as_ref().map(|exchange| exchange.id);
        let Some(sender) = pair.senders.get_mut(&worker) else {
            return;
        };
        let Step::Installing { id: current, sa } = sender.step else {
            return;
        };
        if current != id {
            return;
        }
        sender.current = Some(sa);
        sender.step = Step::Rest;
        sender.needed = now;
        self.counters.outbound_installed += 1;
        self.tell(key, pair, &VnMessage::Switched { spi: sa.spi });
        if exchange.is_some_and(|exchange| exchange != sa.exchange) {
            self.want(now, key, pair, worker);
        }
    }

    /// An install is not possible; nothing has changed.
    pub(super) fn failed(&mut self, now: Duration, id: OrderId, why: String) {
        let Some(ordered) = self.ordered.remove(&id) else {
            return;
        };
        self.counters.install_failures += 1;
        let (key, worker, direction) = (ordered.key, ordered.worker, ordered.direction);
        let retry = Step::Retry {
            at: now + self.config.retry_max,
        };
        self.with_pair(now, &key, |this, pair| {
            if !core::mem::replace(&mut pair.uninstallable, true) {
                let report = Report::NotInstalled {
                    vn: key.vn.clone(),
                    peer: key.peer.clone(),
                    direction,
                    worker,
                    why,
                };
                this.outputs.push_back(Output::Report(report));
            }
        });
        self.with_pair(now, &key, |this, pair| match direction {
            Direction::Inbound => {
                let mut gone = Vec::new();
                pair.receivers.retain(|_, sas| {
                    gone.extend(sas.extract_if(.., |sa| sa.id == id));
                    !sas.is_empty()
                });
                this.forget_inbound(&key, pair, gone);
                this.tell(&key, pair, &VnMessage::Denied { worker });
                this.rest(now, pair);
            }
            Direction::Outbound => {
                let Some(sender) = pair.senders.get_mut(&worker) else {
                    return;
                };
                let Step::Installing { sa, .. } = sender.step else {
                    return;
                };
                sender.step = retry;
                sender.needed = now;
                this.tell(&key, pair, &VnMessage::Retire { spi: sa.spi });
            }
        });
    }

    /// An SA has carried nothing for long: it goes, and the other side hears of it.
    pub(super) fn idle(&mut self, now: Duration, key: &PairKey, direction: Direction, spi: u32) {
        self.with_pair(now, key, |this, pair| match direction {
            Direction::Outbound => {
                let mut senders = pair.senders.iter();
                let found = senders.find(|(_, it)| it.current.is_some_and(|sa| sa.spi == spi));
                let Some(worker) = found.map(|(worker, _)| *worker) else {
                    return;
                };
                this.retire(key, pair, worker, false);
                // On its way to another: it may be idle, but that one may be needed.
                this.release(now, pair, worker);
            }
            Direction::Inbound => {
                let mut gone = Vec::new();
                pair.receivers.retain(|_, sas| {
                    gone.extend(sas.extract_if(.., |sa| sa.spi == spi));
                    !sas.is_empty()
                });
                if gone.is_empty() {
                    return;
                }
                this.forget_inbound(key, pair, gone);
                this.tell(key, pair, &VnMessage::Gone { spi });
                this.rest(now, pair);
            }
        });
    }
}
