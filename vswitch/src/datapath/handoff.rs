//! Hand-off between workers: one ring for each ordered pair, one producer, one consumer,
//! so that workers that share a core never wait for one another. What the receiver must do
//! with a packet travels in the packet's mark.

use vswitch_vn::{PortId, TunnelId};

use super::command::WorkerId;
use super::ledger::Ledger;
use super::probe::Probe;
use super::verdict::Verdict;
use crate::dpdk::mbuf::{Burst, Mbuf};
use crate::dpdk::ring::{Consumer, Producer};

/// What remains to be done with a packet that another worker hands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// An ESP packet from this underlay port, whose SA the receiver owns.
    Open(u16),
    /// A complete frame for a tenant or VLAN port whose queue the receiver owns.
    Deliver(PortId),
    /// A complete frame for an underlay port whose queue the receiver owns.
    Transmit(u16),
    /// A complete frame for the tap beside an underlay port.
    Kernel(u16),
    /// A frame for a tunnel whose outbound SA the receiver owns.
    Encapsulate(TunnelId),
}

const ARGUMENT_BITS: u32 = 28;
const ARGUMENT: u32 = (1 << ARGUMENT_BITS) - 1;
/// Its record goes along (see [`super::observe::Exchange`]).
const OBSERVED: u32 = 1 << 31;

impl Work {
    /// As the 32 bits of [`Mbuf::mark`]: argument in the lower 28, kind in the 3 above; the
    /// uppermost says that the packet is observed.
    pub fn to_mark(self) -> u32 {
        let (kind, argument) = match self {
            Work::Open(port) => (1, u32::from(port)),
            Work::Deliver(port) => (2, u32::from(port.0)),
            Work::Transmit(port) => (3, u32::from(port)),
            Work::Kernel(port) => (4, u32::from(port)),
            Work::Encapsulate(tunnel) => (5, tunnel.0 & ARGUMENT),
        };
        kind << ARGUMENT_BITS | argument
    }

    /// The inverse of [`Self::to_mark`]; `None` for a mark that no worker writes.
    pub fn from_mark(mark: u32) -> Option<Work> {
        let argument = mark & ARGUMENT;
        let port = argument as u16;
        Some(match (mark & !OBSERVED) >> ARGUMENT_BITS {
            1 => Work::Open(port),
            2 => Work::Deliver(PortId(port)),
            3 => Work::Transmit(port),
            4 => Work::Kernel(port),
            5 => Work::Encapsulate(TunnelId(argument)),
            _ => return None,
        })
    }

    /// Whether a mark says that the packet is observed.
    pub fn is_observed(mark: u32) -> bool {
        mark & OBSERVED != 0
    }
}

/// The rings of one worker: to and from each other worker.
#[derive(Default)]
pub struct Handoff {
    to: Vec<Option<(Producer, Burst)>>,
    from: Vec<Consumer>,
}

impl Handoff {
    /// `to[w]` leads to worker `w` (`None` for the worker itself); `from` come to it.
    pub fn new(to: Vec<Option<Producer>>, from: Vec<Consumer>) -> Self {
        Handoff {
            to: to
                .into_iter()
                .map(|p| p.map(|p| (p, Burst::new())))
                .collect(),
            from,
        }
    }

    /// Gathers a packet for `worker`; full bursts leave at once, the rest by [`Self::flush`].
    pub fn send<P: Probe>(
        &mut self,
        worker: WorkerId,
        work: Work,
        mut packet: Mbuf,
        counters: &mut Ledger<P>,
    ) {
        let Some(Some((producer, burst))) = self.to.get_mut(usize::from(worker)) else {
            counters.end(Verdict::HandoffFull, packet);
            return;
        };
        packet.set_mark(work.to_mark());
        if P::DRY {
            return counters.set_aside(worker, packet);
        }
        burst.push(packet);
        if burst.is_full() {
            Self::drain(worker, producer, burst, counters);
        }
    }

    /// Sends what was gathered; what a full ring refuses is counted and freed.
    pub fn flush<P: Probe>(&mut self, counters: &mut Ledger<P>) {
        for (worker, end) in self.to.iter_mut().enumerate() {
            if let Some((producer, burst)) = end
                && !burst.is_empty()
            {
                Self::drain(worker as WorkerId, producer, burst, counters);
            }
        }
    }

    fn drain<P: Probe>(
        to: WorkerId,
        producer: &mut Producer,
        burst: &mut Burst,
        counters: &mut Ledger<P>,
    ) {
        if P::OBSERVES {
            for packet in burst.iter_mut() {
                if counters.probe.handing_over(packet, to) {
                    packet.set_mark(packet.mark() | OBSERVED);
                }
            }
        }
        if cfg!(debug_assertions) {
            burst.iter_mut().for_each(Mbuf::settle);
        }
        let sent = producer.send(burst);
        counters.verdicts.add(Verdict::HandedOut, sent as u64);
        if P::OBSERVES {
            for packet in burst.iter().filter(|p| Work::is_observed(p.mark())) {
                let verdict = Verdict::HandoffFull;
                counters.probe.not_handed_over(packet.key(), to, verdict);
            }
        }
        counters.end_all(Verdict::HandoffFull, burst);
    }

    /// Rings that lead here.
    pub fn inputs(&self) -> usize {
        self.from.len()
    }

    /// Takes a burst from input `i`.
    pub fn receive(&mut self, i: usize, burst: &mut Burst) -> usize {
        self.from
            .get_mut(i)
            .map_or(0, |consumer| consumer.receive(burst))
    }

    /// Sends no more, for ever: the colleagues see it.
    pub fn close<P: Probe>(&mut self, counters: &mut Ledger<P>) {
        self.flush(counters);
        self.to.clear();
    }

    /// Whether the colleague at input `i` has closed its side.
    pub fn is_closed(&mut self, i: usize) -> bool {
        self.from.get_mut(i).is_none_or(Consumer::is_abandoned)
    }

    /// Packets gathered and not yet sent.
    pub fn held(&self) -> u64 {
        self.to
            .iter()
            .flatten()
            .map(|(_, burst)| burst.len() as u64)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_round_trip() {
        for work in [
            Work::Open(0),
            Work::Deliver(PortId(65535)),
            Work::Transmit(7),
            Work::Kernel(1),
            Work::Encapsulate(TunnelId(ARGUMENT)),
        ] {
            assert_eq!(Work::from_mark(work.to_mark()), Some(work));
        }
        assert_eq!(Work::from_mark(0), None);
        assert_eq!(Work::from_mark(u32::MAX), None);
    }
}
