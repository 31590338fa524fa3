//! The benchmark of AES-GCM runs anywhere, has every contestant get its packets right, and
//! reports every case.

use std::collections::HashMap;
use std::process::Command;

use serde_json::Value;
use vswitch_perf::aead::contestants::JOBS;
use vswitch_perf::aead::measure::{Heat, Operation};
use vswitch_perf::aead::{CALL, MIXED, cases, ipsec_mb};

#[test]
fn every_contestant_has_its_figures() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_vswitch-perf"))
        .args(["aead", "--quick", "--no-huge", "--save"])
        .arg(dir.path())
        .output()
        .expect("the benchmark");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    let kept = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
    assert_eq!(kept("aead.md"), text);
    let mut values = HashMap::new();
    for line in kept("aead.jsonl").lines() {
        let line: Value = serde_json::from_str(line).expect(line);
        let word = |key: &str| line[key].as_str().expect(key).to_owned();
        assert_eq!(word("bench"), "aead");
        let bytes = line["bytes"].as_u64().expect("bytes") as usize;
        let value = line["value"].as_f64().expect("a value");
        let key = (
            word("case"),
            bytes,
            word("part"),
            word("unit"),
            word("stat"),
        );
        assert_eq!(values.insert(key.clone(), value), None, "twice: {key:?}");
    }
    let backends: Vec<&str> = vswitch_aead::backends().map(|b| b.name()).collect();
    // Where it is not installed the table must say so.
    let without = text.contains("`ipsec-mb`: not measured");
    for case in cases() {
        for operation in Operation::ALL {
            let mut expected = backends.clone();
            expected.extend(["aes-gcm", "aws-lc-rs", JOBS]);
            if case.heat == Heat::Hot && case.keys == MIXED && !without {
                expected.push(ipsec_mb::NAME);
            }
            for of in expected {
                let value = |unit: &str, stat: &str| {
                    let name = case.name(operation);
                    let key = (name, case.bytes, of.into(), unit.into(), stat.into());
                    *values.get(&key).unwrap_or_else(|| panic!("{key:?}"))
                };
                let ticks = value("ticks/packet", "median");
                assert!(value("ticks/packet", "min") <= ticks);
                assert!(value("ns/packet", "median") <= ticks);
                assert!(of == JOBS || ticks > 0.0, "{of}");
                if backends.contains(&of) {
                    assert!(value("ticks/packet", CALL) > 0.0, "{of}");
                }
            }
        }
    }
    for picture in ["seal", "open", "keys"] {
        assert!(kept(&format!("aead-{picture}.svg")).contains("polyline"));
    }
}

#[test]
fn cases_can_be_chosen() {
    let output = Command::new(env!("CARGO_BIN_EXE_vswitch-perf"))
        .args(["aead", "--quick", "--no-huge", "--json", "--only", "/cold/"])
        .output()
        .expect("the benchmark");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.is_empty());
    assert!(text.lines().all(|line| line.contains("/cold/")));
}
