//! The whole way from an operator's word to what edges believe, without sockets and in simulated time: real
//! clients, the sessions' side of the protocol, real engines, and a store that two servers share. In
//! between are delays, sessions that end with some of what was on its way or at one end only, servers and edges
//! that start anew, networks that are split, and servers that cannot reach the store or do not learn what it
//! did (`faults`). A session loses nothing inside and keeps the order; that is QUIC's part.

mod checks;
mod edge;
mod faults;
mod runs;
mod servers;
mod session;
mod store;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use vswitch_control::client::Output;
use vswitch_control::message::encode;
use vswitch_control::session::Exported;
use vswitch_control::types::{NveName, VnName};

use super::line::Line;
use crate::engine::{Engine, Limits, SessionId};
use edge::Edge;
use faults::{Seen, Way};
use session::Session;
use store::{Shared, Views};

/// Edges.
const EDGES: [&str; 4] = ["a", "b", "c", "d"];
/// Networks: where edges may have what is placed on them, and where the first has it.
const VNS: [&str; 2] = ["strict", "first"];
/// Machines, by the last byte of their MAC address.
const MACHINES: u8 = 5;
/// Servers.
const SERVERS: usize = 2;
/// A time of day.
const EPOCH: u64 = 1_764_000_000_000;
/// After so long without a word a session is known to be dead.
const IDLE: Duration = Duration::from_secs(10);

fn limits() -> Limits {
    Limits {
        lease: Duration::from_secs(60),
        // So short that both ways of resuming are taken.
        log: 4,
        ..Limits::default()
    }
}

fn name(edge: usize) -> NveName {
    EDGES[edge].parse().unwrap()
}

fn vn(network: usize) -> VnName {
    VNS[network].parse().unwrap()
}

/// A server of the authority.
struct Server {
    engine: Engine,
    /// How much of the store's history it knows.
    known: Views,
    sessions: u64,
    /// To the store; and whether it did not answer last time.
    store: Way,
    broken: bool,
}

struct World {
    now: Duration,
    rng: fastrand::Rng,
    store: Shared,
    servers: Vec<Server>,
    edges: Vec<Edge>,
    /// Sessions whose edge has given them up, until the server notices.
    orphans: Vec<Session>,
    /// What gets through between an edge and a server.
    split: Vec<[Way; SERVERS]>,
    /// What those know at most who have lost their rights.
    bounds: checks::Bounds,
    stamps: u64,
    seen: Seen,
}

fn address(server: usize) -> SocketAddr {
    let last = 250 + u8::try_from(server).unwrap();
    ([192, 0, 2, last], 4600).into()
}

