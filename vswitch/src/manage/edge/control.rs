//! The control thread: the only one that tells workers what to do. It reacts to workers,
//! vhost devices, the kernel's routes and the operator, one event at a time.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, never, select, tick};
use tokio::sync::watch;
use vswitch_aead::Backend;
use vswitch_vn::{Change, PeerId, Tables, TunnelId};

use super::change::Changes;
use super::devices::Devices;
use super::exports::Exports;
use super::floors::Floor;
use super::handle::Request;
use super::meters::Windows;
use super::overlay::{self, Agreed, Notice, Wanted};
use super::paths::{NextHops, Wants};
use super::plan::{Ids, Plan, pair_names, port_setup};
use super::rehearsals::Rehearsing;
use super::report::Gathering;
use super::reservations::{Low, Unreserved};
use super::revisions::History;
use super::rounds::Round;
use super::state::StateDir;
use super::tenants::Tenants;
use super::view::View;
use super::watches::Watches;
use super::{StartError, Updates};
use crate::datapath::command::{Command, Event, Path, WorkerId};
use crate::datapath::demand::Terms;
use crate::datapath::snapshot::WorkerSnapshot;
use crate::dpdk::mempool::Mempool;
use crate::dpdk::quiescence::Domain;
use crate::dpdk::thread;
use crate::dpdk::time::TscClock;
use crate::dpdk::vhost::VhostEvent;
use crate::manage::change::Running;
use crate::manage::config::{Config, Direction};
use crate::manage::security::{Limiter, SecurityEvent, configuration_changed};
use crate::manage::status::Status;

/// A worker as the control side knows it.
pub(super) struct Member {
    pub core: u16,
    pub mailbox: Sender<Command>,
    /// Commands that the mailbox has had no room for, in order; and since when.
    pub waiting: RefCell<(VecDeque<Command>, Option<Instant>)>,
    pub thread: Option<thread::Worker<()>>,
}

impl Member {
    /// Posts what waits, then `command`.
    fn post(&self, command: Option<Command>) {
        let mut waiting = self.waiting.borrow_mut();
        let (queue, since) = &mut *waiting;
        queue.extend(command);
        while let Some(next) = queue.pop_front() {
            if let Err(error) = self.mailbox.try_send(next) {
                queue.push_front(error.into_inner());
                since.get_or_insert_with(Instant::now);
                return;
            }
        }
        *since = None;
    }

    /// Whether it has taken nothing for too long: stuck, or ended.
    fn stuck(&self) -> bool {
        let since = self.waiting.borrow().1;
        since.is_some_and(|since| since.elapsed() > STUCK)
    }
}

/// What a control thread is made of.
pub(super) struct Parts {
    pub started: Instant,
    pub backend: &'static dyn Backend,
    pub hugepages: bool,
    pub pools: Vec<Mempool>,
    pub config: Config,
    pub state: StateDir,
    pub devices: Devices,
    pub domain: Domain,
    pub members: Vec<Member>,
    pub failed: watch::Sender<bool>,
    pub seed: u64,
    pub vhost_events: Sender<VhostEvent>,
    pub clock: TscClock,
    pub wants: watch::Sender<Wants>,
    pub overlay: Option<overlay::Ends>,
}

/// What it listens to.
pub(super) struct Channels {
    pub events: Receiver<Event>,
    pub vhost: Receiver<VhostEvent>,
    pub updates: Updates,
    pub requests: Receiver<Request>,
}

