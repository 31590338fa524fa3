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
            slowest_loss: self.rng.u64(1..1000),
            repeated: self.rng.u64(0..30),
            failing: self.rng.u64(0..100),
            parted: self.conduct.parted.clone(),
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
            .u8(0..if temper == Temper::Gentle { 7 } else { 14 });
        match what {
            0 if !self.links.is_empty() => {
                let link = self.rng.usize(0..self.links.len());
                self.kill_link(link);
            }
            1 => {
                let (a, b) = self.two();
                self.part(a, b);
            }
            2 => self.conduct.parted.clear(),
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
            7 | 8 => self.change_members(false),
            9 => {
                let edge = self.rng.usize(0..self.edges.len());
                let after = self.between(10, 1000);
                self.restart(edge, after);
            }
            10 => {
                let edge = self.rng.usize(0..self.edges.len());
                self.excuse(edge); // Its drains are over at once.
                self.edges[edge].ahead += ms(self.rng.u64(1..10_000_000));
            }
            11 => {
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
            12 | 13 => {
                let direction = [Direction::Inbound, Direction::Outbound][usize::from(what - 12)];
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
