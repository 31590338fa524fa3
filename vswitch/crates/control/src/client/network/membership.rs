//! Into a VN, into its new epochs, and out of it.

use core::time::Duration;
use std::collections::VecDeque;

use aws_lc_rs::rand;

use super::{Joining, Network, Parties, Terms, event};
use crate::client::link::fraction;
use crate::client::{Alarm, Event, Gone, Output};
use crate::hybrid::{Answer, ExchangeId, Initiator, Transcript};
use crate::message::ima::{FromEdge, Refusal};
use crate::types::Epoch;
use crate::vnchannel::{Side, VnChannel};

/// Before a VN that was refused is tried again; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A join that was not answered is begun anew after this.
const PATIENCE: Duration = Duration::from_secs(10);

impl Network {
    /// When it is to be joined, or joined anew, or something asked again.
    pub(in crate::client) fn deadline(&self) -> Option<Duration> {
        let join = match &self.joining {
            Some(joining) => Some(joining.since + PATIENCE),
            None => self.due,
        };
        join.into_iter().chain(self.again).min()
    }

    /// Does what is due.
    pub(in crate::client) fn join(
        &mut self,
        now: Duration,
        rng: &mut fastrand::Rng,
        outputs: &mut VecDeque<Output>,
    ) {
        if self.again.is_some_and(|at| at <= now) {
            self.again = None;
            self.admission.ask_undecided();
            self.register(outputs);
        }
        let unanswered = self.joining.as_ref().map(|j| j.since + PATIENCE <= now);
        let due = self.due.is_some_and(|due| due <= now);
        if !unanswered.unwrap_or(due) {
            return;
        }
        let mut exchange = [0; 16];
        let (Ok(()), Ok(initiator)) = (rand::fill(&mut exchange), Initiator::new()) else {
            self.due = Some(now + FIRST_WAIT + fraction(FIRST_WAIT, rng));
            return;
        };
        let exchange = ExchangeId(exchange);
        if self.joining.is_some() {
            // The answer may still come, and then the server has channels of both joins: nothing is
            // sealed any more before that of the later one is there.
            self.channel = None;
        }
        outputs.push_back(Output::Send(Box::new(FromEdge::Join {
            vn: self.name.clone(),
            exchange,
            offer: initiator.offer().clone(),
            resume: self.resume,
        })));
        (self.due, self.said) = (None, true);
        self.joining = Some(Joining {
            exchange,
            initiator,
            since: now,
        });
    }

    /// To be joined again as soon as may be.
    pub(in crate::client) fn join_anew(&mut self, now: Duration) {
        self.joining = None;
        self.due = Some(now);
    }

    /// There is a new epoch.
    pub(in crate::client) fn announced(&mut self, now: Duration, epoch: Epoch) {
        self.announced = self.announced.max(Some(epoch));
        // A join that is under way most likely ends in it.
        if !self.is_joining() {
            self.due = Some(now);
        }
    }

    /// Something came that does not open: of a join that was given up, or of another channel than is here.
    /// It costs this VN a fresh exchange, and others nothing. Whatever it said is told or asked again.
    pub(super) fn unopened(&mut self, now: Duration, outputs: &mut VecDeque<Output>) {
        self.admission.ask_unanswered();
        self.admission.ask_refused();
        // With the join that is under way, or due, comes the right channel.
        if self.is_joining() || self.channel.take().is_none() {
            return;
        }
        self.staging = None;
        let doubled = 1_u32.checked_shl(self.unopened).unwrap_or(u32::MAX);
        let wait = match self.unopened {
            0 => Duration::ZERO,
            _ => (FIRST_WAIT / 2).saturating_mul(doubled).min(LONGEST_WAIT),
        };
        self.unopened = self.unopened.saturating_add(1).min(16);
        self.due = Some(now + wait);
        let unopened = Alarm::Unopened {
            vn: self.name.clone(),
        };
        event(outputs, Event::Alarm(unopened));
    }