/// Its state.
pub(super) struct Control {
    pub started: Instant,
    pub backend: &'static dyn Backend,
    pub hugepages: bool,
    /// Of each worker; those of one node share one.
    pub pools: Vec<Mempool>,
    /// Latencies at earlier reports.
    pub windows: RefCell<Windows>,
    /// What runs: the operator's configuration with what the authority says.
    pub config: Arc<Config>,
    /// The operator's.
    pub local: Arc<Config>,
    /// What the authority says.
    pub wanted: Wanted,
    /// SAs of agreed keys.
    pub agreed: Agreed,
    /// The queues to and from the authority's thread, if there is one.
    pub overlay: Option<overlay::Ends>,
    pub plan: Plan,
    /// The master copy of the workers' tables.
    pub tables: Tables,
    pub state: StateDir,
    pub devices: Devices,
    pub domain: Domain,
    pub members: Vec<Member>,
    pub tenants: Tenants,
    pub next_hops: NextHops,
    pub paths: BTreeMap<PeerId, Arc<[Path]>>,
    pub vhost_events: Sender<VhostEvent>,
    pub gathering: Vec<Gathering>,
    failed: watch::Sender<bool>,
    /// Last counters of workers that have ended.
    pub ended: Vec<WorkerSnapshot>,
    pub floors: Vec<Floor>,
    /// Reservations that failed and are tried again.
    pub unreserved: Vec<Unreserved>,
    /// Keys that were given away.
    pub exports: Exports,
    pub watches: Watches,
    pub rehearsals: Vec<Rehearsing>,
    pub clock: TscClock,
    /// What is told in the security log, and when.
    pub security: Limiter,
    last_id: u64,
    pub changes: Changes,
    /// Barriers behind changes.
    pub rounds: Vec<Round>,
    /// Ids of removed things that something may still remember.
    pub resting: Ids,
    /// Of the newest mappings.
    pub generation: u64,
    pub history: History,
    pub running: watch::Sender<Arc<Running>>,
    pub wants: watch::Sender<Wants>,
    /// Buffers of tenants that are gone.
    pub old_pools: Vec<Mempool>,
}

/// Generation of the mappings that the switch starts with.
const FIRST: u64 = 1;
/// A worker that takes no command for so long will take none any more.
const STUCK: Duration = Duration::from_secs(10);
/// How long a report waits for the slowest worker.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);
/// How long stopping waits for a worker.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

impl Control {
    /// Tells the workers what they begin with, then lets tenants connect.
    pub(super) fn new(parts: Parts) -> Result<Control, StartError> {
        let wanted = Wanted::default();
        let config = Arc::new(wanted.adapt(&parts.config));
        let plan = Plan::first(&config)?;
        let changes = View::default().changes(&View::of(&config, &plan), FIRST);
        let mut tables = Tables::new(parts.seed);
        tables.transact(&changes)?;
        let local = Arc::new(parts.config);
        let history = History::open(&parts.state, &local)?;
        let list = history.list();
        let revision = list.last().cloned().ok_or(StartError::NoWorkers)?;
        let running = watch::Sender::new(Arc::new(Running {
            revision,
            config: Arc::clone(&local),
            history: list.to_vec(),
        }));
        let exports = Exports::load(&parts.state)?;
        let watches = Watches::new(parts.members.len());
        let mut control = Control {
            started: parts.started,
            backend: parts.backend,
            hugepages: parts.hugepages,
            pools: parts.pools,
            windows: RefCell::new(Windows::new(parts.started)),
            local,
            config,
            wanted,
            agreed: Agreed::default(),
            overlay: parts.overlay,
            plan,
            tables,
            state: parts.state,
            devices: parts.devices,
            domain: parts.domain,
            members: parts.members,
            tenants: Tenants::new(),
            next_hops: NextHops::new(),
            paths: BTreeMap::new(),
            vhost_events: parts.vhost_events,
            gathering: Vec::new(),
            failed: parts.failed,
            ended: Vec::new(),
            floors: Vec::new(),
            unreserved: Vec::new(),
            exports,
            watches,
            rehearsals: Vec::new(),
            clock: parts.clock,
            security: Limiter::default(),
            last_id: 0,
            changes: Changes::default(),
            rounds: Vec::new(),
            resting: Ids::default(),
            generation: FIRST,
            history,
            running,
            wants: parts.wants,
            old_pools: Vec::new(),
        };
        let changes: Arc<[Change]> = changes.into();
        let terms = control.config.authority.as_ref();
        let terms = terms.map(|authority| Terms {
            idle: authority.idle,
            control_port: authority.listen.port(),
        });
        control.tell_all(|_| Command::Terms(terms));
        control.tell_all(|_| Command::Tables(Arc::clone(&changes)));
        let queues = control.trunk_queues();
        for i in 0..control.config.ports.len() {
            if let Some(setup) = port_setup(&control.config, &control.plan, i, &queues) {
                control.tell_all(|_| Command::Port(Box::new(setup.clone())));
            }
        }
        control.install_manual_keys()?;
        control.open_sockets()?;
        let file = control.config.file().display();
        configuration_changed("start", &format!("the configuration of {file} is in force"));
        control.remind_of_exports();
        control.tell_configuration();
        Ok(control)
    }

