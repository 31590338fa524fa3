//! One VN as its member sees it: the channel of this session and epoch, the other members, the
//! mappings, and how far its log is known.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aws_lc_rs::rand;

use super::admission::Admission;
use super::link::fraction;
use super::{Addresses, Alarm, Event, Gone, NetworkStatus, Output};
use crate::hybrid::{Answer, ExchangeId, Initiator, Transcript};
use crate::message::ima::{
    Base, FromEdge, LogId, Member, Refusal, Rejection, Resume, SealedBytes, Update, VnFromEdge,
    VnFromIma, Wanted,
};
use crate::message::overlay::{LeaseEnd, Mapping, Protection, Vni};
use crate::message::{decode, encode};
use crate::types::{Epoch, Mac, NveName, Version, VnName};
use crate::vnchannel::{Side, VnChannel};

/// Before a VN that was refused is tried again; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A join that was not answered is begun anew after this.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a server could not decide is asked again after this.
const UNDECIDED: Duration = Duration::from_secs(2);

/// Both ends of the session and what binds exchanges to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parties<'a> {
    pub edge: &'a str,
    pub server: &'a str,
    pub binding: &'a [u8],
}

/// What `Joined` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub epoch: Epoch,
    pub log: LogId,
    pub vni: Vni,
    pub protection: Protection,
    pub lease_end: LeaseEnd,
}

/// An answer to a question.
pub(super) struct Reply {
    pub id: u32,
    pub mapping: Option<Mapping>,
    pub ttl: u32,
}

struct Joining {
    exchange: ExchangeId,
    initiator: Initiator,
    since: Duration,
}

/// A complete description that has not come to its end.
#[derive(Default)]
struct Staging {
    members: BTreeMap<NveName, Member>,
    mappings: BTreeMap<Mac, Mapping>,
}

pub(super) struct Network {
    name: VnName,
    joining: Option<Joining>,
    /// When it is to be joined, or joined anew.
    due: Option<Duration>,
    refusals: u32,
    refusal: Option<Refusal>,
    channel: Option<(Epoch, VnChannel)>,
    /// As long as this edge is on it, with or without a session.
    terms: Option<Terms>,
    /// The lease has ended and it was kept.
    kept: bool,
    resume: Option<Resume>,
    members: BTreeMap<NveName, Member>,
    mappings: BTreeMap<Mac, Mapping>,
    staging: Option<Staging>,
    admission: Admission,
    /// Addresses that no port has any more, of which the authority is to be told.
    withdrawn: BTreeSet<Mac>,
    /// When what a server could not decide is asked again.
    again: Option<Duration>,
}

fn event(outputs: &mut VecDeque<Output>, event: Event) {
    outputs.push_back(Output::Event(event));
}

impl Network {
    pub(super) fn new(name: VnName, now: Duration) -> Self {
        Self {
            name,
            joining: None,
            due: Some(now),
            refusals: 0,
            refusal: None,
            channel: None,
            terms: None,
            kept: false,
            resume: None,
            members: BTreeMap::new(),
            mappings: BTreeMap::new(),
            staging: None,
            admission: Admission::default(),
            withdrawn: BTreeSet::new(),
            again: None,
        }
    }

    pub(super) fn name(&self) -> &VnName {
        &self.name
    }

    pub(super) fn is_joined(&self) -> bool {
        self.terms.is_some()
    }

    pub(super) fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    /// Whether sealed messages can be sent.
    pub(super) fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    /// Whether the server of this session has heard of this edge's wish.
    pub(super) fn is_known_there(&self) -> bool {
        self.is_open() || self.is_joining()
    }

    pub(super) fn lease_end_is(&self) -> LeaseEnd {
        self.terms.map_or(LeaseEnd::Stop, |terms| terms.lease_end)
    }

    pub(super) fn lease_kept(&self) -> bool {
        self.kept
    }

    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    pub(super) fn lease_renewed(&mut self) {
        self.kept = false;
    }

