//! `delay`: how long packets take through a switch that is loaded by half, up to the slowest of
//! a thousand.
//!
//! A generator in this process is the tenant, by virtio-user, and the underlay, by memif; the
//! `vswitchd` between them has one worker on another CPU, and protects what it forwards. First
//! it is given more than it takes, which says what it can do; then a share of that, at random
//! times (Poisson), so that packets wait for one another as they do in life. Each packet's time
//! is taken outside, from its tenant's queue to its arrival on the underlay.

mod generator;
mod tables;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use vswitch::dpdk::eal::{Eal, EalConfig, LogLevel};
use vswitch::dpdk::hugepages::{Memory, choose, survey};
use vswitch::dpdk::thread::{allowed_cores, spawn_worker};
use vswitch::dpdk::time::TscClock;
use vswitch::manage::status::Status;

use crate::machine::Machine;
use crate::options::Report;
use crate::peers::{Cores, stop};
use crate::report::Record;
use crate::stats::{median, min};
use crate::switch::{self, Attachment, MEMORY, Setup, Switch};
use generator::{Generator, Load, Turn};

/// Name of the benchmark.
pub const NAME: &str = "delay";
/// Frames in bytes, without FCS.
pub const SIZES: [usize; 2] = [64, 1400];
/// Shares of packets, by name.
pub const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// From the tenant's queue to the underlay.
pub const OUTSIDE: &str = "outside";
/// From receipt to transmission, as the switch sees it.
pub const INSIDE: &str = "inside";
/// Between two looks of the generator.
pub const GENERATOR: &str = "generator";

const CASE: &str = "vhost-tenant-to-underlay/aes-128-gcm";

/// Options of the benchmark.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    report: Report,
    /// Only frames of so many bytes.
    #[arg(long, value_name = "BYTES")]
    size: Option<usize>,
    /// Percent of the most packets that the worker can do.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=100))]
    load: u8,
    /// Turns; figures are medians over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Milliseconds of each turn.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    time: u64,
    /// Our AES-GCM implementation, by name; without it, the best that this CPU can run.
    #[arg(long, value_name = "NAME")]
    aead: Option<String>,
}

/// What was found of one size.
struct Found {
    bytes: usize,
    /// Packets per second of a worker that always has some at hand.
    most: f64,
    /// Its busy share when that was measured, 0 to 1.
    busy_at_most: f64,
    /// Packets per second that were to be sent.
    wanted: f64,
    turns: Vec<Turn>,
    /// Its busy share in these.
    busy: f64,
    /// The share of these in which it had its CPU.
    on_cpu: f64,
    /// Of the packets that the switch followed in these, the bound that 99.9 % did not exceed,
    /// in nanoseconds; `None` if it followed none.
    inside: Option<f64>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Effort {
    rounds: usize,
    time: Duration,
    load: f64,
}

/// Runs the benchmark and prints what it found.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let cpus = allowed_cores();
    let worker = *cpus.last().context("no CPU to measure on")?;
    let other = cpus.iter().copied().find(|core| *core != worker);
    let cores = Cores {
        main: other.context("two CPUs are needed: one polls, one makes packets")?,
        worker,
    };
    let hugepages = choose(Memory::Auto, MEMORY, &survey()).is_ok_and(|found| found.hugepages);
    let backend = vswitch_aead::select(options.aead.as_deref())?;
    // One piece of memory, as a virtio-user port must share all of it.
    let _eal = Eal::init(&EalConfig {
        memory: Memory::NoHuge,
        memory_mb: 128,
        log_level: LogLevel::Error,
        ..EalConfig::default()
    })?;
    stop::listen()?;
    let clock = TscClock::new()?;
    let machine = Machine::here(worker, cpus.len(), clock.hz(), hugepages, backend.name());
    let quick = options.report.quick;
    let effort = Effort {
        rounds: if quick { 1 } else { options.rounds.into() },
        time: Duration::from_millis(if quick { 100 } else { options.time }),
        load: f64::from(options.load) / 100.0,
    };
    let mut found = Vec::new();
    let wanted = |bytes: &usize| options.size.is_none_or(|only| only == *bytes);
    for bytes in SIZES.into_iter().filter(wanted) {
        let dir = tempfile::Builder::new().prefix("vsw").tempdir()?;
        let (socket, memif) = (dir.path().join("vm.sock"), dir.path().join("memif.sock"));
        let switch = switch::start(&Setup {
            dir: dir.path(),
            name: "loaded",
            cores: &[cores.worker],
            hugepages,
            aead: backend.name(),
            tenant: Attachment::VhostServer(&socket),
            underlay: &generator::underlay("server", &memif),
            senders: &[0],
        })?;
        let case = case(&switch, &socket, &memif, cores.main, bytes, clock, effort);
        found.push(case.with_context(|| format!("{bytes} B"))?);
        switch.stop()?;
    }
    ensure!(!found.is_empty(), "sizes are {SIZES:?}");
    let mut records = Vec::new();
    for found in &found {
        records.extend(found.records(clock)?);
    }
    let mut text = Vec::new();
    tables::write(&mut text, &records, &machine, &effort, cores)?;
    let report = &options.report;
    report.publish(NAME, &records, &machine, &text, &[])
}