    /// Receive queues of each VLAN device.
    pub(super) fn trunk_queues(&self) -> Vec<u16> {
        self.devices.trunks.iter().map(|d| d.queues).collect()
    }

    fn install_manual_keys(&mut self) -> Result<(), StartError> {
        let (config, plan) = (Arc::clone(&self.config), self.plan.clone());
        let mut owners: BTreeMap<TunnelId, WorkerId> = BTreeMap::new();
        for sa in &config.security_associations {
            let worker = usize::from(sa.worker);
            match sa.direction {
                Direction::Outbound => {
                    if let Some(setup) = self.outbound_setup(&config, &plan, sa)? {
                        owners.entry(setup.tunnel).or_insert(sa.worker);
                        self.tell(worker, Command::InstallOutbound(setup));
                    }
                }
                Direction::Inbound => {
                    if let Some((setup, floor)) = self.inbound_setup(&config, &plan, sa)? {
                        self.floors.push(floor);
                        self.tell(worker, Command::InstallInbound(setup));
                        self.tell_all(|_| Command::InboundOwner(sa.spi, Some(sa.worker)));
                    }
                }
            }
        }
        for (tunnel, owner) in owners {
            self.tell_all(|_| Command::OutboundOwner(tunnel, Some(owner)));
        }
        Ok(())
    }

    /// The thread's life.
    pub(super) fn run(mut self, channels: &Channels) -> Status {
        let seconds = tick(Duration::from_secs(1));
        let moments = tick(Duration::from_millis(5));
        let mut updates = channels.updates.clone();
        let mut orders = match &self.overlay {
            Some(ends) => ends.orders.clone(),
            None => never(),
        };
        loop {
            select! {
                recv(channels.events) -> event => if let Ok(event) = event {
                    self.worker_event(event);
                },
                recv(channels.vhost) -> event => if let Ok(event) = event {
                    self.vhost_event(event);
                },
                recv(updates) -> update => match update {
                    Ok(update) => self.path_update(update),
                    // The host's thread has ended: nothing more comes from there.
                    Err(_) => updates = never(),
                },
                recv(orders) -> batch => match batch {
                    Ok(batch) => self.ordered(batch),
                    // The authority's thread has ended, and the process is about to.
                    Err(_) => orders = never(),
                },
                recv(channels.requests) -> request => match request {
                    Ok(Request::Status(answer)) => self.gather(answer),
                    Ok(Request::ExportKeys(request)) => {
                        (request.answer)(self.export_keys(request.who, &request.which));
                    }
                    Ok(Request::Watch(ask, answer)) => answer(self.watch(&ask)),
                    Ok(Request::Rehearse(inject, answer)) => self.rehearse(inject, answer),
                    Ok(Request::Change(job)) => self.change_asked(*job),
                    Ok(Request::Stop) | Err(_) => return self.stop(channels),
                },
                recv(moments) -> _ => {
                    self.members.iter().for_each(|m| m.post(None));
                    self.end_watches();
                    if let Some(ends) = &mut self.overlay {
                        ends.outbox.flush();
                    }
                },
                recv(seconds) -> _ => self.each_second(),
            }
        }
    }

