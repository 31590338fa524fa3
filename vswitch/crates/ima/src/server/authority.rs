//! The task that owns engine and store. Requests that arrive together are decided one upon the other and
//! stored as one transaction; nobody is answered, and nobody told, before it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use vswitch_control::identity::{Denied as DeniedList, Identity, Role};
use vswitch_control::message::ima::{Base, LogId, VnFromIma};
use vswitch_control::message::operator::{AuditId, Request, Response};
use vswitch_control::session::Endpoint;
use vswitch_control::types::{NveName, OperatorName};

use super::waiting::{Answer, Decided, Group, Job};
use super::{IN_FLIGHT, Input, LineTo, Out, PUSHES, Shared};
use crate::engine::{Engine, Push, SessionId, Stamp};
use crate::model::{Key, Op, Plan};
use crate::store::{Store, StoreError};

/// Requests decided one upon the other.
const BATCH: usize = 256;

/// How often a store that does not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// After so long a revoked edge's sessions are closed whether it took its goodbye or not.
const FAREWELL: Duration = Duration::from_millis(300);

/// The owner of engine and store.
pub(super) struct Authority<S> {
    pub(super) store: S,
    pub(super) engine: Engine,
    pub(super) shared: Arc<Shared>,
    queue: mpsc::Receiver<Input>,
    pub(super) lines: HashMap<SessionId, Arc<LineTo>>,
    denied: DeniedList,
    pub(super) endpoint: Option<Arc<Endpoint>>,
    /// The store did not answer; what it holds is not known.
    pub(super) broken: bool,
    /// And will not say by `changes`.
    forgotten: bool,
    tie: u64,
}

impl<S: Store> Authority<S> {
    /// Of what is stored.
    pub(super) async fn load(
        mut store: S,
        shared: Arc<Shared>,
        denied: DeniedList,
        queue: mpsc::Receiver<Input>,
    ) -> Result<Self, StoreError> {
        let records = store.load().await?;
        let now = shared.started.elapsed();
        let mut engine = Engine::new(shared.limits, records, now);
        engine.resume_leases(now, wall());
        let authority = Self {
            store,
            engine,
            shared,
            queue,
            lines: HashMap::new(),
            denied,
            endpoint: None,
            broken: false,
            forgotten: false,
            tie: fastrand::u64(..),
        };
        authority.deny_all();
        Ok(authority)
    }

    /// The endpoint is open. Edges that were there before come back whatever strangers do.
    pub(super) fn serve(&mut self, endpoint: Arc<Endpoint>) {
        for edge in self.engine.state().edges.values() {
            let tunnels = edge.endpoint.tunnel_addresses.iter().copied();
            let control = edge.endpoint.control_address.ip();
            endpoint.known().add(tunnels.chain([control]));
        }
        self.endpoint = Some(endpoint);
    }

    pub(super) fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    fn identity(&self, nve: &NveName) -> Option<Identity> {
        Identity::new(self.shared.identity.domain(), Role::Nve, nve.as_str()).ok()
    }

    fn operator(&self, name: &OperatorName) -> Option<Identity> {
        Identity::new(self.shared.identity.domain(), Role::Operator, name.as_str()).ok()
    }

    fn deny_all(&self) {
        let state = self.engine.state();
        let edges = state.revoked.keys().filter_map(|nve| self.identity(nve));
        let operators = state.operators.keys();
        let operators = operators.filter_map(|name| self.operator(name));
        self.denied.replace(edges.chain(operators));
        if state.unreadable() != 0 {
            let records = state.unreadable();
            tracing::error!(
                records,
                "records in the store cannot be read; what they are about is not served"
            );
        }
    }

    /// Until `quit`, or until no session is left that could ask.
    pub(super) async fn run(mut self, mut quit: oneshot::Receiver<()>) {
        loop {
            let more = self.sweep().await;
            self.dispatch();
            let now = self.now();
            let end = self
                .engine
                .next_end()
                .map_or(RETRY, |end| end.saturating_sub(now));
            let pause = match (self.broken, more) {
                (true, _) => RETRY,
                (false, true) => Duration::ZERO,
                (false, false) => end,
            };
            let mut batch = Vec::new();
            tokio::select! {
                _ = &mut quit => return,
                input = self.queue.recv() => match input {
                    Some(input) => batch.push(input),
                    None => return,
                },
                changes = self.store.changes(), if !self.broken => match changes {
                    Ok(ops) => self.others(&ops),
                    Err(error) => self.fail(&error),
                },
                () = self.shared.room.notified() => {}
                () = tokio::time::sleep(pause), if !more => {}
                () = std::future::ready(()), if more => {}
            }
            while batch.len() < BATCH
                && let Ok(input) = self.queue.try_recv()
            {
                batch.push(input);
            }
            if self.broken {
                self.recover().await;
            }
            self.work(batch).await;
        }
    }

    pub(super) fn fail(&mut self, error: &StoreError) {
        tracing::error!(%error, "the store failed");
        self.shared.counters.failures.add(1);
        self.broken = true;
        self.forgotten |= !matches!(error, StoreError::Unavailable(_));
    }

    async fn recover(&mut self) {
        match self.store.resume().await {
            // What became of the last transaction will be told like what others did.
            Ok(true) if !self.forgotten => {
                self.broken = false;
                tracing::info!("the store answers again");
                return;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the store still does not answer");
                return;
            }
        }
        match self.store.load().await {
            Ok(records) => {
                self.forgotten = false;
                let now = self.now();
                self.engine.reload(records, now);
                self.deny_all();
                self.broken = false;
                tracing::info!("the store answers again");
            }
            Err(error) => tracing::warn!(%error, "the store still does not answer"),
        }
    }

