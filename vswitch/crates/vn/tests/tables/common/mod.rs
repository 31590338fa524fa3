//! Changes in few words, and what must be true of tables at any time.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use vswitch_net::{Encapsulation, MacAddr, Vni};
use vswitch_vn::{
    Change, Destination, Mapping, Origin, Peer, PeerId, Port, PortId, PortKind, Tables, TunnelId,
    VnConfig, VnId,
};

pub fn vni(n: u32) -> Vni {
    Vni::new(n).expect("24 bits")
}

pub fn mac(n: u64) -> MacAddr {
    MacAddr::from_u64(0x5254_0000_0000 + n)
}

pub fn peer(addresses: &[u8]) -> Peer {
    let addresses = addresses
        .iter()
        .map(|&n| Ipv4Addr::new(192, 0, 2, n).into());
    Peer {
        addresses: addresses.collect(),
        encapsulation: Encapsulation::Geneve,
    }
}

pub fn add_vn(id: u16, number: u32) -> Change {
    Change::AddVn {
        id: VnId(id),
        config: VnConfig::new(vni(number), 1500),
    }
}

pub fn add_port(id: u16, vn: u16) -> Change {
    Change::AddPort {
        id: PortId(id),
        port: Port {
            vn: VnId(vn),
            kind: PortKind::Tenant,
            learning: false,
        },
    }
}

pub fn add_peer(id: u32, addresses: &[u8]) -> Change {
    Change::AddPeer {
        id: PeerId(id),
        peer: peer(addresses),
    }
}

pub fn add_tunnel(id: u32, vn: u16, peer: u32) -> Change {
    Change::AddTunnel {
        id: TunnelId(id),
        vn: VnId(vn),
        peer: PeerId(peer),
        flood: true,
    }
}

pub fn add_mapping(vn: u16, n: u64, destination: Destination, generation: u64) -> Change {
    add_mapping_of(vn, n, &[1], destination, generation)
}

/// A mapping that lists 10.0.0.x for each x of `ips`.
pub fn add_mapping_of(
    vn: u16,
    n: u64,
    ips: &[u8],
    destination: Destination,
    generation: u64,
) -> Change {
    let ips = ips.iter().map(|&x| IpAddr::V4(Ipv4Addr::new(10, 0, 0, x)));
    Change::AddMapping {
        vn: VnId(vn),
        mac: mac(n),
        mapping: Mapping {
            ips: ips.collect(),
            destination,
            generation,
        },
    }
}

pub const PORT: fn(u16) -> Destination = |id| Destination::Port(PortId(id));
pub const TUNNEL: fn(u32) -> Destination = |id| Destination::Tunnel(TunnelId(id));

/// Two networks, two peers, a port and a tunnel each.
pub fn example() -> Tables {
    let mut tables = Tables::new(1);
    let changes = [
        add_vn(1, 100),
        add_vn(2, 200),
        add_peer(0, &[10, 11]),
        add_peer(1, &[20]),
        add_port(0, 1),
        add_port(1, 2),
        add_tunnel(0, 1, 0),
        add_tunnel(1, 2, 0),
        add_mapping(1, 1, PORT(0), 1),
        add_mapping(1, 2, TUNNEL(0), 1),
        add_mapping(2, 1, PORT(1), 1),
        add_mapping(2, 2, TUNNEL(1), 1),
    ];
    tables.transact(&changes).expect("the example is valid");
    tables
}

/// What must be true of tables at any time.
pub fn assert_consistent(tables: &Tables) {
    for (id, vn) in tables.vns() {
        assert_eq!(tables.vn_by_vni(vn.config.vni), Some(id));
        let mut ports: Vec<_> = vn.flood_ports.clone();
        ports.sort_unstable();
        let owned = tables.ports().filter(|(_, port)| port.vn == id);
        assert_eq!(ports, owned.map(|(id, _)| id).collect::<Vec<_>>());
        let mut tunnels = vn.flood_tunnels.clone();
        tunnels.sort_unstable();
        tunnels.dedup();
        assert_eq!(tunnels.len(), vn.flood_tunnels.len());
        for tunnel in tunnels {
            assert_eq!(tables.tunnel(tunnel).map(|tunnel| tunnel.vn), Some(id));
        }
        let learned = tables.fdb().iter().filter(|(key, entry)| {
            key.vn() == id && matches!(entry.origin, Origin::Learned { .. })
        });
        assert_eq!(vn.learned() as usize, learned.count());
    }
    for (_, port) in tables.ports() {
        assert!(tables.vn(port.vn).is_some());
    }
    for (id, peer) in tables.peers() {
        for &address in peer.addresses.iter() {
            assert_eq!(tables.peer_by_address(address), Some(id));
        }
    }
    for (id, tunnel) in tables.tunnels() {
        let vn = tables.vn(tunnel.vn).expect("a tunnel's network");
        let peer = tables.peer(tunnel.peer).expect("a tunnel's peer");
        assert_eq!(tunnel.vni, vn.config.vni);
        assert_eq!(tunnel.protection, vn.config.protection);
        assert_eq!(tunnel.encapsulation, peer.encapsulation);
        assert_eq!(tables.tunnel_between(tunnel.vn, tunnel.peer), Some(id));
    }
    let mut fixed = 0;
    for (key, entry) in tables.fdb().iter() {
        let owner = match entry.destination {
            Destination::Port(id) => tables.port(id).map(|port| port.vn),
            Destination::Tunnel(id) => tables.tunnel(id).map(|tunnel| tunnel.vn),
        };
        assert_eq!(owner, Some(key.vn()), "{key:?} leads to its own network");
        if let Origin::Static { ipv4 } = entry.origin {
            fixed += 1;
            let mapping = tables.mapping(key.vn(), key.mac());
            let mut ips = mapping.iter().flat_map(|mapping| mapping.ips.iter());
            let first = ips.find_map(|ip| match ip {
                IpAddr::V4(ip) => Some(*ip),
                IpAddr::V6(_) => None,
            });
            assert_eq!(ipv4, first);
            assert_eq!(
                mapping.map(|mapping| mapping.destination),
                Some(entry.destination)
            );
        }
    }
    assert_eq!(tables.mappings().count(), fixed);
    // What is held is what the mappings list, counted anew.
    let mut held = BTreeMap::new();
    for (key, mapping) in tables.mappings() {
        for &ip in mapping.ips.iter() {
            *held.entry((key.vn(), ip)).or_insert(0) += 1;
            if let Some(only) = tables.holder(key.vn(), ip) {
                assert_eq!(only, key.mac());
            }
            assert!(!tables.is_held_by_other(key.vn(), key.mac(), ip));
            assert!(tables.is_held_by_other(key.vn(), mac(0xffff), ip));
        }
    }
    let index = tables.held_addresses().map(|(vn, ip, n)| ((vn, ip), n));
    assert_eq!(index.collect::<BTreeMap<_, u32>>(), held);
    for ((vn, ip), count) in held {
        assert_eq!(tables.holder(vn, ip).is_some(), count == 1);
    }
}
