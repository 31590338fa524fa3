//! When the leases of edges end.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use vswitch_control::types::NveName;

use super::Engine;

/// Of a lease: what an edge has at least when a server starts, whatever the time of day is said to be. An
/// edge that is there comes back well within it.
const GRACE: u32 = 4;
/// No more than this is needed.
const LONGEST_GRACE: Duration = Duration::from_secs(120);

impl Engine {
    /// The time of day, in milliseconds since 1970. Nothing is decided by it while the server runs; it is
    /// stored with renewals.
    pub fn wall_is(&mut self, wall: u64) {
        self.wall = wall;
    }

    /// At a server's start: leases go on as far as the time of day tells when they were last renewed, so that
    /// edges that are gone are not kept by servers that start again and again. It may have been set: to
    /// the past, and leases are as new; to the future, and edges have a part of one to come back.
    pub fn resume_leases(&mut self, now: Duration, wall: u64) {
        self.wall = wall;
        let lease = self.limits.lease;
        let grace = (lease / GRACE).min(LONGEST_GRACE);
        for (nve, edge) in &self.state.edges {
            let since = Duration::from_millis(wall.saturating_sub(edge.renewals));
            let left = lease.saturating_sub(since).max(grace);
            self.leases.set(nve, now + left);
        }
    }
}

/// Ends of leases, by this server's clock.
#[derive(Debug, Default)]
pub(super) struct Leases {
    ends: HashMap<NveName, Duration>,
    order: BTreeSet<(Duration, NveName)>,
}

impl Leases {
    /// The lease of `nve` ends then, whatever was said before.
    pub(super) fn set(&mut self, nve: &NveName, end: Duration) {
        self.remove(nve);
        self.ends.insert(nve.clone(), end);
        self.order.insert((end, nve.clone()));
    }

    /// There is none.
    pub(super) fn remove(&mut self, nve: &NveName) {
        if let Some(end) = self.ends.remove(nve) {
            self.order.remove(&(end, nve.clone()));
        }
    }

    /// When that of `nve` ends.
    pub(super) fn get(&self, nve: &NveName) -> Option<Duration> {
        self.ends.get(nve).copied()
    }

    /// Those that have ended, the earliest first.
    pub(super) fn ended(&self, now: Duration) -> impl Iterator<Item = &NveName> {
        let ended = self.order.iter().take_while(move |(end, _)| *end <= now);
        ended.map(|(_, nve)| nve)
    }

    /// The one that ends first.
    pub(super) fn first(&self) -> Option<(Duration, &NveName)> {
        self.order.first().map(|(end, nve)| (*end, nve))
    }
}
