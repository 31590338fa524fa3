//! The test of times runs anywhere, asks every question of every backend, and sees the leak
//! that is there by intent; otherwise it would prove nothing, and fail.

use std::collections::BTreeMap;

use crate::common::{lines, quick, text, value, word};
use vswitch_perf::timing::bench::Question;
use vswitch_perf::timing::dudect::LEAKS;

#[test]
fn the_control_is_found_and_nothing_else() {
    let mut found = BTreeMap::new();
    for line in lines(&text(quick("timing").arg("--json"))) {
        if line["part"] == "t" {
            found.insert(word(&line, "case"), value(&line));
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
