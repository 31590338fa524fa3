//! `peers`: this switch, protected, beside Open vSwitch with DPDK in the clear, on the same
//! ports of the same drivers, one polling thread each, pinned to the same core.
//!
//! They take turns, second by second; who is not measured is stopped (SIGSTOP), so that the
//! core belongs to one of them. What the ports alone cost is measured in the same turns, by
//! testpmd, and taken off where both have the same ports.

pub mod frames;
mod ground;
mod inward;
pub(crate) mod io;
mod ovs;
pub(crate) mod stop;
mod tables;
mod turns;

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use vswitch::dpdk::eal::{Eal, EalConfig, LogLevel};
use vswitch::dpdk::hugepages::{Memory, choose, survey};
use vswitch::dpdk::thread::allowed_cores;
use vswitch::dpdk::time::TscClock;

use crate::machine::Machine;
use crate::options::{Only, Report};
use crate::report::Record;
use crate::stats::median;
use frames::Tunnel;
use ground::Ground;
use turns::Side;

/// Name of the benchmark.
pub const NAME: &str = "peers";
/// Inner frames in bytes, without FCS.
pub const SIZES: [usize; 3] = [64, 512, 1400];

/// Ours, in records.
pub const OURS: &str = "vswitch";
/// The peer.
pub const OVS: &str = "ovs-dpdk";

/// Hugepages that all processes of a case need together, in megabytes.
const MEMORY: u32 = 1200;

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a device with the tenant's frames to the underlay.
    Out,
    /// From the underlay to a device for the tenant.
    In,
    /// From a vhost queue to the underlay.
    Vhost,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 3] = [Way::Out, Way::In, Way::Vhost];

    /// Name for cases.
    pub const fn name(self) -> &'static str {
        match self {
            Way::Out => "tenant-to-underlay",
            Way::In => "underlay-to-tenant",
            Way::Vhost => "vhost-tenant-to-underlay",
        }
    }
}

/// Options of the benchmark.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    report: Report,
    #[command(flatten)]
    only: Only,
    /// Only frames of so many bytes.
    #[arg(long, value_name = "BYTES")]
    size: Option<usize>,
    /// Turns of each; figures are medians over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Milliseconds of each turn.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    time: u64,
    /// The tunnel of Open vSwitch; ours is always Geneve in ESP.
    #[arg(long, value_enum, default_value_t = Tunnel::Vxlan)]
    tunnel: Tunnel,
    /// Our AES-GCM implementation, by name; without it, the best that this CPU can run.
    #[arg(long, value_name = "NAME")]
    aead: Option<String>,
    /// The CPU to measure on; without it, the last that may be used.
    #[arg(long, value_name = "CPU")]
    core: Option<usize>,
}

/// CPUs: one for polling, one for everything else.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// Control, and the tenant.
    pub main: usize,
    /// The measured one.
    pub worker: usize,
}

/// What a thread took for how many packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    /// TSC ticks in which it had packets at hand.
    pub ticks: u64,
    /// Packets.
    pub packets: u64,
}

impl Ticks {
    /// Ticks per packet; an error if there was none.
    pub fn per_packet(self) -> anyhow::Result<f64> {
        ensure!(self.packets > 0, "no packet in a whole turn");
        Ok(self.ticks as f64 / self.packets as f64)
    }
}

/// What was found of one case.
pub struct Found {
    way: Way,
    bytes: usize,
    ours: Side,
    /// `None` without Open vSwitch.
    ovs: Option<Side>,
}

/// Runs the benchmark and prints what it found.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let cores = allowed_cores();
    let worker = options.core.or(cores.last().copied());
    let worker = worker.context("no CPU to measure on")?;
    let main = cores.iter().copied().find(|core| *core != worker);
    let main = main.context("two CPUs are needed: one polls, one has everything else")?;
    let hugepages = choose(Memory::Auto, MEMORY, &survey()).is_ok_and(|found| found.hugepages);
    let backend = vswitch_aead::select(options.aead.as_deref())?;
    let eal = Eal::init(&EalConfig {
        memory: if hugepages {
            Memory::Hugepages
        } else {
            Memory::NoHuge
        },
        memory_mb: 128,
        log_level: LogLevel::Error,
        ..EalConfig::default()
    })?;
    stop::listen()?;
    let hz = TscClock::new()?.hz();
    let machine = Machine::here(worker, cores.len(), hz, eal.hugepages(), backend.name());
    let (usr, missing) = match ovs::find() {
        Ok(usr) => (Some(usr), None),
        Err(why) => (None, Some(why)),
    };
    let ground = Ground {
        cores: Cores { main, worker },
        hugepages,
        backend,
        ovs: usr,
        tunnel: options.tunnel,
        rounds: if options.report.quick {
            1
        } else {
            options.rounds.into()
        },
        time: Duration::from_millis(if options.report.quick {
            100
        } else {
            options.time
        }),
    };
    let mut found = Vec::new();
    for way in Way::ALL
        .into_iter()
        .filter(|way| options.only.wants(way.name()))
    {
        let wanted = |bytes: &usize| options.size.is_none_or(|only| only == *bytes);
        for bytes in SIZES.into_iter().filter(wanted) {
            let case = ground.case(way, bytes);
            found.push(case.with_context(|| format!("{}, {bytes} B", way.name()))?);
        }
    }
    ensure!(!found.is_empty(), "no case is called so");
    let mut records = Vec::new();
    for case in &found {
        records.extend(case.records()?);
    }
    let mut text = Vec::new();
    tables::write(&mut text, &records, &machine, &ground, missing.as_deref())?;
    let pictures = tables::pictures(&records);
    let report = &options.report;
    report.publish(NAME, &records, &machine, &text, &pictures)
}

impl Found {
    fn records(&self) -> anyhow::Result<Vec<Record>> {
        let mut records = Vec::new();
        let sides = [(OURS, Some(&self.ours)), (OVS, self.ovs.as_ref())];
        for (name, side) in sides {
            let Some(side) = side else {
                continue;
            };
            let record = |part, value| Record {
                bench: NAME,
                case: format!("{}/{name}", self.way.name()),
                part,
                bytes: self.bytes,
                unit: "ticks/packet",
                stat: "median",
                value,
            };
            let total = median(&side.total).context("no turns")?;
            records.push(record("total", total));
            if let Some(ports) = median(&side.ports) {
                records.push(record("ports", ports));
                records.push(record("without-io", total - ports));
            }
        }
        Ok(records)
    }
}
