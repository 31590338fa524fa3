//! From an opened port to a started one with queues. What a device cannot do is refused by
//! name or, where that does no harm, left out with a line in the log.

use std::marker::PhantomData;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use dpdk_sys as sys;
use vswitch_net::rss::Spread;

use super::error::socket_id;
use super::ethdev::{OVERHEAD, Opened, Port, PortError, caps};
use super::mempool::Mempool;
use super::queue::{RxQueue, TxQueue};
use super::rss::{self, NoSpread};

/// How a port shall run.
#[derive(Debug, Clone)]
pub struct PortConfig<'a> {
    /// Receive queues.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Packets that a receive queue holds; the driver may adjust it.
    pub rx_desc: u16,
    /// Packets that a transmit queue holds; the driver may adjust it.
    pub tx_desc: u16,
    /// The MTU to set; `None` leaves the device's own.
    pub mtu: Option<u16>,
    /// Spread flows over the receive queues, if the device can.
    pub rss: bool,
    /// Receive frames to any MAC address, if the device can.
    pub promiscuous: bool,
    /// Where received packets go: a pool for each receive queue, or one for all.
    pub pools: &'a [Mempool],
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The MTU.
    pub mtu: u16,
    /// Flows are spread over the receive queues.
    pub rss: bool,
    /// Packets of several segments can be sent.
    pub tx_multi_segment: bool,
    /// A received packet may span several buffers.
    pub rx_scatter: bool,
    /// Packets that a receive queue holds.
    pub rx_desc: u16,
    /// Packets that a transmit queue holds.
    pub tx_desc: u16,
}

/// A started port's queues, to be given to their owners.
#[derive(Debug)]
pub struct Queues {
    /// Receive queues, by number.
    pub rx: Vec<RxQueue>,
    /// Transmit queues, by number.
    pub tx: Vec<TxQueue>,
    /// How the port runs.
    pub settings: Settings,
    /// Which queue a flow comes to, or why nobody can tell.
    pub spread: Result<Spread, NoSpread>,
}

impl Port {
    /// Configures and starts the port, once. After an error it can only be dropped.
    pub fn configure(&self, config: &PortConfig<'_>) -> Result<Queues, PortError> {
        let port = &*self.0;
        check_limits(port, config)?;
        if port.configured.swap(true, Ordering::AcqRel) {
            return Err(PortError::Configured(port.name.clone()));
        }
        let mut info = sys::rte_eth_dev_info::default();
        port.call("device information", |id| {
            // SAFETY: the port exists; the call fills `info`.
            unsafe { sys::rte_eth_dev_info_get(id, &mut info) }
        })?;
        let mtu = match config.mtu {
            Some(mtu) => mtu,
            None => self.mtu()?.min(port.caps.max_mtu).max(port.caps.min_mtu),
        };
        let mut settings = wanted(port, config, mtu)?;
        apply(port, config, &info, &mut settings)?;
        queues(self, config, &info, &settings)?;
        port.call("start", |id| {
            // SAFETY: configured, all queues set up.
            unsafe { sys::rte_eth_dev_start(id) }
        })?;
        port.started.store(true, Ordering::Release);
        if config.promiscuous
            && let Err(error) = self.set_promiscuous(true)
        {
            tracing::warn!(%error, "the port receives only frames to its own address");
        }
        let spread = match (config.rx_queues, settings.rss) {
            (0 | 1, _) => Err(NoSpread::OneQueue),
            (_, false) => Err(NoSpread::NoRss),
            (queues, true) => rss::read(port, queues),
        };
        let rx = (0..config.rx_queues).map(|queue| RxQueue {
            port: self.0.clone(),
            queue,
            _one_owner: PhantomData,
        });
        let tx = (0..config.tx_queues).map(|queue| TxQueue {
            port: self.0.clone(),
            queue,
            chains: settings.tx_multi_segment,
            _one_owner: PhantomData,
        });
        Ok(Queues {
            rx: rx.collect(),
            tx: tx.collect(),
            settings,
            spread,
        })
    }
}

fn check_limits(port: &Opened, config: &PortConfig<'_>) -> Result<(), PortError> {
    let caps = &port.caps;
    let at_most = |what, asked: u16, limit: u16| {
        if asked <= limit {
            return Ok(());
        }
        let (asked, limit) = (u32::from(asked), u32::from(limit));
        Err(PortError::Limit {
            port: port.name.clone(),
            what,
            asked,
            relation: "exceeds",
            limit,
        })
    };
    at_most(
        "the number of receive queues",
        config.rx_queues,
        caps.max_rx_queues,
    )?;
    at_most(
        "the number of transmit queues",
        config.tx_queues,
        caps.max_tx_queues,
    )?;
    if let Some(mtu) = config.mtu {
        at_most("MTU", mtu, caps.max_mtu)?;
        if mtu < caps.min_mtu {
            return Err(PortError::Limit {
                port: port.name.clone(),
                what: "MTU",
                asked: mtu.into(),
                relation: "is below",
                limit: caps.min_mtu.into(),
            });
        }
    }
    let pools = config.pools.len();
    if config.rx_queues > 0 && pools != 1 && pools != usize::from(config.rx_queues) {
        let port = port.name.clone();
        return Err(PortError::Pools {
            port,
            pools,
            queues: config.rx_queues,
        });
    }
    Ok(())
}

