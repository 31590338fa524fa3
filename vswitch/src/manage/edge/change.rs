//! Carries out changes of the configuration. Everything that can fail comes first and is
//! undone if anything fails; then every worker gets one transaction, and when all have passed
//! the barrier behind it the change is done. One change at a time; others wait.

use std::collections::VecDeque;
use std::sync::Arc;

use vswitch_sa::Spi;
use vswitch_vn::{Change, PortId, TunnelId, VnId};

use super::associations::Later;
use super::control::Control;
use super::floors::Floor;
use super::plan::{Ids, Plan, port_setup};
use super::rounds::Then;
use super::steps::{Numbered, Steps};
use super::tenants::{Tenant, vhost_of};
use crate::datapath::command::{Command, InboundSetup, OutboundSetup, Path, WorkerId};
use crate::manage::change::{Applied, Diff, How, Order, Refused, Running};
use crate::manage::config::{Config, Source};
use crate::manage::security::configuration_changed;

/// Changes that wait at most.
const WAITING: usize = 8;

/// Called with what became of a change.
pub(crate) type Answer = Box<dyn FnOnce(Result<Applied, Refused>) + Send>;

/// A change that was asked for.
pub(crate) struct Job {
    pub order: Order,
    pub answer: Answer,
}

/// A change that the workers have been told and have not all confirmed.
struct Underway {
    applied: Applied,
    answer: Answer,
    freed: Ids,
    later: Vec<Later>,
}

/// Changes asked for and under way.
#[derive(Default)]
pub(super) struct Changes {
    waiting: VecDeque<Job>,
    underway: Option<Underway>,
}

/// Everything that a change needs and that may not be to be had.
#[derive(Default)]
pub(super) struct Prepared {
    outbound: Vec<(WorkerId, Box<OutboundSetup>)>,
    inbound: Vec<(WorkerId, Spi, Box<InboundSetup>, Floor)>,
    later: Vec<Later>,
    opened: Vec<(PortId, Tenant)>,
}

impl Control {
    /// A change is asked for.
    pub(super) fn change_asked(&mut self, job: Job) {
        if self.changes.waiting.len() >= WAITING {
            return (job.answer)(Err(Refused::Busy));
        }
        self.changes.waiting.push_back(job);
        self.next_change();
    }

    /// Begins what waits, unless a change is under way.
    fn next_change(&mut self) {
        while self.changes.underway.is_none()
            && let Some(Job { order, answer }) = self.changes.waiting.pop_front()
        {
            match self.begin(order) {
                Err(refused) => {
                    tracing::warn!(%refused, "a change of the configuration was refused");
                    answer(Err(refused));
                }
                Ok(Begun::Nothing(applied)) => answer(Ok(applied)),
                Ok(Begun::Told(applied, freed, later)) => {
                    self.changes.underway = Some(Underway {
                        applied,
                        answer,
                        freed,
                        later,
                    });
                    self.begin_round(Then::Applied);
                }
            }
        }
    }

    /// All workers have passed the barrier behind a change.
    pub(super) fn change_passed(&mut self) {
        let Some(mut underway) = self.changes.underway.take() else {
            return;
        };
        if !underway.later.is_empty() {
            for later in std::mem::take(&mut underway.later) {
                self.install_later(later);
            }
            self.changes.underway = Some(underway);
            return self.begin_round(Then::Applied);
        }
        self.rest(underway.freed);
        let revision = underway.applied.revision;
        tracing::info!(revision, "the configuration was changed");
        self.tell_of_change();
        (underway.answer)(Ok(underway.applied));
        self.next_change();
    }

    /// A security event: what runs now, and who asked for it.
    fn tell_of_change(&self) {
        let running = self.running.borrow();
        let made = &running.revision;
        let reason = match made.how {
            How::Start => "start",
            How::Apply => "apply",
            How::Reload => "reload",
            How::Signal => "signal",
            How::Rollback => "rollback",
        };
        let who = made.who.map_or(String::new(), |who| {
            let pid = who
                .pid
                .map_or(String::new(), |pid| format!(", process {pid}"));
            format!(", asked for by user {}{pid}", who.uid)
        });
        let message = format!(
            "revision {} of the configuration is in force: {} changes, from {}{who}",
            made.number,
            made.changes,
            made.file.display()
        );
        configuration_changed(reason, &message);
    }

