//! Latency inside the switch: from the moment a burst was received to the moment the packet
//! was handed to the outgoing queue, by direction, always on.
//!
//! A worker follows one packet at a time, and begins with a new one at most once in an
//! interval: what this costs is bounded by time and not by the rate of packets. The packet is
//! known by its buffer, so that those that are not followed carry nothing and cost nothing.
//! On its way to another worker it carries its stamp, and that worker goes on from there.
//! Counts are allocated with the worker, and recording into them is arithmetic.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::counters::Account;
use crate::dpdk::mbuf::{Burst, Mbuf};
use crate::dpdk::time::{self, TscClock};

/// A packet is followed at most so often.
pub const INTERVAL: Duration = Duration::from_micros(50);

/// The longest latency that is told from longer ones, in nanoseconds: over a second.
pub const LONGEST: u64 = 1 << 30;

/// Significant decimal digits: figures are off by 1 % at most.
const DIGITS: u8 = 2;

/// Where a packet comes from or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// A tenant's vhost port.
    Tenant,
    /// A VLAN of a physical port.
    Vlan,
    /// An underlay port.
    Underlay,
    /// The host kernel, by the tap beside an underlay port.
    Kernel,
}

impl Side {
    const ALL: [Side; 4] = [Side::Tenant, Side::Vlan, Side::Underlay, Side::Kernel];

    /// The side of a transmit queue.
    pub fn of(account: Account) -> Side {
        match account {
            Account::Port(_) => Side::Tenant,
            Account::Trunk => Side::Vlan,
            Account::Underlay(_) => Side::Underlay,
            Account::Tap(_) => Side::Kernel,
        }
    }
}

macro_rules! directions {
    ($( $variant:ident = $from:ident $to:ident $name:literal, )*) => {
        /// A way through the switch.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Direction { $( #[doc = $name] $variant, )* }

        impl Direction {
            /// All of them, in the order of their discriminants.
            pub const ALL: &[Direction] = &[ $( Direction::$variant, )* ];

            /// The stable name that the operator's tools show.
            pub const fn name(self) -> &'static str {
                match self { $( Direction::$variant => $name, )* }
            }

            /// The way between two sides; `None` if nothing goes that way.
            pub const fn between(from: Side, to: Side) -> Option<Direction> {
                match (from, to) {
                    $( (Side::$from, Side::$to) => Some(Direction::$variant), )*
                    _ => None,
                }
            }
        }
    };
}

directions! {
    TenantToUnderlay = Tenant Underlay "tenant-to-underlay",
    UnderlayToTenant = Underlay Tenant "underlay-to-tenant",
    TenantToTenant = Tenant Tenant "tenant-to-tenant",
    TenantToVlan = Tenant Vlan "tenant-to-vlan",
    VlanToTenant = Vlan Tenant "vlan-to-tenant",
    VlanToVlan = Vlan Vlan "vlan-to-vlan",
    VlanToUnderlay = Vlan Underlay "vlan-to-underlay",
    UnderlayToVlan = Underlay Vlan "underlay-to-vlan",
    UnderlayToKernel = Underlay Kernel "underlay-to-kernel",
    KernelToUnderlay = Kernel Underlay "kernel-to-underlay",
}

/// An empty histogram as the workers have them; all have the same bounds, so that they can be
/// added up. `None` cannot be: the bounds are constants that hdrhistogram accepts.
pub fn histogram() -> Option<Histogram<u64>> {
    Histogram::new_with_bounds(1, LONGEST, DIGITS).ok()
}

/// The packet that is followed.
#[derive(Debug, Clone, Copy)]
struct Followed {
    /// Its buffer.
    buffer: usize,
    from: Side,
    /// TSC when it was received.
    since: u64,
}

/// A followed packet's origin and time in 32 bits, for the way to another worker: the side in
/// the upper two, TSC / 16 in the others. Wraps after some seconds, in which a packet that is
/// handed over has long been taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub u32);

