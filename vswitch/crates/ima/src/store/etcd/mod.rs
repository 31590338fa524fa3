//! Records in etcd (API version 3), for any number of servers. Each has a copy of all records, kept up
//! to date by a watch; a transaction compares the revisions of all that it looked at.
//!
//! Keys are those of the records behind a prefix. One request touches few of them, so no transaction
//! outgrows etcd's limit (128 operations unless configured otherwise). When an endpoint fails, the
//! next one is used; a transaction whose fate is not known shows in the watch if it took effect.

mod connect;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, Event, EventType, GetOptions, Txn, TxnOp, WatchOptions,
    WatchStream, Watcher,
};
use tokio::time::timeout;
use vswitch_control::message::operator::AuditId;

use super::{AUDIT, Commit, Committed, Store, StoreError, audit_record, audit_start, read_record};
use crate::model::{Audit, Key, Op, Record, Transaction};
use connect::{PATIENCE, clients, failed, patient};

pub use connect::{EtcdConfig, EtcdTls};

/// Records of one page when all are read.
const PAGE: usize = 1000;

/// Changes of one revision.
type Revision = (i64, Vec<Op>);

/// A cluster of etcd.
pub struct Etcd {
    clients: Vec<Client>,
    current: usize,
    prefix: String,
    /// All changes up to this revision are known to the owner.
    known: i64,
    watch: Option<(Watcher, WatchStream)>,
    /// Changes that arrived and were not given out, in order.
    arrived: VecDeque<Revision>,
    /// What was passed over, being no record.
    skipped: u64,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

impl Etcd {
    /// Of what is configured; connects when it is first used.
    ///
    /// # Errors
    /// No endpoints, one that is none, or files that cannot be read.
    pub async fn open(config: &EtcdConfig) -> Result<Self, StoreError> {
        Ok(Self {
            clients: clients(config).await?,
            current: 0,
            prefix: config.prefix.clone(),
            known: 0,
            watch: None,
            arrived: VecDeque::new(),
            skipped: 0,
        })
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn client(&self) -> Result<Client, StoreError> {
        let client = self.clients.get(self.current % self.clients.len().max(1));
        client.cloned().ok_or_else(|| failed("no endpoints"))
    }

    /// The next endpoint from now on.
    fn turn(&mut self) {
        self.current = self.current.wrapping_add(1);
        self.watch = None;
    }

    /// One attempt at each endpoint.
    async fn anywhere<T, F>(&mut self, work: impl Fn(Client) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut last = failed("no endpoints");
        for _ in 0..self.clients.len() {
            let client = self.client()?;
            match patient(work(client)).await {
                Ok(done) => return Ok(done),
                Err(error) => last = error,
            }
            self.turn();
        }
        Err(last)
    }

    /// Everything behind the prefix but the audit, which sorts first.
    fn range(&self) -> (String, Vec<u8>) {
        let mut end = self.prefix.clone().into_bytes();
        // The first key behind all with the prefix: none of ours begins with this byte.
        end.push(0xff);
        (self.path(AUDIT.1), end)
    }

    /// Sees to it that changes after `known` arrive.
    async fn attach(&mut self) -> Result<(), StoreError> {
        if self.watch.is_some() {
            return Ok(());
        }
        let last = self
            .arrived
            .back()
            .map_or(self.known, |(revision, _)| *revision);
        let (start, end) = self.range();
        let watch = self
            .anywhere(|mut client| {
                let options = WatchOptions::new().with_range(end.clone());
                let options = options.with_start_revision(last + 1);
                let start = start.clone();
                async move { client.watch(start, Some(options)).await }
            })
            .await?;
        self.watch = Some(watch);
        Ok(())
    }

    /// Waits until more changes have arrived.
    async fn arrive(&mut self) -> Result<(), StoreError> {
        loop {
            self.attach().await?;
            let Some((_, stream)) = &mut self.watch else {
                continue;
            };
            let message = match stream.message().await {
                Ok(Some(message)) => message,
                // Another endpoint may know more.
                Ok(None) | Err(_) => {
                    self.turn();
                    // Not as fast as the CPU can.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            if message.compact_revision() != 0 {
                self.watch = None;
                return Err(StoreError::Forgotten);
            }
            if message.canceled() {
                self.turn();
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            let mut changes: Vec<Revision> = Vec::new();
            for event in message.events() {
                let Some((revision, op)) = self.op(event) else {
                    continue;
                };
                if changes.last().is_none_or(|(last, _)| *last != revision) {
                    changes.push((revision, Vec::new()));
                }
                if let Some((_, ops)) = changes.last_mut() {
                    ops.extend(op);
                }
            }
            if !changes.is_empty() {
                self.arrived.extend(changes);
                return Ok(());
            }
        }
    }

    /// What an event does, and at which revision. One that writes what is no record does nothing: what was
    /// known there before stays, but that of who may be revoked the worst is believed.
    fn op(&mut self, event: &Event) -> Option<(i64, Option<Op>)> {
        let pair = event.kv()?;
        let path = String::from_utf8_lossy(pair.key());
        let path = path.strip_prefix(&self.prefix).unwrap_or(&path);
        let op = match event.event_type() {
            EventType::Put => match read_record(path, pair.value(), &mut self.skipped) {
                Some((key, Record::Unreadable)) => {
                    let grave = matches!(key, Key::Revoked(_) | Key::Operator(_));
                    grave.then_some(Op::Put(key, Record::Unreadable))
                }
                Some((key, record)) => Some(Op::Put(key, record)),
                None => None,
            },
            EventType::Delete => Key::parse(path).ok().map(Op::Delete),
        };
        Some((pair.mod_revision(), op))
    }

    /// All that has arrived, but what our own transaction at `own` did.
    fn drain(&mut self, own: Option<i64>) -> Vec<Op> {
        let mut ops = Vec::new();
        while let Some((revision, changes)) = self.arrived.pop_front() {
            self.known = self.known.max(revision);
            if Some(revision) != own {
                ops.extend(changes);
            }
            if Some(revision) == own {
                break;
            }
        }
        ops
    }

    fn request(&self, transaction: &Transaction) -> Result<Txn, StoreError> {
        let mut compares = Vec::new();
        for (key, exists) in transaction.guards() {
            let path = self.path(&key.to_string());
            if exists {
                // There, and as it was.
                compares.push(Compare::create_revision(
                    path.clone(),
                    CompareOp::Greater,
                    0,
                ));
                compares.push(Compare::mod_revision(path, CompareOp::Less, self.known + 1));
            } else {
                compares.push(Compare::create_revision(path, CompareOp::Equal, 0));
            }
        }
        let mut ops = Vec::new();
        for (key, record) in transaction.ops() {
            let path = self.path(&key.to_string());
            ops.push(match record {
                Some(record) => TxnOp::put(path, record.encode(key)?, None),
                None => TxnOp::delete(path, None),
            });
        }
        Ok(Txn::new().when(compares).and_then(ops))
    }
}

impl Store for Etcd {
    async fn load(&mut self) -> Result<Vec<(Key, Record)>, StoreError> {
        (self.watch, self.known) = (None, 0);
        self.arrived.clear();
        let (mut start, end) = self.range();
        let mut records = Vec::new();
        let mut at = 0;
        loop {
            // All pages of the same revision.
            let page = self
                .anywhere(|mut client| {
                    let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
                    let options = GetOptions::new().with_range(end.clone()).with_limit(limit);
                    let (start, options) = (start.clone(), options.with_revision(at));
                    async move { client.get(start, Some(options)).await }
                })
                .await?;
            if at == 0 {
                at = page.header().map_or(0, |header| header.revision());
            }
            for pair in page.kvs() {
                let path = String::from_utf8_lossy(pair.key());
                let path = path.strip_prefix(&self.prefix).unwrap_or(&path);
                records.extend(read_record(path, pair.value(), &mut self.skipped));
            }
            match page.kvs().last() {
                Some(last) if page.more() => {
                    // The next key there can be.
                    start = format!("{}\0", String::from_utf8_lossy(last.key()));
                }
                _ => break,
            }
        }
        self.known = at;
        self.attach().await?;
        Ok(records)
    }

    async fn commit(&mut self, transaction: &Transaction) -> Result<Committed, StoreError> {
        let request = self.request(transaction)?;
        let mut client = self.client()?;
        let answer = match patient(client.txn(request)).await {
            Ok(answer) => answer,
            Err(error) => {
                // It may have taken effect: then the watch brings it.
                self.turn();
                return Err(error);
            }
        };
        if !answer.succeeded() {
            // What was in the way is under way.
            if self.arrived.is_empty() {
                timeout(PATIENCE, self.arrive()).await.map_err(failed)??;
            }
            return Ok(Committed {
                commit: Commit::Conflict,
                others: self.drain(None),
            });
        }
        let own = answer.header().map_or(0, |header| header.revision());
        // Only what is known is built upon.
        let seen = async {
            while !self.arrived.iter().any(|(revision, _)| *revision == own) {
                self.arrive().await?;
            }
            Ok::<(), StoreError>(())
        };
        timeout(PATIENCE, seen).await.map_err(failed)??;
        let others = self.drain(Some(own));
        Ok(Committed {
            commit: Commit::Done,
            others,
        })
    }

    async fn changes(&mut self) -> Result<Vec<Op>, StoreError> {
        if self.arrived.is_empty() {
            self.arrive().await?;
        }
        Ok(self.drain(None))
    }

    async fn resume(&mut self) -> Result<bool, StoreError> {
        // One answer of a majority: until then nobody knows what became of anything.
        let path = self.path("resume");
        self.anywhere(|mut client| {
            let path = path.clone();
            async move { client.get(path, None).await }
        })
        .await?;
        self.attach().await?;
        Ok(true)
    }

    async fn audit(
        &mut self,
        before: Option<AuditId>,
        limit: usize,
    ) -> Result<Vec<(AuditId, Audit)>, StoreError> {
        let (start, end) = (self.path(&audit_start(before)), self.path(AUDIT.1));
        let page = self
            .anywhere(|mut client| {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                let options = GetOptions::new().with_range(end.clone()).with_limit(limit);
                let start = start.clone();
                async move { client.get(start, Some(options)).await }
            })
            .await?;
        let mut found = Vec::new();
        for pair in page.kvs() {
            let path = String::from_utf8_lossy(pair.key());
            let path = path.strip_prefix(&self.prefix).unwrap_or(&path);
            found.extend(audit_record(path, pair.value(), &mut self.skipped));
        }
        Ok(found)
    }

    fn revision(&self) -> u64 {
        u64::try_from(self.known).unwrap_or(0)
    }

    fn name(&self) -> &'static str {
        "etcd"
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn max_weight(&self) -> usize {
        // Below etcd's --max-txn-ops, which counts comparisons.
        120
    }
}
