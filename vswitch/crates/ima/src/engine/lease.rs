//! When the leases of edges end.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use vswitch_control::types::NveName;

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
