//! What tenants ask: who has an IP address, answered here where a mapping says so; and unknown
//! destinations, of which the control side is told, few times and at a limited rate whatever a
//! tenant sends.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use vswitch_net::{Frame, MacAddr, answer};
use vswitch_policy::TokenBucket;
use vswitch_vn::{PortId, VnId};

use super::command::Event;
use super::forward::Origin;
use super::probe::Probe;
use super::verdict::Verdict;
use super::worker::Worker;
use crate::dpdk::mbuf::Mbuf;

/// Unknown destinations reported per second and port at most. The control side has limits of its
/// own; these keep its queue from being filled with one tenant's.
pub const PORT_RATE: u64 = 100;
/// Unknown destinations remembered as reported.
const RECENT: usize = 1024;

/// An address whose whereabouts are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unknown {
    /// A destination of the link layer.
    Mac(MacAddr),
    /// An address asked for by ARP or ND.
    Ip(IpAddr),
}

/// What was reported lately, so that each is reported once a second.
pub(super) struct Misses {
    recent: Box<[(u64, u64)]>,
    seed: u64,
}

impl Misses {
    pub(super) fn new(seed: u64) -> Self {
        Misses {
            recent: vec![(0, 0); RECENT].into(),
            seed,
        }
    }

    /// Whether a report is due; it counts as made.
    fn due(&mut self, vn: VnId, what: Unknown, now: u64, second: u64) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.seed, vn, what).hash(&mut hasher);
        let hash = hasher.finish();
        let Some(place) = self.recent.get_mut(hash as usize % RECENT) else {
            return false;
        };
        let due = place.0 != hash || now.wrapping_sub(place.1) >= second;
        if due {
            *place = (hash, now);
        }
        due
    }
}

/// The bucket of a port for unknown destinations.
pub(super) fn bucket(tsc_hz: u64, now: u64) -> TokenBucket {
    TokenBucket::new(PORT_RATE, PORT_RATE, tsc_hz, now)
}

impl<P: Probe> Worker<P> {
    /// Reports a destination that nobody knows here.
    #[cold]
    pub(super) fn missed(&mut self, vn: VnId, origin: Origin, what: Unknown) {
        let Origin::Port(port) = origin else { return };
        if self.terms.is_none() || P::DRY {
            return;
        }
        let second = self.clock.hz();
        if !self.misses.due(vn, what, self.now, second) {
            return;
        }
        if let Some(Some(attachment)) = self.attachments.get_mut(port.index())
            && attachment.misses.take(self.now)
        {
            self.tell(Event::Unknown(self.id, vn, port, what));
        }
    }

    /// Answers a question for a neighbour whose address one mapping of the network lists; gives
    /// every other frame back. An answer costs the port what a broadcast would.
    pub(super) fn resolve(&mut self, vn: VnId, port: PortId, packet: Mbuf) -> Option<Mbuf> {
        let frame = match Frame::parse(packet.head(), packet.len()) {
            Ok(frame) if frame.vlan.is_none() => frame,
            _ => return Some(packet),
        };
        let Some(ip) = answer::asked(&frame) else {
            return Some(packet);
        };
        let Some(mac) = self.tables.holder(vn, ip) else {
            self.missed(vn, Origin::Port(port), Unknown::Ip(ip));
            return Some(packet);
        };
        if mac == frame.src {
            return Some(packet);
        }
        let admitted = match self.attachments.get_mut(port.index()) {
            Some(Some(attachment)) => self.counters.admit(&mut attachment.bum, self.now),
            _ => false,
        };
        if !admitted {
            self.end(Origin::Port(port), vn, Verdict::BumRate, packet);
            return None;
        }
        let Some(mut reply) = self.pool.alloc() else {
            return Some(packet);
        };
        let room = reply.tailroom().min(answer::MAX_FRAME);
        let written = reply
            .append(room)
            .ok()
            .and_then(|out| answer::build(&frame, mac, out));
        let Some(len) = written else {
            return Some(packet);
        };
        reply.truncate(len);
        self.counters.generate(&packet, &mut reply);
        self.deliver(port, reply);
        self.counters.end(Verdict::Answered, packet);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_destination_is_reported_once_a_second() {
        let mut misses = Misses::new(7);
        let who = Unknown::Mac(MacAddr([2, 0, 0, 0, 0, 1]));
        assert!(misses.due(VnId(1), who, 1_000, 100));
        assert!(!misses.due(VnId(1), who, 1_099, 100));
        assert!(misses.due(VnId(1), who, 1_100, 100));
        assert!(misses.due(VnId(2), who, 1_100, 100));
    }
}
