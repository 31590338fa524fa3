//! The packets under observation in one worker, by buffer.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::exchange::Key;
use super::headers::Headers;
use super::record::{Place, Record};
use super::step::Step;
use crate::datapath::command::WorkerId;
use crate::datapath::verdict::Verdict;
use crate::dpdk::mbuf::Mbuf;
use crate::dpdk::time;
use vswitch_vn::{Destination, VnId};

/// Packets that one worker keeps records of at a time; those beyond count as lost.
pub const LIVE: usize = 4096;

/// Records kept for re-use, so that a packet that does not match costs no allocation.
const SPARE: usize = 512;

/// Records of packets on their way.
pub(super) struct Recorder {
    worker: WorkerId,
    live: HashMap<Key, Box<Record>, BuildHasherDefault<KeyHasher>>,
    #[allow(clippy::vec_box)] // on to `live` and away without a copy
    spare: Vec<Box<Record>>,
    begun: u64,
    /// Bytes of each packet to keep.
    pub snaplen: usize,
}

impl Recorder {
    pub fn new(worker: WorkerId) -> Self {
        let mut live = HashMap::default();
        live.reserve(LIVE);
        Recorder {
            worker,
            live,
            spare: Vec::with_capacity(SPARE),
            begun: 0,
            snaplen: 0,
        }
    }

    /// For a few packets.
    pub fn small(worker: WorkerId) -> Self {
        Recorder {
            worker,
            live: HashMap::default(),
            spare: Vec::new(),
            begun: 0,
            snaplen: 0,
        }
    }

    /// A record of a packet that has just arrived; not yet kept. `None`: too many.
    pub fn begin(&mut self, from: Place, vn: Option<VnId>, packet: &Mbuf) -> Option<Box<Record>> {
        if self.live.len() >= LIVE {
            return None;
        }
        let mut record = self.blank();
        record.from = from;
        record.vn = vn;
        let headers = Headers::read(packet.head(), packet.len());
        match from {
            Place::Port(_) | Place::Trunk(_) | Place::Switch => record.frame = headers,
            Place::Underlay(_) | Place::Tap(_) => record.outer = headers,
            Place::Worker(_) => {}
        }
        record.note(self.worker, record.began, Step::Received(from));
        Some(record)
    }

    fn blank(&mut self) -> Box<Record> {
        let mut record = self.spare.pop().unwrap_or_else(|| Box::new(Record::new()));
        self.begun += 1;
        record.id = u64::from(self.worker) << 48 | self.begun & 0xffff_ffff_ffff;
        record.worker = self.worker;
        record.began = time::tsc();
        record
    }

    /// Keeps a record, with the packet's bytes where they are asked for.
    pub fn keep(&mut self, packet: &Mbuf, mut record: Box<Record>) {
        if self.snaplen > 0 && record.arrived.len == 0 {
            record.arrived.take(packet, self.snaplen);
        }
        self.live.insert(packet.key(), record);
    }

    /// Keeps a record that came along from another worker. `false`: too many.
    #[must_use]
    pub fn adopt(&mut self, key: Key, record: Box<Record>) -> bool {
        let room = self.live.len() < LIVE;
        if room {
            self.live.insert(key, record);
        }
        room
    }

    /// Notes a step, and what it says of the packet.
    pub fn step(&mut self, packet: &Mbuf, step: Step) {
        if self.live.is_empty() {
            return;
        }
        let Some(record) = self.live.get_mut(&packet.key()) else {
            return;
        };
        match step {
            Step::Vlan { port, vn, .. } => {
                (record.from, record.vn) = (Place::Port(port), Some(vn));
                record.frame = Headers::read(packet.head(), packet.len());
            }
            Step::Lookup { destination, .. } | Step::Copied { to: destination } => {
                match destination {
                    Destination::Port(port) => record.to = Some(Place::Port(port)),
                    Destination::Tunnel(tunnel) => record.tunnel = Some(tunnel),
                }
            }
            Step::Encapsulated {
                tunnel, underlay, ..
            } => {
                record.tunnel = Some(tunnel);
                record.to = Some(Place::Underlay(underlay));
                record.wrapped = Headers::read(packet.head(), packet.len());
            }
            Step::Esp {
                tunnel: Some((tunnel, vn)),
                ..
            } => (record.tunnel, record.vn) = (Some(tunnel), Some(vn)),
            Step::Decapsulated { tunnel, vn, .. } => {
                (record.tunnel, record.vn) = (Some(tunnel), Some(vn));
                record.frame = Headers::read(packet.head(), packet.len());
            }
            Step::Queued(place) => record.to = Some(place),
            _ => {}
        }
        record.note(self.worker, time::tsc(), step);
    }

    /// A second packet goes on from where the first one is, with a record of its own.
    pub fn fork(&mut self, of: &Mbuf, packet: &Mbuf, step: Option<Step>) {
        if self.live.is_empty() || self.live.len() >= LIVE {
            return;
        }
        let mut copy = self.blank();
        let Some(original) = self.live.get(&of.key()) else {
            return self.recycle(copy);
        };
        let (id, began) = (copy.id, original.began);
        copy.clone_from(original);
        (copy.id, copy.copy_of, copy.began) = (id, Some(original.id), began);
        if let Some(step) = step {
            (copy.from, copy.to) = (Place::Switch, None);
            copy.note(self.worker, time::tsc(), step);
            copy.frame = Headers::read(packet.head(), packet.len());
        }
        self.live.insert(packet.key(), copy);
    }

    /// A copy that could not be made ends at once.
    pub fn stillborn(&mut self, of: &Mbuf, verdict: Verdict) -> Option<Box<Record>> {
        let mut copy = self.blank();
        match self.live.get(&of.key()) {
            Some(original) => {
                let id = copy.id;
                copy.clone_from(original);
                (copy.id, copy.copy_of) = (id, Some(original.id));
                (copy.verdict, copy.ended) = (verdict, time::tsc());
                Some(copy)
            }
            None => {
                self.recycle(copy);
                None
            }
        }
    }

    /// Keeps a packet's last bytes, before they are another's.
    pub fn last_bytes(&mut self, packet: &Mbuf) {
        if self.snaplen > 0
            && !self.live.is_empty()
            && let Some(record) = self.live.get_mut(&packet.key())
        {
            record.last.take(packet, self.snaplen);
        }
    }

    /// The record of a packet that has ended, or goes elsewhere.
    pub fn take(&mut self, key: Key) -> Option<Box<Record>> {
        if self.live.is_empty() {
            return None;
        }
        self.live.remove(&key)
    }

    /// The record of a packet that has ended, complete.
    pub fn end(&mut self, key: Key, verdict: Verdict) -> Option<Box<Record>> {
        let mut record = self.take(key)?;
        record.verdict = verdict;
        record.ended = time::tsc();
        Some(record)
    }

    /// Takes a record back that nobody wants.
    pub fn recycle(&mut self, mut record: Box<Record>) {
        if self.spare.len() < SPARE {
            record.reset();
            self.spare.push(record);
        }
    }

    pub fn worker(&self) -> WorkerId {
        self.worker
    }
}

/// Buffers are aligned and spread by their pool: a multiplication mixes them well enough.
#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }
    fn write_usize(&mut self, value: usize) {
        self.0 = (self.0 ^ value as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }
}
