//! Where packets come in: a burst from every queue and ring in turn, entered in the books and
//! given to the stage that is the first for its kind.

use super::command::WorkerId;
use super::handoff::Work;
use super::observe::Place;
use super::probe::{Probe, Stage};
use super::verdict::Verdict;
use super::worker::{InputKind, Worker};
use crate::dpdk::mbuf::Burst;

impl<P: Probe> Worker<P> {
    /// A burst from each Ethernet queue.
    pub(super) fn poll_ethernet(&mut self) -> usize {
        let mut total = 0;
        let mut burst = Burst::new();
        for i in 0..self.inputs.len() {
            let Some(input) = self.inputs.get_mut(i) else {
                break;
            };
            self.counters.probe.enter();
            let n = input.queue.receive(&mut burst);
            if n == 0 {
                continue;
            }
            let kind = input.kind;
            self.counters.probe.leave(Stage::Receive, n);
            total += n;
            self.take_up(kind, &mut burst);
            debug_assert!(burst.is_empty());
        }
        total
    }

    /// A burst of an Ethernet input.
    #[inline]
    pub(super) fn take_up(&mut self, kind: InputKind, burst: &mut Burst) {
        match kind {
            InputKind::Underlay(port) => {
                self.counters.receive(Place::Underlay(port), None, burst);
                self.underlay_input(port, burst);
            }
            InputKind::Tap(port) => {
                self.counters.receive(Place::Tap(port), None, burst);
                self.kernel_input(port, burst);
            }
            InputKind::Trunk(device) => {
                self.counters.receive(Place::Trunk(device), None, burst);
                self.trunk_input(device, burst);
            }
        }
    }

    /// A burst from each queue of each tenant.
    pub(super) fn poll_tenants(&mut self) -> usize {
        let mut total = 0;
        let mut burst = Burst::new();
        for i in 0..self.polled.len() {
            let Some(&port) = self.polled.get(i) else {
                break;
            };
            for queue in 0.. {
                // Looked up anew: handling a burst may touch any attachment.
                let attachment = self.attachments.get_mut(port.index());
                let Some(input) = attachment
                    .and_then(Option::as_mut)
                    .and_then(|attachment| attachment.rx.get_mut(queue))
                else {
                    break;
                };
                self.counters.probe.enter();
                let n = input.queue.receive(&self.reader, &input.pool, &mut burst);
                if n == 0 {
                    continue;
                }
                self.counters.probe.leave(Stage::Receive, n);
                total += n;
                self.tenant_burst(port, &mut burst);
                debug_assert!(burst.is_empty());
            }
        }
        total
    }

    /// A burst from each colleague's ring.
    pub(super) fn poll_colleagues(&mut self) -> usize {
        let mut total = 0;
        let mut burst = Burst::new();
        for i in 0..self.handoff.inputs() {
            let n = self.handoff.receive(i, &mut burst);
            if n == 0 {
                continue;
            }
            total += n;
            // There is no ring from a worker to itself.
            let from = i as WorkerId + WorkerId::from(i >= usize::from(self.id));
            for packet in &mut burst {
                let observed = Work::is_observed(packet.mark());
                self.counters.hand_in(from, observed, packet);
            }
            self.take_over(&mut burst);
        }
        total
    }

    /// Goes on with packets of other workers.
    pub(super) fn take_over(&mut self, burst: &mut Burst) {
        let mut to_open = Burst::new();
        let mut arrived = 0;
        for packet in burst.drain(..) {
            match Work::from_mark(packet.mark()) {
                Some(Work::Deliver(port)) => self.deliver(port, packet),
                Some(Work::Transmit(port)) => self.transmit(port, packet),
                Some(Work::Kernel(port)) => self.give_to_kernel(port, packet),
                Some(Work::Encapsulate(tunnel)) => self.gather(tunnel, packet, true),
                Some(Work::Open(port)) => {
                    if port != arrived {
                        self.open_handed_in(arrived, &mut to_open);
                        arrived = port;
                    }
                    to_open.push(packet);
                }
                None => self.counters.end(Verdict::Malformed, packet),
            }
        }
        self.open_handed_in(arrived, &mut to_open);
    }
}
