//! The benchmark of latencies runs anywhere, follows packets on one side only, and reports
//! every case.

use std::process::Command;

use serde_json::Value;
use vswitch_perf::datapath::PROTECTIONS;
use vswitch_perf::latency::{COST, OFF, ON, SIZES, SNAPSHOT};

#[test]
fn every_case_has_its_figures() {
    let output = Command::new(env!("CARGO_BIN_EXE_vswitch-perf"))
        .args(["latency", "--quick", "--json", "--no-huge"])
        .output()
        .expect("the benchmark");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let of = |part: &str| lines.iter().filter(|line| line["part"] == part).count();
    let cases = 2 * PROTECTIONS.len() * SIZES.len();
    assert_eq!([of(ON), of(OFF), of(COST)], [cases; 3]);
    assert_eq!(of(SNAPSHOT), PROTECTIONS.len());
    for line in &lines {
        assert_eq!(line["bench"], "latency");
        let value = line["value"].as_f64().expect("a figure");
        assert!(line["part"] == COST || value > 0.0, "{line}");
    }
}
