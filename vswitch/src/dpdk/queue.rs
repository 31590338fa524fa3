//! Queues of a port. Each is a value with one owner, so no lock is needed and none taken.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use dpdk_sys as sys;

use super::ethdev::Opened;
use super::mbuf::{Burst, fetch_heads, grown, room, taken};

/// A receive queue of a started port. It may move to another thread, never be shared.
#[derive(Debug)]
pub struct RxQueue {
    pub(in crate::dpdk) port: Arc<Opened>,
    pub(in crate::dpdk) queue: u16,
    pub(in crate::dpdk) _one_owner: PhantomData<Cell<()>>,
}

/// A transmit queue of a started port. It may move to another thread, never be shared.
#[derive(Debug)]
pub struct TxQueue {
    pub(in crate::dpdk) port: Arc<Opened>,
    pub(in crate::dpdk) queue: u16,
    pub(in crate::dpdk) chains: bool,
    pub(in crate::dpdk) _one_owner: PhantomData<Cell<()>>,
}

impl RxQueue {
    /// Adds packets that have arrived to the burst, as many as it has room for; says how many.
    /// Give it an empty burst: some drivers fetch nothing for less than four free places.
    #[inline]
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        let (slots, free) = room(burst);
        if free == 0 {
            return 0;
        }
        // SAFETY: the port runs while `port` lives, the queue has one owner, and the burst
        // has `free` slots.
        let n = unsafe { sys::vs_eth_rx_burst(self.port.id.0, self.queue, slots, free) };
        // SAFETY: the driver gave n chains up to us.
        unsafe { grown(burst, usize::from(n)) };
        fetch_heads(burst);
        usize::from(n)
    }

    /// Its number.
    pub fn index(&self) -> u16 {
        self.queue
    }
}

impl TxQueue {
    /// Hands packets from the front of the burst to the driver and says how many. What it
    /// refused stays at the front, in order: the caller retries, or counts and frees it.
    ///
    /// Where [`Self::accepts_chains`] is false, a packet of several segments counts as
    /// refused, and what follows it waits: such a driver would read behind its first segment.
    #[inline]
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        let n = if self.chains {
            burst.len()
        } else {
            burst
                .iter()
                .position(|m| !m.is_contiguous())
                .unwrap_or(burst.len())
        };
        if n == 0 {
            return 0;
        }
        // SAFETY: the port runs while `port` lives, the queue has one owner, and the burst
        // holds n owned chains that the driver can send.
        let sent = unsafe {
            let packets = burst.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
            sys::vs_eth_tx_burst(self.port.id.0, self.queue, packets, n as u16)
        };
        // SAFETY: the driver owns the first `sent` of them now.
        unsafe { taken(burst, usize::from(sent)) };
        usize::from(sent)
    }

    /// Whether packets of several segments can be sent.
    #[inline]
    pub fn accepts_chains(&self) -> bool {
        self.chains
    }

    /// Its number.
    pub fn index(&self) -> u16 {
        self.queue
    }
}
