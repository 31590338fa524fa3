//! How the API asks the control loop. That loop is a plain thread, so a question is a value
//! that it is sent and answers when it gets to it.

use tokio::sync::oneshot::{self, Receiver};

use crate::manage::edge::{Handle, NoAnswer};
use crate::manage::keys::{Asker, ExportError, KeySelection, KeyTable};
use crate::manage::observe::{Ask, Inject, InjectError, Rehearsed, Watch, WatchError};
use crate::manage::status::Status;

/// A question to the control loop. Dropping it unanswered tells the asker that the switch is
/// going away.
#[derive(Debug)]
pub struct StatusRequest(oneshot::Sender<Status>);

impl StatusRequest {
    /// A question and where its answer arrives.
    pub(in crate::manage) fn new() -> (Self, oneshot::Receiver<Status>) {
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
    /// Likewise, and no security associations.
    #[error("there are no keys here")]
    NoKeys,
    /// There is a control loop, but no datapath behind it.
    #[error("there are no packets here")]
    NoPackets,
}

/// Where the answer to a request for keys arrives.
pub type KeysReply = Receiver<Result<KeyTable, ExportError>>;

/// Puts questions to the control loop. Any closure that passes a [`StatusRequest`] on is one,
/// such as one around the sender of a bounded channel.
pub trait Source: Send + Sync + 'static {
    /// Passes `request` on without blocking.
    fn ask(&self, request: StatusRequest) -> Result<(), Unavailable>;

    /// Begins to watch packets, without blocking.
    fn watch(&self, ask: Ask) -> Result<Receiver<Result<Watch, WatchError>>, Unavailable> {
        drop(ask);
        Err(Unavailable::NoPackets)
    }

    /// Asks for keys, without blocking.
    fn export_keys(&self, who: Asker, which: KeySelection) -> Result<KeysReply, Unavailable> {
        drop((who, which));
        Err(Unavailable::NoKeys)
    }

    /// Begins a dry run, without blocking.
    fn rehearse(
        &self,
        inject: Inject,
    ) -> Result<Receiver<Result<Rehearsed, InjectError>>, Unavailable> {
        drop(inject);
        Err(Unavailable::NoPackets)
    }
}

impl Source for Handle {
    fn ask(&self, request: StatusRequest) -> Result<(), Unavailable> {
        Ok(self.status(move |status| request.answer(status))?)
    }

    fn watch(&self, ask: Ask) -> Result<Receiver<Result<Watch, WatchError>>, Unavailable> {
        let (tx, rx) = oneshot::channel();
        Handle::watch(self, ask, move |watch| {
            // An asker who has stopped waiting wants no watch: dropping it ends it.
            let _ = tx.send(watch);
        })?;
        Ok(rx)
    }

    fn export_keys(&self, who: Asker, which: KeySelection) -> Result<KeysReply, Unavailable> {
        let (tx, rx) = oneshot::channel();
        Handle::export_keys(self, who, which, move |keys| {
            // An asker who has gone gets nothing; the keys count as given away all the same.
            let _ = tx.send(keys);
        })?;
        Ok(rx)
    }

    fn rehearse(
        &self,
        inject: Inject,
    ) -> Result<Receiver<Result<Rehearsed, InjectError>>, Unavailable> {
        let (tx, rx) = oneshot::channel();
        Handle::rehearse(self, inject, move |outcome| {
            let _ = tx.send(outcome);
        })?;
        Ok(rx)
    }
}

impl From<NoAnswer> for Unavailable {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Gone => Unavailable::Gone,
            NoAnswer::Busy => Unavailable::Busy,
        }
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
