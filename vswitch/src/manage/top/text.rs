//! A frame as plain text, whole: for scripts and logs.

use super::rates::Frame;
use crate::manage::show::table::{Cell, Left, Right, Table};
use crate::manage::show::units;

/// A number per second in three digits: `1.23 M`.
pub(super) fn rate(n: f64) -> String {
    const UNITS: [&str; 4] = [" k", " M", " G", " T"];
    if n < 999.5 {
        return if n > 0.0 && n < 9.95 {
            format!("{n:.1}")
        } else {
            format!("{n:.0}")
        };
    }
    let (mut n, mut name) = (n, "");
    for unit in UNITS {
        if n < 999.5 {
            break;
        }
        (n, name) = (n / 1000.0, unit);
    }
    let digits = match n {
        n if n < 9.995 => 2,
        n if n < 99.95 => 1,
        _ => 0,
    };
    format!("{n:.digits$}{name}")
}

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Ticks, or that there is nothing to tell.
pub(super) fn ticks(ticks: Option<f64>) -> String {
    ticks.map_or_else(|| "-".to_owned(), |ticks| format!("{ticks:.0}"))
}

/// The first line.
pub(super) fn title(frame: &Frame) -> String {
    let over = if frame.seconds > 0.0 {
        format!("rates over {:.1} s", frame.seconds)
    } else {
        "no rates yet".to_owned()
    };
    format!(
        "{}  up {}  {over}",
        frame.nve,
        units::duration(frame.uptime)
    )
}

/// The whole frame.
pub(super) fn text(frame: &Frame) -> String {
    let mut workers = Table::new([
        ("WORKER", Right),
        ("CORE", Right),
        ("BUSY", Right),
        ("PACKETS/S", Right),
        ("TICKS/PACKET", Right),
        ("HANDED OUT/S", Right),
        ("DROPS/S", Right),
    ]);
    for worker in &frame.workers {
        workers.row([
            worker.id.into(),
            worker.core.into(),
            percent(worker.busy).into(),
            rate(worker.packets).into(),
            ticks(worker.ticks_per_packet).into(),
            rate(worker.handed_out).into(),
            rate(worker.drops).into(),
        ]);
    }
    let mut traffic = Table::new([
        ("KIND", Left),
        ("NAME", Left),
        ("RX PACKETS/S", Right),
        ("RX BIT/S", Right),
        ("TX PACKETS/S", Right),
        ("TX BIT/S", Right),
        ("DROPS/S", Right),
    ]);
    for row in &frame.traffic {
        traffic.row([
            row.kind.into(),
            Cell::from(&row.name),
            rate(row.rx_packets).into(),
            rate(row.rx_bits).into(),
            rate(row.tx_packets).into(),
            rate(row.tx_bits).into(),
            rate(row.drops).into(),
        ]);
    }
    let mut drops = Table::new([("DROPS", Left), ("PER SECOND", Right), ("TOTAL", Right)]);
    for drop in &frame.drops {
        drops.row([
            Cell::from(&drop.reason),
            rate(drop.rate).into(),
            drop.total.into(),
        ]);
    }
    let mut latency = Table::new([
        ("LATENCY", Left),
        ("SAMPLES", Right),
        ("P50", Right),
        ("P90", Right),
        ("P99", Right),
        ("P99.9", Right),
        ("MAX", Right),
    ]);
    for row in &frame.latency {
        let time = |ns| Cell::from(times(row.recent.samples, ns));
        latency.row([
            Cell::from(&row.direction),
            row.recent.samples.into(),
            time(row.recent.p50),
            time(row.recent.p90),
            time(row.recent.p99),
            time(row.recent.p999),
            time(row.recent.max),
        ]);
    }
    format!(
        "{}\n\n{workers}\n{traffic}\n{drops}\n{latency}",
        title(frame)
    )
}

/// A time, or that there were no samples.
pub(super) fn times(samples: u64, ns: u64) -> String {
    if samples == 0 {
        "-".to_owned()
    } else {
        units::time(ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits() {
        for (n, text) in [
            (0.0, "0"),
            (0.26, "0.3"),
            (9.94, "9.9"),
            (9.96, "10"),
            (999.4, "999"),
            (999.6, "1.00 k"),
            (12_345.0, "12.3 k"),
            (99_960.0, "100 k"),
            (999_600.0, "1.00 M"),
            (14_880_952.0, "14.9 M"),
            (1.5e12, "1.50 T"),
            (1.5e15, "1500 T"),
        ] {
            assert_eq!(rate(n), text);
        }
    }
}