    fn begin(&mut self, order: Order) -> Result<Begun, Refused> {
        let running = self.running.borrow().revision.number;
        if let Some(shown) = order.revision.filter(|shown| *shown != running) {
            return Err(Refused::Stale { shown, running });
        }
        let diff = Diff::between(&self.local, &order.config);
        if order.diff.as_ref().is_some_and(|shown| *shown != diff) {
            return Err(Refused::Differs);
        }
        if diff.restarts().next().is_some() {
            return Err(Refused::Restart(diff));
        }
        let mut applied = Applied {
            revision: running,
            dry_run: order.dry_run,
            diff,
        };
        if applied.diff.is_empty() {
            return Ok(Begun::Nothing(applied));
        }
        let config = self.wanted.adapt(&order.config);
        let plan = self.plan.next(&self.config, &config, &self.resting)?;
        let old = Numbered {
            config: &self.config,
            plan: &self.plan,
        };
        let new = Numbered {
            config: &config,
            plan: &plan,
        };
        // Higher than that of every mapping, however many changes there were.
        let steps = Steps::between(old, new, self.generation + 1);
        self.tables.validate(&steps.tables)?;
        if order.dry_run {
            return Ok(Begun::Nothing(applied));
        }
        let changes = applied.diff.entries.len() as u64;
        let mut prepared = self.prepare(&order, &config, &plan, &steps, changes)?;
        applied.revision = running + 1;
        let later = std::mem::take(&mut prepared.later);
        let freed = match self.put_in_force(config, plan, steps, prepared) {
            Ok(freed) => freed,
            Err(refused) => {
                self.history.forget_last();
                return Err(refused);
            }
        };
        self.local = Arc::new(order.config);
        self.history.prune();
        self.publish();
        self.tell_configuration();
        Ok(Begun::Told(applied, freed, later))
    }

    /// Gets everything that may not be to be had. If this fails, nothing has changed.
    fn prepare(
        &mut self,
        order: &Order,
        config: &Config,
        plan: &Plan,
        steps: &Steps,
        changes: u64,
    ) -> Result<Prepared, Refused> {
        let sas = &config.security_associations;
        let mut prepared = Prepared::default();
        for sa in steps.outbound.iter().filter_map(|i| sas.get(*i)) {
            if let Some(setup) = self.outbound_setup(config, plan, sa)? {
                prepared.outbound.push((sa.worker, setup));
            }
        }
        for sa in steps.inbound.iter().filter_map(|i| sas.get(*i)) {
            if let Some((setup, floor)) = self.inbound_setup(config, plan, sa)? {
                prepared.inbound.push((sa.worker, sa.spi, setup, floor));
            }
        }
        for sa in steps.inbound_later.iter().filter_map(|i| sas.get(*i)) {
            // Made once now, so that what can be wrong with it is known before the break.
            if let Some((_, floor)) = self.inbound_setup(config, plan, sa)? {
                let floor = floor.table();
                prepared.later.push(Later {
                    sa: sa.clone(),
                    floor,
                });
            }
        }
        for i in &steps.opened {
            if let (Some((name, vhost)), Some(id)) = (vhost_of(config, *i), plan.ports.get(*i)) {
                let tenant = self.make_tenant(config, name, vhost, None)?;
                prepared.opened.push((*id, tenant));
            }
        }
        let revision = self
            .history
            .next(&order.config, order.how, order.of, order.who, changes);
        self.history
            .keep(&self.state, revision, &order.config)
            .map_err(Refused::History)?;
        // Last, since undoing it is not without effect: these tenants are disconnected.
        match self.reopen(config, plan, &steps.reopened) {
            Ok(reopened) => prepared.opened.extend(reopened),
            Err(refused) => {
                self.history.forget_last();
                return Err(refused);
            }
        }
        Ok(prepared)
    }

    /// Makes it so. Nothing here can fail but by a defect, and then before anybody is told.
    /// Returns the ids that are free when the workers have followed.
    pub(super) fn put_in_force(
        &mut self,
        config: Config,
        plan: Plan,
        steps: Steps,
        prepared: Prepared,
    ) -> Result<Ids, Refused> {
        self.tables.transact(&steps.tables)?;
        self.generation += 1;
        self.config = Arc::new(config);
        self.plan = plan;
        self.resting.extend(&steps.freed);
        let paths = self.changed_paths(&steps);
        let Prepared {
            outbound,
            inbound,
            opened,
            later: _,
        } = prepared;
        let mut lists = self.transactions(&steps, &paths);
        let mut floors = Vec::new();
        for (worker, setup) in outbound {
            push(&mut lists, worker, Command::InstallOutbound(setup));
        }
        for (tunnel, owner) in &steps.owners {
            for list in &mut lists {
                list.push(Command::OutboundOwner(*tunnel, *owner));
            }
        }
        for (worker, spi, setup, floor) in inbound {
            floors.push(floor);
            push(&mut lists, worker, Command::InstallInbound(setup));
            for list in &mut lists {
                list.push(Command::InboundOwner(spi, Some(worker)));
            }
        }
        for (worker, list) in lists.into_iter().enumerate() {
            self.tell(worker, Command::Transaction(list));
        }
        self.keep_floors(floors);
        self.forget_keys_of(&steps.freed.tunnels);
        self.settle_tenants(&steps, opened);
        self.tell_host();
        Ok(steps.freed)
    }

