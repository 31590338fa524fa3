//! An edge's side towards the mapping authority, without sockets and without a clock: inputs are
//! what the edge's ports want, what the session brings and how late it is; outputs are messages,
//! sessions to be opened or closed, and what follows for the edge.
//!
//! `api` is what goes in and out, `link` finds a server and keeps the lease, `network` is one VN as its
//! member sees it, `admission` are the addresses registered there, `agenda` when something is due in which
//! VN, `leaving` what is to be left, `arrival` that there
//! is no more to join, `question` asks for unknown destinations within limits.
//!
//! Nothing is believed that does not come from the authority: what is about a VN opens only by that
//! VN's channel, which belongs to this session, this epoch and both identities.

mod admission;
mod agenda;
mod api;
mod arrival;
mod leaving;
mod link;
mod network;
mod question;

#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::message::ima::{FromEdge, FromIma, Goodbye, Wanted};
use crate::message::overlay::{LeaseEnd, Mapping};
use crate::types::{PortName, VnName};

use agenda::Agenda;
use arrival::Arrival;
use leaving::Leaving;
use link::Link;
use network::Network;
use question::Questions;

pub use admission::Standing;
pub use api::{
    Addresses, Alarm, Event, Gone, NetworkStatus, Output, QuestionCounts, Settings, Status,
};

/// The state machine. After every input, [`Client::outputs`] and [`Client::deadline`] say what is next.
pub struct Client {
    settings: Settings,
    link: Link,
    networks: BTreeMap<VnName, Network>,
    agenda: Agenda,
    leaving: Leaving,
    questions: Questions,
    arrival: Arrival,
    outputs: VecDeque<Output>,
    rng: fastrand::Rng,
}

/// VNs that are being joined at a time: an exchange costs both sides CPU time.
const JOINING: usize = 64;

impl Client {
    /// One that wants nothing yet.
    #[must_use]
    pub fn new(settings: Settings, now: Duration) -> Self {
        let mut rng = fastrand::Rng::with_seed(settings.seed);
        let link = Link::new(settings.servers.len(), now, &mut rng);
        let questions = Questions::new(settings.queries, settings.port_queries);
        Self {
            settings,
            link,
            networks: BTreeMap::new(),
            agenda: Agenda::default(),
            leaving: Leaving::default(),
            questions,
            arrival: Arrival::default(),
            outputs: VecDeque::new(),
            rng,
        }
    }

    /// The VNs that ports are on, and the addresses they have there; all of them.
    pub fn want(&mut self, now: Duration, wanted: BTreeMap<VnName, Addresses>) {
        let gone: Vec<VnName> = self
            .networks
            .keys()
            .filter(|vn| !wanted.contains_key(*vn))
            .cloned()
            .collect();
        for vn in gone {
            if let Some(network) = self.networks.remove(&vn) {
                if network.is_known_there() {
                    let welcome = self.link.is_welcome();
                    let before = welcome.then(|| self.link.next_sequence());
                    self.leaving.add(vn.clone(), before);
                    if welcome {
                        self.send(FromEdge::Leave { vn: vn.clone() });
                    }
                }
                self.agenda.forget(&vn);
                self.questions.forget(&vn);
                if network.is_joined() {
                    self.event(Event::Left {
                        vn,
                        why: Gone::Unwanted,
                    });
                }
            }
        }
        for (vn, addresses) in wanted {
            self.leaving.remove(&vn);
            let network = self
                .networks
                .entry(vn)
                .or_insert_with_key(|vn| Network::new(vn.clone(), now));
            network.want(addresses, &mut self.outputs);
            self.agenda.note(network);
        }
        self.poll(now);
    }

    /// The session is open. `server` is the authority's identity as its certificate has it,
    /// `binding` the session's exporter value (RFC 8446, section 7.5).
    pub fn connected(&mut self, now: Duration, server: &str, binding: &[u8]) {
        self.link.connected(now, server, binding);
        self.send(FromEdge::Hello {
            version: crate::message::ima::PROTOCOL,
            boot: self.settings.boot,
            endpoint: self.settings.endpoint.clone(),
        });
    }

    /// There is no session, or no more.
    pub fn disconnected(&mut self, now: Duration) {
        self.link.disconnected(now, &mut self.rng);
        for network in self.networks.values_mut() {
            network.disconnected(now);
            self.agenda.note(network);
        }
        self.leaving.disconnected();
        self.questions.disconnected();
        self.arrival.disconnected();
    }

