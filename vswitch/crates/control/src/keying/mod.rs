//! How two edges come to the keys of their tunnels: one [`Keying`] an edge, for all its peers and
//! networks, without sockets, threads or clock.
//!
//! What happens goes in ([`Keying::handle`]), time passes ([`Keying::handle_timeout`], due at
//! [`Keying::next_timeout`]), what is to be done comes out ([`Keying::poll`]): messages for the
//! session with a peer, orders for the data plane, wishes for a session.
//!
//! For each VN and peer (a *pair*) there is at most one exchange: a fresh hybrid secret, the channel
//! for signaling, and the root of the pair's SAs, all gone with the session in which it was made.
//! Every new exchange (rekey, another epoch, another session) moves all the pair's SAs, one by one:
//! the receiver installs first, then the sender switches, then the receiver lets the former SA
//! drain. SAs outlive their exchange and their session; their keys are with the data plane alone.

mod aging;
mod allowance;
mod api;
mod dataplane;
mod exchange;
mod handshake;
mod membership;
mod pair;
mod receiving;
mod report;
mod schedule;
mod sending;
mod sessions;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub use api::{Config, Direction, Event, OrderId, Output, SessionId, Steering};
pub use report::{Counters, Report, SaInfo, SaState, ShareInfo};

use crate::types::{BootId, NveName, VnName};
use allowance::Allowances;
use membership::Vn;
use pair::Pair;
pub(crate) use schedule::Bucket;
use schedule::Timers;
use sessions::Peer;

/// Two edges in one VN, seen from here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PairKey {
    peer: NveName,
    vn: VnName,
}

/// An install that the data plane has not answered.
#[derive(Debug)]
struct Ordered {
    key: PairKey,
    worker: u16,
    direction: Direction,
}

