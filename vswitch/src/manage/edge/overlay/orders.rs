//! Orders carried out: what is wanted becomes steps as a changed file does, keys become SAs, and
//! whoever ordered them hears when the last worker follows.

use super::{Notice, Order};
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
                Order::InstallOutbound(id, key) => (id, self.install_outbound(&key)),
                Order::InstallInbound(id, key) => (id, self.install_inbound(&key)),
                Order::RemoveOutbound {
                    vn,
                    peer,
                    worker,
                    spi,
                } => {
                    self.remove_outbound(&vn, &peer, worker, spi);
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
                Ok(()) => told.push(id),
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
    pub(in crate::manage::edge) fn orders_passed(&mut self, told: Vec<u64>) {
        for id in told {
            self.answer(Notice::Done(id));
        }
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