    /// Time has passed: at [`Self::deadline`] at the latest.
    pub fn poll(&mut self, now: Duration) {
        if let Some(server) = self.link.dial(now)
            && let Some(at) = self.settings.servers.get(server)
        {
            self.outputs.push_back(Output::Connect(*at));
        }
        if self.link.is_stuck(now) {
            self.hang_up(now, "the authority does not answer");
        }
        let arrives = self.arrival.is_due() && self.link.is_welcome() && self.agenda.is_answered();
        if arrives {
            self.link.renew_now(now);
        }
        if let Some(sequence) = self.link.renew(now) {
            if arrives {
                self.arrival = Arrival::Said(sequence);
            }
            self.send(FromEdge::Renew { sequence });
        }
        self.questions.expire(now);
        self.lease(now);
        self.join(now);
    }

    /// A message of the authority.
    pub fn received(&mut self, now: Duration, message: FromIma) {
        if !self.link.is_connected() {
            return;
        }
        match message {
            FromIma::Welcome { lease, limits } => {
                if !self.link.welcome(now, lease) {
                    return self.broken(now, "welcome twice");
                }
                self.questions.limit(limits.messages_per_second / 2);
                self.renewed();
                for vn in self.leaving.say(self.link.next_sequence()) {
                    self.send(FromEdge::Leave { vn });
                }
            }
            FromIma::Renewed { sequence, lease } => {
                if self.link.renewed(now, sequence, lease) {
                    self.arrival.heard(sequence);
                    self.leaving.heard(sequence);
                    self.renewed();
                }
            }
            FromIma::Joined {
                vn,
                exchange,
                epoch,
                answer,
                log,
                vni,
                protection,
                lease_end,
            } => {
                let Some(network) = self.networks.get_mut(&vn) else {
                    // Left meanwhile.
                    return;
                };
                let (server, binding) = self.link.peer();
                let parties = network::Parties {
                    edge: &self.settings.identity,
                    server,
                    binding,
                };
                let terms = network::Terms {
                    epoch,
                    log,
                    vni,
                    protection,
                    lease_end: match self.settings.always_stop {
                        true => LeaseEnd::Stop,
                        false => lease_end,
                    },
                };
                let out = &mut self.outputs;
                let joined = network.joined(now, exchange, &answer, parties, terms, out);
                self.agenda.note(network);
                if let Err(why) = joined {
                    self.broken(now, why);
                }
            }
            FromIma::Refused { vn, why } => {
                if let Some(network) = self.networks.get_mut(&vn) {
                    network.refused(now, why, &mut self.rng, &mut self.outputs);
                    self.agenda.note(network);
                }
            }
            FromIma::NewEpoch { vn, epoch } => {
                if let Some(network) = self.networks.get_mut(&vn) {
                    network.announced(now, epoch);
                    self.agenda.note(network);
                }
            }
            FromIma::Expelled { vn } => {
                if let Some(network) = self.networks.get_mut(&vn) {
                    network.leave(now, Gone::Expelled, &mut self.rng, &mut self.outputs);
                    self.agenda.note(network);
                    self.questions.forget(&vn);
                }
            }
            FromIma::Revoked { nve } => {
                for network in self.networks.values_mut() {
                    network.revoke(&nve, &mut self.outputs);
                }
                self.event(Event::Revoked(nve));
            }
            FromIma::Sealed { vn, epoch, bytes } => {
                let Some(network) = self.networks.get_mut(&vn) else {
                    return;
                };
                let questions = &mut self.questions;
                let name = &self.settings.name;
                let opened = network.sealed(now, epoch, bytes.as_bytes(), name, &mut self.outputs);
                if let Ok(Some(answer)) = &opened
                    && let Some(found) = questions.answered(now, &vn, answer)
                {
                    network.found(found, name, &mut self.outputs);
                }
                self.agenda.note(network);
                if let Err(why) = opened {
                    self.broken(now, why);
                }
            }
            FromIma::Goodbye { why } => self.goodbye(now, why),
        }
        self.poll(now);
    }

