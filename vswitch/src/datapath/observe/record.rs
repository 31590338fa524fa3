//! What is kept of one packet under observation.

use arrayvec::ArrayVec;
use vswitch_vn::{PortId, TunnelId, VnId};

use super::headers::Headers;
use super::step::Step;
use crate::datapath::command::WorkerId;
use crate::datapath::verdict::Verdict;
use crate::dpdk::mbuf::Mbuf;

/// Steps of one packet at most; a packet of a broadcast over two workers has about twelve.
pub const MAX_STEPS: usize = 32;

/// An end of a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// A tenant's port or a VLAN.
    Port(PortId),
    /// An underlay port, by index.
    Underlay(u16),
    /// The tap beside an underlay port: the host kernel.
    Tap(u16),
    /// A device that carries VLANs, of a frame whose VLAN nobody attached.
    Trunk(u16),
    /// Another worker, of a packet whose record did not come along.
    Worker(WorkerId),
    /// The switch itself: it made the packet (ICMP "too big").
    Switch,
}

/// A step with where and when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// On which worker.
    pub worker: WorkerId,
    /// When, in ticks of the TSC. The difference to the mark before is the time that the
    /// packet spent on this step, other packets of its burst included.
    pub tsc: u64,
    /// What was decided.
    pub step: Step,
}

/// Bytes of a packet at one point of its way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bytes {
    /// The first of them, as many as the longest of the observations asked for.
    pub data: Vec<u8>,
    /// How many there are in all.
    pub len: usize,
}

impl Bytes {
    /// Copies up to `snaplen` bytes; allocates only until it has room for the longest packet.
    pub fn take(&mut self, packet: &Mbuf, snaplen: usize) {
        self.data.clear();
        self.len = packet.len();
        for segment in packet.segments() {
            let left = snaplen - self.data.len();
            let part = segment.get(..left.min(segment.len())).unwrap_or_default();
            self.data.extend_from_slice(part);
        }
    }

    fn clear(&mut self) {
        self.data.clear();
        self.len = 0;
    }
}

/// One packet's way through the switch, over all workers that had it.
///
/// A copy (of a broadcast) has a record of its own, which begins with what happened to the
/// original before; so has a packet that the switch made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Unique among the records of a process.
    pub id: u64,
    /// The packet it is a copy of.
    pub copy_of: Option<u64>,
    /// Where it came from.
    pub from: Place,
    /// Where it left, or was about to.
    pub to: Option<Place>,
    /// Its virtual network, once that was known.
    pub vn: Option<VnId>,
    /// The tunnel it came by or went into.
    pub tunnel: Option<TunnelId>,
    /// The tenants' frame: as it arrived from one, or as it came out of a tunnel.
    pub frame: Option<Headers>,
    /// Outer headers, of what arrived from an underlay port or the kernel.
    pub outer: Option<Headers>,
    /// Outer headers, of what was to leave by an underlay port.
    pub wrapped: Option<Headers>,
    /// TSC when it was taken up.
    pub began: u64,
    /// TSC when it ended.
    pub ended: u64,
    /// The worker that took it up.
    pub worker: WorkerId,
    /// What happened.
    pub steps: ArrayVec<Mark, MAX_STEPS>,
    /// Steps for which there was no room.
    pub more_steps: u16,
    /// How it ended. Of a record that is reported this is final, never
    /// [`Verdict::HandedOut`], unless the record could not go along (see [`super::Exchange`]).
    pub verdict: Verdict,
    /// Its bytes as they arrived: a tenant's frame, or from the underlay the sealed packet.
    /// Empty if no observation asks for bytes.
    pub arrived: Bytes,
    /// Its bytes when it ended: as they left the switch, or as they were when it was dropped.
    /// Empty if no observation asks for bytes.
    pub last: Bytes,
    /// Which observations it may belong to, by [`super::Observation::id`].
    pub(super) candidates: u8,
}

impl Default for Record {
    fn default() -> Self {
        Record::new()
    }
}

impl Record {
    /// Of no packet.
    pub fn new() -> Self {
        Record {
            id: 0,
            copy_of: None,
            from: Place::Switch,
            to: None,
            vn: None,
            tunnel: None,
            frame: None,
            outer: None,
            wrapped: None,
            began: 0,
            ended: 0,
            worker: 0,
            steps: ArrayVec::new(),
            more_steps: 0,
            verdict: Verdict::Malformed,
            arrived: Bytes::default(),
            last: Bytes::default(),
            candidates: 0,
        }
    }

    /// As new, but with the room for bytes that it has.
    pub(super) fn reset(&mut self) {
        let (mut arrived, mut last) = (
            std::mem::take(&mut self.arrived),
            std::mem::take(&mut self.last),
        );
        arrived.clear();
        last.clear();
        *self = Record {
            arrived,
            last,
            ..Record::new()
        };
    }

    pub(super) fn note(&mut self, worker: WorkerId, tsc: u64, step: Step) {
        if self.steps.try_push(Mark { worker, tsc, step }).is_err() {
            self.more_steps = self.more_steps.saturating_add(1);
        }
    }
}
