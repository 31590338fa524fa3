//! When something is due in which VN: kept in order, so that a message costs an edge in thousands of VNs
//! no look at all of them.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::network::Network;
use crate::types::VnName;

/// What is to be known of one VN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    at: Option<Duration>,
    joining: bool,
    /// The end of the lease ends it, or has yet to be told.
    leased: bool,
    /// The authority has not said yet whether this run of the edge is on it.
    open: bool,
}

/// What all VNs wait for.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: BTreeMap<VnName, Entry>,
    /// Those that are being joined.
    joining: BTreeSet<(Duration, VnName)>,
    /// The others for which there is something to wait for.
    waiting: BTreeSet<(Duration, VnName)>,
    leased: usize,
    open: usize,
}

impl Agenda {
    /// How a VN stands now; to be said whenever something has happened in it.
    pub(super) fn note(&mut self, network: &Network) {
        let entry = Entry {
            at: network.deadline(),
            joining: network.is_joining(),
            leased: network.is_joined() && !network.lease_kept(),
            open: !network.is_joined() && !network.is_refused(),
        };
        if self.entries.get(network.name()) == Some(&entry) {
            return;
        }
        self.forget(network.name());
        if let Some(at) = entry.at {
            self.of(entry.joining).insert((at, network.name().clone()));
        }
        self.leased += usize::from(entry.leased);
        self.open += usize::from(entry.open);
        self.entries.insert(network.name().clone(), entry);
    }

    /// It is no more.
    pub(super) fn forget(&mut self, vn: &VnName) {
        if let Some(entry) = self.entries.remove(vn) {
            if let Some(at) = entry.at {
                self.of(entry.joining).remove(&(at, vn.clone()));
            }
            self.leased -= usize::from(entry.leased);
            self.open -= usize::from(entry.open);
        }
    }

    fn of(&mut self, joining: bool) -> &mut BTreeSet<(Duration, VnName)> {
        match joining {
            true => &mut self.joining,
            false => &mut self.waiting,
        }
    }

    /// Those in which something is due, who has waited longest first; no more than leaves `most` being
    /// joined at a time. One whose answer does not come is begun anew, and does not count twice.
    pub(super) fn due(&self, now: Duration, most: usize) -> Vec<VnName> {
        let is_due = |(at, _): &&(Duration, VnName)| *at <= now;
        let anew = self.joining.iter().take_while(is_due);
        let under_way = self.joining.len() - anew.clone().count();
        let others = self.waiting.iter().take_while(is_due);
        anew.chain(others)
            .take(most.saturating_sub(under_way))
            .map(|(_, vn)| vn.clone())
            .collect()
    }

    /// When the next is due. Those that wait for their turn are not before one that is joining is done.
    pub(super) fn next(&self, most: usize) -> Option<Duration> {
        let turn = self.joining.len() < most;
        let waiting = self.waiting.first().filter(|_| turn);
        let next = self.joining.first().into_iter().chain(waiting);
        next.map(|(at, _)| *at).min()
    }

    /// Whether the end of the lease has something to end.
    pub(super) fn is_leased(&self) -> bool {
        self.leased != 0
    }

    /// Whether the authority has said of every VN whether this run of the edge is on it.
    pub(super) fn is_answered(&self) -> bool {
        self.open == 0
    }

    /// Whether this is what `networks` say: the tests ask.
    #[cfg(test)]
    pub(super) fn is_true<'a>(&self, networks: impl Iterator<Item = &'a Network>) -> bool {
        let mut fresh = Self::default();
        networks.for_each(|network| fresh.note(network));
        let of = |agenda: &Self| {
            let entries: Vec<_> = agenda.entries.clone().into_iter().collect();
            (
                entries,
                agenda.joining.clone(),
                agenda.waiting.clone(),
                (agenda.leased, agenda.open),
            )
        };
        of(&fresh) == of(self)
    }
}
