//! Change lists: whole or not at all, the same result everywhere, nothing left behind.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use vswitch_net::{Encapsulation, MacAddr, Vni};
use vswitch_vn::{
    Change, Destination, FlushScope, Key, Learn, Mapping, Origin, Peer, PeerId, Port, PortId,
    PortKind, Protection, Refusal, Tables, TunnelId, UnknownUnicast, VnConfig, VnId,
};

fn vni(n: u32) -> Vni {
    Vni::new(n).expect("24 bits")
}

fn mac(n: u64) -> MacAddr {
    MacAddr::from_u64(0x5254_0000_0000 + n)
}

fn peer(addresses: &[u8]) -> Peer {
    let addresses = addresses
        .iter()
        .map(|&n| Ipv4Addr::new(192, 0, 2, n).into());
    Peer {
        addresses: addresses.collect(),
        encapsulation: Encapsulation::Geneve,
    }
}

fn add_vn(id: u16, number: u32) -> Change {
    Change::AddVn {
        id: VnId(id),
        config: VnConfig::new(vni(number), 1500),
    }
}

fn add_port(id: u16, vn: u16) -> Change {
    Change::AddPort {
        id: PortId(id),
        port: Port {
            vn: VnId(vn),
            kind: PortKind::Tenant,
            learning: false,
        },
    }
}

fn add_peer(id: u32, addresses: &[u8]) -> Change {
    Change::AddPeer {
        id: PeerId(id),
        peer: peer(addresses),
    }
}

fn add_tunnel(id: u32, vn: u16, peer: u32) -> Change {
    Change::AddTunnel {
        id: TunnelId(id),
        vn: VnId(vn),
        peer: PeerId(peer),
        flood: true,
    }
}

fn add_mapping(vn: u16, n: u64, destination: Destination, generation: u64) -> Change {
    Change::AddMapping {
        vn: VnId(vn),
        mac: mac(n),
        mapping: Mapping {
            ips: [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))].into(),
            destination,
            generation,
        },
    }
}

const PORT: fn(u16) -> Destination = |id| Destination::Port(PortId(id));
const TUNNEL: fn(u32) -> Destination = |id| Destination::Tunnel(TunnelId(id));

/// Two networks, two peers, a port and a tunnel each.
fn example() -> Tables {
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
fn assert_consistent(tables: &Tables) {
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
        if entry.origin == Origin::Static {
            fixed += 1;
            let mapping = tables.mapping(key.vn(), key.mac());
            assert_eq!(
                mapping.map(|mapping| mapping.destination),
                Some(entry.destination)
            );
        }
    }
    assert_eq!(tables.mappings().count(), fixed);
}

#[track_caller]
fn refused(changes: &[Change], index: usize, refusal: Refusal) {
    let mut tables = example();
    let error = tables.transact(changes).expect_err("the list is not valid");
    assert_eq!((error.index, error.refusal), (index, refusal));
    assert_eq!(tables, example(), "a refused list changes nothing");
}

#[test]
fn the_example_is_there() {
    let tables = example();
    assert_consistent(&tables);
    assert_eq!(tables.lookup(VnId(1), mac(1)), Some(PORT(0)));
    assert_eq!(tables.lookup(VnId(2), mac(1)), Some(PORT(1)));
    assert_eq!(tables.lookup(VnId(1), mac(2)), Some(TUNNEL(0)));
    assert_eq!(tables.lookup(VnId(1), mac(3)), None);
    assert_eq!(tables.vn_by_vni(vni(200)), Some(VnId(2)));
    assert_eq!(tables.vn_by_vni(vni(300)), None);
    assert_eq!(
        tables.peer_by_address(Ipv4Addr::new(192, 0, 2, 11).into()),
        Some(PeerId(0))
    );
    assert_eq!(tables.tunnel_between(VnId(2), PeerId(0)), Some(TunnelId(1)));
    assert_eq!(tables.tunnel_between(VnId(2), PeerId(1)), None);
    let keys = [Key::new(VnId(2), mac(2)), Key::new(VnId(2), mac(9))];
    let mut out = [None; 2];
    tables.lookup_burst(&keys, &mut out);
    assert_eq!(out, [Some(TUNNEL(1)), None]);
}

