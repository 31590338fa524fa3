//! Changes of the store: what one request changes (a [`Plan`]), and several of them committed as one
//! (a [`Transaction`]).

use std::collections::BTreeMap;

use vswitch_control::types::VnName;

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

/// The VN that a record is of, if it is one's.
const fn vn(key: &Key) -> Option<&VnName> {
    match key {
        Key::Vn(name)
        | Key::Clock(name)
        | Key::Member(name, _)
        | Key::Joined(name, _)
        | Key::Placement(name, _)
        | Key::Mapping(name, _) => Some(name),
        Key::Vni(_)
        | Key::Edge(_)
        | Key::Revoked(_)
        | Key::Audit(_)
        | Key::Declared(_)
        | Key::Claim(_)
        | Key::Operator(_) => None,
    }
}

/// Of operations of several transactions, how many are in front of the first by which a VN that was
/// removed among them is made anew: what is of its new life must not go with what is left of the former.
pub(super) fn one_life(ops: &[Op]) -> usize {
    let mut over: Vec<&VnName> = Vec::new();
    let anew = ops.iter().position(|op| match op {
        Op::Delete(Key::Clock(name)) => {
            over.push(name);
            false
        }
        Op::Put(key, _) => !over.is_empty() && vn(key).is_some_and(|name| over.contains(&name)),
        Op::Delete(_) => false,
    });
    anew.unwrap_or(ops.len())
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

#[cfg(test)]
mod tests {
    use vswitch_control::message::ima::LogId;
    use vswitch_control::message::overlay::{Admission, LeaseEnd, Protection, VnSettings};
    use vswitch_control::types::{Epoch, Version};

    use super::*;
    use crate::model::{Clock, VnRecord};

    fn clock(name: &VnName, epoch: u64) -> Op {
        let (version, epoch) = (Version(0), Epoch(epoch));
        let clock = Record::Clock(Clock { version, epoch });
        Op::Put(Key::Clock(name.clone()), clock)
    }

    fn declared(name: &VnName, vni: u32) -> Op {
        let settings = VnSettings {
            vni: vni.try_into().unwrap(),
            protection: Protection::Confidential,
            lease_end: LeaseEnd::Stop,
            admission: Admission::Strict,
        };
        let log = LogId(u64::from(vni));
        let record = Record::Vn(VnRecord { settings, log });
        Op::Put(Key::Vn(name.clone()), record)
    }

    /// A server that was away hears of everything at once: it knows what one knows that heard of each
    /// transaction, and can take all of it back.
    #[test]
    fn a_network_made_anew_outlives_what_is_left_of_the_former() {
        let (red, blue): (VnName, VnName) = ("red".parse().unwrap(), "blue".parse().unwrap());
        let member = |name: &VnName| Key::Member(name.clone(), "a".parse().unwrap());
        // As stores tell them: in the order of keys.
        let transactions = [
            vec![declared(&red, 1), clock(&red, 1)],
            vec![clock(&red, 2), Op::Put(member(&red), Record::Member)],
            vec![declared(&blue, 2), clock(&blue, 1)],
            vec![Op::Delete(Key::Vn(red.clone()))],
            vec![Op::Delete(member(&red))],
            vec![Op::Delete(Key::Clock(red.clone()))],
            vec![declared(&red, 3), clock(&red, 1)],
            vec![clock(&red, 2), Op::Put(member(&red), Record::Member)],
            vec![clock(&blue, 2), Op::Put(member(&blue), Record::Member)],
        ];
        for begin in 0..transactions.len() {
            let (before, missed) = transactions.split_at(begin);
            let mut state = State::new(10);
            before.iter().for_each(|ops| drop(state.apply(ops)));
            let (was, mut one_by_one) = (format!("{:?}", state.vns.keys()), state.clone());
            missed.iter().for_each(|ops| drop(one_by_one.apply(ops)));
            let undo = state.apply(&missed.concat());
            for name in [&red, &blue] {
                let (vn, other) = (&state.vns[name], &one_by_one.vns[name]);
                assert_eq!(vn.clock, other.clock, "{name} from {begin}");
                assert_eq!(vn.declared, other.declared, "{name} from {begin}");
                assert_eq!(vn.members, other.members, "{name} from {begin}");
                assert_eq!(vn.members.len(), 1, "{name} from {begin}");
            }
            state.revert(&undo);
            let kept = state.vns.iter().filter(|(_, vn)| vn.clock.epoch.0 > 0);
            let kept: Vec<_> = kept.map(|(name, _)| name).collect();
            assert_eq!(format!("{kept:?}"), was, "from {begin}");
        }
    }
}