fn wanted(port: &Opened, config: &PortConfig<'_>, mtu: u16) -> Result<Settings, PortError> {
    let rss_possible = port.caps.rss_types & sys::VS_RSS_IP_UDP_TCP != 0;
    if config.rss && config.rx_queues > 1 && !rss_possible {
        tracing::warn!(port = %port.name, "the driver offers no RSS: its queues are not balanced by flow");
    }
    let room = config
        .pools
        .iter()
        .map(Mempool::data_room)
        .min()
        .unwrap_or(usize::MAX);
    let frame = usize::from(mtu) + OVERHEAD as usize;
    if frame > room && !port.caps.rx_scatter {
        return Err(PortError::NoScatter {
            port: port.name.clone(),
            driver: port.driver.clone(),
            mtu,
            frame,
            room,
            fits: room.saturating_sub(OVERHEAD as usize),
        });
    }
    Ok(Settings {
        mtu,
        rss: config.rss && config.rx_queues > 1 && rss_possible,
        tx_multi_segment: port.caps.tx_multi_segment,
        rx_scatter: port.caps.rx_scatter && frame > room,
        rx_desc: config.rx_desc,
        tx_desc: config.tx_desc,
    })
}

fn apply(
    port: &Opened,
    config: &PortConfig<'_>,
    info: &sys::rte_eth_dev_info,
    settings: &mut Settings,
) -> Result<(), PortError> {
    let mut conf = sys::rte_eth_conf::default();
    let announced = caps(info);
    // Ethdev refuses what the driver did not announce, so it must not hear of it.
    let ethdev_mtu = settings.mtu.min(announced.max_mtu);
    conf.rxmode.mtu = ethdev_mtu.into();
    if settings.rx_scatter && announced.rx_scatter {
        conf.rxmode.offloads |= sys::VS_RX_OFFLOAD_SCATTER;
    }
    if announced.tx_multi_segment {
        conf.txmode.offloads |= sys::VS_TX_OFFLOAD_MULTI_SEGS;
    }
    if settings.rss {
        conf.rxmode.mq_mode = sys::RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf = rss::asked(info);
    }
    let configure = |conf: &sys::rte_eth_conf| {
        port.call("configuration", |id| {
            // SAFETY: the port exists and is stopped; the call copies `conf`, and what that points
            // to (RSS's key) is static.
            unsafe { sys::rte_eth_dev_configure(id, config.rx_queues, config.tx_queues, conf) }
        })
    };
    if let Err(error) = configure(&conf) {
        if !rss::forgo_key(&mut conf.rx_adv_conf.rss_conf) {
            return Err(error);
        }
        tracing::info!(%error, "once more, with the driver's own RSS key");
        configure(&conf)?;
    }
    if config.mtu == Some(ethdev_mtu) {
        // The kernel's device behind a tap or a packet socket learns it only this way.
        port.call("MTU", |id| {
            // SAFETY: the port exists.
            match unsafe { sys::rte_eth_dev_set_mtu(id, ethdev_mtu) } {
                e if e == -libc::ENOTSUP => 0,
                result => result,
            }
        })?;
    }
    if ethdev_mtu < settings.mtu {
        port.true_mtu.store(settings.mtu, Ordering::Relaxed);
    }
    port.call("numbers of descriptors", |id| {
        // SAFETY: the port exists; the call adjusts both numbers.
        unsafe {
            sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut settings.rx_desc, &mut settings.tx_desc)
        }
    })?;
    if (settings.rx_desc, settings.tx_desc) != (config.rx_desc, config.tx_desc) {
        tracing::info!(
            port = %port.name, rx = settings.rx_desc, tx = settings.tx_desc,
            "the driver adjusted the lengths of its queues"
        );
    }
    Ok(())
}

fn queues(
    port: &Port,
    config: &PortConfig<'_>,
    info: &sys::rte_eth_dev_info,
    settings: &Settings,
) -> Result<(), PortError> {
    let socket = socket_id(port.numa()) as u32;
    let port = &*port.0;
    // Noted before the driver sees them: they must outlive it.
    let mut pools = port.pools.lock().unwrap_or_else(PoisonError::into_inner);
    pools.extend(config.pools.iter().cloned());
    let mut conf = info.default_rxconf;
    let announced = caps(info);
    conf.offloads = if settings.rx_scatter && announced.rx_scatter {
        sys::VS_RX_OFFLOAD_SCATTER
    } else {
        0
    };
    for (queue, pool) in (0..config.rx_queues).zip(config.pools.iter().cycle()) {
        port.call("receive queue", |id| {
            // SAFETY: configured for so many queues; `conf` is copied, the pool outlives the port.
            unsafe {
                let pool = pool.as_ptr();
                sys::rte_eth_rx_queue_setup(id, queue, settings.rx_desc, socket, &conf, pool)
            }
        })?;
    }
    let mut conf = info.default_txconf;
    conf.offloads = if announced.tx_multi_segment {
        sys::VS_TX_OFFLOAD_MULTI_SEGS
    } else {
        0
    };
    for queue in 0..config.tx_queues {
        port.call("transmit queue", |id| {
            // SAFETY: as above.
            unsafe { sys::rte_eth_tx_queue_setup(id, queue, settings.tx_desc, socket, &conf) }
        })?;
    }
    Ok(())
}