    /// A tenant behind `port` asks for an address that no mapping lists.
    pub fn unknown(&mut self, now: Duration, vn: &VnName, port: &PortName, what: Wanted) {
        if !self.link.is_welcome() {
            return;
        }
        if let Some(network) = self.networks.get_mut(vn)
            && network.is_open()
            && !network.knows(&what)
            && let Some(id) = self.questions.ask(now, vn, port, what)
        {
            network.ask(id, what, &mut self.outputs);
            self.agenda.note(network);
        }
    }

    /// What is to be done, in order.
    pub fn outputs(&mut self) -> impl Iterator<Item = Output> + '_ {
        self.outputs.drain(..)
    }

    /// When [`Self::poll`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let joins = self.agenda.next(JOINING);
        let joins = joins.filter(|_| self.link.is_welcome());
        let leased = self.agenda.is_leased();
        let lease = leased.then(|| self.link.lease_end());
        self.link
            .deadline()
            .into_iter()
            .chain(joins)
            .chain(lease)
            .chain(self.questions.deadline())
            .min()
    }

    /// As seen from outside.
    #[must_use]
    pub fn status(&self, now: Duration) -> Status {
        Status {
            server: self
                .link
                .server()
                .and_then(|at| self.settings.servers.get(at).copied()),
            identity: self
                .link
                .is_connected()
                .then(|| self.link.peer().0.to_owned()),
            connected: self.link.is_welcome(),
            lease_left: self.link.lease_left(now),
            attempts: self.link.attempts(),
            questions: self.questions.counts(),
            networks: self.networks.values().map(Network::status).collect(),
        }
    }

    /// The mappings of a VN at other edges.
    pub fn mappings(&self) -> impl Iterator<Item = (&VnName, &Mapping)> {
        self.networks
            .values()
            .flat_map(|network| network.mappings().map(move |m| (network.name(), m)))
    }

    fn send(&mut self, message: FromEdge) {
        self.outputs.push_back(Output::Send(Box::new(message)));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Begins to join what is due.
    fn join(&mut self, now: Duration) {
        if !self.link.is_welcome() {
            return;
        }
        for vn in self.agenda.due(now, JOINING) {
            if let Some(network) = self.networks.get_mut(&vn) {
                network.join(now, &mut self.rng, &mut self.outputs);
                self.agenda.note(network);
            }
        }
    }

    /// What an ended lease does.
    fn lease(&mut self, now: Duration) {
        if now < self.link.lease_end() || !self.agenda.is_leased() {
            return;
        }
        for network in self.networks.values_mut().filter(|n| n.is_joined()) {
            match network.lease_end_is() {
                LeaseEnd::Stop => {
                    network.leave(now, Gone::LeaseEnded, &mut self.rng, &mut self.outputs);
                    // The authority may be back already, and does not know of this.
                    network.join_anew(now);
                }
                LeaseEnd::Keep if !network.lease_kept() => {
                    network.keep();
                    self.outputs
                        .push_back(Output::Event(Event::Alarm(Alarm::LeaseKept {
                            vn: network.name().clone(),
                        })));
                }
                LeaseEnd::Keep => {}
            }
            self.agenda.note(network);
        }
    }

    fn renewed(&mut self) {
        for network in self.networks.values_mut() {
            network.lease_renewed();
            self.agenda.note(network);
        }
    }

    fn goodbye(&mut self, now: Duration, why: Goodbye) {
        self.event(Event::Alarm(Alarm::Goodbye(why)));
        if why == Goodbye::Revoked {
            for network in self.networks.values_mut() {
                network.leave(now, Gone::Revoked, &mut self.rng, &mut self.outputs);
                self.agenda.note(network);
            }
        }
        // Of these another server thinks alike, and another try changes nothing soon.
        if matches!(
            why,
            Goodbye::Revoked
                | Goodbye::Version
                | Goodbye::Replaced
                | Goodbye::AddressTaken
                | Goodbye::Undeclared
        ) {
            self.link.be_patient();
        }
        self.hang_up(now, "said goodbye");
    }

    /// What came cannot be: nothing more is believed of this session.
    fn broken(&mut self, now: Duration, why: &'static str) {
        self.event(Event::Alarm(Alarm::Protocol(why)));
        self.hang_up(now, why);
    }

    fn hang_up(&mut self, now: Duration, why: &'static str) {
        self.outputs.push_back(Output::Close(why));
        self.disconnected(now);
    }
}
