//! The DPDK ports of an edge, and how their queues are shared out among the workers: queue
//! i belongs to worker i; who has none reaches the port through worker (own number mod
//! queues).

use std::collections::BTreeMap;

use vswitch_net::MacAddr;
use vswitch_net::rss::Spread;

use super::StartError;
use crate::datapath::counters::Account;
use crate::datapath::outlet::{Outlet, Queue, Way};
use crate::datapath::verdict::Verdict;
use crate::datapath::worker::{Input, InputKind};
use crate::dpdk::ethdev::Port;
use crate::dpdk::mempool::Mempool;
use crate::dpdk::port_config::PortConfig;
use crate::dpdk::rss::NoSpread;
use crate::manage::config::Config;

const RX_DESCRIPTORS: u16 = 1024;
const TX_DESCRIPTORS: u16 = 1024;

/// What one worker is given of the devices.
#[derive(Default)]
pub struct Share {
    /// Queues to receive from.
    pub inputs: Vec<Input>,
    /// Ways to underlay ports.
    pub underlays: Vec<Way>,
    /// Ways to taps.
    pub taps: Vec<Way>,
    /// Ways to VLAN devices.
    pub trunks: Vec<Way>,
}

/// A started device, for `show ports`.
pub struct Device {
    /// The port itself; it closes when this and its queues are gone.
    pub port: Port,
    /// Its address.
    pub mac: MacAddr,
    /// IP MTU.
    pub mtu: u16,
    /// Queues in use.
    pub queues: u16,
    /// Which queue a flow comes to, or why nobody can tell.
    pub spread: Result<Spread, NoSpread>,
}

impl Device {
    /// What is known of the spreading over its queues, if there are several.
    pub fn rss(&self) -> Option<String> {
        match &self.spread {
            Ok(spread) => Some(spread.to_string()),
            Err(NoSpread::OneQueue) => None,
            Err(why) => Some(format!("unknown: {why}")),
        }
    }
}

/// All devices of the edge.
pub struct Devices {
    /// By index of the configuration.
    pub underlays: Vec<Device>,
    /// The taps beside them.
    pub taps: Vec<Option<Device>>,
    /// Devices with VLANs.
    pub trunks: Vec<Device>,
    /// By worker.
    pub shares: Vec<Share>,
}

impl Devices {
    /// How the underlay's ports spread what they receive, where that is known.
    pub fn spreads(&self) -> Vec<Option<Spread>> {
        let spread = |device: &Device| device.spread.as_ref().ok().cloned();
        self.underlays.iter().map(spread).collect()
    }
}

/// Opens and starts everything. `given` are ports that exist already (tests, benchmarks), by
/// the name that the configuration has in `device`.
pub fn open(
    config: &Config,
    pools: &[Mempool],
    mut given: BTreeMap<String, Port>,
) -> Result<Devices, StartError> {
    let workers = config.workers.cores.len();
    let mut shares: Vec<Share> = Vec::new();
    shares.resize_with(workers, Share::default);
    let mut underlays = Vec::new();
    let mut taps = Vec::new();
    let mut trunks = Vec::new();
    for (i, underlay) in config.underlay.ports.iter().enumerate() {
        let index = i as u16;
        let port = take(&mut given, &underlay.device)?;
        let wanted = underlay.queues.unwrap_or(workers as u16);
        let (device, ways) = start(
            port,
            wanted,
            underlay.mtu,
            pools,
            &mut shares,
            Role {
                kind: InputKind::Underlay(index),
                sent: Verdict::ToUnderlay,
                refused: Verdict::UnderlayTxFull,
                account: Account::Underlay(index),
            },
        )?;
        hand_out(&mut shares, ways, |share| &mut share.underlays);
        let tap = match &underlay.tap {
            None => {
                let down = (0..workers).map(|_| Way::Down).collect();
                hand_out(&mut shares, down, |share| &mut share.taps);
                None
            }
            Some(name) => {
                let devargs = format!("net_tap{i},iface={name},mac={}", device.mac);
                let port = Port::open(&devargs)?;
                let (tap, ways) = start(
                    port,
                    1,
                    underlay.mtu,
                    pools,
                    &mut shares,
                    Role {
                        kind: InputKind::Tap(index),
                        sent: Verdict::ToKernel,
                        refused: Verdict::KernelTxFull,
                        account: Account::Tap(index),
                    },
                )?;
                hand_out(&mut shares, ways, |share| &mut share.taps);
                Some(tap)
            }
        };
        underlays.push(device);
        taps.push(tap);
    }
    for (i, trunk) in config.devices.iter().enumerate() {
        let port = take(&mut given, &trunk.device)?;
        let (device, ways) = start(
            port,
            workers as u16,
            trunk.mtu,
            pools,
            &mut shares,
            Role {
                kind: InputKind::Trunk(i as u16),
                sent: Verdict::ToVlan,
                refused: Verdict::VlanTxFull,
                account: Account::Trunk,
            },
        )?;
        // Frames for any MAC behind the VLAN must come in.
        if let Err(error) = device.port.set_promiscuous(true) {
            tracing::warn!(
                device = trunk.name, %error,
                "only frames to the port's own MAC come in: its VLANs hear broadcast at most"
            );
        }
        hand_out(&mut shares, ways, |share| &mut share.trunks);
        trunks.push(device);
    }
    Ok(Devices {
        underlays,
        taps,
        trunks,
        shares,
    })
}

