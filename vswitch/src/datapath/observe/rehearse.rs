//! The dry run: what would happen to a packet, told by the code that would do it.
//!
//! At a burst boundary the worker becomes, for one packet, a `Worker<DryRun>`: the same tables,
//! SAs and ports, moved and not copied, under a probe whose [`Probe::DRY`] is true. What would
//! change the worker's state is then left out or undone, in these places and no others:
//!
//! * counters: [`Worker::rehearse`] puts others in their place for the time;
//! * transmit queues and rings: [`super::super::outlet::Outlet::push`] ends the packet as sent,
//!   [`super::super::handoff::Handoff::send`] sets it aside for the next worker's dry run;
//! * sequence numbers and nonces: `SaTable::rehearse_outbound` puts an SA with a throw-away
//!   key in the real one's place, which no dry run ever asks for a number;
//! * replay windows: [`vswitch_sa::Inbound::rehearse`] puts window and counters back; the
//!   durable floor is not written;
//! * token buckets: [`super::super::ledger::Ledger::admit`] takes from a copy;
//! * learning, and reports to the control side: skipped.

use vswitch_vn::{PortId, VnId};
use zeroize::Zeroizing;

use super::exchange::Key;
use super::record::{Place, Record};
use super::recorder::Recorder;
use super::step::Step;
use crate::datapath::command::WorkerId;
use crate::datapath::probe::{Probe, Stage};
use crate::datapath::verdict::Verdict;
use crate::datapath::worker::{InputKind, Worker};
use crate::dpdk::mbuf::{Burst, Mbuf};
use crate::dpdk::mempool::Mempool;

/// Key and salt of the longest algorithm, in bytes.
pub const SECRET_LEN: usize = 36;

/// A dry run that a worker is asked for.
pub struct Rehearsal {
    /// Comes back with the outcome.
    pub id: u64,
    /// The packet, and where its way in this worker begins.
    pub start: Start,
    /// Random: what is sealed is sealed under a key made of this, and never leaves.
    pub secret: Zeroizing<[u8; SECRET_LEN]>,
}

/// Where a dry run begins.
pub enum Start {
    /// A frame arrives from a tenant's port or a VLAN (without tag).
    Port(PortId, Vec<u8>),
    /// A packet arrives at an underlay port.
    Underlay(u16, Vec<u8>),
    /// What another worker set aside goes on here.
    Continue(Aside),
}

/// A packet on its way to another worker.
pub struct Aside {
    /// By whom.
    pub from: WorkerId,
    /// To whom.
    pub to: WorkerId,
    /// The packet.
    pub packet: Mbuf,
    /// What happened to it so far.
    pub record: Box<Record>,
}

/// What a dry run came to in one worker.
#[derive(Default)]
pub struct Outcome {
    /// Packets that ended here: the one injected, its copies, answers of the switch.
    pub ended: Vec<Box<Record>>,
    /// Packets that go on elsewhere.
    pub aside: Vec<Aside>,
    /// There was no buffer free for it.
    pub no_buffer: bool,
}

/// The probe of a dry run.
pub struct DryRun {
    recorder: Recorder,
    outcome: Outcome,
    secret: Zeroizing<[u8; SECRET_LEN]>,
}

impl Probe for DryRun {
    const OBSERVES: bool = true;
    const DRY: bool = true;

    fn enter(&mut self) {}

    fn leave(&mut self, _: Stage, _: usize) {}

    fn arrived(&mut self, from: Place, vn: Option<VnId>, packet: &Mbuf) {
        if let Some(record) = self.recorder.begin(from, vn, packet) {
            self.recorder.keep(packet, record);
        }
    }

    fn handed_in(&mut self, from: WorkerId, packet: &Mbuf) {
        self.recorder.step(packet, Step::HandedIn(from));
    }

    fn step(&mut self, packet: &Mbuf, step: Step) {
        self.recorder.step(packet, step);
    }

    fn copied(&mut self, original: &Mbuf, copy: Option<&Mbuf>) {
        match copy {
            Some(copy) => self.recorder.fork(original, copy, None),
            None => {
                let lost = self.recorder.stillborn(original, Verdict::BufferExhausted);
                self.outcome.ended.extend(lost);
            }
        }
    }

