//! Replay floors of manual keys on their way to the disk.
//!
//! Workers store floors in a shared mapping, which survives the death of the process at every
//! instant. The death of the host it survives only up to the last write-back: after a power
//! cut, what was received in the second before may be accepted once more if somebody replays
//! it. That second is the price of not waiting for the disk with each burst; keys that are
//! negotiated anew at each start do not pay it.

use std::sync::Arc;

use vswitch_sa::Fingerprint;

use crate::dpdk::mapped::{MappedCounters, MappedError};

/// One inbound SA's floor, with what of it is on the disk.
pub(super) struct Floor {
    key: Fingerprint,
    table: Arc<MappedCounters>,
    written: Option<u64>,
    failing: bool,
}

impl Floor {
    /// Nothing is known to be on the disk yet.
    pub(super) fn new(key: Fingerprint, table: Arc<MappedCounters>) -> Self {
        Floor {
            key,
            table,
            written: None,
            failing: false,
        }
    }

    /// Whose it is.
    pub(super) fn key(&self) -> Fingerprint {
        self.key
    }

    /// Where workers store it.
    pub(super) fn table(&self) -> Arc<MappedCounters> {
        Arc::clone(&self.table)
    }

    /// Writes it back if it has moved; called every second. An idle SA costs no write, and a
    /// failure is logged once, not every second.
    pub(super) fn keep(&mut self) {
        // Read before the write: what comes meanwhile is the next second's.
        let now = self.table.load(0);
        if now == self.written {
            return;
        }
        match self.sync() {
            Ok(()) => {
                self.written = now;
                self.failing = false;
            }
            Err(error) if !self.failing => {
                tracing::error!(%error, "the replay floor is not on the disk");
                self.failing = true;
            }
            Err(_) => {}
        }
    }

    /// Writes it back.
    pub(super) fn sync(&self) -> Result<(), MappedError> {
        self.table.sync()
    }
}

#[cfg(test)]
mod tests {
    use vswitch_sa::{Algorithm, KeyMaterial};

    use super::*;

    #[test]
    fn only_a_floor_that_moved_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (table, _) = MappedCounters::open(&dir.path().join("floor"), 1).unwrap();
        let table = Arc::new(table);
        let key = KeyMaterial::from_bytes(vswitch_aead::portable(), Algorithm::Aes128Gcm, &[1; 20])
            .unwrap();
        let mut floor = Floor::new(key.fingerprint(), Arc::clone(&table));
        floor.keep();
        assert_eq!(floor.written, Some(0));
        assert!(table.store(0, 7));
        floor.keep();
        assert_eq!(floor.written, Some(7));
        // Were it written now, this would be set right.
        floor.failing = true;
        floor.keep();
        assert!(floor.failing);
    }
}
