//! Ethernet ports: what a device can do, and what it counts. [`Port::configure`] is next door.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};

use dpdk_sys as sys;

pub use super::devices::{DeviceError, PortId};
pub use super::port_config::{PortConfig, Queues, Settings};
pub use super::queue::{RxQueue, TxQueue};

use super::devices::{attach, detach, name_of};
use super::eal::{Hold, hold};
use super::error::{Errno, string_from};
use super::mempool::Mempool;
use super::quirks;
use super::ring::Ring;

/// Bytes of an Ethernet frame beyond its payload: header, one VLAN tag less, and FCS.
pub(in crate::dpdk) const OVERHEAD: u32 = 18;

/// Why something with a port did not work. Every message begins with the port's name.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// It could not be opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A port is configured once.
    #[error("{0}: the port is configured already")]
    Configured(String),
    /// The device cannot do what is asked for.
    #[error("{port}: {what} {asked} {relation} the driver's {limit}")]
    Limit {
        /// The port.
        port: String,
        /// What of it, as `MTU`.
        what: &'static str,
        /// What is configured.
        asked: u32,
        /// `exceeds` or `is below`.
        relation: &'static str,
        /// What is possible.
        limit: u32,
    },
    /// Receive queues and pools do not match.
    #[error("{port}: {pools} pools for {queues} receive queues: one each, or one for all")]
    Pools {
        /// The port.
        port: String,
        /// Pools given.
        pools: usize,
        /// Queues asked for.
        queues: u16,
    },
    /// A frame of the MTU fits into no buffer, and the driver uses one for each.
    #[error(
        "{port}: frames of MTU {mtu} need buffers of {frame} bytes, they have {room}, and the \
         driver {driver} cannot spread a frame over several: larger frames would be lost. Set \
         `mempool.data-room` to {frame} or more, or lower the port's `mtu` to {fits}"
    )]
    NoScatter {
        /// The port.
        port: String,
        /// Its driver.
        driver: String,
        /// The MTU asked for.
        mtu: u16,
        /// Bytes of its largest frame.
        frame: usize,
        /// Bytes of a buffer.
        room: usize,
        /// The largest MTU that fits.
        fits: usize,
    },
    /// The driver refused.
    #[error("{port}: {action}: {errno}")]
    Driver {
        /// The port.
        port: String,
        /// What was tried.
        action: &'static str,
        /// Why not.
        errno: Errno,
    },
}

/// What a device can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortCaps {
    /// Receive queues at most.
    pub max_rx_queues: u16,
    /// Transmit queues at most.
    pub max_tx_queues: u16,
    /// Smallest MTU.
    pub min_mtu: u16,
    /// Largest MTU.
    pub max_mtu: u16,
    /// Packets of several segments can be sent; if not, linearize them.
    pub tx_multi_segment: bool,
    /// A received packet may span several buffers.
    pub rx_scatter: bool,
    /// Kinds of flows that RSS tells apart (`RTE_ETH_RSS_*`), 0 without RSS.
    pub rss_types: u64,
    /// Entries of the RSS redirection table.
    pub reta_size: u16,
    /// Bytes of the RSS key.
    pub hash_key_size: u8,
}

/// State of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// A carrier is there.
    pub up: bool,
    /// Megabits per second; `u32::MAX` if unknown.
    pub mbps: u32,
    /// Both directions at once.
    pub full_duplex: bool,
}

/// The driver's counters since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets the device dropped because nobody fetched them.
    pub rx_missed: u64,
    /// Broken packets received.
    pub rx_errors: u64,
    /// Packets that failed to be sent.
    pub tx_errors: u64,
    /// Failures to get a receive buffer.
    pub rx_no_buffer: u64,
}

/// A port that this process owns. The device stops and goes when the port and all of its
/// queues are gone.
#[derive(Debug)]
pub struct Port(pub(in crate::dpdk) Arc<Opened>);

