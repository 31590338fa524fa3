//! `e2e`: from tenant to tenant through two real switches: testpmd, vhost, `vswitchd`, memif,
//! `vswitchd`, vhost, testpmd. Both directions at once, in the clear and protected.
//!
//! The loop is closed: a tenant sends back what it gets, so that what goes round is what the
//! slowest part of the path carries without loss. Three processes share what cores there are (`idle: yield`), so that the figures say what a
//! small machine does as a whole, and what was limiting it.

pub mod edges;
mod tenants;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use vswitch::dpdk::thread::allowed_cores;
use vswitch::manage::status::Status;

use crate::daemon::Daemon;
use crate::machine::{Machine, describe};
use crate::options::Report;
use crate::plot::Series;
use crate::report::{Record, Table};
use crate::save::Picture;
use edges::PROTECTIONS;
use tenants::Tenants;

/// Name of the benchmark.
pub const NAME: &str = "e2e";
/// Frames in bytes, without FCS.
pub const SIZES: [usize; 3] = [64, 512, 1400];

/// Bursts of 32 packets that each tenant puts under way at the start: a loop that is full
/// but overflows no ring of 1024.
const BURSTS: usize = 8;

/// Options of the benchmark.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    report: Report,
    /// Seconds of each case, after one to warm up.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

/// What was measured of one case.
struct Found {
    case: String,
    bytes: usize,
    seconds: f64,
    /// Sent and received by both tenants.
    sent: u64,
    received: u64,
    /// Generated, and not taken by a tenant's queue.
    refused: u64,
    /// Dropped by either switch, by reason.
    drops: BTreeMap<String, u64>,
    /// Busy share of the workers.
    busy: [f64; 2],
}

/// Runs the benchmark and prints what it found.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let seconds = if options.report.quick {
        1
    } else {
        options.seconds
    };
    let cores = allowed_cores();
    let last = *cores.last().context("no CPU to measure on")?;
    let core = |n: usize| cores.get(n % cores.len().max(1)).copied().unwrap_or(last);
    let mut found = Vec::new();
    let machine = describe(core(0), cores.len())?;
    for protection in PROTECTIONS {
        let dir = tempfile::Builder::new().prefix("vsw").tempdir()?;
        // testpmd makes the sockets, the switches connect to them.
        let mut tenants = Tenants::start(dir.path(), core(2))?;
        let switches = [
            edges::start(dir.path(), 1, core(0), protection)?,
            edges::start(dir.path(), 2, core(1), protection)?,
        ];
        tenants.ready()?;
        connected(&switches)?;
        for bytes in SIZES {
            found.push(case(&mut tenants, &switches, protection.0, bytes, seconds)?);
        }
        let [a, b] = switches;
        tenants.quit()?;
        a.stop()?;
        b.stop()?;
    }
    let records: Vec<Record> = found.iter().flat_map(Found::records).collect();
    let mut text = Vec::new();
    write(&mut text, &found, &machine)?;
    let pictures = [picture(&found)];
    let report = &options.report;
    report.publish(NAME, &records, &machine, &text, &pictures)
}

