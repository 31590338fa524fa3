//! Requests that were decided, one upon the other, and wait for one transaction.

use tokio::sync::oneshot;
use vswitch_control::message::ima::{Goodbye, Refusal, Rejection, VnFromEdge, VnFromIma};
use vswitch_control::message::operator::{Change, Denied, Response, Text};

use crate::engine::{EdgeRequest, Reply, SessionId};
use crate::model::{Op, Plan, Transaction};

/// A request that may change something.
pub(super) enum Job {
    /// An edge's.
    Edge { id: SessionId, request: EdgeRequest },
    /// One of an edge that asks too often: decided already, and answered in its turn.
    Excess { id: SessionId, reply: Option<Reply> },
    /// An operator's.
    Change {
        who: Text,
        change: Change,
        answer: oneshot::Sender<Result<Response, Denied>>,
    },
    /// What follows from earlier changes.
    Sweep,
}

/// What will be answered.
pub(super) enum Answer {
    /// To an edge.
    Edge(Option<Reply>),
    /// To an operator.
    Operator(Result<Response, Denied>),
    /// To nobody.
    Nobody,
}

/// A request that was decided and applied.
pub(super) struct Decided {
    pub(super) job: Job,
    pub(super) plan: Plan,
    pub(super) answer: Answer,
    pub(super) undo: Vec<Op>,
}

/// Those that wait.
#[derive(Default)]
pub(super) struct Group {
    pub(super) transaction: Transaction,
    pub(super) decided: Vec<Decided>,
}

impl Group {
    pub(super) fn push(&mut self, decided: Decided) {
        self.transaction.absorb(&decided.plan);
        self.decided.push(decided);
    }
}

/// What an edge is told when the store does not answer.
pub(super) fn unavailable(request: &EdgeRequest) -> Option<Reply> {
    match request {
        // Of a leave nobody would hear again: it is said once in each session.
        EdgeRequest::Hello { .. } | EdgeRequest::Leave { .. } => {
            Some(Reply::Goodbye(Goodbye::Unavailable))
        }
        EdgeRequest::Join { vn, .. } => Some(Reply::Refused {
            vn: vn.clone(),
            why: Refusal::Unavailable,
        }),
        EdgeRequest::Vn {
            vn,
            message: VnFromEdge::Register { mac, .. } | VnFromEdge::Withdraw { mac },
        } => {
            let message = VnFromIma::Rejected {
                mac: *mac,
                why: Rejection::Unavailable,
            };
            Some(Reply::Vn {
                vn: vn.clone(),
                message,
            })
        }
        // A lease that is not stored is none: whoever cannot reach the store cannot know of a
        // revocation either.
        EdgeRequest::Renew { .. } | EdgeRequest::Vn { .. } => None,
    }
}
