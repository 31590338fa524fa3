//! Which frames are replicated and therefore policed: broadcast, unknown unicast, multicast.

use serde::Serialize;
use vswitch_net::MacAddr;

/// Whom a destination MAC address means (IEEE 802, group bit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cast {
    /// One station.
    Unicast,
    /// All stations.
    Broadcast,
    /// A group of stations.
    Multicast,
}

impl Cast {
    /// The kind of a destination.
    #[inline]
    pub const fn of(destination: MacAddr) -> Self {
        if !destination.is_multicast() {
            Self::Unicast
        } else if destination.is_broadcast() {
            Self::Broadcast
        } else {
            Self::Multicast
        }
    }

    /// Whether the frame is replicated whatever the forwarding database knows.
    #[inline]
    pub const fn is_group(self) -> bool {
        !matches!(self, Self::Unicast)
    }
}

/// Whether a destination is for the neighbouring bridge only: spanning tree, pause, 802.1X,
/// LLDP (01-80-C2-00-00-00 to -0F, IEEE 802.1Q table 8-1). Such frames are never forwarded;
/// a tenant's must not reach a physical network's bridges.
#[inline]
pub const fn is_bridge_reserved(destination: MacAddr) -> bool {
    destination.as_u64() & !0xf == 0x0180_c200_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let of = |octets| Cast::of(MacAddr(octets));
        assert_eq!(of([0xff; 6]), Cast::Broadcast);
        assert_eq!(of([0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]), Cast::Multicast);
        assert_eq!(of([0x33, 0x33, 0, 0, 0, 1]), Cast::Multicast);
        assert_eq!(of([0x01, 0x00, 0x5e, 0, 0, 1]), Cast::Multicast);
        assert_eq!(of([0x52, 0x54, 0, 0, 0, 1]), Cast::Unicast);
        assert_eq!(of([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]), Cast::Unicast);
        assert!(Cast::Broadcast.is_group() && Cast::Multicast.is_group());
        assert!(!Cast::Unicast.is_group());
    }

    #[test]
    fn reserved_for_bridges() {
        for last in 0..=0xff {
            let destination = MacAddr([0x01, 0x80, 0xc2, 0, 0, last]);
            assert_eq!(is_bridge_reserved(destination), last < 16, "{destination}");
        }
        assert!(!is_bridge_reserved(MacAddr::BROADCAST));
    }
}
