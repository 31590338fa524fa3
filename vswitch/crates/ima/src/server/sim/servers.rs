//! Servers: what they decide and store, what they learn of one another, and how they begin.

use std::time::Duration;

use vswitch_control::message::ima::LogId;
use vswitch_control::message::operator::{AuditId, Change, Text};

use super::faults::Way;
use super::{EPOCH, SERVERS, Server, World, limits};
use crate::engine::{Engine, Stamp};

impl World {
    /// An operator's change, at some server.
    pub fn change(&mut self, change: &Change) -> bool {
        let at = self.rng.usize(..SERVERS);
        self.stamps += 1;
        let stamp = Stamp {
            who: Text::of("root"),
            id: AuditId {
                at: self.stamps,
                tie: 0,
            },
            log: LogId(self.stamps),
        };
        let done = self.commit(at, |engine, _| {
            engine.operator(change, &stamp).map_or_else(
                |_| (crate::model::Plan::default(), false),
                |plan| (plan, true),
            )
        });
        done.unwrap_or(false)
    }

    /// Decides until what is decided is stored; `None` if the store does not say that it is.
    pub fn commit<T>(
        &mut self,
        at: usize,
        mut decide: impl FnMut(&mut Engine, Duration) -> (crate::model::Plan, T),
    ) -> Option<T> {
        loop {
            if self.servers[at].broken {
                return None;
            }
            let (server, now) = (&mut self.servers[at], self.now);
            let (plan, decided) = decide(&mut server.engine, now);
            if plan.is_empty() {
                return Some(decided);
            }
            if server.store != Way::Open {
                server.broken = true;
                if server.store.there() {
                    // It learns what became of it like what others do.
                    let stored = self.store.commit(&mut server.known.clone(), &plan);
                    self.seen.unknown += u64::from(stored);
                }
                return None;
            }
            if self.store.commit(&mut server.known, &plan) {
                // What others did before it touches nothing of it.
                let before = server.known.take_before_own();
                server.engine.apply(&before);
                server.engine.committed(&before, now);
                server.engine.apply(plan.ops());
                server.engine.committed(plan.ops(), now);
                return Some(decided);
            }
            self.seen.conflicts += 1;
            self.catch_up(at);
        }
    }

    /// A server learns what the others did.
    pub fn catch_up(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if server.store != Way::Open {
            return;
        }
        server.broken = false;
        let ops = self.store.since(&mut server.known);
        server.engine.apply(&ops);
        server.engine.committed(&ops, self.now);
    }

    pub fn sweep(&mut self, at: usize) {
        for _ in 0..10_000 {
            if !self
                .commit(at, |engine, now| {
                    let plan = engine.sweep(now, 120).unwrap_or_default();
                    let more = !plan.is_empty();
                    (plan, more)
                })
                .unwrap_or(false)
            {
                return;
            }
        }
        panic!("the sweep does not end");
    }

    /// A server starts anew: all of its sessions end.
    pub fn restart(&mut self, at: usize) {
        // Without the store it does not begin.
        if self.servers[at].store != Way::Open {
            return;
        }
        self.seen.servers_anew += 1;
        for n in 0..self.edges.len() {
            if self.edges[n]
                .session
                .as_ref()
                .is_some_and(|s| s.server == at)
            {
                self.edges[n].session = None;
                self.edges[n].lost = Some(self.notice());
            }
        }
        self.orphans.retain(|session| session.server != at);
        let (records, known) = self.store.load();
        let wall = EPOCH + u64::try_from(self.now.as_millis()).unwrap();
        let mut engine = Engine::new(limits(), records, self.now);
        engine.resume_leases(self.now, wall);
        let sessions = self.servers[at].sessions;
        self.servers[at] = Server {
            engine,
            known,
            sessions,
            store: Way::Open,
            broken: false,
        };
    }
}
