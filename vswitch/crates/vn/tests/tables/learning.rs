//! Learning, ageing, and what a remote edge may say.

use proptest::prelude::*;
use vswitch_net::{Encapsulation, MacAddr, Vni};
use vswitch_vn::{
    Change, Destination, FlushScope, Learn, Mapping, Peer, PeerId, Port, PortId, PortKind,
    RemoteSpoof, SourceVerdict, Tables, TunnelId, VnConfig, VnId,
};

/// Learns from tunnels.
const OPEN: VnId = VnId(0);
/// Does not.
const CLOSED: VnId = VnId(1);
const UPLINK: Destination = Destination::Port(PortId(0));
const TENANT: Destination = Destination::Port(PortId(1));
const CLOSED_UPLINK: Destination = Destination::Port(PortId(2));
const NEAR: Destination = Destination::Tunnel(TunnelId(0));
const FAR: Destination = Destination::Tunnel(TunnelId(1));
const CLOSED_TUNNEL: Destination = Destination::Tunnel(TunnelId(2));
const LIMIT: u32 = 20;

fn mac(n: u64) -> MacAddr {
    MacAddr::from_u64(0x5254_0000_0000 + n)
}

fn config(n: u32, learning: bool) -> VnConfig {
    VnConfig {
        learning,
        learning_age: 60,
        learning_limit: LIMIT,
        ..VnConfig::new(Vni::new(n).expect("24 bits"), 1500)
    }
}

fn map(vn: VnId, n: u64, destination: Destination) -> Change {
    let mapping = Mapping {
        ips: [].into(),
        destination,
        generation: 1,
    };
    Change::AddMapping {
        vn,
        mac: mac(n),
        mapping,
    }
}

fn tables() -> Tables {
    let port = |id, vn, learning| Change::AddPort {
        id: PortId(id),
        port: Port {
            vn,
            kind: if learning {
                PortKind::Vlan { vid: 100 }
            } else {
                PortKind::Tenant
            },
            learning,
        },
    };
    let peer = |id: u8| Change::AddPeer {
        id: PeerId(id.into()),
        peer: Peer {
            addresses: [[192, 0, 2, id].into()].into(),
            encapsulation: Encapsulation::Geneve,
        },
    };
    let tunnel = |id, vn, peer| Change::AddTunnel {
        id: TunnelId(id),
        vn,
        peer: PeerId(peer),
        flood: true,
    };
    let mut tables = Tables::new(0x5eed);
    let changes = [
        Change::AddVn {
            id: OPEN,
            config: config(100, true),
        },
        Change::AddVn {
            id: CLOSED,
            config: config(200, false),
        },
        peer(1),
        peer(2),
        port(0, OPEN, true),
        port(1, OPEN, false),
        port(2, CLOSED, true),
        tunnel(0, OPEN, 1),
        tunnel(1, OPEN, 2),
        tunnel(2, CLOSED, 1),
    ];
    tables.transact(&changes).expect("the changes are valid");
    tables
}

#[test]
fn new_refreshed_moved() {
    let mut t = tables();
    assert_eq!(t.learn(OPEN, mac(1), NEAR, 10), Learn::New);
    assert_eq!(
        t.learn(OPEN, mac(1), NEAR, 10),
        Learn::Refreshed { before: 10 }
    );
    assert_eq!(
        t.learn(OPEN, mac(1), NEAR, 20),
        Learn::Refreshed { before: 10 }
    );
    assert_eq!(t.learn(OPEN, mac(1), FAR, 20), Learn::Moved);
    assert_eq!(t.learn(OPEN, mac(1), UPLINK, 20), Learn::Moved);
    assert_eq!(t.lookup(OPEN, mac(1)), Some(UPLINK));
    assert_eq!(t.source_of(OPEN, mac(1)), Some(UPLINK));
    assert_eq!(t.lookup(CLOSED, mac(1)), None);
    assert_eq!(t.vn(OPEN).map(|vn| vn.learned()), Some(1));
}

