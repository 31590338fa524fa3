//! How the API asks the control loop. That loop is a plain thread, so a question is a value
//! that it is sent and answers when it gets to it.

use tokio::sync::oneshot;

use super::capture::WatchRequest;
use super::keys::KeysRequest;
use crate::manage::edge::{Handle, NoAnswer};
use crate::manage::status::Status;

/// A question to the control loop. Dropping it unanswered tells the asker that the switch is
/// going away.
#[derive(Debug)]
pub struct StatusRequest(oneshot::Sender<Status>);

impl StatusRequest {
    /// A question and where its answer arrives.
    pub(super) fn new() -> (Self, oneshot::Receiver<Status>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers. Never blocks; an asker who has stopped waiting is no error.
    pub fn answer(self, status: Status) {
        // The status comes back if nobody waits for it any more: there is no use for it.
        let _ = self.0.send(status);
    }

    /// Whether the asker has stopped waiting, so that a snapshot would be for nothing.
    pub fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

/// Why a question could not be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The control loop has ended.
    #[error("the switch is stopping")]
    Gone,
    /// The control loop has too many questions waiting.
    #[error("the switch is busy; try again")]
    Busy,
    /// What answers here only shows its status.
    #[error("this is not possible here")]
    Unsupported,
}

/// Puts questions to the control loop. Any closure that passes a [`StatusRequest`] on is one,
/// such as one around the sender of a bounded channel.
pub trait Source: Send + Sync + 'static {
    /// Passes `request` on without blocking.
    fn ask(&self, request: StatusRequest) -> Result<(), Unavailable>;

    /// Passes on a request to watch packets, likewise; a switch that only shows itself has none.
    fn watch(&self, request: WatchRequest) -> Result<(), Unavailable> {
        drop(request);
        Err(Unavailable::Unsupported)
    }

    /// Passes on a request for keys, likewise; a switch that only shows itself has none.
    fn export_keys(&self, request: KeysRequest) -> Result<(), Unavailable> {
        drop(request);
        Err(Unavailable::Unsupported)
    }
}

impl<F> Source for F
where
    F: Fn(StatusRequest) -> Result<(), Unavailable> + Send + Sync + 'static,
{
    fn ask(&self, request: StatusRequest) -> Result<(), Unavailable> {
        self(request)
    }
}

impl Source for Handle {
    fn ask(&self, request: StatusRequest) -> Result<(), Unavailable> {
        Ok(self.status(move |status| request.answer(status))?)
    }

    fn watch(&self, request: WatchRequest) -> Result<(), Unavailable> {
        let WatchRequest { ask, answer } = request;
        Ok(Handle::watch(self, ask, move |watch| {
            // Nobody waits for it any more: dropped, it ends.
            let _ = answer.send(watch);
        })?)
    }

    fn export_keys(&self, request: KeysRequest) -> Result<(), Unavailable> {
        let KeysRequest { who, which, answer } = request;
        Ok(Handle::export_keys(self, who, which, move |keys| {
            // An asker who has gone gets nothing; the keys count as given away all the same.
            let _ = answer.send(keys);
        })?)
    }
}

impl From<NoAnswer> for Unavailable {
    fn from(reason: NoAnswer) -> Self {
        match reason {
            NoAnswer::Gone => Unavailable::Gone,
            NoAnswer::Busy => Unavailable::Busy,
        }
    }
}
