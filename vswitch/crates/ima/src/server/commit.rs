//! What was decided is stored, then answered; or taken back and decided anew, upon what other servers did.

use vswitch_control::message::ima::VnFromIma;
use vswitch_control::message::operator::{Denied, Response, Text};

use super::Out;
use super::authority::Authority;
use super::waiting::{Answer, Decided, Group, Job, unavailable};
use crate::engine::{Reply, SessionId};
use crate::store::{Commit, Store, StoreError};

/// How often a request is decided anew because another server was quicker.
const ATTEMPTS: usize = 16;

impl<S: Store> Authority<S> {
    /// Stores what waits, and answers.
    pub(super) async fn flush(&mut self, group: &mut Group) {
        let mut todo = std::mem::take(group);
        for _ in 0..ATTEMPTS {
            let stored = if todo.transaction.is_empty() {
                Ok(Commit::Done)
            } else {
                self.commit(&mut todo).await
            };
            match stored {
                Ok(Commit::Done) => return self.answer(todo),
                Ok(Commit::Conflict) => {
                    self.shared.counters.conflicts.add(1);
                    // Anew, upon what the others did. A group that fitted may not fit any more.
                    let jobs: Vec<Job> =
                        todo.decided.drain(..).map(|decided| decided.job).collect();
                    todo = Group::default();
                    for job in jobs {
                        let (plan, answer) = self.decide(&job);
                        let weight = todo.transaction.weight() + plan.weight();
                        if weight > self.store.max_weight() && !todo.decided.is_empty() {
                            self.give_up(job, "too many servers change the same");
                            continue;
                        }
                        let undo = self.engine.apply(plan.ops());
                        todo.push(Decided {
                            job,
                            plan,
                            answer,
                            undo,
                        });
                    }
                }
                Err(error) => {
                    self.fail(&error);
                    for decided in todo.decided {
                        self.give_up(decided.job, &error.to_string());
                    }
                    return;
                }
            }
        }
        self.take_back(&todo);
        for decided in todo.decided {
            self.give_up(decided.job, "other servers were quicker again and again");
        }
    }

    /// One transaction. What did not take effect is taken back.
    async fn commit(&mut self, todo: &mut Group) -> Result<Commit, StoreError> {
        let committed = self.store.commit(&todo.transaction).await;
        if !matches!(&committed, Ok(committed) if committed.commit == Commit::Done) {
            self.take_back(todo);
            for decided in &mut todo.decided {
                decided.undo.clear();
            }
        }
        let committed = committed?;
        self.others(&committed.others);
        if committed.commit == Commit::Done {
            self.shared.counters.commits.add(1);
        }
        Ok(committed.commit)
    }

    fn take_back(&mut self, todo: &Group) {
        for decided in todo.decided.iter().rev() {
            self.engine.revert(&decided.undo);
        }
    }

    fn answer(&mut self, group: Group) {
        for decided in group.decided {
            self.committed(decided.plan.ops());
            self.tell_claims(decided.plan.ops());
            match (decided.job, decided.answer) {
                (Job::Edge { id, .. }, Answer::Edge(reply)) => {
                    if let Some(reply) = &reply {
                        self.engine.confirm(id, reply);
                        self.count(reply);
                        if let Reply::Goodbye(why) = reply {
                            self.tell_goodbye(id, *why);
                        }
                    }
                    self.reply(id, reply);
                }
                (Job::Excess { id, .. }, Answer::Edge(reply)) => self.refuse(id, reply),
                (
                    Job::Change {
                        who,
                        change,
                        answer,
                    },
                    Answer::Operator(result),
                ) => {
                    if let Ok(Response::Done { changed: true }) = result {
                        self.shared.counters.changes.add(1);
                        tracing::info!(operator = %who, ?change, "changed");
                    }
                    let _ = answer.send(result);
                }
                _ => {}
            }
        }
    }

    fn count(&self, reply: &Reply) {
        let counters = &self.shared.counters;
        match reply {
            Reply::Refused { .. } => counters.refused.add(1),
            Reply::Vn {
                message: VnFromIma::Registered { .. },
                ..
            } => counters.registered.add(1),
            Reply::Vn {
                message: VnFromIma::Rejected { .. },
                ..
            } => counters.rejected.add(1),
            _ => {}
        }
    }

    pub(super) fn give_up(&mut self, job: Job, why: &str) {
        match job {
            Job::Edge { id, request } => {
                let reply = unavailable(&request);
                if let Some(reply) = &reply {
                    self.engine.confirm(id, reply);
                }
                self.reply(id, reply);
            }
            Job::Change { answer, .. } => {
                let _ = answer.send(Err(Denied::Unavailable(Text::of(why))));
            }
            Job::Excess { id, reply } => self.refuse(id, reply),
            Job::Sweep => {}
        }
    }

    /// Replies to an edge that asks too often; a goodbye ends its session.
    fn refuse(&mut self, id: SessionId, reply: Option<Reply>) {
        if let Some(reply) = &reply {
            self.engine.confirm(id, reply);
        }
        self.reply(id, reply);
    }

    fn reply(&self, id: SessionId, reply: Option<Reply>) {
        // There is room for one reply to each request in flight.
        if let Some(line) = self.lines.get(&id)
            && line.outs.try_send(Out::Reply(reply)).is_err()
        {
            tracing::debug!(session = id.0, "nobody takes the reply");
        }
    }
}
