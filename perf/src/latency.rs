//! `latency`: what it costs to follow packets for their latency, and what a report costs.
//!
//! Two pairs of edges take turns, round by round, in one process: one follows packets as in
//! production, the other none. What disturbs the machine disturbs both; the cost is the
//! median of the differences between neighbouring rounds.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use vswitch::datapath::latency::INTERVAL;
use vswitch::datapath::probe::NoProbe;
use vswitch::dpdk::eal::{Eal, EalConfig, LogLevel};
use vswitch::dpdk::hugepages::Memory;
use vswitch::dpdk::mbuf::BURST;
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::thread::{allowed_cores, spawn_worker};
use vswitch::dpdk::time::{self, TscClock};
use vswitch_aead::Backend;

use crate::datapath::edge::Common;
use crate::datapath::pair::{Direction, Pair, WINDOW};
use crate::datapath::{PROTECTIONS, SIZES as ALL_SIZES};
use crate::machine::Machine;
use crate::options::{Only, Report};
use crate::report::{Record, Table};
use crate::stats::{Durations, median};

/// Frames that fit into one buffer of ordinary size.
pub const SIZES: &[usize] = ALL_SIZES.split_at(3).0;

/// Name of the benchmark.
pub const NAME: &str = "latency";

/// Ticks per packet with packets followed.
pub const ON: &str = "on";
/// Ticks per packet with none.
pub const OFF: &str = "off";
/// The difference in percent of [`OFF`].
pub const COST: &str = "cost";
/// A snapshot of one worker.
pub const SNAPSHOT: &str = "snapshot";

const BUFFERS: u32 = 8192;

/// Options of the benchmark.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    report: Report,
    #[command(flatten)]
    only: Only,
    /// Rounds per case and side.
    #[arg(long, default_value_t = 401, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Ordinary pages instead of hugepages.
    #[arg(long)]
    no_huge: bool,
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
        memory_mb: 128,
        log_level: LogLevel::Error,
        ..EalConfig::default()
    })?;
    let cores = allowed_cores();
    let core = *cores.last().context("no CPU to measure on")?;
    let clock = TscClock::new()?;
    let machine = Machine::here(
        core,
        cores.len(),
        clock.hz(),
        eal.hugepages(),
        backend.name(),
    );
    // Rounds as short as the interval would see a packet followed in some and in others not.
    let (rounds, windows) = if options.report.quick {
        (3, 1)
    } else {
        (usize::from(options.rounds), 16)
    };
    let only = options.only.clone();
    let thread = spawn_worker("bench", core, move |_| {
        measure(backend, clock, rounds, windows, &only)
    })?;
    let records = thread
        .join()
        .map_err(|_| anyhow!("the measuring thread panicked"))??;
    ensure!(!records.is_empty(), "no case has such a name");
    let mut text = Vec::new();
    writeln!(text, "{machine}\n")?;
    table(&records).write(&mut text)?;
    let report = &options.report;
    report.publish(NAME, &records, &machine, &text, &[])
}

fn measure(
    backend: &'static dyn Backend,
    clock: TscClock,
    rounds: usize,
    windows: usize,
    only: &Only,
) -> anyhow::Result<Vec<Record>> {
    let pool = Mempool::create("bench", BUFFERS, 2048, None, false)?;
    let mut records = Vec::new();
    for (protection, algorithm) in PROTECTIONS {
        let case = |direction: Direction| format!("{}/{protection}", direction.name());
        if !Direction::ALL.iter().any(|d| only.wants(&case(*d))) {
            continue;
        }
        let common = Common {
            pool: pool.clone(),
            backend,
            algorithm,
            vns: 1,
        };
        let mut on = Pair::new(&common, NoProbe)?;
        let mut off = Pair::new(&common, NoProbe)?;
        on.near.worker.set_latency_interval(Some(INTERVAL));
        off.near.worker.set_latency_interval(None);
        let wanted = |direction: &Direction| only.wants(&case(*direction));
        for direction in Direction::ALL.into_iter().filter(wanted) {
            for &bytes in SIZES {
                let found = alternate(&mut on, &mut off, direction, bytes, rounds, windows)?;
                records.extend(found.records(&case(direction), bytes)?);
            }
        }
        // Rounds end with every packet sent, so what was followed has arrived.
        let followed: u64 = (on.near.worker.counters().latency.found())
            .map(|(_, found)| found.len())
            .sum();
        ensure!(followed > 0, "no packet was followed");
        ensure!(off.near.worker.counters().latency.found().next().is_none());
        records.push(snapshot(&on, protection, clock)?);
    }
    Ok(records)
}

