//! Transmit sides: packets gather in a burst and leave together; what a queue refuses is
//! counted under its reason and freed, never retried in a spin.

use arrayvec::ArrayVec;
use vswitch_vn::TunnelId;

use super::command::WorkerId;
use super::counters::{Account, Counters};
use super::ledger::Ledger;
use super::observe::Step;
use super::probe::Probe;
use super::verdict::Verdict;
use crate::dpdk::mbuf::{BURST, Burst, Mbuf, free_burst};
use crate::dpdk::queue::TxQueue;
use crate::dpdk::quiescence::Reader;
use crate::dpdk::vhost::VhostTx;

/// A queue that takes bursts.
pub enum Queue {
    /// Of an Ethernet device.
    Ethernet(TxQueue),
    /// Of a vhost device.
    Vhost(VhostTx),
}

impl Queue {
    fn send(&mut self, reader: &Reader, burst: &mut Burst) -> usize {
        match self {
            Queue::Ethernet(queue) => queue.send(burst),
            Queue::Vhost(queue) => queue.send(reader, burst),
        }
    }

    /// Whether a chain of buffers may be given to it.
    fn takes_chains(&self) -> bool {
        match self {
            Queue::Ethernet(queue) => queue.accepts_chains(),
            Queue::Vhost(_) => true,
        }
    }
}

/// Which tunnel an outgoing packet belongs to and how long its inner frame is, so that a
/// tunnel's counters tell what the port took and not what was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelNote(u64);

impl TunnelNote {
    /// No tunnel's.
    pub const NONE: TunnelNote = TunnelNote(0);

    /// A frame of `len` bytes in a tunnel.
    #[inline]
    pub fn new(tunnel: TunnelId, len: usize) -> Self {
        TunnelNote((u64::from(tunnel.0) + 1) << 32 | len as u64 & 0xffff_ffff)
    }

    #[inline]
    fn of(packet: &Mbuf) -> Self {
        TunnelNote(packet.note())
    }

    /// Leaves it with the packet.
    #[inline]
    pub fn put(self, packet: &mut Mbuf) {
        packet.set_note(self.0);
    }

    #[inline]
    fn count(self, sent: bool, counters: &mut Counters) {
        let Some(tunnel) = (self.0 >> 32).checked_sub(1) else {
            return;
        };
        let Some(traffic) = counters.tunnels.get_mut(tunnel as usize) else {
            return;
        };
        if sent {
            traffic.tx(self.0 as u32 as usize);
        } else {
            traffic.tx_dropped += 1;
        }
    }
}

/// What a guest's single receive buffer holds at least: an untagged frame of 1500 bytes.
const ONE_BUFFER: usize = 1514;
/// Frames given up in one flush at most.
const GIVEN_UP: usize = 4;

/// One queue with the packets that wait for the end of the burst.
pub struct Outlet {
    queue: Queue,
    waiting: Burst,
    sent: Verdict,
    refused: Verdict,
    account: Account,
}

impl Outlet {
    /// An outlet whose packets end as `sent` or `refused` and are counted for `account`.
    pub fn new(queue: Queue, sent: Verdict, refused: Verdict, account: Account) -> Self {
        Outlet {
            queue,
            waiting: Burst::new(),
            sent,
            refused,
            account,
        }
    }

    /// Gathers a packet, for which a full burst makes room by leaving.
    #[inline]
    pub fn push<P: Probe>(&mut self, mut packet: Mbuf, reader: &Reader, counters: &mut Ledger<P>) {
        if let Some(place) = self.account.place() {
            counters.step(&packet, || Step::Queued(place));
        }
        if P::DRY {
            // As if the queue had taken it.
            return counters.end(self.sent, packet);
        }
        if !packet.is_contiguous() && !self.queue.takes_chains() && packet.linearize().is_err() {
            counters.end(Verdict::NotContiguous, packet);
            return;
        }
        if self.waiting.is_full() {
            self.flush(reader, counters);
        }
        self.waiting.push(packet);
    }

    /// Sends what has gathered.
    pub fn flush<P: Probe>(&mut self, reader: &Reader, counters: &mut Ledger<P>) {
        if self.waiting.is_empty() {
            return;
        }
        let all = self.waiting.len() as u64;
        let bytes: u64 = self.waiting.iter().map(|p| p.len() as u64).sum();
        let notes: ArrayVec<TunnelNote, BURST> = match self.account {
            // What is taken is gone, so what it was is read before.
            Account::Underlay(_) => self.waiting.iter().map(TunnelNote::of).collect(),
            _ => ArrayVec::new(),
        };
        let mut leaving = counters.giving(&mut self.waiting);
        let mut sent = self.queue.send(reader, &mut self.waiting) as u64;
        counters.gave(&mut leaving, sent as usize, self.sent);
        // A guest refuses what its buffers are too small for, and with it all that is behind:
        // those that may be too long are given up one by one, and not what follows them.
        let mut given_up = 0;
        let mut given_up_bytes = 0;
        if matches!(self.queue, Queue::Vhost(_)) {
            while self
                .waiting
                .first()
                .is_some_and(|first| first.len() > ONE_BUFFER)
                && self.waiting.len() > 1
                && given_up < GIVEN_UP
            {
                let long = self.waiting.remove(0);
                given_up_bytes += long.len() as u64;
                given_up += 1;
                drop(long);
                counters.gave(&mut leaving, 1, self.refused);
                let more = self.queue.send(reader, &mut self.waiting);
                counters.gave(&mut leaving, more, self.sent);
                sent += more as u64;
            }
        }
        let left: u64 = self.waiting.iter().map(|p| p.len() as u64).sum::<u64>() + given_up_bytes;
        counters.gave(&mut leaving, BURST, self.refused);
        counters.verdicts.add(self.sent, sent);
        counters.verdicts.add(self.refused, all - sent);
        if let Some(traffic) = counters.account(self.account) {
            traffic.tx_packets += sent;
            traffic.tx_bytes += bytes - left;
            traffic.tx_dropped += all - sent;
        }
        for (i, note) in notes.iter().enumerate() {
            note.count((i as u64) < sent, counters);
        }
        free_burst(&mut self.waiting);
    }

    /// Sends a burst at once behind what has gathered, its packets ending as `sent`.
    pub fn pass<P: Probe>(
        &mut self,
        burst: &mut Burst,
        sent: Verdict,
        reader: &Reader,
        counters: &mut Ledger<P>,
    ) {
        self.flush(reader, counters);
        let usual = std::mem::replace(&mut self.sent, sent);
        for packet in burst.drain(..) {
            self.push(packet, reader, counters);
        }
        self.flush(reader, counters);
        self.sent = usual;
    }

    /// Packets gathered and not yet sent.
    pub fn held(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// The queue, to be given back; what still waits is counted as refused.
    pub fn retire<P: Probe>(mut self, counters: &mut Ledger<P>) -> Queue {
        counters.end_all(self.refused, &mut self.waiting);
        self.queue
    }
}

/// How a worker reaches a port: by a queue of its own, or through a colleague.
pub enum Way {
    /// Own queue.
    Mine(Box<Outlet>),
    /// The worker that owns the queue.
    Via(WorkerId),
    /// Nobody: the port is down.
    Down,
}
