//! A running edge: the configuration turned into ports, workers, SAs and tables, and the
//! control thread that looks after them.
//!
//! `plan` numbers things, `view` is what the tables shall hold, `devices` opens ports, `keys`
//! makes SAs of manual keys, `state` keeps what outlives the process, `control` is the thread,
//! `tenants`, `paths` and `reservations` are what it reacts to, `exports` the keys it gives away,
//! `overlay` what an authority adds, `floors` what it writes back, `report` and `meters` what it tells; `handle` asks. `steps` works
//! out what a changed configuration asks for, `change` carries it out, `rounds` waits until it
//! has, `revisions` keeps the way back.

mod associations;
mod buffers;
mod change;
mod control;
mod devices;
mod exports;
mod floors;
mod handle;
mod keys;
mod meters;
pub mod overlay;
mod paths;
mod plan;
mod rehearsals;
mod report;
mod reservations;
mod revisions;
mod rounds;
mod sightings;
mod state;
mod steps;
#[cfg(test)]
mod steps_tests;
mod tenants;
mod view;
mod watches;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use tokio::sync::watch;
use vswitch_net::MacAddr;

pub use handle::{Handle, NoAnswer};
pub use keys::KeyError;
pub use paths::HostLink;
pub use plan::TooMany;
pub use revisions::RecordedError;

use control::{Control, Member};
use handle::Request;
use overlay::Overlay;

use super::change::Running;
use super::config::{Config, Idle, Memory};
use super::status::Status;
use crate::datapath::Endpoints;
use crate::datapath::command::{Command, Event};
use crate::datapath::handoff::Handoff;
use crate::datapath::probe::NoProbe;
use crate::datapath::worker::{self, Worker, WorkerSetup};
use crate::dpdk::eal::{Eal, EalConfig, EalError};
use crate::dpdk::ethdev::{Port, PortError};
use crate::dpdk::mempool::{Mempool, MempoolError};
use crate::dpdk::quiescence::Domain;
use crate::dpdk::ring::{self, Consumer, Producer, RingError};
use crate::dpdk::thread::{WorkerError, spawn_worker};
use crate::dpdk::time::TscClock;
use crate::dpdk::vhost::VhostError;
use crate::host::{self, HostError};

