//! One VN as its member sees it: the channel of this session and epoch, the other members, the
//! mappings, and how far its log is known.

mod log;
mod mappings;
mod membership;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use self::mappings::Mappings;
use super::admission::Admission;
use super::{Addresses, Event, NetworkStatus, Output};
use crate::hybrid::{ExchangeId, Initiator};
use crate::message::encode;
use crate::message::ima::{
    FromEdge, LogId, Member, Refusal, Resume, SealedBytes, VnFromEdge, Wanted,
};
use crate::message::overlay::{LeaseEnd, Mapping, Protection, Vni};
use crate::types::{Epoch, Mac, NveName, Version, VnName};
use crate::vnchannel::VnChannel;

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

/// Addresses given up of which the authority has not said that they are gone: as many as one edge has
/// there at most, unless it is configured otherwise.
const REMEMBERED: usize = 4096;

pub(super) struct Network {
    name: VnName,
    joining: Option<Joining>,
    /// A join was sent once.
    said: bool,
    /// When it is to be joined, or joined anew.
    due: Option<Duration>,
    /// The latest epoch that was announced: a join that ends in an earlier one is begun anew.
    announced: Option<Epoch>,
    /// Times that it was joined anew because what came did not open, since something did.
    unopened: u32,
    refusals: u32,
    refusal: Option<Refusal>,
    channel: Option<(Epoch, VnChannel)>,
    /// As long as this edge is on it, with or without a session.
    terms: Option<Terms>,
    /// The lease has ended and it was kept.
    kept: bool,
    resume: Option<Resume>,
    members: BTreeMap<NveName, Member>,
    mappings: Mappings,
    staging: Option<Staging>,
    admission: Admission,
    /// Addresses that no port has any more, until the authority says that they are gone; and whether
    /// it has been told, over this channel.
    withdrawn: BTreeMap<Mac, bool>,
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
            said: false,
            due: Some(now),
            announced: None,
            unopened: 0,
            refusals: 0,
            refusal: None,
            channel: None,
            terms: None,
            kept: false,
            resume: None,
            members: BTreeMap::new(),
            mappings: Mappings::default(),
            staging: None,
            admission: Admission::default(),
            withdrawn: BTreeMap::new(),
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

    pub(super) fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// Whether sealed messages can be sent.
    pub(super) fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    /// Whether a server may have heard of this edge's wish, in this session or an earlier one.
    pub(super) fn is_known_there(&self) -> bool {
        self.said
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
                self.mappings.contains(*mac) || self.admission.generation(*mac).is_some()
            }
            Wanted::Ip(ip) => self.mappings.has_ip(*ip),
        }
    }

    /// The addresses of this edge's ports.
    pub(super) fn want(&mut self, addresses: Addresses, outputs: &mut VecDeque<Output>) {
        let before = self.admission.admitted();
        for mac in self.admission.want(addresses) {
            self.give_up(mac);
        }
        self.register(outputs);
        if self.is_joined() && self.admission.admitted() != before {
            self.tell_admitted(outputs);
        }
    }

    /// No port has this address any more. It is said until it is so: with its session a word may be lost,
    /// and a server that cannot reach the store does nothing.
    fn give_up(&mut self, mac: Mac) {
        self.withdrawn.insert(mac, false);
        if self.withdrawn.len() > REMEMBERED {
            self.withdrawn.pop_first();
        }
    }

    /// Asks for what is to be asked for, and gives up what no port has any more.
    fn register(&mut self, outputs: &mut VecDeque<Output>) {
        if self.is_open() {
            let admission = &self.admission;
            self.withdrawn.retain(|mac, _| !admission.is_wanted(*mac));
            let unsaid = self.withdrawn.iter_mut().filter(|(_, said)| !**said);
            let unsaid: Vec<Mac> = unsaid
                .map(|(mac, said)| {
                    *said = true;
                    *mac
                })
                .collect();
            for mac in unsaid {
                self.seal(&VnFromEdge::Withdraw { mac }, outputs);
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

    /// Nothing is known of it any more.
    fn forget(&mut self) {
        self.resume = None;
        self.members.clear();
        self.mappings.clear();
        self.staging = None;
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
            self.mappings.remove(*mac);
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
