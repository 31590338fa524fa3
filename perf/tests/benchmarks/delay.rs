//! Packets are timed through a real switch: each that arrives is known, none arrives before it was
//! sent, and what did not arrive is said.

use std::collections::BTreeMap;

use crate::common::{lines, quick, text, value, word};
use vswitch_perf::delay::{GENERATOR, OUTSIDE, SHARES, SIZES};

#[test]
fn every_packet_is_accounted_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = text(quick("delay").arg("--save").arg(dir.path()));
    let kept = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
    assert_eq!(kept("delay.md"), text);
    let mut found = BTreeMap::new();
    for line in lines(&kept("delay.jsonl")) {
        assert_eq!(line["bench"], "delay");
        let bytes = line["bytes"].as_u64().expect("bytes") as usize;
        let word = |key: &str| word(&line, key);
        let key = (bytes, word("part"), word("unit"), word("stat"));
        assert_eq!(found.insert(key, value(&line)), None, "twice: {line}");
    }
    for bytes in SIZES {
        let of = |part: &str, unit: &str, stat: &str| {
            let key = (bytes, part.into(), unit.into(), stat.into());
            *found.get(&key).unwrap_or_else(|| panic!("{key:?}"))
        };
        let packets = |stat| of("load", "packets", stat);
        assert!(packets("received") > 0.0, "{found:?}");
        let ended = packets("received") + packets("lost");
        assert_eq!(packets("sent"), ended, "{found:?}");
        assert!(of("load", "share", "on-cpu") > 0.0, "{found:?}");
        // Half of what was found to be the most is asked for.
        let [most, wanted] =
            [("most", "mean"), ("load", "wanted")].map(|(part, stat)| of(part, "packets/s", stat));
        assert!((wanted / most - 0.5).abs() < 1e-9, "{found:?}");
        for part in [OUTSIDE, GENERATOR] {
            let stats = SHARES.map(|(name, _)| name);
            let all: Vec<f64> = stats
                .iter()
                .chain(&["max"])
                .map(|s| of(part, "ns", s))
                .collect();
            assert!(all.is_sorted() && all[0] > 0.0, "{part}: {all:?}");
        }
    }
}
