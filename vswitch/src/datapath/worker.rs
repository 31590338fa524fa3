//! The worker: one thread, one loop, everything in its hands its own.
//!
//! A pass takes a burst from every input in turn, carries it through the stages to the
//! outlets, and flushes them; then it is at a burst boundary, where commands take effect.

use std::collections::VecDeque;
use std::thread;

use crossbeam::channel::{Receiver, Sender};
use vswitch_aead::Backend;
use vswitch_policy::TokenBucket;
use vswitch_vn::{PortId, Tables, TunnelId};

use super::attachment::Attachment;
use super::command::{Command, Event, WorkerId};
use super::counters::Counters;
use super::demand::{IdleSweep, Terms, Waiting};
use super::handoff::Handoff;
use super::latency::Follower;
use super::ledger::Ledger;
use super::observe::{Observation, Observer, Rehearsal};
use super::outlet::Way;
use super::police::KernelPolice;
use super::probe::{NoProbe, Probe, Stage};
use super::resolve::Misses;
use super::sas::SaTable;
use super::sightings::Sightings;
use super::snapshot::WorkerSnapshot;
use super::tunnels::TunnelTable;
use super::underlay::Endpoints;
use super::verdict::Verdict;
use super::vlan::VlanPort;
use crate::dpdk::mbuf::{BURST, Burst, Mbuf};
use crate::dpdk::mempool::Mempool;
use crate::dpdk::queue::RxQueue;
use crate::dpdk::quiescence::Reader;
use crate::dpdk::time::{self, TscClock};

/// What a worker does when a pass found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Look again at once: the core is the worker's alone.
    Poll,
    /// Let others have the core, and sleep for moments when it stays quiet.
    Yield,
}

/// An Ethernet input.
pub struct Input {
    /// What arrives here.
    pub kind: InputKind,
    /// The queue.
    pub queue: RxQueue,
}

/// Which role an input's port plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// An underlay port.
    Underlay(u16),
    /// The tap beside an underlay port.
    Tap(u16),
    /// A device that carries VLANs.
    Trunk(u16),
}

/// Everything that is decided before a worker starts.
pub struct WorkerSetup {
    /// Its number.
    pub id: WorkerId,
    /// What to do when idle.
    pub idle: Idle,
    /// Buffers of its NUMA node.
    pub pool: Mempool,
    /// The AEAD implementation.
    pub backend: &'static dyn Backend,
    /// Seed of the forwarding tables' hash, random.
    pub seed: u64,
    /// Ethernet queues to receive from.
    pub inputs: Vec<Input>,
    /// Ways to the underlay ports, by index.
    pub underlays: Vec<Way>,
    /// Ways to the taps beside them, by index.
    pub taps: Vec<Way>,
    /// Ways to the devices with VLANs, by index.
    pub trunks: Vec<Way>,
    /// IP MTU of each of these devices.
    pub trunk_mtus: Vec<u16>,
    /// Rings to and from the other workers.
    pub handoff: Handoff,
    /// Local endpoints of tunnels.
    pub endpoints: Endpoints,
    /// Packets per second that the host kernel is given, for this worker.
    pub kernel_rate: u64,
    /// Converts TSC ticks.
    pub clock: TscClock,
    /// Commands.
    pub mailbox: Receiver<Command>,
    /// Reports.
    pub events: Sender<Event>,
    /// For teardown by publish-then-synchronize.
    pub reader: Reader,
}