    /// What other servers changed.
    pub(super) fn others(&mut self, ops: &[Op]) {
        if ops.is_empty() {
            return;
        }
        self.shared.counters.others.add(ops.len());
        self.engine.apply(ops);
        self.committed(ops);
    }

    pub(super) fn committed(&mut self, ops: &[Op]) {
        let now = self.now();
        self.engine.committed(ops, now);
        for op in ops {
            let identity = match op.key() {
                Key::Revoked(nve) => self.identity(nve),
                Key::Operator(name) => self.operator(name),
                _ => None,
            };
            match (identity, op) {
                (Some(identity), Op::Put(..)) => self.revoke(identity),
                (Some(identity), Op::Delete(_)) => drop(self.denied.allow(&identity)),
                (None, _) => {}
            }
        }
    }

    fn revoke(&self, identity: Identity) {
        tracing::warn!(%identity, "revoked");
        self.denied.deny(&identity);
        if let Some(endpoint) = self.endpoint.clone() {
            tokio::spawn(async move {
                tokio::time::sleep(FAREWELL).await;
                // Unless it was pardoned meanwhile.
                endpoint.sessions().sweep();
            });
        }
    }

    async fn work(&mut self, batch: Vec<Input>) {
        let mut group = Group::default();
        for input in batch {
            let job = match input {
                Input::Open {
                    id,
                    nve,
                    source,
                    line,
                } => {
                    self.engine.open(id, nve, source);
                    self.lines.insert(id, line);
                    continue;
                }
                Input::Close { id } => {
                    self.engine.close(id);
                    self.lines.remove(&id);
                    continue;
                }
                Input::Edge { id, request } => match self.excess(id, &request) {
                    None => Job::Edge { id, request },
                    Some(reply) => Job::Excess { id, reply },
                },
                Input::Operator {
                    who,
                    request: Request::Change(change),
                    answer,
                } => Job::Change {
                    who,
                    change,
                    answer,
                },
                Input::Operator {
                    request, answer, ..
                } => {
                    // What is shown must be stored.
                    self.flush(&mut group).await;
                    let shown = self.show(&request).await;
                    let _ = answer.send(shown);
                    continue;
                }
            };
            self.take(job, &mut group).await;
        }
        self.flush(&mut group).await;
    }

    /// Decides on a job, and adds it to the group.
    async fn take(&mut self, job: Job, group: &mut Group) {
        if self.broken {
            return self.give_up(job, "it did not answer");
        }
        let (plan, answer) = self.decide(&job);
        let full = group.transaction.weight() + plan.weight() > self.store.max_weight();
        if full && !group.decided.is_empty() {
            self.flush(group).await;
            // The ground has changed.
            return Box::pin(self.take(job, group)).await;
        }
        let undo = self.engine.apply(plan.ops());
        group.push(Decided {
            job,
            plan,
            answer,
            undo,
        });
    }

    pub(super) fn decide(&mut self, job: &Job) -> (Plan, Answer) {
        match job {
            Job::Edge { id, request } => {
                self.shared.counters.requests.add(1);
                self.engine.wall_is(wall());
                let decision = self.engine.edge(*id, request, self.now());
                (decision.plan, Answer::Edge(decision.reply))
            }
            Job::Change { who, change, .. } => {
                self.tie = self.tie.wrapping_add(1);
                let (at, tie) = (wall(), self.tie);
                let id = AuditId { at, tie };
                let stamp = Stamp {
                    who: who.clone(),
                    id,
                    log: LogId(fastrand::u64(..)),
                };
                match self.engine.operator(change, &stamp) {
                    Ok(plan) => {
                        let done = Response::Done {
                            changed: !plan.is_empty(),
                        };
                        (plan, Answer::Operator(Ok(done)))
                    }
                    Err(denied) => (Plan::default(), Answer::Operator(Err(denied))),
                }
            }
            Job::Excess { reply, .. } => (Plan::default(), Answer::Edge(reply.clone())),
            Job::Sweep => {
                let now = self.now();
                let weight = self.store.max_weight();
                let plan = self.engine.sweep(now, weight);
                (plan.unwrap_or_default(), Answer::Nobody)
            }
        }
    }

    /// The next transaction of what follows from what was changed, and whether there may be another. One
    /// at a time: after the removal of a large VN nobody waits until all of it is cleared away.
    async fn sweep(&mut self) -> bool {
        if self.broken {
            return false;
        }
        let mut group = Group::default();
        self.take(Job::Sweep, &mut group).await;
        if group.transaction.is_empty() {
            return false;
        }
        self.flush(&mut group).await;
        true
    }

    /// Sends what there is to send, to everyone who has room.
    fn dispatch(&mut self) {
        let mut after = None;
        while let Some(id) = self.engine.ready(after) {
            after = Some(id);
            let Some(line) = self.lines.get(&id) else {
                self.engine.close(id);
                continue;
            };
            loop {
                if line.outs.capacity() <= IN_FLIGHT {
                    line.full.store(true, Ordering::SeqCst);
                    // Unless it took something just before it could see that.
                    if line.outs.capacity() <= IN_FLIGHT {
                        break;
                    }
                }
                let Some(push) = self.engine.next(id) else {
                    break;
                };
                self.shared.counters.pushed.add(1);
                if let Push::Vn {
                    message: VnFromIma::Update(update),
                    ..
                } = &push
                    && matches!(update.base, Base::Full { .. })
                {
                    self.shared.counters.whole.add(1);
                }
                let last = matches!(push, Push::Close(_));
                if line.outs.try_send(Out::Push(push)).is_err() || last {
                    self.engine.close(id);
                    break;
                }
            }
        }
    }
}

/// The time of day, in milliseconds since 1970.
fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// Places in a session's line: replies to all requests in flight, and some pushes.
pub(super) const LINE: usize = IN_FLIGHT + PUSHES;