    pub(super) fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.values()
    }

    /// Whether an address has a mapping by now.
    pub(super) fn knows(&self, what: &Wanted) -> bool {
        match what {
            Wanted::Mac(mac) => {
                self.mappings.contains_key(mac) || self.admission.generation(*mac).is_some()
            }
            Wanted::Ip(ip) => self.mappings.values().any(|m| m.ips.contains(ip)),
        }
    }

    /// The addresses of this edge's ports.
    pub(super) fn want(&mut self, addresses: Addresses, outputs: &mut VecDeque<Output>) {
        let before = self.admission.admitted();
        self.withdrawn.extend(self.admission.want(addresses));
        self.register(outputs);
        if self.is_joined() && self.admission.admitted() != before {
            self.tell_admitted(outputs);
        }
    }

    /// Asks for what is to be asked for, and gives up what no port has any more.
    fn register(&mut self, outputs: &mut VecDeque<Output>) {
        if self.is_open() {
            for mac in std::mem::take(&mut self.withdrawn) {
                if !self.admission.is_wanted(mac) {
                    self.seal(&VnFromEdge::Withdraw { mac }, outputs);
                }
            }
            for message in self.admission.ask() {
                self.seal(&message, outputs);
            }
        }
    }

    pub(super) fn ask(&mut self, id: u32, what: Wanted, outputs: &mut VecDeque<Output>) {
        self.seal(&VnFromEdge::Query { id, what }, outputs);
    }

    fn seal(&mut self, message: &VnFromEdge, outputs: &mut VecDeque<Output>) {
        let Some((epoch, channel)) = &mut self.channel else {
            return;
        };
        let sealed = encode(message).ok().and_then(|m| channel.seal(&m).ok());
        let bytes = sealed.and_then(|sealed| SealedBytes::try_from(sealed).ok());
        // None of these can fail but at the end of a channel's counter: then it is made anew.
        let Some(bytes) = bytes else {
            self.due.get_or_insert(Duration::ZERO);
            return;
        };
        outputs.push_back(Output::Send(Box::new(FromEdge::Sealed {
            vn: self.name.clone(),
            epoch: *epoch,
            bytes,
        })));
    }

    fn tell_admitted(&self, outputs: &mut VecDeque<Output>) {
        let admitted = Event::Admitted {
            vn: self.name.clone(),
            macs: self.admission.admitted(),
        };
        event(outputs, admitted);
    }

    fn tell_members(&self, outputs: &mut VecDeque<Output>) {
        let Some(terms) = self.terms else { return };
        let members = Event::Members {
            vn: self.name.clone(),
            epoch: terms.epoch,
            members: self.members.values().cloned().collect(),
        };
        event(outputs, members);
    }

    /// Whether it is to be joined now, or something asked again.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        let again = self.again.is_some_and(|at| at <= now);
        let unanswered = |j: &Joining| j.since + PATIENCE <= now;
        let joining = self.joining.as_ref();
        again
            || joining.is_some_and(unanswered)
            || joining.is_none() && self.due.is_some_and(|due| due <= now)
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        let join = match &self.joining {
            Some(joining) => Some(joining.since + PATIENCE),
            None => self.due,
        };
        join.into_iter().chain(self.again).min()
    }

    /// Does what is due.
    pub(super) fn join(
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
        outputs.push_back(Output::Send(Box::new(FromEdge::Join {
            vn: self.name.clone(),
            exchange,
            offer: initiator.offer().clone(),
            resume: self.resume,
        })));
        self.due = None;
        self.joining = Some(Joining {
            exchange,
            initiator,
            since: now,
        });
    }

    /// To be joined again as soon as may be.
    pub(super) fn join_anew(&mut self, now: Duration) {
        self.joining = None;
        self.due = Some(now);
    }

    /// The session is gone, and what it protected.
    pub(super) fn disconnected(&mut self, now: Duration) {
        self.channel = None;
        self.staging = None;
        self.again = None;
        self.refusals = 0;
        self.join_anew(now);
        self.admission.ask_all();
    }

    /// The authority lets this edge in.
    pub(super) fn joined(
        &mut self,
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

    /// Nothing is known of it any more.
    fn forget(&mut self) {
        self.resume = None;
        self.members.clear();
        self.mappings.clear();
        self.staging = None;
    }

    /// On it no more.
    pub(super) fn leave(
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
    pub(super) fn refused(
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
            Refusal::Unavailable => self.wait(now, rng),
            _ => self.leave(now, Gone::Refused(why), rng, outputs),
        }
    }

    /// An edge that must not be talked to any more.
    pub(super) fn revoke(&mut self, nve: &NveName, outputs: &mut VecDeque<Output>) {
        let gone: Vec<Mac> = self
            .mappings
            .values()
            .filter(|mapping| mapping.nve == *nve)
            .map(|mapping| mapping.mac)
            .collect();
        for mac in &gone {
            self.mappings.remove(mac);
        }
        // A description that has not come to its end must not bring it back.
        if let Some(staging) = &mut self.staging {
            staging.members.remove(nve);
            staging.mappings.retain(|_, mapping| mapping.nve != *nve);
        }
        if self.members.remove(nve).is_some() {
            self.tell_members(outputs);
        }
        self.tell_mappings(false, Vec::new(), gone, outputs);
    }

    fn tell_mappings(
        &self,
        full: bool,
        upserts: Vec<Mapping>,
        withdrawals: Vec<Mac>,
        outputs: &mut VecDeque<Output>,
    ) {
        if full || !upserts.is_empty() || !withdrawals.is_empty() {
            let mappings = Event::Mappings {
                vn: self.name.clone(),
                full,
                upserts,
                withdrawals,
            };
            event(outputs, mappings);
        }
    }

    /// Something that only a member may read.
    pub(super) fn sealed(
        &mut self,
        now: Duration,
        epoch: Epoch,
        bytes: &[u8],
        me: &NveName,
        outputs: &mut VecDeque<Output>,
    ) -> Result<Option<Reply>, &'static str> {
        let Some((of, channel)) = &mut self.channel else {
            // Of before this edge left, and was about to come back.
            return Ok(None);
        };
        if *of != epoch {
            return Err("sealed in an epoch that is not this one");
        }
        let opened = channel
            .open(bytes)
            .map_err(|_| "a sealed message that does not open")?;
        match decode(&opened).map_err(|_| "a sealed message that is none")? {
            VnFromIma::Update(update) => self.update(now, update, me, outputs)?,
            VnFromIma::Registered { mac, generation } => {
                if self.admission.registered(mac, generation) {
                    let moved_here: Vec<Mac> = self
                        .mappings
                        .remove(&mac)
                        .map(|m| m.mac)
                        .into_iter()
                        .collect();
                    self.tell_mappings(false, Vec::new(), moved_here, outputs);
                    self.tell_admitted(outputs);
                }
            }
            VnFromIma::Rejected { mac, why } => {
                if let Some((port, changed)) = self.admission.rejected(mac, why) {
                    if changed {
                        self.tell_admitted(outputs);
                    }
                    match why {
                        Rejection::Unavailable => self.again = Some(now + UNDECIDED),
                        _ => event(
                            outputs,
                            Event::Alarm(Alarm::Rejected {
                                vn: self.name.clone(),
                                port,
                                mac,
                                why,
                            }),
                        ),
                    }
                }
            }
            VnFromIma::Placed => {
                self.admission.ask_refused();
                self.register(outputs);
            }
            VnFromIma::Answer { id, mapping, ttl } => {
                return Ok(Some(Reply { id, mapping, ttl }));
            }
        }
        Ok(None)
    }

    fn update(
        &mut self,
        now: Duration,
        update: Update,
        me: &NveName,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), &'static str> {
        let log = self.terms.map(|terms| terms.log).ok_or("not joined")?;
        let to = Resume {
            log,
            version: update.to,
        };
        match update.base {
            Base::Version(base) => {
                // What is told from an earlier version on has all that is new as well: so it is when this
                // edge joined again while an update was under way.
                let known = self.resume.map(|resume| resume.version);
                if known.is_none_or(|known| known < base || to.version < known) {
                    // Something is missing: all of it is told when the VN is joined anew.
                    self.resume = None;
                    self.join_anew(now);
                    return Ok(());
                }
                self.resume = Some(to);
                self.apply(update, me, outputs);
            }
            Base::Full { first, last } => {
                if first {
                    self.staging = Some(Staging::default());
                }
                let staging = self.staging.as_mut().ok_or("a part without a beginning")?;
                let members = update.members.into_inner().into_iter();
                staging.members.extend(members.map(|m| (m.nve.clone(), m)));
                let mappings = update.mappings.into_inner().into_iter();
                staging.mappings.extend(mappings.map(|m| (m.mac, m)));
                if last && let Some(staging) = self.staging.take() {
                    self.resume = Some(to);
                    self.replace(staging, me, outputs);
                }
            }
        }
        Ok(())
    }

    /// A step from what is known.
    fn apply(&mut self, update: Update, me: &NveName, outputs: &mut VecDeque<Output>) {
        let mut members = false;
        for member in update.members.into_inner() {
            if member.nve != *me {
                let before = self.members.insert(member.nve.clone(), member.clone());
                members |= before != Some(member);
            }
        }
        for nve in update.gone.into_inner() {
            members |= self.members.remove(&nve).is_some();
        }
        if members {
            self.tell_members(outputs);
        }
        let admitted = self.admission.admitted();
        let (mut upserts, mut withdrawals) = (Vec::new(), Vec::new());
        for mapping in update.mappings.into_inner() {
            self.take(mapping, me, &mut upserts, &mut withdrawals, outputs);
        }
        for gone in update.withdrawn.into_inner() {
            self.supersede(gone.mac, gone.generation, outputs);
            let known = self.mappings.get(&gone.mac);
            if known.is_some_and(|known| known.generation <= gone.generation) {
                self.mappings.remove(&gone.mac);
                withdrawals.push(gone.mac);
            }
        }
        // Of one address in one step only the last counts.
        upserts.retain(|mapping: &Mapping| self.mappings.get(&mapping.mac) == Some(mapping));
        withdrawals.retain(|mac| !self.mappings.contains_key(mac));
        self.tell_mappings(false, upserts, withdrawals, outputs);
        if self.admission.admitted() != admitted {
            self.tell_admitted(outputs);
        }
    }

    /// Everything there is.
    fn replace(&mut self, staging: Staging, me: &NveName, outputs: &mut VecDeque<Output>) {
        let Staging {
            mut members,
            mappings,
        } = staging;
        members.remove(me);
        self.members = members;
        self.tell_members(outputs);
        let admitted = self.admission.admitted();
        let listed = |mac| mappings.get(&mac).is_some_and(|m: &Mapping| m.nve == *me);
        self.admission.ask_missing(listed);
        self.mappings.clear();
        let (mut upserts, mut withdrawals) = (Vec::new(), Vec::new());
        for mapping in mappings.into_values() {
            self.take(mapping, me, &mut upserts, &mut withdrawals, outputs);
        }
        self.tell_mappings(true, upserts, Vec::new(), outputs);
        if self.admission.admitted() != admitted {
            self.tell_admitted(outputs);
        }
        self.register(outputs);
    }

    /// A mapping, unless something newer is known.
    fn take(
        &mut self,
        mapping: Mapping,
        me: &NveName,
        upserts: &mut Vec<Mapping>,
        withdrawals: &mut Vec<Mac>,
        outputs: &mut VecDeque<Output>,
    ) {
        let mac = mapping.mac;
        if mapping.nve == *me {
            if self.mappings.remove(&mac).is_some() {
                withdrawals.push(mac);
            }
            if !self.admission.is_wanted(mac) {
                // Of an earlier run of this edge.
                self.seal(&VnFromEdge::Withdraw { mac }, outputs);
            }
            return;
        }
        self.supersede(mac, mapping.generation, outputs);
        let ours = self.admission.generation(mac);
        let known = self.mappings.get(&mac).map(|known| known.generation);
        if ours
            .max(known)
            .is_some_and(|newer| newer >= mapping.generation)
        {
            return;
        }
        upserts.push(mapping.clone());
        self.mappings.insert(mac, mapping);
    }

    /// An address of ours is somebody else's or nobody's by now.
    fn supersede(
        &mut self,
        mac: Mac,
        generation: crate::types::Generation,
        outputs: &mut VecDeque<Output>,
    ) {
        if let Some(port) = self.admission.superseded(mac, generation) {
            let alarm = Alarm::Lost {
                vn: self.name.clone(),
                port,
                mac,
            };
            event(outputs, Event::Alarm(alarm));
        }
    }

    /// A mapping that answers a question.
    pub(super) fn found(&mut self, mapping: Mapping, me: &NveName, outputs: &mut VecDeque<Output>) {
        let (mut upserts, mut withdrawals) = (Vec::new(), Vec::new());
        let admitted = self.admission.admitted();
        self.take(mapping, me, &mut upserts, &mut withdrawals, outputs);
        self.tell_mappings(false, upserts, withdrawals, outputs);
        if self.admission.admitted() != admitted {
            self.tell_admitted(outputs);
        }
    }

    pub(super) fn status(&self) -> NetworkStatus {
        let state = match (&self.terms, &self.refusal, &self.joining) {
            (Some(_), _, _) if self.is_open() => "joined",
            (Some(_), _, _) if self.kept => "kept",
            (Some(_), _, _) => "joined before",
            (None, _, Some(_)) => "joining",
            (None, Some(_), None) => "refused",
            (None, None, None) => "waiting",
        };
        NetworkStatus {
            vn: self.name.clone(),
            state,
            refusal: self.refusal.map(|why| why.to_string()),
            epoch: self.terms.map(|terms| terms.epoch),
            version: self.resume.map_or(
                0,
                |Resume {
                     version: Version(n),
                     ..
                 }| n,
            ),
            lease_end: self.terms.map(|terms| terms.lease_end.as_str()),
            members: self.members.len(),
            mappings: self.mappings.len(),
            addresses: self.admission.status(),
        }
    }
}
