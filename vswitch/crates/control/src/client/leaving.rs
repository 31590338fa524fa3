//! VNs that this edge is on no more, until the authority is known to have heard it: a session can end with
//! the last that was said in it, and ports can go while there is none.

use std::collections::BTreeMap;

use crate::types::VnName;

/// Each with the number of the first renewal that follows its `Leave` in this session. Requests are
/// answered in order, so whose renewal is answered was heard.
#[derive(Debug, Default)]
pub(super) struct Leaving(BTreeMap<VnName, Option<u64>>);

impl Leaving {
    /// Said now, in front of that renewal; or to be said in the next session.
    pub(super) fn add(&mut self, vn: VnName, before: Option<u64>) {
        self.0.insert(vn, before);
    }

    /// It is joined again.
    pub(super) fn remove(&mut self, vn: &VnName) {
        self.0.remove(vn);
    }

    /// A renewal is answered.
    pub(super) fn heard(&mut self, renewal: u64) {
        self.0
            .retain(|_, before| before.is_none_or(|before| before > renewal));
    }

    /// The session is gone.
    pub(super) fn disconnected(&mut self) {
        for before in self.0.values_mut() {
            *before = None;
        }
    }

    /// What is to be said in a new session, in front of that renewal.
    pub(super) fn say(&mut self, renewal: u64) -> Vec<VnName> {
        for before in self.0.values_mut() {
            *before = Some(renewal);
        }
        self.0.keys().cloned().collect()
    }
}
