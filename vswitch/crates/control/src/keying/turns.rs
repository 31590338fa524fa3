//! Exchanges that are begun with one peer: so many under way at a time, the others in line, all at
//! the rate that the peer admits. Many networks that are due at once thus neither wait so long for
//! their answers that they are given up, nor are they refused.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::pair::{Pair, Turn};
use super::schedule::Bucket;
use super::{Keying, PairKey};
use crate::types::{NveName, VnName};

/// Of one peer.
pub struct Turns {
    pace: Bucket,
    under_way: BTreeSet<VnName>,
    line: VecDeque<VnName>,
}

impl Turns {
    /// Nobody waits.
    pub fn new(per_second: u32, at_once: u32) -> Self {
        Self {
            pace: Bucket::with_burst(per_second, at_once),
            under_way: BTreeSet::new(),
            line: VecDeque::new(),
        }
    }

    /// From now on at this rate.
    pub fn resize(&mut self, per_second: u32, at_once: u32) {
        self.pace.resize(per_second, at_once);
    }

    /// How many are under way, or have their place among those.
    #[cfg(test)]
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// What waits does so no more: the session is gone.
    pub fn forget(&mut self) {
        self.line.clear();
    }
}

impl Keying {
    /// Whether a pair's exchange may begin now; else it is in line, or due when it may.
    pub(super) fn has_turn(&mut self, now: Duration, key: &PairKey, pair: &mut Pair) -> bool {
        let most = self.config.requests_under_way;
        let turns = &mut self.peer(&key.peer).turns;
        match pair.turn {
            Turn::InLine => return false,
            Turn::None if turns.under_way.len() >= most || !turns.line.is_empty() => {
                turns.line.push_back(key.vn.clone());
                pair.turn = Turn::InLine;
                self.counters.exchanges_queued += 1;
                return false;
            }
            Turn::None | Turn::Called { paced: false } => {
                let wait = turns.pace.reserve(now);
                if !wait.is_zero() {
                    pair.turn = Turn::Called { paced: true };
                    pair.due = Some(now + wait);
                    return false;
                }
            }
            Turn::Called { paced: true } => {}
        }
        pair.turn = Turn::None;
        true
    }

    /// Notes whether a pair's exchange is under way.
    pub(super) fn turn(&mut self, key: &PairKey, pair: &Pair) {
        let Some(peer) = self.peers.get_mut(&key.peer) else {
            return;
        };
        let turns = &mut peer.turns;
        if pair.pending.is_some() || matches!(pair.turn, Turn::Called { .. }) {
            if !turns.under_way.contains(&key.vn) {
                turns.under_way.insert(key.vn.clone());
            }
        } else {
            turns.under_way.remove(&key.vn);
        }
    }

    /// Calls those in line for whom there is room now.
    pub(super) fn call(&mut self, now: Duration, name: &NveName) {
        let most = self.config.requests_under_way;
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let turns = &mut peer.turns;
        while turns.under_way.len() < most
            && let Some(vn) = turns.line.pop_front()
        {
            let pairs = self.pairs.get_mut(name);
            // One that is not in line has come to its exchange in another way.
            let Some(pair) = pairs
                .and_then(|pairs| pairs.get_mut(&vn))
                .filter(|pair| pair.turn == Turn::InLine)
            else {
                continue;
            };
            pair.turn = Turn::Called { paced: false };
            pair.due_by(now);
            let key = PairKey {
                peer: name.clone(),
                vn: vn.clone(),
            };
            self.pair_timers.set(&key, pair.next_timeout(&self.config));
            turns.under_way.insert(vn);
        }
    }
}
