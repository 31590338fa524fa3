//! `aead`: what sealing and opening a packet costs, for each of our AES-GCM backends that this
//! CPU can run and for the libraries that others use, side by side in one run.
//!
//! Packets lie in DPDK's buffers and are worked on in place, in batches as the worker makes
//! them, each packet with the next key of a random order. Every contestant works on the same
//! packets and must get each of them right.

pub mod contestants;
pub mod ipsec_mb;
pub mod measure;
pub mod packets;
mod tables;

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use vswitch::dpdk::eal::{Eal, EalConfig, LogLevel};
use vswitch::dpdk::hugepages::Memory;
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::thread::{allowed_cores, spawn_worker};
use vswitch::dpdk::time::TscClock;
use vswitch_aead::Algorithm;

use crate::machine::Machine;
use crate::options::{Only, Report};
use crate::report::Record;
use crate::stats::{median, min};
use ipsec_mb::{Cores, Run};
use measure::{Case, Effort, Found, Heat, Operation, Span};

/// Name of the benchmark.
pub const NAME: &str = "aead";

/// Bytes enciphered. The last lies in one buffer, as the others do.
pub const SIZES: [usize; 5] = [64, 256, 512, 1420, 9000];
/// Packets of a call; the first is the one that everything else is measured with.
pub const BATCHES: [usize; 4] = [32, 1, 4, 64];
/// Keys in random order, of packets of [`KEYED_SIZES`].
pub const KEYS: [usize; 3] = [1, 100, 10_000];
/// Sizes at which keys may matter.
pub const KEYED_SIZES: [usize; 2] = [64, 1420];
/// Keys where their number is not the question: each packet of a burst has another.
pub const MIXED: usize = 32;

/// Statistic of a backend's call alone, without the making of its jobs: a median.
pub const CALL: &str = "median-of-call";

const JUMBO: usize = 9000;
/// Cold packets: with their buffers, many times a core's caches.
const COLD: usize = 16384;
const COLD_JUMBO: usize = 4096;

/// Options of the benchmark.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    report: Report,
    #[command(flatten)]
    only: Only,
    /// Times that all cases and then intel-ipsec-mb are gone through.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    laps: u16,
    /// Rounds per case, contestant and lap; figures are medians over those of all laps.
    #[arg(long, default_value_t = 41, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The CPU to measure on; without it, the last that may be used.
    #[arg(long, value_name = "CPU")]
    core: Option<usize>,
    /// Ordinary pages instead of hugepages.
    #[arg(long)]
    no_huge: bool,
}

/// Every case there is.
pub fn cases() -> Vec<Case> {
    let case = |algorithm, heat, keys, batch, bytes| Case {
        algorithm,
        heat,
        keys,
        batch,
        bytes,
    };
    let (short, long) = (Algorithm::Aes128Gcm, Algorithm::Aes256Gcm);
    let mut cases = Vec::new();
    for batch in BATCHES {
        cases.extend(SIZES.map(|bytes| case(short, Heat::Hot, MIXED, batch, bytes)));
    }
    let [batch, ..] = BATCHES;
    cases.extend(SIZES.map(|bytes| case(long, Heat::Hot, MIXED, batch, bytes)));
    cases.extend(SIZES.map(|bytes| case(short, Heat::Cold, MIXED, batch, bytes)));
    for keys in KEYS {
        cases.extend(KEYED_SIZES.map(|bytes| case(short, Heat::Hot, keys, batch, bytes)));
    }
    cases
}

