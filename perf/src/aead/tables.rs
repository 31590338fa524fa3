//! The figures for people.

use std::io::Write;

use vswitch_aead::Algorithm;

use super::contestants::JOBS;
use super::measure::{Case, Heat, Operation};
use super::{BATCHES, CALL, KEYED_SIZES, KEYS, MIXED, SIZES, cases, ipsec_mb};
use crate::machine::Machine;
use crate::plot::Series;
use crate::report::{Record, Table};
use crate::save::Picture;

const TICKS: (&str, &str) = ("ticks/packet", "median");
const NS: (&str, &str) = ("ns/packet", "median");

/// Writes all tables. `missing` says why intel-ipsec-mb is not in them, if it is not.
pub fn write(
    out: &mut impl Write,
    records: &[Record],
    machine: &Machine,
    missing: Option<&str>,
) -> anyhow::Result<()> {
    writeln!(out, "{machine}\n")?;
    writeln!(
        out,
        "Nanoseconds per packet (TSC ticks), by bytes enciphered: medians. `{JOBS}` is what \
         making the jobs costs, which is in the figures of our backends; their calls alone are \
         in the second table.\n"
    )?;
    if let Some(why) = missing {
        writeln!(out, "`{}`: not measured. {why}\n", ipsec_mb::NAME)?;
    }
    by_size(records, |find, of| {
        let (ns, ticks) = (find(of, NS)?, find(of, TICKS)?);
        Some(format!("{ns:.1} ({ticks:.0})"))
    })
    .write(out)?;
    writeln!(
        out,
        "\nTicks per packet of our backends' calls alone, each between fences\n"
    )?;
    by_size(records, |find, of| {
        let ticks = find(of, ("ticks/packet", CALL))?;
        Some(format!("{ticks:.1}"))
    })
    .write(out)?;
    if let Some(best) = best() {
        writeln!(
            out,
            "\nHow many times `{best}` is as fast as the others (above 1: faster)\n"
        )?;
        by_size(records, |find, of| {
            let (ours, others) = (find(best, TICKS)?, find(of, TICKS)?);
            (of != best && of != JOBS).then(|| format!("{:.2}", others / ours))
        })
        .write(out)?;
    }
    writeln!(
        out,
        "\nTicks per packet by number of keys in random order, and what each adds to one key\n"
    )?;
    by_keys(records).write(out)?;
    Ok(())
}

/// The backend that the switch would choose.
fn best() -> Option<&'static str> {
    vswitch_aead::backends().next().map(|b| b.name())
}

/// Contestants in the order of the tables: ours first, fastest in front.
fn contestants(records: &[Record]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = vswitch_aead::backends().map(|b| b.name()).collect();
    names.extend([JOBS, ipsec_mb::NAME]);
    for record in records {
        if !names.contains(&record.part) {
            names.push(record.part);
        }
    }
    names
}

fn find(
    records: &[Record],
    case: &str,
    bytes: usize,
    of: &str,
    (unit, stat): (&str, &str),
) -> Option<f64> {
    let found = records.iter().find(|r| {
        r.case == case && r.bytes == bytes && r.part == of && (r.unit, r.stat) == (unit, stat)
    });
    found.map(|r| r.value)
}

/// What finds a figure of a contestant.
type Find<'a> = dyn Fn(&str, (&str, &str)) -> Option<f64> + 'a;

/// One row per case and contestant, one column per size; rows of no figures are left out.
fn by_size(records: &[Record], cell: impl Fn(&Find<'_>, &str) -> Option<String>) -> Table {
    let sizes = SIZES.map(|bytes| format!("{bytes} B"));
    let head = ["case", "AES-GCM"].map(str::to_owned);
    let mut table = Table::new(head.into_iter().chain(sizes));
    let mut names: Vec<String> = Vec::new();
    for operation in Operation::ALL {
        let of_all_sizes = cases().into_iter().filter(|case| case.keys == MIXED);
        for name in of_all_sizes.map(|case| case.name(operation)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    for name in names {
        for of in contestants(records) {
            let cells = SIZES.map(|bytes| {
                let find = |of: &str, what: (&str, &str)| find(records, &name, bytes, of, what);
                cell(&find, of)
            });
            if cells.iter().any(Option::is_some) {
                let text = [name.clone(), of.to_owned()];
                let cells = cells.map(Option::unwrap_or_default);
                table.row(text.into_iter().chain(cells));
            }
        }
    }
    table
}

fn keyed(operation: Operation, keys: usize) -> String {
    Case {
        algorithm: Algorithm::Aes128Gcm,
        heat: Heat::Hot,
        keys,
        batch: BATCHES[0],
        bytes: KEYED_SIZES[0],
    }
    .name(operation)
}

fn by_keys(records: &[Record]) -> Table {
    let columns = KEYS.map(|keys| format!("{keys} keys"));
    let head = ["operation", "AES-GCM", "bytes"].map(str::to_owned);
    let mut table = Table::new(head.into_iter().chain(columns));
    for operation in Operation::ALL {
        for of in contestants(records) {
            for bytes in KEYED_SIZES {
                let ticks = |keys| find(records, &keyed(operation, keys), bytes, of, TICKS);
                let Some(one) = ticks(KEYS[0]) else {
                    continue;
                };
                let cell = |keys| {
                    let value = ticks(keys)?;
                    Some(format!("{value:.0} ({:+.0})", value - one))
                };
                let cells = KEYS.map(|keys| cell(keys).unwrap_or_default());
                let text = [operation.name().into(), of.into(), bytes.to_string()];
                table.row(text.into_iter().chain(cells));
            }
        }
    }
    table
}

/// Nanoseconds over sizes, and ticks over keys.
pub fn pictures(records: &[Record]) -> Vec<Picture> {
    let over_sizes = |operation: Operation, name, title| {
        let case = Case {
            algorithm: Algorithm::Aes128Gcm,
            heat: Heat::Hot,
            keys: MIXED,
            batch: BATCHES[0],
            bytes: SIZES[0],
        };
        let case = case.name(operation);
        let points = |of| {
            let point = |n: &usize| Some((*n as f64, find(records, &case, *n, of, NS)?));
            SIZES.iter().filter_map(point).collect()
        };
        Picture {
            name,
            title,
            x: "bytes enciphered",
            y: "ns per packet",
            series: series(records, points),
        }
    };
    let points = |of| {
        let point = |keys: &usize| {
            let case = keyed(Operation::Seal, *keys);
            let ticks = find(records, &case, KEYED_SIZES[0], of, TICKS)?;
            Some((*keys as f64, ticks))
        };
        KEYS.iter().filter_map(point).collect()
    };
    let keys = Picture {
        name: "keys",
        title: "Sealing 64 bytes with many keys",
        x: "keys in random order",
        y: "ticks per packet",
        series: series(records, points),
    };
    let all = [
        over_sizes(
            Operation::Seal,
            "seal",
            "Sealing with AES-128-GCM, batches of 32",
        ),
        over_sizes(
            Operation::Open,
            "open",
            "Opening with AES-128-GCM, batches of 32",
        ),
        keys,
    ];
    // With `--only` there may be nothing to draw.
    all.into_iter().filter(|p| !p.series.is_empty()).collect()
}

fn series(records: &[Record], points: impl Fn(&'static str) -> Vec<(f64, f64)>) -> Vec<Series> {
    let line = |of: &'static str| Series {
        name: of.to_owned(),
        points: points(of),
    };
    let lines = contestants(records).into_iter().map(line);
    lines.filter(|line| !line.points.is_empty()).collect()
}
