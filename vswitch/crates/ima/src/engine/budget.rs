//! What one edge may do how often: what costs all members of a VN, or the store, is bounded by edge and not
//! by session, so that coming again gives nobody more.

use std::collections::HashMap;
use std::time::Duration;

use vswitch_control::message::ima::{Goodbye, Refusal, Rejection, Resume, VnFromEdge, VnFromIma};
use vswitch_control::types::{NveName, VnName};

use super::limit::Bucket;
use super::{EdgeRequest, Engine, Reply, SessionId};

/// How often one edge may do what costs others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Registrations that change something, a second; ten times as many at once.
    pub registrations: u32,
    /// Joins that change something or after which a whole VN is told, and hellos that change something, a
    /// second; as many at once as an edge may be in VNs.
    pub joins: u32,
    /// Questions, a second; twice as many at once.
    pub queries: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            registrations: 200,
            joins: 50,
            queries: 500,
        }
    }
}

/// Edges remembered, beside those with a session, before those are forgotten that asked for nothing of late.
const IDLE: usize = 1024;

#[derive(Debug)]
struct Budget {
    registrations: Bucket,
    joins: Bucket,
    queries: Bucket,
}

/// What each edge has left.
#[derive(Debug, Default)]
pub(super) struct Budgets(HashMap<NveName, Budget>);

impl Budgets {
    fn of(&mut self, nve: &NveName, rates: Rates, vns: u32, now: Duration) -> &mut Budget {
        self.0.entry(nve.clone()).or_insert_with(|| Budget {
            registrations: Bucket::new(
                rates.registrations,
                rates.registrations.saturating_mul(10),
                now,
            ),
            joins: Bucket::new(rates.joins, vns.max(rates.joins), now),
            queries: Bucket::new(rates.queries, rates.queries.saturating_mul(2), now),
        })
    }

    /// Forgets those whose buckets are full: new ones would be, too.
    fn tidy(&mut self, sessions: usize, now: Duration) {
        if self.0.len() > 2 * sessions + IDLE {
            self.0.retain(|_, budget| {
                !(budget.registrations.is_full(now)
                    && budget.joins.is_full(now)
                    && budget.queries.is_full(now))
            });
        }
    }
}

/// Of what there was too much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Excess {
    /// Registrations.
    Registration(Reply),
    /// Joins.
    Join(Reply),
    /// Hellos that say something new.
    Hello(Reply),
    /// Questions: they are not answered.
    Query,
}

impl Engine {
    /// Edges of which it is remembered what they asked for.
    #[cfg(test)]
    pub(super) fn budgets(&self) -> usize {
        self.budgets.0.len()
    }

    /// Whether a session's edge has asked for this too often. To be asked once of each request, before
    /// [`Engine::edge`], which then is not.
    pub fn excess(
        &mut self,
        id: SessionId,
        request: &EdgeRequest,
        now: Duration,
    ) -> Option<Excess> {
        let nve = self.sessions.get(&id)?.nve.clone();
        let costs = self.costs(&nve, request, now);
        if !costs {
            return None;
        }
        self.budgets.tidy(self.sessions.len(), now);
        let vns = self.limits.edge.vns;
        let budget = self.budgets.of(&nve, self.limits.rates, vns, now);
        match request {
            EdgeRequest::Join { vn, .. } => {
                let (vn, why) = (vn.clone(), Refusal::Busy);
                (!budget.joins.try_take(now)).then_some(Excess::Join(Reply::Refused { vn, why }))
            }
            EdgeRequest::Hello { .. } => {
                let reply = Reply::Goodbye(Goodbye::Unavailable);
                (!budget.joins.try_take(now)).then_some(Excess::Hello(reply))
            }
            EdgeRequest::Vn {
                vn,
                message: VnFromEdge::Register { mac, .. },
            } => {
                let (mac, why) = (*mac, Rejection::Busy);
                let (vn, message) = (vn.clone(), VnFromIma::Rejected { mac, why });
                (!budget.registrations.try_take(now))
                    .then_some(Excess::Registration(Reply::Vn { vn, message }))
            }
            _ => (!budget.queries.try_take(now)).then_some(Excess::Query),
        }
    }

    /// Whether others, or the store, notice.
    fn costs(&self, nve: &NveName, request: &EdgeRequest, now: Duration) -> bool {
        match request {
            EdgeRequest::Hello { boot, endpoint } => {
                self.is_renewed(nve, *boot, endpoint, now).is_none()
            }
            EdgeRequest::Join { vn, resume } => self.is_costly(nve, vn, *resume),
            EdgeRequest::Vn { vn, message } => match message {
                VnFromEdge::Register { port, mac, ips } => {
                    let vn = self.state.vn(vn);
                    let known = vn.and_then(|vn| vn.mappings.get(mac));
                    known.is_none_or(|known| {
                        (&known.nve, &known.port, &known.ips) != (nve, port, ips)
                    })
                }
                VnFromEdge::Query { .. } => true,
                // There is one for each registration at most.
                VnFromEdge::Withdraw { .. } => false,
            },
            EdgeRequest::Renew { .. } | EdgeRequest::Leave { .. } => false,
        }
    }

    /// Whether everyone is told of a join, or the joiner everything.
    fn is_costly(&self, nve: &NveName, name: &VnName, resume: Option<Resume>) -> bool {
        let Some(vn) = self.state.vn(name) else {
            return false;
        };
        let log = vn.declared.as_ref().map(|declared| declared.log);
        let knows =
            resume.is_some_and(|resume| Some(resume.log) == log && vn.reaches(resume.version));
        !knows || !vn.joined.contains_key(nve)
    }
}
