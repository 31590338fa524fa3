//! The benchmark of AES-GCM runs anywhere, has every contestant get its packets right, and
//! reports every case.

use std::collections::HashMap;

use crate::common::{lines, quick, text, value, word};
use vswitch_perf::aead::contestants::JOBS;
use vswitch_perf::aead::measure::{Heat, Operation};
use vswitch_perf::aead::{CALL, MIXED, cases, ipsec_mb};

#[test]
fn every_contestant_has_its_figures() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = text(quick("aead").args(["--no-huge", "--save"]).arg(dir.path()));
    let kept = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
    assert_eq!(kept("aead.md"), text);
    let mut values = HashMap::new();
    for line in lines(&kept("aead.jsonl")) {
        let word = |key: &str| word(&line, key);
        assert_eq!(word("bench"), "aead");
        let bytes = line["bytes"].as_u64().expect("bytes") as usize;
        let value = value(&line);
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
    let only = ["--no-huge", "--json", "--only", "/cold/"];
    let found = lines(&text(quick("aead").args(only)));
    assert!(
        found
            .iter()
            .all(|line| word(line, "case").contains("/cold/"))
    );
}
