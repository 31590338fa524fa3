//! Registering, moving, leaving, leases, resuming.

use std::time::Duration;

use vswitch_control::message::ima::{Goodbye, Refusal, Rejection, VnFromEdge, VnFromIma, Wanted};
use vswitch_control::message::operator::Change;
use vswitch_control::message::overlay::Admission;
use vswitch_control::types::Generation;

use super::world::{World, ips, mac, nve, placement, vn};
use crate::engine::{EdgeRequest, Engine, Limits, Reply};

fn registered(answer: Option<VnFromIma>) -> Generation {
    match answer {
        Some(VnFromIma::Registered { generation, .. }) => generation,
        other => panic!("{other:?}"),
    }
}

fn rejected(answer: Option<VnFromIma>) -> Rejection {
    match answer {
        Some(VnFromIma::Rejected { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

/// Two edges in a strict VN, a machine on the first.
fn two(limits: Limits) -> World {
    let mut world = World::new(limits);
    world.declare("red", 1, Admission::Strict, &["a", "b"]);
    let placement = placement(1, "a", "vm1");
    world
        .change(Change::PlacementAdd {
            vn: vn("red"),
            placement,
        })
        .unwrap();
    for name in ["a", "b"] {
        world.connect(name);
        world.join(name, "red").unwrap();
    }
    registered(world.register("a", "red", "vm1", 1));
    world
}

#[test]
fn everyone_is_told_and_nobody_else() {
    let mut world = two(Limits::default());
    world.declare("blue", 2, Admission::Strict, &["c"]);
    world.connect("c");
    world.join("c", "blue").unwrap();
    assert_eq!(world.view("b", "red").mappings[&mac(1)].nve, nve("a"));
    assert_eq!(world.view("b", "red").members.len(), 2);
    assert_eq!(world.view("c", "blue").members.len(), 1);
    assert!(world.view("c", "blue").mappings.is_empty());
    assert_eq!(world.join("c", "red"), Err(Refusal::NotMember));
    assert_eq!(
        world.join("c", "nowhere"),
        Err(Refusal::NotMember),
        "not told which"
    );
}

#[test]
fn a_machine_moves_and_cannot_be_won_back() {
    let mut world = two(Limits::default());
    let old = world.view("b", "red").mappings[&mac(1)].generation;
    let to_b = Change::PlacementMove {
        vn: vn("red"),
        mac: mac(1),
        nve: nve("b"),
        port: Some("vm9".parse().unwrap()),
    };
    assert_eq!(world.change(to_b.clone()), Ok(true));
    assert_eq!(world.change(to_b), Ok(false), "it is there already");
    assert!(
        world.view("a", "red").mappings.is_empty(),
        "the old one's mapping is gone"
    );
    assert_eq!(
        world.edges[&nve("b")].hints,
        1,
        "the new edge is told to try"
    );
    assert_eq!(
        rejected(world.register("a", "red", "vm1", 1)),
        Rejection::NotPlaced
    );
    assert_eq!(
        rejected(world.register("b", "red", "vm1", 1)),
        Rejection::OtherPort
    );
    let new = registered(world.register("b", "red", "vm9", 1));
    assert!(new > old);
    for name in ["a", "b"] {
        assert_eq!(world.view(name, "red").mappings[&mac(1)].nve, nve("b"));
    }
    assert_eq!(
        rejected(world.register("a", "red", "vm1", 1)),
        Rejection::NotPlaced
    );
    world.say("a", "red", VnFromEdge::Withdraw { mac: mac(1) });
    assert_eq!(world.view("a", "red").mappings[&mac(1)].generation, new);
}

#[test]
fn generations_grow_over_deletions_too() {
    let mut world = two(Limits::default());
    let mut last = world.view("b", "red").mappings[&mac(1)].generation;
    assert_eq!(
        registered(world.register("a", "red", "vm1", 1)),
        last,
        "nothing new"
    );
    for _ in 0..3 {
        world.say("a", "red", VnFromEdge::Withdraw { mac: mac(1) });
        assert!(world.view("b", "red").mappings.is_empty());
        let next = registered(world.register("a", "red", "vm1", 1));
        assert!(next > last);
        last = next;
    }
}

#[test]
fn leaving_withdraws_everything() {
    let mut world = two(Limits::default());
    world.ask(&nve("a"), &EdgeRequest::Leave { vn: vn("red") });
    let view = world.view("b", "red");
    assert!(view.mappings.is_empty());
    assert_eq!(view.members.keys().collect::<Vec<_>>(), [&nve("b")]);
    assert_eq!(
        world.register("a", "red", "vm1", 1),
        None,
        "its seat is gone"
    );
}

#[test]
fn mappings_outlive_the_session_but_not_the_lease() {
    let limits = Limits::default();
    let mut world = two(limits);
    world.disconnect("a");
    world.now += limits.lease - Duration::from_secs(1);
    // b renews in time.
    assert!(matches!(
        world.ask(&nve("b"), &EdgeRequest::Renew { sequence: 7 }),
        Some(Reply::Renewed {
            sequence: 7,
            lease: 3600
        })
    ));
    assert_eq!(world.view("b", "red").mappings.len(), 1);
    world.now += Duration::from_secs(1);
    world.sweep();
    world.deliver();
    assert!(world.view("b", "red").mappings.is_empty());
    assert_eq!(world.view("b", "red").members.len(), 1);
    // An edge that stays connected but does not renew loses its seat.
    world.now += limits.lease;
    world.sweep();
    world.deliver();
    assert!(world.edges[&nve("b")].views.is_empty(), "expelled");
    assert!(
        world
            .stored
            .keys()
            .all(|key| !key.to_string().starts_with("edge/"))
    );
    world.join("b", "red").unwrap();
    assert_eq!(world.view("b", "red").members.len(), 1);
}

#[test]
fn a_new_server_takes_over_where_the_old_one_was() {
    let mut world = two(Limits::default());
    let before = world.view("b", "red").clone();
    let records = world.stored.clone();
    world.engine = Engine::new(Limits::default(), records, world.now);
    for edge in world.edges.values_mut() {
        edge.session = None;
    }
    world.sweep();
    world.connect("b");
    world.join("b", "red").unwrap();
    assert_eq!(world.view("b", "red").mappings, before.mappings);
    assert_eq!(
        world.view("b", "red").fulls,
        before.fulls,
        "nothing was told twice"
    );
    // What ended while it was away is not remembered by a new server: it is told everything.
    world.disconnect("b");
    world.connect("a");
    world.join("a", "red").unwrap();
    world.say("a", "red", VnFromEdge::Withdraw { mac: mac(1) });
    world.connect("b");
    world.join("b", "red").unwrap();
    assert!(world.view("b", "red").mappings.is_empty());
}

#[test]
fn who_is_behind_gets_the_difference_or_everything() {
    for (log, fulls) in [(100, 1), (2, 2)] {
        let mut world = two(Limits {
            log,
            ..Limits::default()
        });
        world.disconnect("b");
        for _ in 0..5 {
            world.say("a", "red", VnFromEdge::Withdraw { mac: mac(1) });
            registered(world.register("a", "red", "vm1", 1));
        }
        world.say("a", "red", VnFromEdge::Withdraw { mac: mac(1) });
        world.connect("b");
        world.join("b", "red").unwrap();
        let view = world.view("b", "red");
        assert!(view.mappings.is_empty());
        assert_eq!(view.fulls, fulls, "a log of {log}");
    }
}

#[test]
fn the_first_claim_wins() {
    let mut world = World::new(Limits::default());
    world.declare("lab", 3, Admission::FirstClaim, &["a", "b"]);
    for name in ["a", "b"] {
        world.connect(name);
        world.join(name, "lab").unwrap();
    }
    registered(world.register("a", "lab", "p", 1));
    assert_eq!(
        rejected(world.register("b", "lab", "p", 1)),
        Rejection::Taken
    );
    let port = "p".parse().unwrap();
    let same_ip = VnFromEdge::Register {
        port,
        mac: mac(2),
        ips: ips(&[1]),
    };
    assert_eq!(rejected(world.say("b", "lab", same_ip)), Rejection::Taken);
    // What an operator places comes before any claim.
    let placement = placement(1, "b", "p");
    world
        .change(Change::PlacementAdd {
            vn: vn("lab"),
            placement,
        })
        .unwrap();
    assert!(world.view("a", "lab").mappings.is_empty());
    registered(world.register("b", "lab", "p", 1));
    assert_eq!(
        rejected(world.register("a", "lab", "p", 1)),
        Rejection::NotPlaced
    );
}

#[test]
fn queries_are_answered_to_members() {
    let mut world = two(Limits::default());
    let query = |id, what| VnFromEdge::Query { id, what };
    let by_ip = world.say("b", "red", query(1, Wanted::Ip([10, 0, 0, 1].into())));
    let Some(VnFromIma::Answer {
        id: 1,
        mapping: Some(mapping),
        ..
    }) = by_ip
    else {
        panic!()
    };
    assert_eq!((mapping.mac, mapping.nve), (mac(1), nve("a")));
    let nobody = world.say("b", "red", query(2, Wanted::Mac(mac(9))));
    assert_eq!(
        nobody,
        Some(VnFromIma::Answer {
            id: 2,
            mapping: None,
            ttl: 5
        })
    );
}

#[test]
fn a_large_vn_comes_in_parts() {
    let mut world = World::new(Limits::default());
    world.declare("lab", 3, Admission::FirstClaim, &["a", "b"]);
    world.connect("a");
    world.join("a", "lab").unwrap();
    for n in 0..3000_u16 {
        world.now += Duration::from_millis(10);
        let [high, low] = n.to_be_bytes();
        let register = VnFromEdge::Register {
            port: "p".parse().unwrap(),
            mac: vswitch_control::types::Mac([2, 0, 0, 0, high, low]),
            ips: vec![[10, 1, high, low].into()].try_into().unwrap(),
        };
        registered(world.say("a", "lab", register));
    }
    world.connect("b");
    world.join("b", "lab").unwrap();
    assert_eq!(
        world.view("b", "lab").mappings,
        world.view("a", "lab").mappings
    );
    assert_eq!(world.view("b", "lab").mappings.len(), 3000);
    assert_eq!(world.view("b", "lab").fulls, 1);
    // As a difference, too.
    world.disconnect("b");
    world.ask(&nve("a"), &EdgeRequest::Leave { vn: vn("lab") });
    world.connect("b");
    world.join("b", "lab").unwrap();
    assert!(world.view("b", "lab").mappings.is_empty());
    assert_eq!(world.view("b", "lab").fulls, 1);
}

#[test]
fn the_newer_session_of_an_edge_stays() {
    let mut world = two(Limits::default());
    let former = world
        .edges
        .get_mut(&nve("a"))
        .unwrap()
        .session
        .take()
        .unwrap();
    world.connect("a");
    world.deliver();
    assert!(world.edges[&nve("a")].goodbye.is_none());
    assert_ne!(world.edges[&nve("a")].session, Some(former));
    assert_eq!(world.engine.sessions(), 2, "the former one was closed");
    assert!(!matches!(
        world.edges[&nve("a")].goodbye,
        Some(Goodbye::Replaced)
    ));
}
