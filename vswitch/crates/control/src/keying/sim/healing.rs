//! Each way of losing one another by itself, over many seeds: from the moment at which the network
//! carries everything again and both edges run, every packet finds its SA in less than two seconds.

use std::time::Duration;

use super::runs::seeds;
use super::{World, ms};
use crate::keying::{Config, Direction, Event};

/// What heals in less.
const SOON: Duration = ms(2000);

/// Two edges that know one another's networks and have said nothing yet. `mutual`: both send, else
/// only the first.
fn strangers(seed: u64, mutual: bool) -> World {
    let mut world = World::new(seed, 2, Config::default());
    world.declare("red", &[0, 1]);
    world.settle();
    world.flow("red", 0, 1, 2);
    if mutual {
        world.flow("red", 1, 0, 2);
    }
    world
}

/// The same, and they have talked for a while, perhaps a short one.
fn friends(seed: u64, mutual: bool) -> World {
    let mut world = strangers(seed, mutual);
    heal(&mut world);
    let pause = world.between(0, 1500);
    world.run(pause);
    world.check_converged();
    world
}

/// How long until everything is as it should be.
fn heal(world: &mut World) -> Duration {
    let begun = world.now;
    while world.wrong().is_some() {
        assert!(world.now < begun + ms(20_000), "never: {:?}", world.wrong());
        world.run(ms(1));
    }
    world.now - begun
}

/// Runs what goes wrong over all seeds; it ends with the last fault. In every other run the edge with
/// the larger name is the first.
fn all(what: &str, broken: impl Fn(u64, bool) -> World) {
    let mut worst = Duration::ZERO;
    for seed in seeds() {
        for mutual in [false, true] {
            let mut world = broken(seed, mutual);
            world.excused.extend([(0, 1), (1, 0)]);
            let took = heal(&mut world);
            assert!(took < SOON, "{what}: seed {seed}, {mutual}: {took:?}");
            worst = worst.max(took);
            // It stays so.
            world.run(ms(300));
            world.check_converged();
        }
    }
    println!("{what}: whole after {worst:?} at most");
    assert!(worst > Duration::ZERO, "nothing was broken");
}

/// A time that is often short and sometimes long enough for all timers.
fn a_while(world: &mut World) -> Duration {
    let most = [20, 300, 2000, 4000, 9000][world.rng.usize(0..5)];
    world.between(1, most)
}

/// Loses everything from one to another for a while in which keys are replaced.
fn lose(world: &mut World, ways: &[(usize, usize)]) {
    world.conduct.cut.extend(ways);
    for _ in 0..2 {
        let pause = a_while(world) / 2;
        world.run(pause);
        rekey(world);
    }
    world.conduct.cut.clear();
}

/// Each edge's SAs have carried half of what they may.
fn rekey(world: &mut World) {
    for edge in 0..2 {
        let Some(keying) = &world.edges[edge].keying else {
            continue;
        };
        let outbound = keying
            .sas()
            .filter(|sa| sa.direction == Direction::Outbound);
        for sa in outbound.collect::<Vec<_>>() {
            let (vn, peer, worker, spi) = (sa.vn, sa.peer, sa.worker, sa.spi);
            world.give(
                edge,
                Event::SoftLimit {
                    vn,
                    peer,
                    worker,
                    spi,
                },
            );
        }
    }
}

/// What only a restart makes visible: SAs that the other side does not have.
fn restart(world: &mut World, edge: usize, down: Duration) {
    world.restart(edge, down);
    world.run(down);
    world.settle();
}

#[test]
fn loss_one_way() {
    for way in [(0, 1), (1, 0)] {
        all(&format!("nothing {way:?}"), |seed, mutual| {
            let mut world = friends(seed, mutual);
            // There is something to heal: one end's SAs are gone, and no word of it gets through.
            if seed.is_multiple_of(2) {
                forget(&mut world, 1);
            }
            lose(&mut world, &[way]);
            world
        });
    }
}

#[test]
fn loss_both_ways_and_one_behind_the_other() {
    all("nothing either way", |seed, mutual| {
        let mut world = friends(seed, mutual);
        restart(&mut world, (seed % 2) as usize, ms(10));
        lose(&mut world, &[(0, 1), (1, 0)]);
        world
    });
    all("nothing one way, then the other", |seed, mutual| {
        let mut world = friends(seed, mutual);
        restart(&mut world, (seed % 2) as usize, ms(10));
        lose(&mut world, &[(0, 1)]);
        lose(&mut world, &[(1, 0)]);
        world
    });
}

#[test]
fn restart_of_one_side() {
    for edge in [0, 1] {
        all(&format!("restart of {edge}"), |seed, mutual| {
            let mut world = friends(seed, mutual);
            let down = a_while(&mut world);
            restart(&mut world, edge, down);
            world
        });
        // A session of two that were both dialled is preferred for a while: not that of the dead.
        all(&format!("restart of {edge} at once"), |seed, mutual| {
            let mut world = strangers(seed, mutual);
            heal(&mut world);
            restart(&mut world, edge, ms(1));
            world
        });
    }
}

#[test]
fn a_restart_that_nobody_can_tell() {
    all("restart, and nothing either way", |seed, mutual| {
        let mut world = friends(seed, mutual);
        world.part(0, 1);
        let down = a_while(&mut world);
        restart(&mut world, (seed % 2) as usize, down);
        let more = a_while(&mut world);
        world.run(more);
        world.conduct.cut.clear();
        world
    });
}

#[test]
fn both_begin_at_once() {
    all("both at once", |seed, mutual| {
        let mut world = strangers(seed, mutual);
        world.begin_dial(0, 1);
        world.begin_dial(1, 0);
        world
    });
}

#[test]
fn sessions_begin_twice_and_in_any_order() {
    all("crossing dials", |seed, mutual| {
        let mut world = friends(seed, mutual);
        if seed.is_multiple_of(2) {
            restart(&mut world, 1, ms(10));
        }
        for _ in 0..world.rng.u8(1..6) {
            world.cross_dials();
            let pause = world.between(0, 100);
            world.run(pause);
        }
        world
    });
}

/// Drops all of an edge's inbound SAs; the other side is told, if a session carries it.
fn forget(world: &mut World, edge: usize) {
    let Some(keying) = &world.edges[edge].keying else {
        return;
    };
    let inbound = keying.sas().filter(|sa| sa.direction == Direction::Inbound);
    world.excused.extend([(0, 1), (1, 0)]);
    for sa in inbound.collect::<Vec<_>>() {
        let (vn, peer, spi, direction) = (sa.vn, sa.peer, sa.spi, sa.direction);
        world.give(
            edge,
            Event::Idle {
                vn,
                peer,
                direction,
                spi,
            },
        );
    }
}

#[test]
fn stale_spis() {
    for ways in [&[(0, 1)][..], &[(1, 0)], &[(0, 1), (1, 0)]] {
        all(&format!("stale SPIs, nothing {ways:?}"), |seed, mutual| {
            let mut world = friends(seed, mutual);
            // Before, while, or after the word about it is lost.
            world.conduct.cut.extend(ways);
            let pause = a_while(&mut world);
            world.run(pause);
            forget(&mut world, 1);
            if mutual {
                forget(&mut world, 0);
            }
            let pause = a_while(&mut world);
            world.run(pause);
            world.conduct.cut.clear();
            world
        });
    }
}