const TIME_BITS: u32 = 30;
const TIME: u32 = (1 << TIME_BITS) - 1;
const SHIFT: u32 = 4;

impl Stamp {
    fn new(from: Side, since: u64) -> Self {
        Stamp((from as u32) << TIME_BITS | (since >> SHIFT) as u32 & TIME)
    }

    fn from(self) -> Option<Side> {
        Side::ALL.get((self.0 >> TIME_BITS) as usize).copied()
    }

    /// The TSC it was made at, seen at `now`.
    fn since(self, now: u64) -> u64 {
        let age = ((now >> SHIFT) as u32).wrapping_sub(self.0) & TIME;
        now.wrapping_sub(u64::from(age) << SHIFT)
    }
}

/// Follows packets through one worker.
#[derive(Debug)]
pub struct Follower {
    /// Ticks between two followed packets at least; `u64::MAX` follows none.
    interval: u64,
    /// TSC from which on another one may be followed.
    next: u64,
    due: bool,
    followed: Option<Followed>,
    clock: TscClock,
    /// By [`Direction`].
    found: Vec<Option<Histogram<u64>>>,
}

impl Default for Follower {
    /// One that follows nothing.
    fn default() -> Self {
        Follower {
            interval: u64::MAX,
            next: 0,
            due: false,
            followed: None,
            clock: TscClock::with_frequency(1),
            found: Vec::new(),
        }
    }
}

impl Clone for Follower {
    /// For a report: without histograms in which there is nothing.
    fn clone(&self) -> Self {
        let filled = |found: &Option<Histogram<u64>>| {
            let found = found.as_ref().filter(|found| !found.is_empty());
            found.cloned()
        };
        Follower {
            found: self.found.iter().map(filled).collect(),
            ..*self
        }
    }
}

impl Follower {
    /// One that has seen nothing yet.
    pub fn new(clock: TscClock) -> Self {
        Follower {
            interval: clock.ticks(INTERVAL),
            clock,
            found: Direction::ALL.iter().map(|_| histogram()).collect(),
            ..Follower::default()
        }
    }

    /// Follows a packet at most every `interval`; `None` follows none. For measurements of
    /// what this costs.
    pub fn set_interval(&mut self, interval: Option<Duration>) {
        self.interval = interval.map_or(u64::MAX, |interval| self.clock.ticks(interval));
        (self.next, self.due, self.followed) = (0, false, None);
    }

    /// A pass begins.
    #[inline]
    pub fn pass_begins(&mut self, now: u64) {
        if now >= self.next && self.interval != u64::MAX {
            self.due = true;
        }
    }

    /// A pass has ended: nothing is held any more.
    #[inline]
    pub fn pass_ends(&mut self) {
        self.followed = None;
    }

    /// A burst has been received: one of its packets may be followed from here.
    #[inline]
    pub fn received(&mut self, from: Side, burst: &Burst) {
        if self.due {
            self.follow(from, burst);
        }
    }

    #[cold]
    fn follow(&mut self, from: Side, burst: &Burst) {
        if self.followed.is_some() || burst.is_empty() {
            return;
        }
        let since = time::tsc();
        // Any place in the burst: the first one waits for all the others.
        let place = (since >> SHIFT) as usize % burst.len();
        self.followed = burst.get(place).map(|packet| Followed {
            buffer: packet.buffer(),
            from,
            since,
        });
        self.next = since.saturating_add(self.interval);
        self.due = false;
    }

    /// Whether `packet` is the one that is followed.
    #[inline]
    fn is(&self, packet: &Mbuf) -> bool {
        self.followed
            .is_some_and(|followed| followed.buffer == packet.buffer())
    }

    /// The packet's way ends here without a queue: its buffer may become another packet.
    #[inline]
    pub fn lost(&mut self, packet: &Mbuf) {
        if self.is(packet) {
            self.followed = None;
        }
    }

