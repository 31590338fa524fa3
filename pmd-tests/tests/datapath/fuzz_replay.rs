//! The fuzz targets without a fuzzer: seeds, the inputs that once broke something, and some
//! thousands of mutations, the same in every run.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pmd_tests::fuzz::TARGETS;
use pmd_tests::isolate::isolated;
use pmd_tests::noise::Noise;

/// Inputs that broke something, by target.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../vswitch/fuzz/fixtures");
/// Mutations of a target at most, and how long they may take, in every run of the tests.
/// `VSWITCH_MUTATIONS` asks for another number, however long that takes.
const MUTATIONS: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(4);

static PANICS: AtomicUsize = AtomicUsize::new(0);

fn replay(name: &str) {
    let hook = std::panic::take_hook();
    // One in a task of the API's server would not reach us.
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        hook(info);
    }));
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.expect("a target");
    let mut eat = (target.start)();
    let dir = Path::new(FIXTURES).join(name);
    for entry in fs::read_dir(&dir).into_iter().flatten() {
        let path = entry.expect("a fixture").path();
        println!("fixture {}", path.display());
        eat(&fs::read(&path).expect("a fixture"));
    }
    let seeds = (target.seeds)();
    for seed in &seeds {
        eat(seed);
    }
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().expect("a number"))
    };
    let wanted = number("VSWITCH_MUTATIONS");
    let seed = number("VSWITCH_MUTATIONS_SEED").unwrap_or(1);
    let (mut noise, began, mut done) = (Noise::new(seed), Instant::now(), 0);
    while done < wanted.unwrap_or(MUTATIONS) && (wanted.is_some() || began.elapsed() < PATIENCE) {
        let mut input = seeds[noise.below(seeds.len())].clone();
        noise.mutate(&mut input);
        eat(&input);
        done += 1;
    }
    assert!(done > 0);
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    println!(
        "{name}: {} seeds, {done} mutations (seed {seed})",
        seeds.len()
    );
}

#[test]
fn underlay() {
    isolated(|| replay("underlay"));
}

#[test]
fn tenant() {
    isolated(|| replay("tenant"));
}

#[test]
fn config() {
    isolated(|| replay("config"));
}

#[test]
fn api() {
    isolated(|| replay("api"));
}

/// A fixture of a target that is not there would never be played.
#[test]
fn fixtures_belong_to_targets() {
    for entry in fs::read_dir(FIXTURES).into_iter().flatten() {
        let entry = entry.expect("a directory");
        let name = entry.file_name();
        if entry.file_type().expect("its type").is_dir() {
            assert!(TARGETS.iter().any(|target| name == target.name), "{name:?}");
        }
    }
}

#[test]
fn aead() {
    isolated(|| replay("aead"));
}

#[test]
fn peer_message() {
    isolated(|| replay("peer_message"));
}

#[test]
fn ima_message() {
    isolated(|| replay("ima_message"));
}

#[test]
fn operator_message() {
    isolated(|| replay("operator_message"));
}

#[test]
fn frames() {
    isolated(|| replay("frames"));
}

#[test]
fn certificate() {
    isolated(|| replay("certificate"));
}

#[test]
fn record() {
    isolated(|| replay("record"));
}
