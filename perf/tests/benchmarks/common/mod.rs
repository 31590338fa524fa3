//! Benchmarks as they are called, and what they print.

use std::process::Command;

use serde_json::Value;

/// A quick run of a benchmark, to which arguments may be added. What it starts is beside it:
/// `cargo build --workspace --bins` made it.
pub fn quick(bench: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vswitch-perf"));
    command.args([bench, "--quick"]);
    command
}

/// What it prints, if it succeeds.
pub fn text(command: &mut Command) -> String {
    let output = command.output().expect("the benchmark");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// The objects of JSON lines, of which there are some.
pub fn lines(text: &str) -> Vec<Value> {
    let parsed = text
        .lines()
        .map(|line| serde_json::from_str(line).expect(line));
    let lines: Vec<Value> = parsed.collect();
    assert!(!lines.is_empty(), "no lines");
    lines
}

/// A word of a line.
pub fn word(line: &Value, key: &str) -> String {
    let word = line[key].as_str();
    word.unwrap_or_else(|| panic!("{key}: {line}")).to_owned()
}

/// The figure of a line.
pub fn value(line: &Value) -> f64 {
    line["value"].as_f64().unwrap_or_else(|| panic!("{line}"))
}
