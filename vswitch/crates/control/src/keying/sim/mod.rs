//! A world of edges in simulated time: their data planes, the sessions between them, and an
//! authority that says who is in which VN. Everything takes a while, nothing takes the same time
//! twice, and what goes wrong is written in a schedule that follows from a seed.

mod checks;
mod faults;
mod healing;
pub mod links;
pub mod plane;
mod runs;
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::{Config, Event, Keying, OrderId, Output};
use crate::meetings::Meetings;
use crate::message::peer::SaAlgorithm;
use crate::types::{BootId, Epoch, NveName, VnName};
use links::{Conduct, Link, Seen};
use plane::{Flow, Plane, Rss};

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How often workers look at what they have to send.
const TICK: Duration = ms(20);

/// One edge's process and what is around it.
pub struct Edge {
    pub name: NveName,
    /// None while it is not running.
    pub keying: Option<Keying>,
    /// How often it was started.
    pub run: u64,
    /// Its sessions.
    pub meetings: Meetings,
    pub plane: Plane,
    /// What its guests send all the time.
    pub flows: BTreeSet<Flow>,
    /// The authority's last word, by VN.
    pub told: BTreeMap<VnName, Epoch>,
    /// And that which is on its way at the latest.
    pub word: BTreeMap<VnName, Epoch>,
    /// By how much its clock is ahead.
    pub ahead: Duration,
    pub reports: Vec<super::Report>,
}

/// What will happen.
enum Item {
    /// A session's news and messages reach an end of it.
    Up(usize, usize),
    Down(usize, usize),
    Arrive(usize, usize, Vec<u8>),
    /// A dial asks again; an end of a session sends what waits, looks at its clock, hears a packet or
    /// the answer to one.
    Probe(usize),
    Flush(usize, usize),
    Beat(usize, usize),
    Ping(usize, usize),
    Pong(usize, usize),
    /// The data plane gets to an order; its answer gets back.
    Order(usize, u64, Output),
    Answer(usize, u64, Event),
    /// The authority's word, to one run of an edge.
    Word(usize, u64, VnName, Epoch, Option<BTreeSet<NveName>>),
    Start(usize),
    Tick,
    Packet(usize, usize, u32, [u8; 36]),
}

pub struct World {
    pub now: Duration,
    pub rng: fastrand::Rng,
    pub config: Config,
    pub edges: Vec<Edge>,
    pub links: Vec<Link>,
    pub conduct: Conduct,
    /// The truth about VNs, as the authority has it.
    pub vns: BTreeMap<VnName, (Epoch, BTreeSet<NveName>)>,
    queue: BTreeMap<(Duration, u64), Item>,
    sequence: u64,
    /// Keys that were ever installed: none may come twice, in either direction.
    keys: [HashSet<[u8; 36]>; 2],
    /// (Sender, receiver) that may miss one another, because one of them was started anew or put
    /// out, until everything is to be well again.
    pub excused: BTreeSet<(usize, usize)>,
    pub opened: u64,
    pub missed: u64,
    pub seen: Seen,
}

impl World {
    pub fn new(seed: u64, edges: usize, config: Config) -> Self {
        let mut world = Self {
            now: ms(1000),
            rng: fastrand::Rng::with_seed(seed),
            config,
            edges: Vec::new(),
            links: Vec::new(),
            conduct: Conduct::default(),
            vns: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            keys: [HashSet::new(), HashSet::new()],
            excused: BTreeSet::new(),
            opened: 0,
            missed: 0,
            seen: Seen::default(),
        };
        for index in 0..edges {
            let name: NveName = format!("edge-{index}").parse().unwrap();
            world.edges.push(Edge {
                name: name.clone(),
                keying: None,
                run: 0,
                meetings: Meetings::new(name),
                plane: Plane::default(),
                flows: BTreeSet::new(),
                told: BTreeMap::new(),
                word: BTreeMap::new(),
                ahead: Duration::ZERO,
                reports: Vec::new(),
            });
            world.start(index);
        }
        world.at(TICK, Item::Tick);
        world
    }

