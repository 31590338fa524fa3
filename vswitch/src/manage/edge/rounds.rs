//! Rounds of barriers after a change: when every worker has passed the first, the change has
//! taken effect everywhere. Ids of removed things rest for more of them, until no packet in a
//! ring between two workers can bear one.

use vswitch_sa::Spi;

use super::RING_CAPACITY;
use super::control::Control;
use super::overlay::Installing;
use super::plan::Ids;
use crate::datapath::command::Command;
use crate::dpdk::mbuf::BURST;

/// A worker takes a burst from each ring in each pass, and passes one boundary in each: after
/// so many rounds it has taken everything that was in its rings at the first.
const RING_ROUNDS: u32 = RING_CAPACITY.div_ceil(BURST as u32) + 1;

/// What happens when all workers have passed.
pub(super) enum Then {
    /// A change has taken effect.
    Applied,
    /// Orders of the authority's thread have taken effect.
    Ordered(Vec<Installing>),
    /// The workers have forgotten these ids.
    Freed(Ids),
    /// One round less for these ids to rest.
    Rest(Ids, u32),
}

/// Barriers under way.
pub(super) struct Round {
    barrier: u64,
    left: usize,
    then: Then,
}

impl Control {
    /// Sends a barrier to all workers behind what they have been told so far.
    pub(super) fn begin_round(&mut self, then: Then) {
        let barrier = self.next_id();
        let left = self.members.len();
        self.rounds.push(Round {
            barrier,
            left,
            then,
        });
        self.tell_all(|_| Command::Barrier(barrier));
    }

    /// Lets ids rest. Called when every worker has forgotten them, so that none is given to
    /// another thing while a packet of the former is on its way between two workers.
    pub(super) fn rest(&mut self, ids: Ids) {
        if !ids.is_empty() {
            self.begin_round(Then::Rest(ids, RING_ROUNDS));
        }
    }

    /// Takes an install out of those that a round is to report, since it did not come about.
    pub(super) fn take_installing(&mut self, spi: Spi, outbound: bool) -> Option<Installing> {
        self.rounds.iter_mut().find_map(|round| {
            let Then::Ordered(installs) = &mut round.then else {
                return None;
            };
            let mut all = installs.iter();
            let at = all.position(|it| it.spi == spi && it.is_outbound() == outbound)?;
            Some(installs.swap_remove(at))
        })
    }

    /// A worker passed a barrier, which may be one of these.
    pub(super) fn round_passed(&mut self, barrier: u64) {
        let Some(at) = self.rounds.iter().position(|r| r.barrier == barrier) else {
            return;
        };
        if let Some(round) = self.rounds.get_mut(at) {
            round.left = round.left.saturating_sub(1);
            if round.left > 0 {
                return;
            }
        }
        match self.rounds.swap_remove(at).then {
            Then::Applied => self.change_passed(),
            Then::Ordered(orders) => self.orders_passed(orders),
            Then::Freed(ids) => self.rest(ids),
            Then::Rest(ids, 0) => self.resting.remove(&ids),
            Then::Rest(ids, rounds) => self.begin_round(Then::Rest(ids, rounds - 1)),
        }
    }
}
