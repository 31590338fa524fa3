//! A hostile tenant on a vhost-user port: what it sends, and what must become of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frames::{Mac, ethernet, ip4, ip6, ipv4, ipv6, mac, udp};
use crate::rig::Rig;
use crate::setup::{Setup, VhostPort};
use crate::tally::{Tally, sealed_len};

/// The hostile tenant's MAC.
pub const ME: Mac = mac(1);
/// Its port.
pub const PORT: &str = "vm-1";
/// The port of tenant 3, its neighbour.
pub const NEIGHBOUR: &str = "vm-3";

/// Tenants 1 and 3 here, 2 at peer `b`, each bound to its MAC and IP addresses.
pub fn setup(bum_rate: u32) -> Setup {
    let mut setup = Setup::new();
    let blue = &mut setup.vns[0];
    blue.list_ips = true;
    blue.ports.clear();
    blue.tenants = [(PORT, 1), (NEIGHBOUR, 3)]
        .map(|(name, tenant)| VhostPort {
            name,
            tenant,
            bum_rate,
        })
        .to_vec();
    setup
}

/// Frames that end where they came from, each for its reason.
#[track_caller]
pub fn refused(rig: &mut Rig, frames: &[(Vec<u8>, &'static str)]) {
    for (frame, why) in frames {
        let mut tally = Tally::new();
        tally.refused(PORT, "blue", frame.len(), why);
        rig.from_tenant(PORT, std::slice::from_ref(frame));
        let out = rig.settle();
        tally.check(&out.changes);
        assert!(out.underlay.is_empty() && out.trunk.is_empty() && out.tenants.is_empty());
    }
}

/// Frames that pass: to the neighbour's address, to the peer's, or as a group to both.
#[track_caller]
pub fn passes(rig: &mut Rig, frames: &[Vec<u8>]) {
    for frame in frames {
        let (mut tally, len) = (Tally::new(), frame.len());
        let (here, there) = match frame[..6] {
            [first, ..] if first & 1 == 1 => (true, true),
            _ => (frame[..6] == mac(3), frame[..6] == mac(2)),
        };
        tally.admitted(PORT, "blue", len, u64::from(here) + u64::from(there));
        if here {
            tally.to_port(NEIGHBOUR, len, "to-tenant");
        }
        if there {
            tally.to_peer("blue/b", len, sealed_len(len));
        }
        rig.from_tenant(PORT, std::slice::from_ref(frame));
        let out = rig.settle();
        tally.check(&out.changes);
        let local: Vec<_> = here
            .then(|| (NEIGHBOUR, frame.clone()))
            .into_iter()
            .collect();
        assert_eq!(out.tenants, local);
        let remote: Vec<_> = out
            .underlay
            .iter()
            .map(|p| rig.opened("blue", "b", p).1)
            .collect();
        assert_eq!(
            remote,
            there.then(|| frame.clone()).into_iter().collect::<Vec<_>>()
        );
    }
}

/// UDP of station `src` with this address to tenant `to`.
pub fn claims4(to: u8, src: Mac, ip: Ipv4Addr) -> Vec<u8> {
    let datagram = udp(ip.into(), ip4(to).into(), 1, 2, &[0; 20]);
    ethernet(
        mac(to),
        src,
        0x0800,
        &ipv4(ip, ip4(to), 17, 0, 7, &datagram),
    )
}

/// The same over IPv6.
pub fn claims6(to: u8, src: Mac, ip: Ipv6Addr) -> Vec<u8> {
    let datagram = udp(IpAddr::V6(ip), ip6(to).into(), 1, 2, &[0; 20]);
    ethernet(mac(to), src, 0x86dd, &ipv6(ip, ip6(to), 17, &datagram))
}
