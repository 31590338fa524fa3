//! The benchmark of latencies runs anywhere, follows packets on one side only, and reports
//! every case.

use crate::common::{lines, quick, text, value, word};
use vswitch_perf::datapath::PROTECTIONS;
use vswitch_perf::latency::{COST, OFF, ON, SIZES, SNAPSHOT};

#[test]
fn every_case_has_its_figures() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = quick("latency");
    command.args(["--no-huge", "--save"]).arg(dir.path());
    let text = text(&mut command);
    let kept = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
    assert_eq!(kept("latency.md"), text);
    let lines = lines(&kept("latency.jsonl"));
    let of = |part: &str| lines.iter().filter(|line| line["part"] == part).count();
    let cases = 2 * PROTECTIONS.len() * SIZES.len();
    assert_eq!([of(ON), of(OFF), of(COST)], [cases; 3]);
    assert_eq!(of(SNAPSHOT), PROTECTIONS.len());
    for line in &lines {
        assert_eq!(word(line, "bench"), "latency");
        assert!(line["part"] == COST || value(line) > 0.0, "{line}");
    }
}

#[test]
fn cases_can_be_chosen() {
    let only = [
        "--no-huge",
        "--json",
        "--only",
        "underlay-to-tenant/aes-128",
    ];
    let found = lines(&text(quick("latency").args(only)));
    let cases = found.iter().filter(|line| line["part"] == ON);
    let names: Vec<_> = cases.map(|line| word(line, "case")).collect();
    assert_eq!(names, ["underlay-to-tenant/aes-128-gcm"; SIZES.len()]);
}
