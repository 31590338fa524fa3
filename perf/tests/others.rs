//! The other benchmarks run, report every case, and keep what they are told to keep.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use vswitch_perf::tables::{CASES, SIZES};

#[test]
fn tables_are_measured_and_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_vswitch-perf"))
        .args(["tables", "--quick", "--save"])
        .arg(dir.path())
        .output()
        .expect("the benchmark");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    let kept = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
    assert_eq!(kept("tables.md"), text);
    let mut seen = BTreeSet::new();
    for line in kept("tables.jsonl").lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert!(line["value"].as_f64().expect("a value") > 0.0, "{line}");
        assert!(line["machine"]["cpu"].is_string());
        seen.insert(line["case"].as_str().expect("a case").to_owned());
        // A key alone has 8 bytes, and an address with its mapping well under a page.
        if line["unit"] == "bytes/entry" {
            let bytes = line["value"].as_f64().expect("a value");
            assert!((16.0..4096.0).contains(&bytes), "{line}");
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
    // The switches are beside the benchmark: `cargo build --workspace --bins` made them.
    let output = Command::new(env!("CARGO_BIN_EXE_vswitch-perf"))
        .args(["e2e", "--quick", "--json"])
        .output()
        .expect("the benchmark");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    let mut cases = BTreeSet::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        if line["unit"] == "packets/s" && line["stat"] == "received" {
            assert!(line["value"].as_f64().expect("a value") > 0.0, "{line}");
            cases.insert((line["case"].to_string(), line["bytes"].as_u64()));
        }
    }
    assert_eq!(cases.len(), 2 * 3, "{cases:?}");
}
