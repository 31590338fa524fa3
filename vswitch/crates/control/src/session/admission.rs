//! Who may begin a handshake. Pure: time is a parameter.
//!
//! What a spoofer can send costs nobody else's allowance: until an address is proven, only one bucket for
//! all counts, and the answer to its being empty is a Retry, which is stateless and smaller than what
//! it answers. Of the handshakes that may be unfinished at once, a source has a few, a network of
//! sources some more, all strangers together most; the rest is kept for addresses that are known.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::time::Duration;

use super::known::{Known, Prefix};
use super::limits::Limits;
use super::rates::{Bucket, Buckets};

/// What to do with somebody's first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Begin the handshake ([`Admission::begin`]).
    Accept,
    /// Let them prove their address.
    Retry,
    /// Say that there are too many of them.
    Refuse,
    /// Say nothing: too many of theirs are unfinished. They repeat themselves (RFC 9002, section 6.2).
    Wait,
    /// Say nothing.
    Ignore,
}

/// A handshake that is not finished.
#[derive(Debug)]
pub(super) struct Unfinished {
    /// Where it is counted, if the address is proven.
    source: Option<Prefix>,
    /// And that, if it is a stranger's.
    network: Option<Prefix>,
    stranger: bool,
}

#[derive(Debug)]
pub(super) struct Admission {
    limits: Limits,
    known: Known,
    unproven: Bucket,
    sources: Buckets,
    networks: Buckets,
    half_open: usize,
    strangers: usize,
    /// Unfinished handshakes of each source, and of strangers of each network; no entry for none.
    of_source: HashMap<Prefix, usize>,
    of_network: HashMap<Prefix, usize>,
}

fn more(counts: &mut HashMap<Prefix, usize>, prefix: Prefix) {
    *counts.entry(prefix).or_default() += 1;
}

