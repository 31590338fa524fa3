//! `tables`: what one worker's forwarding tables do per second, and the memory they take, from
//! a thousand entries to a million.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Args;
use vswitch::dpdk::thread::allowed_cores;
use vswitch_net::{Encapsulation, MacAddr, Vni};
use vswitch_vn::{
    Change, Destination, Key, Learn, Mapping, Peer, PeerId, Tables, TunnelId, VnConfig, VnId,
};

use crate::machine::{Machine, describe};
use crate::options::Report;
use crate::plot::Series;
use crate::report::{Record, Table};
use crate::save::Picture;
use crate::stats::{median, min};

/// Name of the benchmark.
pub const NAME: &str = "tables";
/// Numbers of entries.
pub const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// What is done to the tables.
pub const CASES: [&str; 6] = [
    "lookup",
    "lookup-burst",
    "miss-burst",
    "update",
    "update-1000",
    "learn",
];

const VN: VnId = VnId(0);
const PEER: PeerId = PeerId(0);
const TUNNEL: TunnelId = TunnelId(0);
/// Keys of one burst, as the pipeline's.
const BURST: usize = 32;

/// Options of the benchmark.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    report: Report,
    /// Rounds; figures are medians over them.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
}

/// Runs the benchmark and prints what it found. `allocated` says how many bytes the process
/// has allocated now.
pub fn run(options: &Options, allocated: fn() -> usize) -> anyhow::Result<()> {
    let cores = allowed_cores();
    let core = *cores.last().context("no CPU to measure on")?;
    ensure!(
        core_affinity::set_for_current(core_affinity::CoreId { id: core }),
        "core {core} cannot be used"
    );
    let machine = describe(core, cores.len())?;
    let (sizes, rounds) = match options.report.quick {
        true => (&SIZES[..2], 3),
        false => (&SIZES[..], usize::from(options.rounds)),
    };
    let mut records = Vec::new();
    for entries in sizes {
        measure(*entries, rounds, allocated, &mut records)?;
    }
    let mut text = Vec::new();
    write(&mut text, &records, &machine, sizes, rounds)?;
    let pictures = pictures(&records, sizes);
    let report = &options.report;
    report.publish(NAME, &records, &machine, &text, &pictures)
}

/// A station's address; consecutive ones do not lie beside one another in any table.
fn mac(n: usize) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 | n as u64)
}

fn mapping(n: usize) -> Mapping {
    let ip = Ipv4Addr::from_bits(0x0a00_0000 + n as u32);
    Mapping {
        ips: Arc::from([IpAddr::V4(ip)]),
        destination: Destination::Tunnel(TUNNEL),
        generation: 1,
    }
}

fn add(n: usize) -> Change {
    Change::AddMapping {
        vn: VN,
        mac: mac(n),
        mapping: mapping(n),
    }
}

fn remove(n: usize) -> Change {
    Change::RemoveMapping {
        vn: VN,
        mac: mac(n),
        generation: 1,
    }
}

/// One network with a tunnel and nobody in it.
fn empty() -> anyhow::Result<Tables> {
    let mut tables = Tables::new(0x5eed_0123_4567_89ab);
    let vni = Vni::new(1).context("VNI")?;
    let mut config = VnConfig::new(vni, 1500);
    config.learning = true;
    config.learning_limit = 1 << 20;
    let peer = Peer {
        addresses: Arc::from([IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))]),
        encapsulation: Encapsulation::Geneve,
    };
    tables.transact(&[
        Change::AddVn { id: VN, config },
        Change::AddPeer { id: PEER, peer },
        Change::AddTunnel {
            id: TUNNEL,
            vn: VN,
            peer: PEER,
            flood: true,
        },
    ])?;
    Ok(tables)
}

/// Numbers below `limit` without a pattern: Knuth's linear congruential generator (MMIX).
fn shuffled(limit: usize, count: usize) -> Vec<usize> {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % limit
    };
    (0..count).map(|_| next()).collect()
}

