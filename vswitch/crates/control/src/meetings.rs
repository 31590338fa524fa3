//! Sessions with other edges: when one is dialled, and of two with one edge, which stays. No sockets
//! and no clock: `vswitchd` and the simulation of `keying` decide by the same rules.
//!
//! A session is nobody's for long if its other end is gone: what decides is how soon it is noticed
//! (`session::Liveness::SHORT`), how soon another is begun ([`DIAL_AGAIN`]), and how long a dead one is
//! preferred to the one of an edge that came back ([`AT_ONCE`]). See docs/control-protocol.md,
//! "Healing".

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::NveName;

/// Two sessions that begin within this were dialled by both at once; otherwise the newer one is
/// that of an edge that came back. With the next wish half a second later such an edge has its
/// session in time, and a handshake that takes longer costs no more than another exchange.
pub const AT_ONCE: Duration = Duration::from_secs(1);

/// A dial that has led to nothing for so long gets another beside it. It goes on itself, for it may
/// only be slow; but QUIC asks again later and later (RFC 9002, section 6.2.1: 0.3, 0.9, 2.1 and 4.5 s
/// behind its first packet), and whoever is back meanwhile would not be asked in time.
pub const DIAL_AGAIN: Duration = Duration::from_secs(1);

/// Dials under way with one edge.
const DIALS: usize = 5;

/// Dials under way with all edges, above which none gets another beside it: with some 400 edges that
/// do not answer, each is dialled every second, which takes a few hundredths of a core.
const ALL_DIALS: usize = 2048;

/// A session that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its number.
    pub number: u64,
    /// It was dialled from here.
    pub dialled: bool,
    /// Since when.
    pub since: Duration,
}

/// What becomes of a session that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// It is the session with that edge from now on; else it is to be closed.
    pub stays: bool,
    /// Numbers of another session, and of dials, that are to be ended.
    pub ends: Vec<u64>,
}

/// Sessions and dials by edge. Numbers are the caller's, none comes twice.
#[derive(Debug)]
pub struct Meetings {
    me: NveName,
    known: BTreeMap<NveName, Known>,
    /// Number and beginning of each, oldest first; never none.
    dials: BTreeMap<NveName, Vec<(u64, Duration)>>,
    under_way: usize,
}

impl Meetings {
    /// With nobody.
    #[must_use]
    pub const fn new(me: NveName) -> Self {
        Self {
            me,
            known: BTreeMap::new(),
            dials: BTreeMap::new(),
            under_way: 0,
        }
    }

    /// The session with an edge.
    #[must_use]
    pub fn known(&self, peer: &NveName) -> Option<&Known> {
        self.known.get(peer)
    }

    /// Whether a session that is wished for is to be dialled now.
    #[must_use]
    pub fn dials(&self, now: Duration, peer: &NveName) -> bool {
        if self.known.contains_key(peer) {
            return false;
        }
        let Some(dials) = self.dials.get(peer) else {
            return true;
        };
        let late = dials
            .last()
            .is_none_or(|(_, begun)| now >= *begun + DIAL_AGAIN);
        late && dials.len() < DIALS && self.under_way < ALL_DIALS
    }

    /// One is dialled.
    pub fn dialling(&mut self, now: Duration, peer: NveName, number: u64) {
        self.dials.entry(peer).or_default().push((number, now));
        self.under_way += 1;
    }

    /// A dial led to nothing.
    pub fn failed(&mut self, peer: &NveName, number: u64) {
        self.take(peer, number);
    }

    /// Whether this dial was under way; it is no more.
    fn take(&mut self, peer: &NveName, number: u64) -> bool {
        let Some(dials) = self.dials.get_mut(peer) else {
            return false;
        };
        let before = dials.len();
        dials.retain(|(own, _)| *own != number);
        let taken = before - dials.len();
        if dials.is_empty() {
            self.dials.remove(peer);
        }
        self.under_way -= taken;
        taken > 0
    }

    fn take_all(&mut self, peer: &NveName) -> Vec<u64> {
        let dials = self.dials.remove(peer).unwrap_or_default();
        self.under_way -= dials.len();
        dials.into_iter().map(|(number, _)| number).collect()
    }

