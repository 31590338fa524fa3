//! The examples in `docs/operations.md` and `docs/monitoring.md` are what `vswitchctl` prints.

use std::collections::BTreeSet;
use std::path::Path;

use super::switch::Switch;

const PROMPT: &str = "$ vswitchctl ";

/// Commands and the outputs that the page claims for them.
fn examples(page: &str) -> Vec<(String, String)> {
    let mut examples: Vec<(String, String)> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").expect("the block ends");
        let Some(rest) = block.strip_prefix(PROMPT) else {
            continue;
        };
        let (command, output) = rest.split_once('\n').expect("a command is a line");
        examples.push((command.to_owned(), output.to_owned()));
    }
    examples
}

#[test]
fn examples_are_real() {
    let switch = Switch::start();
    let mut seen = BTreeSet::new();
    for name in ["docs/operations.md", "docs/monitoring.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        let page = std::fs::read_to_string(path).unwrap();
        for (command, output) in examples(&page) {
            let args: Vec<&str> = command.split(' ').collect();
            let real = switch.shown(&args);
            assert_eq!(output, real, "{name}: vswitchctl {command}");
            seen.insert(args[1].to_owned());
        }
    }
    for part in [
        "nve", "ports", "vns", "fdb", "tunnels", "peers", "sas", "workers", "drops", "latency",
        "memory", "ima",
    ] {
        assert!(seen.contains(part), "no example of show {part}");
    }
}
