//! The test of times runs anywhere, asks every question of every backend, and sees the leak
//! that is there by intent; otherwise it would prove nothing, and fail.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use vswitch_perf::timing::bench::Question;
use vswitch_perf::timing::dudect::LEAKS;

#[test]
fn the_control_is_found_and_nothing_else() {
    let output = Command::new(env!("CARGO_BIN_EXE_vswitch-perf"))
        .args(["timing", "--quick", "--json"])
        .output()
        .expect("the benchmark");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect(line);
        if line["part"] == "t" {
            let case = line["case"].as_str().expect("a case").to_owned();
            found.insert(case, line["value"].as_f64().expect("a value"));
        }
    }
    let backends: Vec<&str> = vswitch_aead::backends().map(|b| b.name()).collect();
    assert_eq!(found.len(), backends.len() * Question::ALL.len());
    for backend in backends {
        for question in Question::ALL {
            let name = question.name();
            let case = format!("{backend}/aes-128-gcm/{name}/batch-32");
            let t = found.get(&case).expect(&case);
            // The wrong byte is the first where it stops early: less time, so a negative t.
            let leaks = *t < -LEAKS;
            assert_eq!(leaks, question == Question::Control, "{case}: {t}");
        }
    }
}
