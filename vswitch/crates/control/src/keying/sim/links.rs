//! Sessions between edges: in order and without loss while they live, and they die.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Item, World};
use crate::keying::{Event, SessionId};
use crate::types::NveName;

/// How badly everything behaves.
#[derive(Debug, Clone)]
pub struct Conduct {
    /// Slowest message, in ms.
    pub slowest: u64,
    /// Slowest word of the authority, in ms.
    pub slowest_word: u64,
    /// How long a dead session is thought alive, at most, in ms.
    pub slowest_loss: u64,
    /// Of a thousand messages those that are played again later, in whatever session there is then.
    pub repeated: u64,
    /// Of a thousand installs those that fail.
    pub failing: u64,
    /// Pairs of edges that cannot reach one another.
    pub parted: BTreeSet<(usize, usize)>,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            slowest: 20,
            slowest_word: 100,
            slowest_loss: 200,
            repeated: 0,
            failing: 0,
            parted: BTreeSet::new(),
        }
    }
}

/// One session. Its number is its place in the list.
pub struct Link {
    /// Who dialled, who was.
    ends: [usize; 2],
    runs: [u64; 2],
    alive: bool,
    /// Which ends have been told that it is there, and not that it is gone.
    up: [bool; 2],
    /// When the last message to each end arrives.
    last: [Duration; 2],
    binding: [u8; 32],
}

impl World {
    pub fn is_parted(&self, a: usize, b: usize) -> bool {
        self.conduct.parted.contains(&(a.min(b), a.max(b)))
    }

    /// Neither packet of a session between them gets through.
    pub fn part(&mut self, a: usize, b: usize) {
        self.conduct.parted.insert((a.min(b), a.max(b)));
        for link in 0..self.links.len() {
            let ends = self.links[link].ends;
            if ends == [a, b] || ends == [b, a] {
                self.kill_link(link);
            }
        }
    }

    pub fn dial(&mut self, from: usize, peer: &NveName) {
        let to = self.index(peer);
        let ends = [from, to];
        let running = ends.map(|end| self.edges[end].keying.is_some());
        let before = self
            .links
            .iter()
            .any(|link| link.alive && link.ends == ends);
        if running != [true, true] || self.is_parted(from, to) || before {
            return;
        }
        let up = [self.between(10, 40), self.between(10, 40)];
        let link = self.links.len();
        let mut binding = [0; 32];
        self.rng.fill(&mut binding);
        self.links.push(Link {
            ends,
            runs: ends.map(|end| self.edges[end].run),
            alive: true,
            up: [false; 2],
            last: up.map(|up| self.now + up),
            binding,
        });
        for (end, up) in ends.into_iter().zip(up) {
            self.at(up, Item::Up(link, end));
        }
    }

    /// Of two sessions that of the smaller dialler stays, of two of the same dialler the newer one.
    pub fn link_up(&mut self, link: usize, edge: usize) {
        let side = usize::from(self.links[link].ends[1] == edge);
        let it = &self.links[link];
        let (ends, binding) = (it.ends, it.binding);
        if !it.alive || it.runs[side] != self.edges[edge].run {
            return;
        }
        let other = ends[1 - side];
        let rival = self.links.iter().position(|it| {
            let at = usize::from(it.ends[1] == edge);
            it.alive && it.up[at] && (it.ends == ends || it.ends == [ends[1], ends[0]])
        });
        if let Some(rival) = rival {
            if self.links[rival].ends[0] < ends[0] {
                self.kill_link(link);
                return;
            }
            self.kill_link(rival);
        }
        self.links[link].up[side] = true;
        let event = Event::SessionUp {
            peer: self.edges[other].name.clone(),
            session: SessionId(link as u64),
            binding,
        };
        self.give(edge, event);
    }

    pub fn kill_link(&mut self, link: usize) {
        if !core::mem::take(&mut self.links[link].alive) {
            return;
        }
        for edge in self.links[link].ends {
            let after = self.between(0, self.conduct.slowest_loss);
            self.at(after, Item::Down(link, edge));
        }
    }

    pub fn kill_links_of(&mut self, edge: usize) {
        for link in 0..self.links.len() {
            if self.links[link].ends.contains(&edge) {
                self.kill_link(link);
            }
        }
    }

    pub fn link_down(&mut self, link: usize, edge: usize) {
        let it = &mut self.links[link];
        let side = usize::from(it.ends[1] == edge);
        let was = core::mem::take(&mut it.up[side]);
        let (other, run) = (it.ends[1 - side], it.runs[side]);
        if was && run == self.edges[edge].run {
            let event = Event::SessionDown {
                peer: self.edges[other].name.clone(),
                session: SessionId(link as u64),
            };
            self.give(edge, event);
        }
    }

    pub fn transmit(&mut self, from: usize, session: SessionId, bytes: Vec<u8>) {
        let link = session.0 as usize;
        let side = usize::from(self.links[link].ends[0] == from);
        let to = self.links[link].ends[side];
        if !self.links[link].alive {
            return;
        }
        if self.rng.u64(0..1000) < self.conduct.repeated {
            let after = self.between(0, 500);
            self.at(after, Item::Arrive(usize::MAX, to, bytes.clone()));
        }
        let after = self.between(1, self.conduct.slowest);
        let at = (self.now + after).max(self.links[link].last[side]);
        self.links[link].last[side] = at;
        self.at(at - self.now, Item::Arrive(link, to, bytes));
    }

    pub fn arrive(&mut self, link: usize, edge: usize, bytes: Vec<u8>) {
        // Played again: in the latest session that this edge has.
        let latest = || {
            self.links
                .iter()
                .rposition(|it| it.alive && it.ends.contains(&edge))
        };
        let link = match link {
            usize::MAX => latest(),
            link => Some(link).filter(|link| self.links[*link].alive),
        };
        let Some(link) = link else {
            return;
        };
        let it = &self.links[link];
        let side = usize::from(it.ends[1] == edge);
        if it.runs[side] != self.edges[edge].run || it.runs[side] == 0 {
            return;
        }
        let event = Event::Message {
            peer: self.edges[it.ends[1 - side]].name.clone(),
            session: SessionId(link as u64),
            bytes,
        };
        self.give(edge, event);
    }

    /// Everything behaves again; what is dead is found dead soon.
    pub fn calm(&mut self) {
        self.conduct = Conduct::default();
    }
}
