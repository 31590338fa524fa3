//! Ours for packets from the underlay: the production worker in this process, on the same
//! drivers as the peer.
//!
//! Not `vswitchd`, because of replay protection: a capture that is played without end brings
//! every sequence number again, and a second time is refused. So here the worker is driven by
//! hand, and each time before the capture begins anew, its inbound association is replaced by a
//! fresh one that has seen no packet; that pass is not timed. All that is timed goes through
//! the full replay check and is let in.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use crossbeam::channel::{Receiver, Sender, bounded};
use vswitch::datapath::command::{Command, Event};
use vswitch::datapath::probe::NoProbe;
use vswitch::datapath::worker::Worker;
use vswitch::dpdk::ethdev::{Port, Queues};
use vswitch::dpdk::mbuf::{BURST, Burst, free_burst};
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::thread::{self, spawn_worker};
use vswitch::dpdk::time;
use vswitch_aead::Backend;
use vswitch_sa::Algorithm;

use super::{Ticks, frames, io};
use crate::datapath::alone::{Alone, EdgeQueues, alone, one_queue};
use crate::datapath::edge::{Common, Edge, PORT, Side, inbound};
use crate::datapath::frames::{FLOWS, Sender as From, write};

const ALGORITHM: Algorithm = Algorithm::Aes128Gcm;
const BUFFERS: u32 = 16384;
/// Bursts of the capture: as many as it has flows, 32 at once.
const BURSTS: usize = FLOWS as usize / BURST;

/// A worker on a thread of its own. Idle unless it measures.
pub struct Inward {
    thread: thread::Worker<anyhow::Result<()>>,
    orders: Sender<Duration>,
    found: Receiver<anyhow::Result<Ticks>>,
}

/// Starts it on `core`, with frames of `bytes` bytes, whose packets it writes to `capture`.
pub fn start(
    core: usize,
    backend: &'static dyn Backend,
    bytes: usize,
    capture: &Path,
) -> anyhow::Result<Inward> {
    let (orders, mailbox) = bounded::<Duration>(1);
    let (results, found) = bounded(1);
    let (ready, started) = bounded(1);
    let capture = capture.to_owned();
    let thread = spawn_worker("inward", core, move |_| {
        let mut near = match Near::new(backend, bytes, &capture) {
            Ok(near) => near,
            // Whoever waits is told by the channel's end.
            Err(error) => return Err(error),
        };
        ready.send(()).ok();
        while let Ok(time) = mailbox.recv() {
            results.send(near.measure(time)).ok();
        }
        Ok(())
    })?;
    let inward = Inward {
        thread,
        orders,
        found,
    };
    match started.recv() {
        Ok(()) => Ok(inward),
        Err(_) => match inward.stop() {
            Ok(()) => Err(anyhow!("the worker did not start")),
            Err(error) => Err(error),
        },
    }
}

impl Inward {
    /// Ticks and packets of a time.
    pub fn measure(&self, time: Duration) -> anyhow::Result<Ticks> {
        self.orders.send(time).context("the worker is gone")?;
        self.found.recv().context("the worker is gone")?
    }

    /// Ends it in order.
    pub fn stop(self) -> anyhow::Result<()> {
        drop(self.orders);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("the measuring thread panicked"))?
    }
}

/// The worker and its ports.
struct Near {
    backend: &'static dyn Backend,
    worker: Worker<NoProbe>,
    commands: Sender<Command>,
    _events: Receiver<Event>,
    _ports: [Port; 2],
}

impl Near {
    fn new(backend: &'static dyn Backend, bytes: usize, capture: &Path) -> anyhow::Result<Near> {
        let common = Common {
            pool: Mempool::create("inward", BUFFERS, 2048, None, false)?,
            backend,
            algorithm: Some(ALGORITHM),
            vns: 1,
        };
        frames::write(capture, &protected(&common, bytes)?)?;
        let (from, mut underlay) = open(&io::source(0, &[capture]), &common.pool)?;
        let (to, mut tenant) = open(&io::sink(0), &common.pool)?;
        let queues = EdgeQueues {
            from_underlay: underlay.rx.pop().context("receive queue")?,
            to_underlay: underlay.tx.pop().context("transmit queue")?,
            to_tenant: tenant.tx.pop().context("transmit queue")?,
        };
        let Alone {
            worker,
            commands,
            events,
        } = alone(Side::Near, &common, NoProbe, queues)?;
        let mut near = Near {
            backend,
            worker,
            commands,
            _events: events,
            _ports: [from, to],
        };
        // The first burst came before the worker knew anything.
        near.passes(BURSTS - 2)?;
        near.renew()?;
        Ok(near)
    }

    /// Ticks of so many passes, each with a full burst.
    fn passes(&mut self, passes: usize) -> anyhow::Result<u64> {
        let mut packets = 0;
        let start = time::tsc();
        for _ in 0..passes {
            packets += self.worker.pass();
        }
        let ticks = time::tsc().wrapping_sub(start);
        ensure!(packets == passes * BURST, "a burst was not full");
        Ok(ticks)
    }

    /// The capture's last burst, after which everything begins anew: the worker hears of its
    /// new association when it has passed on what it has in hand.
    fn renew(&mut self) -> anyhow::Result<()> {
        let fresh = Command::Transaction(vec![inbound(Side::Near, self.backend, ALGORITHM)?]);
        let sent = self.commands.send(fresh);
        sent.map_err(|_| anyhow!("the worker takes no commands"))?;
        self.passes(1).map(drop)
    }

    fn measure(&mut self, time: Duration) -> anyhow::Result<Ticks> {
        let before = self.worker.counters().books(self.worker.held());
        let (mut ticks, mut packets) = (0, 0);
        let began = Instant::now();
        while began.elapsed() < time {
            ticks += self.passes(BURSTS - 1)?;
            packets += ((BURSTS - 1) * BURST) as u64;
            self.renew()?;
        }
        let after = self.worker.counters().books(self.worker.held());
        ensure!(
            after.balance() && after.dropped == before.dropped,
            "packets were dropped: {before:?}, {after:?}"
        );
        Ok(Ticks { ticks, packets })
    }
}

fn open(devargs: &str, pool: &Mempool) -> anyhow::Result<(Port, Queues)> {
    let port = Port::open(devargs)?;
    let queues = one_queue(&port, pool)?;
    Ok((port, queues))
}

/// One packet for each flow, as the far side seals them, with consecutive sequence numbers.
fn protected(common: &Common, bytes: usize) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut far = Edge::new(Side::Far, common, NoProbe)?;
    let mut packets = Vec::new();
    let mut burst = Burst::new();
    for flow in 0..FLOWS {
        let mut frame = common.pool.alloc().context("the pool is too small")?;
        write(frame.append(bytes)?, From::Station, flow);
        burst.push(frame);
        far.worker.tenant_burst(PORT, &mut burst);
        far.worker.pass();
        far.from_underlay.receive(&mut burst);
        packets.extend(burst.iter().map(|packet| packet.head().to_vec()));
        free_burst(&mut burst);
    }
    far.check()?;
    ensure!(packets.len() == usize::from(FLOWS), "packets are missing");
    Ok(packets)
}
