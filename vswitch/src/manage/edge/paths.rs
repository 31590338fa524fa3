//! The host's side of the underlay: taps, the guard beside af_packet, and the next hops that
//! the kernel knows; all of it on one thread with an asynchronous runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{bounded, unbounded};
use tokio::sync::{oneshot, watch};
use vswitch_net::MacAddr;

use super::control::Control;
use super::{StartError, Updates};
use crate::datapath::command::{Command, Path};
use crate::host::{
    Destinations, HostError, HostNetwork, IngressGuard, IpNet, PathUpdate, StaticNeighbour,
    StaticRoute, UnderlayPort, disable_offloads, parse_iface, setup_taps,
};
use crate::manage::config::{Config, IpPrefix};

/// How long a tap may take to appear.
const TAP_PATIENCE: Duration = Duration::from_secs(5);
/// Before another try to follow the kernel.
const RETRY: Duration = Duration::from_secs(1);
/// How often the guard is put back, in case somebody flushed the rules.
const GUARD_INTERVAL: Duration = Duration::from_secs(10);

/// The thread that talks to the kernel; it ends, and takes the guards down, with this.
pub struct HostLink {
    guarded: Vec<IngressGuard>,
    thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl HostLink {
    /// Puts the guards up. To be called before the ports are opened.
    pub(super) fn start(config: &Config) -> Result<HostLink, StartError> {
        let runtime = runtime()?;
        let mut guarded = Vec::new();
        for port in &config.underlay.ports {
            let Some(interface) = parse_iface(&port.device) else {
                continue;
            };
            runtime.block_on(disable_offloads(&interface))?;
            // AF_PACKET gets copies of what the kernel gets too, and XDP leaves the queues it
            // is not bound to with the kernel.
            guarded.push(runtime.block_on(IngressGuard::install(&interface))?);
        }
        Ok(HostLink {
            guarded,
            thread: None,
        })
    }

    /// Sets the taps up and begins to follow routes and neighbours.
    pub(super) fn follow(
        &mut self,
        config: &Config,
        macs: &[MacAddr],
    ) -> Result<(Updates, watch::Sender<Wants>), StartError> {
        let (wants, follows) = watch::channel(Wants::of(config, macs));
        let (updates_tx, updates) = unbounded();
        let (stop_tx, stop) = oneshot::channel();
        let (ready_tx, ready) = bounded(1);
        let guards = std::mem::take(&mut self.guarded);
        let runtime = runtime()?;
        let thread = std::thread::Builder::new()
            .name("vswitch-host".into())
            .spawn(move || {
                runtime.block_on(follow(follows, guards, updates_tx, ready_tx, stop));
            })
            .map_err(StartError::Thread)?;
        self.thread = Some((stop_tx, thread));
        match ready.recv() {
            Ok(Ok(())) => Ok((updates, wants)),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(StartError::Thread(std::io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl Drop for HostLink {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Thread)
}

/// What the kernel is asked about; follows the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wants {
    ports: Vec<UnderlayPort>,
    destinations: BTreeSet<IpAddr>,
}

impl Wants {
    fn of(config: &Config, macs: &[MacAddr]) -> Self {
        let peers = config.peers.iter();
        Wants {
            ports: underlay_ports(config, macs),
            destinations: peers.flat_map(|p| p.addresses.iter().copied()).collect(),
        }
    }
}

async fn follow(
    mut wants: watch::Receiver<Wants>,
    guards: Vec<IngressGuard>,
    updates: crossbeam::channel::Sender<PathUpdate>,
    ready: crossbeam::channel::Sender<Result<(), HostError>>,
    mut stop: oneshot::Receiver<()>,
) {
    let ports = wants.borrow().ports.clone();
    let mut first = match setup_taps(&ports, TAP_PATIENCE).await {
        Ok(()) => HostNetwork::open(ports.clone()),
        Err(error) => Err(error),
    };
    if let Err(error) = first {
        let _ = ready.send(Err(error));
        return;
    }
    let _ = ready.send(Ok(()));
    let watch = async {
        loop {
            match first {
                Ok((network, destinations, paths)) => {
                    let error = pump(network, paths, &updates, &destinations, &mut wants).await;
                    tracing::error!(?error, "routes and neighbours: begun anew in a second");
                    drop(destinations);
                }
                Err(error) => tracing::error!(%error, "routes and neighbours are not followed"),
            }
            tokio::time::sleep(RETRY).await;
            let ports = wants.borrow().ports.clone();
            first = HostNetwork::open(ports);
        }
    };
    let keep_guards = async {
        let mut ticks = tokio::time::interval(GUARD_INTERVAL);
        loop {
            ticks.tick().await;
            for guard in &guards {
                if let Err(error) = guard.ensure().await {
                    tracing::warn!(%error, interface = guard.interface(), "ingress guard");
                }
            }
        }
    };
    tokio::select! {
        _ = &mut stop => {}
        () = watch => {}
        () = keep_guards => {}
    }
    for guard in guards {
        if let Err(error) = guard.remove().await {
            tracing::warn!(%error, "the ingress guard could not be taken down");
        }
    }
}

/// Passes updates on until the network ends, which it should not.
async fn pump(
    network: HostNetwork,
    mut paths: tokio::sync::mpsc::Receiver<PathUpdate>,
    updates: &crossbeam::channel::Sender<PathUpdate>,
    destinations: &Destinations,
    wants: &mut watch::Receiver<Wants>,
) -> Option<HostError> {
    let forward = async {
        while let Some(update) = paths.recv().await {
            // The control thread ends after this one only.
            let _ = updates.send(update);
        }
    };
    let adapt = async {
        loop {
            let now = wants.borrow_and_update().clone();
            destinations.set_ports(now.ports);
            destinations.set(now.destinations);
            if wants.changed().await.is_err() {
                // The control thread has ended: nothing more is wanted.
                return std::future::pending().await;
            }
        }
    };
    tokio::select! {
        (end, ()) = async { tokio::join!(network.run(), forward) } => end.err(),
        () = adapt => None,
    }
}

fn underlay_ports(config: &Config, macs: &[MacAddr]) -> Vec<UnderlayPort> {
    let net = |prefix: &IpPrefix| IpNet::new(prefix.addr, prefix.len);
    let routes: Vec<StaticRoute> = config
        .underlay
        .routes
        .iter()
        .filter_map(|route| {
            Some(StaticRoute {
                to: net(&route.to)?,
                via: route.via,
            })
        })
        .collect();
    config
        .underlay
        .ports
        .iter()
        .zip(macs)
        .enumerate()
        .map(|(index, (port, mac))| {
            let static_neighbours: Vec<StaticNeighbour> = port
                .neighbours
                .iter()
                .map(|n| StaticNeighbour {
                    address: n.address,
                    mac: n.mac.0,
                })
                .collect();
            let reachable = |route: &&StaticRoute| {
                static_neighbours
                    .iter()
                    .any(|neighbour| neighbour.address == route.via)
            };
            UnderlayPort {
                index,
                tap: port.tap.clone(),
                mac: mac.0,
                mtu: port.mtu,
                addresses: port.addresses.iter().filter_map(net).collect(),
                static_routes: routes.iter().filter(reachable).copied().collect(),
                static_neighbours,
            }
        })
        .collect()
}

impl Control {
    /// New next hops for a peer's address: all workers follow at their next boundary.
    pub(super) fn path_update(&mut self, update: PathUpdate) {
        let PathUpdate { destination, paths } = update;
        self.next_hops.insert(destination, paths);
        let peers: Vec<usize> = self
            .config
            .peers
            .iter()
            .enumerate()
            .filter(|(_, peer)| peer.addresses.contains(&destination))
            .map(|(i, _)| i)
            .collect();
        for i in peers {
            let paths: Arc<[Path]> = self.paths_of(i).into();
            let Some(peer) = self.plan.peers.get(i).copied() else {
                continue;
            };
            if self.paths.get(&peer).is_some_and(|known| **known == *paths) {
                continue;
            }
            if paths.is_empty() {
                let name = self.config.peers.get(i).map_or("?", |p| p.name.as_str());
                tracing::info!(peer = name, %destination, "no next hop for the peer yet");
            }
            self.paths.insert(peer, Arc::clone(&paths));
            self.tell_all(|_| Command::Paths(peer, Arc::clone(&paths)));
        }
    }

    /// Has the host's thread follow the configuration. Next hops of addresses that are no
    /// longer wanted stay known: if they are wanted again soon, nothing new may be said.
    pub(super) fn tell_host(&self) {
        let now = Wants::of(&self.config, &self.devices.macs());
        self.wants.send_if_modified(|wants| {
            let changed = *wants != now;
            *wants = now;
            changed
        });
    }

    /// The paths to the first of a peer's addresses that has any.
    pub(super) fn paths_of(&self, peer: usize) -> Vec<Path> {
        let Some(peer) = self.config.peers.get(peer) else {
            return Vec::new();
        };
        for dst in &peer.addresses {
            let Some(hops) = self.next_hops.get(dst) else {
                continue;
            };
            let paths: Vec<Path> = hops.iter().filter_map(|hop| self.path(*dst, hop)).collect();
            if !paths.is_empty() {
                return paths;
            }
        }
        Vec::new()
    }

    fn path(&self, dst: IpAddr, hop: &crate::host::Path) -> Option<Path> {
        let local = &self.config.underlay.local;
        let src = hop
            .source_hint
            .filter(|hint| local.contains(hint))
            .or_else(|| local.iter().copied().find(|l| l.is_ipv4() == dst.is_ipv4()))?;
        let device = self.devices.underlays.get(hop.port)?;
        Some(Path {
            underlay: u16::try_from(hop.port).ok()?,
            src_mac: MacAddr(hop.src_mac),
            dst_mac: MacAddr(hop.dst_mac),
            src,
            dst,
            mtu: device.mtu,
        })
    }
}

/// Next hops by destination.
pub(super) type NextHops = BTreeMap<IpAddr, Vec<crate::host::Path>>;