#[derive(Debug)]
pub(in crate::dpdk) struct Opened {
    pub(in crate::dpdk) id: PortId,
    pub(in crate::dpdk) name: String,
    pub(in crate::dpdk) driver: String,
    pub(in crate::dpdk) caps: PortCaps,
    /// The MTU in use where ethdev knows a smaller one (see `quirks`), else 0.
    pub(in crate::dpdk) true_mtu: AtomicU16,
    pub(in crate::dpdk) configured: AtomicBool,
    control: Mutex<()>,
    pub(in crate::dpdk) started: AtomicBool,
    /// Pools and rings that the driver uses outlive it: fields drop after `drop` below.
    pub(in crate::dpdk) pools: Mutex<Vec<Mempool>>,
    _rings: Vec<Arc<Ring>>,
    _hold: Hold,
}

impl Port {
    /// Opens a device by its devargs: `net_af_packet0,iface=eth1`, `0000:01:00.0`, …
    pub fn open(devargs: &str) -> Result<Port, PortError> {
        let hold = hold().map_err(DeviceError::from)?;
        let id = attach(devargs)?;
        Port::adopt(id, devargs, Vec::new(), hold)
    }

    /// Owns a port that is noted in `devices` already.
    pub(in crate::dpdk) fn adopt(
        id: PortId,
        devargs: &str,
        rings: Vec<Arc<Ring>>,
        hold: Hold,
    ) -> Result<Port, PortError> {
        let mut info = sys::rte_eth_dev_info::default();
        // SAFETY: the port exists; the call fills `info`.
        let got = Errno::check(unsafe { sys::rte_eth_dev_info_get(id.0, &mut info) });
        // SAFETY: null or the driver's static name.
        let driver = unsafe { string_from(info.driver_name) };
        let mut caps = caps(&info);
        quirks::correct(&driver, devargs, &info, &mut caps);
        let opened = Opened {
            id,
            name: name_of(devargs).to_owned(),
            driver,
            caps,
            true_mtu: AtomicU16::new(0),
            configured: AtomicBool::new(false),
            control: Mutex::new(()),
            started: AtomicBool::new(false),
            pools: Mutex::new(Vec::new()),
            _rings: rings,
            _hold: hold,
        };
        // Built first, so that a failure detaches the device.
        got.map_err(|errno| opened.failed("device information", errno))?;
        Ok(Port(Arc::new(opened)))
    }

    /// DPDK's number.
    pub fn id(&self) -> PortId {
        self.0.id
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The driver's name.
    pub fn driver(&self) -> &str {
        &self.0.driver
    }

    /// What the device can do.
    pub fn caps(&self) -> &PortCaps {
        &self.0.caps
    }

    /// The NUMA node it is attached to, if any.
    pub fn numa(&self) -> Option<u32> {
        // SAFETY: the port exists while `self` lives.
        u32::try_from(unsafe { sys::rte_eth_dev_socket_id(self.0.id.0) }).ok()
    }

    /// The MAC address.
    pub fn mac(&self) -> Result<[u8; 6], PortError> {
        let mut mac = sys::rte_ether_addr::default();
        self.0.call("MAC address", |id| {
            // SAFETY: the port exists; the call fills `mac`.
            unsafe { sys::rte_eth_macaddr_get(id, &mut mac) }
        })?;
        Ok(mac.addr_bytes)
    }

    /// Changes the MAC address.
    pub fn set_mac(&self, mac: [u8; 6]) -> Result<(), PortError> {
        let mut mac = sys::rte_ether_addr { addr_bytes: mac };
        self.0.call("change of the MAC address", |id| {
            // SAFETY: the port exists; the call reads `mac`.
            unsafe { sys::rte_eth_dev_default_mac_addr_set(id, &mut mac) }
        })
    }

    /// Bytes of payload of the largest Ethernet frame.
    pub fn mtu(&self) -> Result<u16, PortError> {
        match self.0.true_mtu.load(Ordering::Relaxed) {
            0 => self.ethdev_mtu(),
            mtu => Ok(mtu),
        }
    }

    pub(in crate::dpdk) fn ethdev_mtu(&self) -> Result<u16, PortError> {
        let mut mtu = 0;
        self.0.call("MTU", |id| {
            // SAFETY: the port exists; the call fills `mtu`.
            unsafe { sys::rte_eth_dev_get_mtu(id, &mut mtu) }
        })?;
        Ok(mtu)
    }

    /// The link's state now.
    pub fn link(&self) -> Result<Link, PortError> {
        let mut link = sys::vs_link::default();
        self.0.call("link state", |id| {
            // SAFETY: the port exists; the call fills `link`.
            unsafe { sys::vs_eth_link(id, &mut link) }
        })?;
        Ok(Link {
            up: link.up != 0,
            mbps: link.mbps,
            full_duplex: link.full_duplex != 0,
        })
    }

    /// The driver's counters.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        let mut s = sys::rte_eth_stats::default();
        self.0.call("counters", |id| {
            // SAFETY: the port exists; the call fills `s`.
            unsafe { sys::rte_eth_stats_get(id, &mut s) }
        })?;
        Ok(PortStats {
            rx_packets: s.ipackets,
            tx_packets: s.opackets,
            rx_bytes: s.ibytes,
            tx_bytes: s.obytes,
            rx_missed: s.imissed,
            rx_errors: s.ierrors,
            tx_errors: s.oerrors,
            rx_no_buffer: s.rx_nombuf,
        })
    }

