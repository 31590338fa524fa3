//! Much at once: large networks that go, many leases that end, many changes between two looks.

use vswitch_control::message::ima::VnFromEdge;
use vswitch_control::message::overlay::Admission;

use super::world::{World, ips, mac, nve, vn};
use crate::engine::{EdgeRequest, Limits, Reply};

/// What follows from a change is not one transaction for each dozen of records: with a store that takes
/// more, a large network is cleared away in few of them, and no step is heavier than the store takes.
#[test]
fn what_is_left_behind_goes_in_steps_as_large_as_the_store_takes() {
    for (weight, most) in [(120, 20), (8192, 2)] {
        let mut world = World::new(Limits::default());
        world.declare("red", 1, Admission::FirstClaim, &["a", "b"]);
        for name in ["a", "b"] {
            world.connect(name);
            world.join(name, "red").unwrap();
        }
        for last in 1..=200 {
            world.register("a", "red", "vm", last).unwrap();
        }
        assert_eq!(world.view("b", "red").mappings.len(), 200);
        let id = world.edges[&nve("a")].session.unwrap();
        let leave = world
            .engine
            .edge(id, &EdgeRequest::Leave { vn: vn("red") }, world.now);
        world.store(&leave.plan);
        let mut steps = 0;
        while let Some(plan) = world.engine.sweep(world.now, weight) {
            assert!(plan.weight() <= weight, "{} of {weight}", plan.weight());
            world.store(&plan);
            steps += 1;
            assert!(steps <= most, "{steps} steps of weight {weight}");
        }
        world.deliver();
        assert!(world.view("b", "red").mappings.is_empty());
        assert_eq!(
            world.view("b", "red").fulls,
            1,
            "a step is an update like any other"
        );
    }
}

/// As many leases as have ended, for instance behind a partition, end together.
#[test]
fn leases_that_have_ended_end_in_one_step() {
    let limits = Limits::default();
    let mut world = World::new(limits);
    let names: Vec<String> = (0..100).map(|n| format!("edge-{n}")).collect();
    // Some of these names share an address, which only the first gets.
    let welcome = |reply| matches!(reply, Some(Reply::Welcome { .. }));
    let connected = names
        .iter()
        .filter(|name| welcome(world.connect(name)))
        .count();
    assert!(connected > 50, "{connected}");
    let plan = world.engine.sweep(world.now + limits.lease / 2, 8192);
    assert_eq!(plan, None);
    world.now += limits.lease;
    let plan = world.engine.sweep(world.now, 8192).unwrap();
    assert_eq!(plan.ops().len(), connected);
    world.store(&plan);
    assert_eq!(world.engine.sweep(world.now, 8192), None);
    assert_eq!(world.engine.next_end(), None);
}

/// Who is to look at a network is noted once, however much changes before they look; and again behind
/// the first who has.
#[test]
fn a_network_is_marked_once_until_somebody_has_looked() {
    let mut world = World::new(Limits::default());
    world.declare("red", 1, Admission::FirstClaim, &["a", "b"]);
    for name in ["a", "b"] {
        world.connect(name);
        world.join(name, "red").unwrap();
    }
    assert!(world.engine.marked.is_empty(), "everyone has looked");
    let id = world.edges[&nve("a")].session.unwrap();
    for round in 0..3 {
        for last in 1..=3 {
            let message = VnFromEdge::Register {
                port: "vm".parse().unwrap(),
                mac: mac(10 * round + last),
                ips: ips(&[10 * round + last]),
            };
            let vn = vn("red");
            let decision = world
                .engine
                .edge(id, &EdgeRequest::Vn { vn, message }, world.now);
            world.store(&decision.plan);
            assert_eq!(world.engine.marked.len(), 1);
        }
        world.deliver();
        assert!(world.engine.marked.is_empty());
        let known = usize::from(3 * (round + 1));
        for name in ["a", "b"] {
            assert_eq!(world.view(name, "red").mappings.len(), known, "{name}");
        }
    }
}
