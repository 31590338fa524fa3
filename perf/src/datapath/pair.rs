//! Two edges and a tunnel: the near one is timed, the far one makes its input and is not.

use std::sync::Arc;

use anyhow::ensure;
use crossbeam::channel::bounded;
use vswitch::datapath::observe::{Exchange, Match, Observation, Observer};
use vswitch::datapath::probe::{NoProbe, Probe};
use vswitch::dpdk::mbuf::{BURST, Burst, free_burst};
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::ring::Consumer;
use vswitch::dpdk::time;
use vswitch_vn::PortId;

use super::edge::{Common, Edge, PORT, Side, stations};
use super::frames::{self, Sender};
use crate::stats::Durations;

/// Bursts made ready before the near edge is timed over them: 256 packets, as many as VPP
/// takes at once, so that buffers are about as warm for both.
pub const WINDOW: usize = 8;

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the tenant's queue to the underlay port.
    Out,
    /// From the underlay port to the tenant's queue.
    In,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::Out, Direction::In];

    /// Name for cases.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::Out => "tenant-to-underlay",
            Direction::In => "underlay-to-tenant",
        }
    }
}

/// The two edges.
pub struct Pair<P: Probe> {
    /// The one that is measured.
    pub near: Edge<P>,
    far: Edge<NoProbe>,
    pool: Mempool,
    vns: u16,
    /// Whose turn it is.
    vn: u16,
    flow: u16,
}

impl Pair<Observer> {
    /// Two edges of which the near one looks for packets that never come.
    pub fn watched(common: &Common, filter: Match) -> anyhow::Result<Self> {
        let (reports, _nobody) = bounded(1);
        let observation = Observation {
            id: 0,
            filter,
            snaplen: 0,
            reports,
            lost: Arc::default(),
            exchange: Exchange::new(1),
        };
        Pair::new(common, Observer::new(0, Box::new(observation)))
    }

    /// The same when the near one looks no more.
    pub fn unwatched(self) -> Pair<NoProbe> {
        Pair {
            near: self.near.unwatched(),
            far: self.far,
            pool: self.pool,
            vns: self.vns,
            vn: self.vn,
            flow: self.flow,
        }
    }
}

impl<P: Probe> Pair<P> {
    /// Two edges that know of each other.
    pub fn new(common: &Common, probe: P) -> anyhow::Result<Self> {
        Ok(Pair {
            near: Edge::new(Side::Near, common, probe)?,
            far: Edge::new(Side::Far, common, NoProbe)?,
            pool: common.pool.clone(),
            vns: common.vns,
            vn: 0,
            flow: 0,
        })
    }

    /// Carries `windows` windows of frames of `bytes` bytes and returns the ticks that the
    /// near edge took, each burst's being recorded too. Making frames, the far edge and the
    /// return of buffers to their pool are not timed.
    pub fn round(
        &mut self,
        direction: Direction,
        bytes: usize,
        windows: usize,
        durations: &mut Durations,
    ) -> anyhow::Result<u64> {
        let mut total = 0;
        for _ in 0..windows {
            let mut bursts = self.frames(direction, bytes)?;
            if direction == Direction::In {
                self.cross(&mut bursts);
            }
            for burst in &mut bursts {
                // A tenant's queue belongs to one network, so a burst does.
                let port = self.next_port();
                let start = time::tsc();
                if direction == Direction::Out {
                    self.near.worker.tenant_burst(port, burst);
                }
                self.near.worker.pass();
                let ticks = time::tsc().wrapping_sub(start);
                durations.record(ticks);
                total += ticks;
            }
            let arrived = match direction {
                Direction::Out => drain(&mut self.near.from_underlay),
                Direction::In => drain(&mut self.near.from_tenant_port),
            };
            let sent = WINDOW * BURST;
            if arrived != sent {
                self.far.check()?;
                self.near.check()?;
            }
            ensure!(arrived == sent, "{arrived} of {sent} packets arrived");
        }
        Ok(total)
    }

    /// Sends one window from the near edge's tenant to the far edge's: what is timed must be
    /// worth timing. Returns how many arrived.
    pub fn prove(&mut self, bytes: usize) -> anyhow::Result<usize> {
        let mut outgoing = self.frames(Direction::Out, bytes)?;
        for burst in &mut outgoing {
            self.near.worker.tenant_burst(PORT, burst);
            self.near.worker.pass();
        }
        let mut burst = Burst::new();
        while self.near.from_underlay.receive(&mut burst) > 0 {
            self.far.to_underlay.send(&mut burst);
            free_burst(&mut burst);
            self.far.worker.pass();
        }
        self.near.check()?;
        self.far.check()?;
        Ok(drain(&mut self.far.from_tenant_port))
    }

    /// The port of the network whose turn it is.
    fn next_port(&mut self) -> PortId {
        let port = PortId(PORT.0 + self.vn);
        self.vn = (self.vn + 1) % self.vns;
        port
    }

    /// A window of frames, each of the next flow.
    fn frames(&mut self, direction: Direction, bytes: usize) -> anyhow::Result<[Burst; WINDOW]> {
        let sender = match direction {
            Direction::Out => Sender::Tenant,
            Direction::In => Sender::Station,
        };
        let mut bursts: [Burst; WINDOW] = Default::default();
        for burst in &mut bursts {
            let got = self.pool.alloc_burst(burst, BURST);
            ensure!(got == BURST, "the pool of buffers is too small");
            for packet in burst {
                frames::write(packet.append(bytes)?, sender, self.flow);
                self.flow = (self.flow + 1) % stations(self.vns);
            }
        }
        Ok(bursts)
    }

    /// Takes frames through the far edge to the near edge's underlay port: fresh sequence
    /// numbers every time.
    fn cross(&mut self, bursts: &mut [Burst]) {
        for burst in bursts {
            if self.vns == 1 {
                self.far.worker.tenant_burst(PORT, burst);
            } else {
                // Packet by packet of the next network: so they come from many peers.
                let mut one = Burst::new();
                for packet in std::mem::take(burst) {
                    one.push(packet);
                    let port = self.next_port();
                    self.far.worker.tenant_burst(port, &mut one);
                }
            }
            self.far.worker.pass();
            self.far.from_underlay.receive(burst);
            self.near.to_underlay.send(burst);
            // What found no room is missed at the end, and said then.
            free_burst(burst);
        }
    }
}

/// Empties a ring and says how many packets were in it.
fn drain(ring: &mut Consumer) -> usize {
    let mut burst = Burst::new();
    let mut packets = 0;
    while ring.receive(&mut burst) > 0 {
        packets += burst.len();
        free_burst(&mut burst);
    }
    packets
}