    fn worker_event(&mut self, event: Event) {
        match event {
            Event::Snapshot(id, snapshot) => self.gathered(id, *snapshot),
            Event::Done(_, barrier) => {
                self.barrier_passed(barrier);
                self.round_passed(barrier);
            }
            Event::ReservationLow(worker, tunnel, spi) => {
                self.reserve(Low {
                    worker,
                    tunnel,
                    spi,
                });
            }
            Event::Seen(worker, seen) => self.seen(worker, *seen),
            Event::NeedKey(worker, tunnel) => self.key_needed(worker, tunnel),
            Event::HardLimit(worker, tunnel, spi) => {
                self.of_agreed_key((worker, tunnel, spi), Notice::HardLimit);
            }
            Event::IdleSa(worker, tunnel, spi) => {
                self.of_agreed_key((worker, tunnel, spi), Notice::Idle);
            }
            Event::IdleInbound(worker, tunnel, spi) => self.idle_inbound(worker, tunnel, spi),
            Event::Refused(worker, spi, outbound) => self.install_refused(worker, spi, outbound),
            Event::Unknown(_, vn, port, what) => self.unknown_destination(vn, port, what),
            Event::SoftLimit(worker, tunnel, spi)
                if self.of_agreed_key((worker, tunnel, spi), Notice::SoftLimit) => {}
            Event::SoftLimit(worker, tunnel, spi) => {
                let (vn, peer) = self.tunnel_names(tunnel);
                let message = "the SA passed its soft limit: renew its key";
                let mut event = SecurityEvent::new("limit-reached", "sa-soft-limit", message);
                (event.vn, event.peer) = (Some(vn.to_owned()), Some(peer.to_owned()));
                (event.spi, event.worker) = (Some(spi.get()), Some(worker));
                event.emit(0);
                tracing::warn!(%spi, vn, peer, "the SA passed its soft limit: renew its key");
            }
            Event::Learned(worker, vn, mac, destination) => {
                self.tables
                    .learn(vn, mac, destination, self.started.elapsed().as_secs());
                for other in 0..self.members.len() {
                    if other != usize::from(worker) {
                        self.tell(other, Command::Learned(vn, mac, destination));
                    }
                }
            }
            Event::Rehearsed(id, outcome) => self.rehearsed(id, *outcome),
            // Freed here, away from the packets.
            Event::Retired(old) => drop(old),
            Event::Stopped(worker, snapshot) => {
                tracing::error!(worker, "a worker has ended by itself");
                self.ended.push(*snapshot);
            }
        }
    }

    fn each_second(&mut self) {
        let ended = |m: &Member| m.thread.as_ref().is_some_and(thread::Worker::is_finished);
        let ended = self.members.iter().any(|m| ended(m) || m.stuck());
        if ended && !*self.failed.borrow() {
            tracing::error!(
                "a worker has ended or is stuck: its ports and SAs are dead, the switch stops"
            );
            self.failed.send_replace(true);
        }
        self.tell_all(|_| Command::Housekeeping);
        self.tables
            .maintain(self.started.elapsed().as_secs(), usize::MAX);
        self.retry_reservations();
        self.security.tick(Instant::now());
        self.watch_pools();
        self.remind_of_exports();
        for floor in &mut self.floors {
            floor.keep();
        }
        self.expire_reports(REPORT_PATIENCE);
        self.expire_rehearsals(REPORT_PATIENCE);
        self.free_old_pools();
    }

    /// Sockets first, so that nothing new comes in; then the workers; then the last report.
    fn stop(mut self, channels: &Channels) -> Status {
        self.refuse_changes();
        for tenant in self.tenants.values_mut() {
            tenant.socket = None;
        }
        for member in &self.members {
            // What was to be told before no longer matters.
            member.waiting.take();
            let _ = member.mailbox.send_timeout(Command::Stop, STOP_PATIENCE);
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.ended.len() < self.members.len() {
            match channels.events.recv_deadline(deadline) {
                Ok(Event::Stopped(_, snapshot)) => self.ended.push(*snapshot),
                Ok(Event::Retired(old)) => drop(old),
                Ok(Event::Seen(worker, seen)) => self.seen(worker, *seen),
                Ok(_) => {}
                Err(_) => {
                    tracing::error!("a worker does not stop");
                    break;
                }
            }
        }
        self.security.flush();
        for member in &mut self.members {
            let Some(thread) = member.thread.take() else {
                continue;
            };
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            // One that hangs is left to the end of the process.
            if thread.is_finished() && thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
        let snapshots = std::mem::take(&mut self.ended);
        let report = self.report(&snapshots);
        for floor in &self.floors {
            let _ = floor.sync();
        }
        report
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Sends a command to one worker; it waits here while the mailbox is full, so that
    /// nothing is lost and nobody waits.
    pub(super) fn tell(&self, worker: usize, command: Command) {
        if let Some(member) = self.members.get(worker) {
            member.post(Some(command));
        }
    }

    /// Sends a command to all workers.
    pub(super) fn tell_all(&self, command: impl Fn(WorkerId) -> Command) {
        for worker in 0..self.members.len() {
            self.tell(worker, command(worker as WorkerId));
        }
    }

    pub(super) fn tunnel_names(&self, tunnel: TunnelId) -> (&str, &str) {
        let pair = self.plan.tunnels.get(&tunnel).copied();
        let names = pair.and_then(|pair| pair_names(&self.config, pair));
        names.unwrap_or(("?", "?"))
    }
}
