//! The figures for people.

use std::io::Write;

use vswitch::datapath::probe::Stage;

use super::{LOOP, SIZES, TICKS, TOTAL, TRACE_EARLY, TRACE_IDLE, TRACE_LATE, WITHOUT_IO};
use crate::machine::Machine;
use crate::plot::Series;
use crate::report::{Record, Table};
use crate::save::Picture;

/// Writes all tables.
pub fn write(
    out: &mut impl Write,
    records: &[Record],
    machine: &Machine,
    rounds: usize,
) -> anyhow::Result<()> {
    writeln!(out, "{machine}\n")?;
    writeln!(
        out,
        "TSC ticks per packet, by inner frame: median of {rounds} rounds (least)\n"
    )?;
    by_size(records, |find| {
        let (median, least) = (find(TOTAL, TICKS, "median")?, find(TOTAL, TICKS, "min")?);
        Some(format!("{median:.0} ({least:.0})"))
    })
    .write(out)?;
    writeln!(out, "\nThe same in nanoseconds\n")?;
    by_size(records, |find| {
        Some(format!("{:.1}", find(TOTAL, "ns/packet", "median")?))
    })
    .write(out)?;
    writeln!(out, "\nTicks per packet without receive and transmit\n")?;
    by_size(records, |find| {
        Some(format!("{:.0}", find(WITHOUT_IO, TICKS, "median")?))
    })
    .write(out)?;
    writeln!(out, "\nTicks per burst of 32: p50 / p99\n")?;
    by_size(records, |find| {
        let (p50, p99) = (
            find(TOTAL, "ticks/burst", "p50")?,
            find(TOTAL, "ticks/burst", "p99")?,
        );
        Some(format!("{p50:.0} / {p99:.0}"))
    })
    .write(out)?;
    writeln!(
        out,
        "\nTicks per packet with tracing absent / idle / looking for a type of frame that never \
         comes / looking for drops where there are none: median (least)\n"
    )?;
    by_size(records, |find| {
        let parts = [TOTAL, TRACE_IDLE, TRACE_EARLY, TRACE_LATE].map(|part| {
            let (median, least) = (find(part, TICKS, "median")?, find(part, TICKS, "min")?);
            Some(format!("{median:.0} ({least:.0})"))
        });
        let [absent, idle, early, late] = parts;
        Some([absent?, idle?, early?, late?].join(" / "))
    })
    .write(out)?;
    writeln!(
        out,
        "\nTicks per packet by stage, with the probe's own cost\n"
    )?;
    by_stage(records).write(out)?;
    Ok(())
}

/// Ticks per packet over sizes, a line for each case.
pub fn picture(records: &[Record]) -> Picture {
    let line = |case: &str| Series {
        name: case.to_owned(),
        points: SIZES
            .iter()
            .filter_map(|n| {
                let median = find(records, case, *n, (TOTAL, TICKS, "median"))?;
                Some((*n as f64, median))
            })
            .collect(),
    };
    Picture {
        name: "ticks",
        title: "One worker's pipeline",
        x: "bytes of the inner frame",
        y: "ticks per packet",
        series: cases(records).into_iter().map(line).collect(),
    }
}

fn cases(records: &[Record]) -> Vec<&str> {
    let mut cases: Vec<&str> = Vec::new();
    for record in records {
        if !cases.contains(&record.case.as_str()) {
            cases.push(&record.case);
        }
    }
    cases.sort_by_key(|case| std::cmp::Reverse(case.split('/').next()));
    cases
}

/// The value of (part, unit, stat) for a case and a size.
fn find(records: &[Record], case: &str, bytes: usize, what: (&str, &str, &str)) -> Option<f64> {
    let found = records
        .iter()
        .find(|r| r.case == case && r.bytes == bytes && (r.part, r.unit, r.stat) == what);
    found.map(|r| r.value)
}

/// One row per case, one column per size.
fn by_size(
    records: &[Record],
    cell: impl Fn(&dyn Fn(&str, &str, &str) -> Option<f64>) -> Option<String>,
) -> Table {
    let sizes = SIZES.map(|bytes| format!("{bytes} B"));
    let mut table = Table::new(["path".to_owned()].into_iter().chain(sizes));
    for case in cases(records) {
        let cells = SIZES.map(|bytes| {
            let find =
                |part: &str, unit: &str, stat: &str| find(records, case, bytes, (part, unit, stat));
            cell(&find).unwrap_or_default()
        });
        table.row([case.to_owned()].into_iter().chain(cells));
    }
    table
}

/// One row per case and size, one column per stage.
fn by_stage(records: &[Record]) -> Table {
    let stages: Vec<&str> = Stage::ALL
        .into_iter()
        .map(Stage::name)
        .chain([LOOP])
        .collect();
    let mut table = Table::new(["path", "bytes"].into_iter().chain(stages.iter().copied()));
    for case in cases(records) {
        for bytes in SIZES {
            let cells = stages.iter().map(|stage| {
                let ticks = find(records, case, bytes, (stage, TICKS, "median"));
                ticks.map_or("–".to_owned(), |ticks| format!("{ticks:.1}"))
            });
            table.row(
                [case.to_owned(), bytes.to_string()]
                    .into_iter()
                    .chain(cells),
            );
        }
    }
    table
}