fn fewer(counts: &mut HashMap<Prefix, usize>, prefix: Prefix) {
    if let Entry::Occupied(mut entry) = counts.entry(prefix) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

impl Admission {
    pub(super) fn new(limits: &Limits, known: Known, now: Duration) -> Self {
        Self {
            known,
            unproven: Bucket::full(limits.unproven, now),
            sources: Buckets::new(limits.per_source, limits.sources, now),
            networks: Buckets::new(limits.per_network, limits.sources, now),
            half_open: 0,
            strangers: 0,
            of_source: HashMap::new(),
            of_network: HashMap::new(),
            limits: limits.clone(),
        }
    }

    /// Somebody at `from` wants to begin, `proven` to be there.
    pub(super) fn judge(&mut self, from: IpAddr, proven: bool, now: Duration) -> Verdict {
        let limits = &self.limits;
        if self.half_open >= limits.max_half_open {
            return Verdict::Ignore;
        }
        let for_strangers = limits.max_half_open.saturating_sub(limits.kept_for_known);
        let room = self.strangers < for_strangers;
        if !proven {
            // Who is known has to prove it, and can whatever strangers do: a Retry takes no place.
            let under_load = self.half_open >= limits.retry_above || !room;
            return if under_load || !self.unproven.take(limits.unproven, now) {
                Verdict::Retry
            } else {
                Verdict::Accept
            };
        }
        let (source, network) = (Prefix::source(from), Prefix::network(from));
        let of = |counts: &HashMap<Prefix, usize>, prefix| counts.get(&prefix).copied();
        let known = self.known.contains(from);
        if !known && !room {
            return Verdict::Ignore;
        }
        let many = of(&self.of_source, source) >= Some(limits.half_open_per_source.max(1))
            || !known && of(&self.of_network, network) >= Some(limits.half_open_per_network.max(1));
        if many {
            return Verdict::Wait;
        }
        let allowed = self.sources.take(source, now) && (known || self.networks.take(network, now));
        if allowed {
            Verdict::Accept
        } else {
            Verdict::Refuse
        }
    }

    /// Begins what was judged to be accepted; to be ended.
    pub(super) fn begin(&mut self, from: IpAddr, proven: bool) -> Unfinished {
        let stranger = !(proven && self.known.contains(from));
        let source = proven.then(|| Prefix::source(from));
        let network = (proven && stranger).then(|| Prefix::network(from));
        self.half_open += 1;
        self.strangers += usize::from(stranger);
        if let Some(source) = source {
            more(&mut self.of_source, source);
        }
        if let Some(network) = network {
            more(&mut self.of_network, network);
        }
        Unfinished {
            source,
            network,
            stranger,
        }
    }

    /// It is finished, or given up.
    pub(super) fn end(&mut self, unfinished: &Unfinished) {
        self.half_open = self.half_open.saturating_sub(1);
        let stranger = usize::from(unfinished.stranger);
        self.strangers = self.strangers.saturating_sub(stranger);
        if let Some(source) = unfinished.source {
            fewer(&mut self.of_source, source);
        }
        if let Some(network) = unfinished.network {
            fewer(&mut self.of_network, network);
        }
    }

    /// Handshakes that are not finished.
    pub(super) const fn half_open(&self) -> usize {
        self.half_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Rate;

    const NOW: Duration = Duration::from_secs(1000);

    fn limits() -> Limits {
        Limits {
            retry_above: 8,
            max_half_open: 16,
            kept_for_known: 4,
            half_open_per_source: 3,
            half_open_per_network: 6,
            unproven: Rate {
                per_second: 2.0,
                burst: 4.0,
            },
            per_source: Rate {
                per_second: 1.0,
                burst: 3.0,
            },
            per_network: Rate {
                per_second: 100.0,
                burst: 100.0,
            },
            sources: 4,
            ..Limits::default()
        }
    }

    /// With allowances that do not matter.
    fn unpaced() -> Limits {
        let much = Rate {
            per_second: 1e6,
            burst: 1e6,
        };
        Limits {
            per_source: much,
            per_network: much,
            sources: 1000,
            ..limits()
        }
    }

    fn admission(limits: &Limits) -> Admission {
        Admission::new(limits, Known::new(16), NOW)
    }

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// In a network of its own.
    fn far(n: u8) -> IpAddr {
        IpAddr::from([198, 51, n, 1])
    }

    /// Begins as many as are accepted, of those that prove where they are.
    fn begin(admission: &mut Admission, from: IpAddr, tries: usize) -> Vec<Unfinished> {
        let begun = (0..tries).filter_map(|_| {
            let accepted = admission.judge(from, true, NOW) == Verdict::Accept;
            accepted.then(|| admission.begin(from, true))
        });
        begun.collect()
    }

    #[test]
    fn what_is_unproven_is_retried_above_either_limit_and_ignored_above_the_second() {
        let mut admission = admission(&limits());
        let verdicts: Vec<_> = (0..5).map(|n| admission.judge(v4(n), false, NOW)).collect();
        assert_eq!(verdicts[..4], [Verdict::Accept; 4]);
        assert_eq!(verdicts[4], Verdict::Retry);
        // Two come back in a second.
        let later = NOW + Duration::from_secs(1);
        let verdicts: Vec<_> = (0..3)
            .map(|n| admission.judge(v4(n), false, later))
            .collect();
        assert_eq!(verdicts, [Verdict::Accept, Verdict::Accept, Verdict::Retry]);

        let mut places: Vec<_> = (0..8).map(|n| admission.begin(far(n), true)).collect();
        let much_later = NOW + Duration::from_secs(100);
        assert_eq!(admission.judge(v4(1), false, much_later), Verdict::Retry);
        // Above the first limit a proven address gets in; strangers stop before the second.
        assert_eq!(admission.judge(v4(1), true, NOW), Verdict::Accept);
        places.extend((8..12).map(|n| admission.begin(far(n), true)));
        assert_eq!(admission.judge(v4(1), true, NOW), Verdict::Ignore);
        assert_eq!(admission.judge(v4(1), false, much_later), Verdict::Retry);
        admission.known.add((20..24).map(far));
        places.extend((20..24).map(|n| admission.begin(far(n), true)));
        assert_eq!(admission.half_open(), 16);
        assert_eq!(admission.judge(v4(1), false, much_later), Verdict::Ignore);
        assert_eq!(admission.judge(far(20), true, NOW), Verdict::Ignore);
        for place in &places {
            admission.end(place);
        }
        assert_eq!((admission.half_open(), admission.strangers), (0, 0));
        assert!(admission.of_source.is_empty() && admission.of_network.is_empty());
    }

    #[test]
    fn one_source_and_one_network_hold_a_few_places_and_the_next_get_theirs() {
        let mut admission = admission(&unpaced());
        let first = begin(&mut admission, v4(1), 100);
        assert_eq!(first.len(), 3);
        assert_eq!(admission.judge(v4(1), true, NOW), Verdict::Wait);
        let others: Vec<_> = (2..250)
            .flat_map(|n| begin(&mut admission, v4(n), 9))
            .collect();
        assert_eq!((first.len(), others.len()), (3, 3));
        // A /56 is 256 sources, and one network.
        let v6 = |n: u8| IpAddr::from([0x2001, 0xdb8, 0, u16::from(n), 0, 0, 0, 1]);
        let held: Vec<_> = (0..=255)
            .flat_map(|n| begin(&mut admission, v6(n), 9))
            .collect();
        assert_eq!(held.len(), 6);
        // Who ends makes room.
        admission.end(&first[0]);
        assert_eq!(begin(&mut admission, v4(200), 9).len(), 1);
    }

    #[test]
    fn strangers_do_not_keep_out_whoever_is_known() {
        let mut admission = admission(&unpaced());
        let known = v4(77);
        admission.known.add([known]);
        // Of as many networks as they like, that of the known one too.
        let held: usize = (0..=255)
            .flat_map(|n| [far(n), v4(n)])
            .filter(|from| *from != known)
            .map(|from| begin(&mut admission, from, 9).len())
            .sum();
        assert_eq!(held, 12);
        assert_eq!(admission.judge(far(200), true, NOW), Verdict::Ignore);
        // It has to prove its address, and may.
        let later = NOW + Duration::from_secs(100);
        assert_eq!(admission.judge(known, false, later), Verdict::Retry);
        assert_eq!(begin(&mut admission, known, 9).len(), 3);
    }

    #[test]
    fn a_proven_source_has_an_allowance_that_spoofers_do_not_touch() {
        let mut admission = admission(&limits());
        for _ in 0..100 {
            admission.judge(v4(1), false, NOW);
        }
        for _ in 0..3 {
            assert_eq!(admission.judge(v4(1), true, NOW), Verdict::Accept);
        }
        assert_eq!(admission.judge(v4(1), true, NOW), Verdict::Refuse);
        assert_eq!(admission.judge(v4(2), true, NOW), Verdict::Accept);
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_a_mapped_address_is_its_ipv4_one() {
        let mut admission = admission(&limits());
        let v6 = |net: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, net, 0, 0, 0, host]);
        for host in 0..3 {
            assert_eq!(admission.judge(v6(1, host), true, NOW), Verdict::Accept);
        }
        assert_eq!(admission.judge(v6(1, 9), true, NOW), Verdict::Refuse);
        assert_eq!(admission.judge(v6(2, 9), true, NOW), Verdict::Accept);
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        for from in [mapped, v4(1), mapped] {
            assert_eq!(admission.judge(from, true, NOW), Verdict::Accept);
        }
        assert_eq!(admission.judge(v4(1), true, NOW), Verdict::Refuse);
    }

    #[test]
    fn a_network_of_strangers_has_an_allowance_that_its_known_ones_do_not_need() {
        let few = Rate {
            per_second: 1.0,
            burst: 5.0,
        };
        let mut admission = admission(&Limits {
            per_network: few,
            ..unpaced()
        });
        let accepted = (0..50).filter(|n| admission.judge(v4(*n), true, NOW) == Verdict::Accept);
        assert_eq!(accepted.count(), 5);
        assert_eq!(admission.judge(v4(60), true, NOW), Verdict::Refuse);
        admission.known.add([v4(61)]);
        assert_eq!(admission.judge(v4(61), true, NOW), Verdict::Accept);
    }

    #[test]
    fn sources_are_bounded_and_forgotten_when_they_rest() {
        let mut admission = admission(&limits());
        for last in 0..4 {
            assert_eq!(admission.judge(v4(last), true, NOW), Verdict::Accept);
        }
        // No room: the rest share one allowance.
        let shared: Vec<_> = (10..14)
            .map(|last| admission.judge(v4(last), true, NOW))
            .collect();
        assert_eq!(shared[..3], [Verdict::Accept; 3]);
        assert_eq!(shared[3], Verdict::Refuse);
        assert_eq!(admission.sources.each.len(), 4);
        // After a second all buckets are full again, and their places free.
        let later = NOW + Duration::from_secs(1);
        for last in 20..24 {
            assert_eq!(admission.judge(v4(last), true, later), Verdict::Accept);
        }
        assert_eq!(admission.sources.each.len(), 4);
    }
}