    /// The session is gone, and what it protected.
    pub(in crate::client) fn disconnected(&mut self, now: Duration) {
        self.channel = None;
        self.staging = None;
        self.again = None;
        self.refusals = 0;
        (self.announced, self.unopened) = (None, 0);
        self.join_anew(now);
        self.admission.ask_all();
    }

    /// The authority lets this edge in.
    pub(in crate::client) fn joined(
        &mut self,
        now: Duration,
        exchange: ExchangeId,
        answer: &Answer,
        parties: Parties<'_>,
        terms: Terms,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), &'static str> {
        let Some(joining) = self.joining.take_if(|j| j.exchange == exchange) else {
            // Of an exchange that was given up.
            return Ok(());
        };
        let transcript = Transcript {
            initiator: parties.edge,
            responder: parties.server,
            vn: &self.name,
            epoch: terms.epoch,
            exchange,
            binding: parties.binding,
        };
        let root = joining
            .initiator
            .finish(answer, &transcript)
            .map_err(|_| "a key exchange's answer is no key")?;
        let channel = VnChannel::new(&root, &transcript, Side::Initiator)
            .map_err(|_| "a key exchange that gives no keys")?;
        self.channel = Some((terms.epoch, channel));
        self.withdrawn.values_mut().for_each(|said| *said = false);
        if self
            .announced
            .take()
            .is_some_and(|epoch| epoch > terms.epoch)
        {
            self.due = Some(now);
        }
        (self.refusal, self.refusals) = (None, 0);
        self.staging = None;
        if self.terms.is_some_and(|before| before.log != terms.log) {
            // Another VN of the same name: nothing of the former holds, not even that epochs grow.
            self.forget();
            self.admission.clear();
            self.terms = None;
            event(
                outputs,
                Event::Left {
                    vn: self.name.clone(),
                    why: Gone::Expelled,
                },
            );
        }
        let before = self.terms.replace(terms);
        let describes = |terms: &Terms| (terms.vni, terms.protection);
        if before.as_ref().map(describes) != Some(describes(&terms)) {
            event(
                outputs,
                Event::Joined {
                    vn: self.name.clone(),
                    vni: terms.vni,
                    protection: terms.protection,
                },
            );
            self.tell_admitted(outputs);
        }
        self.tell_members(outputs);
        self.register(outputs);
        Ok(())
    }

    /// On it no more.
    pub(in crate::client) fn leave(
        &mut self,
        now: Duration,
        why: Gone,
        rng: &mut fastrand::Rng,
        outputs: &mut VecDeque<Output>,
    ) {
        self.channel = None;
        self.joining = None;
        self.kept = false;
        self.again = None;
        self.announced = None;
        self.forget();
        self.admission.clear();
        self.withdrawn.clear();
        self.wait(now, rng);
        if self.terms.take().is_some() {
            event(
                outputs,
                Event::Left {
                    vn: self.name.clone(),
                    why,
                },
            );
        }
    }

    /// Tries again after a while.
    fn wait(&mut self, now: Duration, rng: &mut fastrand::Rng) {
        let doubled = 1_u32.checked_shl(self.refusals.min(16)).unwrap_or(u32::MAX);
        let wait = FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT);
        self.refusals = self.refusals.saturating_add(1);
        self.due = Some(now + wait / 2 + fraction(wait / 2, rng));
    }

    /// The authority does not let this edge in.
    pub(in crate::client) fn refused(
        &mut self,
        now: Duration,
        why: Refusal,
        rng: &mut fastrand::Rng,
        outputs: &mut VecDeque<Output>,
    ) {
        self.joining = None;
        if self.refusal.replace(why) != Some(why) {
            let alarm = Alarm::Refused {
                vn: self.name.clone(),
                why,
            };
            event(outputs, Event::Alarm(alarm));
        }
        match why {
            // Nothing was decided: the lease goes on.
            Refusal::Unavailable | Refusal::Busy => self.wait(now, rng),
            _ => self.leave(now, Gone::Refused(why), rng, outputs),
        }
    }
}