    fn at(&mut self, after: Duration, item: Item) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), item);
    }

    pub fn between(&mut self, low: u64, high: u64) -> Duration {
        ms(self.rng.u64(low..=high))
    }

    pub fn index(&self, name: &NveName) -> usize {
        self.edges.iter().position(|it| it.name == *name).unwrap()
    }

    /// A VN with these members, or this VN's members from now on.
    pub fn declare(&mut self, vn: &str, members: &[usize]) {
        let vn: VnName = vn.parse().unwrap();
        let names: BTreeSet<_> = members
            .iter()
            .map(|at| self.edges[*at].name.clone())
            .collect();
        let (epoch, former) = self.vns.remove(&vn).unwrap_or_default();
        let epoch = Epoch(epoch.0 + 1);
        for name in former.union(&names) {
            let index = self.index(name);
            let members = names.contains(name).then(|| names.clone());
            if members.is_none() {
                self.excuse(index);
            }
            self.word(index, &vn, epoch, members);
        }
        self.vns.insert(vn, (epoch, names));
    }

    fn word(&mut self, edge: usize, vn: &VnName, epoch: Epoch, to: Option<BTreeSet<NveName>>) {
        if self.edges[edge].keying.is_some() {
            self.edges[edge].word.insert(vn.clone(), epoch);
        }
        let after = self.between(1, self.conduct.slowest_word);
        let run = self.edges[edge].run;
        self.at(after, Item::Word(edge, run, vn.clone(), epoch, to));
    }

    /// A guest of `from` sends to one of `to`'s through each of so many workers.
    pub fn flow(&mut self, vn: &str, from: usize, to: usize, workers: u16) {
        let peer = self.edges[to].name.clone();
        for worker in 0..workers {
            let flow = (vn.parse().unwrap(), peer.clone(), worker);
            self.edges[from].flows.insert(flow);
        }
    }

    /// Ends an edge's process, and starts it again later.
    pub fn restart(&mut self, edge: usize, after: Duration) {
        self.excuse(edge);
        self.edges[edge].keying = None;
        self.edges[edge].run += 1; // What was on its way is nobody's now.
        self.edges[edge].plane = Plane::default();
        self.edges[edge].told.clear();
        self.edges[edge].word.clear();
        self.forget_links_of(edge);
        self.at(after, Item::Start(edge));
    }

    fn start(&mut self, index: usize) {
        let seed = self.rng.u64(..);
        let boot = BootId(self.rng.u128(..).to_be_bytes());
        let config = self.config.clone();
        let edge = &mut self.edges[index];
        if edge.keying.is_some() {
            return;
        }
        edge.run += 1;
        edge.meetings = Meetings::new(edge.name.clone());
        edge.keying = Some(Keying::new(
            config,
            edge.name.clone(),
            boot,
            seed,
            Box::new(Rss),
        ));
        let name = edge.name.clone();
        for (vn, (epoch, members)) in self.vns.clone() {
            if members.contains(&name) {
                self.word(index, &vn, epoch, Some(members));
            }
        }
    }

    pub fn excuse(&mut self, edge: usize) {
        for other in 0..self.edges.len() {
            self.excused.insert((edge, other));
            self.excused.insert((other, edge));
        }
    }

    /// Gives an edge an event, and takes what comes of it.
    pub fn give(&mut self, index: usize, event: Event) {
        let now = self.now + self.edges[index].ahead;
        if let Some(keying) = &mut self.edges[index].keying {
            keying.handle(now, event);
            self.collect(index);
        }
    }

    fn collect(&mut self, index: usize) {
        while let Some(output) = self.edges[index].keying.as_mut().and_then(Keying::poll) {
            match output {
                Output::Send { session, bytes, .. } => self.transmit(index, session, bytes),
                Output::Connect { peer } => self.dial(index, &peer),
                Output::Close { session, .. } => self.close_by(session.0 as usize, index),
                Output::Report(report) => self.edges[index].reports.push(report),
                order => {
                    let after = self.between(0, 3);
                    let at = (self.now + after).max(self.edges[index].plane.free_at);
                    self.edges[index].plane.free_at = at;
                    let run = self.edges[index].run;
                    self.at(at - self.now, Item::Order(index, run, order));
                }
            }
        }
        self.check_limits(index);
    }

    /// When the next thing happens.
    fn next(&self) -> Duration {
        let queue = self.queue.keys().next().map(|(at, _)| *at);
        let edges = self.edges.iter().filter_map(|edge| {
            let at = edge.keying.as_ref()?.next_timeout()?;
            Some(at.saturating_sub(edge.ahead))
        });
        edges.chain(queue).min().unwrap_or(self.now).max(self.now)
    }

    /// Until everybody runs and has heard the authority's last word.
    pub fn settle(&mut self) {
        let heard = |world: &Self| {
            let mut edges = world.edges.iter();
            edges.all(|edge| edge.keying.is_some() && edge.told == edge.word)
        };
        while !heard(self) {
            self.run(ms(1));
        }
    }

    /// Lets so much time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while self.next() <= end {
            let before = self.now;
            self.now = self.next();
            steps = if before == self.now { steps + 1 } else { 0 };
            assert!(steps < 10_000, "time stands still");
            for index in 0..self.edges.len() {
                let edge = &mut self.edges[index];
                let now = self.now + edge.ahead;
                let Some(keying) = &mut edge.keying else {
                    continue;
                };
                if keying.next_timeout().is_some_and(|at| at <= now) {
                    keying.handle_timeout(now);
                    self.collect(index);
                }
            }
            while let Some(entry) = self.queue.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let item = entry.remove();
                self.happen(item);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, item: Item) {
        match item {
            Item::Up(link, edge) => self.link_up(link, edge),
            Item::Down(link, edge) => self.link_down(link, edge),
            Item::Arrive(link, edge, bytes) => self.arrive(link, edge, bytes),
            Item::Probe(link) => self.probe(link),
            Item::Flush(link, side) => self.flush(link, side),
            Item::Beat(link, side) => self.beat(link, side),
            Item::Ping(link, side) => self.ping(link, side),
            Item::Pong(link, side) => self.pong(link, side),
            Item::Order(edge, run, order) if self.edges[edge].run == run => {
                self.carry_out(edge, order);
            }
            Item::Answer(edge, run, event) if self.edges[edge].run == run => {
                self.give(edge, event);
            }
            Item::Order(..) | Item::Answer(..) => {}
            Item::Word(edge, run, vn, epoch, members) => {
                let told = self.edges[edge].told.get(&vn).copied().unwrap_or_default();
                let here = self.edges[edge].run == run && self.edges[edge].keying.is_some();
                if told >= epoch || !here {
                    return;
                }
                self.edges[edge].told.insert(vn.clone(), epoch);
                let algorithm = SaAlgorithm::Aes256Gcm;
                let event = match members {
                    Some(members) => Event::Members {
                        vn,
                        epoch,
                        algorithm,
                        members,
                    },
                    None => Event::Left { vn },
                };
                self.give(edge, event);
            }
            Item::Start(edge) => self.start(edge),
            Item::Tick => {
                self.tick();
                self.at(TICK, Item::Tick);
            }
            Item::Packet(from, to, spi, key) => self.packet(from, to, spi, key),
        }
    }

    fn answer(&mut self, edge: usize, id: OrderId, done: bool) {
        let event = if done {
            Event::Installed { id }
        } else {
            let why = "no room".to_owned();
            Event::Failed { id, why }
        };
        let after = self.between(0, 3);
        let run = self.edges[edge].run;
        self.at(after, Item::Answer(edge, run, event));
    }
}
