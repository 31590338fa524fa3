//! Sessions between edges as QUIC has them: in order and without loss while they live. Each end has
//! its own view of whether it does, by silence (`Liveness::SHORT`), by the other's last word if that
//! gets through, or because the other says that it knows of none; only a process that was started
//! anew says nothing of what it forgot. Who dials and what stays is decided by `meetings`, as in
//! `vswitchd`.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::wire::BEAT;
use super::{Item, World};
use crate::keying::{Event, SessionId};
use crate::session::{INITIAL_RTT, Limits, Liveness};
use crate::types::NveName;

/// How badly everything behaves.
#[derive(Debug, Clone)]
pub struct Conduct {
    /// Slowest message, in ms.
    pub slowest: u64,
    /// Slowest word of the authority, in ms.
    pub slowest_word: u64,
    /// Of a thousand messages those that are played again later, in whatever session there is then.
    pub repeated: u64,
    /// Of a thousand installs those that fail.
    pub failing: u64,
    /// From whom to whom nothing of a session gets through.
    pub cut: BTreeSet<(usize, usize)>,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            slowest: 20,
            slowest_word: 100,
            repeated: 0,
            failing: 0,
            cut: BTreeSet::new(),
        }
    }
}

/// What became of sessions: each kind has to occur in some run.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Ended by silence.
    pub silent: u64,
    /// Ended because the other end knows of none.
    pub unknown: u64,
    /// Sessions of which one end was up and the other already gone.
    pub half_open: u64,
    /// Messages that came behind another try.
    pub late: u64,
    /// Sessions that were refused for another.
    pub refused: u64,
    /// Sessions that replaced another.
    pub replaced: u64,
    /// Dials beside one that had led to nothing yet.
    pub dialled_again: u64,
}

