//! Orders carried out: what is wanted becomes steps as a changed file does, keys become SAs, and
//! whoever ordered them hears when the last worker follows.

use vswitch_sa::Spi;

use super::{Installing, Notice, Order};
use crate::datapath::command::WorkerId;
use crate::manage::change::Refused;
use crate::manage::edge::control::Control;
use crate::manage::edge::rounds::Then;
use crate::manage::edge::steps::{Numbered, Steps};

/// Batches taken up at a time, so that workers' events are not kept waiting.
const BATCHES: usize = 64;

impl Control {
    /// A batch of orders, and those that wait behind it.
    pub(in crate::manage::edge) fn ordered(&mut self, first: Vec<Order>) {
        let mut batches = vec![first];
        if let Some(ends) = &self.overlay {
            batches.extend(ends.orders.try_iter().take(BATCHES));
        }
        let mut told = Vec::new();
        let mut changed = false;
        for order in batches.into_iter().flatten() {
            let Some(about_key) = self.wanted.take(order) else {
                changed = true;
                continue;
            };
            // A key is for a tunnel that may have been ordered just before it.
            if std::mem::take(&mut changed) {
                self.follow_authority();
            }
            let (id, done) = match about_key {
                Order::InstallOutbound(id, key) => (id, self.install_outbound(id, &key)),
                Order::InstallInbound(id, key) => (id, self.install_inbound(id, &key)),
                Order::RemoveOutbound {
                    vn,
                    peer,
                    worker,
                    spi,
                    limit,
                } => {
                    self.remove_outbound((&vn, &peer), worker, spi, limit);
                    continue;
                }
                Order::RemoveInbound { spi } => {
                    self.remove_inbound(spi);
                    continue;
                }
                // Taken above.
                _ => continue,
            };
            match done {
                Ok(installing) => told.push(installing),
                Err(why) => self.answer(Notice::Failed(id, why)),
            }
        }
        if changed {
            self.follow_authority();
        }
        if !told.is_empty() {
            self.begin_round(Then::Ordered(told));
        }
    }

    /// All workers follow these orders.
    pub(in crate::manage::edge) fn orders_passed(&mut self, told: Vec<Installing>) {
        for installing in told {
            self.answer(Notice::Done(installing.id));
        }
    }

    /// A worker did not install a key: whoever ordered it hears so, and the tunnel is as before.
    pub(in crate::manage::edge) fn install_refused(
        &mut self,
        worker: WorkerId,
        spi: Spi,
        outbound: bool,
    ) {
        let Some(installing) = self.take_installing(spi, outbound) else {
            // A manual key's; the worker has said why.
            return;
        };
        self.undo(&installing);
        let why = format!("worker {worker}: SA {spi} does not fit its network's protection");
        self.answer(Notice::Failed(installing.id, why));
    }

    fn answer(&mut self, notice: Notice) {
        if let Some(ends) = &mut self.overlay {
            ends.outbox.send(notice);
        }
    }

    /// Makes what runs into what is wanted now.
    fn follow_authority(&mut self) {
        if let Err(error) = self.try_follow() {
            // What ran goes on; the next word of the authority is tried as a whole again.
            tracing::error!(%error, "what the authority says cannot be carried out");
        }
    }

    fn try_follow(&mut self) -> Result<(), Refused> {
        let config = self.wanted.adapt(&self.local);
        let plan = self.plan.next(&self.config, &config, &self.resting)?;
        let old = Numbered {
            config: &self.config,
            plan: &self.plan,
        };
        let new = Numbered {
            config: &config,
            plan: &plan,
        };
        let steps = Steps::between(old, new, self.generation + 1)?;
        self.tables.validate(&steps.tables)?;
        let freed = self.put_in_force(config, plan, steps, Default::default())?;
        if !freed.is_empty() {
            self.begin_round(Then::Freed(freed));
        }
        Ok(())
    }
}
