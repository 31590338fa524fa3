//! The figures for people.

use std::io::Write;

use super::{CASE, Effort, GENERATOR, INSIDE, OUTSIDE, SIZES};
use crate::machine::Machine;
use crate::peers::Cores;
use crate::report::{Record, Table};

/// A worker that was less busy had the generator for its limit.
const BUSY: f64 = 0.9;
/// A worker that polls and had its CPU for less of the time was disturbed.
const FREE: f64 = 0.98;

/// Writes both tables.
pub(super) fn write(
    out: &mut impl Write,
    records: &[Record],
    machine: &Machine,
    effort: &Effort,
    cores: Cores,
) -> anyhow::Result<()> {
    writeln!(out, "{machine}\n")?;
    writeln!(
        out,
        "{CASE}: worker on core {}, generator on core {}, {} turns of {} ms. `most` is what the \
         worker can do, `load` {:.0}% of it at random times.\n",
        cores.worker,
        cores.main,
        effort.rounds,
        effort.time.as_millis(),
        effort.load * 100.0,
    )?;
    let mut loads = Table::new([
        "bytes",
        "most, Mpps",
        "busy %",
        "load, Mpps",
        "achieved",
        "busy %",
        "packets",
        "refused",
        "lost",
    ]);
    let mut delays = Table::new([
        "µs",
        "bytes",
        "p50",
        "p99",
        "p99.9",
        "p99.9 of best turn",
        "max",
    ]);
    let (mut limited, mut least) = (false, 1.0_f64);
    for bytes in SIZES {
        let find = |part: &str, unit: &str, stat: &str| {
            let mut of = records.iter().filter(|r| r.bytes == bytes);
            of.find(|r| (r.part, r.unit, r.stat) == (part, unit, stat))
                .map(|r| r.value)
        };
        let cell = |part, unit, stat, factor: f64, digits: usize| {
            let value = find(part, unit, stat).map(|value| value * factor);
            value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
        };
        let Some(busy) = find("most", "share", "busy") else {
            continue;
        };
        limited |= busy < BUSY;
        least = least.min(find("load", "share", "on-cpu").unwrap_or(0.0));
        loads.row([
            bytes.to_string(),
            cell("most", "packets/s", "mean", 1e-6, 3),
            format!("{:.0}", busy * 100.0),
            cell("load", "packets/s", "wanted", 1e-6, 3),
            cell("load", "packets/s", "achieved", 1e-6, 3),
            cell("load", "share", "busy", 100.0, 0),
            cell("load", "packets", "sent", 1.0, 0),
            cell("load", "packets", "refused", 1.0, 0),
            cell("load", "packets", "lost", 1.0, 0),
        ]);
        for (part, name) in [
            (OUTSIDE, "tenant's queue to underlay"),
            (GENERATOR, "between two looks of the generator"),
        ] {
            let us = |stat| cell(part, "ns", stat, 1e-3, 1);
            delays.row([
                name.to_owned(),
                bytes.to_string(),
                us("p50"),
                us("p99"),
                us("p99.9"),
                us("p99.9-of-best-turn"),
                us("max"),
            ]);
        }
        if let Some(bound) = find(INSIDE, "ns", "p99.9-at-most") {
            let none = || "–".to_owned();
            delays.row([
                "inside the switch, sampled".to_owned(),
                bytes.to_string(),
                none(),
                none(),
                format!("≤ {:.1}", bound / 1e3),
                none(),
                none(),
            ]);
        }
    }
    loads.write(out)?;
    writeln!(out)?;
    delays.write(out)?;
    if least < FREE {
        writeln!(
            out,
            "\nThe worker had its core for {:.1}% of the time only: the slowest packets waited for \
             other processes, and `most` is too low.",
            least * 100.0
        )?;
    }
    if limited {
        writeln!(
            out,
            "\nThe generator sent less than the worker takes; `most` is reckoned from the time \
             in which the worker had packets at hand, in smaller bursts than it would have at \
             its limit."
        )?;
    }
    Ok(())
}
