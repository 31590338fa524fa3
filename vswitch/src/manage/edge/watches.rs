//! Observations: begun when somebody asks, ended when nobody reads them any more.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use crossbeam::channel::bounded;

use super::control::Control;
use crate::datapath::command::Command;
use crate::datapath::observe::{Exchange, MAX_OBSERVATIONS, Observation};
use crate::manage::observe::{Ask, Names, Watch, WatchError};

/// The observations under way.
pub(super) struct Watches {
    exchange: Exchange,
    /// By observation's number: whether somebody still holds the [`Watch`].
    alive: [Option<Weak<()>>; MAX_OBSERVATIONS],
    /// Where the search for a free number begins: a number that was just given back is not
    /// given out at once, since its packets may still be under way.
    next: usize,
}

impl Watches {
    pub fn new(workers: usize) -> Self {
        Watches {
            exchange: Exchange::new(workers),
            alive: Default::default(),
            next: 0,
        }
    }
}

impl Control {
    /// Begins an observation on all workers.
    pub(super) fn watch(&mut self, ask: &Ask) -> Result<Watch, WatchError> {
        self.end_watches();
        let names = Arc::new(self.names());
        let filter = ask.filter.resolve(&names)?;
        let watches = &mut self.watches;
        let id = (0..MAX_OBSERVATIONS)
            .map(|i| (watches.next + i) % MAX_OBSERVATIONS)
            .find(|id| matches!(watches.alive.get(*id), Some(None)))
            .ok_or(WatchError::TooMany(MAX_OBSERVATIONS))?;
        let alive = Arc::new(());
        if let Some(place) = watches.alive.get_mut(id) {
            *place = Some(Arc::downgrade(&alive));
        }
        watches.next = id + 1;
        let (reports, records) = bounded(ask.depth.max(1));
        let lost = Arc::new(AtomicU64::new(0));
        let observation = Observation {
            id: id as u8,
            filter,
            snaplen: ask.snaplen,
            reports,
            lost: Arc::clone(&lost),
            exchange: watches.exchange.clone(),
        };
        self.tell_all(|_| Command::Observe(Box::new(observation.clone())));
        Ok(Watch {
            records,
            names,
            clock: self.clock,
            lost,
            _alive: alive,
        })
    }

    /// Ends the observations that nobody reads any more.
    pub(super) fn end_watches(&mut self) {
        for id in 0..MAX_OBSERVATIONS {
            let gone = match self.watches.alive.get_mut(id) {
                Some(place) if place.as_ref().is_some_and(|w| w.strong_count() == 0) => {
                    place.take().is_some()
                }
                _ => false,
            };
            if gone {
                self.tell_all(|_| Command::Unobserve(id as u8));
            }
        }
    }

    /// The names of everything, as of now.
    pub(super) fn names(&self) -> Names {
        let tunnels = (0..self.plan.tunnels.len())
            .map(|i| self.tunnel_names(vswitch_vn::TunnelId(i as u32)))
            .map(|(vn, peer)| (vn.to_owned(), peer.to_owned()))
            .collect();
        Names::new(&self.config, tunnels)
    }
}