    /// A session is open. Of two that both dialled at once, both keep the one that the smaller name
    /// dialled; else the newer stays.
    pub fn opened(&mut self, now: Duration, peer: &NveName, number: u64, dialled: bool) -> Verdict {
        let refused = Verdict {
            stays: false,
            ends: Vec::new(),
        };
        // One that was given up meanwhile.
        if dialled && !self.take(peer, number) {
            return refused;
        }
        let by_smaller = |dialled: bool| dialled == (self.me < *peer);
        let mut ends = Vec::new();
        if let Some(known) = self.known.get(peer) {
            let at_once = now < known.since + AT_ONCE && known.dialled != dialled;
            if at_once && by_smaller(known.dialled) {
                return refused;
            }
            ends.push(known.number);
        }
        if dialled || by_smaller(dialled) {
            ends.extend(self.take_all(peer));
        }
        let since = now;
        self.known.insert(
            peer.clone(),
            Known {
                number,
                dialled,
                since,
            },
        );
        Verdict { stays: true, ends }
    }

    /// A session has ended. Whether it was the one with that edge.
    pub fn gone(&mut self, peer: &NveName, number: u64) -> bool {
        let is = self.known.get(peer).is_some_and(|it| it.number == number);
        if is {
            self.known.remove(peer);
        }
        is
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn names() -> (NveName, NveName) {
        ("a".parse().unwrap(), "b".parse().unwrap())
    }

    fn stays(ends: &[u64]) -> Verdict {
        let ends = ends.to_vec();
        Verdict { stays: true, ends }
    }

    fn refused() -> Verdict {
        Verdict {
            stays: false,
            ends: Vec::new(),
        }
    }

    #[test]
    fn of_two_dialled_at_once_both_keep_the_same() {
        let (a, b) = names();
        // Number 1 is a's, number 2 b's; in whatever order each sees them.
        for order in [[1, 2], [2, 1]] {
            for (me, peer, mine) in [(&a, &b, 1), (&b, &a, 2)] {
                let mut meetings = Meetings::new(me.clone());
                meetings.dialling(ms(0), peer.clone(), mine);
                for (at, number) in order.into_iter().enumerate() {
                    meetings.opened(ms(at as u64), peer, number, number == mine);
                }
                assert_eq!(meetings.known(peer).unwrap().number, 1, "{me} {order:?}");
                assert_eq!(meetings.under_way, 0);
            }
        }
    }

    #[test]
    fn who_comes_back_replaces_what_it_left() {
        let (a, b) = names();
        let mut meetings = Meetings::new(a);
        meetings.dialling(ms(0), b.clone(), 1);
        assert_eq!(meetings.opened(ms(5), &b, 1, true), stays(&[]));
        assert_eq!(meetings.opened(ms(1004), &b, 2, false), refused());
        assert_eq!(meetings.opened(ms(1005), &b, 3, false), stays(&[1]));
        // Of the same dialler always.
        assert_eq!(meetings.opened(ms(1006), &b, 4, false), stays(&[3]));
        assert!(!meetings.gone(&b, 3) && meetings.gone(&b, 4) && !meetings.gone(&b, 4));
    }

    #[test]
    fn a_dial_without_end_is_not_waited_for() {
        let (a, b) = names();
        let mut meetings = Meetings::new(a);
        assert!(meetings.dials(ms(0), &b));
        let mut begun = Vec::new();
        for at in (0..20_000).step_by(100) {
            if meetings.dials(ms(at), &b) {
                meetings.dialling(ms(at), b.clone(), at);
                begun.push(at);
            }
        }
        assert_eq!(begun, [0, 1000, 2000, 3000, 4000]);
        meetings.failed(&b, 0);
        assert!(meetings.dials(ms(20_000), &b));
        // One of them comes through: the others are given up, and one that was is none.
        assert_eq!(
            meetings.opened(ms(20_000), &b, 2000, true),
            stays(&[1000, 3000, 4000])
        );
        assert_eq!(meetings.opened(ms(20_001), &b, 3000, true), refused());
        assert!(!meetings.dials(ms(30_000), &b) && meetings.under_way == 0);
    }

    #[test]
    fn with_many_who_do_not_answer_each_is_dialled_once() {
        let (a, _) = names();
        let mut meetings = Meetings::new(a);
        let peer = |n: usize| format!("p{n}").parse::<NveName>().unwrap();
        for n in 0..ALL_DIALS {
            assert!(meetings.dials(ms(0), &peer(n)));
            meetings.dialling(ms(0), peer(n), n as u64);
        }
        assert!(!meetings.dials(ms(9000), &peer(0)));
        assert!(meetings.dials(ms(9000), &peer(ALL_DIALS)));
        meetings.failed(&peer(0), 0);
        assert!(meetings.dials(ms(9000), &peer(1)));
    }
}
