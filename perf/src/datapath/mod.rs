//! `datapath`: what one worker's pipeline costs per packet, in both directions, by stage.
//!
//! The worker is the production one, driven burst by burst in this process; rings stand in
//! for the underlay port and the tenant's vhost queues. Totals come from a worker without
//! probe, the split from a second one that reads the TSC between stages; the two take turns,
//! so that what disturbs the machine disturbs both.

pub mod alone;
mod beside;
pub mod edge;
pub mod frames;
pub mod pair;
mod tables;

use anyhow::{Context, anyhow, ensure};
use clap::{Args, ValueEnum};
use vswitch::datapath::probe::{NoProbe, Probe, Stage};
use vswitch::dpdk::eal::{Eal, EalConfig, LogLevel};
use vswitch::dpdk::hugepages::Memory;
use vswitch::dpdk::mbuf::BURST;
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::thread::{allowed_cores, spawn_worker};
use vswitch::dpdk::time::TscClock;
use vswitch_aead::Backend;
use vswitch_sa::Algorithm;

use crate::machine::Machine;
use crate::options::{Only, Report};
use crate::report::Record;
use crate::stats::{Durations, median, min};
use beside::Beside;
use edge::Common;
use pair::{Direction, Pair, WINDOW};

/// Name of the benchmark.
pub const NAME: &str = "datapath";

/// Inner frames in bytes, without FCS.
pub const SIZES: [usize; 4] = [64, 512, 1400, JUMBO];
/// The largest. Each lies in one buffer, for which its pool has larger ones.
const JUMBO: usize = 9000;

/// Networks with SAs of their own that take turns, and the algorithm of those SAs.
pub const ROTATIONS: [u16; 2] = [100, 10_000];
const ROTATED: (&str, Option<Algorithm>) = ("aes-128-gcm", Some(Algorithm::Aes128Gcm));

/// Protection of the network, by name.
pub const PROTECTIONS: [(&str, Option<Algorithm>); 3] = [
    ("none", None),
    ("aes-128-gcm", Some(Algorithm::Aes128Gcm)),
    ("aes-256-gcm", Some(Algorithm::Aes256Gcm)),
];

/// Everything together, in records.
pub const TOTAL: &str = "total";
/// [`TOTAL`] less receive and transmit.
pub const WITHOUT_IO: &str = "without-io";
/// [`TOTAL`] of a worker that was watched before and is no more, as the daemon's is between
/// two traces; TOTAL itself is of one that never was.
pub const TRACE_IDLE: &str = "trace-idle";
/// [`TOTAL`] of a worker that looks for a frame by its EtherType, which no packet here has: of
/// tenants' frames that is known when they arrive.
pub const TRACE_EARLY: &str = "trace-no-match";
/// [`TOTAL`] of a worker that looks for drops, of which there are none: every packet's way is
/// recorded until it ends.
pub const TRACE_LATE: &str = "trace-no-drop";
/// What belongs to no stage: the loop, the burst boundary, the reading of the probe.
pub const LOOP: &str = "loop";

const TICKS: &str = "ticks/packet";

/// Packets that are out at the same time are few; the rest keeps the pool's cache full.
const BUFFERS: u32 = 8192;
const JUMBO_BUFFERS: u32 = 2048;

