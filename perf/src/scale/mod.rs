//! `scale`: what two workers do beside one, on the path of `peers` from a tenant to the
//! underlay, protected: `net_pcap` without end in, `net_null` out, `vswitchd` between them.
//!
//! While a turn is measured this process sleeps: both CPUs are the workers'. Others may want
//! them too, so that everything is counted twice: packets per second of the clock, which is
//! what a user gets, and packets per second that the workers had a CPU, which leaves out what
//! others took. Two switches of one worker each, which share nothing but the machine, say how
//! much of what is missing is the machine's.

mod sides;
mod tables;

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use vswitch::dpdk::eal::{Eal, EalConfig, LogLevel};
use vswitch::dpdk::hugepages::{Memory, choose, survey};
use vswitch::dpdk::thread::allowed_cores;
use vswitch::dpdk::time::TscClock;

use crate::machine::Machine;
use crate::options::Report;
use crate::peers::{Cores, SIZES, stop};
use crate::report::Record;
use crate::stats::median;
use crate::switch::MEMORY;
use sides::{Sides, Work};

/// Name of the benchmark.
pub const NAME: &str = "scale";

/// A packet that is sent, per second of the clock.
pub const RATE: &str = "packets/s";
/// And per second that its worker had a CPU.
pub const BY_CPU: &str = "packets/cpu-s";
/// Beside [`Side::One`] in the same round.
pub const TIMES_ONE: &str = "times-one";
/// Workers times [`BY_CPU`], beside [`Side::One`] in the same round.
pub const TIMES_ONE_BY_CPU: &str = "times-one-by-cpu";
/// Of the time, that workers had a CPU.
pub const ON_CPU: &str = "on-cpu";
/// Of what was received, that was dropped.
pub const DROPPED: &str = "dropped";

/// What takes turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// One switch, one worker.
    One,
    /// One switch, two workers, each with a queue of either port and an association.
    Two,
    /// Two switches of one worker each, at the same time.
    Apart,
    /// One switch, two workers: one has the tenant's queue, the other the association, so that
    /// every packet is handed over.
    HandedOver,
}

impl Side {
    /// All of them; the others are compared with the first.
    pub const ALL: [Side; 4] = [Side::One, Side::Two, Side::Apart, Side::HandedOver];

    /// Name for cases.
    pub const fn name(self) -> &'static str {
        match self {
            Side::One => "one-worker",
            Side::Two => "two-workers",
            Side::Apart => "two-switches",
            Side::HandedOver => "handed-over",
        }
    }

    /// Workers.
    pub const fn workers(self) -> u8 {
        match self {
            Side::One => 1,
            Side::Two | Side::Apart | Side::HandedOver => 2,
        }
    }
}

/// Options of the benchmark.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    report: Report,
    /// Only frames of so many bytes.
    #[arg(long, value_name = "BYTES")]
    size: Option<usize>,
    /// Turns of each; figures are medians over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Milliseconds of each turn.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    time: u64,
    /// Our AES-GCM implementation, by name; without it, the best that this CPU can run.
    #[arg(long, value_name = "NAME")]
    aead: Option<String>,
}

/// What was found of one size: by side, by round.
struct Found {
    bytes: usize,
    sides: [Vec<Work>; Side::ALL.len()],
}

/// Runs the benchmark and prints what it found.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let cpus = allowed_cores();
    let worker = *cpus.last().context("no CPU to measure on")?;
    let other = cpus.iter().copied().find(|core| *core != worker);
    let cores = Cores {
        main: other.context("two CPUs are needed")?,
        worker,
    };
    let memory = sides::SWITCHES * MEMORY + 64;
    let hugepages = choose(Memory::Auto, memory, &survey()).is_ok_and(|found| found.hugepages);
    let backend = vswitch_aead::select(options.aead.as_deref())?;
    let _eal = Eal::init(&EalConfig {
        memory: Memory::NoHuge,
        memory_mb: 64,
        log_level: LogLevel::Error,
        ..EalConfig::default()
    })?;
    stop::listen()?;
    let hz = TscClock::new()?.hz();
    let machine = Machine::here(worker, cpus.len(), hz, hugepages, backend.name());
    let quick = options.report.quick;
    let rounds = if quick { 1 } else { options.rounds.into() };
    let time = Duration::from_millis(if quick { 100 } else { options.time });
    let mut found = Vec::new();
    let wanted = |bytes: &usize| options.size.is_none_or(|only| only == *bytes);
    for bytes in SIZES.into_iter().filter(wanted) {
        let mut sides = Sides::start(cores, hugepages, backend.name(), bytes)?;
        let measured = sides.measure(rounds, time);
        found.push(Found {
            bytes,
            sides: measured.with_context(|| format!("{bytes} B"))?,
        });
        sides.stop()?;
    }
    ensure!(!found.is_empty(), "sizes are {SIZES:?}");
    let mut records = Vec::new();
    for found in &found {
        records.extend(found.records()?);
    }
    let mut text = Vec::new();
    tables::write(&mut text, &records, &machine, rounds, cores)?;
    let pictures = [tables::picture(&records)];
    let report = &options.report;
    report.publish(NAME, &records, &machine, &text, &pictures)
}

impl Found {
    fn records(&self) -> anyhow::Result<Vec<Record>> {
        let mut records = Vec::new();
        let [one, ..] = &self.sides;
        for (side, work) in Side::ALL.into_iter().zip(&self.sides) {
            let mut record = |part, unit, values: Vec<f64>| -> anyhow::Result<()> {
                records.push(Record {
                    bench: NAME,
                    case: side.name().to_owned(),
                    part,
                    bytes: self.bytes,
                    unit,
                    stat: "median",
                    value: median(&values).context("no rounds")?,
                });
                Ok(())
            };
            let workers = f64::from(side.workers());
            let each = |of: &dyn Fn(&Work) -> f64| work.iter().map(of).collect::<Vec<_>>();
            let beside = |of: &dyn Fn(&Work) -> f64| {
                let rounds = work.iter().zip(one);
                rounds.map(|(it, one)| of(it) / of(one)).collect::<Vec<_>>()
            };
            record(RATE, RATE, each(&Work::rate))?;
            record(BY_CPU, BY_CPU, each(&Work::by_cpu))?;
            record(ON_CPU, "share", each(&|work| work.on_cpu(workers)))?;
            record(DROPPED, "share", each(&Work::lost))?;
            record(TIMES_ONE, "ratio", beside(&Work::rate))?;
            let by_cpu = beside(&Work::by_cpu);
            let by_cpu = by_cpu.into_iter().map(|ratio| ratio * workers).collect();
            record(TIMES_ONE_BY_CPU, "ratio", by_cpu)?;
        }
        Ok(records)
    }
}