/// The state machine of one edge: see the module's head.
pub struct Keying {
    config: Config,
    me: NveName,
    boot: BootId,
    rng: fastrand::Rng,
    steering: Box<dyn Steering>,
    vns: BTreeMap<VnName, Vn>,
    /// In how many VNs another edge is too.
    shared: BTreeMap<NveName, u32>,
    peers: BTreeMap<NveName, Peer>,
    allowances: Allowances,
    pairs: BTreeMap<NveName, BTreeMap<VnName, Pair>>,
    /// Whose each inbound SPI is.
    spis: BTreeMap<u32, (PairKey, u16)>,
    ordered: BTreeMap<OrderId, Ordered>,
    last_order: u64,
    /// (Pair, worker) that may send, and that may be received: what the limits count.
    senders: usize,
    receivers: usize,
    /// The latter by peer; no entry for none.
    receivers_of: BTreeMap<NveName, usize>,
    pair_timers: Timers<PairKey>,
    peer_timers: Timers<NveName>,
    new_pairs: Bucket,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Keying {
    /// An edge that knows nobody. `boot` is drawn at every start of the process, and `seed` too:
    /// from it come exchange ids and jitter, but no key.
    #[must_use]
    pub fn new(
        config: Config,
        me: NveName,
        boot: BootId,
        seed: u64,
        steering: Box<dyn Steering>,
    ) -> Self {
        let new_pairs = Bucket::new(config.new_pairs_per_second);
        Self {
            config,
            me,
            boot,
            rng: fastrand::Rng::with_seed(seed),
            steering,
            vns: BTreeMap::new(),
            shared: BTreeMap::new(),
            peers: BTreeMap::new(),
            allowances: Allowances::default(),
            pairs: BTreeMap::new(),
            spis: BTreeMap::new(),
            ordered: BTreeMap::new(),
            last_order: 0,
            senders: 0,
            receivers: 0,
            receivers_of: BTreeMap::new(),
            pair_timers: Timers::default(),
            peer_timers: Timers::default(),
            new_pairs,
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Something happened at `now`, a time that never goes back.
    pub fn handle(&mut self, now: Duration, event: Event) {
        match event {
            Event::SessionUp {
                peer,
                session,
                binding,
            } => self.session_up(now, peer, session, binding),
            Event::SessionDown { peer, session } => self.session_down(now, &peer, session),
            Event::Message {
                peer,
                session,
                bytes,
            } => self.message(now, &peer, session, &bytes),
            Event::Members {
                vn,
                epoch,
                algorithm,
                members,
            } => self.members(now, vn, epoch, algorithm, members),
            Event::Left { vn } => self.left(now, &vn),
            Event::Revoked { peer } => self.revoked(now, &peer),
            Event::Need { vn, peer, worker } => self.need(now, PairKey { peer, vn }, worker),
            Event::SoftLimit {
                vn,
                peer,
                worker,
                spi,
            } => self.soft_limit(now, &PairKey { peer, vn }, worker, spi),
            Event::HardLimit {
                vn,
                peer,
                worker,
                spi,
            } => self.hard_limit(now, &PairKey { peer, vn }, worker, spi),
            Event::Idle {
                vn,
                peer,
                direction,
                spi,
            } => self.idle(now, &PairKey { peer, vn }, direction, spi),
            Event::Installed { id } => self.installed(now, id),
            Event::Failed { id, why } => self.failed(now, id, why),
        }
    }

    /// What is due at `now` is done.
    pub fn handle_timeout(&mut self, now: Duration) {
        while let Some(key) = self.pair_timers.pop(now) {
            self.with_pair(now, &key, |this, pair| this.tick(now, &key, pair));
        }
        while let Some(peer) = self.peer_timers.pop(now) {
            self.wish(now, &peer);
        }
    }

    /// When [`Keying::handle_timeout`] is due next; that changes with every event.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        let (pairs, peers) = (self.pair_timers.next(), self.peer_timers.next());
        pairs.into_iter().chain(peers).min()
    }

    /// The next thing to do, in this order.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What has been counted since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Every SA there is, without its key.
    pub fn sas(&self) -> impl Iterator<Item = SaInfo> {
        let pairs = self.pairs.iter().flat_map(|(peer, pairs)| {
            let pairs = pairs.iter();
            pairs.map(move |(vn, pair)| (peer, vn, pair))
        });
        pairs.flat_map(|(peer, vn, pair)| pair.sas(peer, vn, &self.config))
    }

    /// (VN, peer, worker) that may send, or that may be received: what the limits count.
    #[must_use]
    pub const fn count(&self, direction: Direction) -> usize {
        match direction {
            Direction::Outbound => self.senders,
            Direction::Inbound => self.receivers,
        }
    }

    /// Workers that use another's SA.
    pub fn shares(&self) -> impl Iterator<Item = ShareInfo> {
        let pairs = self.pairs.iter().flat_map(|(peer, pairs)| {
            let pairs = pairs.iter();
            pairs.map(move |(vn, pair)| (peer, vn, pair))
        });
        pairs.flat_map(|(peer, vn, pair)| {
            let shares = pair.shares.iter();
            let there = shares.filter(|(_, (with, _))| pair.senders.contains_key(with));
            there.map(|(worker, (with, _))| ShareInfo {
                vn: vn.clone(),
                peer: peer.clone(),
                worker: *worker,
                with: *with,
            })
        })
    }

    /// Peers with a session, and the run of theirs that it is with (once they have said so).
    pub fn sessions(&self) -> impl Iterator<Item = (&NveName, SessionId, Option<BootId>)> {
        let peers = self.peers.iter();
        peers.filter_map(|(name, peer)| {
            let session = peer.session.as_ref()?;
            Some((name, session.id, peer.boot.filter(|_| session.greeted)))
        })
    }

    /// The other's identity, or one's own, as certificates have it.
    fn uri(&self, name: &NveName) -> String {
        format!("spiffe://{}/nve/{name}", self.config.domain)
    }

    /// Works on a pair outside its map, so that all else can be worked on too; then its timer is set
    /// anew, or the pair is gone if nothing is left of it. Nothing happens if there is no such pair.
    fn with_pair(&mut self, now: Duration, key: &PairKey, work: impl FnOnce(&mut Self, &mut Pair)) {
        let Some(pairs) = self.pairs.get_mut(&key.peer) else {
            return;
        };
        let Some(mut pair) = pairs.remove(&key.vn) else {
            return;
        };
        work(self, &mut pair);
        self.turn(key, &pair);
        if pair.is_empty() {
            self.pair_timers.set(key, None);
            if self.pairs.get(&key.peer).is_some_and(BTreeMap::is_empty) {
                self.pairs.remove(&key.peer);
            }
            if let Some(vn) = self.vns.get_mut(&key.vn) {
                vn.pairs.remove(&key.peer);
            }
        } else {
            self.pair_timers.set(key, pair.next_timeout(&self.config));
            let pairs = self.pairs.entry(key.peer.clone()).or_default();
            pairs.insert(key.vn.clone(), pair);
        }
        self.call(now, &key.peer);
        self.wish(now, &key.peer);
    }

    /// As [`Keying::with_pair`], with a new pair if there is none.
    fn with_new_pair(
        &mut self,
        now: Duration,
        key: &PairKey,
        work: impl FnOnce(&mut Self, &mut Pair),
    ) {
        let pairs = self.pairs.entry(key.peer.clone()).or_default();
        pairs.entry(key.vn.clone()).or_default();
        if let Some(vn) = self.vns.get_mut(&key.vn) {
            vn.pairs.insert(key.peer.clone());
        }
        self.with_pair(now, key, work);
    }

    /// The VNs for which there is something with a peer.
    fn vns_with(&self, peer: &NveName) -> Vec<PairKey> {
        let vns = self.pairs.get(peer).into_iter().flat_map(BTreeMap::keys);
        vns.map(|vn| PairKey {
            peer: peer.clone(),
            vn: vn.clone(),
        })
        .collect()
    }

    /// An order's number, by which the data plane answers it.
    fn order(&mut self, key: &PairKey, worker: u16, direction: Direction) -> OrderId {
        self.last_order += 1;
        let id = OrderId(self.last_order);
        let key = key.clone();
        self.ordered.insert(
            id,
            Ordered {
                key,
                worker,
                direction,
            },
        );
        id
    }
}
