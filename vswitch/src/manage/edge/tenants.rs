//! Tenants' ports come and go: their queues are handed to workers when a device is up, taken
//! back when it goes or its queues change, always by messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use vswitch_vn::PortId;

use super::control::Control;
use super::plan::Plan;
use super::steps::Steps;
use super::{StartError, shares_cores};
use crate::datapath::command::{Command, TenantInput, WorkerId};
use crate::dpdk::mempool::{Mempool, MempoolError};
use crate::dpdk::vhost::{
    Device, DeviceId, EventSink, Mode, Refusal, VhostConfig, VhostError, VhostEvent, VhostSocket,
    VhostTx,
};
use crate::manage::change::Refused;
use crate::manage::config::{Attachment, Config, Port, Vhost, VhostMode};

/// A tenant's port as the control side sees it.
pub(super) struct Tenant {
    /// What its socket's events come with.
    tag: u64,
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
impl Tenant {
    fn disconnected(&mut self) {
        self.device = None;
        self.workers.clear();
        self.queues = 0;
    }
}

/// Why a tenant's port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// Its buffers.
    #[error("port `{port}`: {source}")]
    Buffers { port: String, source: MempoolError },
    /// Its socket.
    #[error("port `{port}`: {source}")]
    Socket { port: String, source: VhostError },
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Buffers { source, .. } => source.into(),
            OpenError::Socket { port, source } => StartError::Vhost { port, source },
        }
    }
}

impl From<OpenError> for Refused {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Buffers { port, source } => Refused::Buffers { port, source },
            OpenError::Socket { port, source } => Refused::Socket { port, source },
        }
    }
}

pub(super) type Tenants = BTreeMap<PortId, Tenant>;

/// Name and socket of port `i`, if it is a tenant's.
pub(super) fn vhost_of(config: &Config, i: usize) -> Option<(&str, &Vhost)> {
    let port = config.ports.get(i)?;
    match &port.attachment {
        Attachment::Vhost(vhost) => Some((&port.name, vhost)),
        Attachment::Vlan(_) => None,
    }
}

impl Control {
    /// Opens the sockets of all tenants' ports.
    pub(super) fn open_sockets(&mut self) -> Result<(), StartError> {
        let config = Arc::clone(&self.config);
        for (i, id) in self.plan.ports.clone().into_iter().enumerate() {
            if let Some((name, vhost)) = vhost_of(&config, i) {
                let tenant = self.make_tenant(&config, name, vhost, None)?;
                self.tenants.insert(id, tenant);
            }
        }
        Ok(())
    }

    /// A tenant's buffers and socket; `pool` is that of a predecessor on the same path.
    pub(super) fn make_tenant(
        &mut self,
        config: &Config,
        name: &str,
        vhost: &Vhost,
        pool: Option<Mempool>,
    ) -> Result<Tenant, OpenError> {
        let name = name.to_owned();
        // Never used again, so that what happened on a closed socket concerns nobody.
        let tag = self.next_id();
        let pool = match pool {
            Some(pool) => pool,
            None => Mempool::create_small(
                &format!("tenant-{tag}"),
                config.mempool.tenant_mbufs,
                usize::from(config.mempool.data_room),
                None,
                shares_cores(config),
                self.members.len() as u32,
            )
            .map_err(|source| OpenError::Buffers {
                port: name.clone(),
                source,
            })?,
        };
        let wanted = VhostConfig {
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
            tag,
        };
        let socket = self
            .register(wanted)
            .map_err(|source| OpenError::Socket { port: name, source })?;
        Ok(Tenant {
            tag,
            socket: Some(socket),
            pool,
            device: None,
            workers: Vec::new(),
            queues: 0,
            draining: None,
            dry: 0,
        })
    }

    fn register(&self, wanted: VhostConfig) -> Result<VhostSocket, VhostError> {
        let events = self.vhost_events.clone();
        let sink: EventSink = Arc::new(move |event| {
            let _ = events.send(event);
        });
        VhostSocket::register(wanted, &self.domain, sink)
    }

