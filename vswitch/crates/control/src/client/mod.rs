//! An edge's side towards the mapping authority, without sockets and without a clock: inputs are
//! what the edge's ports want, what the session brings and how late it is; outputs are messages,
//! sessions to be opened or closed, and what follows for the edge.
//!
//! `link` finds a server and keeps the lease, `network` is one VN as its member sees it, `admission`
//! are the addresses registered there, `question` asks for unknown destinations within limits.
//!
//! Nothing is believed that does not come from the authority: what is about a VN opens only by that
//! VN's channel, which belongs to this session, this epoch and both identities.

mod admission;
mod link;
mod network;
mod question;

#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::message::ima::{FromEdge, FromIma, Goodbye, Member, Refusal, Rejection, Wanted};
use crate::message::overlay::{Endpoint, Ips, LeaseEnd, Mapping, Protection, Vni};
use crate::types::{BootId, Epoch, Mac, NveName, PortName, VnName};

use link::Link;
use network::Network;
use question::Questions;

pub use admission::Standing;

/// Who this edge is to the authority, and what is bounded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name.
    pub name: NveName,
    /// Its identity: the SPIFFE URI of its certificate.
    pub identity: String,
    /// This run of it.
    pub boot: BootId,
    /// Where it is reached.
    pub endpoint: Endpoint,
    /// Servers of the authority, at least one.
    pub servers: Vec<SocketAddr>,
    /// Leave VNs at the end of the lease, whatever the authority said of them.
    pub always_stop: bool,
    /// Questions per second, of the edge.
    pub queries: u32,
    /// Questions per second, of one port.
    pub port_queries: u32,
    /// Spreads times of different edges apart.
    pub seed: u64,
}

/// What ports of this edge have in one VN.
pub type Addresses = BTreeMap<Mac, (PortName, Ips)>;

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Open a session; then [`Client::connected`] or [`Client::disconnected`].
    Connect(SocketAddr),
    /// Send on the session.
    Send(Box<FromEdge>),
    /// Close the session; [`Client::disconnected`] need not be said.
    Close(&'static str),
    /// Something follows for the edge.
    Event(Event),
}

/// What follows for the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// On a VN, or in its new epoch, or it is described otherwise now.
    Joined {
        /// Which.
        vn: VnName,
        /// Its identifier on the wire.
        vni: Vni,
        /// Its protection.
        protection: Protection,
    },
    /// Who else is on a VN, all of them: nobody else may be keyed with.
    Members {
        /// Which.
        vn: VnName,
        /// Of which epoch.
        epoch: Epoch,
        /// The other edges.
        members: Vec<Member>,
    },
    /// Who is where, at other edges.
    Mappings {
        /// In which VN.
        vn: VnName,
        /// Whether these are all; else they change what was said before.
        full: bool,
        /// New ones.
        upserts: Vec<Mapping>,
        /// Those that are no more.
        withdrawals: Vec<Mac>,
    },
    /// The addresses that this edge's ports may use on a VN, all of them.
    Admitted {
        /// Which.
        vn: VnName,
        /// The addresses.
        macs: Vec<Mac>,
    },
    /// On a VN no more: its mappings and keys must go.
    Left {
        /// Which.
        vn: VnName,
        /// Why.
        why: Gone,
    },
    /// An edge lost every right: sessions, keys and mappings of it must go.
    Revoked(NveName),
    /// Somebody should know.
    Alarm(Alarm),
}

/// Why a VN is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// No port wants it.
    #[error("no port is on it any more")]
    Unwanted,
    /// The authority says so.
    #[error("the authority expelled this edge from it")]
    Expelled,
    /// The authority has not been heard of for as long as the lease.
    #[error("the membership lease has ended")]
    LeaseEnded,
    /// The authority revoked this edge.
    #[error("this edge is revoked")]
    Revoked,
    /// The authority does not let this edge in again.
    #[error("the authority refuses: {0}")]
    Refused(Refusal),
}

/// What somebody should know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// An edge is not let into a VN.
    #[error("VN {vn}: refused: {why}")]
    Refused {
        /// Which VN.
        vn: VnName,
        /// Why.
        why: Refusal,
    },
    /// An address of a port is not admitted.
    #[error("VN {vn}: {mac} of port {port} is not admitted: {why}")]
    Rejected {
        /// Which VN.
        vn: VnName,
        /// Whose address.
        port: PortName,
        /// The address.
        mac: Mac,
        /// Why.
        why: Rejection,
    },
    /// An address of a port is another edge's now.
    #[error("VN {vn}: {mac} of port {port} is at another edge now")]
    Lost {
        /// Which VN.
        vn: VnName,
        /// Whose address it was.
        port: PortName,
        /// The address.
        mac: Mac,
    },
    /// The lease has ended and the VN is kept: a revoked edge may still be on it.
    #[error("VN {vn}: the membership lease has ended; forwarding goes on, as the authority said")]
    LeaseKept {
        /// Which VN.
        vn: VnName,
    },
    /// The authority closed the session.
    #[error("the authority ended the session: {0}")]
    Goodbye(Goodbye),
    /// What came was not what the protocol allows.
    #[error("the authority's server does not keep to the protocol: {0}")]
    Protocol(&'static str),
}

