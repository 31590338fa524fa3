//! What the host kernel is given of the underlay's traffic: limited, control traffic first.

use vswitch_policy::TokenBucket;

/// Two buckets: control traffic has one of its own, so that a flood of anything else
/// cannot keep ARP, ND, routing protocols or our own sessions from the kernel.
pub struct KernelPolice {
    control: TokenBucket,
    rest: TokenBucket,
}

/// How urgent a packet for the kernel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// ARP, ND, BGP, OSPF, BFD, IKE and what else keeps the underlay up.
    Control,
    /// Anything else.
    Rest,
}

impl KernelPolice {
    /// Half of `rate` packets per second for control traffic, half for the rest.
    pub fn new(rate: u64, tsc_hz: u64, now: u64) -> Self {
        let half = (rate / 2).max(1);
        KernelPolice {
            control: TokenBucket::new(half, half, tsc_hz, now),
            rest: TokenBucket::new(half, half, tsc_hz, now),
        }
    }

    /// Whether one more packet may go to the kernel at TSC `now`.
    pub fn admit(&mut self, urgency: Urgency, now: u64) -> bool {
        match urgency {
            Urgency::Control => self.control.take(now),
            Urgency::Rest => self.rest.take(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_room_for_control_traffic() {
        let mut police = KernelPolice::new(200, 1_000, 0);
        let admitted = (0..10_000)
            .filter(|_| police.admit(Urgency::Rest, 0))
            .count();
        assert_eq!(admitted, 100);
        assert!(police.admit(Urgency::Control, 0));
        assert!(!police.admit(Urgency::Rest, 0));
        assert!(police.admit(Urgency::Rest, 1_000));
    }
}
