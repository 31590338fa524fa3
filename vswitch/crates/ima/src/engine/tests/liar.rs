//! An edge with valid credentials that lies about everything it has no right to: nothing is believed.

use vswitch_control::message::ima::{
    Goodbye, LogId, Refusal, Rejection, Resume, VnFromEdge, VnFromIma, Wanted,
};
use vswitch_control::message::operator::{AuditId, Change, Text};
use vswitch_control::message::overlay::{Admission, Ips, Placement};
use vswitch_control::types::{BootId, Mac, Version};

use super::world::{World, endpoint, ips, mac, nve, placement, vn};
use crate::engine::{EdgeRequest, Limits, Reply, Stamp};
use crate::model::{EdgeRecord, Key, Op, Record};

/// `red` has a and the liar, `blue` has a and b; machines of a in both, one of the liar in red.
fn world() -> World {
    let mut world = World::new(Limits::default());
    world.declare("red", 1, Admission::Strict, &["a", "liar"]);
    world.declare("blue", 2, Admission::Strict, &["a", "b"]);
    for (net, placement) in [
        ("red", placement(1, "a", "vm1")),
        ("red", placement(2, "liar", "vm2")),
        ("blue", placement(1, "a", "vm1")),
        ("blue", placement(3, "b", "vm3")),
    ] {
        world
            .change(Change::PlacementAdd {
                vn: vn(net),
                placement,
            })
            .unwrap();
    }
    for (name, net) in [("a", "red"), ("a", "blue"), ("b", "blue"), ("liar", "red")] {
        if world
            .edges
            .get(&nve(name))
            .is_none_or(|edge| edge.session.is_none())
        {
            world.connect(name);
        }
        world.join(name, net).unwrap();
    }
    world.register("a", "red", "vm1", 1);
    world.register("a", "blue", "vm1", 1);
    world.register("b", "blue", "vm3", 3);
    world
}

#[test]
fn no_vn_but_its_own() {
    let mut world = world();
    let before = world.stored.clone();
    assert_eq!(world.join("liar", "blue"), Err(Refusal::NotMember));
    for message in [
        VnFromEdge::Register {
            port: "vm3".parse().unwrap(),
            mac: mac(3),
            ips: ips(&[3]),
        },
        VnFromEdge::Withdraw { mac: mac(3) },
        VnFromEdge::Query {
            id: 1,
            what: Wanted::Mac(mac(3)),
        },
    ] {
        assert_eq!(
            world.say("liar", "blue", message),
            None,
            "not even an answer"
        );
    }
    world.ask(&nve("liar"), &EdgeRequest::Leave { vn: vn("blue") });
    // A history it cannot know, and one that is ahead of all.
    for resume in [
        Resume {
            log: LogId(u64::MAX),
            version: Version(0),
        },
        Resume {
            log: LogId(0),
            version: Version(u64::MAX),
        },
    ] {
        let join = EdgeRequest::Join {
            vn: vn("blue"),
            resume: Some(resume),
        };
        let answer = world.ask(&nve("liar"), &join);
        assert_eq!(
            answer,
            Some(Reply::Refused {
                vn: vn("blue"),
                why: Refusal::NotMember
            })
        );
    }
    assert_eq!(world.stored, before);
    assert!(!world.edges[&nve("liar")].views.contains_key(&vn("blue")));
}

#[test]
fn no_address_but_its_own() {
    let mut world = world();
    let before = world.stored.clone();
    let own = |last| -> Ips { ips(last) };
    let lies = [
        ("vm1", mac(1), own(&[1]), Rejection::NotPlaced),
        ("vm2", mac(1), own(&[2]), Rejection::NotPlaced),
        ("vm2", mac(2), own(&[1]), Rejection::OtherIps),
        ("vm2", mac(2), own(&[2, 1]), Rejection::OtherIps),
        ("vm2", mac(2), own(&[99]), Rejection::OtherIps),
        // Receivers would take it for any address that nobody has.
        ("vm2", mac(2), own(&[]), Rejection::OtherIps),
        ("vm1", mac(2), own(&[]), Rejection::OtherPort),
        ("vm1", mac(1), own(&[]), Rejection::NotPlaced),
        ("vm1", mac(2), own(&[2]), Rejection::OtherPort),
        ("vm2", mac(3), own(&[3]), Rejection::NotPlaced),
        ("vm2", mac(77), own(&[]), Rejection::NotPlaced),
        ("vm2", Mac([0xff; 6]), own(&[2]), Rejection::Unusable),
        (
            "vm2",
            Mac([1, 0, 0x5e, 0, 0, 1]),
            own(&[2]),
            Rejection::Unusable,
        ),
        ("vm2", Mac([0; 6]), own(&[2]), Rejection::Unusable),
        (
            "vm2",
            mac(2),
            vec![[224, 0, 0, 1].into()].try_into().unwrap(),
            Rejection::Unusable,
        ),
        (
            "vm2",
            mac(2),
            vec![[0, 0, 0, 0].into()].try_into().unwrap(),
            Rejection::Unusable,
        ),
    ];
    for (port, mac, ips, why) in lies {
        let register = VnFromEdge::Register {
            port: port.parse().unwrap(),
            mac,
            ips,
        };
        let answer = world.say("liar", "red", register.clone());
        assert_eq!(
            answer,
            Some(VnFromIma::Rejected { mac, why }),
            "{register:?}"
        );
    }
    for last in 0..=255 {
        world.say("liar", "red", VnFromEdge::Withdraw { mac: mac(last) });
    }
    assert_eq!(world.stored, before);
    assert_eq!(world.view("a", "red").mappings[&mac(1)].nve, nve("a"));
    // And its own is its own.
    let answer = world.register("liar", "red", "vm2", 2);
    assert!(matches!(answer, Some(VnFromIma::Registered { .. })));
}