fn take(given: &mut BTreeMap<String, Port>, device: &str) -> Result<Port, StartError> {
    match given.remove(device) {
        Some(port) => Ok(port),
        None => Ok(Port::open(device)?),
    }
}

/// What a device is for.
struct Role {
    kind: InputKind,
    sent: Verdict,
    refused: Verdict,
    account: Account,
}

/// Starts a port, gives the workers their receive queues, and returns their ways to it.
fn start(
    port: Port,
    wanted: u16,
    mtu: u16,
    pools: &[Mempool],
    shares: &mut [Share],
    role: Role,
) -> Result<(Device, Vec<Way>), StartError> {
    let caps = port.caps();
    let queues = wanted
        .min(shares.len() as u16)
        .min(caps.max_rx_queues)
        .min(caps.max_tx_queues)
        .max(1);
    if queues < wanted.min(shares.len() as u16) {
        tracing::info!(
            port = port.name(),
            queues,
            workers = shares.len(),
            "fewer queues than workers: the others hand their packets over"
        );
    }
    let started = port.configure(&PortConfig {
        rx_queues: queues,
        tx_queues: queues,
        rx_desc: RX_DESCRIPTORS,
        tx_desc: TX_DESCRIPTORS,
        mtu: Some(mtu),
        rss: queues > 1,
        promiscuous: false,
        pools: pools.get(..usize::from(queues)).unwrap_or(pools),
    })?;
    for (share, queue) in shares.iter_mut().zip(started.rx) {
        share.inputs.push(Input {
            kind: role.kind,
            queue,
        });
    }
    let mut own = started.tx.into_iter();
    let ways = (0..shares.len() as u16)
        .map(|worker| match own.next() {
            Some(queue) => Way::Mine(Box::new(Outlet::new(
                Queue::Ethernet(queue),
                role.sent,
                role.refused,
                role.account,
            ))),
            None => Way::Via(worker % queues),
        })
        .collect();
    let mac = MacAddr(port.mac()?);
    if queues > 1 && matches!(role.kind, InputKind::Underlay(_)) {
        match &started.spread {
            Ok(spread) => tracing::info!(
                port = port.name(), rss = %spread,
                "SPIs are chosen so that packets come to the worker that opens them"
            ),
            Err(why) => tracing::info!(
                port = port.name(), %why,
                "RSS is not known: any SPI is taken, and workers hand packets over"
            ),
        }
    }
    Ok((
        Device {
            port,
            mac,
            mtu: started.settings.mtu,
            queues,
            spread: started.spread,
        },
        ways,
    ))
}

fn hand_out(shares: &mut [Share], ways: Vec<Way>, of: impl Fn(&mut Share) -> &mut Vec<Way>) {
    for (share, way) in shares.iter_mut().zip(ways) {
        of(share).push(way);
    }
}
