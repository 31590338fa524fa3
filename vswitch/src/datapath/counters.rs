//! What one worker counts. Plain numbers of its own: nothing is shared or atomic.

use serde::Serialize;
use vswitch_vn::PortId;

use super::books::{Books, Verdicts};
use super::latency::Follower;
use super::observe::Place;
use super::verdict::Class;
use crate::dpdk::cache;

/// Packets and bytes in both directions of a port, tunnel or VN.
///
/// For a port, rx is what the switch received from it; for a tunnel, rx is what came from
/// the peer (bytes of inner frames).
// One cache line: of many networks, each packet waits for another's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[repr(align(64))]
pub struct Traffic {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received, Ethernet header included, FCS not.
    pub rx_bytes: u64,
    /// Packets received and then dropped.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that should have been sent and were dropped.
    pub tx_dropped: u64,
}

/// Packets and bytes of one burst, entered at its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    packets: u64,
    bytes: u64,
}

impl Sum {
    /// One more packet.
    #[inline]
    pub fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }

    /// One that was added is none.
    #[inline]
    pub fn remove(&mut self, bytes: usize) {
        self.packets -= 1;
        self.bytes -= bytes as u64;
    }
}

impl Traffic {
    /// Counts received packets.
    #[inline]
    pub fn rx_all(&mut self, sum: Sum) {
        self.rx_packets += sum.packets;
        self.rx_bytes += sum.bytes;
    }

    /// Counts sent packets.
    #[inline]
    pub fn tx_all(&mut self, sum: Sum) {
        self.tx_packets += sum.packets;
        self.tx_bytes += sum.bytes;
    }

    /// Adds another worker's figures.
    pub fn merge(&mut self, other: &Traffic) {
        self.rx_packets += other.rx_packets;
        self.rx_bytes += other.rx_bytes;
        self.rx_dropped += other.rx_dropped;
        self.tx_packets += other.tx_packets;
        self.tx_bytes += other.tx_bytes;
        self.tx_dropped += other.tx_dropped;
    }

    /// Counts one received packet.
    #[inline]
    pub fn rx(&mut self, bytes: usize) {
        self.rx_packets += 1;
        self.rx_bytes += bytes as u64;
    }

    /// Counts one sent packet.
    #[inline]
    pub fn tx(&mut self, bytes: usize) {
        self.tx_packets += 1;
        self.tx_bytes += bytes as u64;
    }
}

/// A table of [`Traffic`] by dense id, grown at change time and never while packets pass.
#[derive(Debug, Clone, Default)]
pub struct TrafficTable(Vec<Traffic>);

impl TrafficTable {
    /// Makes room for id `id`.
    pub fn reserve(&mut self, id: usize) {
        if self.0.len() <= id {
            self.0.resize(id + 1, Traffic::default());
        }
    }

    /// The entry of `id`; an id without room is counted nowhere.
    #[inline]
    pub fn get_mut(&mut self, id: usize) -> Option<&mut Traffic> {
        self.0.get_mut(id)
    }

    /// The entry of `id`.
    #[inline]
    pub fn get(&self, id: usize) -> Option<&Traffic> {
        self.0.get(id)
    }

    /// Asks for the entry of `id`.
    #[inline(always)]
    pub fn prefetch(&self, id: usize) {
        if let Some(entry) = self.0.get(id) {
            cache::prefetch(entry);
        }
    }

    /// Forgets what a removed id counted, so that its successor starts at zero.
    pub fn clear(&mut self, id: usize) {
        if let Some(entry) = self.0.get_mut(id) {
            *entry = Traffic::default();
        }
    }

    /// Bytes of all entries.
    pub fn memory_bytes(&self) -> usize {
        self.0.capacity() * size_of::<Traffic>()
    }

    /// All entries by id.
    pub fn entries(&self) -> &[Traffic] {
        &self.0
    }
}

/// Whose traffic a transmit queue carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// A tenant port.
    Port(PortId),
    /// An underlay port.
    Underlay(u16),
    /// The tap beside an underlay port.
    Tap(u16),
    /// A trunk device: its VLAN ports are counted one by one, before.
    Trunk,
}

impl Account {
    /// Whether its packets carry a note of the tunnel or VLAN port they belong to.
    #[inline]
    pub fn has_notes(self) -> bool {
        matches!(self, Account::Underlay(_) | Account::Trunk)
    }

    /// Where its packets go, if that is one place.
    pub fn place(self) -> Option<Place> {
        match self {
            Account::Port(port) => Some(Place::Port(port)),
            Account::Underlay(port) => Some(Place::Underlay(port)),
            Account::Tap(port) => Some(Place::Tap(port)),
            Account::Trunk => None,
        }
    }
}

/// Everything a worker counts.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Packets taken from receive queues.
    pub received: u64,
    /// Packets made here.
    pub generated: u64,
    /// Copies made here.
    pub copied: u64,
    /// Packets taken over from other workers.
    pub handed_in: u64,
    /// Endings.
    pub verdicts: Verdicts,
    /// By tenant or VLAN port.
    pub ports: TrafficTable,
    /// By virtual network.
    pub vns: TrafficTable,
    /// By tunnel: one (VN, peer) pair.
    pub tunnels: TrafficTable,
    /// By underlay port.
    pub underlays: TrafficTable,
    /// By underlay port: the tap beside it.
    pub taps: TrafficTable,
    /// TSC ticks of loop passes that found packets.
    pub busy_ticks: u64,
    /// TSC ticks of loop passes that found none.
    pub idle_ticks: u64,
    /// Latencies, of packets that are followed through the worker.
    pub latency: Follower,
}

impl Counters {
    /// The entry of an account, if it has one.
    pub fn account(&mut self, account: Account) -> Option<&mut Traffic> {
        match account {
            Account::Port(port) => self.ports.get_mut(port.index()),
            Account::Underlay(port) => self.underlays.get_mut(usize::from(port)),
            Account::Tap(port) => self.taps.get_mut(usize::from(port)),
            Account::Trunk => None,
        }
    }

    /// Bytes of it with all tables.
    pub fn memory_bytes(&self) -> usize {
        let tables = [
            &self.ports,
            &self.vns,
            &self.tunnels,
            &self.underlays,
            &self.taps,
        ];
        let tables: usize = tables.map(TrafficTable::memory_bytes).iter().sum();
        size_of::<Self>() + tables + self.latency.memory_bytes()
    }

    /// The books, with `held` packets still in the worker's hands.
    pub fn books(&self, held: u64) -> Books {
        Books {
            received: self.received,
            generated: self.generated,
            copied: self.copied,
            handed_in: self.handed_in,
            sent: self.verdicts.of_class(Class::Sent),
            dropped: self.verdicts.of_class(Class::Dropped),
            consumed: self.verdicts.of_class(Class::Consumed),
            handed_out: self.verdicts.of_class(Class::HandedOut),
            held,
        }
    }
}
