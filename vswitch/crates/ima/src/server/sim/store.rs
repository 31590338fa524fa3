//! A store that servers share, each with a copy that is as old as what it was last told. Like etcd, it takes
//! a transaction if nothing that it looked at has changed since what its server knows.

use std::collections::BTreeMap;

use crate::model::{Key, Op, Plan, Record, Transaction};

/// What one server knows.
#[derive(Debug, Default, Clone)]
pub struct Views {
    /// Of the history, so many transactions.
    known: usize,
    /// What others did in front of its own last transaction.
    before_own: Vec<Op>,
}

impl Views {
    pub fn take_before_own(&mut self) -> Vec<Op> {
        std::mem::take(&mut self.before_own)
    }
}

#[derive(Debug, Default)]
pub struct Shared {
    /// Each record, and by which transaction it was written.
    records: BTreeMap<Key, (Record, usize)>,
    history: Vec<Vec<Op>>,
}

impl Shared {
    pub fn load(&self) -> (Vec<(Key, Record)>, Views) {
        let records = self.records.iter();
        let records = records.filter(|(key, _)| !matches!(key, Key::Audit(_)));
        let records = records.map(|(key, (record, _))| (key.clone(), record.clone()));
        let views = Views {
            known: self.history.len(),
            ..Views::default()
        };
        (records.collect(), views)
    }

    pub fn is_behind(&self, views: &Views) -> bool {
        views.known < self.history.len()
    }

    /// What a server does not know yet.
    pub fn since(&self, views: &mut Views) -> Vec<Op> {
        let ops = self.history[views.known..].concat();
        views.known = self.history.len();
        ops
    }

    /// Takes a plan, or nothing of it.
    pub fn commit(&mut self, views: &mut Views, plan: &Plan) -> bool {
        let mut transaction = Transaction::default();
        transaction.absorb(plan);
        let holds = |(key, exists): (&Key, bool)| match self.records.get(key) {
            Some((_, written)) => exists && *written < views.known,
            None => !exists,
        };
        if !transaction.guards().all(holds) {
            return false;
        }
        views.before_own = self.since(views);
        let number = self.history.len();
        let mut ops = Vec::new();
        for (key, record) in transaction.ops() {
            match record {
                Some(record) => {
                    self.records.insert(key.clone(), (record.clone(), number));
                    ops.push(Op::Put(key.clone(), record.clone()));
                }
                None => {
                    self.records.remove(key);
                    ops.push(Op::Delete(key.clone()));
                }
            }
        }
        ops.retain(|op| !matches!(op.key(), Key::Audit(_)));
        self.history.push(ops);
        views.known = self.history.len();
        true
    }
}