/// One size, with a generator on a thread of its own.
fn case(
    switch: &Switch,
    socket: &Path,
    memif: &Path,
    core: usize,
    bytes: usize,
    clock: TscClock,
    effort: Effort,
) -> anyhow::Result<Found> {
    let mut generator = Generator::new(socket, memif, bytes, clock)?;
    switch.connected()?;
    let on_core = |mut generator: Generator, load, time, turns| {
        let thread = spawn_worker("generator", core, move |_| -> anyhow::Result<_> {
            let mut found = Vec::new();
            for _ in 0..turns {
                stop::check()?;
                found.push(generator.turn(load, time)?);
            }
            Ok((generator, found))
        })?;
        let ended = thread.join();
        ended.map_err(|_| anyhow!("the generator panicked"))?
    };
    // A short turn to warm up.
    let full = Load::Full;
    (generator, _) = on_core(generator, full, effort.time / 4, 1)?;
    let before = switch.status()?;
    (generator, _) = on_core(generator, full, effort.time / 2, effort.rounds)?;
    let after = switch.status()?;
    let (sent, busy, idle) = work(&before, &after)?;
    ensure!(busy > 0, "the switch had nothing to do: {after:?}");
    let most = sent as f64 / clock_seconds(clock, busy);
    let busy_at_most = busy as f64 / (busy + idle) as f64;
    let wanted = most * effort.load;
    let load = Load::Poisson(wanted);
    (generator, _) = on_core(generator, load, effort.time / 4, 1)?;
    let before = switch.status()?;
    let (began, cpu) = (Instant::now(), switch.cpu_time()?);
    let (_generator, turns) = on_core(generator, load, effort.time, effort.rounds)?;
    let cpu = switch.cpu_time()?.saturating_sub(cpu);
    let on_cpu = cpu.as_secs_f64() / began.elapsed().as_secs_f64();
    let after = switch.status()?;
    let (_, busy, _) = work(&before, &after)?;
    let under_load = effort.time.as_secs_f64() * turns.len() as f64;
    Ok(Found {
        bytes,
        most,
        busy_at_most,
        wanted,
        turns,
        busy: clock_seconds(clock, busy) / under_load,
        on_cpu,
        inside: inside(&before, &after),
    })
}

fn clock_seconds(clock: TscClock, ticks: u64) -> f64 {
    ticks as f64 / clock.hz() as f64
}

/// Packets sealed, busy and idle ticks of the worker between two reports. What was dropped had
/// been sealed: the generator sees to that.
fn work(before: &Status, after: &Status) -> anyhow::Result<(u64, u64, u64)> {
    let (was, is) = (before.workers.first(), after.workers.first());
    let (was, is) = was.zip(is).context("a worker")?;
    Ok((
        (is.sent + is.dropped).saturating_sub(was.sent + was.dropped),
        is.busy_ticks.saturating_sub(was.busy_ticks),
        is.idle_ticks.saturating_sub(was.idle_ticks),
    ))
}

