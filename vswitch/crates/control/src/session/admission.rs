//! Who may begin a handshake. Pure: time is a parameter.
//!
//! What a spoofer can send costs nobody else's allowance: until an address is proven, only one bucket for
//! all counts, and the answer to its being empty is a Retry, which is stateless and smaller than what
//! it answers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::limits::{Limits, Rate};

/// Tokens that come back with time.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Duration,
}

impl Bucket {
    const fn full(rate: Rate, now: Duration) -> Self {
        let tokens = rate.burst;
        Self {
            tokens,
            filled: now,
        }
    }

    fn level(&self, rate: Rate, now: Duration) -> f64 {
        let since = now.saturating_sub(self.filled).as_secs_f64();
        (self.tokens + since * rate.per_second).min(rate.burst)
    }

    fn take(&mut self, rate: Rate, now: Duration) -> bool {
        let level = self.level(rate, now);
        let enough = level >= 1.0;
        self.tokens = if enough { level - 1.0 } else { level };
        self.filled = now;
        enough
    }
}

/// What to do with somebody's first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Begin the handshake.
    Accept,
    /// Let them prove their address.
    Retry,
    /// Say that there are too many of them.
    Refuse,
    /// Say nothing.
    Ignore,
}

/// The addresses that belong to one party: an IPv4 address, an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Prefix(IpAddr);

impl Prefix {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                Self(Ipv6Addr::from(network).into())
            }
        }
    }
}

pub(super) struct Admission {
    retry_above: usize,
    max_half_open: usize,
    unproven: (Rate, Bucket),
    rate: Rate,
    sources: HashMap<Prefix, Bucket>,
    most: usize,
    /// Of all sources for which there is no room.
    rest: Bucket,
    /// When to look for sources that can be forgotten.
    forget: Duration,
}

impl Admission {
    pub(super) fn new(limits: &Limits, now: Duration) -> Self {
        Self {
            retry_above: limits.retry_above,
            max_half_open: limits.max_half_open,
            unproven: (limits.unproven, Bucket::full(limits.unproven, now)),
            rate: limits.per_source,
            sources: HashMap::new(),
            most: limits.sources,
            rest: Bucket::full(limits.per_source, now),
            forget: now,
        }
    }

    /// Somebody at `from` wants to begin, `proven` to be there, while `half_open` others
    /// have not finished.
    pub(super) fn judge(
        &mut self,
        from: IpAddr,
        proven: bool,
        half_open: usize,
        now: Duration,
    ) -> Verdict {
        if half_open >= self.max_half_open {
            return Verdict::Ignore;
        }
        if proven {
            let allowed = self.charge(from, now);
            return if allowed {
                Verdict::Accept
            } else {
                Verdict::Refuse
            };
        }
        let (rate, bucket) = &mut self.unproven;
        if half_open >= self.retry_above || !bucket.take(*rate, now) {
            return Verdict::Retry;
        }
        Verdict::Accept
    }

    fn charge(&mut self, from: IpAddr, now: Duration) -> bool {
        let (prefix, rate) = (Prefix::of(from), self.rate);
        if let Some(bucket) = self.sources.get_mut(&prefix) {
            return bucket.take(rate, now);
        }
        if self.sources.len() >= self.most && now >= self.forget {
            // A full bucket says nothing that a new one would not. Not looked for at every packet.
            self.sources
                .retain(|_, bucket| bucket.level(rate, now) < rate.burst);
            self.forget = now + Duration::from_secs(1);
        }
        if self.sources.len() >= self.most {
            return self.rest.take(rate, now);
        }
        let mut bucket = Bucket::full(rate, now);
        let allowed = bucket.take(rate, now);
        self.sources.insert(prefix, bucket);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn limits() -> Limits {
        Limits {
            retry_above: 8,
            max_half_open: 16,
            unproven: Rate {
                per_second: 2.0,
                burst: 4.0,
            },
            per_source: Rate {
                per_second: 1.0,
                burst: 3.0,
            },
            sources: 4,
            ..Limits::default()
        }
    }

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn what_is_unproven_is_retried_above_either_limit_and_ignored_above_the_second() {
        let mut admission = Admission::new(&limits(), NOW);
        assert_eq!(admission.judge(v4(1), false, 8, NOW), Verdict::Retry);
        assert_eq!(admission.judge(v4(1), false, 16, NOW), Verdict::Ignore);
        assert_eq!(admission.judge(v4(1), true, 16, NOW), Verdict::Ignore);
        // Above the first limit a proven address gets in.
        assert_eq!(admission.judge(v4(1), true, 15, NOW), Verdict::Accept);
        let verdicts: Vec<_> = (0..5)
            .map(|n| admission.judge(v4(n), false, 0, NOW))
            .collect();
        assert_eq!(verdicts[..4], [Verdict::Accept; 4]);
        assert_eq!(verdicts[4], Verdict::Retry);
        // Two come back in a second.
        let later = NOW + Duration::from_secs(1);
        let verdicts: Vec<_> = (0..3)
            .map(|n| admission.judge(v4(n), false, 0, later))
            .collect();
        assert_eq!(verdicts, [Verdict::Accept, Verdict::Accept, Verdict::Retry]);
    }

    #[test]
    fn a_proven_source_has_an_allowance_that_spoofers_do_not_touch() {
        let mut admission = Admission::new(&limits(), NOW);
        for _ in 0..100 {
            admission.judge(v4(1), false, 0, NOW);
        }
        for _ in 0..3 {
            assert_eq!(admission.judge(v4(1), true, 0, NOW), Verdict::Accept);
        }
        assert_eq!(admission.judge(v4(1), true, 0, NOW), Verdict::Refuse);
        assert_eq!(admission.judge(v4(2), true, 0, NOW), Verdict::Accept);
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_a_mapped_address_is_its_ipv4_one() {
        let mut admission = Admission::new(&limits(), NOW);
        let v6 = |net: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, net, 0, 0, 0, host]);
        for host in 0..3 {
            assert_eq!(admission.judge(v6(1, host), true, 0, NOW), Verdict::Accept);
        }
        assert_eq!(admission.judge(v6(1, 9), true, 0, NOW), Verdict::Refuse);
        assert_eq!(admission.judge(v6(2, 9), true, 0, NOW), Verdict::Accept);
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        for from in [mapped, v4(1), mapped] {
            assert_eq!(admission.judge(from, true, 0, NOW), Verdict::Accept);
        }
        assert_eq!(admission.judge(v4(1), true, 0, NOW), Verdict::Refuse);
    }

    #[test]
    fn sources_are_bounded_and_forgotten_when_they_rest() {
        let mut admission = Admission::new(&limits(), NOW);
        for last in 0..4 {
            assert_eq!(admission.judge(v4(last), true, 0, NOW), Verdict::Accept);
        }
        // No room: the rest share one allowance.
        let shared: Vec<_> = (10..14)
            .map(|last| admission.judge(v4(last), true, 0, NOW))
            .collect();
        assert_eq!(shared[..3], [Verdict::Accept; 3]);
        assert_eq!(shared[3], Verdict::Refuse);
        assert_eq!(admission.sources.len(), 4);
        // After a second all buckets are full again, and their places free.
        let later = NOW + Duration::from_secs(1);
        for last in 20..24 {
            assert_eq!(admission.judge(v4(last), true, 0, later), Verdict::Accept);
        }
        assert_eq!(admission.sources.len(), 4);
    }
}
