//! What an earlier run of an edge left behind.

use std::time::Duration;

use vswitch_control::message::ima::VnFromIma;
use vswitch_control::message::overlay::Admission;
use vswitch_control::types::BootId;

use super::world::{World, nve};
use crate::engine::{EdgeRequest, Limits};

const RENEW: EdgeRequest = EdgeRequest::Renew { sequence: 1 };

fn register(world: &mut World, net: &str) {
    let answer = world.register("a", net, "vm1", 1);
    assert!(
        matches!(answer, Some(VnFromIma::Registered { .. })),
        "{answer:?}"
    );
}

/// Two edges in a VN, a machine on the first.
fn two() -> World {
    let mut world = World::new(Limits::default());
    world.declare("red", 1, Admission::FirstClaim, &["a", "b"]);
    for name in ["a", "b"] {
        world.connect(name);
        world.join(name, "red").unwrap();
    }
    register(&mut world, "red");
    world
}

/// Who dies while it leaves has said nothing: what the next run does not join is over when it has said that
/// it has joined what it wants, in whichever session.
#[test]
fn what_a_former_run_was_on_ends_when_the_next_has_joined_what_it_wants() {
    let mut world = two();
    let names: Vec<String> = (0..40).map(|n| format!("v{n}")).collect();
    for (vni, name) in (2..).zip(&names) {
        world.declare(name, vni, Admission::FirstClaim, &["a", "b"]);
        for edge in ["a", "b"] {
            world.join(edge, name).unwrap();
        }
        register(&mut world, name);
    }
    let on = |world: &World| {
        let has = |name: &&String| {
            let view = world.view("b", name);
            assert_eq!(
                view.mappings.is_empty(),
                !view.members.contains_key(&nve("a"))
            );
            !view.mappings.is_empty()
        };
        names.iter().filter(has).count()
    };
    let before = world.view("b", "red").clone();
    world.boot = BootId([2; 16]);
    for _ in 0..2 {
        world.connect("a");
        world.join("a", "red").unwrap();
        assert_eq!(on(&world), 40, "it may join them yet");
    }
    for left in [24, 8, 0, 0] {
        world.ask(&nve("a"), &RENEW);
        assert_eq!(on(&world), left);
    }
    assert_eq!(world.view("b", "red").mappings, before.mappings);
    assert_eq!(world.view("b", "red").members, before.members);
    // Of the same run nothing ends before it says so.
    world.connect("a");
    world.ask(&nve("a"), &RENEW);
    assert_eq!(world.view("b", "red").members, before.members);
}

/// Its lease has ended, and the next run comes before what follows from that was done.
#[test]
fn what_a_lease_left_behind_ends_with_the_next_run() {
    let mut world = two();
    let lease = Limits::default().lease;
    world.disconnect("a");
    world.now += lease - Duration::from_secs(1);
    world.ask(&nve("b"), &RENEW);
    world.now += Duration::from_secs(2);
    let ended = world.engine.sweep(world.now, 120).unwrap();
    world.store(&ended);
    assert!(!world.engine.state().edges.contains_key(&nve("a")));
    world.boot = BootId([2; 16]);
    world.connect("a");
    world.ask(&nve("a"), &RENEW);
    let view = world.view("b", "red");
    assert!(view.mappings.is_empty() && !view.members.contains_key(&nve("a")));
    // That was all of it.
    world.join("a", "red").unwrap();
    register(&mut world, "red");
    world.connect("a");
    world.ask(&nve("a"), &RENEW);
    assert_eq!(world.view("b", "red").mappings.len(), 1);
}
