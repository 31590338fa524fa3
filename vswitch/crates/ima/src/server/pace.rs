//! How fast the messages of each edge are read: by edge, and not by session, so that who comes again, or
//! comes twice, is read no faster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vswitch_control::message::ima::EdgeLimits;
use vswitch_control::types::NveName;

use crate::engine::Bucket;

/// Edges remembered before those are forgotten that have no session and sent nothing of late.
const IDLE: usize = 1024;

/// One edge's, shared by its sessions.
#[derive(Debug, Clone)]
pub(super) struct Pace(Arc<Mutex<Bucket>>);

impl Pace {
    /// A message has come: how long to wait before the next one is read.
    pub(super) fn take(&self, now: Duration) -> Duration {
        // A number and a time, whole after every change.
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take(now)
    }

    /// Whether a new one would be the same.
    fn is_idle(&mut self, now: Duration) -> bool {
        let alone = Arc::get_mut(&mut self.0);
        alone.is_some_and(|bucket| {
            let bucket = bucket.get_mut().unwrap_or_else(PoisonError::into_inner);
            bucket.is_full(now)
        })
    }
}

/// Those of all edges.
#[derive(Debug, Default)]
pub(super) struct Paces(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    of: HashMap<NveName, Pace>,
    /// With more than this it is looked whom to forget.
    room: usize,
}

impl Paces {
    /// That of an edge, for one session.
    pub(super) fn of(&self, nve: &NveName, limits: &EdgeLimits, now: Duration) -> Pace {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Table { of, room } = &mut *table;
        if of.len() >= (*room).max(IDLE) {
            of.retain(|_, pace| !pace.is_idle(now));
            // Each of them is looked at as often as one is added, on average.
            *room = 2 * of.len();
        }
        let new = || {
            let bucket = Bucket::new(limits.messages_per_second, limits.burst, now);
            Pace(Arc::new(Mutex::new(bucket)))
        };
        of.entry(nve.clone()).or_insert_with(new).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: EdgeLimits = EdgeLimits {
        messages_per_second: 10,
        burst: 5,
        vns: 1,
        registrations: 1,
    };

    fn nve(n: usize) -> NveName {
        format!("e{n}").parse().unwrap()
    }

    #[test]
    fn all_sessions_of_an_edge_have_one_pace_and_so_has_the_next() {
        let paces = Paces::default();
        let now = Duration::from_secs(1);
        let waits = |pace: Pace| (0..5).filter(|_| !pace.take(now).is_zero()).count();
        let (one, two) = (
            paces.of(&nve(1), &LIMITS, now),
            paces.of(&nve(1), &LIMITS, now),
        );
        assert_eq!((waits(one), waits(two)), (0, 5));
        // Both are gone.
        assert_eq!(waits(paces.of(&nve(1), &LIMITS, now)), 5);
        assert_eq!(waits(paces.of(&nve(2), &LIMITS, now)), 0);
    }

    #[test]
    fn who_is_gone_is_forgotten_when_the_bucket_is_full_again_and_not_before() {
        let paces = Paces::default();
        let mut now = Duration::from_secs(1);
        let there = paces.of(&nve(0), &LIMITS, now);
        for n in 1..20_000 {
            now += Duration::from_millis(10);
            paces.of(&nve(n), &LIMITS, now).take(now);
            if n % 100 == 0 {
                // Debts, of one who has no session and one who has.
                for _ in 0..100 {
                    there.take(now);
                    paces.of(&nve(1_000_000), &LIMITS, now).take(now);
                }
            }
        }
        assert!(paces.of(&nve(0), &LIMITS, now).take(now) > Duration::from_secs(1));
        assert!(paces.of(&nve(1_000_000), &LIMITS, now).take(now) > Duration::from_secs(1));
        let kept = paces.0.lock().unwrap().of.len();
        assert!(kept <= 2 * IDLE, "{kept}");
    }
}
