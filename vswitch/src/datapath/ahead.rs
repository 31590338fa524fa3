//! What a burst will need, asked for before its first packet is looked at. Where there are many security
//! associations, each packet of a burst may have another: were they looked at one by one, each would
//! wait for its own memory.

use std::net::IpAddr;

use vswitch_net::quick::QuickOuter;
use vswitch_vn::{Destination, Key};

use super::decap::Known;
use super::probe::Probe;
use super::spis::Located;
use super::worker::Worker;
use crate::dpdk::cache;
use crate::dpdk::mbuf::{Burst, Mbuf};

impl<P: Probe> Worker<P> {
    /// Asks for the SAs of packets from the underlay: where usual ESP packets have their SPI. What
    /// is there in others is some number, and asking for its SA does no harm.
    #[inline(never)]
    pub(super) fn prefetch_sas(&self, burst: &Burst) {
        let spi = |packet: &Mbuf| {
            let spi = packet.head().get(QuickOuter::PAYLOAD..)?.first_chunk()?;
            Some(u32::from_be_bytes(*spi))
        };
        for spi in burst.iter().filter_map(spi) {
            self.sas.prefetch_spi(spi);
        }
        for spi in burst.iter().filter_map(spi) {
            if let Some(Located::Mine(slot)) = self.sas.locate(spi) {
                self.sas.prefetch_inbound(slot);
            }
        }
    }

    /// Looks up what the tables say of an inbound SA, where that is not known already.
    #[inline(always)]
    pub(super) fn acquaint(&mut self, slot: usize, src: IpAddr) {
        if let Some(inbound) = self.sas.inbound_mut(slot)
            && !matches!(&inbound.known, Some(known) if known.holds(&self.tables, src))
        {
            inbound.known = Known::of(&self.tables, inbound.tunnel, src);
        }
    }

    /// The same, and asks for what else the SA's packets need, of which the key is most.
    #[inline(never)]
    pub(super) fn prefetch_run(&mut self, slot: usize, src: IpAddr) {
        self.acquaint(slot, src);
        let Some(inbound) = self.sas.inbound(slot) else {
            return;
        };
        if let Some(window) = inbound.sa.prefetch() {
            cache::prefetch(window);
        }
        if let Some(known) = &inbound.known {
            self.counters
                .tunnels
                .prefetch(known.expected.tunnel.index());
            self.counters.vns.prefetch(known.expected.vn.index());
        }
    }

    /// Asks for the forwarding entries of addresses.
    #[inline(always)]
    pub(super) fn prefetch_entries(&self, keys: [Key; 2]) {
        for place in keys
            .map(|key| self.tables.fdb().place(key))
            .iter()
            .flatten()
        {
            cache::prefetch(*place);
        }
    }

    /// Asks for the counters of where frames go.
    #[inline(never)]
    pub(super) fn prefetch_ports(&self, found: &[Option<Destination>]) {
        for found in found {
            if let Some(Destination::Port(port)) = found {
                self.counters.ports.prefetch(port.index());
            }
        }
    }
}
