//! Many seeds: what the module's head promises holds under all of them.

use super::faults::Temper;
use super::links::Seen;
use super::{World, ms};
use crate::keying::Config;
use crate::secret::live;

/// Seeds of each temper; `VSWITCH_SIM_SEEDS` asks for another number, `VSWITCH_SIM_SEED` for one.
const SEEDS: u64 = 150;

fn config(seed: u64) -> Config {
    // With even seeds time alone rekeys too, in all phases, and SAs that are not replaced close.
    let rekey_after = ms(if seed.is_multiple_of(2) { 3000 } else { 60_000 });
    Config {
        rekey_after,
        rekey_jitter: ms(1000),
        hard_after: rekey_after * 2,
        requests_under_way: if seed.is_multiple_of(7) { 1 } else { 32 },
        workers_per_pair: if seed.is_multiple_of(3) { 2 } else { 16 },
        ample_sas: if seed.is_multiple_of(5) { 6 } else { 1000 },
        ..Config::default()
    }
}

fn run(seed: u64, temper: Temper) -> World {
    let edges = 2 + (seed % 3) as usize;
    let mut world = World::new(seed, edges, config(seed));
    let all: Vec<_> = (0..edges).collect();
    world.declare("red", &all);
    world.declare("blue", &all[..2]);
    for from in 0..edges {
        for to in (0..edges).filter(|to| *to != from) {
            let workers = world.rng.u16(0..=3);
            world.flow("red", from, to, workers);
            world.flow("blue", from, to, 1);
        }
    }
    world.misbehave();
    let until = world.now + world.between(2000, 6000);
    while world.now < until {
        let pause = world.between(1, 300);
        world.run(pause);
        world.fault(temper);
    }
    // Everybody runs and has heard the authority, and only then the network is whole: the last fault.
    world.settle();
    world.calm();
    world.run(ms(1999));
    world.check_converged();
    world.excused.clear();
    world.run(ms(3000));
    world.check_converged();
    if !seed.is_multiple_of(2) {
        world.check_tidy(); // Nothing is on its way.
    }
    world
}

pub fn seeds() -> impl Iterator<Item = u64> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().expect("a number"))
    };
    let one = number("VSWITCH_SIM_SEED");
    let many = number("VSWITCH_SIM_SEEDS").unwrap_or(SEEDS);
    match one {
        Some(seed) => seed..seed + 1,
        None => 0..many,
    }
}

fn run_all(temper: Temper) {
    let (mut opened, mut missed) = (0, 0);
    let mut seen = Seen::default();
    for seed in seeds() {
        println!("{temper:?} seed {seed}");
        let world = run(seed, temper);
        opened += world.opened;
        missed += world.missed;
        seen.add(&world.seen);
        drop(world);
        assert_eq!(live::count(), 0, "a secret is left");
    }
    println!("{opened} packets opened, {missed} not, {seen:?}");
    seen.check();
    assert!(opened > 1000);
    assert_eq!(missed > 0, temper == Temper::Rough);
}

#[test]
fn no_packet_is_lost_to_rekeying_whatever_sessions_do() {
    run_all(Temper::Gentle);
}

#[test]
fn everything_heals() {
    run_all(Temper::Rough);
}
