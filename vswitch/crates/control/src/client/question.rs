//! Questions about unknown destinations: one for each address however many packets want it, none
//! for what is known not to exist, and no more a second than the limits of port and edge allow.

use core::time::Duration;
use std::collections::{BTreeMap, HashMap, VecDeque};

use vswitch_policy::TokenBucket;

use super::QuestionCounts;
use super::network::Reply;
use crate::message::ima::Wanted;
use crate::message::overlay::Mapping;
use crate::types::{PortName, VnName};

/// Questions without an answer at most.
const PENDING: usize = 1024;
/// A question that was not answered may be asked again after this.
const PATIENCE: Duration = Duration::from_secs(2);
/// Addresses known not to exist that are remembered.
const ABSENT: usize = 65_536;
/// The longest that this is believed.
const LONGEST_ABSENCE: Duration = Duration::from_secs(300);
/// Ports with a bucket of their own. There are no more ports than numbers for them.
const PORTS: usize = 65_536;
/// Ticks of the buckets a second.
const HZ: u64 = 1_000_000;

type Key = (VnName, Wanted);

pub(super) struct Questions {
    pending: BTreeMap<u32, (VnName, Wanted)>,
    /// When each may be given up, in the order asked.
    patience: VecDeque<(Duration, u32)>,
    asked: HashMap<Key, u32>,
    absent: HashMap<Key, Duration>,
    /// The same in the order they came; a key may be in it twice.
    forgetting: VecDeque<(Duration, Key)>,
    next: u32,
    rate: u32,
    edge: TokenBucket,
    port_rate: u32,
    ports: HashMap<PortName, TokenBucket>,
    counts: QuestionCounts,
}

fn ticks(now: Duration) -> u64 {
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

fn bucket(rate: u32, now: Duration) -> TokenBucket {
    TokenBucket::new(rate.into(), rate.into(), HZ, ticks(now))
}

impl Questions {
    pub(super) fn new(rate: u32, port_rate: u32, now: Duration) -> Self {
        Self {
            pending: BTreeMap::new(),
            patience: VecDeque::new(),
            asked: HashMap::new(),
            absent: HashMap::new(),
            forgetting: VecDeque::new(),
            next: 0,
            rate,
            edge: bucket(rate, now),
            port_rate,
            ports: HashMap::new(),
            counts: QuestionCounts::default(),
        }
    }

    /// The authority takes no more than this, which may be less than was set here.
    pub(super) fn limit(&mut self, now: Duration, rate: u32) {
        if rate < self.rate {
            self.rate = rate.max(1);
            self.edge = bucket(self.rate, now);
        }
    }

    /// The number of the question, if it is to be asked.
    pub(super) fn ask(
        &mut self,
        now: Duration,
        vn: &VnName,
        port: &PortName,
        what: Wanted,
    ) -> Option<u32> {
        self.expire(now);
        let key = (vn.clone(), what);
        let absent = self.absent.get(&key).is_some_and(|until| *until > now);
        if absent || self.asked.contains_key(&key) {
            self.counts.known += 1;
            return None;
        }
        if !self.ports.contains_key(port) && self.ports.len() >= PORTS {
            self.ports.clear();
        }
        let rate = self.port_rate;
        let of_port = self
            .ports
            .entry(port.clone())
            .or_insert_with(|| bucket(rate, now));
        // The port's first: what it may not ask must not use up the edge's.
        let admitted =
            self.pending.len() < PENDING && of_port.take(ticks(now)) && self.edge.take(ticks(now));
        if !admitted {
            self.counts.limited += 1;
            return None;
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.pending.insert(id, key.clone());
        self.patience.push_back((now + PATIENCE, id));
        self.asked.insert(key, id);
        self.counts.asked += 1;
        Some(id)
    }

    /// What an answer says; nothing if nobody asked, or it is about something else.
    pub(super) fn answered(
        &mut self,
        now: Duration,
        vn: &VnName,
        reply: &Reply,
    ) -> Option<Mapping> {
        let key = self
            .pending
            .get(&reply.id)
            .filter(|key| key.0 == *vn)?
            .clone();
        self.pending.remove(&reply.id);
        self.asked.remove(&key);
        let answers = |mapping: &&Mapping| match key.1 {
            Wanted::Mac(mac) => mapping.mac == mac,
            Wanted::Ip(ip) => mapping.ips.contains(&ip),
        };
        match &reply.mapping {
            Some(_) => reply.mapping.as_ref().filter(answers).cloned(),
            None => {
                let ttl = Duration::from_secs(reply.ttl.into());
                let until = now + ttl.clamp(Duration::from_secs(1), LONGEST_ABSENCE);
                if self.absent.len() >= ABSENT
                    && let Some((_, oldest)) = self.forgetting.pop_front()
                {
                    self.absent.remove(&oldest);
                }
                self.absent.insert(key.clone(), until);
                self.forgetting.push_back((until, key));
                None
            }
        }
    }

    /// Gives up what was not answered, and what is no longer believed.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some((until, id)) = self.patience.front()
            && *until <= now
        {
            if let Some(key) = self.pending.remove(id) {
                self.asked.remove(&key);
            }
            self.patience.pop_front();
        }
        while let Some((until, key)) = self.forgetting.front()
            && *until <= now
        {
            if self.absent.get(key).is_some_and(|until| *until <= now) {
                self.absent.remove(key);
            }
            self.forgetting.pop_front();
        }
    }

    /// Nobody answers any more.
    pub(super) fn disconnected(&mut self) {
        self.pending.clear();
        self.patience.clear();
        self.asked.clear();
    }

    /// Nothing of a VN is known any more.
    pub(super) fn forget(&mut self, vn: &VnName) {
        self.absent.retain(|(of, _), _| of != vn);
        self.forgetting.retain(|(_, (of, _))| of != vn);
        self.pending.retain(|_, (of, _)| of != vn);
        self.asked.retain(|(of, _), _| of != vn);
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.patience.front().map(|(until, _)| *until)
    }

    pub(super) fn counts(&self) -> QuestionCounts {
        self.counts
    }
}
