//! Runs of an edge. One that dies says no `Leave`, and the next joins what it then has ports for: VNs that it
//! does not join would have the edge as a member, with mappings that nobody is behind, as long as it renews
//! its lease. So they end when the next run has joined all that it wants; then it renews.
//!
//! Until then the store names the former run, so that whichever server it comes back to knows.

use vswitch_control::types::{BootId, NveName, VnName};

use super::edge::tick;
use super::{Engine, Session};
use crate::model::{Key, Plan};

/// VNs that one renewal ends at most: a transaction has a bound.
const PART: usize = 16;
/// No run's: those are drawn at random.
const NOBODY: BootId = BootId([0; 16]);

impl Engine {
    /// The run to be stored when `boot` says hello: the former, if there is anything left of it.
    pub(super) fn run_at_hello(&self, nve: &NveName, boot: BootId) -> BootId {
        let former = self.state.edges.get(nve).map(|edge| edge.boot);
        match self.state.present(nve).next() {
            // Its lease has ended, and this one's begins before all of that is cleared away.
            Some(_) => former.unwrap_or(NOBODY),
            None => boot,
        }
    }

    /// The run to be stored when `boot` renews. Takes the edge out of VNs that the former was on and this
    /// one is not, some of them at a time; their mappings are withdrawn by the sweep that follows.
    pub(super) fn end_former_run(
        &self,
        plan: &mut Plan,
        session: &Session,
        boot: BootId,
    ) -> BootId {
        let (state, nve) = (&self.state, &session.nve);
        let former = state.edges.get(nve).map(|edge| edge.boot);
        let Some(former) = former.filter(|former| *former != boot) else {
            return boot;
        };
        let vn = |name: &VnName| {
            let vn = state.vns.get(name)?;
            (vn.joined.contains_key(nve) && !state.is_quarantined(name)).then_some(vn)
        };
        let over = state
            .present(nve)
            .filter(|name| !session.seats.contains_key(*name));
        let mut over = over.filter_map(|name| Some((name, vn(name)?)));
        for (name, vn) in over.by_ref().take(PART) {
            tick(plan, state, name, vn, 1);
            plan.delete(state, Key::Joined(name.clone(), nve.clone()));
        }
        over.next().map_or(boot, |_| former)
    }
}
