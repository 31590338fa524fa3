//! What follows from a change but is too much for its transaction: registrations of edges that left,
//! lost their rights or their lease, and what is left of removed VNs. In steps of bounded size.

use std::ops::Bound;
use std::time::Duration;

use vswitch_control::types::{Epoch, NveName, Version, VnName};

use super::Engine;
use super::edge::tick;
use crate::model::{Clock, Key, Plan, Record, Vn};

/// Weight of what one step looks at for each record that it changes, at most: the record and three
/// guards, and the counters once.
const WEIGHT: usize = 10;

/// Records that one step changes at most: all of them are one version of the log, which has to fit
/// into one update.
const MOST: usize = 512;

impl Engine {
    /// The next step, if there is anything to do, of at most this weight. To be committed like a
    /// request's plan; one that conflicts with another server's comes up again.
    pub fn sweep(&mut self, now: Duration, weight: usize) -> Option<Plan> {
        let most = (weight / WEIGHT).clamp(1, MOST);
        let mut plan = Plan::default();
        for nve in self.leases.ended(now).take(most) {
            plan.delete(&self.state, Key::Edge(nve.clone()));
        }
        if !plan.is_empty() {
            return Some(plan);
        }
        // VNs take turns: what has to be done soon, such as the epoch behind a revocation, does not
        // wait for a large one to be cleared away.
        while !self.messy.is_empty() {
            let behind = self
                .swept
                .as_ref()
                .map_or(Bound::Unbounded, Bound::Excluded);
            let mut next = self.messy.range::<VnName, _>((behind, Bound::Unbounded));
            let name = next.next().or(self.messy.first()).cloned()?;
            self.swept = Some(name.clone());
            let plan = self
                .state
                .vns
                .get(&name)
                .and_then(|vn| self.tidy(&name, vn, most));
            if plan.is_some() {
                return plan;
            }
            self.messy.remove(&name);
        }
        None
    }

    /// When the next lease ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Duration> {
        self.leases.first().map(|(end, _)| end)
    }

    /// When an edge's lease ends.
    #[must_use]
    pub fn lease_end(&self, nve: &NveName) -> Option<Duration> {
        self.leases.get(nve)
    }

    fn tidy(&self, name: &VnName, vn: &Vn, most: usize) -> Option<Plan> {
        if self.state.is_quarantined(name) {
            return None;
        }
        if vn.declared.is_none() {
            return Some(self.clear(name, vn, most));
        }
        let mut plan = Plan::default();
        let stays =
            |nve: &NveName| self.state.admits(name, nve) && self.state.edges.contains_key(nve);
        let gone: Vec<&NveName> = vn
            .joined
            .keys()
            .filter(|nve| !stays(nve))
            .take(most)
            .collect();
        if !gone.is_empty() {
            // A revoked edge is no member; one that was removed has changed the epoch by that.
            let revoked = gone.iter().any(|nve| self.state.revoked.contains_key(*nve));
            let clock = Clock {
                version: Version(vn.clock.version.0.saturating_add(1)),
                epoch: Epoch(vn.clock.epoch.0.saturating_add(u64::from(revoked))),
            };
            plan.put(&self.state, Key::Clock(name.clone()), Record::Clock(clock));
            for nve in gone {
                // Still so when this is committed: it might have come back elsewhere.
                plan.guard(&self.state, Key::Edge(nve.clone()));
                plan.guard(&self.state, Key::Member(name.clone(), nve.clone()));
                plan.guard(&self.state, Key::Revoked(nve.clone()));
                plan.delete(&self.state, Key::Joined(name.clone(), nve.clone()));
            }
            return Some(plan);
        }
        let orphans = vn
            .held
            .iter()
            .filter(|(nve, _)| !vn.joined.contains_key(*nve));
        let orphans = orphans.flat_map(|(nve, macs)| macs.iter().map(move |mac| (nve, *mac)));
        for (nve, mac) in orphans.take(most) {
            plan.guard(&self.state, Key::Joined(name.clone(), nve.clone()));
            plan.delete(&self.state, Key::Mapping(name.clone(), mac));
        }
        if plan.is_empty() {
            return None;
        }
        tick(&mut plan, &self.state, name, vn, 1);
        Some(plan)
    }

    /// What is left of a removed VN, then its counters.
    fn clear(&self, name: &VnName, vn: &Vn, most: usize) -> Plan {
        let mut plan = Plan::default();
        plan.guard(&self.state, Key::Vn(name.clone()));
        let joined = vn
            .joined
            .keys()
            .map(|nve| Key::Joined(name.clone(), nve.clone()));
        let mappings = vn
            .mappings
            .keys()
            .map(|mac| Key::Mapping(name.clone(), *mac));
        let placements = vn
            .placements
            .keys()
            .map(|mac| Key::Placement(name.clone(), *mac));
        let members = vn
            .members
            .iter()
            .map(|nve| Key::Member(name.clone(), nve.clone()));
        for key in joined
            .chain(mappings)
            .chain(placements)
            .chain(members)
            .take(most)
        {
            plan.delete(&self.state, key);
        }
        if plan.is_empty() {
            plan.delete(&self.state, Key::Clock(name.clone()));
        }
        plan
    }
}
