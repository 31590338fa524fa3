//! How the rest of the program talks to the control thread.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Sender, TrySendError, bounded};
use tokio::sync::watch;

use super::change;
use super::revisions::{self, RecordedError};
use crate::manage::change::{Applied, Order, Refused, Running};
use crate::manage::config::Config;
use crate::manage::keys::{Asker, ExportError, KeySelection, KeyTable};
use crate::manage::observe::{Ask, Inject, InjectError, Rehearsed, Watch, WatchError};
use crate::manage::status::Status;

/// Asked of the control thread.
pub(crate) enum Request {
    /// A report from one snapshot of every worker.
    Status(Box<dyn FnOnce(Status) + Send>),
    /// Keys, for somebody.
    ExportKeys(KeyRequest),
    /// Packets to be watched.
    Watch(Box<Ask>, WatchAnswer),
    /// A dry run.
    Rehearse(Inject, InjectAnswer),
    /// A change of the configuration.
    Change(Box<change::Job>),
    /// The end.
    Stop,
}

/// Asks for keys; the answer is called on the control thread and must not block.
pub(crate) struct KeyRequest {
    pub who: Asker,
    pub which: KeySelection,
    pub answer: Box<dyn FnOnce(Result<KeyTable, ExportError>) + Send>,
}

/// Takes what came of [`Request::Rehearse`].
pub(crate) type InjectAnswer = Box<dyn FnOnce(Result<Rehearsed, InjectError>) + Send>;

/// Takes what came of [`Request::Watch`].
pub(crate) type WatchAnswer = Box<dyn FnOnce(Result<Watch, WatchError>) + Send>;

/// A handle for questions; cloned freely.
#[derive(Clone)]
pub struct Handle {
    pub(super) requests: Sender<Request>,
    pub(super) running: watch::Receiver<Arc<Running>>,
}

/// Why a question was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The edge is stopping or gone, or took too long.
    #[error("the switch is stopping")]
    Gone,
    /// Too many questions wait already.
    #[error("the switch is busy")]
    Busy,
}

impl Handle {
    /// Asks for a report; `answer` is called on the control thread and must not block.
    pub fn status(&self, answer: impl FnOnce(Status) + Send + 'static) -> Result<(), NoAnswer> {
        self.put(Request::Status(Box::new(answer)))
    }

    /// Asks for packets to be watched, for as long as the answer's [`Watch`] lives; `answer`
    /// is called on the control thread and must not block.
    pub fn watch(
        &self,
        ask: Ask,
        answer: impl FnOnce(Result<Watch, WatchError>) + Send + 'static,
    ) -> Result<(), NoAnswer> {
        self.put(Request::Watch(Box::new(ask), Box::new(answer)))
    }

    /// Asks and waits at most `patience`.
    pub fn watch_blocking(
        &self,
        ask: Ask,
        patience: Duration,
    ) -> Result<Result<Watch, WatchError>, NoAnswer> {
        let (tx, rx) = bounded(1);
        self.watch(ask, move |watch| {
            let _ = tx.send(watch);
        })?;
        rx.recv_timeout(patience).map_err(|_| NoAnswer::Gone)
    }

    /// Asks for keys on behalf of `who`; `answer` is called on the control thread and must
    /// not block.
    pub fn export_keys(
        &self,
        who: Asker,
        which: KeySelection,
        answer: impl FnOnce(Result<KeyTable, ExportError>) + Send + 'static,
    ) -> Result<(), NoAnswer> {
        self.put(Request::ExportKeys(KeyRequest {
            who,
            which,
            answer: Box::new(answer),
        }))
    }

    /// Asks what would happen to a packet; `answer` as for [`Self::status`].
    pub fn rehearse(
        &self,
        inject: Inject,
        answer: impl FnOnce(Result<Rehearsed, InjectError>) + Send + 'static,
    ) -> Result<(), NoAnswer> {
        self.put(Request::Rehearse(inject, Box::new(answer)))
    }

    /// Asks and waits at most `patience`.
    pub fn rehearse_blocking(
        &self,
        inject: Inject,
        patience: Duration,
    ) -> Result<Result<Rehearsed, InjectError>, NoAnswer> {
        let (tx, rx) = bounded(1);
        self.rehearse(inject, move |outcome| {
            let _ = tx.send(outcome);
        })?;
        rx.recv_timeout(patience).map_err(|_| NoAnswer::Gone)
    }

    fn put(&self, request: Request) -> Result<(), NoAnswer> {
        self.requests
            .try_send(request)
            .map_err(|error| match error {
                TrySendError::Full(_) => NoAnswer::Busy,
                TrySendError::Disconnected(_) => NoAnswer::Gone,
            })
    }

    /// What runs, and what ran.
    pub fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running.borrow())
    }

    /// The configuration of a revision that is kept; of the one before the running one if
    /// none is named. Reads files.
    pub fn recorded(&self, number: Option<u64>) -> Result<(u64, Config), RecordedError> {
        let running = self.running();
        let before = running.history.iter().rev().nth(1).map(|r| r.number);
        let number = number.or(before).ok_or(RecordedError::None)?;
        let config = revisions::recorded(&running.config.state_dir, number)?;
        Ok((number, config))
    }

    /// Asks for a change; `answer` is called when all workers follow it, or when it is
    /// refused, on the control thread, and must not block.
    pub fn change(
        &self,
        order: Order,
        answer: impl FnOnce(Result<Applied, Refused>) + Send + 'static,
    ) -> Result<(), NoAnswer> {
        let answer = Box::new(answer);
        self.put(Request::Change(Box::new(change::Job { order, answer })))
    }

    /// As [`Self::change`]; waits at most `patience`.
    pub fn change_blocking(
        &self,
        order: Order,
        patience: Duration,
    ) -> Result<Result<Applied, Refused>, NoAnswer> {
        let (tx, rx) = bounded(1);
        self.change(order, move |answer| {
            let _ = tx.send(answer);
        })?;
        rx.recv_timeout(patience).map_err(|_| NoAnswer::Gone)
    }

    /// Asks and waits at most `patience`.
    pub fn status_blocking(&self, patience: Duration) -> Result<Status, NoAnswer> {
        let (tx, rx) = bounded(1);
        self.status(move |status| {
            let _ = tx.send(status);
        })?;
        rx.recv_timeout(patience).map_err(|_| NoAnswer::Gone)
    }
}