/// A worker. `P` times the stages in benchmarks and is nothing in production.
pub struct Worker<P: Probe = NoProbe> {
    pub(super) id: WorkerId,
    idle: Idle,
    pub(super) pool: Mempool,
    pub(super) backend: &'static dyn Backend,
    pub(super) inputs: Vec<Input>,
    pub(super) underlays: Vec<Way>,
    pub(super) taps: Vec<Way>,
    pub(super) trunks: Vec<Way>,
    pub(super) handoff: Handoff,
    pub(super) endpoints: Endpoints,
    pub(super) police: KernelPolice,
    mailbox: Receiver<Command>,
    pub(super) events: Sender<Event>,
    pub(super) reader: Reader,
    pub(super) tables: Tables,
    pub(super) attachments: Vec<Option<Box<Attachment>>>,
    /// Ids of attachments that this worker receives from.
    pub(super) polled: Vec<PortId>,
    pub(super) tunnels: TunnelTable,
    pub(super) sas: SaTable,
    pub(super) counters: Ledger<P>,
    /// Drops that somebody should know of.
    pub(super) sightings: Sightings,
    /// Frames that wait for keys.
    pub(super) keyless: Waiting,
    /// On which terms keys are made on demand.
    pub(super) terms: Option<Terms>,
    /// How far the search for idle SAs is.
    pub(super) idle_sweep: Option<IdleSweep>,
    /// Unknown destinations reported lately.
    pub(super) misses: Misses,
    /// Frames on their way into a tunnel, gathered for one batch: [`SEAL_BATCH`] at most, for
    /// which there always is room.
    pub(super) sealing: Vec<Gathered>,
    /// Tenants' ports whose outlets hold packets.
    pub(super) waiting: Vec<PortId>,
    /// Answers that the control side has had no room for yet.
    pub(super) answers: VecDeque<Event>,
    /// By VLAN device and VLAN identifier: the port.
    pub(super) vlans: Vec<Vec<Option<PortId>>>,
    /// By port: the VLAN that it is. A few bytes each, where attachments are far apart.
    pub(super) vlan_ports: Vec<Option<VlanPort>>,
    /// IP MTU of each VLAN device.
    pub(super) trunk_mtus: Vec<u16>,
    /// Reports of learned addresses, limited.
    pub(super) learned_reports: TokenBucket,
    /// TSC at the start of the pass.
    pub(super) now: u64,
    pub(super) clock: TscClock,
    pub(super) turn: Turn,
}

/// What a worker does at the next burst boundary.
#[derive(Default)]
pub(super) enum Turn {
    /// Goes on.
    #[default]
    On,
    /// Ends.
    Stop,
    /// Makes a dry run and goes on.
    Rehearse(Box<Rehearsal>),
    /// Goes on as one that observes.
    Observe(Box<Observation>),
    /// Goes on as one that does not.
    Blind,
}

/// Packets sealed together at most.
pub const SEAL_BATCH: usize = 64;

/// A frame on its way into a tunnel.
pub(super) struct Gathered {
    pub(super) packet: Mbuf,
    pub(super) tunnel: TunnelId,
    /// A colleague handed it in: it is not handed on once more.
    pub(super) handed_in: bool,
}

/// Learned addresses reported per second at most, so that a station that flips between two
/// places cannot crowd other reports out.
const LEARNED_REPORTS: u64 = 1_000;

/// How long a quiet worker sleeps.
const REST: std::time::Duration = std::time::Duration::from_micros(50);

/// How many seconds a worker that stops waits for colleagues that stop too.
const LAST_WORDS: u64 = 1;

/// Commands looked at per boundary, so that a flood of them cannot stop the traffic.
const COMMANDS_PER_BOUNDARY: usize = 64;

impl<P: Probe> Worker<P> {
    /// A worker with no ports, tunnels or SAs yet: those come as commands.
    pub fn new(setup: WorkerSetup, probe: P) -> Self {
        let mut counters = Counters {
            latency: Follower::new(setup.clock),
            ..Counters::default()
        };
        counters.underlays.reserve(setup.underlays.len());
        counters.taps.reserve(setup.taps.len());
        let now = time::tsc();
        Worker {
            id: setup.id,
            idle: setup.idle,
            pool: setup.pool,
            backend: setup.backend,
            inputs: setup.inputs,
            underlays: setup.underlays,
            taps: setup.taps,
            trunks: setup.trunks,
            handoff: setup.handoff,
            endpoints: setup.endpoints,
            police: KernelPolice::new(setup.kernel_rate, setup.clock.hz(), now),
            mailbox: setup.mailbox,
            events: setup.events,
            reader: setup.reader,
            tables: Tables::new(setup.seed),
            attachments: Vec::new(),
            polled: Vec::new(),
            tunnels: TunnelTable::default(),
            sas: SaTable::new(setup.seed.rotate_left(32)),
            counters: Ledger::new(counters, probe),
            sightings: Sightings::default(),
            keyless: Waiting::default(),
            terms: None,
            idle_sweep: None,
            misses: Misses::new(setup.seed),
            sealing: Vec::with_capacity(SEAL_BATCH),
            waiting: Vec::new(),
            answers: VecDeque::new(),
            vlans: Vec::new(),
            vlan_ports: Vec::new(),
            trunk_mtus: setup.trunk_mtus,
            learned_reports: TokenBucket::new(
                LEARNED_REPORTS,
                LEARNED_REPORTS,
                setup.clock.hz(),
                now,
            ),
            now,
            clock: setup.clock,
            turn: Turn::On,
        }
    }