    /// Whether one of these is followed, asked before they are given to a queue.
    #[inline]
    pub fn is_among(&self, burst: &Burst) -> bool {
        self.followed.is_some() && burst.iter().any(|packet| self.is(packet))
    }

    /// The queue to `to` has had a burst for which [`Self::is_among`] was true; `refused` is
    /// what it has not taken.
    #[cold]
    pub fn left(&mut self, to: Side, refused: &Burst) {
        let refused = self.is_among(refused);
        let Some(followed) = self.followed.take() else {
            return;
        };
        let ticks = time::tsc().wrapping_sub(followed.since);
        if let Some(direction) = Direction::between(followed.from, to)
            && !refused
            && let Some(Some(found)) = self.found.get_mut(direction as usize)
        {
            // More than can be told counts as the longest.
            found.saturating_record(self.clock.to_ns(ticks).max(1));
        }
    }

    /// The stamp of a packet that another worker goes on with, if it is followed.
    #[inline]
    pub fn handed_out(&mut self, packet: &Mbuf) -> Option<Stamp> {
        if !self.is(packet) {
            return None;
        }
        let followed = self.followed.take()?;
        Some(Stamp::new(followed.from, followed.since))
    }

    /// A packet with a stamp came from another worker: it is followed, unless one is already.
    #[cold]
    pub fn handed_in(&mut self, packet: &Mbuf, stamp: Stamp) {
        if self.followed.is_none()
            && let Some(from) = stamp.from()
        {
            self.followed = Some(Followed {
                buffer: packet.buffer(),
                from,
                since: stamp.since(time::tsc()),
            });
        }
    }

    /// Bytes of all counts.
    pub fn memory_bytes(&self) -> usize {
        let counts = |found: &Histogram<u64>| found.distinct_values() * size_of::<u64>();
        self.found.iter().flatten().map(counts).sum()
    }

    /// What was found since the start, in nanoseconds, where anything was.
    pub fn found(&self) -> impl Iterator<Item = (Direction, &Histogram<u64>)> {
        let found = self.found.iter().map(Option::as_ref);
        Direction::ALL
            .iter()
            .zip(found)
            .filter_map(|(direction, found)| Some((*direction, found?)))
            .filter(|(_, found)| !found.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_direction_has_its_place_and_histogram() {
        let follower = Follower::new(TscClock::with_frequency(2_000_000_000));
        assert_eq!(
            follower.found.iter().flatten().count(),
            Direction::ALL.len()
        );
        for (i, direction) in Direction::ALL.iter().enumerate() {
            assert_eq!(*direction as usize, i);
        }
        for from in Side::ALL {
            for to in Side::ALL {
                let Some(direction) = Direction::between(from, to) else {
                    continue;
                };
                let name = format!("{from:?}-to-{to:?}").to_lowercase();
                assert_eq!(direction.name(), name);
            }
        }
    }

    #[test]
    fn stamps_keep_side_and_time() {
        for from in Side::ALL {
            for since in [0, 12_345_678, (1 << 34) - 5, u64::MAX / 3] {
                let stamp = Stamp::new(from, since);
                assert_eq!(stamp.from(), Some(from));
                for later in [0, 1000, 3_000_000_000] {
                    let found = stamp.since(since + later);
                    assert!(found.abs_diff(since) <= 16, "{since} {later}: {found}");
                }
            }
        }
    }

    #[test]
    fn latencies_are_told_within_a_hundredth() {
        let mut histogram = histogram().expect("constant bounds");
        for ns in [3, 180, 1_234, 56_789, 12_345_678, 999_999_999] {
            histogram.reset();
            histogram.saturating_record(ns);
            let told = histogram.value_at_quantile(0.5);
            assert!(told.abs_diff(ns) * 100 <= ns, "{ns}: {told}");
        }
        histogram.saturating_record(u64::MAX);
        assert!(histogram.max() >= LONGEST);
    }
}
