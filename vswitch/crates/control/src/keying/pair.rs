//! State of one pair: its exchange, and its SAs by direction and the sender's worker.

use std::collections::BTreeMap;
use std::time::Duration;

use super::api::{Config, Direction, OrderId};
use super::exchange::Exchange;
use super::report::{SaInfo, SaState};
use crate::hybrid::{ExchangeId, Initiator};
use crate::types::{Epoch, NveName, VnName};

/// An exchange that was begun here and not answered yet.
pub struct Pending {
    pub id: ExchangeId,
    pub epoch: Epoch,
    pub initiator: Initiator,
    pub deadline: Duration,
}

/// How a worker comes to its next SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It needs none.
    Rest,
    /// It needs one, and there is no exchange.
    Waiting,
    /// The receiver was asked.
    Wanted { deadline: Duration },
    /// The receiver has named one and installs it.
    Offered {
        index: u16,
        spi: u32,
        deadline: Duration,
    },
    /// The receiver has installed it; now our data plane does.
    Installing { id: OrderId, sa: OutSa },
    /// The receiver is asked again then.
    Retry { at: Duration },
}

/// An SA to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutSa {
    pub spi: u32,
    pub exchange: ExchangeId,
    pub epoch: Epoch,
    /// When its exchange was completed.
    pub born: Duration,
}

/// A worker that sends.
#[derive(Debug)]
pub struct Sender {
    /// What it sends with.
    pub current: Option<OutSa>,
    pub step: Step,
    /// When the data plane last said that it needs one.
    pub needed: Duration,
}

/// An SA from the peer.
#[derive(Debug)]
pub struct InSa {
    pub spi: u32,
    pub id: OrderId,
    pub exchange: ExchangeId,
    pub epoch: Epoch,
    /// When its exchange was completed.
    pub born: Duration,
    pub state: SaState,
}

/// Whether an exchange that is due may be begun: so many at once with a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Turn {
    /// None is wanted, or it is under way.
    #[default]
    None,
    /// It waits in the peer's line.
    InLine,
    /// It has its place among those under way; `paced` if it keeps to the rate too.
    Called { paced: bool },
}

/// One pair.
#[derive(Default)]
pub struct Pair {
    pub exchange: Option<Exchange>,
    pub pending: Option<Pending>,
    /// When to begin an exchange.
    pub due: Option<Duration>,
    /// The peer asked for an exchange and is so far behind that only we can begin it.
    pub asked: bool,
    /// Its place among those that wait to be begun.
    pub turn: Turn,
    /// Exchanges that failed, since the last that did not.
    pub failures: u32,
    /// The data plane has refused the last install, and that was reported.
    pub uninstallable: bool,
    pub senders: BTreeMap<u16, Sender>,
    /// Of each of the peer's workers its SAs, oldest first; never none.
    pub receivers: BTreeMap<u16, Vec<InSa>>,
    /// Workers that share another's SA, and until when they do not ask for their own.
    pub shares: BTreeMap<u16, (u16, Duration)>,
}

impl Pair {
    /// Whether any SA is there or needed.
    pub fn is_used(&self) -> bool {
        !self.senders.is_empty() || !self.receivers.is_empty()
    }

    /// Whether nothing would be lost with it.
    pub fn is_empty(&self) -> bool {
        !self.is_used()
            && self.exchange.is_none()
            && self.pending.is_none()
            && self.due.is_none()
            && self.turn == Turn::None
    }

    /// Brings `due` forward.
    pub fn due_by(&mut self, at: Duration) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// When something is to be done without an event.
    pub fn next_timeout(&self, config: &Config) -> Option<Duration> {
        let senders = self.senders.values().filter_map(|sender| {
            let step = match sender.step {
                Step::Wanted { deadline } | Step::Offered { deadline, .. } => Some(deadline),
                Step::Retry { at } => Some(at),
                Step::Rest | Step::Waiting | Step::Installing { .. } => None,
            };
            let forgotten = sender.expires(config);
            let closes = sender.current.map(|sa| sa.closes(config));
            step.into_iter().chain(forgotten).chain(closes).min()
        });
        let receivers = self.receivers.values().flatten().filter_map(|sa| {
            let drained = match sa.state {
                SaState::Draining(until) => Some(until),
                _ => None,
            };
            drained.into_iter().chain([sa.closes(config)]).min()
        });
        let root = self.exchange.as_ref().map(|it| it.born + config.hard_after);
        let pending = self.pending.as_ref().map(|pending| pending.deadline);
        let due = self.due.filter(|_| self.pending.is_none());
        let all = senders.chain(receivers).chain(root);
        let all = all.chain(pending).chain(due);
        all.min()
    }

    /// Where an inbound SA is.
    pub fn inbound(&mut self, spi: u32) -> Option<(u16, &mut InSa)> {
        let sas = self.receivers.iter_mut();
        let mut sas = sas.flat_map(|(worker, sas)| sas.iter_mut().map(|sa| (*worker, sa)));
        sas.find(|(_, sa)| sa.spi == spi)
    }

    /// SPIs with which the peer may hear from here.
    pub fn outbound_spis(&self) -> Vec<u32> {
        let spis = self.senders.values().flat_map(|sender| {
            let installing = match sender.step {
                Step::Installing { sa, .. } => Some(sa.spi),
                _ => None,
            };
            let current = sender.current.map(|sa| sa.spi);
            current.into_iter().chain(installing)
        });
        spis.collect()
    }

    /// Its SAs, without their keys.
    pub fn sas<'a>(
        &'a self,
        peer: &'a NveName,
        vn: &'a VnName,
        config: &'a Config,
    ) -> impl Iterator<Item = SaInfo> + 'a {
        let outbound = self.senders.iter().flat_map(|(worker, sender)| {
            let installing = match sender.step {
                Step::Installing { sa, .. } => Some((sa, SaState::Installing)),
                _ => None,
            };
            let current = sender.current.map(|sa| (sa, SaState::Live));
            let sas = current.into_iter().chain(installing);
            sas.map(|(sa, state)| {
                let closes = sa.closes(config);
                (
                    *worker,
                    Direction::Outbound,
                    sa.spi,
                    sa.epoch,
                    state,
                    closes,
                )
            })
        });
        let inbound = self.receivers.iter().flat_map(|(worker, sas)| {
            let sas = sas.iter();
            sas.map(|sa| {
                let closes = sa.closes(config);
                (
                    *worker,
                    Direction::Inbound,
                    sa.spi,
                    sa.epoch,
                    sa.state,
                    closes,
                )
            })
        });
        outbound
            .chain(inbound)
            .map(|(worker, direction, spi, epoch, state, closes)| SaInfo {
                vn: vn.clone(),
                peer: peer.clone(),
                direction,
                worker,
                spi,
                epoch,
                state,
                closes,
            })
    }
}

impl OutSa {
    /// When it is too old.
    pub fn closes(&self, config: &Config) -> Duration {
        self.born + config.hard_after
    }
}

impl InSa {
    /// When it is too old: behind its sender, whose clock need not go like ours.
    pub fn closes(&self, config: &Config) -> Duration {
        self.born + config.hard_after + config.drain
    }
}

impl Sender {
    /// When it is forgotten, unless the data plane needs it again or it gets its SA.
    pub fn expires(&self, config: &Config) -> Option<Duration> {
        let idle = self.current.is_none() && !matches!(self.step, Step::Installing { .. });
        idle.then(|| self.needed + config.need_lifetime)
    }
}