    /// Receives frames to any MAC address, or no longer.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), PortError> {
        self.0.call("promiscuous mode", |id| {
            // SAFETY: the port exists.
            unsafe {
                if on {
                    sys::rte_eth_promiscuous_enable(id)
                } else {
                    sys::rte_eth_promiscuous_disable(id)
                }
            }
        })
    }

    /// Receives all multicast, or no longer.
    pub fn set_all_multicast(&self, on: bool) -> Result<(), PortError> {
        self.0.call("reception of all multicast", |id| {
            // SAFETY: the port exists.
            unsafe {
                if on {
                    sys::rte_eth_allmulticast_enable(id)
                } else {
                    sys::rte_eth_allmulticast_disable(id)
                }
            }
        })
    }

    /// Whether frames to any MAC address are received.
    pub fn is_promiscuous(&self) -> bool {
        // SAFETY: the port exists.
        unsafe { sys::rte_eth_promiscuous_get(self.0.id.0) == 1 }
    }
}

impl Opened {
    pub(in crate::dpdk) fn failed(&self, action: &'static str, errno: Errno) -> PortError {
        PortError::Driver {
            port: self.name.clone(),
            action,
            errno,
        }
    }

    /// One call of ethdev's control side, which is not for two threads at once. Workers
    /// never come here: bursts need no lock.
    pub(in crate::dpdk) fn call(
        &self,
        action: &'static str,
        call: impl FnOnce(u16) -> i32,
    ) -> Result<(), PortError> {
        self.ask(call).map_err(|errno| self.failed(action, errno))
    }

    /// As [`Self::call`], of what a driver need not be able to do.
    pub(in crate::dpdk) fn ask(&self, call: impl FnOnce(u16) -> i32) -> Result<(), Errno> {
        let _one_at_a_time = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        Errno::check(call(self.id.0)).map(drop)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.started.load(Ordering::Acquire) {
            // SAFETY: the port exists, and none of its queues is left.
            if let Err(errno) = Errno::check(unsafe { sys::rte_eth_dev_stop(self.id.0) }) {
                tracing::warn!(port = %self.name, %errno, "the port did not stop cleanly");
            }
        }
        if let Err(errno) = detach(self.id) {
            tracing::warn!(port = %self.name, %errno, "the device was not removed cleanly");
        }
    }
}

/// As the driver announces it.
pub(in crate::dpdk) fn caps(info: &sys::rte_eth_dev_info) -> PortCaps {
    // As ethdev reckons it: the driver's own figure for headers if it gives one.
    let overhead = match info.max_rx_pktlen.checked_sub(u32::from(info.max_mtu)) {
        Some(n) if info.max_mtu != u16::MAX && n > 0 => n,
        _ => OVERHEAD,
    };
    let by_frame = info.max_rx_pktlen.saturating_sub(overhead);
    let max_mtu = u16::try_from(by_frame)
        .unwrap_or(u16::MAX)
        .min(info.max_mtu);
    PortCaps {
        max_rx_queues: info.max_rx_queues,
        max_tx_queues: info.max_tx_queues,
        min_mtu: info.min_mtu,
        max_mtu,
        tx_multi_segment: info.tx_offload_capa & sys::VS_TX_OFFLOAD_MULTI_SEGS != 0,
        rx_scatter: info.rx_offload_capa & sys::VS_RX_OFFLOAD_SCATTER != 0,
        rss_types: info.flow_type_rss_offloads,
        reta_size: info.reta_size,
        hash_key_size: info.hash_key_size,
    }
}