/// Runs the benchmark and prints what it found.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let backend = vswitch_aead::select(None)?;
    let eal = Eal::init(&EalConfig {
        memory: if options.no_huge {
            Memory::NoHuge
        } else {
            Memory::Auto
        },
        memory_mb: if options.report.quick { 64 } else { 192 },
        log_level: LogLevel::Error,
        ..EalConfig::default()
    })?;
    let cores = allowed_cores();
    let core = options.core.or(cores.last().copied());
    let core = core.context("no CPU to measure on")?;
    let clock = TscClock::new()?;
    let name = backend.name();
    let machine = Machine::here(core, cores.len(), clock.hz(), eal.hugepages(), name);
    let child = Cores {
        main: cores.first().copied().unwrap_or(core),
        worker: core,
    };
    let missing = ipsec_mb::missing(child);
    let plan = Plan::new(options);
    ensure!(!plan.cases.is_empty(), "no case has such a name");
    let mut found = Found::new();
    for _ in 0..plan.laps {
        let (cases, effort) = (plan.cases.clone(), plan.effort);
        // A thread for each lap: while it is gone, its CPU is the child's.
        let thread = spawn_worker("bench", core, move |_| ours(&cases, effort, found))?;
        found = thread
            .join()
            .map_err(|_| anyhow!("the measuring thread panicked"))??;
        if missing.is_none() {
            for run in &plan.runs {
                ipsec_mb::measure(run, child, MIXED, &mut found)?;
            }
        }
    }
    let records = records(&found, clock)?;
    let mut text = Vec::new();
    tables::write(&mut text, &records, &machine, missing.as_deref())?;
    let pictures = tables::pictures(&records);
    let report = &options.report;
    report.publish(NAME, &records, &machine, &text, &pictures)
}

/// What is done in a lap.
struct Plan {
    cases: Vec<Case>,
    runs: Vec<Run<'static>>,
    laps: usize,
    effort: Effort,
}

impl Plan {
    fn new(options: &Options) -> Plan {
        let quick = options.report.quick;
        let wanted = |case: &Case, operation| options.only.wants(&case.name(operation));
        let any = |case: &Case| Operation::ALL.iter().any(|o| wanted(case, *o));
        let cases: Vec<Case> = cases().into_iter().filter(any).collect();
        let mut runs = Vec::new();
        let bursts: [(_, &[usize]); 2] = [
            (Algorithm::Aes128Gcm, &BATCHES),
            (Algorithm::Aes256Gcm, BATCHES.split_at(1).0),
        ];
        for (algorithm, bursts) in bursts {
            for operation in Operation::ALL {
                let here =
                    |c: &&Case| c.algorithm == algorithm && c.heat == Heat::Hot && c.keys == MIXED;
                if cases.iter().filter(here).any(|c| wanted(c, operation)) {
                    runs.push(Run {
                        algorithm,
                        operation,
                        bursts,
                        sizes: &SIZES,
                        packets: if quick { 2048 } else { 200_000 },
                    });
                }
            }
        }
        let (laps, effort) = if quick {
            (
                1,
                Effort {
                    rounds: 2,
                    windows: 1,
                    cold: 64,
                },
            )
        } else {
            (
                options.laps.into(),
                Effort {
                    rounds: options.rounds.into(),
                    windows: 16,
                    cold: COLD,
                },
            )
        };
        Plan {
            cases,
            runs,
            laps,
            effort,
        }
    }
}

/// One lap on the pinned thread.
fn ours(cases: &[Case], effort: Effort, mut found: Found) -> anyhow::Result<Found> {
    // With what rests in caches, and the one in which templates are made.
    let spare = 1024;
    for jumbo in [false, true] {
        let cold = if jumbo {
            effort.cold.min(COLD_JUMBO)
        } else {
            effort.cold
        };
        let room = if jumbo { JUMBO + 256 } else { 2048 };
        let buffers = u32::try_from(cold + spare)?;
        let pool = Mempool::create("bench", buffers, room, None, false)?;
        let effort = Effort { cold, ..effort };
        for case in cases.iter().filter(|case| (case.bytes == JUMBO) == jumbo) {
            measure::measure(case, &pool, effort, &mut found)?;
        }
    }
    Ok(found)
}

fn records(found: &Found, clock: TscClock) -> anyhow::Result<Vec<Record>> {
    let ns = 1e9 / clock.hz() as f64;
    let mut records = Vec::new();
    for ((case, bytes, contestant, span), ticks) in found {
        let record = |unit, stat, value| Record {
            bench: NAME,
            case: case.clone(),
            part: contestant,
            bytes: *bytes,
            unit,
            stat,
            value,
        };
        let (median, least) = (median(ticks), min(ticks));
        let (median, least) = (median.context("no rounds")?, least.context("no rounds")?);
        if *span == Span::Call {
            records.push(record("ticks/packet", CALL, median));
            continue;
        }
        records.push(record("ticks/packet", "median", median));
        records.push(record("ticks/packet", "min", least));
        records.push(record("ns/packet", "median", median * ns));
    }
    Ok(records)
}
