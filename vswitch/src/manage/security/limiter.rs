//! Keeps the log readable under attack: of one reason and subject, the first occurrence is
//! told at once and what follows in one line every [`INTERVAL`], none uncounted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use super::event::SecurityEvent;

/// Between two lines of one reason and subject.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Reason and subject.
type Key = (
    &'static str,
    String,
    [Option<String>; 4],
    Option<u32>,
    Option<u16>,
);

fn key(event: &SecurityEvent) -> Key {
    let names = [&event.port, &event.underlay, &event.vn, &event.peer].map(Clone::clone);
    // Of an unknown association, the SPI is what a stranger wrote.
    let spi = event.spi.filter(|_| event.vn.is_some());
    (event.kind, event.reason.clone(), names, spi, event.worker)
}

struct Told {
    last: Instant,
    pending: Option<SecurityEvent>,
}

/// What was told when, and what is yet to be. Subjects are configured ones, so that their
/// number is bounded.
#[derive(Default)]
pub struct Limiter {
    told: HashMap<Key, Told>,
}

impl Limiter {
    /// Tells of an event, or keeps it until [`Self::tick`] does.
    pub fn note(&mut self, now: Instant, event: SecurityEvent) {
        match self.told.entry(key(&event)) {
            Entry::Vacant(place) => {
                event.emit(0);
                place.insert(Told {
                    last: now,
                    pending: None,
                });
            }
            Entry::Occupied(mut place) => {
                let told = place.get_mut();
                match &mut told.pending {
                    Some(pending) => pending.count += event.count,
                    None => told.pending = Some(event),
                }
            }
        }
    }

    /// Tells what is due, and forgets what has been quiet.
    pub fn tick(&mut self, now: Instant) {
        self.told.retain(|_, told| {
            if now.saturating_duration_since(told.last) < INTERVAL {
                return true;
            }
            let Some(event) = told.pending.take() else {
                return false;
            };
            event.emit(event.count);
            told.last = now;
            true
        });
    }

    /// Tells everything: the switch stops.
    pub fn flush(&mut self) {
        for (_, told) in self.told.drain() {
            if let Some(event) = told.pending {
                event.emit(event.count);
            }
        }
    }
}
