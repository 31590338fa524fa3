//! Changes of the store: what one request changes (a [`Plan`]), and several of them committed as one
//! (a [`Transaction`]).

use std::collections::BTreeMap;

use super::record::{Key, Record};
use super::state::State;

/// One change of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The record is this from now on.
    Put(Key, Record),
    /// There is none.
    Delete(Key),
}

impl Op {
    /// Of which record.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

/// What a request changes, and what it looked at to decide.
/// All that it writes it also looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Records that must not have changed since, and whether they exist.
    guards: Vec<(Key, bool)>,
    ops: Vec<Op>,
}

impl Plan {
    /// The decision depends on this record.
    pub fn guard(&mut self, state: &State, key: Key) {
        let exists = state.contains(&key);
        self.guards.push((key, exists));
    }

    /// Writes a record.
    pub fn put(&mut self, state: &State, key: Key, record: Record) {
        self.guard(state, key.clone());
        self.ops.push(Op::Put(key, record));
    }

    /// Deletes a record.
    pub fn delete(&mut self, state: &State, key: Key) {
        self.guard(state, key.clone());
        self.ops.push(Op::Delete(key));
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// What it changes.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Conditions that a store has to check, at most: two for each record it looks at.
    #[must_use]
    pub fn weight(&self) -> usize {
        2 * self.guards.len()
    }
}

/// Several plans, made one upon the other, that take effect together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    guards: BTreeMap<Key, bool>,
    ops: BTreeMap<Key, Option<Record>>,
}

impl Transaction {
    /// Adds a plan that was made with the earlier ones applied.
    pub fn absorb(&mut self, plan: &Plan) {
        for (key, exists) in &plan.guards {
            // What an earlier plan writes, the later one saw: that is no condition on the store.
            if !self.ops.contains_key(key) {
                self.guards.entry(key.clone()).or_insert(*exists);
            }
        }
        for op in &plan.ops {
            let (key, record) = match op {
                Op::Put(key, record) => (key, Some(record.clone())),
                Op::Delete(key) => (key, None),
            };
            self.ops.insert(key.clone(), record);
        }
    }

    /// Records that must not have changed since the state that it was made from, and whether they
    /// exist there.
    pub fn guards(&self) -> impl Iterator<Item = (&Key, bool)> {
        self.guards.iter().map(|(key, exists)| (key, *exists))
    }

    /// What is written (`Some`) and deleted (`None`).
    pub fn ops(&self) -> impl Iterator<Item = (&Key, Option<&Record>)> {
        self.ops.iter().map(|(key, record)| (key, record.as_ref()))
    }

    /// Conditions that a store has to check, at most: two for each record it looks at.
    #[must_use]
    pub fn weight(&self) -> usize {
        2 * self.guards.len()
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}
