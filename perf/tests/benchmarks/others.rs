//! The other benchmarks run, report every case, and keep what they are told to keep.

use std::collections::BTreeSet;

use crate::common::{lines, quick, text, value, word};
use vswitch_perf::tables::{CASES, SIZES};

#[test]
fn tables_are_measured_and_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = text(quick("tables").arg("--save").arg(dir.path()));
    let kept = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
    assert_eq!(kept("tables.md"), text);
    let mut seen = BTreeSet::new();
    for line in lines(&kept("tables.jsonl")) {
        let value = value(&line);
        assert!(value > 0.0, "{line}");
        assert!(line["machine"]["cpu"].is_string());
        seen.insert(word(&line, "case"));
        // A key alone has 8 bytes, and an address with its mapping well under a page.
        if line["unit"] == "bytes/entry" {
            assert!((16.0..4096.0).contains(&value), "{line}");
        }
    }
    for entries in &SIZES[..2] {
        for case in CASES.iter().chain(&["mapping", "learned"]) {
            assert!(
                seen.contains(&format!("{case}/{entries}")),
                "{case}/{entries}"
            );
        }
    }
    for picture in ["lookups", "updates", "memory"] {
        assert!(kept(&format!("tables-{picture}.svg")).contains("polyline"));
    }
}

#[test]
fn tenants_reach_one_another_through_two_switches() {
    let mut cases = BTreeSet::new();
    for line in lines(&text(quick("e2e").arg("--json"))) {
        if line["unit"] == "packets/s" && line["stat"] == "received" {
            assert!(value(&line) > 0.0, "{line}");
            cases.insert((line["case"].to_string(), line["bytes"].as_u64()));
        }
    }
    assert_eq!(cases.len(), 2 * 3, "{cases:?}");
}
