//! The figures, one by one.

use super::watch::Times;
use super::{Found, NAME, Sent};
use crate::report::Record;

struct Records(Vec<Record>);

impl Records {
    fn add(
        &mut self,
        case: &str,
        part: &'static str,
        (unit, stat): (&'static str, &'static str),
        value: f64,
    ) {
        // A rate by CPU time of which there was less than can be told.
        if value.is_finite() {
            self.0.push(Record {
                bench: NAME,
                case: case.replace([' ', ','], "-").replace("--", "-"),
                part,
                bytes: 0,
                unit,
                stat,
                value,
            });
        }
    }

    fn times(&mut self, case: &str, part: &'static str, times: &Times) {
        for (stat, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            self.add(case, part, ("ms", stat), times.ms(share));
        }
    }

    fn sent(&mut self, case: &str, part: &'static str, sent: Sent) {
        self.add(case, part, ("messages", "sum"), sent.messages as f64);
        self.add(case, part, ("bytes", "sum"), sent.bytes as f64);
    }
}

/// All of them.
pub(super) fn all(found: &Found) -> Vec<Record> {
    let mut records = Records(Vec::new());
    let overlay = &found.overlay;
    for (part, value) in [
        ("edges", overlay.edges()),
        ("networks", overlay.vns()),
        ("mappings", overlay.mappings()),
        ("broad-members", overlay.broad),
    ] {
        records.add(
            &format!("size/{}", found.scale),
            part,
            ("count", "sum"),
            value as f64,
        );
    }
    for (name, step) in &found.steps {
        let (case, count) = (format!("start/{name}"), step.count as f64);
        records.add(&case, "total", ("count", "sum"), count);
        records.add(&case, "total", ("s", "sum"), step.seconds);
        records.add(&case, "total", ("per-s", "mean"), count / step.seconds);
        let part = "authority";
        records.add(&case, part, ("per-cpu-s", "mean"), count / step.authority);
        records.add(&case, part, ("bytes-each", "mean"), step.bytes / count);
    }
    records.times("start/handshake", "total", &found.handshakes);
    records.add(
        "start/refused-dials",
        "total",
        ("count", "sum"),
        found.refused as f64,
    );
    records.add("restart", "authority", ("s", "sum"), found.restart.0);
    records.add(
        "restart",
        "authority",
        ("bytes", "sum"),
        found.restart.1 as f64,
    );
    for changes in &found.changes {
        let (case, step) = (format!("changes/{}", changes.name), &changes.step);
        let count = step.count as f64;
        records.add(&case, "total", ("members", "each"), changes.members as f64);
        records.add(&case, "total", ("per-s", "mean"), count / step.seconds);
        records.add(
            &case,
            "authority",
            ("per-cpu-s", "mean"),
            count / step.authority,
        );
        records.times(&case, "last-member", &changes.times);
    }
    for grown in &found.growth {
        let case = format!("growth/{}/{}/{}", grown.edges, grown.vns, grown.mappings);
        records.add(&case, "total", ("changes", "each"), grown.changes as f64);
        records.sent(&case, "start", grown.start);
        if let Some(elsewhere) = grown.elsewhere {
            records.sent(&case, "elsewhere", elsewhere);
        }
        records.sent(&case, "own", grown.own);
    }
    for (name, keys) in &found.keys {
        let (case, count) = (format!("keys/{name}"), keys.agreements as f64);
        records.add(&case, "total", ("count", "sum"), count);
        records.add(&case, "total", ("per-s", "mean"), count / keys.seconds);
        records.add(&case, "total", ("per-cpu-s", "mean"), count / keys.cpu);
        records.times(&case, "one-way", &keys.one_way);
        records.times(&case, "both-ways", &keys.both_ways);
    }
    let memory = &found.memory;
    for (part, value) in [
        ("peer", memory.peer),
        ("network-with-peer", memory.pair),
        ("outbound-sa", memory.outbound),
        ("inbound-sa", memory.inbound),
    ] {
        records.add("keying-memory", part, ("bytes", "mean"), value);
    }
    records.0
}