    /// Makes sockets anew that are to be others on the same path. The old ones are closed
    /// first; if one of the new cannot be made, they are made again.
    pub(super) fn reopen(
        &mut self,
        config: &Config,
        plan: &Plan,
        wanted: &[(PortId, usize)],
    ) -> Result<Vec<(PortId, Tenant)>, Refused> {
        let mut closed: Vec<(PortId, VhostConfig)> = Vec::new();
        for (had, _) in wanted {
            if let Some(tenant) = self.tenants.get_mut(had)
                && let Some(socket) = tenant.socket.take()
            {
                closed.push((*had, socket.config().clone()));
                drop(socket);
                tenant.disconnected();
            }
        }
        let mut opened = Vec::new();
        for (had, i) in wanted {
            let pool = self.tenants.get(had).map(|tenant| tenant.pool.clone());
            let Some((name, vhost)) = vhost_of(config, *i) else {
                continue;
            };
            match self.make_tenant(config, name, vhost, pool) {
                Ok(tenant) => {
                    if let Some(id) = plan.ports.get(*i) {
                        opened.push((*id, tenant));
                    }
                }
                Err(error) => {
                    // Their paths must be free for those that were there before.
                    drop(opened);
                    return Err(self.close_again(closed, error.into()));
                }
            }
        }
        Ok(opened)
    }

    /// Puts closed sockets back into service.
    fn close_again(&mut self, closed: Vec<(PortId, VhostConfig)>, refused: Refused) -> Refused {
        let mut refused = refused;
        for (id, was) in closed {
            // Handles of the device that is gone.
            self.tell_all(|_| Command::Detach(id));
            match self.register(was) {
                Ok(socket) => {
                    if let Some(tenant) = self.tenants.get_mut(&id) {
                        tenant.socket = Some(socket);
                    }
                }
                Err(source) => {
                    refused = Refused::NotUndone {
                        refused: Box::new(refused),
                        port: self.port_name(id).to_owned(),
                        source,
                    };
                }
            }
        }
        refused
    }

    /// Tenants after a change that the workers have been told.
    pub(super) fn settle_tenants(&mut self, steps: &Steps, opened: Vec<(PortId, Tenant)>) {
        let replaced = steps.reopened.iter().map(|(had, _)| had);
        for id in steps.closed.iter().chain(replaced) {
            if let Some(tenant) = self.tenants.remove(id) {
                // Buffers may be under way for a while.
                self.old_pools.push(tenant.pool.clone());
            }
        }
        let moved: Vec<(PortId, Option<Tenant>)> = steps
            .moved
            .iter()
            .map(|(had, id)| (*id, self.tenants.remove(had)))
            .collect();
        for (id, tenant) in moved {
            if let Some(tenant) = tenant {
                self.tenants.insert(id, tenant);
                self.redistribute(id);
            }
        }
        self.tenants.extend(opened);
        for id in &steps.redistributed {
            self.redistribute(*id);
        }
    }

    /// Frees buffers of tenants that are gone, when all have come back.
    pub(super) fn free_old_pools(&mut self) {
        self.old_pools.retain(|pool| pool.in_use() > 0);
    }

    fn port_of_tag(&self, tag: u64) -> Option<PortId> {
        let mut tenants = self.tenants.iter();
        tenants.find(|(_, t)| t.tag == tag).map(|(id, _)| *id)
    }

    pub(super) fn vhost_event(&mut self, event: VhostEvent) {
        match event {
            VhostEvent::Up { tag, device } => {
                let Some(port) = self.port_of_tag(tag) else {
                    return;
                };
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
                let Some(port) = self.port_of_tag(tag) else {
                    return;
                };
                if self.current(port) == Some(device) {
                    tracing::info!(port = self.port_name(port), "tenant disconnected");
                    if let Some(tenant) = self.tenants.get_mut(&port) {
                        tenant.disconnected();
                    }
                    self.tell_all(|_| Command::Detach(port));
                }
            }
            VhostEvent::QueueState { tag, device } => {
                let Some(port) = self.port_of_tag(tag) else {
                    return;
                };
                if self.current(port) == Some(device) {
                    self.redistribute(port);
                }
            }
            VhostEvent::PeerRefused { tag, uid, reason } => {
                let port = self.port_of_tag(tag).map_or("?", |id| self.port_name(id));
                self.refused(port.to_owned(), uid, reason);
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
            .port_config(port)
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
        self.port_config(port).map_or("?", |p| p.name.as_str())
    }

    fn port_config(&self, port: PortId) -> Option<&Port> {
        self.config.ports.get(self.plan.port_place(port)?)
    }
}