#[test]
fn refusals() {
    let bad_vid = |vid| Change::AddPort {
        id: PortId(9),
        port: Port {
            vn: VnId(1),
            kind: PortKind::Vlan { vid },
            learning: true,
        },
    };
    let with_age = |learning_age, learning_limit| Change::UpdateVn {
        id: VnId(1),
        config: VnConfig {
            learning_age,
            learning_limit,
            ..VnConfig::new(vni(100), 1500)
        },
    };
    let taken = |number, owner| Refusal::VniTaken {
        vni: vni(number),
        owner: VnId(owner),
    };
    let withdraw = |n, generation| Change::RemoveMapping {
        vn: VnId(1),
        mac: mac(n),
        generation,
    };
    let old = |known, offered| Refusal::OldGeneration { known, offered };
    let cases: Vec<(Change, Refusal)> = vec![
        (add_vn(1, 300), Refusal::InUse),
        (add_vn(3, 200), taken(200, 2)),
        (with_age(0, 1), Refusal::BadLearning),
        (with_age(VnConfig::MAX_AGE + 1, 1), Refusal::BadLearning),
        (with_age(1, VnConfig::MAX_LEARNED + 1), Refusal::BadLearning),
        (Change::RemoveVn { id: VnId(3) }, Refusal::NoVn(VnId(3))),
        (add_port(0, 2), Refusal::InUse),
        (add_port(5, 3), Refusal::NoVn(VnId(3))),
        (bad_vid(0), Refusal::BadVlan(0)),
        (bad_vid(4095), Refusal::BadVlan(4095)),
        (
            Change::RemovePort { id: PortId(7) },
            Refusal::NoPort(PortId(7)),
        ),
        (add_peer(0, &[30]), Refusal::InUse),
        (add_peer(PeerId::LIMIT, &[30]), Refusal::IdTooLarge),
        (add_peer(5, &[]), Refusal::BadAddresses),
        (add_peer(5, &[30, 30]), Refusal::BadAddresses),
        (
            add_peer(5, &[30, 20]),
            Refusal::AddressTaken { owner: PeerId(1) },
        ),
        (
            Change::RemovePeer { id: PeerId(0) },
            Refusal::PeerHasTunnels(TunnelId(0)),
        ),
        (
            Change::RemovePeer { id: PeerId(9) },
            Refusal::NoPeer(PeerId(9)),
        ),
        (add_tunnel(0, 1, 1), Refusal::InUse),
        (add_tunnel(TunnelId::LIMIT, 1, 1), Refusal::IdTooLarge),
        (add_tunnel(5, 1, 0), Refusal::TunnelExists(TunnelId(0))),
        (add_tunnel(5, 3, 0), Refusal::NoVn(VnId(3))),
        (add_tunnel(5, 1, 9), Refusal::NoPeer(PeerId(9))),
        (
            Change::RemoveTunnel { id: TunnelId(9) },
            Refusal::NoTunnel(TunnelId(9)),
        ),
        (add_mapping(3, 1, PORT(0), 5), Refusal::NoVn(VnId(3))),
        (add_mapping(1, 9, PORT(9), 5), Refusal::NoPort(PortId(9))),
        (add_mapping(1, 9, PORT(1), 5), Refusal::OtherVn(VnId(2))),
        (add_mapping(1, 9, TUNNEL(1), 5), Refusal::OtherVn(VnId(2))),
        (add_mapping(1, 1, TUNNEL(0), 1), old(1, 1)),
        (add_mapping(1, 1, TUNNEL(0), 0), old(1, 0)),
        (withdraw(1, 0), old(1, 0)),
        (
            withdraw(9, 9),
            Refusal::NoMapping {
                vn: VnId(1),
                mac: mac(9),
            },
        ),
        (
            Change::FlushLearned(FlushScope::Vn(VnId(3))),
            Refusal::NoVn(VnId(3)),
        ),
    ];
    for (change, refusal) in cases {
        // After changes that are fine, and with one more behind that is fine.
        let list = [add_vn(7, 700), add_port(70, 7), change, add_port(71, 7)];
        refused(&list, 2, refusal);
    }
    for address in [
        MacAddr::ZERO,
        MacAddr::BROADCAST,
        MacAddr([0x33, 0x33, 0, 0, 0, 1]),
    ] {
        let mapping = Mapping {
            ips: [].into(),
            destination: PORT(0),
            generation: 1,
        };
        let change = Change::AddMapping {
            vn: VnId(1),
            mac: address,
            mapping,
        };
        refused(&[change], 0, Refusal::NotAStation(address));
    }
    for address in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"] {
        let peer = Peer {
            addresses: [address.parse().expect("an address")].into(),
            encapsulation: Encapsulation::Vxlan,
        };
        refused(
            &[Change::AddPeer {
                id: PeerId(9),
                peer,
            }],
            0,
            Refusal::BadAddresses,
        );
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    let error = example()
        .transact(&[add_vn(7, 700), add_vn(3, 200)])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "change 1: VNI 200 belongs to virtual network 2"
    );
}

