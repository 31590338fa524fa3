//! Which local worker owns an inbound SA: that of the network's ports here, else the one with the
//! sender's number, so that what one worker sends one worker opens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use vswitch_control::keying;
use vswitch_control::types::{NveName, VnName};

use crate::manage::config::{Config, Direction};

/// What the choice depends on; the loop renews it with the configuration.
#[derive(Debug, Clone, Default)]
struct Facts {
    workers: u16,
    /// Of networks whose ports one worker owns.
    owners: BTreeMap<String, u16>,
    /// SPIs of manual SAs.
    taken: BTreeSet<u32>,
}

/// Cloned freely; all clones know the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Steering(Arc<Mutex<Facts>>);

impl Steering {
    pub(super) fn follow(&self, config: &Config, workers: u16) {
        let mut owners: BTreeMap<String, Option<u16>> = BTreeMap::new();
        for port in &config.ports {
            let Some(vn) = config.vns.get(port.vn.index()) else {
                continue;
            };
            let owner = owners.entry(vn.name.clone()).or_insert(port.worker);
            if *owner != port.worker {
                *owner = None;
            }
        }
        let inbound = config.security_associations.iter();
        let facts = Facts {
            workers: workers.max(1),
            owners: owners
                .into_iter()
                .filter_map(|(vn, owner)| Some((vn, owner?)))
                .collect(),
            taken: inbound
                .filter(|sa| sa.direction == Direction::Inbound)
                .map(|sa| sa.spi.get())
                .collect(),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = facts;
    }

    fn with<T>(&self, read: impl FnOnce(&Facts) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl keying::Steering for Steering {
    fn owner(&self, vn: &VnName, _peer: &NveName, sender_worker: u16) -> u16 {
        self.with(|facts| match facts.owners.get(vn.as_str()) {
            Some(owner) => *owner,
            None => sender_worker % facts.workers.max(1),
        })
    }

    fn free(&self, spi: u32) -> bool {
        self.with(|facts| !facts.taken.contains(&spi))
    }

    /// Drivers do not say how they spread flows: any SPI is taken, and packets that arrive at
    /// another worker are handed to the owner, which is counted.
    fn steers(&self, _spi: u32, _worker: u16) -> bool {
        true
    }
}
