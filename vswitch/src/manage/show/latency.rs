//! How long packets take inside the switch.

use super::table::{Cell, Left, Right, Table};
use super::units;
use crate::manage::status::{Latency, Percentiles};

/// `show latency`: percentiles of the time from receiving a burst to handing the packet on.
pub(super) fn latency(latencies: &[Latency]) -> String {
    let mut found = latencies
        .iter()
        .filter(|latency| latency.total.samples > 0)
        .peekable();
    let Some(first) = found.peek() else {
        return "No packets were followed yet.\n".to_owned();
    };
    let seconds = first.window;
    let mut recent = table("RECENT");
    let mut total = table("SINCE START");
    for latency in found {
        if latency.recent.samples > 0 {
            recent.row(row(latency, &latency.recent));
        }
        total.row(row(latency, &latency.total));
    }
    format!("{total}\n{recent}\nRecent: the last {seconds:.1} s.\n")
}

fn table(what: &'static str) -> Table<7> {
    Table::new([
        (what, Left),
        ("SAMPLES", Right),
        ("P50", Right),
        ("P90", Right),
        ("P99", Right),
        ("P99.9", Right),
        ("MAX", Right),
    ])
}

fn row(latency: &Latency, found: &Percentiles) -> [Cell; 7] {
    let time = |ns| Cell::from(units::time(ns));
    [
        Cell::from(&latency.direction),
        found.samples.into(),
        time(found.p50),
        time(found.p90),
        time(found.p99),
        time(found.p999),
        time(found.max),
    ]
}