/// Waits until both tenants and the underlay between the switches are up.
fn connected(edges: &[Daemon; 2]) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let mut up = true;
        for edge in edges {
            let status = edge.status()?;
            up &= status
                .ports
                .iter()
                .filter(|p| p.kind != "tap")
                .all(|p| p.state == "up");
            up &= status.tunnels.iter().all(|t| t.state == "up");
        }
        if up {
            return Ok(());
        }
        ensure!(
            began.elapsed() < Duration::from_secs(30),
            "not connected:\n{}\n{}",
            edges[0].said(),
            edges[1].said()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn dropped(edges: &[Daemon; 2]) -> anyhow::Result<(BTreeMap<String, u64>, [Status; 2])> {
    let states = [edges[0].status()?, edges[1].status()?];
    let mut drops = BTreeMap::new();
    for drop in states.iter().flat_map(|status| &status.drops) {
        *drops.entry(drop.reason.clone()).or_default() += drop.packets;
    }
    let balanced = states.iter().flat_map(|s| &s.workers).all(|w| w.balanced);
    ensure!(balanced, "the books of a worker do not balance");
    Ok((drops, states))
}

fn case(
    tenants: &mut Tenants,
    edges: &[Daemon; 2],
    protection: &str,
    bytes: usize,
    seconds: u64,
) -> anyhow::Result<Found> {
    tenants.command(&format!("set txpkts {bytes}"))?;
    tenants.command(&format!("start tx_first {BURSTS}"))?;
    std::thread::sleep(Duration::from_secs(1));
    let both = |tenants: &mut Tenants| -> anyhow::Result<(u64, u64)> {
        let (a, b) = (tenants.counted(1)?, tenants.counted(2)?);
        Ok((a.tx + b.tx, a.rx + b.rx))
    };
    let (drops_before, _) = dropped(edges)?;
    let start = Instant::now();
    let before = both(tenants)?;
    std::thread::sleep(Duration::from_secs(seconds));
    let after = both(tenants)?;
    let elapsed = start.elapsed().as_secs_f64();
    let (drops_after, states) = dropped(edges)?;
    let refused = tenants.stop_traffic()?;
    std::thread::sleep(Duration::from_millis(300));
    let mut drops: BTreeMap<String, u64> = BTreeMap::new();
    for (reason, packets) in drops_after {
        let more = packets - drops_before.get(&reason).copied().unwrap_or(0);
        if more > 0 {
            drops.insert(reason, more);
        }
    }
    let busy = states.map(|status| status.workers.first().map_or(0.0, |worker| worker.busy));
    let found = Found {
        case: format!("tenant-to-tenant/{protection}"),
        bytes,
        seconds: elapsed,
        sent: after.0 - before.0,
        received: after.1 - before.1,
        refused: refused.iter().sum(),
        drops,
        busy,
    };
    ensure!(
        found.received > 0,
        "nothing arrived of {} packets, dropped {:?}:\n{}\n{}",
        found.sent,
        found.drops,
        edges[0].said(),
        edges[1].said()
    );
    Ok(found)
}

impl Found {
    fn rate(&self) -> f64 {
        self.received as f64 / self.seconds
    }

    /// Sent and not received; what is under way at either end of the time is noise.
    fn loss(&self) -> f64 {
        1.0 - (self.received as f64 / self.sent.max(1) as f64).min(1.0)
    }

    /// The place with the most to say about where packets were lost or held up.
    fn limit(&self) -> String {
        let worst = self.drops.iter().max_by_key(|(_, packets)| **packets);
        match worst {
            Some((reason, packets)) if *packets * 100 > self.sent => match reason.as_str() {
                "tenant-tx-full" => "the receiving tenant".to_owned(),
                "underlay-tx-full" => "the underlay, or the switch behind it".to_owned(),
                reason => format!("drops: {reason}"),
            },
            // A worker that is hardly ever without packets has no more to give.
            _ if self.busy.iter().any(|busy| *busy > 0.9) => "a switch's worker".to_owned(),
            _ => "the tenants, or cores that are shared".to_owned(),
        }
    }

    fn records(&self) -> Vec<Record> {
        let record = |unit, stat, value| Record {
            bench: NAME,
            case: self.case.clone(),
            part: "total",
            bytes: self.bytes,
            unit,
            stat,
            value,
        };
        let mut records = vec![
            record("packets/s", "received", self.rate()),
            record("packets/s", "sent", self.sent as f64 / self.seconds),
            record(
                "Gbit/s",
                "received",
                self.rate() * self.bytes as f64 * 8.0 / 1e9,
            ),
            record("share", "lost", self.loss()),
            record("share", "busy-a", self.busy[0]),
            record("share", "busy-b", self.busy[1]),
            record("packets", "refused-at-tenant", self.refused as f64),
        ];
        records.extend(self.drops.iter().map(|(reason, packets)| Record {
            case: format!("{}/{reason}", self.case),
            part: "drops",
            ..record("packets", "dropped", *packets as f64)
        }));
        records
    }
}

fn write(out: &mut impl Write, found: &[Found], machine: &Machine) -> anyhow::Result<()> {
    writeln!(out, "{machine}\n")?;
    writeln!(
        out,
        "Tenant to tenant, both directions at once and in sum\n"
    )?;
    let head = [
        "path",
        "bytes",
        "Mpps",
        "Gbit/s",
        "lost",
        "busy a / b",
        "drops",
        "limited by",
    ];
    let mut table = Table::new(head);
    for f in found {
        let drops: Vec<String> = f.drops.iter().map(|(r, n)| format!("{r} {n}")).collect();
        table.row([
            f.case.clone(),
            f.bytes.to_string(),
            format!("{:.3}", f.rate() / 1e6),
            format!("{:.2}", f.rate() * f.bytes as f64 * 8.0 / 1e9),
            format!("{:.2} %", f.loss() * 100.0),
            format!("{:.0} / {:.0} %", f.busy[0] * 100.0, f.busy[1] * 100.0),
            if drops.is_empty() {
                "–".to_owned()
            } else {
                drops.join(", ")
            },
            f.limit(),
        ]);
    }
    table.write(out)?;
    Ok(())
}

fn picture(found: &[Found]) -> Picture {
    let line = |(name, _): (&str, &str)| Series {
        name: name.to_owned(),
        points: found
            .iter()
            .filter(|f| f.case.ends_with(&format!("/{name}")))
            .map(|f| (f.bytes as f64, f.rate() / 1e6))
            .collect(),
    };
    Picture {
        name: "rate",
        title: "Tenant to tenant through two switches",
        x: "bytes of a frame",
        y: "million packets per second",
        series: PROTECTIONS.into_iter().map(line).collect(),
    }
}