/// Ticks per packet, by round.
#[derive(Default)]
struct Found {
    on: Vec<f64>,
    off: Vec<f64>,
}

fn alternate(
    on: &mut Pair<NoProbe>,
    off: &mut Pair<NoProbe>,
    direction: Direction,
    bytes: usize,
    rounds: usize,
    windows: usize,
) -> anyhow::Result<Found> {
    let packets = (windows * WINDOW * BURST) as f64;
    let mut aside = Durations::new()?;
    let mut round = |pair: &mut Pair<NoProbe>| -> anyhow::Result<f64> {
        Ok(pair.round(direction, bytes, windows, &mut aside)? as f64 / packets)
    };
    // Caches and branch predictors.
    round(on)?;
    round(off)?;
    let mut found = Found::default();
    for i in 0..rounds {
        // Who goes first changes, so that neither has the other's warmth each time.
        if i % 2 == 0 {
            found.on.push(round(on)?);
            found.off.push(round(off)?);
        } else {
            found.off.push(round(off)?);
            found.on.push(round(on)?);
        }
    }
    Ok(found)
}

impl Found {
    fn records(&self, case: &str, bytes: usize) -> anyhow::Result<[Record; 3]> {
        let record = |part, unit, value| Record {
            bench: NAME,
            case: case.to_owned(),
            part,
            bytes,
            unit,
            stat: "median",
            value,
        };
        let costs: Vec<f64> = self
            .on
            .iter()
            .zip(&self.off)
            .map(|(on, off)| (on - off) / off * 100.0)
            .collect();
        Ok([
            record(ON, "ticks/packet", median(&self.on).context("no rounds")?),
            record(OFF, "ticks/packet", median(&self.off).context("no rounds")?),
            record(COST, "percent", median(&costs).context("no rounds")?),
        ])
    }
}

/// How long a worker stands still for a report.
fn snapshot(pair: &Pair<NoProbe>, protection: &str, clock: TscClock) -> anyhow::Result<Record> {
    let mut times = Vec::new();
    for _ in 0..101 {
        let start = time::tsc();
        let snapshot = pair.near.worker.snapshot();
        let ticks = time::tsc().wrapping_sub(start);
        ensure!(snapshot.counters.books(snapshot.held).balance());
        times.push(clock.to_ns(ticks) as f64);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(Record {
        bench: NAME,
        case: format!("snapshot/{protection}"),
        part: SNAPSHOT,
        bytes: 0,
        unit: "ns",
        stat: "median",
        value: median(&times).context("no snapshots")?,
    })
}

fn table(records: &[Record]) -> Table {
    let mut table = Table::new(["path", "bytes", "ticks/packet on", "off", "cost %"]);
    for record in records.iter().filter(|r| r.part == ON) {
        let of = |part: &str| {
            let found = records
                .iter()
                .find(|r| r.part == part && r.case == record.case && r.bytes == record.bytes);
            found.map_or(0.0, |r| r.value)
        };
        table.row([
            record.case.clone(),
            record.bytes.to_string(),
            format!("{:.1}", record.value),
            format!("{:.1}", of(OFF)),
            format!("{:+.2}", of(COST)),
        ]);
    }
    for record in records.iter().filter(|r| r.part == SNAPSHOT) {
        let time = format!("{:.0} ns", record.value);
        table.row([record.case.clone(), String::new(), time]);
    }
    table
}
