//! Where records are kept: a file of this server alone ([`redb`]), or etcd, which any number of
//! servers share ([`etcd`]).

pub mod etcd;
#[cfg(test)]
mod power;
pub mod redb;

use std::future::Future;

use vswitch_control::message::operator::AuditId;

use crate::model::{Audit, Key, Op, Record, RecordError, Transaction};

/// Why a store did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It does not answer. Whether the last transaction took effect is not known.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// It no longer knows what changed since it was last asked: all has to be loaded anew.
    #[error("the store has forgotten what changed meanwhile")]
    Forgotten,
    /// What it holds is not ours.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// It took effect.
    Done,
    /// Something that it looked at has changed: nothing took effect.
    Conflict,
}

/// Records that other servers changed, and how the transaction fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// How it fared.
    pub commit: Commit,
    /// What others changed before it, in order. A transaction that took effect does not touch these.
    pub others: Vec<Op>,
}

/// Keeps records. One owner; its copy of the records is as new as what it was last told by `load`,
/// `commit` and `changes`, and a transaction is judged by that.
pub trait Store: Send + 'static {
    /// All records but the audit.
    fn load(&mut self) -> impl Future<Output = Result<Vec<(Key, Record)>, StoreError>> + Send;

    /// Stores a transaction durably, if nothing that it looks at has changed.
    fn commit(
        &mut self,
        transaction: &Transaction,
    ) -> impl Future<Output = Result<Committed, StoreError>> + Send;

    /// What other servers changed, when they do. Dropping the future loses nothing.
    fn changes(&mut self) -> impl Future<Output = Result<Vec<Op>, StoreError>> + Send;

    /// After a failure: whether what happened since will come by `changes`. If not, it has to be
    /// loaded anew.
    fn resume(&mut self) -> impl Future<Output = Result<bool, StoreError>> + Send {
        async { Ok(false) }
    }

    /// What operators did, newest first, `limit` at most.
    fn audit(
        &mut self,
        before: Option<AuditId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(AuditId, Audit)>, StoreError>> + Send;

    /// Which transaction was the last one known.
    fn revision(&self) -> u64;

    /// Its name, as in the configuration.
    fn name(&self) -> &'static str;

    /// How often it held, or was changed to, something that is no record, and that was passed over.
    fn skipped(&self) -> u64 {
        0
    }

    /// Largest [`Transaction::weight`].
    fn max_weight(&self) -> usize;
}

/// One record that was read. What is none is told aloud and counted, and stops nobody: of a key of ours
/// that there is something is known, the rest is passed over.
fn read_record(path: &str, value: &[u8], skipped: &mut u64) -> Option<(Key, Record)> {
    let tell = |error: &RecordError, skipped: &mut u64| {
        *skipped += 1;
        tracing::error!(key = path, %error, "what the store holds there is no record; repair or delete it");
    };
    let key = match Key::parse(path) {
        Ok(key) => key,
        Err(error) => {
            tell(&error, skipped);
            return None;
        }
    };
    let record = Record::decode(&key, value).unwrap_or_else(|error| {
        tell(&error, skipped);
        Record::Unreadable
    });
    Some((key, record))
}

/// The lowest and the highest key of the audit.
const AUDIT: (&str, &str) = ("audit/", "audit0");

/// The key at which the audit before `before` begins: its keys run from the newest to the oldest.
fn audit_start(before: Option<AuditId>) -> String {
    before.map_or_else(|| AUDIT.0.to_owned(), |id| format!("{}\0", Key::Audit(id)))
}

/// One record of the audit.
fn audit_record(path: &str, value: &[u8], skipped: &mut u64) -> Option<(AuditId, Audit)> {
    match read_record(path, value, skipped)? {
        (Key::Audit(id), Record::Audit(audit)) => Some((id, audit)),
        _ => None,
    }
}
