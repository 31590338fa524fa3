//! Tenants' ports come and go: their queues are handed to workers when a device is up, taken
//! back when it goes or its queues change, always by messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use vswitch_vn::PortId;

use super::control::Control;
use super::plan::port_id;
use super::{StartError, shares_cores};
use crate::datapath::command::{Command, TenantInput, WorkerId};
use crate::dpdk::mempool::Mempool;
use crate::dpdk::vhost::{
    Device, DeviceId, EventSink, Mode, Refusal, VhostConfig, VhostEvent, VhostSocket, VhostTx,
};
use crate::manage::config::{Attachment, VhostMode};

/// A tenant's port as the control side sees it.
pub(super) struct Tenant {
    /// Dropping it closes the socket.
    pub socket: Option<VhostSocket>,
    /// Buffers for what the guest sends.
    pub pool: Mempool,
    /// The device that is up.
    pub device: Option<Device>,
    /// Workers that receive from it.
    pub workers: Vec<WorkerId>,
    /// Queue pairs in use.
    pub queues: u16,
    /// Barrier that must be passed before the queues are handed out again, and how many
    /// workers have yet to pass it.
    draining: Option<(u64, usize)>,
    /// Seconds for which no buffer was free.
    dry: u32,
}

/// Seconds without a free buffer after which a port's frontend is cut off: packets stay in the
/// switch for milliseconds.
const DRY: u32 = 5;

pub(super) type Tenants = BTreeMap<PortId, Tenant>;

impl Control {
    /// Opens the sockets of all tenants' ports.
    pub(super) fn open_sockets(&mut self) -> Result<(), StartError> {
        let vhosts: Vec<(PortId, String, VhostConfig)> = self
            .config
            .ports
            .iter()
            .enumerate()
            .filter_map(|(i, port)| match &port.attachment {
                Attachment::Vlan(_) => None,
                Attachment::Vhost(vhost) => Some((
                    port_id(i),
                    port.name.clone(),
                    VhostConfig {
                        path: vhost.socket.clone(),
                        mode: match vhost.mode {
                            VhostMode::Client => Mode::Client,
                            VhostMode::Server => Mode::Server,
                        },
                        queues: vhost.queues,
                        uid: vhost.owner,
                        gid: vhost.group,
                        permissions: vhost.permissions,
                        peer_uid: vhost.peer_uid,
                        tag: i as u64,
                    },
                )),
            })
            .collect();
        let shared_cores = shares_cores(&self.config);
        let buffers = self.config.mempool.clone();
        for (id, port, config) in vhosts {
            let pool = Mempool::create_small(
                &format!("tenant-{}", id.0),
                buffers.tenant_mbufs,
                usize::from(buffers.data_room),
                None,
                shared_cores,
                self.members.len() as u32,
            )?;
            let events = self.vhost_events.clone();
            let sink: EventSink = Arc::new(move |event| {
                let _ = events.send(event);
            });
            let socket = VhostSocket::register(config, &self.domain, sink)
                .map_err(|source| StartError::Vhost { port, source })?;
            self.tenants.insert(
                id,
                Tenant {
                    socket: Some(socket),
                    pool,
                    device: None,
                    workers: Vec::new(),
                    queues: 0,
                    draining: None,
                    dry: 0,
                },
            );
        }
        Ok(())
    }

    pub(super) fn vhost_event(&mut self, event: VhostEvent) {
        match event {
            VhostEvent::Up { tag, device } => {
                let port = port_id(tag as usize);
                tracing::info!(
                    port = self.port_name(port),
                    queues = device.queue_pairs(),
                    mtu = device.mtu(),
                    "tenant connected"
                );
                if let Some(tenant) = self.tenants.get_mut(&port) {
                    tenant.device = Some(device);
                    self.redistribute(port);
                }
            }
            VhostEvent::Down { tag, device } => {
                let port = port_id(tag as usize);
                if self.current(port) == Some(device) {
                    tracing::info!(port = self.port_name(port), "tenant disconnected");
                    if let Some(tenant) = self.tenants.get_mut(&port) {
                        tenant.device = None;
                        tenant.workers.clear();
                        tenant.queues = 0;
                    }
                    self.tell_all(|_| Command::Detach(port));
                }
            }
            VhostEvent::QueueState { tag, device } => {
                let port = port_id(tag as usize);
                if self.current(port) == Some(device) {
                    self.redistribute(port);
                }
            }
            VhostEvent::PeerRefused { tag, uid, reason } => {
                let port = self.port_name(port_id(tag as usize)).to_owned();
                self.refused(port, uid, reason);
            }
        }
    }

