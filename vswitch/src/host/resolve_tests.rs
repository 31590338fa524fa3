use super::*;
use crate::host::{StaticNeighbour, StaticRoute};

const A: MacAddress = [2, 0, 0, 0, 0, 0xa];
const B: MacAddress = [2, 0, 0, 0, 0, 0xb];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn port(index: usize, tap: Option<&str>, address: &str) -> UnderlayPort {
    UnderlayPort {
        index,
        tap: tap.map(str::to_owned),
        mac: [2, 0, 0, 0, 1, 0],
        mtu: 1500,
        addresses: vec!["2001:db8::1/64".parse().unwrap(), address.parse().unwrap()],
        static_neighbours: Vec::new(),
        static_routes: Vec::new(),
    }
}

fn usable(mac: MacAddress) -> Neighbour {
    Neighbour::Usable { mac, stale: true }
}

#[test]
fn only_resolved_next_hops_on_our_taps_become_paths() {
    let (one, two) = (
        port(0, Some("t0"), "192.0.2.1/24"),
        port(1, Some("t1"), "198.51.100.1/24"),
    );
    let taps = HashMap::from([(5, &one), (6, &two)]);
    let gateways = ["192.0.2.254", "198.51.100.254", "198.51.100.253"].map(ip);
    let hop = |link, gateway| Hop {
        link,
        gateway: Some(gateway),
    };
    let route = KernelRoute {
        prefix: 0,
        source: None,
        hops: vec![
            hop(6, gateways[1]),
            hop(5, gateways[0]),
            hop(6, gateways[2]),
            hop(9, gateways[0]),
        ],
    };
    let mut neighbours = HashMap::from([
        (5, HashMap::from([(gateways[0], usable(A))])),
        (6, HashMap::from([(gateways[1], usable(B))])),
        (9, HashMap::from([(gateways[0], usable(B))])),
    ]);
    let found = kernel_paths(&route, ip("203.0.113.1"), &taps, &neighbours);
    let ports: Vec<_> = found.paths.iter().map(|p| (p.port, p.dst_mac)).collect();
    assert_eq!(ports, [(0, A), (1, B)]);
    assert_eq!(found.paths[0].source_hint, Some(ip("192.0.2.1")));
    assert_eq!(found.next_hops.len(), 3);
    assert!(found.pending);

    neighbours.insert(
        6,
        gateways[1..]
            .iter()
            .map(|g| (*g, Neighbour::Failed))
            .collect(),
    );
    let found = kernel_paths(&route, ip("203.0.113.1"), &taps, &neighbours);
    assert_eq!(found.paths.len(), 1);
    assert!(!found.pending);
}

#[test]
fn static_routes_match_the_longest_prefix_and_may_be_several() {
    let mut one = port(0, None, "192.0.2.1/24");
    let mut two = port(1, None, "198.51.100.1/24");
    let neighbour = |address, mac| StaticNeighbour {
        address: ip(address),
        mac,
    };
    let route = |to: &str, via| StaticRoute {
        to: to.parse().unwrap(),
        via: ip(via),
    };
    one.static_neighbours = vec![neighbour("192.0.2.9", A), neighbour("192.0.2.2", B)];
    one.static_routes = vec![
        route("0.0.0.0/0", "192.0.2.9"),
        route("203.0.113.0/24", "192.0.2.9"),
    ];
    two.static_neighbours = vec![neighbour("198.51.100.9", B)];
    two.static_routes = vec![route("203.0.113.0/24", "198.51.100.9")];
    let ports = [one, two];
    let macs = |destination| {
        static_paths(&ports, ip(destination)).map(|(length, paths)| {
            let macs: Vec<_> = paths.iter().map(|p| (p.port, p.dst_mac)).collect();
            (length, macs)
        })
    };
    assert_eq!(macs("192.0.2.2"), Some((24, vec![(0, B)])));
    assert_eq!(macs("192.0.2.3"), Some((24, vec![])));
    assert_eq!(macs("203.0.113.7"), Some((24, vec![(0, A), (1, B)])));
    assert_eq!(macs("8.8.8.8"), Some((0, vec![(0, A)])));
    assert_eq!(macs("2001:db8:1::1"), None);
}

#[test]
fn neighbour_states_are_read_as_the_kernel_means_them() {
    let read = |state, mac: Option<MacAddress>| {
        let mut message = NeighbourMessage::default();
        message.header.state = state;
        let destination = NeighbourAddress::from(ip("192.0.2.2"));
        message
            .attributes
            .push(NeighbourAttribute::Destination(destination));
        message
            .attributes
            .extend(mac.map(|m| NeighbourAttribute::LinkLayerAddress(m.to_vec())));
        neighbour(&message).map(|(_, entry)| entry)
    };
    assert_eq!(read(NeighbourState::Stale, Some(A)), Some(usable(A)));
    let fresh = Neighbour::Usable {
        mac: A,
        stale: false,
    };
    assert_eq!(read(NeighbourState::Permanent, Some(A)), Some(fresh));
    assert_eq!(
        read(NeighbourState::Failed, Some(A)),
        Some(Neighbour::Failed)
    );
    assert_eq!(
        read(NeighbourState::Incomplete, None),
        Some(Neighbour::Resolving)
    );
    // Interfaces without ARP (loopback, tunnels) have entries with an all-zero address.
    assert_eq!(
        read(NeighbourState::Noarp, Some([0; 6])),
        Some(Neighbour::Resolving)
    );
}
