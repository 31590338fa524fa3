//! What operators declare, and what comes of it.

use vswitch_control::message::ima::{Refusal, VnFromIma};
use vswitch_control::message::operator::{Change, Denied, Request, Response};
use vswitch_control::message::overlay::{Admission, Placement};

use super::world::{World, ips, mac, nve, placement, settings, vn};
use crate::engine::{EdgeRequest, Limits};

#[test]
fn declaring_twice_changes_nothing() {
    let mut world = World::new(Limits::default());
    let red = Change::VnAdd {
        vn: vn("red"),
        settings: settings(1, Admission::Strict),
    };
    let member = Change::MemberAdd {
        vn: vn("red"),
        nve: nve("a"),
    };
    let place = Change::PlacementAdd {
        vn: vn("red"),
        placement: placement(1, "a", "p"),
    };
    for change in [red, member, place] {
        assert_eq!(world.change(change.clone()), Ok(true));
        let before = world.stored.clone();
        assert_eq!(world.change(change), Ok(false));
        assert_eq!(world.stored, before);
    }
    let audits = world
        .stored
        .keys()
        .filter(|key| key.to_string().starts_with("audit/"));
    assert_eq!(audits.count(), 3);
}

#[test]
fn contradictions_are_denied() {
    let mut world = World::new(Limits::default());
    world.declare("red", 1, Admission::FirstClaim, &["a"]);
    let place = |placement| Change::PlacementAdd {
        vn: vn("red"),
        placement,
    };
    world.change(place(placement(1, "a", "p"))).unwrap();
    world.connect("a");
    world.join("a", "red").unwrap();
    world.register("a", "red", "p", 7);
    let same_ip = Placement {
        ips: ips(&[1]),
        ..placement(2, "a", "p")
    };
    let group = Placement {
        mac: vswitch_control::types::Mac([1, 0, 0, 0, 0, 0]),
        ..placement(2, "a", "p")
    };
    for wrong in [
        Change::VnAdd {
            vn: vn("red"),
            settings: settings(2, Admission::Strict),
        },
        Change::VnAdd {
            vn: vn("blue"),
            settings: settings(1, Admission::Strict),
        },
        Change::VnSet {
            vn: vn("red"),
            settings: settings(2, Admission::FirstClaim),
        },
        Change::VnSet {
            vn: vn("red"),
            settings: settings(1, Admission::Strict),
        },
        Change::Release { nve: nve("a") },
        place(same_ip),
        place(group),
    ] {
        assert!(
            matches!(world.change(wrong.clone()), Err(Denied::Conflict(_))),
            "{wrong:?}"
        );
    }
    let nowhere = vn("nowhere");
    for wrong in [
        Change::VnRemove {
            vn: nowhere.clone(),
        },
        Change::VnSet {
            vn: nowhere.clone(),
            settings: settings(9, Admission::Strict),
        },
        Change::MemberAdd {
            vn: nowhere.clone(),
            nve: nve("a"),
        },
        Change::PlacementRemove {
            vn: nowhere,
            mac: mac(1),
        },
        Change::PlacementMove {
            vn: vn("red"),
            mac: mac(9),
            nve: nve("a"),
            port: None,
        },
    ] {
        assert!(
            matches!(world.change(wrong.clone()), Err(Denied::Unknown(_))),
            "{wrong:?}"
        );
    }
}

#[test]
fn a_removed_member_is_out_at_once() {
    let mut world = World::new(Limits::default());
    world.declare("red", 1, Admission::FirstClaim, &["a", "b"]);
    for name in ["a", "b"] {
        world.connect(name);
        world.join(name, "red").unwrap();
    }
    world.register("a", "red", "p", 1);
    let epoch = world.view("b", "red").epoch;
    world
        .change(Change::MemberRemove {
            vn: vn("red"),
            nve: nve("a"),
        })
        .unwrap();
    assert!(
        !world.edges[&nve("a")].views.contains_key(&vn("red")),
        "expelled"
    );
    assert_eq!(world.join("a", "red"), Err(Refusal::NotMember));
    let view = world.view("b", "red");
    assert!(view.mappings.is_empty() && view.members.len() == 1 && view.epoch > epoch);
}