    fn current(&self, port: PortId) -> Option<DeviceId> {
        Some(self.tenants.get(&port)?.device.as_ref()?.id())
    }

    /// Takes a port's queues back from all workers; they are handed out when all have
    /// passed the barrier.
    fn redistribute(&mut self, port: PortId) {
        let barrier = self.next_id();
        let workers = self.members.len();
        if let Some(tenant) = self.tenants.get_mut(&port) {
            tenant.draining = Some((barrier, workers));
        }
        self.tell_all(|_| {
            Command::Transaction(vec![Command::Detach(port), Command::Barrier(barrier)])
        });
    }

    /// A worker passed a barrier.
    pub(super) fn barrier_passed(&mut self, barrier: u64) {
        let port = self.tenants.iter_mut().find_map(|(port, tenant)| {
            let (id, left) = tenant.draining.as_mut().filter(|(id, _)| *id == barrier)?;
            let _ = id;
            *left = left.saturating_sub(1);
            (*left == 0).then_some(*port)
        });
        if let Some(port) = port {
            if let Some(tenant) = self.tenants.get_mut(&port) {
                tenant.draining = None;
            }
            self.attach(port);
        }
    }

    /// Hands the enabled queues of a port to their owners: pair i to worker (first + i) mod
    /// workers. Whoever gets no transmit queue sends through the owner of the first.
    fn attach(&mut self, port: PortId) {
        let workers = self.members.len().max(1);
        let first = self
            .config
            .ports
            .get(port.index())
            .and_then(|p| p.worker)
            .map_or(port.index() % workers, usize::from);
        let Some(tenant) = self.tenants.get_mut(&port) else {
            return;
        };
        let Some(device) = &tenant.device else { return };
        let mut rx: Vec<Vec<TenantInput>> = Vec::new();
        let mut tx: Vec<Option<VhostTx>> = Vec::new();
        rx.resize_with(workers, Vec::new);
        tx.resize_with(workers, || None);
        let mut via = None;
        tenant.queues = 0;
        for (pair, (receives, sends)) in device.enabled().into_iter().enumerate() {
            let owner = (first + pair) % workers;
            let mut used = false;
            if receives
                && let (Some(queues), Some(queue)) =
                    (rx.get_mut(owner), device.take_rx(pair as u16))
            {
                let pool = tenant.pool.clone();
                queues.push(TenantInput { queue, pool });
                used = true;
            }
            if sends
                && let Some(place @ None) = tx.get_mut(owner)
                && let Some(queue) = device.take_tx(pair as u16)
            {
                *place = Some(queue);
                via.get_or_insert(owner as WorkerId);
                used = true;
            }
            tenant.queues += u16::from(used);
        }
        tenant.workers = rx
            .iter()
            .enumerate()
            .filter(|(_, queues)| !queues.is_empty())
            .map(|(worker, _)| worker as WorkerId)
            .collect();
        let receivers = tenant.workers.len() as u16;
        let shares: Vec<_> = rx.into_iter().zip(tx).enumerate().collect();
        for (worker, (rx, tx)) in shares {
            let via = via.unwrap_or(worker as WorkerId);
            self.tell(
                worker,
                Command::Attach {
                    port,
                    rx,
                    tx,
                    via,
                    receivers,
                },
            );
        }
    }

    /// Cuts off frontends whose port has had no buffer for a while: nothing is received any
    /// more, and the operator should know.
    pub(super) fn watch_pools(&mut self) {
        for tenant in self.tenants.values_mut() {
            let Some(device) = tenant
                .device
                .as_ref()
                .filter(|_| tenant.pool.available() == 0)
            else {
                tenant.dry = 0;
                continue;
            };
            tenant.dry += 1;
            if tenant.dry >= DRY {
                tenant.dry = 0;
                device.cut_off(Refusal::Drained);
            }
        }
    }

    pub(super) fn port_name(&self, port: PortId) -> &str {
        self.config
            .ports
            .get(port.index())
            .map_or("?", |p| p.name.as_str())
    }
}
