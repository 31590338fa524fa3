//! Questions about unknown destinations: one for each address however many packets want it, none
//! for what is known not to exist, and no more a second than the limits of port and edge allow. Half
//! of the edge's rate is for whoever comes, half is kept for networks, the same for each: however many
//! ports a tenant has, another's questions are asked.

use core::time::Duration;
use std::collections::{BTreeMap, HashMap, VecDeque};

use vswitch_policy::TokenBucket;

use super::QuestionCounts;
use super::network::Reply;
use crate::keying::Bucket;
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
    edge: Edge,
    port_rate: u32,
    ports: HashMap<PortName, TokenBucket>,
    counts: QuestionCounts,
}

/// The edge's rate: what is kept for each network that asks, and what is not.
struct Edge {
    rate: u32,
    common: Bucket,
    kept: HashMap<VnName, Bucket>,
}

impl Edge {
    fn new(rate: u32) -> Self {
        let common = rate - rate / 2;
        Self {
            rate,
            common: Bucket::with_burst(common, common),
            kept: HashMap::new(),
        }
    }

    fn share(&mut self) {
        let networks = u32::try_from(self.kept.len()).unwrap_or(u32::MAX).max(1);
        for bucket in self.kept.values_mut() {
            bucket.share(self.rate / 2, networks);
        }
    }

    fn take(&mut self, now: Duration, vn: &VnName) -> bool {
        if !self.kept.contains_key(vn) {
            self.kept.insert(vn.clone(), Bucket::new(self.rate / 2));
            self.share();
        }
        let kept = self.kept.get_mut(vn).is_some_and(|kept| kept.take(now));
        kept || self.common.take(now)
    }

    fn forget(&mut self, vn: &VnName) {
        if self.kept.remove(vn).is_some() {
            self.share();
        }
    }
}

fn ticks(now: Duration) -> u64 {
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

fn bucket(rate: u32, now: Duration) -> TokenBucket {
    TokenBucket::new(rate.into(), rate.into(), HZ, ticks(now))
}

impl Questions {
    pub(super) fn new(rate: u32, port_rate: u32) -> Self {
        Self {
            pending: BTreeMap::new(),
            patience: VecDeque::new(),
            asked: HashMap::new(),
            absent: HashMap::new(),
            forgetting: VecDeque::new(),
            next: 0,
            edge: Edge::new(rate),
            port_rate,
            ports: HashMap::new(),
            counts: QuestionCounts::default(),
        }
    }

    /// The authority takes no more than this, which may be less than was set here.
    pub(super) fn limit(&mut self, rate: u32) {
        if rate < self.edge.rate {
            self.edge = Edge::new(rate.max(1));
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
            self.pending.len() < PENDING && of_port.take(ticks(now)) && self.edge.take(now, vn);
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
        self.edge.forget(vn);
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.patience.front().map(|(until, _)| *until)
    }

    pub(super) fn counts(&self) -> QuestionCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn name<T: core::str::FromStr<Err: core::fmt::Debug>>(text: &str) -> T {
        text.parse().unwrap()
    }

    fn ask(questions: &mut Questions, now: Duration, vn: &str, port: &str, n: u16) -> bool {
        let [high, low] = n.to_be_bytes();
        let what = Wanted::Ip([10, 0, high, low].into());
        questions.ask(now, &name(vn), &name(port), what).is_some()
    }

    /// A tenant with as many ports as it likes asks for an address a millisecond on each.
    #[test]
    fn a_tenant_with_many_ports_leaves_others_their_questions() {
        let mut questions = Questions::new(20, 1000);
        let (mut reds, mut n) = (0, 0_u16);
        for now in 0..10_000 {
            for port in 0..20 {
                n = (n + 1) % 60_000;
                reds += u32::from(ask(&mut questions, ms(now), "red", &format!("r{port}"), n));
            }
            // Another's frames for somebody new, twice a second.
            if now % 500 == 250 {
                let n = 60_000 + u16::try_from(now / 500).unwrap();
                assert!(ask(&mut questions, ms(now), "blue", "b0", n), "{now}");
            }
        }
        // All in all it is the edge's rate, and what may come at once.
        assert!((150..=20 * 10 + 20 - 20).contains(&reds), "{reds}");
    }

    #[test]
    fn networks_share_what_is_kept_and_get_it_back() {
        let mut questions = Questions::new(40, 100);
        let burst = |questions: &mut Questions, now, vn: &str, from: u16| {
            let all = from..from + 100;
            all.filter(|n| ask(questions, now, vn, &format!("{vn}-port"), *n))
                .count()
        };
        // One alone has all of it; with another the half of what is kept.
        assert_eq!(burst(&mut questions, ms(0), "red", 0), 40);
        assert_eq!(burst(&mut questions, ms(0), "blue", 0), 10);
        let later = ms(10_000);
        assert_eq!(burst(&mut questions, later, "red", 1000), 30);
        assert_eq!(burst(&mut questions, later, "blue", 1000), 10);
        questions.forget(&name("blue"));
        assert_eq!(burst(&mut questions, later * 2, "red", 2000), 40);
    }
}
