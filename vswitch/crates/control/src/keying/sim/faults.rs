//! What goes wrong, drawn from the seed.

use super::links::Conduct;
use super::{World, ms};
use crate::keying::{Direction, Event, SaInfo, SaState};

/// What a schedule may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    /// Nothing that takes an SA from anybody: sessions die, networks part, messages are slow and
    /// repeated, keys are replaced, members are added. Every packet must be opened.
    Gentle,
    /// Everything.
    Rough,
}

impl World {
    pub fn misbehave(&mut self) {
        self.conduct = Conduct {
            slowest: self.rng.u64(1..200),
            slowest_word: self.rng.u64(1..1000),
            repeated: self.rng.u64(0..30),
            failing: self.rng.u64(0..100),
            cut: self.conduct.cut.clone(),
        };
    }

    fn two(&mut self) -> (usize, usize) {
        let a = self.rng.usize(0..self.edges.len());
        let b = (a + self.rng.usize(1..self.edges.len())) % self.edges.len();
        (a, b)
    }

    fn some_sa(&mut self, direction: Direction) -> Option<(usize, SaInfo)> {
        let edge = self.rng.usize(0..self.edges.len());
        let keying = self.edges[edge].keying.as_ref()?;
        let there = |sa: &SaInfo| sa.direction == direction && sa.state == SaState::Live;
        let sas: Vec<_> = keying.sas().filter(there).collect();
        Some((edge, self.rng.choice(sas)?))
    }

    /// One thing.
    pub fn fault(&mut self, temper: Temper) {
        let what = self
            .rng
            .u8(0..if temper == Temper::Gentle { 9 } else { 16 });
        match what {
            0 => self.close_some(),
            1 => {
                let (a, b) = self.two();
                self.part(a, b);
            }
            2 => self.conduct.cut.clear(),
            7 => {
                let way = self.two();
                self.conduct.cut.insert(way);
            }
            8 => self.cross_dials(),
            3 | 4 => {
                if let Some((edge, sa)) = self.some_sa(Direction::Outbound) {
                    let SaInfo {
                        vn,
                        peer,
                        worker,
                        spi,
                        ..
                    } = sa;
                    let event = Event::SoftLimit {
                        vn,
                        peer,
                        worker,
                        spi,
                    };
                    self.give(edge, event);
                }
            }
            5 => self.misbehave(),
            6 => self.change_members(true),
            9 | 10 => self.change_members(false),
            11 => {
                let edge = self.rng.usize(0..self.edges.len());
                let after = self.between(10, 1000);
                self.restart(edge, after);
            }
            12 => {
                let edge = self.rng.usize(0..self.edges.len());
                self.excuse(edge); // Its drains are over at once.
                self.edges[edge].ahead += ms(self.rng.u64(1..10_000_000));
            }
            13 => {
                if let Some((edge, sa)) = self.some_sa(Direction::Outbound) {
                    let flow = (sa.vn.clone(), sa.peer.clone(), sa.worker);
                    let outbound = &mut self.edges[edge].plane.outbound;
                    outbound.remove(&flow);
                    let SaInfo {
                        vn,
                        peer,
                        worker,
                        spi,
                        ..
                    } = sa;
                    let event = Event::HardLimit {
                        vn,
                        peer,
                        worker,
                        spi,
                    };
                    self.give(edge, event);
                }
            }
            14 | 15 => {
                let direction = [Direction::Inbound, Direction::Outbound][usize::from(what - 14)];
                if let Some((edge, sa)) = self.some_sa(direction) {
                    self.excuse(edge);
                    let SaInfo { vn, peer, spi, .. } = sa;
                    let event = Event::Idle {
                        vn,
                        peer,
                        direction,
                        spi,
                    };
                    self.give(edge, event);
                }
            }
            _ => {}
        }
    }

    /// Sessions begin twice and in any order, dialled by one or by both, though there may be one.
    pub fn cross_dials(&mut self) {
        let (a, b) = self.two();
        for _ in 0..self.rng.u8(1..=4) {
            let (from, to) = if self.rng.bool() { (a, b) } else { (b, a) };
            if self.edges[from].keying.is_some() {
                self.begin_dial(from, to);
            }
        }
    }

    /// Adds a member to a VN, or removes one.
    fn change_members(&mut self, add: bool) {
        let names: Vec<_> = self.vns.keys().cloned().collect();
        let vn = self.rng.choice(names).unwrap();
        let edge = self.rng.usize(0..self.edges.len());
        let members = &self.vns[&vn].1;
        let mut members: Vec<_> = members.iter().map(|name| self.index(name)).collect();
        if members.contains(&edge) {
            if !add {
                members.retain(|member| *member != edge);
            }
        } else {
            members.push(edge);
        }
        self.declare(vn.as_str(), &members);
    }
}