/// Options of the benchmark.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    report: Report,
    #[command(flatten)]
    only: Only,
    /// Totals only: one worker without probe, nothing beside it. For a profiler to sample.
    #[arg(long)]
    alone: bool,
    /// Rounds per case; figures are medians over them. Many short ones: of these, most see no
    /// other process on their CPU.
    #[arg(long, default_value_t = 151, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Packets per round and case; at least 256.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(256..))]
    packets: u32,
    /// The CPU to measure on; without it, the last that may be used.
    #[arg(long, value_name = "CPU")]
    core: Option<usize>,
    /// Memory for packet buffers.
    #[arg(long, value_enum, default_value_t = Pages::Auto)]
    memory: Pages,
    /// The AES-GCM implementation, by name; without it, the best that this CPU can run.
    #[arg(long, value_name = "NAME")]
    aead: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Pages {
    /// Hugepages if enough are free.
    Auto,
    /// Hugepages or nothing.
    Hugepages,
    /// Ordinary pages.
    NoHuge,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Effort {
    rounds: usize,
    windows: usize,
    /// Only the worker without probe.
    alone: bool,
}

/// Runs the benchmark and prints what it found.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let backend = vswitch_aead::select(options.aead.as_deref())?;
    let eal = Eal::init(&EalConfig {
        memory: match options.memory {
            Pages::Auto => Memory::Auto,
            Pages::Hugepages => Memory::Hugepages,
            Pages::NoHuge => Memory::NoHuge,
        },
        memory_mb: 192,
        log_level: LogLevel::Error,
        ..EalConfig::default()
    })?;
    let cores = allowed_cores();
    let core = options
        .core
        .or(cores.last().copied())
        .context("no CPU to measure on")?;
    let clock = TscClock::new()?;
    let machine = Machine::here(
        core,
        cores.len(),
        clock.hz(),
        eal.hugepages(),
        backend.name(),
    );
    let effort = if options.report.quick {
        Effort {
            rounds: 3,
            windows: 1,
            alone: options.alone,
        }
    } else {
        Effort {
            rounds: usize::from(options.rounds),
            windows: options.packets as usize / (WINDOW * BURST),
            alone: options.alone,
        }
    };
    let only = options.only.clone();
    let thread = spawn_worker("bench", core, move |_| {
        measure(backend, clock, effort, &only)
    })?;
    let records = thread
        .join()
        .map_err(|_| anyhow!("the measuring thread panicked"))??;
    ensure!(!records.is_empty(), "no case has such a name");
    let mut text = Vec::new();
    tables::write(&mut text, &records, &machine, effort.rounds)?;
    let pictures = [tables::picture(&records)];
    let report = &options.report;
    report.publish(NAME, &records, &machine, &text, &pictures)
}

/// All cases, on the pinned thread.
fn measure(
    backend: &'static dyn Backend,
    clock: TscClock,
    effort: Effort,
    only: &Only,
) -> anyhow::Result<Vec<Record>> {
    let small = Mempool::create("bench", BUFFERS, 2048, None, false)?;
    let large = Mempool::create("bench-jumbo", JUMBO_BUFFERS, JUMBO + 512, None, false)?;
    let mut records = Vec::new();
    let alone = PROTECTIONS.map(|protection| (protection, 1));
    let rotations = ROTATIONS.map(|vns| (ROTATED, vns));
    for ((protection, algorithm), vns) in alone.into_iter().chain(rotations) {
        let case = |direction: Direction| match vns {
            1 => format!("{}/{protection}", direction.name()),
            _ => format!("{}/{protection}/{vns}-sas", direction.name()),
        };
        if !Direction::ALL.iter().any(|d| only.wants(&case(*d))) {
            continue;
        }
        for (pool, sizes) in [(&small, &SIZES[..3]), (&large, &SIZES[3..])] {
            let common = Common {
                pool: pool.clone(),
                backend,
                algorithm,
                vns,
            };
            let mut plain = Pair::new(&common, NoProbe)?;
            let mut beside = match effort.alone {
                true => None,
                false => Some(Beside::new(&common)?),
            };
            for direction in Direction::ALL {
                if !only.wants(&case(direction)) {
                    continue;
                }
                for &bytes in sizes {
                    prove(&mut plain, bytes)?;
                    if let Some(beside) = &mut beside {
                        beside.prove(bytes)?;
                    }
                    let found = rounds(&mut plain, beside.as_mut(), direction, bytes, effort)?;
                    records.extend(found.records(&case(direction), bytes, clock)?);
                }
            }
            plain.near.check()?;
            if let Some(beside) = &beside {
                beside.probed.near.check()?;
            }
        }
    }
    Ok(records)
}