#[test]
fn a_removed_network_takes_everything_along() {
    let mut tables = example();
    tables
        .transact(&[Change::RemoveVn { id: VnId(1) }])
        .unwrap();
    assert_consistent(&tables);
    assert_eq!(tables.vn_by_vni(vni(100)), None);
    assert_eq!(tables.port(PortId(0)), None);
    assert_eq!(tables.tunnel(TunnelId(0)), None);
    assert_eq!(tables.fdb().len(), 2);
    assert_eq!(tables.lookup(VnId(2), mac(2)), Some(TUNNEL(1)));
    // Its ids are free, and nothing of the old one comes back.
    tables
        .transact(&[add_vn(1, 100), add_port(0, 1), add_tunnel(0, 1, 0)])
        .unwrap();
    assert_consistent(&tables);
    assert_eq!(tables.lookup(VnId(1), mac(1)), None);
}

#[test]
fn a_removed_port_or_tunnel_takes_its_mappings_along() {
    let mut tables = example();
    let changes = [
        Change::RemovePort { id: PortId(0) },
        add_port(0, 2),
        Change::RemoveTunnel { id: TunnelId(0) },
        add_tunnel(0, 2, 1),
        // Generation 1 again: the old mapping is gone.
        add_mapping(2, 7, PORT(0), 1),
        add_mapping(2, 8, TUNNEL(0), 1),
    ];
    tables.transact(&changes).unwrap();
    assert_consistent(&tables);
    assert_eq!(tables.lookup(VnId(1), mac(1)), None);
    assert_eq!(tables.lookup(VnId(1), mac(2)), None);
    assert_eq!(
        tables.vn(VnId(2)).unwrap().flood_ports,
        [PortId(1), PortId(0)]
    );
    assert_eq!(tables.vn(VnId(1)).unwrap().flood_tunnels, []);
}

#[test]
fn what_went_within_a_list_is_gone_for_the_rest_of_it() {
    let again = [
        Change::RemoveVn { id: VnId(1) },
        add_vn(1, 100),
        add_port(0, 1),
    ];
    let withdraw = |n| Change::RemoveMapping {
        vn: VnId(1),
        mac: mac(n),
        generation: 9,
    };
    let gone = |n| Refusal::NoMapping {
        vn: VnId(1),
        mac: mac(n),
    };
    // Mappings below the list: generation 0 is older than what went with the network.
    let mut list = again.to_vec();
    list.push(add_mapping(1, 1, PORT(0), 0));
    let mut tables = example();
    tables.transact(&list).unwrap();
    assert_consistent(&tables);
    assert_eq!(
        tables
            .mapping(VnId(1), mac(1))
            .map(|mapping| mapping.generation),
        Some(0)
    );
    list.push(withdraw(2));
    refused(&list, 4, gone(2));
    // Mappings of the list itself.
    let list = [
        add_port(5, 1),
        add_mapping(1, 7, PORT(5), 9),
        Change::RemovePort { id: PortId(5) },
        add_port(5, 1),
        add_mapping(1, 7, PORT(5), 1),
    ];
    let mut tables = example();
    tables.transact(&list).unwrap();
    assert_consistent(&tables);
    assert_eq!(tables.lookup(VnId(1), mac(7)), Some(PORT(5)));
    let mut list = vec![add_mapping(1, 7, PORT(0), 9)];
    list.extend(again);
    list.push(withdraw(7));
    refused(&list, 4, gone(7));
}

