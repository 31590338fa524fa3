//! What the host kernel is given of the underlay's traffic: limited, what keeps the underlay
//! alive first.

use vswitch_policy::TokenBucket;

use super::probe::Probe;

/// A bucket for each urgency, so that no flood of one kind keeps another from the kernel.
#[derive(Clone)]
pub struct KernelPolice {
    neighbour: TokenBucket,
    control: TokenBucket,
    rest: TokenBucket,
}

/// How urgent a packet for the kernel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// ARP and ND: without them no tunnel has a next hop. Only the link itself can send them.
    Neighbour,
    /// BGP, OSPF, BFD, IKE. Whoever can route to us can claim to be one of these.
    Control,
    /// Anything else.
    Rest,
}

impl KernelPolice {
    /// A third of `rate` packets per second for each.
    pub fn new(rate: u64, tsc_hz: u64, now: u64) -> Self {
        let third = (rate / 3).max(1);
        let bucket = || TokenBucket::new(third, third, tsc_hz, now);
        KernelPolice {
            neighbour: bucket(),
            control: bucket(),
            rest: bucket(),
        }
    }

    /// As [`Self::admit`], but in a dry run nothing is used up.
    pub fn admits<P: Probe>(&mut self, urgency: Urgency, now: u64) -> bool {
        if P::DRY {
            self.clone().admit(urgency, now)
        } else {
            self.admit(urgency, now)
        }
    }

    /// Whether one more packet may go to the kernel at TSC `now`.
    pub fn admit(&mut self, urgency: Urgency, now: u64) -> bool {
        match urgency {
            Urgency::Neighbour => self.neighbour.take(now),
            Urgency::Control => self.control.take(now),
            Urgency::Rest => self.rest.take(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_room_for_what_is_more_urgent() {
        let mut police = KernelPolice::new(300, 1_000, 0);
        for flood in [Urgency::Rest, Urgency::Control] {
            let admitted = (0..10_000).filter(|_| police.admit(flood, 0)).count();
            assert_eq!(admitted, 100);
        }
        assert!(police.admit(Urgency::Neighbour, 0));
        assert!(!police.admit(Urgency::Rest, 0));
        assert!(police.admit(Urgency::Rest, 1_000));
    }
}