impl Seen {
    fn all(&mut self) -> [(&'static str, &mut u64); 7] {
        [
            ("silent", &mut self.silent),
            ("unknown", &mut self.unknown),
            ("half open", &mut self.half_open),
            ("late", &mut self.late),
            ("refused", &mut self.refused),
            ("replaced", &mut self.replaced),
            ("dialled again", &mut self.dialled_again),
        ]
    }

    pub fn add(&mut self, other: &Self) {
        let mut other = other.clone();
        for ((_, sum), (_, more)) in self.all().into_iter().zip(other.all()) {
            *sum += *more;
        }
    }

    /// Each kind has occurred.
    pub fn check(&self) {
        for (name, number) in self.clone().all() {
            assert!(*number > 0, "{name}: never");
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The handshake is not over here.
    New,
    Up,
    Dead,
}

/// One end of a session.
pub struct End {
    pub edge: usize,
    pub run: u64,
    pub state: State,
    /// Said here and not gone out yet.
    pub queue: VecDeque<Vec<u8>>,
    /// Tries of the first of these; none while nothing waits.
    pub tries: Option<u32>,
    /// Came here before the handshake was over.
    pub early: Vec<Vec<u8>>,
    /// When the last message to here arrives.
    pub last: Duration,
    /// When something was last heard, and what was first said since.
    pub heard: Duration,
    pub said: Option<Duration>,
    /// Since then.
    pub pings: u32,
    pub next_ping: Duration,
}

impl End {
    fn new(edge: usize, run: u64) -> Self {
        Self {
            edge,
            run,
            state: State::New,
            queue: VecDeque::new(),
            tries: None,
            early: Vec::new(),
            last: Duration::ZERO,
            heard: Duration::ZERO,
            said: None,
            pings: 0,
            next_ping: Duration::ZERO,
        }
    }

    pub fn hears(&mut self, now: Duration) {
        (self.heard, self.said, self.pings) = (now, None, 0);
        self.next_ping = now + Liveness::SHORT.keepalive;
    }
}

/// One session. Its number is its place in the list.
pub struct Link {
    /// Who dialled, who was.
    pub ends: [End; 2],
    begun: Duration,
    probes: u32,
    binding: [u8; 32],
}

impl World {
    pub fn passes(&self, link: usize, side: usize) -> bool {
        let ends = &self.links[link].ends;
        let way = (ends[side].edge, ends[1 - side].edge);
        !self.conduct.cut.contains(&way)
    }

    pub fn side(&self, link: usize, edge: usize) -> usize {
        usize::from(self.links[link].ends[1].edge == edge)
    }

    /// Neither packet of a session between them gets through.
    pub fn part(&mut self, a: usize, b: usize) {
        self.conduct.cut.extend([(a, b), (b, a)]);
    }

    /// A session is wished for.
    pub fn dial(&mut self, from: usize, peer: &NveName) {
        let now = self.now + self.edges[from].ahead;
        if self.edges[from].meetings.dials(now, peer) {
            let to = self.index(peer);
            let before = self.links.iter().any(|link| {
                let [a, b] = &link.ends;
                (a.edge, b.edge, a.run) == (from, to, self.edges[from].run) && a.state == State::New
            });
            self.seen.dialled_again += u64::from(before);
            self.begin_dial(from, to);
        }
    }

    /// Dials, whatever there is.
    pub fn begin_dial(&mut self, from: usize, to: usize) {
        let link = self.links.len();
        let mut binding = [0; 32];
        self.rng.fill(&mut binding);
        self.links.push(Link {
            ends: [from, to].map(|edge| End::new(edge, self.edges[edge].run)),
            begun: self.now,
            probes: 0,
            binding,
        });
        let now = self.now + self.edges[from].ahead;
        let peer = self.edges[to].name.clone();
        let meetings = &mut self.edges[from].meetings;
        meetings.dialling(now, peer, link as u64);
        self.at(Duration::ZERO, Item::Probe(link));
    }

    /// The first packet of a dial, again and again until the session is there.
    pub fn probe(&mut self, link: usize) {
        let it = &self.links[link];
        let [from, to] = [it.ends[0].edge, it.ends[1].edge];
        if it.ends[0].state != State::New || it.ends[0].run != self.edges[from].run {
            return;
        }
        if self.now >= it.begun + Limits::default().handshake_timeout {
            self.link_down(link, from);
            return;
        }
        let wait = 3 * INITIAL_RTT * (1 << it.probes.min(10));
        let there = self.edges[to].keying.is_some();
        if there && self.passes(link, 0) && self.passes(link, 1) {
            if self.links[link].ends[1].state == State::New {
                self.links[link].ends[1].run = self.edges[to].run;
            }
            let first = self.between(10, 40);
            let second = first + self.between(0, 30);
            self.at(first, Item::Up(link, to));
            self.at(second, Item::Up(link, from));
        }
        self.links[link].probes += 1;
        self.at(wait, Item::Probe(link));
    }

    pub fn link_up(&mut self, link: usize, edge: usize) {
        let side = self.side(link, edge);
        let it = &self.links[link];
        let (end, other) = (&it.ends[side], &it.ends[1 - side]);
        let begun = side == 1 || (self.passes(link, 1) && other.state != State::New);
        if end.state != State::New || end.run != self.edges[edge].run || !begun {
            return;
        }
        let peer = self.edges[other.edge].name.clone();
        let (number, binding) = (link as u64, it.binding);
        let now = self.now + self.edges[edge].ahead;
        let meetings = &mut self.edges[edge].meetings;
        let verdict = meetings.opened(now, &peer, number, side == 0);
        if !verdict.stays {
            self.seen.refused += 1;
            self.close(link, side);
            return;
        }
        for ended in verdict.ends {
            let ended = ended as usize;
            let side = self.side(ended, edge);
            self.seen.replaced += u64::from(self.links[ended].ends[side].state == State::Up);
            self.close(ended, side);
        }
        let end = &mut self.links[link].ends[side];
        end.state = State::Up;
        end.hears(self.now);
        let early = core::mem::take(&mut end.early);
        self.at(BEAT, Item::Beat(link, side));
        let session = SessionId(number);
        let event = Event::SessionUp {
            peer,
            session,
            binding,
        };
        self.give(edge, event);
        for bytes in early {
            self.arrive(link, edge, bytes);
        }
    }

    /// One end ends it, and says so once.
    fn close(&mut self, link: usize, side: usize) {
        let end = &mut self.links[link].ends[side];
        if end.state == State::Dead {
            return;
        }
        end.state = State::Dead;
        end.queue.clear();
        let other = &self.links[link].ends[1 - side];
        let (edge, alive) = (other.edge, other.state != State::Dead);
        let after = self.wire();
        if self.passes(link, side) {
            self.at(after, Item::Down(link, edge));
        } else {
            self.seen.half_open += u64::from(alive);
        }
    }

    /// One end ends it for a reason of its own.
    pub fn close_by(&mut self, link: usize, edge: usize) {
        let side = self.side(link, edge);
        let peer = self.links[link].ends[1 - side].edge;
        let was = self.links[link].ends[side].state;
        if self.links[link].ends[side].run != self.edges[edge].run || was != State::Up {
            return;
        }
        self.close(link, side);
        let peer = self.edges[peer].name.clone();
        if self.edges[edge].meetings.gone(&peer, link as u64) {
            let session = SessionId(link as u64);
            self.give(edge, Event::SessionDown { peer, session });
        }
    }

    /// Some end does.
    pub fn close_some(&mut self) {
        let ends = self.links.iter().enumerate().flat_map(|(link, it)| {
            let up = it.ends.iter().filter(|end| end.state == State::Up);
            up.map(move |end| (link, end.edge))
        });
        let ends: Vec<_> = ends.collect();
        if let Some((link, edge)) = self.rng.choice(ends) {
            self.close_by(link, edge);
        }
    }

    /// Whose process is gone says nothing.
    pub fn forget_links_of(&mut self, edge: usize) {
        for link in &mut self.links {
            for side in 0..2 {
                if link.ends[side].edge == edge && link.ends[side].state != State::Dead {
                    link.ends[side].state = State::Dead;
                    let other = link.ends[1 - side].state == State::Up;
                    self.seen.half_open += u64::from(other);
                }
            }
        }
    }

    /// An end learns that the session is no more.
    pub fn link_down(&mut self, link: usize, edge: usize) {
        let side = self.side(link, edge);
        let peer = self.links[link].ends[1 - side].edge;
        let peer = self.edges[peer].name.clone();
        let end = &mut self.links[link].ends[side];
        let was = core::mem::replace(&mut end.state, State::Dead);
        end.queue.clear();
        if end.run != self.edges[edge].run {
            return;
        }
        let session = SessionId(link as u64);
        let meetings = &mut self.edges[edge].meetings;
        match was {
            State::New if side == 0 => meetings.failed(&peer, link as u64),
            State::Up if meetings.gone(&peer, link as u64) => {
                self.give(edge, Event::SessionDown { peer, session });
            }
            _ => {}
        }
    }

    /// Everything behaves again.
    pub fn calm(&mut self) {
        self.conduct = Conduct::default();
    }
}