#[test]
fn updates_reach_the_tunnels() {
    let mut tables = example();
    let config = VnConfig {
        protection: Protection::Integrity,
        unknown_unicast: UnknownUnicast::Flood,
        ..VnConfig::new(vni(101), 9000)
    };
    let moved = Peer {
        encapsulation: Encapsulation::Vxlan,
        ..peer(&[11, 12])
    };
    let changes = [
        Change::UpdateVn {
            id: VnId(1),
            config,
        },
        Change::UpdatePeer {
            id: PeerId(0),
            peer: moved,
        },
        Change::SetFlood {
            id: TunnelId(0),
            flood: false,
        },
        // What was given up can be taken by others at once.
        add_vn(3, 100),
        add_peer(3, &[10]),
    ];
    tables.transact(&changes).unwrap();
    assert_consistent(&tables);
    let tunnel = tables.tunnel(TunnelId(0)).unwrap();
    assert_eq!(
        (tunnel.vni, tunnel.protection),
        (vni(101), Protection::Integrity)
    );
    assert_eq!(tunnel.encapsulation, Encapsulation::Vxlan);
    assert_eq!(tables.vn(VnId(1)).unwrap().flood_tunnels, []);
    assert_eq!(tables.lookup(VnId(1), mac(2)), Some(TUNNEL(0)));
}

#[test]
fn a_newer_mapping_moves_the_address() {
    let mut tables = example();
    tables.transact(&[add_mapping(1, 1, TUNNEL(0), 2)]).unwrap();
    assert_eq!(tables.lookup(VnId(1), mac(1)), Some(TUNNEL(0)));
    assert_eq!(tables.mapping(VnId(1), mac(1)).unwrap().generation, 2);
    let withdraw = |generation| Change::RemoveMapping {
        vn: VnId(1),
        mac: mac(1),
        generation,
    };
    assert!(tables.transact(&[withdraw(1)]).is_err());
    tables.transact(&[withdraw(2)]).unwrap();
    assert_eq!(tables.lookup(VnId(1), mac(1)), None);
    assert_eq!(tables.mapping(VnId(1), mac(1)), None);
    assert_consistent(&tables);
}

fn any_destination() -> impl Strategy<Value = Destination> {
    prop_oneof![(0u16..4).prop_map(PORT), (0u32..4).prop_map(TUNNEL)]
}

