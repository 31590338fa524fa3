//! A data plane: SAs as installed, workers with packets, and whether those can be opened.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Item, World};
use crate::keying::{Event, Output, Steering};
use crate::types::{NveName, VnName};

/// What a worker sends: VN, peer, worker.
pub type Flow = (VnName, NveName, u16);

pub const QUEUES: u16 = 4;

/// RSS as the last bits of the SPI; a third of all SPIs are somebody else's.
pub struct Rss;

impl Steering for Rss {
    fn owner(&self, _: &VnName, _: &NveName, sender_worker: u16) -> u16 {
        sender_worker % QUEUES
    }

    fn free(&self, spi: u32) -> bool {
        !spi.is_multiple_of(3)
    }

    fn steers(&self, _: &NveName, spi: u32, worker: u16) -> bool {
        spi % u32::from(QUEUES) == u32::from(worker)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    pub vn: VnName,
    pub peer: NveName,
    pub worker: u16,
    pub key: [u8; 36],
}

#[derive(Default)]
pub struct Plane {
    pub inbound: BTreeMap<u32, Inbound>,
    pub outbound: BTreeMap<Flow, (u32, [u8; 36])>,
    pub shares: BTreeMap<Flow, u16>,
    /// SAs closed because of a limit.
    pub limits: usize,
    pub free_at: Duration,
}

impl World {
    pub fn carry_out(&mut self, edge: usize, order: Output) {
        let fails = self.rng.u64(0..1000) < self.conduct.failing;
        match order {
            Output::InstallInbound {
                id,
                vn,
                peer,
                sender_worker,
                owner,
                spi,
                secret,
                ..
            } => {
                assert!(spi >= 256 && Rss.free(spi) && Rss.steers(&peer, spi, owner));
                let key = *secret.expose();
                assert!(self.keys[0].insert(key), "a key was installed twice");
                if !fails {
                    let worker = sender_worker;
                    let sa = Inbound {
                        vn,
                        peer,
                        worker,
                        key,
                    };
                    let former = self.edges[edge].plane.inbound.insert(spi, sa);
                    assert_eq!(former, None, "an SPI twice at one receiver");
                }
                self.answer(edge, id, !fails);
            }
            Output::InstallOutbound {
                id,
                vn,
                peer,
                worker,
                spi,
                secret,
                ..
            } => {
                let key = *secret.expose();
                assert!(self.keys[1].insert(key), "a key was used twice");
                if !fails {
                    let to = self.index(&peer);
                    self.check_twin(edge, to, &vn, worker, (spi, key));
                    let flow = (vn, peer, worker);
                    self.edges[edge].plane.shares.remove(&flow);
                    self.edges[edge].plane.outbound.insert(flow, (spi, key));
                }
                self.answer(edge, id, !fails);
            }
            Output::RemoveInbound { vn, peer, spi } => {
                let sa = self.edges[edge].plane.inbound.remove(&spi);
                assert!(sa.is_none_or(|sa| sa.vn == vn && sa.peer == peer));
            }
            Output::RemoveOutbound {
                vn,
                peer,
                worker,
                spi,
                limit,
            } => {
                self.edges[edge].plane.limits += usize::from(limit);
                let flow = (vn, peer, worker);
                let outbound = &mut self.edges[edge].plane.outbound;
                if outbound.get(&flow).is_some_and(|(now, _)| *now == spi) {
                    outbound.remove(&flow);
                }
            }
            Output::Share {
                vn,
                peer,
                worker,
                with,
            } => {
                let shares = &mut self.edges[edge].plane.shares;
                shares.insert((vn, peer, worker), with);
            }
            Output::Send { .. }
            | Output::Connect { .. }
            | Output::Close { .. }
            | Output::Report(_) => unreachable!("not the data plane's"),
        }
    }

    /// Every worker has packets for all its flows.
    pub fn tick(&mut self) {
        for edge in 0..self.edges.len() {
            if self.edges[edge].keying.is_none() {
                continue;
            }
            for flow in self.edges[edge].flows.clone() {
                match self.sa_of(edge, &flow) {
                    Some((spi, key)) => {
                        let to = self.index(&flow.1);
                        let after = self.between(0, 50);
                        self.at(after, Item::Packet(edge, to, spi, key));
                    }
                    None => {
                        let (vn, peer, worker) = flow;
                        self.give(edge, Event::Need { vn, peer, worker });
                    }
                }
            }
        }
    }

    /// What a flow is sent with, its own SA or a shared one.
    pub fn sa_of(&self, edge: usize, flow: &Flow) -> Option<(u32, [u8; 36])> {
        let plane = &self.edges[edge].plane;
        if let Some(sa) = plane.outbound.get(flow) {
            return Some(*sa);
        }
        let with = *plane.shares.get(flow)?;
        let shared = (flow.0.clone(), flow.1.clone(), with);
        plane.outbound.get(&shared).copied()
    }

    pub fn packet(&mut self, from: usize, to: usize, spi: u32, key: [u8; 36]) {
        let sa = self.edges[to].plane.inbound.get(&spi);
        if sa.is_some_and(|sa| sa.key == key && sa.peer == self.edges[from].name) {
            self.opened += 1;
        } else {
            self.missed += 1;
            let excused = self.excused.contains(&(from, to));
            assert!(
                excused,
                "{:?}: {from} sent {spi:#x} to {to}, unopened",
                self.now
            );
        }
    }
}