    /// One list of commands for each worker, up to where SAs are installed.
    fn transactions(
        &self,
        steps: &Steps,
        paths: &[(vswitch_vn::PeerId, Arc<[Path]>)],
    ) -> Vec<Vec<Command>> {
        let queues = self.trunk_queues();
        let setups: Vec<_> = steps
            .ports
            .iter()
            .filter_map(|i| port_setup(&self.config, &self.plan, *i, &queues))
            .collect();
        let changes: Arc<[vswitch_vn::Change]> = steps.tables.clone().into();
        let on_demand = self.on_demand(&steps.tables);
        let detached = steps.moved.iter().map(|(had, _)| *had);
        let detached = detached.chain(steps.reopened.iter().map(|(had, _)| *had));
        let detached: Vec<PortId> = detached.collect();
        let mut lists = Vec::new();
        for worker in 0..self.members.len() {
            let mut list = Vec::new();
            let mine = |owner: &WorkerId| usize::from(*owner) == worker;
            for (_, tunnel) in steps.outbound_removed.iter().filter(|(w, _)| mine(w)) {
                list.push(Command::RemoveOutbound(*tunnel));
            }
            for (owner, spi) in &steps.inbound_removed {
                if mine(owner) {
                    list.push(Command::RemoveInbound(*spi));
                }
                list.push(Command::InboundOwner(*spi, None));
            }
            list.extend(detached.iter().map(|id| Command::Detach(*id)));
            let removed = steps.removed_ports.iter();
            list.extend(removed.map(|id| Command::RemovePort(*id)));
            list.push(Command::Tables(Arc::clone(&changes)));
            list.extend(on_demand.iter().map(|id| Command::OnDemand(*id)));
            let paths = paths.iter();
            list.extend(paths.map(|(peer, paths)| Command::Paths(*peer, Arc::clone(paths))));
            list.extend(
                setups
                    .iter()
                    .map(|setup| Command::Port(Box::new(setup.clone()))),
            );
            lists.push(list);
        }
        lists
    }

    /// The new tunnels whose keys are agreed on when they are needed.
    fn on_demand(&self, changes: &[Change]) -> Vec<TunnelId> {
        let authority = |vn: &VnId| {
            let place = self.plan.vn_place(*vn);
            place
                .and_then(|place| self.config.vns.get(place))
                .is_some_and(|vn| vn.source == Source::Authority)
        };
        let added = changes.iter().filter_map(|change| match change {
            Change::AddTunnel { id, vn, .. } if authority(vn) => Some(*id),
            _ => None,
        });
        added.collect()
    }

    /// Paths of peers that came, moved or went; those the workers are to be told.
    fn changed_paths(&mut self, steps: &Steps) -> Vec<(vswitch_vn::PeerId, Arc<[Path]>)> {
        let mut told = Vec::new();
        for id in &steps.removed_peers {
            self.paths.remove(id);
            told.push((*id, Arc::from([])));
        }
        for i in &steps.peers {
            if let Some(id) = self.plan.peers.get(*i).copied() {
                let paths: Arc<[Path]> = self.paths_of(*i).into();
                self.paths.insert(id, Arc::clone(&paths));
                told.push((id, paths));
            }
        }
        told
    }

    /// Tells everybody who looks what runs now.
    pub(super) fn publish(&self) {
        let list = self.history.list();
        let Some(revision) = list.last().cloned() else {
            return;
        };
        self.running.send_replace(Arc::new(Running {
            revision,
            config: Arc::clone(&self.local),
            history: list.to_vec(),
        }));
    }

    /// Nobody waits any more: the switch stops.
    pub(super) fn refuse_changes(&mut self) {
        for job in std::mem::take(&mut self.changes.waiting) {
            (job.answer)(Err(Refused::Stopping));
        }
    }
}

/// What became of an order.
enum Begun {
    /// There was nothing to do.
    Nothing(Applied),
    /// The workers have been told.
    Told(Applied, Ids, Vec<Later>),
}

fn push(lists: &mut [Vec<Command>], worker: WorkerId, command: Command) {
    if let Some(list) = lists.get_mut(usize::from(worker)) {
        list.push(command);
    }
}
