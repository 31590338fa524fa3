//! Whether peers can be reached where the kernel does not resolve neighbours for us.

use std::net::IpAddr;

use super::super::model::{Peer, Underlay, UnderlayPort};
use super::super::problem::KeyPath;
use super::Context;

/// What the configuration says about the way to an address.
enum Way {
    /// There is one, or the kernel decides.
    Fine,
    /// This next hop is on the link of a port without a tap, and its MAC address is unknown.
    NoNeighbour(IpAddr),
    /// Nothing leads there.
    NoRoute,
}

pub(super) fn check(cx: &mut Context<'_>, peers: &[Peer], underlay: &Underlay) {
    let list = KeyPath::root().key("peers");
    for (i, peer) in peers.iter().enumerate() {
        for (j, ip) in peer.addresses.iter().enumerate() {
            let path = list.index(i).key("addresses").index(j);
            match way(underlay, *ip) {
                Way::Fine => {}
                Way::NoNeighbour(hop) => cx.f.warn(
                    &path,
                    format!(
                        "{ip} cannot be reached: its port has no tap, and {hop} is not in \
                             the port's neighbours"
                    ),
                ),
                Way::NoRoute => cx.f.warn(
                    &path,
                    format!(
                        "{ip} cannot be reached: no port has a tap, and neither its \
                             addresses, its neighbours nor underlay.routes lead there"
                    ),
                ),
            }
        }
    }
}

fn way(underlay: &Underlay, ip: IpAddr) -> Way {
    let tapless = || underlay.ports.iter().filter(|port| port.tap.is_none());
    let known = |hop: IpAddr| {
        tapless()
            .flat_map(|port| &port.neighbours)
            .any(|neighbour| neighbour.address == hop)
    };
    let on = |port: &UnderlayPort, ip| port.addresses.iter().any(|prefix| prefix.contains(ip));
    let kernel = underlay.ports.iter().any(|port| port.tap.is_some());
    if known(ip)
        || underlay
            .ports
            .iter()
            .any(|port| port.tap.is_some() && on(port, ip))
    {
        return Way::Fine;
    }
    if tapless().any(|port| on(port, ip)) {
        return Way::NoNeighbour(ip);
    }
    let routes = underlay.routes.iter().filter(|route| route.to.contains(ip));
    match routes.max_by_key(|route| route.to.len) {
        Some(route) if known(route.via) => Way::Fine,
        Some(route) if !kernel || tapless().any(|port| on(port, route.via)) => {
            Way::NoNeighbour(route.via)
        }
        // Another route of the kernel's.
        _ if kernel => Way::Fine,
        _ => Way::NoRoute,
    }
}