#[test]
fn a_removed_vn_leaves_nothing_and_may_come_again() {
    let mut world = World::new(Limits::default());
    world.declare("red", 1, Admission::FirstClaim, &["a"]);
    world.connect("a");
    world.join("a", "red").unwrap();
    for last in 1..100 {
        assert!(matches!(
            world.register("a", "red", "p", last),
            Some(VnFromIma::Registered { .. })
        ));
        let placement = placement(last, "a", "p");
        world
            .change(Change::PlacementAdd {
                vn: vn("red"),
                placement,
            })
            .unwrap();
    }
    world.change(Change::VnRemove { vn: vn("red") }).unwrap();
    assert!(world.edges[&nve("a")].views.is_empty());
    let left: Vec<_> = world.stored.keys().map(ToString::to_string).collect();
    assert!(
        left.iter().all(|key| ["audit/", "claim/", "edge/"]
            .iter()
            .any(|kind| key.starts_with(kind))),
        "{left:?}"
    );
    world.declare("red", 1, Admission::Strict, &["a"]);
    world.join("a", "red").unwrap();
    assert_eq!(world.view("a", "red").mappings.len(), 0);
}

#[test]
fn new_settings_reach_members_by_a_new_epoch() {
    let mut world = World::new(Limits::default());
    world.declare("red", 1, Admission::Strict, &["a"]);
    world.connect("a");
    world.join("a", "red").unwrap();
    let epoch = world.view("a", "red").epoch;
    let mut other = settings(1, Admission::Strict);
    other.protection = vswitch_control::message::overlay::Protection::Integrity;
    world
        .change(Change::VnSet {
            vn: vn("red"),
            settings: other,
        })
        .unwrap();
    assert!(world.view("a", "red").epoch > epoch);
}

/// What it had asked for is not done behind its revocation; and it cannot pardon itself.
#[test]
fn a_revoked_operator_changes_nothing() {
    let mut world = World::new(Limits::default());
    let name: vswitch_control::types::OperatorName = "root".parse().unwrap();
    let reason = vswitch_control::message::operator::Text::default();
    let own = Change::OperatorRevoke {
        name: name.clone(),
        reason: reason.clone(),
    };
    assert!(matches!(world.change(own), Err(Denied::Conflict(_))));
    let revoked = crate::model::Revoked {
        by: "alice".to_owned().try_into().unwrap(),
        reason,
    };
    let op = crate::model::Op::Put(
        crate::model::Key::Operator(name.clone()),
        crate::model::Record::Operator(revoked),
    );
    world.engine.apply(&[op]);
    for change in [
        Change::OperatorUnrevoke { name },
        Change::Revoke {
            nve: nve("a"),
            reason: Default::default(),
        },
    ] {
        let answer = world.change(change);
        assert!(matches!(answer, Err(Denied::Conflict(_))), "{answer:?}");
    }
}

#[test]
fn lists_come_in_pages() {
    let mut world = World::new(Limits::default());
    world.declare("red", 1, Admission::FirstClaim, &[]);
    for n in 0..300 {
        let nve = nve(&format!("edge-{n:03}"));
        world
            .change(Change::MemberAdd { vn: vn("red"), nve })
            .unwrap();
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let request = Request::Members {
            vn: vn("red"),
            after,
        };
        let Some(Ok(Response::Members(page))) = world.engine.show(&request, world.now) else {
            panic!()
        };
        seen.extend(page.items.iter().map(|line| line.nve.clone()));
        after = seen.last().cloned();
        if !page.more {
            break;
        }
    }
    assert_eq!(seen.len(), 300);
    assert!(seen.is_sorted());
    assert!(
        world
            .engine
            .show(
                &Request::Members {
                    vn: vn("x"),
                    after: None
                },
                world.now
            )
            .unwrap()
            .is_err()
    );
}

#[test]
fn a_released_edge_frees_its_addresses() {
    let mut world = World::new(Limits::default());
    world.declare("red", 1, Admission::FirstClaim, &["a", "b"]);
    for name in ["a", "b"] {
        world.connect(name);
        world.join(name, "red").unwrap();
    }
    world.register("a", "red", "p", 1);
    world.disconnect("a");
    world.change(Change::Release { nve: nve("a") }).unwrap();
    assert!(world.view("b", "red").mappings.is_empty());
    assert_eq!(world.view("b", "red").members.len(), 1);
    let place = super::world::endpoint(&nve("a"));
    world.disconnect("b");
    assert!(matches!(
        world.connect_at("b", place.clone()),
        Some(crate::engine::Reply::Welcome { .. })
    ));
    world.join("b", "red").unwrap();
    assert_eq!(world.view("b", "red").members[&nve("b")], place);
    let _ = world.ask(&nve("b"), &EdgeRequest::Leave { vn: vn("red") });
}
