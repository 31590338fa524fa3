//! The figures for people.

use std::io::Write;

use super::{BY_CPU, DROPPED, ON_CPU, RATE, Side, TIMES_ONE, TIMES_ONE_BY_CPU};
use crate::machine::Machine;
use crate::peers::{Cores, SIZES};
use crate::plot::Series;
use crate::report::{Record, Table};
use crate::save::Picture;

/// Workers that had a CPU for less of the time were disturbed.
const FREE: f64 = 0.98;

fn find(records: &[Record], side: Side, bytes: usize, part: &str) -> Option<f64> {
    let mut of = records.iter().filter(|r| r.case == side.name());
    of.find(|r| r.bytes == bytes && r.part == part)
        .map(|r| r.value)
}

/// Writes the table.
pub(super) fn write(
    out: &mut impl Write,
    records: &[Record],
    machine: &Machine,
    rounds: usize,
    cores: Cores,
) -> anyhow::Result<()> {
    writeln!(out, "{machine}\n")?;
    writeln!(
        out,
        "Tenant to underlay in ESP with AES-128-GCM, medians of {rounds} turns. `{}` and the \
         second worker of `{}` on core {}, the other worker on core {}. `on CPU` is the share of \
         the time that the workers had their cores; `by CPU` leaves out the rest.\n",
        Side::One.name(),
        Side::Two.name(),
        cores.worker,
        cores.main,
    )?;
    let mut table = Table::new([
        "workers",
        "bytes",
        "Mpps",
        "times one",
        "on CPU %",
        "Mpps per CPU",
        "times one by CPU",
        "dropped %",
    ]);
    let mut least: f64 = 1.0;
    for bytes in SIZES {
        for side in Side::ALL {
            let of = |part| find(records, side, bytes, part);
            let Some(rate) = of(RATE) else {
                continue;
            };
            let cell = |part, factor, digits| {
                let value = of(part).map(|value| value * factor);
                value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
            };
            least = least.min(of(ON_CPU).unwrap_or(0.0));
            table.row([
                side.name().to_owned(),
                bytes.to_string(),
                format!("{:.3}", rate / 1e6),
                cell(TIMES_ONE, 1.0, 2),
                cell(ON_CPU, 100.0, 1),
                cell(BY_CPU, 1e-6, 3),
                cell(TIMES_ONE_BY_CPU, 1.0, 2),
                cell(DROPPED, 100.0, 1),
            ]);
        }
    }
    table.write(out)?;
    if least < FREE {
        writeln!(
            out,
            "\nThe cores were not free: in one case workers had them for {:.1}% of the time only. \
             `Mpps` and `times one` say what was left, not what the switch can do.",
            least * 100.0
        )?;
    }
    Ok(())
}

/// Packets per second by size.
pub(super) fn picture(records: &[Record]) -> Picture {
    let line = |side: Side| Series {
        name: side.name().to_owned(),
        points: SIZES
            .into_iter()
            .filter_map(|n| Some((n as f64, find(records, side, n, RATE)? / 1e6)))
            .collect(),
    };
    Picture {
        name: "rate",
        title: "Protected, from a tenant to the underlay",
        x: "bytes of a frame",
        y: "million packets per second",
        series: Side::ALL.into_iter().map(line).collect(),
    }
}