/// Changes over so few ids that many of them meet.
fn any_change() -> impl Strategy<Value = Change> {
    let config = (0u32..4, any::<bool>(), 0u32..3).prop_map(|(n, learning, limit)| VnConfig {
        learning,
        learning_limit: limit * 2,
        protection: if learning {
            Protection::None
        } else {
            Protection::Confidential
        },
        ..VnConfig::new(vni(n), 1500)
    });
    let port = (0u16..3, any::<bool>(), 1u16..5).prop_map(|(vn, learning, vid)| Port {
        vn: VnId(vn),
        kind: if learning {
            PortKind::Vlan { vid }
        } else {
            PortKind::Tenant
        },
        learning,
    });
    let edge =
        (prop::collection::vec(1u8..6, 1..3), any::<bool>()).prop_map(|(list, vxlan)| Peer {
            encapsulation: if vxlan {
                Encapsulation::Vxlan
            } else {
                Encapsulation::Geneve
            },
            ..peer(&list)
        });
    let (vn, port_id) = ((0u16..3).prop_map(VnId), (0u16..4).prop_map(PortId));
    let (peer_id, tunnel) = ((0u32..3).prop_map(PeerId), (0u32..4).prop_map(TunnelId));
    prop_oneof![
        4 => (vn.clone(), config.clone()).prop_map(|(id, config)| Change::AddVn { id, config }),
        2 => (vn.clone(), config).prop_map(|(id, config)| Change::UpdateVn { id, config }),
        1 => vn.clone().prop_map(|id| Change::RemoveVn { id }),
        4 => (port_id.clone(), port).prop_map(|(id, port)| Change::AddPort { id, port }),
        1 => port_id.prop_map(|id| Change::RemovePort { id }),
        4 => (peer_id.clone(), edge.clone()).prop_map(|(id, peer)| Change::AddPeer { id, peer }),
        2 => (peer_id.clone(), edge).prop_map(|(id, peer)| Change::UpdatePeer { id, peer }),
        1 => peer_id.clone().prop_map(|id| Change::RemovePeer { id }),
        4 => (tunnel.clone(), vn.clone(), peer_id, any::<bool>())
            .prop_map(|(id, vn, peer, flood)| Change::AddTunnel { id, vn, peer, flood }),
        2 => (tunnel.clone(), any::<bool>())
            .prop_map(|(id, flood)| Change::SetFlood { id, flood }),
        1 => tunnel.prop_map(|id| Change::RemoveTunnel { id }),
        8 => (0u16..3, 1u64..5, any_destination(), 0u64..6)
            .prop_map(|(vn, n, at, generation)| add_mapping(vn, n, at, generation)),
        2 => (vn.clone(), 1u64..5, 0u64..6)
            .prop_map(|(vn, n, generation)| Change::RemoveMapping { vn, mac: mac(n), generation }),
        1 => Just(Change::FlushLearned(FlushScope::All)),
        1 => vn.prop_map(|vn| Change::FlushLearned(FlushScope::Vn(vn))),
        1 => any_destination().prop_map(|at| Change::FlushLearned(FlushScope::Destination(at))),
    ]
}

fn learn_something(tables: &mut Tables, seen: &[(u16, u64, Destination)]) -> usize {
    let learned = seen
        .iter()
        .filter(|(vn, n, at)| tables.learn(VnId(*vn), mac(*n), *at, 0) == Learn::New);
    learned.count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// A master without learned entries and a worker with some agree about every list, and a
    /// list is valid if and only if its changes are, one after the other.
    #[test]
    fn lists_are_whole_or_nothing(
        lists in prop::collection::vec(
            prop::collection::vec((any_change(), prop::bool::weighted(0.02)), 1..60),
            1..8,
        ),
        seen in prop::collection::vec((0u16..3, 1u64..8, any_destination()), 0..10),
    ) {
        let mut master = Tables::new(1);
        let mut worker = Tables::new(2);
        for candidates in lists {
            // One at a time, each validated against real tables and not against a draft. Most
            // candidates that are refused are left out, else hardly any list would be valid.
            let mut single = master.clone();
            let mut list = Vec::new();
            let mut first_bad = None;
            for (change, even_if_bad) in candidates {
                let good = single.transact(std::slice::from_ref(&change)).is_ok();
                if !good && even_if_bad {
                    first_bad = first_bad.or(Some(list.len()));
                }
                if good || even_if_bad {
                    list.push(change);
                }
            }
            let verdict = master.validate(&list);
            prop_assert_eq!(verdict.as_ref().err().map(|error| error.index), first_bad);
            prop_assert_eq!(worker.validate(&list), verdict.clone());

            let before = master.clone();
            prop_assert_eq!(master.transact(&list), verdict.clone());
            if verdict.is_err() {
                prop_assert_eq!(&master, &before);
                continue;
            }
            prop_assert_eq!(&master, &single);
            worker.apply_all(&list);
            assert_consistent(&worker);
            assert_consistent(&master);
            let mut forgetful = worker.clone();
            forgetful.apply(&Change::FlushLearned(FlushScope::All));
            prop_assert_eq!(&forgetful, &master);
            learn_something(&mut worker, &seen);
            assert_consistent(&worker);
        }
    }

    /// A list that was never validated does no harm either.
    #[test]
    fn apply_never_panics(list in prop::collection::vec(any_change(), 0..60)) {
        let mut tables = Tables::new(1);
        for change in &list {
            tables.apply(change);
        }
        prop_assert!(tables.fdb().len() >= tables.mappings().count());
    }
}
