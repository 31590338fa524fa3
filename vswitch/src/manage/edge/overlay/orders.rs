//! Orders carried out: what is wanted becomes steps as a changed file does, keys become SAs, and
//! whoever ordered them hears when the last worker follows.

use std::sync::Arc;

use vswitch_sa::Spi;
use vswitch_vn::Change;

use super::moves::Touched;
use super::parts::Now;
use super::{Installing, Notice, Order};
use crate::datapath::command::{Command, WorkerId};
use crate::manage::change::Refused;
use crate::manage::edge::control::Control;
use crate::manage::edge::rounds::Then;

/// Batches taken up at a time, so that workers' events are not kept waiting.
const BATCHES: usize = 64;

impl Control {
    /// A batch of orders, and those that wait behind it.
    pub(in crate::manage::edge) fn ordered(&mut self, first: Vec<Order>) {
        let mut batches = vec![first];
        if let Some(ends) = &self.overlay {
            batches.extend(ends.orders.try_iter().take(BATCHES));
        }
        // What is wanted first, all of it as one change: a key is for a tunnel that may have been ordered
        // just before it, and one whose network has gone behind it finds no tunnel, which undoes nothing.
        let mut touched = Touched::default();
        let mut about_keys = Vec::new();
        for order in batches.into_iter().flatten() {
            touched.note(&order);
            about_keys.extend(self.wanted.take(order));
        }
        self.follow_authority(&touched);
        let mut told = Vec::new();
        for about_key in about_keys {
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
    fn follow_authority(&mut self, touched: &Touched) {
        let followed = match touched.is_empty() {
            true => Ok(()),
            false => {
                let followed = self.try_follow(touched);
                self.wanted.behind |= followed.is_err();
                followed
            }
        };
        if let Err(error) = followed {
            // What ran goes on; the next word of the authority is tried as a whole again.
            tracing::error!(%error, "what the authority says cannot be carried out");
        }
    }

    fn try_follow(&mut self, touched: &Touched) -> Result<(), Refused> {
        let now = (&*self.config, &self.plan, &self.tables);
        if let Some(mut moves) = self.wanted.moves(touched, now, self.generation + 1) {
            if moves.changes.is_empty() {
                return Ok(());
            }
            if self.tables.transact(&moves.changes).is_ok() {
                self.generation += 1;
                moves.note_in(Arc::make_mut(&mut self.config));
                let changes: Arc<[Change]> = moves.changes.into();
                self.tell_all(|_| Command::Tables(Arc::clone(&changes)));
                return Ok(());
            }
            // Something of it cannot be: looked at as a whole, it is found and left out.
        }
        let now = Now {
            config: &self.config,
            plan: &self.plan,
            resting: &self.resting,
            tables: &self.tables,
            generation: self.generation,
        };
        let (config, plan, steps) = self.wanted.settle(&self.local, now)?;
        let freed = self.put_in_force(config, plan, steps, Default::default())?;
        if !freed.is_empty() {
            self.begin_round(Then::Freed(freed));
        }
        Ok(())
    }
}
