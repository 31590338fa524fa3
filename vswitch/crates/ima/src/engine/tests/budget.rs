//! One edge that asks too much.

use std::time::Duration;

use vswitch_control::message::ima::{Goodbye, Refusal, Rejection, VnFromEdge, VnFromIma, Wanted};
use vswitch_control::message::overlay::Admission;

use super::world::{World, ips, mac, nve, vn};
use crate::engine::{EdgeRequest, Limits, Rates, Reply};

const RATES: Rates = Rates {
    registrations: 10,
    joins: 5,
    queries: 20,
};

/// `flood` and `b` in a VN where whoever is first has an address.
fn world() -> World {
    let mut limits = Limits {
        rates: RATES,
        ..Limits::default()
    };
    limits.edge.vns = 8;
    let mut world = World::new(limits);
    world.declare("red", 1, Admission::FirstClaim, &["flood", "b"]);
    for name in ["flood", "b"] {
        world.connect(name);
        world.join(name, "red").unwrap();
    }
    world
}

fn version(world: &World) -> u64 {
    world.engine.state().vns[&vn("red")].clock.version.0
}

/// Registers one address with another IP address every time: always a change.
fn flap(world: &mut World, n: u32) -> Option<VnFromIma> {
    let message = VnFromEdge::Register {
        port: "vm".parse().unwrap(),
        mac: mac(1),
        ips: ips(&[u8::try_from(2 + n % 200).unwrap()]),
    };
    world.say("flood", "red", message)
}

