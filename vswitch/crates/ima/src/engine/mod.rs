//! The authority's logic, without sockets, store or clock. A request of an authenticated edge or operator
//! becomes a [`Plan`](crate::model::Plan) (what to store) and a reply, which is given only once that is stored. What
//! members must be told follows from the state alone (`push`), so nothing is queued for a slow one.
//!
//! The order of calls: [`Engine::edge`] or [`Engine::operator`] decides; [`Engine::apply`] makes it so
//! in memory; the caller commits it; then [`Engine::committed`] and [`Engine::confirm`], or
//! [`Engine::revert`]. [`Engine::next`] gives what sessions are to be sent.

mod budget;
mod edge;
mod former;
mod lease;
mod limit;
mod operator;
mod place;
mod push;
mod register;
mod sweep;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use vswitch_control::message::ima::{EdgeLimits, Goodbye, Resume};
use vswitch_control::message::overlay::Endpoint;
use vswitch_control::types::{BootId, NveName, VnName};

pub use budget::{Excess, Rates};
pub use edge::{Decision, EdgeRequest, Reply};
pub use limit::Bucket;
pub use operator::Stamp;
pub use push::Push;
pub(crate) use view::page;

use crate::model::{Key, Op, Record, State};
use budget::Budgets;
use lease::Leases;
use push::Seat;

/// Which session, of this run of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// What the authority grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Length of membership leases.
    pub lease: Duration,
    /// What one edge may do.
    pub edge: EdgeLimits,
    /// How much that ended each VN remembers, so that edges can resume.
    pub log: usize,
    /// How long an edge may keep the answer that nobody has an address.
    pub negative: Duration,
    /// How often one edge may do what costs others.
    pub rates: Rates,
    /// Edges of which nothing is declared are not let in.
    pub declared_only: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(3600),
            edge: EdgeLimits {
                messages_per_second: 1000,
                burst: 2000,
                vns: 4096,
                registrations: 4096,
            },
            log: 4096,
            negative: Duration::from_secs(5),
            rates: Rates::default(),
            declared_only: false,
        }
    }
}

/// One edge's session.
#[derive(Debug)]
struct Session {
    nve: NveName,
    /// Where its packets come from, proved by the handshake.
    source: IpAddr,
    hello: Option<(BootId, Endpoint)>,
    seats: BTreeMap<VnName, Seat>,
    /// VNs of which there may be something to tell.
    dirty: BTreeSet<VnName>,
    /// Edges whose revocation is to be told: bounded by the number of edges.
    revoked: BTreeSet<NveName>,
    closing: Option<Goodbye>,
}

/// The authority.
#[derive(Debug)]
pub struct Engine {
    state: State,
    limits: Limits,
    sessions: HashMap<SessionId, Session>,
    /// The latest session of each edge.
    current: HashMap<NveName, SessionId>,
    /// Who has a seat in a VN.
    watching: HashMap<VnName, BTreeSet<SessionId>>,
    /// Sessions for which there may be something.
    ready: BTreeSet<SessionId>,
    /// VNs about which everyone who watches has yet to look: all of them are dirty and ready. So that
    /// many changes of a large VN between two looks are marked once.
    marked: HashSet<VnName>,
    /// When leases end, by this server's clock.
    leases: Leases,
    /// The time of day, in milliseconds since 1970, as it was last told.
    wall: u64,
    /// VNs in which something may be left over.
    messy: BTreeSet<VnName>,
    /// The one of them whose turn was last.
    swept: Option<VnName>,
    budgets: Budgets,
}

impl Engine {
    /// Of what is stored. Leases begin anew, unless [`Engine::resume_leases`] says otherwise.
    #[must_use]
    pub fn new(
        limits: Limits,
        records: impl IntoIterator<Item = (Key, Record)>,
        now: Duration,
    ) -> Self {
        let state = State::load(limits.log, records);
        let mut leases = Leases::default();
        for nve in state.edges.keys() {
            leases.set(nve, now + limits.lease);
        }
        Self {
            messy: state.vns.keys().cloned().collect(),
            swept: None,
            state,
            limits,
            sessions: HashMap::new(),
            current: HashMap::new(),
            watching: HashMap::new(),
            ready: BTreeSet::new(),
            marked: HashSet::new(),
            leases,
            wall: 0,
            budgets: Budgets::default(),
        }
    }