fn prove<P: Probe>(pair: &mut Pair<P>, bytes: usize) -> anyhow::Result<()> {
    let arrived = pair.prove(bytes)?;
    ensure!(
        arrived == WINDOW * BURST,
        "{arrived} packets crossed the tunnel"
    );
    Ok(())
}

/// What was measured of one case: by round, ticks per packet.
struct Found {
    total: Vec<f64>,
    /// By stage, as in [`Stage::ALL`].
    stages: [Vec<f64>; Stage::ALL.len()],
    /// In no stage.
    rest: Vec<f64>,
    bursts: Durations,
    /// As `total`, of [`TRACE_IDLE`], [`TRACE_EARLY`] and [`TRACE_LATE`].
    traced: [Vec<f64>; 3],
}

fn rounds(
    plain: &mut Pair<NoProbe>,
    mut beside: Option<&mut Beside>,
    direction: Direction,
    bytes: usize,
    effort: Effort,
) -> anyhow::Result<Found> {
    let mut found = Found {
        total: Vec::new(),
        stages: Default::default(),
        rest: Vec::new(),
        bursts: Durations::new()?,
        traced: Default::default(),
    };
    let packets = (effort.windows * WINDOW * BURST) as f64;
    // Caches, branch predictors and the clock of the core.
    let warm_up = effort.windows;
    plain.round(direction, bytes, warm_up, &mut Durations::new()?)?;
    if let Some(beside) = &mut beside {
        let mut aside = Durations::new()?;
        beside.probed.round(direction, bytes, warm_up, &mut aside)?;
    }
    for _ in 0..effort.rounds {
        let ticks = plain.round(direction, bytes, effort.windows, &mut found.bursts)?;
        found.total.push(ticks as f64 / packets);
        if let Some(beside) = &mut beside {
            beside.round(&mut found, direction, bytes, effort.windows)?;
        }
    }
    Ok(found)
}

impl Found {
    fn records(&self, case: &str, bytes: usize, clock: TscClock) -> anyhow::Result<Vec<Record>> {
        let record = |part, unit, stat, value| Record {
            bench: NAME,
            case: case.to_owned(),
            part,
            bytes,
            unit,
            stat,
            value,
        };
        let total = median(&self.total).context("no rounds")?;
        let least = min(&self.total).context("no rounds")?;
        let ns = 1e9 / clock.hz() as f64;
        let p = |share| self.bursts.quantile(share) as f64;
        let mut records = vec![
            record(TOTAL, TICKS, "median", total),
            record(TOTAL, TICKS, "min", least),
            record(TOTAL, "ns/packet", "median", total * ns),
            record(TOTAL, "ns/packet", "min", least * ns),
            record(TOTAL, "ticks/burst", "p50", p(0.5)),
            record(TOTAL, "ticks/burst", "p99", p(0.99)),
        ];
        if self.rest.is_empty() {
            return Ok(records);
        }
        let mut without_io = total;
        for (stage, ticks) in Stage::ALL.into_iter().zip(&self.stages) {
            let ticks = median(ticks).context("no rounds")?;
            if matches!(stage, Stage::Receive | Stage::Transmit) {
                without_io -= ticks;
            }
            // A stage that packets of this case do not pass.
            if ticks > 0.0 {
                records.push(record(stage.name(), TICKS, "median", ticks));
            }
        }
        for (part, ticks) in [TRACE_IDLE, TRACE_EARLY, TRACE_LATE]
            .into_iter()
            .zip(&self.traced)
        {
            let (median, least) = (median(ticks), min(ticks));
            records.push(record(part, TICKS, "median", median.context("no rounds")?));
            records.push(record(part, TICKS, "min", least.context("no rounds")?));
        }
        let rest = median(&self.rest).context("no rounds")?;
        records.push(record(LOOP, TICKS, "median", rest));
        records.push(record(WITHOUT_IO, TICKS, "median", without_io));
        Ok(records)
    }
}
