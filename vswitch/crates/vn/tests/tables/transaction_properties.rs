//! Change lists by chance: whole or not at all, and the same result everywhere.

use crate::common::*;
use proptest::prelude::*;
use vswitch_net::Encapsulation;
use vswitch_vn::{
    Change, Destination, FlushScope, Learn, Peer, PeerId, Port, PortId, PortKind, Protection,
    Tables, TunnelId, VnConfig, VnId,
};

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
        8 => (0u16..3, 1u64..5, prop::collection::vec(1u8..4, 0..3), any_destination(), 0u64..6)
            .prop_map(|(vn, n, ips, at, generation)| add_mapping_of(vn, n, &ips, at, generation)),
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
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 500 }))]

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
        let listed: usize = tables.mappings().map(|(_, mapping)| mapping.ips.len()).sum();
        let held: u32 = tables.held_addresses().map(|(_, _, count)| count).sum();
        prop_assert_eq!(held as usize, listed);
    }
}