/// Why an edge did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// DPDK's environment.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// A port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Packet buffers.
    #[error(transparent)]
    Mempool(#[from] MempoolError),
    /// Hand-off rings.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A worker's thread.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// A tenant's socket.
    #[error("port `{port}`: {source}")]
    Vhost {
        /// The tenant's port.
        port: String,
        /// Why not.
        source: VhostError,
    },
    /// Manual keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The host's network.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The AEAD implementation.
    #[error("workers.aead: {0}; write one of those, or `auto`")]
    Aead(#[from] vswitch_aead::SelectError),
    /// The forwarding tables.
    #[error("forwarding tables: {0}")]
    Tables(#[from] vswitch_vn::ChangeError),
    /// More things than numbers for them.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// A thread of the system.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// The configuration sees to that.
    #[error("no workers")]
    NoWorkers,
    /// Random numbers.
    #[error("the kernel gives no random numbers: {0}")]
    Random(#[source] std::io::Error),
}

/// Packets between a pair of workers.
const RING_CAPACITY: u32 = 1024;
/// Commands waiting for a worker.
const MAILBOX: usize = 1024;

/// A running edge. Dropping it stops it.
pub struct Edge {
    requests: Sender<Request>,
    running: watch::Receiver<Arc<Running>>,
    control: Option<JoinHandle<Status>>,
    host: Option<HostLink>,
    failed: watch::Receiver<bool>,
    overlay: Option<Overlay>,
    pool: Mempool,
    // Last, after everything that uses it.
    _eal: Eal,
}

impl Edge {
    /// Starts what the configuration describes.
    pub fn start(config: Config) -> Result<Edge, StartError> {
        let eal = Eal::init(&eal_config(&config))?;
        Self::start_on(eal, config, BTreeMap::new())
    }

    /// As [`Self::start`], on an EAL that runs, with ports that exist already in place of
    /// the `device`s of these names.
    pub fn start_on(
        eal: Eal,
        config: Config,
        given: BTreeMap<String, Port>,
    ) -> Result<Edge, StartError> {
        let backend = vswitch_aead::select(config.workers.aead.forced())?;
        tracing::info!(backend = backend.name(), "AEAD backend");
        let state = state::StateDir::open(&config.state_dir)?;
        let shared_cores = shares_cores(&config);
        let pools = buffers::pools(&config, shared_cores)?;
        let Some(pool) = pools.first().cloned() else {
            return Err(StartError::NoWorkers);
        };
        // The guard against the kernel's own answers stands before the first packet.
        let mut host = HostLink::start(&config)?;
        let mut devices = devices::open(&config, &pools, given)?;
        let (updates, wants) = host.follow(&config, &devices.macs())?;

        let workers = config.workers.cores.len();
        let (events_tx, events) = bounded::<Event>(MAILBOX * workers.max(4));
        let domain = Domain::new();
        let clock = TscClock::new()?;
        let mut rings = rings(workers)?;
        let endpoints = Endpoints {
            local: config.underlay.local.clone(),
            esp_port: config.underlay.esp_port,
            macs: devices.macs(),
        };
        let mut members = Vec::new();
        for (id, core) in config.workers.cores.iter().enumerate() {
            let (mailbox_tx, mailbox) = bounded::<Command>(MAILBOX);
            let share = devices
                .shares
                .get_mut(id)
                .map(std::mem::take)
                .unwrap_or_default();
            let (to, from) = rings.get_mut(id).map(std::mem::take).unwrap_or_default();
            let setup = WorkerSetup {
                id: id as u16,
                idle: match config.workers.idle {
                    Idle::Poll => worker::Idle::Poll,
                    Idle::Yield => worker::Idle::Yield,
                },
                pool: pools.get(id).unwrap_or(&pool).clone(),
                backend,
                seed: random()?,
                inputs: share.inputs,
                underlays: share.underlays,
                taps: share.taps,
                trunks: share.trunks,
                handoff: Handoff::new(to, from),
                endpoints: endpoints.clone(),
                trunk_mtus: devices.trunks.iter().map(|device| device.mtu).collect(),
                // Not shared out: what the kernel needs most may come to one queue only.
                kernel_rate: config.underlay.kernel_rate,
                clock,
                mailbox,
                events: events_tx.clone(),
                reader: domain.reader(&format!("worker {id}")),
            };
            let thread = spawn_worker(&format!("vswitch-w{id}"), usize::from(*core), move |_| {
                Worker::new(setup, NoProbe).run();
            })?;
            members.push(Member {
                core: *core,
                mailbox: mailbox_tx,
                waiting: RefCell::default(),
                thread: Some(thread),
            });
        }
        let (requests, request_rx) = bounded(64);
        let (vhost_tx, vhost_rx) = unbounded();
        let (failed_tx, failed) = watch::channel(false);
        let (overlay, ends) = match config.authority {
            Some(_) => {
                let (overlay, ends) = overlay::channel(workers, devices.spreads());
                (Some(overlay), Some(ends))
            }
            None => (None, None),
        };
        let control = Control::new(control::Parts {
            started: Instant::now(),
            backend,
            hugepages: eal.hugepages(),
            pools,
            config,
            state,
            devices,
            domain,
            members,
            failed: failed_tx,
            seed: random()?,
            vhost_events: vhost_tx,
            clock,
            wants,
            overlay: ends,
        })?;
        let running = control.running.subscribe();
        let channels = control::Channels {
            events,
            vhost: vhost_rx,
            updates,
            requests: request_rx,
        };
        let thread = std::thread::Builder::new()
            .name("vswitch-control".into())
            .spawn(move || control.run(&channels))
            .map_err(StartError::Thread)?;
        Ok(Edge {
            requests,
            running,
            control: Some(thread),
            host: Some(host),
            failed,
            overlay,
            pool,
            _eal: eal,
        })
    }

    /// A handle for questions.
    pub fn handle(&self) -> Handle {
        Handle {
            requests: self.requests.clone(),
            running: self.running.clone(),
        }
    }

    /// Becomes true if a worker ends by itself, which only a bug makes it do: the process
    /// should end then, for its supervisor to start it anew.
    pub fn failed(&self) -> watch::Receiver<bool> {
        self.failed.clone()
    }

    /// The queues between the control thread and the authority's, once, if the configuration
    /// has an authority. Whoever takes them must empty the one and may fill the other.
    pub fn take_overlay(&mut self) -> Option<Overlay> {
        self.overlay.take()
    }

    /// The buffers of its packets; on a machine with several NUMA nodes, worker 0's.
    pub fn pool(&self) -> &Mempool {
        &self.pool
    }

    /// Stops and returns the last report, in which everything has its verdict.
    pub fn stop(mut self) -> Option<Status> {
        self.end()
    }

    fn end(&mut self) -> Option<Status> {
        let control = self.control.take()?;
        // If the thread is gone already, joining tells.
        let _ = self.requests.send(Request::Stop);
        let last = control.join().ok();
        drop(self.host.take());
        last
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.end();
    }
}

fn eal_config(config: &Config) -> EalConfig {
    let pci = config
        .underlay
        .ports
        .iter()
        .map(|p| &p.device)
        .chain(config.devices.iter().map(|d| &d.device))
        .filter(|device| {
            device.starts_with(|c: char| c.is_ascii_hexdigit()) && device.contains(':')
        })
        .cloned()
        .collect();
    EalConfig {
        memory: match config.eal.memory {
            Memory::Auto => crate::dpdk::hugepages::Memory::Auto,
            Memory::Hugepages => crate::dpdk::hugepages::Memory::Hugepages,
            Memory::NoHuge => crate::dpdk::hugepages::Memory::NoHuge,
        },
        memory_mb: config.eal.memory_mb,
        file_prefix: config.eal.file_prefix.clone(),
        pci,
        extra_args: config.eal.args.clone(),
        ..EalConfig::default()
    }
}

/// Whether a worker may be preempted by a colleague or by somebody else.
fn shares_cores(config: &Config) -> bool {
    let mut cores = config.workers.cores.clone();
    cores.sort_unstable();
    cores.dedup();
    cores.len() < config.workers.cores.len() || config.workers.idle == Idle::Yield
}

type Ends = (Vec<Option<Producer>>, Vec<Consumer>);

/// One ring for each ordered pair of workers.
fn rings(workers: usize) -> Result<Vec<Ends>, StartError> {
    let mut ends: Vec<Ends> = Vec::new();
    ends.resize_with(workers, Default::default);
    for from in 0..workers {
        for to in 0..workers {
            let producer = if from == to {
                None
            } else {
                let name = format!("handoff_{from}_{to}");
                let (producer, consumer) = ring::channel(&name, RING_CAPACITY, None)?;
                if let Some(end) = ends.get_mut(to) {
                    end.1.push(consumer);
                }
                Some(producer)
            };
            if let Some(end) = ends.get_mut(from) {
                end.0.push(producer);
            }
        }
    }
    Ok(ends)
}

fn random() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| StartError::Random(e.into()))?;
    Ok(u64::from_ne_bytes(bytes))
}

impl devices::Devices {
    fn macs(&self) -> Vec<MacAddr> {
        self.underlays.iter().map(|device| device.mac).collect()
    }
}

/// Resolved next hops, as they come.
pub(crate) type Updates = Receiver<host::PathUpdate>;