    /// Takes over what is stored after the store could not say what became of a commit. Sessions
    /// stay; whoever is behind is told everything.
    pub fn reload(&mut self, records: impl IntoIterator<Item = (Key, Record)>, now: Duration) {
        let mut fresh = Self::new(self.limits, records, now);
        for nve in fresh.state.edges.keys() {
            // A lease that was running goes on as it was.
            if let Some(known) = self.leases.get(nve) {
                fresh.leases.set(nve, known);
            }
        }
        fresh.sessions = std::mem::take(&mut self.sessions);
        fresh.current = std::mem::take(&mut self.current);
        fresh.watching = std::mem::take(&mut self.watching);
        fresh.budgets = std::mem::take(&mut self.budgets);
        fresh.wall = self.wall;
        for (id, session) in &mut fresh.sessions {
            session.dirty = session.seats.keys().cloned().collect();
            if fresh.state.revoked.contains_key(&session.nve) {
                session.closing = Some(Goodbye::Revoked);
            }
            fresh.ready.insert(*id);
        }
        *self = fresh;
    }

    /// What is known.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// What is granted.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whose session it is.
    #[must_use]
    pub fn who(&self, id: SessionId) -> Option<&NveName> {
        self.sessions.get(&id).map(|session| &session.nve)
    }

    /// Sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// A session with an authenticated edge begins, from `source`.
    pub fn open(&mut self, id: SessionId, nve: NveName, source: IpAddr) {
        let closing = self
            .state
            .revoked
            .contains_key(&nve)
            .then_some(Goodbye::Revoked);
        let session = Session {
            nve,
            source: source.to_canonical(),
            hello: None,
            seats: BTreeMap::new(),
            dirty: BTreeSet::new(),
            revoked: BTreeSet::new(),
            closing,
        };
        self.sessions.insert(id, session);
        if closing.is_some() {
            self.ready.insert(id);
        }
    }

    /// It is over. What the edge registered stays until its lease ends.
    pub fn close(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        for vn in session.seats.keys() {
            self.unwatch(vn, id);
        }
        if self.current.get(&session.nve) == Some(&id) {
            self.current.remove(&session.nve);
        }
        self.ready.remove(&id);
    }

    /// Changes the state in memory; gives what takes it back.
    pub fn apply(&mut self, ops: &[Op]) -> Vec<Op> {
        self.state.apply(ops)
    }

    /// Takes back what `apply` did last.
    pub fn revert(&mut self, undo: &[Op]) {
        self.state.revert(undo);
    }

    /// What was applied is stored, here or by another server: whoever it concerns will be told.
    pub fn committed(&mut self, ops: &[Op], now: Duration) {
        for op in ops {
            match op.key() {
                Key::Vn(vn) | Key::Clock(vn) => self.mark(vn),
                Key::Member(vn, _) | Key::Joined(vn, _) => {
                    self.mark(vn);
                    if matches!(op, Op::Delete(_)) {
                        self.messy.insert(vn.clone());
                    }
                }
                Key::Placement(vn, _) => {
                    if let Op::Put(_, Record::Placed(placed)) = op {
                        self.hint(vn, &placed.nve);
                    }
                }
                Key::Edge(nve) => self.edge_changed(nve, matches!(op, Op::Put(..)), now),
                Key::Revoked(nve) => {
                    if matches!(op, Op::Put(..)) {
                        self.revoked(nve);
                    }
                }
                Key::Mapping(..)
                | Key::Vni(_)
                | Key::Audit(_)
                | Key::Declared(_)
                | Key::Claim(_)
                | Key::Operator(_) => {}
            }
            if let Op::Delete(Key::Vn(vn)) = op {
                self.messy.insert(vn.clone());
            }
        }
    }