    /// Runs until its turn is another.
    fn work(&mut self) -> Turn {
        let mut quiet = 0_u32;
        let mut before = time::tsc();
        while matches!(self.turn, Turn::On) {
            let packets = self.pass();
            if packets == 0 && self.idle == Idle::Yield {
                quiet = quiet.saturating_add(1);
                self.rest(quiet);
            }
            let after = time::tsc();
            if packets > 0 {
                quiet = 0;
                self.counters.busy_ticks += after.wrapping_sub(before);
            } else {
                self.counters.idle_ticks += after.wrapping_sub(before);
            }
            before = after;
        }
        std::mem::take(&mut self.turn)
    }

    /// As [`Self::work`], with the dry runs in between.
    fn serve(mut self) -> (Self, Turn) {
        loop {
            match self.work() {
                Turn::Rehearse(rehearsal) => {
                    let id = rehearsal.id;
                    let (mut worker, outcome) = self.dry_run(*rehearsal);
                    worker.answer(Event::Rehearsed(id, Box::new(outcome)));
                    self = worker;
                }
                turn => return (self, turn),
            }
        }
    }

    /// The same worker with another probe, and the probe that it had. At a burst boundary.
    pub(super) fn with_probe<Q: Probe>(self, probe: Q) -> (Worker<Q>, P) {
        let (counters, old) = self.counters.into_parts();
        let worker = Worker {
            counters: Ledger::new(counters, probe),
            id: self.id,
            idle: self.idle,
            pool: self.pool,
            backend: self.backend,
            inputs: self.inputs,
            underlays: self.underlays,
            taps: self.taps,
            trunks: self.trunks,
            handoff: self.handoff,
            endpoints: self.endpoints,
            police: self.police,
            mailbox: self.mailbox,
            events: self.events,
            reader: self.reader,
            tables: self.tables,
            attachments: self.attachments,
            polled: self.polled,
            tunnels: self.tunnels,
            sas: self.sas,
            sightings: self.sightings,
            keyless: self.keyless,
            terms: self.terms,
            idle_sweep: self.idle_sweep,
            misses: self.misses,
            sealing: self.sealing,
            waiting: self.waiting,
            answers: self.answers,
            vlans: self.vlans,
            vlan_ports: self.vlan_ports,
            trunk_mtus: self.trunk_mtus,
            learned_reports: self.learned_reports,
            now: self.now,
            clock: self.clock,
            turn: self.turn,
        };
        (worker, old)
    }

    /// One pass over all inputs, then the burst boundary. Returns the packets taken up.
    pub fn pass(&mut self) -> usize {
        self.now = time::tsc();
        self.counters.latency.pass_begins(self.now);
        if !self.keyless.is_empty() {
            self.tend_waiting();
        }
        if self.idle_sweep.is_some() {
            self.sweep_idle();
        }
        let mut packets = 0;
        packets += self.poll_ethernet();
        packets += self.poll_tenants();
        packets += self.poll_colleagues();
        self.flush();
        self.counters.latency.pass_ends();
        self.boundary();
        packets
    }

    /// Lets other threads of the core run. The sleep is short, so that what arrives
    /// meanwhile waits less than it would in a scheduler's queue.
    fn rest(&mut self, quiet: u32) {
        if quiet < 64 {
            thread::yield_now();
        } else {
            self.reader.offline(|| thread::sleep(REST));
        }
    }

    /// Seals what gathered and sends what the outlets hold.
    fn flush(&mut self) {
        self.seal();
        self.counters.probe.enter();
        for way in self
            .underlays
            .iter_mut()
            .chain(&mut self.taps)
            .chain(&mut self.trunks)
        {
            if let Way::Mine(outlet) = way {
                outlet.flush(&self.reader, &mut self.counters);
            }
        }
        for port in self.waiting.drain(..) {
            if let Some(Some(attachment)) = self.attachments.get_mut(port.index())
                && let Way::Mine(outlet) = &mut attachment.way
            {
                outlet.flush(&self.reader, &mut self.counters);
            }
        }
        self.handoff.flush(&mut self.counters);
        self.counters.probe.leave(Stage::Transmit, 0);
    }