#[test]
fn learns_only_where_it_may() {
    let mut t = tables();
    let off = Learn::RefusedOff;
    assert_eq!(t.learn(OPEN, mac(1), TENANT, 0), off);
    assert_eq!(t.learn(CLOSED, mac(1), CLOSED_TUNNEL, 0), off);
    assert_eq!(t.learn(CLOSED, mac(1), CLOSED_UPLINK, 0), Learn::New);
    // Ports and tunnels of other networks, and things that are not there.
    assert_eq!(t.learn(OPEN, mac(1), CLOSED_UPLINK, 0), off);
    assert_eq!(t.learn(OPEN, mac(1), CLOSED_TUNNEL, 0), off);
    assert_eq!(t.learn(OPEN, mac(1), Destination::Port(PortId(9)), 0), off);
    assert_eq!(t.learn(VnId(9), mac(1), UPLINK, 0), off);
    for group in [
        MacAddr::BROADCAST,
        MacAddr([1, 0, 0x5e, 0, 0, 1]),
        MacAddr::ZERO,
    ] {
        assert_eq!(t.learn(OPEN, group, UPLINK, 0), Learn::RefusedAddress);
    }
}

#[test]
fn a_mapping_stands() {
    let mut t = tables();
    t.transact(&[map(OPEN, 1, TENANT)]).unwrap();
    assert_eq!(t.learn(OPEN, mac(1), NEAR, 0), Learn::RefusedStatic);
    assert_eq!(t.lookup(OPEN, mac(1)), Some(TENANT));
    // And it replaces what was learned.
    assert_eq!(t.learn(OPEN, mac(2), NEAR, 0), Learn::New);
    t.transact(&[map(OPEN, 2, FAR)]).unwrap();
    assert_eq!(t.lookup(OPEN, mac(2)), Some(FAR));
    assert_eq!(t.vn(OPEN).map(|vn| vn.learned()), Some(0));
    assert_eq!(t.expire(1_000_000), 0);
    assert_eq!(t.lookup(OPEN, mac(2)), Some(FAR));
}

#[test]
fn bounded_per_network() {
    let mut t = tables();
    let outcomes: Vec<_> = (0..2 * u64::from(LIMIT))
        .map(|n| t.learn(OPEN, mac(n), NEAR, 0))
        .collect();
    let new = outcomes.iter().filter(|&&outcome| outcome == Learn::New);
    assert_eq!(new.count(), LIMIT as usize);
    assert_eq!(outcomes.last(), Some(&Learn::RefusedFull));
    // Known ones may still move; another network has a limit of its own.
    assert_eq!(t.learn(OPEN, mac(0), FAR, 0), Learn::Moved);
    assert_eq!(t.learn(CLOSED, mac(0), CLOSED_UPLINK, 0), Learn::New);
    t.apply(&Change::FlushLearned(FlushScope::Vn(OPEN)));
    assert_eq!(t.fdb().len(), 1);
    assert_eq!(t.learn(OPEN, mac(99), NEAR, 0), Learn::New);
}

#[test]
fn a_full_table_grows_between_bursts() {
    let mut t = tables();
    let unbounded = VnConfig {
        learning_limit: VnConfig::MAX_LEARNED,
        ..config(100, true)
    };
    t.transact(&[Change::UpdateVn {
        id: OPEN,
        config: unbounded,
    }])
    .unwrap();
    let mut known = 0;
    for round in 0..10 {
        while t.learn(OPEN, mac(known), NEAR, 0) == Learn::New {
            known += 1;
        }
        assert_eq!(t.fdb().len(), t.fdb().capacity(), "round {round}");
        let size = t.fdb().memory_bytes();
        assert_eq!(t.maintain(0, 64), 0);
        assert!(t.fdb().memory_bytes() > size);
    }
    assert!(known > 10_000, "{known} entries");
    assert_eq!(
        (0..known)
            .filter(|&n| t.lookup(OPEN, mac(n)) == Some(NEAR))
            .count() as u64,
        known
    );
}

