//! The benchmark runs anywhere, without hugepages and in a debug build too, and reports
//! every case.

use std::collections::HashMap;

use crate::common::{self, lines, text, value, word};
use serde_json::Value;
use vswitch_perf::datapath::{LOOP, PROTECTIONS, ROTATIONS, SIZES, TOTAL, WITHOUT_IO};

/// The lines of a quick run.
fn quick(arguments: &[&str]) -> Vec<Value> {
    let mut command = common::quick("datapath");
    command.args(["--json", "--memory", "no-huge"]);
    lines(&text(command.args(arguments)))
}

#[test]
fn every_case_has_its_figures() {
    let mut values = HashMap::new();
    for line in quick(&[]) {
        let text = |key: &str| word(&line, key);
        assert_eq!(text("bench"), "datapath");
        assert_eq!(line["machine"]["hugepages"], Value::Bool(false));
        let bytes = line["bytes"].as_u64().expect("bytes") as usize;
        let value = value(&line);
        assert!(value > 0.0, "{line}");
        let key = (
            text("case"),
            bytes,
            text("part"),
            text("unit"),
            text("stat"),
        );
        assert_eq!(values.insert(key.clone(), value), None, "twice: {key:?}");
    }
    let ways = [
        (
            "tenant-to-underlay",
            ["check", "forward", "encapsulate", "transmit"],
            "seal",
        ),
        (
            "underlay-to-tenant",
            ["receive", "classify", "decapsulate", "transmit"],
            "open",
        ),
    ];
    let alone = PROTECTIONS.map(|(name, algorithm)| (name.to_owned(), algorithm.is_some()));
    let rotations = ROTATIONS.map(|vns| (format!("aes-128-gcm/{vns}-sas"), true));
    let protections: Vec<(String, bool)> = alone.into_iter().chain(rotations).collect();
    for (way, stages, cipher) in ways {
        for (protection, protected) in &protections {
            for bytes in SIZES {
                let value = |part: &str, unit: &str, stat: &str| {
                    let case = format!("{way}/{protection}");
                    let key = (case, bytes, part.into(), unit.into(), stat.into());
                    *values
                        .get(&key)
                        .unwrap_or_else(|| panic!("missing: {key:?}"))
                };
                let median = |part| value(part, "ticks/packet", "median");
                for part in stages.iter().copied().chain([LOOP, WITHOUT_IO]) {
                    median(part);
                }
                if *protected {
                    assert!(median(cipher) > 0.0);
                }
                assert!(value(TOTAL, "ticks/packet", "min") <= median(TOTAL));
                assert!(value(TOTAL, "ns/packet", "min") <= value(TOTAL, "ns/packet", "median"));
                assert!(value(TOTAL, "ticks/burst", "p50") <= value(TOTAL, "ticks/burst", "p99"));
            }
        }
    }
}

#[test]
fn cases_can_be_chosen() {
    let lines = quick(&["--only", "underlay-to-tenant/aes-256"]);
    assert!(
        lines
            .iter()
            .all(|line| line["case"] == "underlay-to-tenant/aes-256-gcm")
    );
}