/// What is placed binds what is registered later and before: none for some would be any.
#[test]
fn an_address_without_ips_is_only_where_none_are_placed() {
    let mut world = world();
    let free = |ips| Placement {
        ips,
        ..placement(2, "liar", "vm2")
    };
    let place = |ips| Change::PlacementAdd {
        vn: vn("red"),
        placement: free(ips),
    };
    world.change(place(ips(&[]))).unwrap();
    let register = |said: &[u8]| VnFromEdge::Register {
        port: "vm2".parse().unwrap(),
        mac: mac(2),
        ips: ips(said),
    };
    let rejected = |why| Some(VnFromIma::Rejected { mac: mac(2), why });
    let answer = world.say("liar", "red", register(&[2]));
    assert_eq!(answer, rejected(Rejection::OtherIps));
    let answer = world.say("liar", "red", register(&[]));
    assert!(matches!(answer, Some(VnFromIma::Registered { .. })));
    assert!(world.view("a", "red").mappings.contains_key(&mac(2)));
    // From now on it has an address, and what was free is so no longer.
    world.change(place(ips(&[2]))).unwrap();
    assert!(!world.view("a", "red").mappings.contains_key(&mac(2)));
    let answer = world.say("liar", "red", register(&[]));
    assert_eq!(answer, rejected(Rejection::OtherIps));
    let answer = world.say("liar", "red", register(&[2]));
    assert!(matches!(answer, Some(VnFromIma::Registered { .. })));
}

#[test]
fn no_edge_but_itself() {
    let mut world = world();
    let before = world.stored.clone();
    // Another's tunnel address, alone and among its own.
    world.disconnect("liar");
    for other in ["a", "b"] {
        let answer = world.connect_at("liar", endpoint(&nve(other)));
        assert_eq!(answer, Some(Reply::Goodbye(Goodbye::AddressTaken)));
    }
    let mut both: Vec<_> = endpoint(&nve("liar")).tunnel_addresses.to_vec();
    both.extend(endpoint(&nve("a")).tunnel_addresses.iter());
    let mut mixed = endpoint(&nve("liar"));
    mixed.tunnel_addresses = both.try_into().unwrap();
    assert_eq!(
        world.connect_at("liar", mixed),
        Some(Reply::Goodbye(Goodbye::AddressTaken))
    );
    for nowhere in [
        vec![],
        vec![[0, 0, 0, 0].into()],
        vec![[224, 0, 0, 1].into()],
        vec!["::ffff:192.0.2.77".parse().unwrap()],
        vec!["::ffff:192.0.2.77".parse().unwrap(), [192, 0, 2, 77].into()],
        vec![[255, 255, 255, 255].into()],
        vec![[127, 0, 0, 1].into()],
        vec!["::1".parse().unwrap()],
        vec!["::".parse().unwrap()],
        vec!["ff02::1".parse().unwrap()],
        // No edge's tables would take such a peer, nor whatever came with it.
        vec![[192, 0, 2, 77].into(); 2],
        vec![
            [192, 0, 2, 77].into(),
            [192, 0, 2, 78].into(),
            [192, 0, 2, 77].into(),
        ],
    ] {
        let mut wrong = endpoint(&nve("liar"));
        wrong.tunnel_addresses = nowhere.try_into().unwrap();
        assert_eq!(
            world.connect_at("liar", wrong),
            Some(Reply::Goodbye(Goodbye::Protocol))
        );
    }
    assert_eq!(world.stored, before);
    // Out of order: before saying who it is, and saying it twice.
    world.connect("liar");
    let hello = EdgeRequest::Hello {
        boot: BootId([9; 16]),
        endpoint: endpoint(&nve("liar")),
    };
    assert_eq!(
        world.ask(&nve("liar"), &hello),
        Some(Reply::Goodbye(Goodbye::Protocol))
    );
}

