//! The comparison with others runs here and has figures of ours; those of Open vSwitch too
//! where it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Ours through `vswitchd`, which is beside the benchmark (`cargo build --workspace --bins`
/// made it), and by hand; one of each.
#[test]
fn both_sides_have_figures() {
    let ovs = std::env::var_os("VSWITCH_OVS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ovs"),
        Into::into,
    );
    for way in ["tenant-to-underlay", "underlay-to-tenant"] {
        let output = Command::new(env!("CARGO_BIN_EXE_vswitch-perf"))
            .args(["peers", "--quick", "--json", "--size", "64", "--only", way])
            .env("VSWITCH_OVS", &ovs)
            .output()
            .expect("the benchmark");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", output.status);
        let text = String::from_utf8(output.stdout).expect("text");
        let mut found = BTreeMap::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).expect(line);
            assert_eq!(line["bytes"], 64);
            let word = |key: &str| line[key].as_str().expect(key).to_owned();
            found.insert(
                (word("case"), word("part")),
                line["value"].as_f64().expect("a value"),
            );
        }
        let part = |side: &str, part: &str| found.get(&(format!("{way}/{side}"), part.into()));
        let sides: &[&str] = match ovs.join("complete").exists() {
            true => &["vswitch", "ovs-dpdk"],
            false => &["vswitch"],
        };
        for side in sides {
            let [total, ports, rest] =
                ["total", "ports", "without-io"].map(|p| *part(side, p).expect(p));
            assert!(total > 0.0 && ports > 0.0, "{found:?}");
            assert!((total - ports - rest).abs() < 1e-6, "{found:?}");
        }
    }
}
