//! A tenant or VLAN port as one worker holds it.

use vswitch_policy::{Bindings, TokenBucket};

use super::command::{PortSetup, TenantInput};
use super::outlet::Way;
use super::resolve;

/// ICMP "too big" messages per second and port (RFC 1812, 4.3.2.8 asks for a limit).
const ICMP_RATE: u64 = 100;

/// One port.
pub struct Attachment {
    /// Addresses placed on it; `None` admits any source.
    pub bindings: Option<Bindings>,
    /// Admits broadcast, unknown unicast and multicast.
    pub bum: TokenBucket,
    bum_rate: u64,
    /// Workers that share the rate, once a tenant was there.
    receivers: Option<u16>,
    /// Admits ICMP "too big".
    pub icmp: TokenBucket,
    /// Admits reports of unknown destinations.
    pub misses: TokenBucket,
    /// Device with its VLAN; `None` for a tenant.
    pub trunk: Option<u16>,
    /// The VLAN.
    pub vid: u16,
    /// Queues that this worker receives from (tenants only).
    pub rx: Vec<TenantInput>,
    /// How this worker sends to it (tenants only).
    pub way: Way,
}

impl Attachment {
    /// A port whose device is not there yet.
    pub fn new(setup: PortSetup, tsc_hz: u64, now: u64) -> Self {
        Attachment {
            bindings: setup.bindings,
            bum: TokenBucket::new(setup.bum_rate, setup.bum_rate, tsc_hz, now),
            bum_rate: setup.bum_rate,
            receivers: None,
            icmp: TokenBucket::new(ICMP_RATE, ICMP_RATE, tsc_hz, now),
            misses: resolve::bucket(tsc_hz, now),
            trunk: setup.trunk,
            vid: setup.vid,
            rx: Vec::new(),
            way: Way::Down,
        }
    }

    /// Polices this worker's part of the rate of a port that `receivers` workers receive
    /// from. Later changes begin without credit: a guest that switches its queues on and off
    /// must not gain a burst each time.
    pub fn share_rate(&mut self, receivers: u16, tsc_hz: u64, now: u64) {
        let before = self.receivers.replace(receivers);
        if before == Some(receivers) {
            return;
        }
        let rate = self.bum_rate.div_ceil(u64::from(receivers.max(1)));
        self.bum = TokenBucket::new(rate, rate, tsc_hz, now);
        if before.is_some() {
            self.bum.take_n(now, rate);
        }
    }

    /// Goes on with the queues of the port that this one replaces.
    pub fn take_over(&mut self, old: Attachment, tsc_hz: u64, now: u64) {
        (self.rx, self.way) = (old.rx, old.way);
        if let Some(receivers) = old.receivers {
            self.share_rate(receivers, tsc_hz, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_vn::PortId;

    const HZ: u64 = 1000;

    fn admitted(attachment: &mut Attachment, now: u64) -> usize {
        (0..1000).filter(|_| attachment.bum.take(now)).count()
    }

    fn setup() -> PortSetup {
        PortSetup {
            id: PortId(0),
            bindings: None,
            bum_rate: 100,
            trunk: None,
            vid: 0,
        }
    }

    #[test]
    fn the_rate_is_divided_by_those_who_receive_and_toggling_gains_nothing() {
        let mut port = Attachment::new(setup(), HZ, 0);
        port.share_rate(1, HZ, 0);
        assert_eq!(admitted(&mut port, 0), 100, "one worker admits all of it");
        for _ in 0..10 {
            port.share_rate(3, HZ, 0);
            assert_eq!(admitted(&mut port, 0), 0);
            port.share_rate(1, HZ, 0);
            assert_eq!(admitted(&mut port, 0), 0);
        }
        port.share_rate(3, HZ, 0);
        assert_eq!(admitted(&mut port, HZ), 34, "a third, rounded up");

        let mut new = Attachment::new(setup(), HZ, HZ);
        new.take_over(port, HZ, HZ);
        assert_eq!(admitted(&mut new, 100 * HZ), 34, "shared as before");
    }
}