    fn generated(&mut self, about: &Mbuf, made: &Mbuf) {
        self.recorder.fork(about, made, Some(Step::Generated));
    }

    fn ended(&mut self, key: Key, verdict: Verdict) {
        let record = self.recorder.end(key, verdict);
        self.outcome.ended.extend(record);
    }

    fn set_aside(&mut self, to: WorkerId, packet: Mbuf) {
        self.recorder.step(&packet, Step::HandedOut(to));
        if let Some(record) = self.recorder.take(packet.key()) {
            let from = self.recorder.worker();
            self.outcome.aside.push(Aside {
                from,
                to,
                packet,
                record,
            });
        }
    }

    fn throw_away_secret(&self) -> &[u8] {
        &*self.secret
    }
}

impl<P: Probe> Worker<P> {
    /// A dry run at a burst boundary. The worker that comes back is as it was.
    pub(in crate::datapath) fn dry_run(self, rehearsal: Rehearsal) -> (Self, Outcome) {
        let Rehearsal { start, secret, .. } = rehearsal;
        let probe = DryRun {
            recorder: Recorder::small(self.id),
            outcome: Outcome::default(),
            secret,
        };
        let (mut dry, own) = self.with_probe(probe);
        dry.rehearse(start);
        let (worker, probe) = dry.with_probe(own);
        (worker, probe.outcome)
    }
}

impl Worker<DryRun> {
    fn rehearse(&mut self, start: Start) {
        let counters = std::mem::take(&mut *self.counters);
        let now = self.now;
        self.now = crate::dpdk::time::tsc();
        self.begin(start);
        self.seal();
        // Nothing waits in an outlet: what is pushed into one ends at once.
        self.waiting.clear();
        self.sas.end_rehearsal();
        self.now = now;
        *self.counters = counters;
    }

    fn begin(&mut self, start: Start) {
        let mut burst = Burst::new();
        match start {
            Start::Port(port, frame) => {
                let vlan = match self.attachments.get(port.index()) {
                    Some(Some(attachment)) => attachment.trunk.map(|d| (d, attachment.vid)),
                    _ => None,
                };
                match vlan {
                    None => {
                        burst.extend(self.packet(&frame));
                        self.tenant_burst(port, &mut burst);
                    }
                    Some((device, vid)) => {
                        burst.extend(self.packet(&tagged(&frame, vid)));
                        self.take_up(InputKind::Trunk(device), &mut burst);
                    }
                }
            }
            Start::Underlay(port, packet) => {
                burst.extend(self.packet(&packet));
                self.take_up(InputKind::Underlay(port), &mut burst);
            }
            Start::Continue(aside) => {
                let Aside {
                    from,
                    mut packet,
                    record,
                    ..
                } = aside;
                // A dry run follows a handful of packets.
                let _ = self.counters.probe.recorder.adopt(packet.key(), record);
                self.counters.hand_in(from, true, &mut packet);
                burst.push(packet);
                self.take_over(&mut burst);
            }
        }
    }

    /// The bytes in buffers of this worker, a chain if they are many.
    fn packet(&mut self, bytes: &[u8]) -> Option<Mbuf> {
        let packet = fill(&self.pool, bytes);
        self.counters.probe.outcome.no_buffer |= packet.is_none();
        packet
    }
}

fn fill(pool: &Mempool, mut bytes: &[u8]) -> Option<Mbuf> {
    let mut packet: Option<Mbuf> = None;
    loop {
        let mut segment = pool.alloc()?;
        let (now, rest) = bytes.split_at(bytes.len().min(segment.tailroom()));
        if now.is_empty() && !rest.is_empty() {
            return None;
        }
        segment.append(now.len()).ok()?.copy_from_slice(now);
        match &mut packet {
            Some(packet) => packet.append_segment(segment).ok()?,
            None => packet = Some(segment),
        }
        bytes = rest;
        if bytes.is_empty() {
            return packet;
        }
    }
}

/// As the frame arrives at a device that carries VLANs.
fn tagged(frame: &[u8], vid: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(frame.len().min(12));
    [addresses, &[0x81, 0x00], &vid.to_be_bytes(), rest].concat()
}