    /// There may be something to tell about a VN.
    fn mark(&mut self, vn: &VnName) {
        if self.marked.contains(vn) || !self.watching.contains_key(vn) {
            return;
        }
        self.marked.insert(vn.clone());
        for id in self.watching.get(vn).into_iter().flatten() {
            if let Some(session) = self.sessions.get_mut(id) {
                session.dirty.insert(vn.clone());
                self.ready.insert(*id);
            }
        }
    }

    /// What is placed on `nve` has changed.
    fn hint(&mut self, vn: &VnName, nve: &NveName) {
        let Some(id) = self.current.get(nve) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if let Some(seat) = session.seats.get_mut(vn) {
            seat.placed = true;
            session.dirty.insert(vn.clone());
            self.ready.insert(*id);
        }
    }

    fn edge_changed(&mut self, nve: &NveName, there: bool, now: Duration) {
        if there {
            self.leases.set(nve, now + self.limits.lease);
        } else {
            self.leases.remove(nve);
            self.messy.extend(self.state.present(nve).cloned());
            // An operator has said that it is not where it says.
            let session = self.current.get(nve).and_then(|id| self.sessions.get(id));
            if let (Some(id), Some(Err(why))) = (
                self.current.get(nve).copied(),
                session.map(|session| self.stays(session)),
            ) && let Some(session) = self.sessions.get_mut(&id)
            {
                session.closing.get_or_insert(why);
                self.ready.insert(id);
            }
        }
    }

    fn revoked(&mut self, nve: &NveName) {
        let vns: Vec<VnName> = self.state.present(nve).cloned().collect();
        for vn in &vns {
            for id in self.watching.get(vn).into_iter().flatten() {
                if let Some(session) = self.sessions.get_mut(id)
                    && session.nve != *nve
                {
                    session.revoked.insert(nve.clone());
                    self.ready.insert(*id);
                }
            }
        }
        self.messy.extend(vns);
        for (id, session) in &mut self.sessions {
            if session.nve == *nve {
                session.closing = Some(Goodbye::Revoked);
                self.ready.insert(*id);
            }
        }
    }

    fn unwatch(&mut self, vn: &VnName, id: SessionId) {
        if let Some(watching) = self.watching.get_mut(vn) {
            watching.remove(&id);
            if watching.is_empty() {
                self.watching.remove(vn);
                self.marked.remove(vn);
            }
        }
    }

    /// What a reply that is given now means for the session.
    pub fn confirm(&mut self, id: SessionId, reply: &Reply) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        match reply {
            Reply::Welcome { boot, endpoint, .. } => {
                session.hello = Some((*boot, endpoint.clone()));
                let former = self.current.insert(session.nve.clone(), id);
                if let Some(former) = former.filter(|former| *former != id)
                    && let Some(session) = self.sessions.get_mut(&former)
                {
                    session.closing.get_or_insert(Goodbye::Replaced);
                    self.ready.insert(former);
                }
            }
            Reply::Joined {
                vn,
                epoch,
                log,
                resume,
                ..
            } => {
                let told = match resume {
                    Some(Resume {
                        log: known,
                        version,
                    }) if known == log => Some(*version),
                    _ => None,
                };
                session.seats.insert(vn.clone(), Seat::new(*epoch, told));
                session.dirty.insert(vn.clone());
                self.watching.entry(vn.clone()).or_default().insert(id);
                self.ready.insert(id);
            }
            Reply::Left { vn } => {
                session.seats.remove(vn);
                session.dirty.remove(vn);
                self.unwatch(vn, id);
            }
            Reply::Goodbye(why) => {
                session.closing.get_or_insert(*why);
                self.ready.insert(id);
            }
            Reply::Renewed { .. } | Reply::Refused { .. } | Reply::Vn { .. } => {}
        }
    }
}
