//! Transmit sides: packets gather in a burst and leave together; what a queue refuses is
//! counted under its reason and freed, never retried in a spin.

use vswitch_vn::{PortId, TunnelId};

use super::command::WorkerId;
use super::counters::{Account, Counters};
use super::latency::Side;
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

/// Which tunnel (on an underlay port) or VLAN port (on a trunk) an outgoing packet belongs to
/// and how long its frame is without what was put before it, so that their counters tell what
/// the queue took and not what was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note(u64);

impl Note {
    /// No tunnel's.
    pub const NONE: Note = Note(0);

    /// A frame of `len` bytes in a tunnel.
    #[inline]
    pub fn tunnel(tunnel: TunnelId, len: usize) -> Self {
        Note((u64::from(tunnel.0) + 1) << 32 | len as u64 & 0xffff_ffff)
    }

    /// A frame of `len` bytes for a VLAN port.
    #[inline]
    pub fn vlan(port: PortId, len: usize) -> Self {
        Note((u64::from(port.0) + 1) << 32 | len as u64 & 0xffff_ffff)
    }

    /// What a packet carries. Means something only on its way to an underlay port or a trunk.
    #[inline]
    pub(super) fn of(packet: &Mbuf) -> Self {
        Note(packet.note())
    }

    /// Leaves it with the packet.
    #[inline]
    pub fn put(self, packet: &mut Mbuf) {
        packet.set_note(self.0);
    }

    /// Counts the packet for whom it was, at a queue of this account.
    #[inline]
    pub(super) fn count(self, queue: Account, sent: bool, counters: &mut Counters) {
        Self::count_all(&[self], queue, sent, counters);
    }

    /// Counts packets, of which those of one tunnel or port mostly follow one another.
    #[inline]
    fn count_all(notes: &[Note], queue: Account, sent: bool, counters: &mut Counters) {
        let table = match queue {
            Account::Underlay(_) => &mut counters.tunnels,
            Account::Trunk => &mut counters.ports,
            Account::Port(_) | Account::Tap(_) => return,
        };
        for run in notes.chunk_by(|a, b| a.0 >> 32 == b.0 >> 32) {
            let Some(traffic) = run
                .first()
                .and_then(|first| (first.0 >> 32).checked_sub(1))
                .and_then(|id| table.get_mut(id as usize))
            else {
                continue;
            };
            if sent {
                traffic.tx_packets += run.len() as u64;
                traffic.tx_bytes += run.iter().map(|note| note.0 & 0xffff_ffff).sum::<u64>();
            } else {
                traffic.tx_dropped += run.len() as u64;
            }
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
            self.charge(&packet, counters);
            counters.end(Verdict::NotContiguous, packet);
            return;
        }
        if self.waiting.is_full() {
            self.flush(reader, counters);
        }
        self.waiting.push(packet);
    }

    /// As [`Self::push`], for many.
    #[inline]
    pub fn push_all<P: Probe>(
        &mut self,
        packets: impl Iterator<Item = Mbuf>,
        reader: &Reader,
        counters: &mut Ledger<P>,
    ) {
        for packet in packets {
            if P::OBSERVES || P::DRY || !packet.is_contiguous() || self.waiting.is_full() {
                self.push(packet, reader, counters);
            } else {
                self.waiting.push(packet);
            }
        }
    }

    /// Sends what has gathered.
    pub fn flush<P: Probe>(&mut self, reader: &Reader, counters: &mut Ledger<P>) {
        if self.waiting.is_empty() {
            return;
        }
        let all = self.waiting.len() as u64;
        // What is taken is gone, so what it was is read before.
        let (mut bytes, mut notes) = (0, [Note::NONE; BURST]);
        if self.account.has_notes() {
            for (packet, note) in self.waiting.iter().zip(&mut notes) {
                bytes += packet.len() as u64;
                *note = Note::of(packet);
            }
        } else {
            bytes = self.waiting.iter().map(|p| p.len() as u64).sum();
        }
        let mut leaving = counters.giving(&mut self.waiting);
        let followed = counters.latency.is_among(&self.waiting);
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
                counters.latency.lost(&long);
                drop(long);
                counters.gave(&mut leaving, 1, self.refused);
                let more = self.queue.send(reader, &mut self.waiting);
                counters.gave(&mut leaving, more, self.sent);
                sent += more as u64;
            }
        }
        if followed {
            counters.latency.left(Side::of(self.account), &self.waiting);
        }
        let mut left = given_up_bytes;
        if !self.waiting.is_empty() {
            left += self.waiting.iter().map(|p| p.len() as u64).sum::<u64>();
        }
        counters.gave(&mut leaving, BURST, self.refused);
        counters.verdicts.add(self.sent, sent);
        counters.verdicts.add(self.refused, all - sent);
        if let Some(traffic) = counters.account(self.account) {
            traffic.tx_packets += sent;
            traffic.tx_bytes += bytes - left;
            traffic.tx_dropped += all - sent;
        }
        if self.account.has_notes() {
            let (gone, refused) = notes.split_at((sent as usize).min(BURST));
            let refused = refused.get(..(all - sent) as usize).unwrap_or_default();
            Note::count_all(gone, self.account, true, counters);
            Note::count_all(refused, self.account, false, counters);
        }
        if !self.waiting.is_empty() {
            free_burst(&mut self.waiting);
        }
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

    /// Charges a packet that is not sent to whom it was for.
    fn charge(&self, packet: &Mbuf, counters: &mut Counters) {
        if let Some(traffic) = counters.account(self.account) {
            traffic.tx_dropped += 1;
        }
        Note::of(packet).count(self.account, false, counters);
    }

    /// The queue, to be given back; what still waits is counted as refused.
    pub fn retire<P: Probe>(mut self, counters: &mut Ledger<P>) -> Queue {
        for packet in &self.waiting {
            self.charge(packet, counters);
        }
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
