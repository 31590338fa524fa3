//! A worker driven by hand: entries for benchmarks and tests that have no vhost frontend.
//! Everything behind them is what a tenant's vhost queues lead to in production.

use vswitch_vn::PortId;

use super::counters::Account;
use super::observe::Place;
use super::outlet::{Outlet, Queue, Way};
use super::probe::Probe;
use super::verdict::Verdict;
use super::worker::Worker;
use crate::dpdk::mbuf::Burst;
use crate::dpdk::queue::TxQueue;

impl<P: Probe> Worker<P> {
    /// Takes a burst as if a queue of the tenant's `port` had delivered it, and empties it.
    /// What is to be sent leaves by the next [`Self::pass`].
    pub fn tenant_burst(&mut self, port: PortId, burst: &mut Burst) {
        let vn = self.tables.port(port).map(|p| p.vn);
        self.counters.receive(Place::Port(port), vn, burst);
        self.tenant_input(port, burst);
    }

    /// What goes to the tenant's `port` leaves by an Ethernet queue from now on. `Err` hands
    /// the queue back: there is no such port.
    pub fn set_tenant_queue(&mut self, port: PortId, queue: TxQueue) -> Result<(), TxQueue> {
        let Some(Some(attachment)) = self.attachments.get_mut(port.index()) else {
            return Err(queue);
        };
        attachment.way = Way::Mine(Box::new(Outlet::new(
            Queue::Ethernet(queue),
            Verdict::ToTenant,
            Verdict::TenantTxFull,
            Account::Port(port),
        )));
        Ok(())
    }
}