#[test]
fn a_revoked_edge_has_nothing_and_is_nobody() {
    let mut world = world();
    world.register("liar", "red", "vm2", 2);
    let epoch = world.view("a", "red").epoch;
    let reason = Text::of("stolen");
    world
        .change(Change::Revoke {
            nve: nve("liar"),
            reason,
        })
        .unwrap();
    assert_eq!(world.edges[&nve("liar")].goodbye, Some(Goodbye::Revoked));
    assert_eq!(world.edges[&nve("a")].revoked, [nve("liar")]);
    assert!(world.edges[&nve("b")].revoked.is_empty(), "no VN in common");
    let view = world.view("a", "red");
    assert!(!view.mappings.contains_key(&mac(2)) && !view.members.contains_key(&nve("liar")));
    assert!(view.epoch > epoch);
    let before = world.stored.clone();
    world.connect("liar");
    assert_eq!(world.edges[&nve("liar")].goodbye, Some(Goodbye::Revoked));
    assert_eq!(world.stored, before, "not even a lease");
    world.change(Change::Unrevoke { nve: nve("liar") }).unwrap();
    world.connect("liar");
    world.join("liar", "red").unwrap();
    assert!(matches!(
        world.register("liar", "red", "vm2", 2),
        Some(VnFromIma::Registered { .. })
    ));
}

#[test]
fn no_address_that_was_its_own_once() {
    let mut world = world();
    let liar = nve("liar");
    let (former, other) = (endpoint(&liar), endpoint(&nve("other")));
    // By another server it is elsewhere now; its session with this one it keeps.
    let Some(Record::Edge(record)) = world.stored.get(&Key::Edge(liar.clone())).cloned() else {
        panic!("no lease");
    };
    let moved = Record::Edge(EdgeRecord {
        endpoint: other,
        ..record
    });
    let free = former.tunnel_addresses.first().copied().unwrap();
    let ops = [
        Op::Put(Key::Edge(liar.clone()), moved.clone()),
        Op::Delete(Key::Claim(free)),
    ];
    world.stored.insert(Key::Edge(liar.clone()), moved);
    world.stored.remove(&Key::Claim(free));
    world.engine.apply(&ops);
    world.engine.committed(&ops, world.now);
    // The address is free, and somebody has it.
    let welcome = world.connect_at("heir", former.clone());
    assert!(matches!(welcome, Some(Reply::Welcome { .. })));
    let before = world.stored.clone();
    let taken = Some(Reply::Goodbye(Goodbye::AddressTaken));
    assert_eq!(world.ask(&liar, &EdgeRequest::Renew { sequence: 1 }), taken);
    assert_eq!(world.stored, before);
    let address = former.tunnel_addresses.first().unwrap();
    assert_eq!(world.engine.state().addresses[address], nve("heir"));
}

#[test]
fn a_revocation_does_not_wait_for_a_large_vn_to_be_cleared_away() {
    let mut world = world();
    world.declare("ample", 3, Admission::FirstClaim, &["a"]);
    world.join("a", "ample").unwrap();
    for last in 1..=100 {
        world.register("a", "ample", "vm1", last);
    }
    let epoch = world.view("a", "red").epoch;
    let reason = Text::of("stolen");
    let changes = [
        Change::VnRemove { vn: vn("ample") },
        Change::Revoke {
            nve: nve("liar"),
            reason,
        },
    ];
    for (tie, change) in changes.into_iter().enumerate() {
        let stamp = Stamp {
            who: Text::of("root"),
            id: AuditId {
                at: u64::MAX,
                tie: tie as u64,
            },
            log: LogId(0),
        };
        let plan = world.engine.operator(&change, &stamp).unwrap();
        world.store(&plan);
    }
    // One step each.
    for _ in 0..2 {
        let plan = world.engine.sweep(world.now, 1).unwrap();
        world.store(&plan);
    }
    let vns = &world.engine.state().vns;
    assert!(!vns[&vn("ample")].mappings.is_empty());
    assert!(vns[&vn("red")].clock.epoch > epoch);
    assert!(!vns[&vn("red")].joined.contains_key(&nve("liar")));
    world.sweep();
    assert!(!world.engine.state().vns.contains_key(&vn("ample")));
}
