//! The sessions there are, by identity, and how they are ended: by revocation, by expiry, by newer
//! ones.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::Code;
use super::handle::Shared;
use super::limits::Limits;
use super::stats::{Counter, Counters};
use crate::identity::{Clock, Credentials, Denied, Identity, Serial};

#[derive(Debug, Default)]
struct Table {
    /// Of each identity, the oldest first.
    sessions: HashMap<Identity, Vec<Arc<Shared>>>,
    count: usize,
    closing: bool,
}

/// All sessions of one endpoint. Clones are the same.
#[derive(Debug, Clone)]
pub struct Sessions {
    table: Arc<Mutex<Table>>,
    pub(super) counters: Arc<Counters>,
    denied: Denied,
    clock: Clock,
    most: usize,
    per_identity: usize,
}

impl Sessions {
    pub(super) fn new(limits: &Limits, denied: Denied, clock: Clock) -> Self {
        Self {
            table: Arc::default(),
            counters: Arc::default(),
            denied,
            clock,
            most: limits.sessions,
            per_identity: limits.sessions_per_identity,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Whole after every change; nothing that may panic runs in between.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session, which may end an older one; `Err` if there is no place for it.
    pub(super) fn add(&self, session: &Arc<Shared>) -> Result<(), Code> {
        let replaced = {
            let mut table = self.table();
            if table.closing {
                return Err(Code::Shutdown);
            }
            // Under the lock: whoever denies it later finds it in the table.
            if self.denied.contains(&session.certificate) {
                return Err(Code::Revoked);
            }
            let full = table.count >= self.most;
            let of_same = table
                .sessions
                .entry(session.certificate.identity.clone())
                .or_default();
            let replaced = (of_same.len() >= self.per_identity && !of_same.is_empty())
                .then(|| of_same.remove(0));
            if full && replaced.is_none() {
                if of_same.is_empty() {
                    table.sessions.remove(&session.certificate.identity);
                }
                return Err(Code::Full);
            }
            of_same.push(session.clone());
            table.count += usize::from(replaced.is_none());
            replaced
        };
        if let Some(replaced) = replaced {
            self.end(
                &replaced,
                Code::Replaced,
                "a newer session of the same identity",
            );
        }
        Ok(())
    }

    /// Takes it out, if it is still there.
    pub(super) fn remove(&self, session: &Arc<Shared>) {
        let mut table = self.table();
        let Some(of_same) = table.sessions.get_mut(&session.certificate.identity) else {
            return;
        };
        let before = of_same.len();
        of_same.retain(|other| !Arc::ptr_eq(other, session));
        let gone = before - of_same.len();
        if of_same.is_empty() {
            table.sessions.remove(&session.certificate.identity);
        }
        table.count -= gone;
    }

    fn end(&self, session: &Shared, code: Code, why: &str) {
        let counter: Option<&Counter> = match code {
            Code::Replaced => Some(&self.counters.closed_replaced),
            Code::Revoked => Some(&self.counters.closed_revoked),
            Code::Expired => Some(&self.counters.closed_expired),
            Code::Untrusted => Some(&self.counters.closed_untrusted),
            _ => None,
        };
        counter.into_iter().for_each(Counter::add);
        tracing::info!(peer = %session.certificate.identity, why, "session closed");
        session.close(code, why);
    }

    /// Ends all that `which` chooses, and says how many.
    fn end_all(&self, code: Code, why: &str, which: impl Fn(&Shared) -> bool) -> usize {
        let mut chosen = Vec::new();
        {
            let mut table = self.table();
            for of_same in table.sessions.values_mut() {
                chosen.extend(of_same.extract_if(.., |session| which(session)));
            }
            table.sessions.retain(|_, of_same| !of_same.is_empty());
            table.count -= chosen.len();
        }
        chosen
            .iter()
            .for_each(|session| self.end(session, code, why));
        chosen.len()
    }

    /// Ends all sessions with `identity`, at once: nothing more is received from them. It may
    /// come again; `deny` is for who must not. Returns how many there were.
    pub fn close(&self, identity: &Identity, why: &str) -> usize {
        self.end_all(Code::Done, why, |session| {
            session.certificate.identity == *identity
        })
    }

    /// Revokes: refuses new sessions with `identity` and ends those there are, at once.
    pub fn deny(&self, identity: &Identity) -> usize {
        self.denied.deny(identity);
        self.sweep_denied()
    }

    /// Revokes one certificate; its owner may come with another.
    pub fn deny_serial(&self, serial: &Serial) -> usize {
        self.denied.deny_serial(serial);
        self.sweep_denied()
    }

    fn sweep_denied(&self) -> usize {
        let denied = |session: &Shared| self.denied.contains(&session.certificate);
        self.end_all(Code::Revoked, "revoked", denied)
    }

    /// Ends those whose peer's certificate has expired by now or who have been denied. The endpoint
    /// does it once a second.
    pub fn sweep(&self) {
        let now = self.clock.now();
        let expired = |session: &Shared| now > session.certificate.not_after;
        self.end_all(Code::Expired, "the peer's certificate has expired", expired);
        self.sweep_denied();
    }

    /// Ends those whose peers these credentials would not believe any more. The endpoint does it whenever its
    /// files have changed: a CA that was taken out of the bundle is out for those it let in, too.
    pub fn reconsider(&self, credentials: &Credentials) -> usize {
        let now = self.clock.now();
        let why = "no CA of the bundle vouches for the peer's certificate";
        self.end_all(Code::Untrusted, why, |session| {
            !session
                .chain()
                .is_some_and(|chain| credentials.trusts(&chain, now))
        })
    }

    pub(super) fn close_all(&self, why: &str) {
        self.table().closing = true;
        self.end_all(Code::Shutdown, why, |_| true);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table().count
    }

    /// With whom, and from where, sorted.
    #[must_use]
    pub fn list(&self) -> Vec<(Identity, SocketAddr)> {
        let table = self.table();
        let all = table.sessions.values().flatten();
        let mut list: Vec<_> = all
            .map(|session| (session.certificate.identity.clone(), session.remote))
            .collect();
        list.sort();
        list
    }

    /// The list that is asked when a session begins.
    #[must_use]
    pub const fn denied(&self) -> &Denied {
        &self.denied
    }
}