#[test]
fn a_flood_of_registrations_grows_the_log_no_faster_than_its_rate() {
    let mut world = world();
    let before = version(&world);
    let (mut taken, mut refused) = (0, 0);
    for n in 0..10_000 {
        world.now += Duration::from_millis(1);
        match flap(&mut world, n) {
            Some(VnFromIma::Registered { .. }) => taken += 1,
            Some(VnFromIma::Rejected {
                why: Rejection::Busy,
                ..
            }) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    // Ten seconds of ten a second, and a burst of a hundred.
    assert!((195..=201).contains(&taken), "{taken}");
    assert_eq!(refused, 10_000 - taken);
    // Each changes the log by one version at most; what is the same as before by none.
    assert!(version(&world) - before <= taken);
    // Nobody else has less by it, and the flood is not forgotten by coming again.
    assert!(matches!(
        world.register("b", "red", "vm", 7),
        Some(VnFromIma::Registered { .. })
    ));
    world.connect("flood");
    world.join("flood", "red").unwrap();
    assert!(matches!(
        flap(&mut world, 10_001),
        Some(VnFromIma::Rejected {
            why: Rejection::Busy,
            ..
        })
    ));
    // What changes nothing is not refused.
    let last = world.engine.state().vns[&vn("red")].mappings[&mac(1)]
        .ips
        .clone();
    let message = VnFromEdge::Register {
        port: "vm".parse().unwrap(),
        mac: mac(1),
        ips: last,
    };
    assert!(matches!(
        world.say("flood", "red", message),
        Some(VnFromIma::Registered { .. })
    ));
}

#[test]
fn renewals_in_a_row_are_stored_once() {
    let mut world = world();
    let id = world.edges[&nve("b")].session.unwrap();
    let lease = world.engine.limits().lease;
    let mut stored = 0;
    let mut end = Duration::ZERO;
    // For a tenth of a lease a hundred a second.
    let steps = u32::try_from(lease.as_millis() / 10 / 10).unwrap();
    for sequence in 0..steps.into() {
        world.now += Duration::from_millis(10);
        let request = EdgeRequest::Renew { sequence };
        let decision = world.engine.edge(id, &request, world.now);
        let Some(Reply::Renewed { lease: granted, .. }) = decision.reply else {
            panic!("{decision:?}")
        };
        stored += usize::from(!decision.plan.is_empty());
        world.store(&decision.plan);
        // Nobody is promised more than is stored.
        let kept = world.engine.lease_end(&nve("b")).unwrap();
        assert!(world.now + Duration::from_secs(granted.into()) <= kept);
        assert!(kept >= end);
        end = kept;
    }
    assert_eq!(stored, 1, "one in a sixteenth of a lease");
}

#[test]
fn whoever_wants_everything_again_and_again_has_to_wait() {
    let mut world = world();
    let join = EdgeRequest::Join {
        vn: vn("red"),
        resume: None,
    };
    let mut taken = 0;
    for _ in 0..1000 {
        world.now += Duration::from_millis(1);
        match world.ask(&nve("flood"), &join) {
            Some(Reply::Joined { .. }) => taken += 1,
            Some(Reply::Refused {
                why: Refusal::Busy, ..
            }) => {}
            other => panic!("{other:?}"),
        }
    }
    // Five a second, and as many at once as there may be VNs.
    assert!((10..=13).contains(&taken), "{taken}");
    // With what is known already it may come as often as it likes: nothing is sent.
    for _ in 0..50 {
        assert_eq!(world.join("b", "red"), Ok(()));
    }
    // In and out is told to everybody: it costs as well.
    let mut taken = 0;
    for _ in 0..50 {
        taken += usize::from(world.join("b", "red") == Ok(()));
        world.ask(&nve("b"), &EdgeRequest::Leave { vn: vn("red") });
    }
    assert!(taken <= 9, "{taken}");
}

#[test]
fn whoever_comes_again_and_again_costs_the_store_no_more() {
    let mut world = world();
    // As the same, and where it was: nothing is new.
    let before = world.commits;
    for _ in 0..500 {
        assert!(matches!(world.connect("b"), Some(Reply::Welcome { .. })));
    }
    assert_eq!(world.commits, before);
    // Promised what is left.
    world.now += Duration::from_secs(10);
    let Some(Reply::Welcome { lease, .. }) = world.connect("b") else {
        panic!("no welcome");
    };
    let end = world.engine.lease_end(&nve("b")).unwrap();
    assert!(world.now + Duration::from_secs(lease.into()) <= end);
    assert_eq!(world.commits, before);
    // As another each time: five a second, and as many at once as there may be VNs.
    let mut welcome = 0;
    for n in 0..1000_u16 {
        world.now += Duration::from_millis(1);
        world.boot.0[..2].copy_from_slice(&n.to_be_bytes());
        match world.connect("b") {
            Some(Reply::Welcome { .. }) => welcome += 1,
            Some(Reply::Goodbye(Goodbye::Unavailable)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!((12..=14).contains(&welcome), "{welcome}");
    assert!(world.commits - before <= 2 * welcome, "{}", world.commits);
    // A part of a lease later it is stored that it is still there.
    world.now += world.engine.limits().lease / 8;
    let before = world.commits;
    assert!(matches!(world.connect("b"), Some(Reply::Welcome { .. })));
    assert_eq!(world.commits, before + 1);
}

#[test]
fn questions_above_the_rate_are_not_answered() {
    let mut world = world();
    let answered = (0..1000)
        .filter(|id| {
            let what = Wanted::Mac(mac(9));
            world
                .say("flood", "red", VnFromEdge::Query { id: *id, what })
                .is_some()
        })
        .count();
    assert_eq!(answered, 40);
    let what = Wanted::Mac(mac(9));
    let other = world.say("b", "red", VnFromEdge::Query { id: 1, what });
    assert!(other.is_some());
}

#[test]
fn edges_that_are_quiet_are_forgotten() {
    let mut world = world();
    for n in 0..5000_u32 {
        let name = format!("edge-{n}");
        world.engine.open(
            crate::engine::SessionId(1_000_000 + u64::from(n)),
            nve(&name),
            [192, 0, 2, 1].into(),
        );
        let id = crate::engine::SessionId(1_000_000 + u64::from(n));
        let what = Wanted::Mac(mac(9));
        let message = VnFromEdge::Query { id: 1, what };
        let vn = vn("red");
        world.now += Duration::from_secs(1);
        let _ = world
            .engine
            .excess(id, &EdgeRequest::Vn { vn, message }, world.now);
        world.engine.close(id);
    }
    assert!(world.engine.budgets() < 1100, "{}", world.engine.budgets());
}
