//! Who is in which VN, by the authority's word alone, and what ends with a membership.

use std::collections::BTreeSet;
use std::time::Duration;

use super::api::{Direction, Output, SaAlgorithm};
use super::pair::{Pair, Step};
use super::{Keying, PairKey};
use crate::message::peer::{PeerMessage, Refusal};
use crate::types::{Epoch, NveName, VnName};

/// A VN that this edge is in.
pub struct Vn {
    pub epoch: Epoch,
    pub algorithm: SaAlgorithm,
    pub members: BTreeSet<NveName>,
    /// The epoch known before, and until when requests of it are served.
    pub former: Option<(Epoch, Duration)>,
    /// Peers with whom there is something.
    pub pairs: BTreeSet<NveName>,
}

impl Keying {
    pub(super) fn members(
        &mut self,
        now: Duration,
        name: VnName,
        epoch: Epoch,
        algorithm: SaAlgorithm,
        mut members: BTreeSet<NveName>,
    ) {
        if !members.remove(&self.me) {
            self.left(now, &name);
            return;
        }
        let skew = self.config.skew;
        let vn = self.vns.entry(name.clone()).or_insert_with(|| Vn {
            epoch,
            algorithm,
            members: BTreeSet::new(),
            former: None,
            pairs: BTreeSet::new(),
        });
        if epoch < vn.epoch {
            return; // Told late.
        }
        if epoch > vn.epoch {
            vn.former = Some((vn.epoch, now + skew));
        }
        let other_algorithm = vn.algorithm != algorithm;
        vn.epoch = epoch;
        vn.algorithm = algorithm;
        let pairs: Vec<_> = vn.pairs.iter().cloned().collect();
        let before = core::mem::replace(&mut vn.members, members.clone());
        for peer in before.symmetric_difference(&members) {
            self.in_common(peer, members.contains(peer));
        }
        for peer in pairs {
            let vn = name.clone();
            let key = PairKey { peer, vn };
            if !self.is_member(&key) {
                self.end(now, &key);
                continue;
            }
            let spread = self.up_to(self.config.epoch_spread);
            self.with_pair(now, &key, |this, pair| {
                if other_algorithm {
                    this.purge_sas(&key, pair);
                }
                pair.failures = 0;
                match &pair.exchange {
                    Some(exchange) if exchange.epoch >= epoch && !other_algorithm => {}
                    Some(_) if !other_algorithm => pair.due_by(now + spread),
                    _ => pair.due_by(now),
                }
            });
        }
    }

    pub(super) fn left(&mut self, now: Duration, name: &VnName) {
        let Some(vn) = self.vns.remove(name) else {
            return;
        };
        for peer in &vn.members {
            self.in_common(peer, false);
        }
        for peer in vn.pairs {
            let vn = name.clone();
            self.end(now, &PairKey { peer, vn });
        }
    }

    pub(super) fn revoked(&mut self, now: Duration, peer: &NveName) {
        for vn in self.vns.values_mut() {
            vn.members.remove(peer);
        }
        self.shared.remove(peer);
        for key in self.vns_with(peer) {
            self.end(now, &key);
        }
        self.close(now, peer);
        self.peers.remove(peer);
        self.peer_timers.set(peer, None);
    }

    /// Whether both this edge and the peer are in the VN.
    pub(super) fn is_member(&self, key: &PairKey) -> bool {
        let vn = self.vns.get(&key.vn);
        vn.is_some_and(|vn| vn.members.contains(&key.peer))
    }

    /// Whether a request is served. Members by the *current* word only; of the current epoch, of
    /// the next (whose news has not come here yet), or for a while of the one before.
    pub(super) fn admits(
        &self,
        now: Duration,
        key: &PairKey,
        epoch: Epoch,
    ) -> Result<&Vn, Refusal> {
        let vn = self.vns.get(&key.vn).ok_or(Refusal::NotMember)?;
        if !vn.members.contains(&key.peer) {
            return Err(Refusal::NotMember);
        }
        let next = vn.epoch.0.checked_add(1) == Some(epoch.0);
        let former = vn
            .former
            .is_some_and(|(former, until)| former == epoch && now < until);
        if epoch == vn.epoch || next || former {
            return Ok(vn);
        }
        Err(Refusal::Epoch)
    }

    /// The membership is over: the peer is told, and everything goes at once.
    fn end(&mut self, now: Duration, key: &PairKey) {
        if self.session(&key.peer).is_some() {
            let vn = key.vn.clone();
            self.send(&key.peer, &PeerMessage::Bye { vn });
        }
        self.with_pair(now, key, |this, pair| this.purge(key, pair));
    }

    /// Leaves nothing of a pair.
    pub(super) fn purge(&mut self, key: &PairKey, pair: &mut Pair) {
        self.purge_sas(key, pair);
        pair.forget_exchange();
        self.senders -= pair.senders.len();
        pair.senders.clear();
        pair.shares.clear();
    }

    /// Removes all SAs of a pair; workers that had one need another.
    pub(super) fn purge_sas(&mut self, key: &PairKey, pair: &mut Pair) {
        for (worker, sender) in &mut pair.senders {
            let installing = match sender.step {
                Step::Installing { id, sa } => {
                    self.ordered.remove(&id);
                    sender.step = Step::Rest;
                    Some(sa)
                }
                _ => None,
            };
            for sa in sender.current.take().into_iter().chain(installing) {
                self.outputs.push_back(Output::RemoveOutbound {
                    vn: key.vn.clone(),
                    peer: key.peer.clone(),
                    worker: *worker,
                    spi: sa.spi,
                    limit: false,
                });
            }
            if sender.step == Step::Rest {
                sender.step = Step::Waiting;
            }
        }
        let inbound = core::mem::take(&mut pair.receivers);
        self.fewer_received(&key.peer, inbound.len());
        for sa in inbound.into_values().flatten() {
            self.remove_inbound(key, &sa);
        }
    }

    /// Orders what is needed to be rid of an inbound SA; it is in no list any more.
    pub(super) fn remove_inbound(&mut self, key: &PairKey, sa: &super::pair::InSa) {
        self.spis.remove(&sa.spi);
        if let Some(ordered) = self.ordered.get(&sa.id) {
            debug_assert_eq!(ordered.direction, Direction::Inbound);
            self.ordered.remove(&sa.id);
        }
        self.outputs.push_back(Output::RemoveInbound {
            vn: key.vn.clone(),
            peer: key.peer.clone(),
            spi: sa.spi,
        });
    }

    /// A random part of a time.
    pub(super) fn up_to(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.rng.f64())
    }
}
