//! The comparison with others runs here and has figures of ours; those of Open vSwitch too
//! where it is.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::{lines, quick, text, value, word};

/// Ours through `vswitchd`, which is beside the benchmark (`cargo build --workspace --bins`
/// made it), and by hand; one of each.
#[test]
fn both_sides_have_figures() {
    let ovs = std::env::var_os("VSWITCH_OVS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ovs"),
        Into::into,
    );
    for way in ["tenant-to-underlay", "underlay-to-tenant"] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = quick("peers");
        command.args(["--json", "--size", "64", "--only", &format!("={way}")]);
        command
            .arg("--save")
            .arg(dir.path())
            .env("VSWITCH_OVS", &ovs);
        let mut found = BTreeMap::new();
        for line in lines(&text(&mut command)) {
            assert_eq!(line["bytes"], 64);
            let word = |key: &str| word(&line, key);
            found.insert((word("case"), word("part")), value(&line));
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
        // Sides can be compared only where there are two.
        let drawn = |name: &str| dir.path().join(format!("peers-{name}.svg")).exists();
        assert!(drawn("ticks"));
        assert_eq!(drawn("ratio"), sides.len() == 2);
    }
}
