//! Leases over restarts of the server: how long an edge that is gone is kept, and that no clock that is set
//! costs one that is there anything.

use std::time::Duration;

use vswitch_control::message::overlay::Admission;

use super::world::{World, mac, nve, vn};
use crate::engine::{EdgeRequest, Engine, Limits, Reply};

/// A time of day, in milliseconds.
const EPOCH: u64 = 1_764_000_000_000;

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// `dead` and `live` with a mapping each, under leases of an hour.
struct Lab {
    world: World,
    /// What the time of day is ahead of the truth.
    set: i64,
    sequence: u64,
}

impl Lab {
    fn new() -> Self {
        let mut world = World::new(Limits::default());
        world.engine.wall_is(EPOCH);
        world.declare("red", 1, Admission::FirstClaim, &["dead", "live"]);
        for (name, machine) in [("dead", 1), ("live", 2)] {
            world.connect(name);
            world.join(name, "red").unwrap();
            world.register(name, "red", "vm", machine).unwrap();
        }
        Self {
            world,
            set: 0,
            sequence: 0,
        }
    }

    fn wall(&self) -> u64 {
        let truth = EPOCH + u64::try_from(self.world.now.as_millis()).unwrap();
        truth.saturating_add_signed(self.set)
    }

    fn restart(&mut self) {
        let world = &mut self.world;
        world.engine = Engine::new(Limits::default(), world.stored.clone(), world.now);
        for edge in world.edges.values_mut() {
            edge.session = None;
        }
        let wall = self.wall();
        self.world.engine.resume_leases(self.world.now, wall);
    }

    /// A minute, at the end of which `live` renews its lease, if it has a session.
    fn minute(&mut self) {
        self.world.now += minutes(1);
        let wall = self.wall();
        self.world.engine.wall_is(wall);
        self.sequence += 1;
        let sequence = self.sequence;
        self.world.sweep();
        let renewed = self
            .world
            .ask(&nve("live"), &EdgeRequest::Renew { sequence });
        assert!(matches!(renewed, None | Some(Reply::Renewed { .. })));
    }

    fn has(&self, machine: u8) -> bool {
        let vns = &self.world.engine.state().vns;
        vns[&vn("red")].mappings.contains_key(&mac(machine))
    }
}

#[test]
fn servers_that_start_again_and_again_keep_nobody_who_is_gone() {
    let mut lab = Lab::new();
    lab.world.disconnect("dead");
    let mut gone = None;
    for minute in 1..300 {
        if minute % 20 == 0 {
            lab.restart();
            lab.world.connect("live");
            lab.world.join("live", "red").unwrap();
        }
        lab.minute();
        assert!(lab.has(2), "{minute}");
        if gone.is_none() && !lab.has(1) {
            gone = Some(minute);
        }
    }
    // Not before its lease, and no later than a restart and a grace behind it.
    let gone = gone.expect("it is gone");
    assert!((60..=63).contains(&gone), "{gone}");
    assert!(
        !lab.world
            .stored
            .keys()
            .any(|key| key.to_string() == "edge/dead")
    );
}

/// An hour's lease, of which twenty minutes have passed when the server starts again.
#[test]
fn no_clock_that_is_set_ends_the_lease_of_an_edge_that_comes_back() {
    let hour = 3_600_000;
    for (set, left) in [
        (0, minutes(40)),
        // As new.
        (-24 * hour, minutes(60)),
        (-1_764_000_000_000, minutes(60)),
        // Time to come back.
        (24 * hour, minutes(2)),
        (i64::MAX - 1_764_100_000_000, minutes(2)),
    ] {
        let mut lab = Lab::new();
        lab.world.disconnect("live");
        lab.world.now += minutes(20);
        lab.set = set;
        lab.restart();
        let end = lab.world.engine.lease_end(&nve("live")).unwrap();
        assert_eq!(end - lab.world.now, left, "{set}");
        lab.minute();
        lab.world.connect("live");
        lab.world.join("live", "red").unwrap();
        for _ in 0..130 {
            lab.minute();
            assert!(lab.has(2), "{set}");
        }
        assert!(!lab.has(1), "{set}");
    }
}