#[test]
fn ageing() {
    let mut t = tables();
    // Around a point where the kept 29 bits of time wrap.
    let start = (1u64 << 32) - 30;
    assert_eq!(t.learn(OPEN, mac(1), NEAR, start), Learn::New);
    assert_eq!(t.learn(OPEN, mac(2), NEAR, start), Learn::New);
    assert_eq!(t.expire(start + 60), 0);
    assert_eq!(
        t.learn(OPEN, mac(2), NEAR, start + 50),
        Learn::Refreshed { before: start }
    );
    // A clock that went back ages nothing.
    assert_eq!(t.expire(start - 1000), 0);
    let before = start - 1000;
    assert_eq!(
        t.learn(OPEN, mac(2), NEAR, before),
        Learn::Refreshed { before }
    );
    let outcome = t.learn(OPEN, mac(2), NEAR, start + 50);
    assert_eq!(outcome, Learn::Refreshed { before });
    assert_eq!(t.expire(start + 61), 1);
    assert_eq!(t.lookup(OPEN, mac(1)), None);
    assert_eq!(t.lookup(OPEN, mac(2)), Some(NEAR));
    assert_eq!(t.vn(OPEN).map(|vn| vn.learned()), Some(1));
    // In small steps, the whole table in memory / 16 / slots calls.
    let calls = t.fdb().memory_bytes() / 16 / 8;
    let removed: usize = (0..calls).map(|_| t.maintain(start + 111, 8)).sum();
    assert_eq!(removed, 1);
    assert!(t.fdb().is_empty());
}

#[test]
fn learning_turned_off_forgets_tunnels_only() {
    let mut t = tables();
    t.learn(OPEN, mac(1), NEAR, 0);
    t.learn(OPEN, mac(2), UPLINK, 0);
    let off = Change::UpdateVn {
        id: OPEN,
        config: config(100, false),
    };
    t.transact(&[off]).unwrap();
    assert_eq!(t.lookup(OPEN, mac(1)), None);
    assert_eq!(t.lookup(OPEN, mac(2)), Some(UPLINK));
    assert_eq!(t.vn(OPEN).map(|vn| vn.learned()), Some(1));
}

#[test]
fn remote_sources() {
    let mut t = tables();
    let (near, far, closed) = (TunnelId(0), TunnelId(1), TunnelId(2));
    t.transact(&[
        map(OPEN, 1, NEAR),
        map(OPEN, 2, TENANT),
        map(CLOSED, 1, CLOSED_TUNNEL),
        map(CLOSED, 2, CLOSED_UPLINK),
    ])
    .unwrap();
    let elsewhere = Err(RemoteSpoof::MappedElsewhere);
    assert_eq!(
        t.check_remote_source(OPEN, mac(1), near),
        Ok(SourceVerdict::Mapped)
    );
    assert_eq!(t.check_remote_source(OPEN, mac(1), far), elsewhere);
    assert_eq!(t.check_remote_source(OPEN, mac(2), near), elsewhere);
    assert_eq!(
        t.check_remote_source(OPEN, mac(3), near),
        Ok(SourceVerdict::Learn)
    );
    // Learned elsewhere is not mapped elsewhere: stations move.
    assert_eq!(t.learn(OPEN, mac(3), FAR, 0), Learn::New);
    assert_eq!(
        t.check_remote_source(OPEN, mac(3), near),
        Ok(SourceVerdict::Learn)
    );

    let unmapped = Err(RemoteSpoof::Unmapped);
    assert_eq!(
        t.check_remote_source(CLOSED, mac(1), closed),
        Ok(SourceVerdict::Mapped)
    );
    assert_eq!(t.check_remote_source(CLOSED, mac(2), closed), elsewhere);
    assert_eq!(t.check_remote_source(CLOSED, mac(3), closed), unmapped);
    assert_eq!(t.learn(CLOSED, mac(4), CLOSED_UPLINK, 0), Learn::New);
    assert_eq!(t.check_remote_source(CLOSED, mac(4), closed), unmapped);

    // The right peer, but its tunnel of another network.
    let tunnel = Err(RemoteSpoof::Tunnel);
    assert_eq!(t.check_remote_source(CLOSED, mac(1), near), tunnel);
    assert_eq!(t.check_remote_source(OPEN, mac(1), closed), tunnel);
    assert_eq!(t.check_remote_source(OPEN, mac(1), TunnelId(9)), tunnel);
    for group in [MacAddr::BROADCAST, MacAddr([3; 6]), MacAddr::ZERO] {
        assert_eq!(
            t.check_remote_source(OPEN, group, near),
            Err(RemoteSpoof::Address)
        );
    }
}

