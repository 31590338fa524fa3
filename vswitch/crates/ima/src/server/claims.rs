//! What the server says aloud of edges: who was the first to claim something, and who asks too much.

use vswitch_control::message::ima::Goodbye;

use super::authority::Authority;
use crate::engine::{EdgeRequest, Excess, Reply, SessionId};
use crate::model::{Key, Op, Record, Vn};
use crate::store::Store;

impl<S: Store> Authority<S> {
    /// The reply to a request of which there were too many; `None` if there were not.
    #[expect(clippy::option_option, reason = "some are refused without a word")]
    pub(super) fn excess(&mut self, id: SessionId, request: &EdgeRequest) -> Option<Option<Reply>> {
        let now = self.now();
        let counters = &self.shared.counters;
        let (counter, reply) = match self.engine.excess(id, request, now)? {
            Excess::Registration(reply) => (&counters.busy_registrations, Some(reply)),
            Excess::Join(reply) => (&counters.busy_joins, Some(reply)),
            Excess::Hello(reply) => (&counters.busy_hellos, Some(reply)),
            Excess::Query => (&counters.busy_queries, None),
        };
        counter.add(1);
        Some(reply)
    }

    /// Says which addresses were claimed by whoever came first: nobody placed or declared them.
    pub(super) fn tell_claims(&self, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Put(key, Record::Mapping(mapping)) => {
                    let Key::Mapping(vn, mac) = key else {
                        continue;
                    };
                    let vns = &self.engine.state().vns;
                    let placed = |vn: &Vn| vn.placements.contains_key(mac);
                    if !vns.get(vn).is_some_and(placed) {
                        self.shared.counters.first_claims.add(1);
                        let (edge, port) = (&mapping.nve, &mapping.port);
                        tracing::warn!(%vn, %mac, ips = ?mapping.ips, %edge, %port, "first claim");
                    }
                }
                Op::Put(Key::Claim(address), Record::Claim(claim)) if !claim.declared => {
                    self.shared.counters.first_addresses.add(1);
                    let edge = &claim.nve;
                    tracing::warn!(%address, %edge, "first claim of a tunnel address");
                }
                _ => {}
            }
        }
    }

    /// Says why an edge was turned away that claims what is not its own.
    pub(super) fn tell_goodbye(&self, id: SessionId, why: Goodbye) {
        if matches!(why, Goodbye::AddressTaken | Goodbye::Undeclared) {
            self.shared.counters.claims_refused.add(1);
            let edge = self.engine.who(id);
            tracing::warn!(?edge, %why, "claim refused");
        }
    }
}
