//! What a world can do to sessions and to the way to the store, and how often each of it has occurred: a
//! run in which nothing went wrong shows nothing.

use std::time::Duration;

use super::{EDGES, IDLE, SERVERS, World};

/// What gets through between two.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Everything.
    #[default]
    Open,
    /// Nothing.
    Shut,
    /// Nothing from the edge to the server; or from the server to the store.
    NotThere,
    /// Nothing from the server to the edge; or from the store to the server, which thus does not learn
    /// what became of what it asked.
    NotBack,
}

impl Way {
    pub fn there(self) -> bool {
        matches!(self, Self::Open | Self::NotBack)
    }

    pub fn back(self) -> bool {
        matches!(self, Self::Open | Self::NotThere)
    }

    fn broken(rng: &mut fastrand::Rng) -> Self {
        [Self::Shut, Self::NotThere, Self::NotBack][rng.usize(..3)]
    }
}

/// How often each has occurred.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Sessions that ended with messages on their way to the server, or to the edge, that were lost.
    pub lost_there: u64,
    pub lost_back: u64,
    /// Messages more than a second and a half on their way.
    pub late: u64,
    /// Sessions that their server still had when the edge had another; that their edge still had when the
    /// server had none; and what was said into these in vain.
    pub server_alone: u64,
    pub edge_alone: u64,
    pub in_vain: u64,
    /// An edge out of reach of one server, of all, and one way only.
    pub split: u64,
    pub alone: u64,
    pub one_way: u64,
    /// A server that cannot reach the store; of edges that can reach only such ones; transactions
    /// that were stored, of which their server was told nothing; requests that were not served for it.
    pub apart: u64,
    pub both: u64,
    pub unknown: u64,
    pub unserved: u64,
    /// Processes that began anew.
    pub servers_anew: u64,
    pub edges_anew: u64,
    /// Times that a server was too late.
    pub conflicts: u64,
}

impl Seen {
    fn all(&mut self) -> [(&'static str, &mut u64); 16] {
        [
            ("lost on the way there", &mut self.lost_there),
            ("lost on the way back", &mut self.lost_back),
            ("late", &mut self.late),
            ("a server alone", &mut self.server_alone),
            ("an edge alone", &mut self.edge_alone),
            ("in vain", &mut self.in_vain),
            ("split", &mut self.split),
            ("all servers split off", &mut self.alone),
            ("one way", &mut self.one_way),
            ("without the store", &mut self.apart),
            ("split, and without the store", &mut self.both),
            ("stored and not known", &mut self.unknown),
            ("not served", &mut self.unserved),
            ("servers anew", &mut self.servers_anew),
            ("edges anew", &mut self.edges_anew),
            ("conflicts", &mut self.conflicts),
        ]
    }

    pub fn add(&mut self, other: &Self) {
        let mut other = other.clone();
        for ((_, sum), (_, more)) in self.all().into_iter().zip(other.all()) {
            *sum += *more;
        }
    }

    /// Each of it has.
    pub fn check(&self) {
        for (what, times) in self.clone().all() {
            assert!(*times > 0, "{what}: never");
        }
    }
}

impl World {
    /// The way between an edge and a server changes.
    pub fn tear(&mut self, n: usize) {
        if self.rng.u8(..4) == 0 {
            self.split[n] = [Way::Shut; SERVERS];
            self.seen.alone += 1;
            return self.both();
        }
        let at = self.rng.usize(..SERVERS);
        self.split[n][at] = match self.split[n][at] {
            Way::Open => Way::broken(&mut self.rng),
            _ => Way::Open,
        };
        let way = self.split[n][at];
        self.seen.split += u64::from(way == Way::Shut);
        self.seen.one_way += u64::from(matches!(way, Way::NotThere | Way::NotBack));
        self.seen.alone += u64::from(self.split[n].iter().all(|way| *way != Way::Open));
        self.both();
    }

    /// The way between a server and the store does.
    pub fn tear_store(&mut self, at: usize) {
        self.servers[at].store = match self.servers[at].store {
            Way::Open => Way::broken(&mut self.rng),
            _ => Way::Open,
        };
        self.seen.apart += u64::from(self.servers[at].store != Way::Open);
        self.both();
    }

    /// Whether some edge can reach no server that can reach the store, though another could.
    fn both(&mut self) {
        let apart = |at: usize| self.servers[at].store != Way::Open;
        let edges = (0..EDGES.len()).filter(|n| {
            let split = |at: usize| self.split[*n][at] != Way::Open;
            (0..SERVERS).all(|at| split(at) || apart(at))
                && (0..SERVERS).any(split)
                && (0..SERVERS).any(apart)
        });
        let edges = edges.count() as u64;
        self.seen.both += edges;
    }

    /// Everything is in reach.
    pub fn mend(&mut self) {
        self.split = vec![Default::default(); EDGES.len()];
        for server in &mut self.servers {
            server.store = Way::Open;
        }
    }

    /// The session of an edge ends at both ends, each of which notices in its time. Of what was on its way
    /// some arrives, perhaps nothing.
    pub fn cut(&mut self, n: usize) {
        let Some(mut session) = self.edges[n].session.take() else {
            return;
        };
        let way = self.split[n][session.server];
        if session.server_gone {
            self.seen.in_vain += session.to_server.len() as u64;
            session.to_server.clear();
        }
        let (there, back) = (session.to_server.len(), session.to_edge.len());
        let there_some = if way.there() {
            self.rng.usize(..=there)
        } else {
            0
        };
        let back_some = if way.back() {
            self.rng.usize(..=back)
        } else {
            0
        };
        self.seen.lost_there += u64::from(there_some < there);
        self.seen.lost_back += u64::from(back_some < back);
        session.to_server.truncate(there_some);
        for (_, frame) in session.to_edge.drain(..).take(back_some) {
            self.edges[n].hear(self.now, &frame);
        }
        self.outputs(n);
        if self.edges[n].dialling.is_none() {
            self.edges[n].lost = Some(self.notice());
        }
        session.dead = Some(self.notice());
        self.orphan(session);
    }

    /// Where nothing gets through, sessions die of silence: at the end that hears nothing, and at the other
    /// when it hears nothing for that.
    pub fn silence(&mut self, n: usize) {
        let Some(session) = &mut self.edges[n].session else {
            return;
        };
        let way = self.split[n][session.server];
        let now = self.now;
        let silent = |since: &mut Option<Duration>, open: bool| {
            if open {
                *since = None;
                return false;
            }
            now >= *since.get_or_insert(now) + IDLE
        };
        let server_is = silent(&mut session.silent[0], way.there());
        let edge_is = silent(&mut session.silent[1], way.back() && !session.server_gone);
        if server_is && !session.server_gone {
            session.server_gone = true;
            let (at, id) = (session.server, session.id);
            self.seen.in_vain += session.to_server.len() as u64;
            session.to_server.clear();
            self.servers[at].engine.close(id);
            self.seen.edge_alone += 1;
        } else if edge_is {
            self.cut(n);
            self.edges[n].lost = self.edges[n].lost.map(|_| now);
        }
    }
}
