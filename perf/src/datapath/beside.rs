//! What is measured beside the plain worker, in turns with it.

use vswitch::datapath::observe::{Match, Observer, Wanted};
use vswitch::datapath::probe::{NoProbe, TickProbe};
use vswitch::dpdk::mbuf::BURST;

use super::edge::Common;
use super::pair::{Direction, Pair, WINDOW};
use super::{Found, prove};
use crate::stats::Durations;

/// Workers that take turns with the plain one: one that times its stages, and those that are,
/// or were, watched.
pub(super) struct Beside {
    pub(super) probed: Pair<TickProbe>,
    idle: Pair<NoProbe>,
    early: Pair<Observer>,
    late: Pair<Observer>,
}

impl Beside {
    pub(super) fn new(common: &Common) -> anyhow::Result<Self> {
        // ARP, of which there is none here.
        let by_type = Match {
            ethertype: Some(0x0806),
            ..Match::default()
        };
        let by_drop = Match {
            verdict: Some(Wanted::AnyDrop),
            ..Match::default()
        };
        Ok(Beside {
            probed: Pair::new(common, TickProbe::default())?,
            idle: Pair::watched(common, Match::default())?.unwatched(),
            early: Pair::watched(common, by_type)?,
            late: Pair::watched(common, by_drop)?,
        })
    }

    pub(super) fn prove(&mut self, bytes: usize) -> anyhow::Result<()> {
        prove(&mut self.probed, bytes)?;
        prove(&mut self.idle, bytes)?;
        prove(&mut self.early, bytes)?;
        prove(&mut self.late, bytes)
    }

    /// A round of each.
    pub(super) fn round(
        &mut self,
        found: &mut Found,
        direction: Direction,
        bytes: usize,
        windows: usize,
    ) -> anyhow::Result<()> {
        let packets = (windows * WINDOW * BURST) as f64;
        let mut aside = Durations::new()?;
        self.probed.near.worker.probe().reset();
        let ticks = self.probed.round(direction, bytes, windows, &mut aside)?;
        let stages = self.probed.near.worker.probe().ticks();
        for (of_stage, ticks) in found.stages.iter_mut().zip(stages) {
            of_stage.push(ticks as f64 / packets);
        }
        let rest = ticks.saturating_sub(stages.iter().sum());
        found.rest.push(rest as f64 / packets);
        let [idle, early, late] = &mut found.traced;
        let ticks = self.idle.round(direction, bytes, windows, &mut aside)?;
        idle.push(ticks as f64 / packets);
        let ticks = self.early.round(direction, bytes, windows, &mut aside)?;
        early.push(ticks as f64 / packets);
        let ticks = self.late.round(direction, bytes, windows, &mut aside)?;
        late.push(ticks as f64 / packets);
        Ok(())
    }
}