/// Between two reports: the least bound that 99.9 % of the followed packets did not exceed.
fn inside(before: &Status, after: &Status) -> Option<f64> {
    let of = |status: &Status| {
        let mut ways = status.latency.iter();
        ways.find(|way| way.direction == "tenant-to-underlay")
            .cloned()
    };
    let after = of(after)?;
    let before = of(before).unwrap_or_default();
    let until = |le: u64| {
        let found = before.buckets.iter().find(|bucket| bucket.le == le);
        found.map_or(0, |bucket| bucket.samples)
    };
    let all = after.total.samples.saturating_sub(before.total.samples);
    if all == 0 {
        return None;
    }
    let mut more = after.buckets.iter();
    let bound = more.find(|b| b.samples.saturating_sub(until(b.le)) as f64 >= 0.999 * all as f64);
    // Beyond the last bound there is no other.
    Some(bound.map_or(f64::INFINITY, |bucket| bucket.le as f64))
}

impl Found {
    fn records(&self, clock: TscClock) -> anyhow::Result<Vec<Record>> {
        let record = |part, unit, stat, value| Record {
            bench: NAME,
            case: CASE.to_owned(),
            part,
            bytes: self.bytes,
            unit,
            stat,
            value,
        };
        let ns = 1e9 / clock.hz() as f64;
        let mut records = vec![
            record("most", "packets/s", "mean", self.most),
            record("most", "share", "busy", self.busy_at_most),
            record("load", "packets/s", "wanted", self.wanted),
            record("load", "share", "busy", self.busy),
            record("load", "share", "on-cpu", self.on_cpu),
        ];
        let over = |of: &dyn Fn(&Turn) -> f64| self.turns.iter().map(of).collect::<Vec<_>>();
        let achieved = over(&|turn| turn.sent as f64 / turn.seconds);
        let achieved = median(&achieved).context("no turns")?;
        records.push(record("load", "packets/s", "achieved", achieved));
        let sum = |of: fn(&Turn) -> u64| self.turns.iter().map(of).sum::<u64>() as f64;
        for (stat, packets) in [
            ("sent", sum(|turn| turn.sent)),
            ("received", sum(|turn| turn.received)),
            ("lost", sum(|turn| turn.sent - turn.received)),
            ("refused", sum(|turn| turn.refused)),
        ] {
            records.push(record("load", "packets", stat, packets));
        }
        for (name, share) in SHARES {
            for (part, ticks) in [
                (OUTSIDE, over(&|turn| turn.delays.quantile(share) as f64)),
                (GENERATOR, over(&|turn| turn.looks.quantile(share) as f64)),
            ] {
                let value = median(&ticks).context("no turns")?;
                records.push(record(part, "ns", name, value * ns));
                if (part, name) == (OUTSIDE, "p99.9") {
                    let least = min(&ticks).context("no turns")?;
                    records.push(record(part, "ns", "p99.9-of-best-turn", least * ns));
                }
            }
        }
        for (part, ticks) in [
            (OUTSIDE, over(&|turn| turn.delays.quantile(1.0) as f64)),
            (GENERATOR, over(&|turn| turn.looks.quantile(1.0) as f64)),
        ] {
            let most = ticks.into_iter().max_by(f64::total_cmp);
            records.push(record(part, "ns", "max", most.context("no turns")? * ns));
        }
        if let Some(bound) = self.inside {
            records.push(record(INSIDE, "ns", "p99.9-at-most", bound));
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch::manage::status::{Bucket, Latency, Percentiles};

    fn status(samples: [u64; 3]) -> Status {
        let bounds = [1000, 2000, 5000];
        let buckets = bounds.into_iter().zip(samples);
        Status {
            latency: vec![Latency {
                direction: "tenant-to-underlay".into(),
                total: Percentiles {
                    samples: samples[2],
                    ..Percentiles::default()
                },
                buckets: buckets
                    .map(|(le, samples)| Bucket { le, samples })
                    .collect(),
                ..Latency::default()
            }],
            ..Status::default()
        }
    }

    #[test]
    fn what_came_before_the_load_does_not_count() {
        let before = status([0, 0, 5000]);
        assert_eq!(inside(&before, &status([0, 999, 6000])), Some(2000.0));
        assert_eq!(inside(&before, &status([0, 998, 6000])), Some(5000.0));
        assert_eq!(inside(&before, &before), None);
        assert_eq!(inside(&Status::default(), &Status::default()), None);
    }
}
