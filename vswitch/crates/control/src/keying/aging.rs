//! The greatest age of SAs: whoever keeps two edges from talking to one another keeps no key alive.

use std::time::Duration;

use super::api::Output;
use super::pair::{InSa, Pair, Step};
use super::report::Report;
use super::{Keying, PairKey};
use crate::message::peer::VnMessage;
use crate::types::NveName;

impl Keying {
    /// Closes what is too old, first to the peer, then from it.
    pub(super) fn expire(&mut self, now: Duration, key: &PairKey, pair: &mut Pair) {
        let config = &self.config;
        let (drain, hard_after) = (config.drain, config.hard_after);
        let old = |born: Duration| now >= born + hard_after;
        let senders = pair.senders.iter();
        let closed = senders.filter(|(_, sender)| sender.current.is_some_and(|sa| old(sa.born)));
        let closed: Vec<u16> = closed.map(|(worker, _)| *worker).collect();
        for worker in &closed {
            if let Some(sender) = pair.senders.get_mut(worker) {
                // As if the data plane had said so: it has packets or forgets it soon.
                sender.needed = now;
                if sender.step == Step::Rest {
                    sender.step = Step::Waiting;
                }
            }
            self.retire(key, pair, *worker, true);
        }
        let mut gone: Vec<InSa> = Vec::new();
        pair.receivers.retain(|_, sas| {
            gone.extend(sas.extract_if(.., |sa| now >= sa.born + hard_after + drain));
            !sas.is_empty()
        });
        let (outbound, inbound) = (closed.len(), gone.len());
        for sa in &gone {
            self.tell(key, pair, &VnMessage::Gone { spi: sa.spi });
        }
        self.forget_inbound(key, pair, gone);
        if pair.exchange.as_ref().is_some_and(|it| old(it.born)) {
            pair.forget_root();
        }
        if outbound + inbound == 0 {
            return;
        }
        self.counters.aged += (outbound + inbound) as u64;
        let (vn, peer) = (key.vn.clone(), key.peer.clone());
        self.outputs.push_back(Output::Report(Report::Aged {
            vn,
            peer,
            outbound,
            inbound,
        }));
        // Behind failures the backoff goes on.
        if pair.failures == 0 && pair.pending.is_none() && pair.is_used() {
            pair.due_by(now);
        }
        self.rest(now, pair);
    }

    /// SAs depend on a peer, and there is no session with it; reported once, if it stays so.
    pub(super) fn without(&mut self, now: Duration, name: &NveName) {
        let patience = self.config.unreached_after;
        let peer = self.peer(name);
        let since = now.saturating_sub(*peer.without.get_or_insert(now));
        if since < patience || core::mem::replace(&mut peer.unreached, true) {
            return;
        }
        self.counters.unreached += 1;
        let peer = name.clone();
        self.outputs
            .push_back(Output::Report(Report::Unreached { peer, since }));
    }
}