proptest! {
    /// Whatever is observed, in whatever order, mappings answer as before.
    #[test]
    fn learning_never_overrides(
        mapped in prop::collection::btree_map(0u64..30, prop::sample::select(vec![UPLINK, TENANT, NEAR, FAR]), 0..20),
        seen in prop::collection::vec((0u64..60, prop::sample::select(vec![UPLINK, TENANT, NEAR, FAR]), 0u64..200), 0..300),
    ) {
        let mut t = tables();
        let changes: Vec<_> = mapped.iter().map(|(&n, &at)| map(OPEN, n, at)).collect();
        t.transact(&changes).unwrap();
        for (n, at, now) in seen {
            let outcome = t.learn(OPEN, mac(n), at, now);
            if mapped.contains_key(&n) {
                prop_assert!(matches!(outcome, Learn::RefusedStatic | Learn::RefusedOff));
            }
            t.maintain(now, 16);
            let learned = t.vn(OPEN).map_or(0, |vn| vn.learned());
            prop_assert!(learned <= LIMIT);
            prop_assert_eq!(t.fdb().len(), mapped.len() + learned as usize);
            for (&n, &at) in &mapped {
                prop_assert_eq!(t.lookup(OPEN, mac(n)), Some(at));
            }
        }
        let learned = t.fdb().len() - mapped.len();
        prop_assert_eq!(t.expire(10_000), learned);
        prop_assert_eq!(t.fdb().len(), mapped.len());
    }
}

#[test]
fn addresses_of_others() {
    let mut t = tables();
    let of = |vn, n, ips: &[&str], generation| Change::AddMapping {
        vn,
        mac: mac(n),
        mapping: Mapping {
            ips: ips
                .iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect(),
            destination: if vn == OPEN { NEAR } else { CLOSED_TUNNEL },
            generation,
        },
    };
    let (own, shared, v6) = ("10.0.0.1", "10.0.0.254", "fd00::1");
    t.transact(&[
        of(OPEN, 1, &[own, shared, v6], 1),
        of(OPEN, 2, &[shared], 1),
        of(OPEN, 3, &[], 1),
    ])
    .unwrap();
    let held = |t: &Tables, vn, n, ip: &str| t.is_held_by_other(vn, mac(n), ip.parse().unwrap());
    // A station without addresses, and one that was never heard of.
    for n in [3, 9] {
        for ip in [own, shared, v6] {
            assert!(held(&t, OPEN, n, ip), "{ip}");
            assert!(!held(&t, CLOSED, n, ip), "{ip} in another network");
        }
        assert!(!held(&t, OPEN, n, "10.0.0.2"));
    }
    assert!(!held(&t, OPEN, 1, own) && !held(&t, OPEN, 1, shared));
    assert!(held(&t, OPEN, 2, own) && !held(&t, OPEN, 2, shared));
    // Link-local addresses belong to who they were made of, listed or not.
    let made_of_3 = "fe80::5054:ff:fe00:3";
    assert!(held(&t, OPEN, 9, made_of_3) && !held(&t, OPEN, 3, made_of_3));
    assert!(!held(&t, OPEN, 9, "fe80::5054:ff:fe00:9"));
    // The last one who lists it takes it along.
    t.transact(&[of(OPEN, 1, &["10.0.0.7"], 2)]).unwrap();
    assert!(!held(&t, OPEN, 9, own) && held(&t, OPEN, 9, shared));
    let tunnel = Change::RemoveTunnel { id: TunnelId(0) };
    t.transact(&[tunnel]).unwrap();
    assert_eq!(t.held_addresses().count(), 0);
}