fn identity(server: usize) -> String {
    format!("spiffe://lab/ima/{server}")
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let server = |_| Server {
            engine: Engine::new(limits(), [], Duration::ZERO),
            known: Views::default(),
            sessions: 0,
            store: Way::Open,
            broken: false,
        };
        let mut world = Self {
            now: Duration::ZERO,
            store: Shared::default(),
            servers: (0..SERVERS).map(server).collect(),
            edges: (0..EDGES.len())
                .map(|n| Edge::new(n, rng.u64(..)))
                .collect(),
            orphans: Vec::new(),
            split: vec![Default::default(); EDGES.len()],
            bounds: checks::Bounds::new(),
            stamps: 0,
            seen: Seen::default(),
            rng,
        };
        world.tell_time();
        world
    }

    fn tell_time(&mut self) {
        let wall = EPOCH + u64::try_from(self.now.as_millis()).unwrap();
        for server in &mut self.servers {
            server.engine.wall_is(wall);
        }
    }

    /// Mostly soon, seldom late: but behind what was sent before.
    fn arrival(&mut self, last: Option<Duration>) -> Duration {
        let delay = match self.rng.u8(..) {
            0..=1 => {
                self.seen.late += 1;
                self.rng.u64(2_000..13_000)
            }
            2..=30 => self.rng.u64(50..500),
            _ => self.rng.u64(1..20),
        };
        (self.now + Duration::from_millis(delay)).max(last.unwrap_or_default())
    }

    /// When one end knows that the other is gone.
    fn notice(&mut self) -> Duration {
        let silence = u64::try_from(IDLE.as_millis()).unwrap();
        self.now + Duration::from_millis(self.rng.u64(1..=silence))
    }

    /// The edge gives it up at once; what it sent before may still arrive.
    fn hang_up(&mut self, n: usize) {
        let Some(mut session) = self.edges[n].session.take() else {
            return;
        };
        let cut = match self.split[n][session.server].there() {
            false => 0,
            true => self.rng.usize(..=session.to_server.len()),
        };
        session.to_server.truncate(cut);
        session.to_edge.clear();
        let last = session.to_server.back().map(|(at, _)| *at);
        session.dead = Some(self.arrival(last));
        self.orphan(session);
    }

    /// Its server has it until it notices; unless it has noticed.
    fn orphan(&mut self, session: Session) {
        if !session.server_gone {
            self.orphans.push(session);
        }
    }

    /// An edge's process dies, and another begins.
    fn reboot(&mut self, n: usize) {
        self.cut(n);
        self.seen.edges_anew += 1;
        let seed = self.rng.u64(..);
        self.edges[n].reboot(self.now, seed);
    }

    fn open(&mut self, n: usize, at: usize) {
        let of_before = self.orphans.iter().filter(|it| it.edge == n);
        self.seen.server_alone += of_before.count() as u64;
        let server = &mut self.servers[at];
        server.sessions += 1;
        let id = SessionId(server.sessions);
        let binding: [u8; 32] = std::array::from_fn(|_| self.rng.u8(..));
        let source = edge::endpoint(n).control_address.ip();
        server.engine.open(id, name(n), source);
        let line = Line::new(edge::identity(n), identity(at), Exported::from(binding));
        self.edges[n].session = Some(Session {
            edge: n,
            server: at,
            id,
            line,
            to_server: VecDeque::new(),
            to_edge: VecDeque::new(),
            dead: None,
            server_gone: false,
            silent: [None; 2],
            finished: false,
        });
        self.edges[n]
            .client
            .connected(self.now, &identity(at), &binding);
    }

    /// Everything that is due.
    fn step(&mut self) {
        self.tell_time();
        for at in 0..SERVERS {
            if self.rng.u8(..4) == 0 {
                self.catch_up(at);
            }
            self.sweep(at);
        }
        for n in 0..self.edges.len() {
            self.edge(n);
        }
        for mut session in std::mem::take(&mut self.orphans) {
            self.arrivals(&mut session);
            // What it is told goes nowhere.
            self.push(&mut session);
            self.seen.in_vain += session.to_edge.len() as u64;
            session.to_edge.clear();
            let dead = session.dead.is_none_or(|at| at <= self.now);
            if dead || session.finished {
                self.servers[session.server].engine.close(session.id);
            } else {
                self.orphans.push(session);
            }
        }
    }

    fn edge(&mut self, n: usize) {
        if self.edges[n].lost.take_if(|at| *at <= self.now).is_some() {
            self.edges[n].client.disconnected(self.now);
        }
        if let Some((_, at)) = self.edges[n]
            .dialling
            .take_if(|(when, _)| *when <= self.now)
        {
            if self.split[n][at] != Way::Open {
                self.edges[n].client.disconnected(self.now);
            } else {
                self.open(n, at);
            }
        }
        self.silence(n);
        if let Some(mut session) = self.edges[n].session.take() {
            let way = self.split[n][session.server];
            if way.there() && !session.server_gone {
                self.arrivals(&mut session);
            }
            if !session.server_gone {
                self.push(&mut session);
            }
            if way.back() {
                let now = self.now;
                let here = &mut self.edges[n];
                while let Some((_, frame)) = session.to_edge.pop_front_if(|(at, _)| *at <= now) {
                    here.hear(now, &frame);
                }
            }
            let over = session.finished && session.to_edge.is_empty();
            self.edges[n].session = Some(session);
            if over {
                self.edges[n].session = None;
                self.edges[n].lost.get_or_insert(self.now);
            }
        }
        self.edges[n].client.poll(self.now);
        self.outputs(n);
    }

    fn outputs(&mut self, n: usize) {
        let outputs: Vec<Output> = self.edges[n].client.outputs().collect();
        for output in outputs {
            match output {
                Output::Connect(to) => {
                    let at = (0..SERVERS).find(|at| address(*at) == to).unwrap();
                    let when = match self.split[n][at] {
                        Way::Open => self.arrival(None),
                        _ => self.now + Duration::from_secs(5),
                    };
                    (self.edges[n].lost, self.edges[n].dialling) = (None, Some((when, at)));
                }
                Output::Send(message) => {
                    let last = self.edges[n].session.as_ref();
                    let last = last.and_then(|s| s.to_server.back().map(|(at, _)| *at));
                    let at = self.arrival(last);
                    if let Some(session) = &mut self.edges[n].session {
                        session
                            .to_server
                            .push_back((at, encode(&*message).unwrap()));
                    }
                }
                Output::Close(why) => {
                    let ended = self.edges[n].session.as_ref().is_none_or(|s| s.finished);
                    self.edges[n].closed(why, ended);
                    (self.edges[n].lost, self.edges[n].dialling) = (None, None);
                    self.hang_up(n);
                }
                Output::Event(event) => self.believe(n, event),
            }
        }
    }

    /// Lets time pass, in steps of a few milliseconds, more where nothing is due.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
            let next = self.next().min(end);
            self.now = next.max(self.now + Duration::from_millis(1));
        }
        self.step();
    }

    /// When something is due next: at most a little later, since servers learn of each other and have room
    /// at times of their own.
    fn next(&self) -> Duration {
        // Where the network is split nothing arrives.
        let edges = self.edges.iter().zip(&self.split);
        let sessions = edges.filter_map(|(edge, split)| {
            let session = edge.session.as_ref()?;
            (split[session.server] == Way::Open).then_some(session)
        });
        let frames = sessions.chain(&self.orphans).flat_map(|session| {
            let first = |queue: &VecDeque<(Duration, Vec<u8>)>| queue.front().map(|(at, _)| *at);
            [
                first(&session.to_server),
                first(&session.to_edge),
                session.dead,
            ]
        });
        let edges = self.edges.iter().flat_map(|edge| {
            [
                edge.client.deadline(),
                edge.lost,
                edge.dialling.map(|(at, _)| at),
            ]
        });
        let ready = self.servers.iter().any(|server| {
            server.engine.ready(None).is_some() || self.store.is_behind(&server.known)
        });
        let at_most = match ready {
            true => Duration::from_millis(20),
            false => Duration::from_secs(1),
        };
        let due = frames.chain(edges).flatten();
        due.chain([self.now + at_most]).min().unwrap_or(self.now)
    }
}

/// By name, what an edge is to have.
type Wanted = BTreeMap<VnName, Vec<u8>>;