fn measure(
    entries: usize,
    rounds: usize,
    allocated: fn() -> usize,
    records: &mut Vec<Record>,
) -> anyhow::Result<()> {
    let before = allocated();
    let mut tables = empty()?;
    // As the control side sends them: in transactions, not one by one.
    let all: Vec<usize> = (0..entries).collect();
    for part in all.chunks(1000) {
        let changes: Vec<Change> = part.iter().map(|n| add(*n)).collect();
        tables.transact(&changes)?;
    }
    drop(all);
    let bytes = allocated().saturating_sub(before);
    // Without addresses: what learning makes.
    let before = allocated();
    let mut learned = empty()?;
    for n in 0..entries {
        let fresh = learned.learn(VN, mac(n), Destination::Tunnel(TUNNEL), 1);
        ensure!(
            !matches!(fresh, Learn::RefusedAddress),
            "not learned: {fresh:?}"
        );
        learned.maintain(1, BURST);
    }
    let learned_bytes = allocated().saturating_sub(before);
    for (case, bytes) in [("mapping", bytes), ("learned", learned_bytes)] {
        records.push(record(
            case,
            entries,
            "bytes/entry",
            "measured",
            bytes as f64 / entries as f64,
        ));
    }

    let hits = shuffled(entries, 1 << 15);
    let keys = |offset: usize| {
        let key = |n: &usize| Key::new(VN, mac(n + offset));
        hits.iter().map(key).collect::<Vec<Key>>()
    };
    let (hit, miss) = (keys(0), keys(entries));
    let mut out = [None; BURST];
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..=rounds {
        let mut note = |case, count: usize, start: Instant| {
            // The first round warms up.
            if round > 0 {
                let ns = start.elapsed().as_nanos() as f64 / count as f64;
                times.entry(case).or_default().push(ns);
            }
        };
        let start = Instant::now();
        let found = hit
            .iter()
            .filter(|key| tables.lookup(key.vn(), key.mac()).is_some())
            .count();
        note("lookup", hit.len(), start);
        ensure!(found == hit.len(), "{found} of {} found", hit.len());
        for (case, keys, expected) in [("lookup-burst", &hit, true), ("miss-burst", &miss, false)] {
            let start = Instant::now();
            for burst in keys.chunks(BURST) {
                tables.lookup_burst(black_box(burst), &mut out);
                black_box(&out);
            }
            note(case, keys.len(), start);
            ensure!(
                out.iter().all(|d| d.is_some() == expected),
                "{case}: {out:?}"
            );
        }
        // An address moves away and back: two changes, in one transaction each or many in one.
        let some: Vec<usize> = hits.iter().take(500).copied().collect();
        let start = Instant::now();
        for n in &some {
            tables.transact(&[remove(*n)])?;
            tables.transact(&[add(*n)])?;
        }
        note("update", 2 * some.len(), start);
        let mut distinct = some;
        distinct.sort_unstable();
        distinct.dedup();
        let changes: Vec<Change> = distinct
            .iter()
            .flat_map(|n| [remove(*n), add(*n)])
            .collect();
        let start = Instant::now();
        tables.transact(&changes)?;
        note("update-1000", changes.len(), start);
        // What is known is confirmed, which every packet of a learning network does.
        let start = Instant::now();
        for n in hits.iter().take(4096) {
            black_box(learned.learn(VN, mac(*n), Destination::Tunnel(TUNNEL), 2));
        }
        note("learn", 4096, start);
    }
    for case in CASES {
        let ns = times.get(case).context("a case that was not measured")?;
        let (middle, least) = (
            median(ns).context("no rounds")?,
            min(ns).context("no rounds")?,
        );
        records.push(record(case, entries, "ns/operation", "median", middle));
        records.push(record(case, entries, "ns/operation", "min", least));
        records.push(record(
            case,
            entries,
            "operations/s",
            "median",
            1e9 / middle,
        ));
    }
    Ok(())
}

fn record(
    case: &str,
    entries: usize,
    unit: &'static str,
    stat: &'static str,
    value: f64,
) -> Record {
    Record {
        bench: NAME,
        case: format!("{case}/{entries}"),
        part: "total",
        // A key: what one operation is given.
        bytes: size_of::<Key>(),
        unit,
        stat,
        value,
    }
}

fn find(records: &[Record], case: &str, entries: usize, unit: &str) -> Option<f64> {
    let name = format!("{case}/{entries}");
    let mut found = records.iter().filter(|r| r.case == name && r.unit == unit);
    found.next().map(|r| r.value)
}

fn write(
    out: &mut impl Write,
    records: &[Record],
    machine: &Machine,
    sizes: &[usize],
    rounds: usize,
) -> anyhow::Result<()> {
    writeln!(out, "{machine}\n")?;
    let table = |cases: &[&str], unit: &str, digits: usize| {
        let sizes_named = sizes.iter().map(|n| format!("{n} entries"));
        let mut table = Table::new(["case".to_owned()].into_iter().chain(sizes_named));
        for case in cases {
            let cells = sizes.iter().map(|n| {
                let value = find(records, case, *n, unit);
                value.map_or(String::new(), |v| format!("{v:.digits$}"))
            });
            table.row([(*case).to_owned()].into_iter().chain(cells));
        }
        table
    };
    writeln!(
        out,
        "Nanoseconds per operation, median of {rounds} rounds\n"
    )?;
    table(&CASES, "ns/operation", 1).write(out)?;
    writeln!(out, "\nOperations per second\n")?;
    table(&CASES, "operations/s", 0).write(out)?;
    writeln!(out, "\nBytes of memory per entry, by the allocator\n")?;
    table(&["mapping", "learned"], "bytes/entry", 0).write(out)?;
    Ok(())
}

fn pictures(records: &[Record], sizes: &[usize]) -> Vec<Picture> {
    let series = |cases: &[&str], unit: &str| {
        let line = |case: &&str| Series {
            name: (*case).to_owned(),
            points: sizes
                .iter()
                .filter_map(|n| Some((*n as f64, find(records, case, *n, unit)?)))
                .collect(),
        };
        cases.iter().map(line).collect::<Vec<_>>()
    };
    vec![
        Picture {
            name: "lookups",
            title: "Lookups in the forwarding tables",
            x: "entries",
            y: "ns per lookup",
            series: series(
                &["lookup", "lookup-burst", "miss-burst", "learn"],
                "ns/operation",
            ),
        },
        Picture {
            name: "updates",
            title: "Changes of the forwarding tables",
            x: "entries",
            y: "ns per change",
            series: series(&["update", "update-1000"], "ns/operation"),
        },
        Picture {
            name: "memory",
            title: "Memory of the forwarding tables",
            x: "entries",
            y: "bytes per entry",
            series: series(&["mapping", "learned"], "bytes/entry"),
        },
    ]
}