    /// The burst boundary: nothing is held, commands take effect.
    fn boundary(&mut self) {
        self.reader.quiesce();
        self.counters.probe.boundary();
        while let Some(event) = self.answers.pop_front() {
            if let Err(full) = self.events.try_send(event) {
                self.answers.push_front(full.into_inner());
                break;
            }
        }
        for _ in 0..COMMANDS_PER_BOUNDARY {
            match self.mailbox.try_recv() {
                Ok(Command::Stop) => {
                    self.turn = Turn::Stop;
                    return;
                }
                Ok(command) => self.apply(command),
                Err(crossbeam::channel::TryRecvError::Empty) => return,
                Err(crossbeam::channel::TryRecvError::Disconnected) => {
                    self.turn = Turn::Stop;
                    return;
                }
            }
            if !matches!(self.turn, Turn::On) {
                return;
            }
        }
    }

    /// Packets in this worker's hands.
    pub fn held(&self) -> u64 {
        let outlets = self.underlays.iter().chain(&self.taps).chain(&self.trunks);
        let attached = self.attachments.iter().flatten().map(|a| &a.way);
        let waiting: u64 = outlets
            .chain(attached)
            .map(|way| {
                if let Way::Mine(outlet) = way {
                    outlet.held()
                } else {
                    0
                }
            })
            .sum();
        waiting + (self.sealing.len() + self.keyless.len()) as u64 + self.handoff.held()
    }

    /// The counters and SAs at this moment.
    pub fn snapshot(&self) -> WorkerSnapshot {
        WorkerSnapshot {
            worker: self.id,
            counters: self.counters.clone(),
            held: self.held(),
            sas: self.sas.snapshot(self.id),
            memory: self.memory(),
        }
    }

    /// The counters, for benchmarks and tests that drive [`Self::pass`] themselves.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The probe, likewise.
    pub fn probe(&mut self) -> &mut P {
        &mut self.counters.probe
    }

    /// Empties the rings, so that every packet has its verdict, and reports for the last
    /// time. A colleague may stop later and hand something in until then.
    fn finish_up(mut self) {
        self.end_waiting(Verdict::Stopping, |_| true);
        self.handoff.close(&mut self.counters);
        let deadline = self.now + self.clock.hz() * LAST_WORDS;
        let mut burst = Burst::new();
        for i in 0..self.handoff.inputs() {
            loop {
                let closed = self.handoff.is_closed(i);
                let n = self.handoff.receive(i, &mut burst);
                for mut packet in burst.drain(..) {
                    self.counters.hand_in(0, false, &mut packet);
                    Handoff::charge(&packet, &mut self.counters);
                    self.counters.end(Verdict::Stopping, packet);
                }
                if n == 0 {
                    // One that hangs is not waited for.
                    if closed || time::tsc() > deadline {
                        break;
                    }
                    self.reader.quiesce();
                    thread::yield_now();
                }
            }
        }
        if let Some(seen) = self.sightings.take() {
            let _ = self.events.send(Event::Seen(self.id, seen));
        }
        let last = Box::new(self.snapshot());
        // The control side waits for this; if it is gone, there is nobody to tell.
        let _ = self.events.send(Event::Stopped(self.id, last));
    }
}

impl Worker<NoProbe> {
    /// Runs until told to stop. While somebody watches its packets it is another type of
    /// worker, so that watching costs nothing while nobody does.
    pub fn run(mut self) {
        loop {
            let (worker, turn) = self.serve();
            self = match turn {
                Turn::Observe(first) => {
                    let observer = Observer::new(worker.id, first);
                    let (observing, turn) = worker.with_probe(observer).0.serve();
                    if let Turn::Stop = turn {
                        return observing.finish_up();
                    }
                    observing.with_probe(NoProbe).0
                }
                Turn::Stop => return worker.finish_up(),
                Turn::On | Turn::Blind | Turn::Rehearse(_) => worker,
            };
        }
    }
}

impl Worker<Observer> {
    /// What [`Worker::run`] makes of it when nobody watches any more; for benchmarks.
    pub fn unwatched(self) -> Worker<NoProbe> {
        self.with_probe(NoProbe).0
    }
}

const _: () = assert!(SEAL_BATCH >= BURST, "a whole burst must fit into one batch");
