//! A tenant or VLAN port as one worker holds it.

use vswitch_policy::{Bindings, TokenBucket};

use super::command::PortSetup;
use super::outlet::Way;
use crate::dpdk::vhost::VhostRx;

/// ICMP "too big" messages per second and port (RFC 1812, 4.3.2.8 asks for a limit).
const ICMP_RATE: u64 = 100;

/// One port.
pub struct Attachment {
    /// Addresses placed on it; `None` admits any source.
    pub bindings: Option<Bindings>,
    /// Admits broadcast, unknown unicast and multicast.
    pub bum: TokenBucket,
    /// Admits ICMP "too big".
    pub icmp: TokenBucket,
    /// Device with its VLAN; `None` for a tenant.
    pub trunk: Option<u16>,
    /// The VLAN.
    pub vid: u16,
    /// Queues that this worker receives from (tenants only).
    pub rx: Vec<VhostRx>,
    /// How this worker sends to it (tenants only).
    pub way: Way,
}

impl Attachment {
    /// A port whose device is not there yet.
    pub fn new(setup: PortSetup, tsc_hz: u64, now: u64) -> Self {
        Attachment {
            bindings: setup.bindings,
            bum: TokenBucket::new(setup.bum_rate, setup.bum_rate, tsc_hz, now),
            icmp: TokenBucket::new(ICMP_RATE, ICMP_RATE, tsc_hz, now),
            trunk: setup.trunk,
            vid: setup.vid,
            rx: Vec::new(),
            way: Way::Down,
        }
    }
}
