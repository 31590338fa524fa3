//! Change lists one by one: what is refused, what goes along, what is left.

use std::net::Ipv4Addr;

use crate::common::*;
use vswitch_net::{Encapsulation, MacAddr};
use vswitch_vn::{
    Change, FlushScope, Key, Mapping, Peer, PeerId, Port, PortId, PortKind, Protection, Refusal,
    TunnelId, UnknownUnicast, VnConfig, VnId,
};

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