/// The state machine. After every input, [`Client::outputs`] and [`Client::deadline`] say what is next.
pub struct Client {
    settings: Settings,
    link: Link,
    networks: BTreeMap<VnName, Network>,
    questions: Questions,
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
            questions,
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
                if self.link.is_welcome() && network.is_known_there() {
                    self.send(FromEdge::Leave { vn: vn.clone() });
                }
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
            let network = self
                .networks
                .entry(vn)
                .or_insert_with_key(|vn| Network::new(vn.clone(), now));
            network.want(addresses, &mut self.outputs);
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
        }
        self.questions.disconnected();
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
        if let Some(sequence) = self.link.renew(now) {
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
            }
            FromIma::Renewed { sequence, lease } => {
                if self.link.renewed(now, sequence, lease) {
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
                let joined = network.joined(exchange, &answer, parties, terms, &mut self.outputs);
                if let Err(why) = joined {
                    self.broken(now, why);
                }
            }
            FromIma::Refused { vn, why } => {
                if let Some(network) = self.networks.get_mut(&vn) {
                    network.refused(now, why, &mut self.rng, &mut self.outputs);
                }
            }
            FromIma::NewEpoch { vn, .. } => {
                if let Some(network) = self.networks.get_mut(&vn) {
                    network.join_anew(now);
                }
            }
            FromIma::Expelled { vn } => {
                if let Some(network) = self.networks.get_mut(&vn) {
                    network.leave(now, Gone::Expelled, &mut self.rng, &mut self.outputs);
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
                match opened {
                    Ok(Some(answer)) => {
                        if let Some(found) = questions.answered(now, &vn, &answer) {
                            network.found(found, name, &mut self.outputs);
                        }
                    }
                    Ok(None) => {}
                    Err(why) => self.broken(now, why),
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
        }
    }

    /// What is to be done, in order.
    pub fn outputs(&mut self) -> impl Iterator<Item = Output> + '_ {
        self.outputs.drain(..)
    }

    /// When [`Self::poll`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        // Those that wait for their turn to join are not due before one that is joining is done.
        let under_way = self.networks.values().filter(|n| n.is_joining()).count();
        let networks = self.networks.values();
        let joins = networks
            .filter(|_| self.link.is_welcome())
            .filter(|network| under_way < JOINING || network.is_joining())
            .filter_map(Network::deadline);
        let leases = self.networks.values().filter(|n| n.is_joined());
        let lease = leases
            .filter(|n| !n.lease_kept())
            .map(|_| self.link.lease_end());
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
        // One whose answer does not come is begun anew, and does not count twice.
        let under_way = self.networks.values();
        let under_way = under_way
            .filter(|n| n.is_joining() && !n.is_due(now))
            .count();
        let due = self.networks.values_mut().filter(|n| n.is_due(now));
        for network in due.take(JOINING.saturating_sub(under_way)) {
            network.join(now, &mut self.rng, &mut self.outputs);
        }
    }

    /// What an ended lease does.
    fn lease(&mut self, now: Duration) {
        if now < self.link.lease_end() {
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
        }
    }

    fn renewed(&mut self) {
        for network in self.networks.values_mut() {
            network.lease_renewed();
        }
    }

    fn goodbye(&mut self, now: Duration, why: Goodbye) {
        self.event(Event::Alarm(Alarm::Goodbye(why)));
        if why == Goodbye::Revoked {
            for network in self.networks.values_mut() {
                network.leave(now, Gone::Revoked, &mut self.rng, &mut self.outputs);
            }
        }
        // Of these another server thinks alike, and another try changes nothing soon.
        if matches!(
            why,
            Goodbye::Revoked | Goodbye::Version | Goodbye::Replaced | Goodbye::AddressTaken
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

/// The client as seen from outside.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Status {
    /// The server in use or tried.
    pub server: Option<SocketAddr>,
    /// Its identity.
    pub identity: Option<String>,
    /// Whether it has welcomed this edge.
    pub connected: bool,
    /// Seconds until the lease ends; `None`: there is none, or no more.
    pub lease_left: Option<u64>,
    /// Sessions tried since the last that worked.
    pub attempts: u32,
    /// Questions about unknown destinations.
    pub questions: QuestionCounts,
    /// VNs.
    pub networks: Vec<NetworkStatus>,
}

/// What became of questions about unknown destinations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct QuestionCounts {
    /// Asked of the authority.
    pub asked: u64,
    /// Asked already, or known not to exist.
    pub known: u64,
    /// Above the edge's or a port's rate.
    pub limited: u64,
}

/// A VN as this edge knows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct NetworkStatus {
    /// Its name.
    pub vn: VnName,
    /// `joined`, `joining`, `waiting` or `refused`.
    pub state: &'static str,
    /// Why it was refused.
    pub refusal: Option<String>,
    /// Its membership epoch.
    pub epoch: Option<Epoch>,
    /// How far its log is known.
    pub version: u64,
    /// What happens when the lease ends.
    pub lease_end: Option<&'static str>,
    /// Other edges.
    pub members: usize,
    /// Mappings at other edges.
    pub mappings: usize,
    /// This edge's own addresses, and how they stand.
    pub addresses: Vec<(Mac, PortName, String)>,
}
