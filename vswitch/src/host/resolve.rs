//! From routes and neighbours to paths: the part without I/O.
use std::collections::HashMap;
use std::net::IpAddr;

use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteType, RouteVia,
};

use super::types::{MacAddress, Path, UnderlayPort};

/// A unicast route as the kernel gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KernelRoute {
    pub(super) prefix: u8,
    pub(super) source: Option<IpAddr>,
    pub(super) hops: Vec<Hop>,
}

/// One next hop of a route; without a gateway the destination itself is on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) link: u32,
    pub(super) gateway: Option<IpAddr>,
}

/// State of a neighbour entry (`NUD_*`), as far as sending is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// Has an address; `stale`: the kernel has not confirmed it lately.
    Usable { mac: MacAddress, stale: bool },
    /// The kernel is asking for it.
    Resolving,
    /// It did not answer.
    Failed,
}

/// Reads a route; `None` if it is not unicast (local, blackhole, …).
pub(super) fn kernel_route(message: &RouteMessage) -> Option<KernelRoute> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut route = KernelRoute {
        prefix: message.header.destination_prefix_length,
        source: None,
        hops: Vec::new(),
    };
    let mut link = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::MultiPath(hops) => route.hops.extend(hops.iter().filter_map(hop)),
            _ => {}
        }
    }
    let dead = RouteFlags::Dead | RouteFlags::Linkdown;
    if let Some(link) = link
        && route.hops.is_empty()
        && !message.header.flags.intersects(dead)
    {
        let gateway = gateway(&message.attributes);
        route.hops.push(Hop { link, gateway });
    }
    Some(route)
}

fn hop(hop: &RouteNextHop) -> Option<Hop> {
    let dead = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
    (!hop.flags.intersects(dead)).then(|| Hop {
        link: hop.interface_index,
        gateway: gateway(&hop.attributes),
    })
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        // IPv4 through an IPv6 next hop (RFC 8950).
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// Reads a neighbour entry.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<(IpAddr, Neighbour)> {
    let mut destination = None;
    let mut mac: Option<MacAddress> = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                destination = Some(IpAddr::from(*address));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                destination = Some(IpAddr::from(*address));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    let state = message.header.state;
    let entry = match (state, mac) {
        (NeighbourState::Failed, _) => Neighbour::Failed,
        (
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp,
            Some(mac),
        ) if mac != [0; 6] => Neighbour::Usable {
            mac,
            stale: state == NeighbourState::Stale,
        },
        _ => Neighbour::Resolving,
    };
    Some((destination?, entry))
}

/// What the kernel's route amounts to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resolution {
    /// Ready paths, sorted, each once.
    pub(super) paths: Vec<Path>,
    /// Some next hop is being asked for, or nobody asked yet.
    pub(super) pending: bool,
    /// Every neighbour the route leads to, ready or not: (link, address).
    pub(super) next_hops: Vec<(u32, IpAddr)>,
}

/// Joins a route with the neighbours of our taps; next hops on other interfaces do not count.
pub(super) fn kernel_paths(
    route: &KernelRoute,
    destination: IpAddr,
    taps: &HashMap<u32, &UnderlayPort>,
    neighbours: &HashMap<u32, HashMap<IpAddr, Neighbour>>,
) -> Resolution {
    let mut resolution = Resolution::default();
    for hop in &route.hops {
        let Some(port) = taps.get(&hop.link) else {
            continue;
        };
        let next = hop.gateway.unwrap_or(destination);
        resolution.next_hops.push((hop.link, next));
        match neighbours.get(&hop.link).and_then(|table| table.get(&next)) {
            Some(Neighbour::Usable { mac, .. }) => {
                let source = route
                    .source
                    .or_else(|| source_hint(port, destination, next));
                resolution.paths.push(path(port, source, *mac));
            }
            Some(Neighbour::Failed) => {}
            Some(Neighbour::Resolving) | None => resolution.pending = true,
        }
    }
    resolution.paths.sort_unstable();
    resolution.paths.dedup();
    resolution
}

/// The paths over ports without a tap, with the length of the prefix that matched. Longest
/// prefix wins over all such ports; several routes of that length are equal-cost paths.
pub(super) fn static_paths(ports: &[UnderlayPort], destination: IpAddr) -> Option<(u8, Vec<Path>)> {
    let mut best: Option<(u8, Vec<Path>)> = None;
    for port in ports.iter().filter(|port| port.tap.is_none()) {
        let on_link = port.addresses.iter().map(|net| (*net, destination));
        let routed = port.static_routes.iter().map(|route| (route.to, route.via));
        for (net, next) in on_link.chain(routed) {
            if !net.contains(destination) {
                continue;
            }
            let length = net.prefix();
            if best.as_ref().is_none_or(|(longest, _)| length > *longest) {
                best = Some((length, Vec::new()));
            }
            if let Some((longest, paths)) = best.as_mut()
                && length == *longest
            {
                let known = port.static_neighbours.iter().find(|n| n.address == next);
                let source = source_hint(port, destination, next);
                paths.extend(known.map(|n| path(port, source, n.mac)));
            }
        }
    }
    if let Some((_, paths)) = best.as_mut() {
        paths.sort_unstable();
        paths.dedup();
    }
    best
}

fn path(port: &UnderlayPort, source_hint: Option<IpAddr>, dst_mac: MacAddress) -> Path {
    Path {
        port: port.index,
        source_hint,
        src_mac: port.mac,
        dst_mac,
    }
}

/// An address of the port in the destination's family, best one that shares the next hop's
/// prefix.
fn source_hint(port: &UnderlayPort, destination: IpAddr, next: IpAddr) -> Option<IpAddr> {
    let same_family = |net: &&super::IpNet| net.address().is_ipv4() == destination.is_ipv4();
    let mut nets = port.addresses.iter().filter(same_family);
    let first = nets.clone().next();
    nets.find(|net| net.contains(next))
        .or(first)
        .map(|net| net.address())
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
