//! The greatest age: no key lives for ever because its replacement is kept from coming.

use super::*;
use crate::keying::Direction;
use crate::keying::sim::World;
use crate::secret::live;

fn config() -> Config {
    Config {
        rekey_after: ms(3000),
        rekey_jitter: ms(300),
        hard_after: ms(6000),
        unreached_after: ms(2000),
        ..Config::default()
    }
}

/// Both edges send to one another, on two workers. The time is 2 s, SAs are at most 1 s old.
fn two() -> World {
    let mut world = World::new(5, 2, config());
    world.declare("red", &[0, 1]);
    world.flow("red", 0, 1, 2);
    world.flow("red", 1, 0, 2);
    world.run(ms(1000));
    world.check_converged();
    world
}

#[test]
fn who_blocks_sessions_and_lets_packets_pass_keeps_no_key_alive() {
    let mut world = two();
    world.part(0, 1);
    world.run(ms(4900)); // 6.9 s
    let before = world.opened;
    assert!(before > 1000 && world.missed == 0, "packets pass");
    for edge in 0..2 {
        let keying = world.edges[edge].keying.as_ref().unwrap();
        let mut sas = keying.sas();
        assert!(sas.all(|sa| sa.closes > world.now && sa.closes < world.now + ms(4000)));
        let peer = world.edges[1 - edge].name.clone();
        let [Report::Unreached { peer: named, since }] = &world.edges[edge].reports[..] else {
            panic!("{:?}", world.edges[edge].reports);
        };
        assert_eq!((named, *since < ms(2600)), (&peer, true));
    }
    world.run(ms(1100)); // 8 s: more than 6 s behind the exchange.
    let after = world.opened;
    for edge in 0..2 {
        assert!(world.edges[edge].plane.outbound.is_empty(), "closed");
        assert_eq!(world.edges[edge].plane.inbound.len(), 2, "still open");
        assert_eq!(world.edges[edge].plane.limits, 2);
    }
    world.run(ms(2000));
    assert!(after > before && world.opened == after && world.missed == 0);
    for edge in 0..2 {
        assert!(world.edges[edge].plane.inbound.is_empty());
        let keying = world.edges[edge].keying.as_ref().unwrap();
        assert_eq!((keying.sas().count(), keying.counters().aged), (0, 4));
        let aged = |outbound, inbound| Report::Aged {
            vn: vn("red"),
            peer: world.edges[1 - edge].name.clone(),
            outbound,
            inbound,
        };
        let reports = &world.edges[edge].reports[1..];
        assert_eq!(reports, [aged(2, 0), aged(0, 2)]);
    }
    assert_eq!(live::count(), 0, "no secret is left");
    // The partition ends.
    world.calm();
    world.run(ms(1999));
    world.check_converged();
    assert_eq!(world.missed, 0);
}

/// A peer that goes on answering all but exchanges.
#[test]
fn a_peer_that_makes_no_new_exchange_loses_the_old_one() {
    let mut world = two();
    let hung = world.edges[1].keying.take();
    world.run(ms(6000));
    let keying = world.edges[0].keying.as_ref().unwrap();
    let outbound = |sa: &super::super::SaInfo| sa.direction == Direction::Outbound;
    assert_eq!(keying.sas().filter(outbound).count(), 0);
    let exchange = |world: &World| {
        let keying = world.edges[0].keying.as_ref().unwrap();
        let pair = &keying.pairs.values().next().unwrap()[&vn("red")];
        pair.exchange.is_some()
    };
    assert!(!exchange(&world), "the root went with its SAs");
    let failing = |report: &Report| matches!(report, Report::Failing { .. });
    assert!(world.edges[0].reports.iter().any(failing));
    drop(hung);
    world.edges[1].plane = Default::default();
    world.restart(1, ms(1));
    world.run(ms(1999));
    assert!(exchange(&world));
}
