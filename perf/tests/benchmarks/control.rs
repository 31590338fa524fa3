//! `control` brings up an authority and edges, and what it reports is whole and adds up.

use std::collections::BTreeMap;

use crate::common::{lines, quick, text, value, word};

/// Of `--quick`: edges, networks, mappings, and how many changes the watched edge is shown.
const EDGES: f64 = 60.0;
const VNS: f64 = 40.0;
const MAPPINGS: f64 = 480.0;
const CHANGES: f64 = 10.0;

#[test]
fn an_edge_costs_what_it_uses_and_every_figure_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = text(quick("control").arg("--save").arg(dir.path()));
    let kept = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
    assert_eq!(kept("control.md"), text);
    assert!(kept("control-growth.svg").contains("polyline"));
    assert!(text.contains("Size `quick`: 60 edges"), "{text}");
    let mut found = BTreeMap::new();
    for line in lines(&kept("control.jsonl")) {
        assert_eq!(word(&line, "bench"), "control");
        assert!(line["machine"]["load"].is_number());
        let key = ["case", "part", "unit", "stat"]
            .map(|key| word(&line, key))
            .join(" ");
        assert_eq!(found.insert(key, value(&line)), None, "twice: {line}");
    }
    let of = |key: &str| {
        *found
            .get(key)
            .unwrap_or_else(|| panic!("{key}: {found:#?}"))
    };

    for (step, count) in [
        ("networks-declared", VNS),
        ("members-declared", 4.0 * EDGES),
        ("addresses-placed", MAPPINGS),
        ("sessions", EDGES),
        ("joins", 4.0 * EDGES),
        ("registrations-known-to-all", MAPPINGS),
    ] {
        assert_eq!(
            of(&format!("start/{step} total count sum")),
            count,
            "{step}"
        );
        assert!(
            of(&format!("start/{step} total per-s mean")) > 0.0,
            "{step}"
        );
    }
    // A session is more than a kilobyte, and less than one for each of quinn's largest buffers.
    let session = of("start/sessions authority bytes-each mean");
    assert!((1024.0..4e6).contains(&session), "{session}");
    assert!(of("restart authority bytes sum") > MAPPINGS * 16.0);

    // What one edge is sent does not depend on how many others there are.
    let sizes = ["6/4/48", "60/40/480"];
    let sent = |size: &str, part: &str, unit: &str| of(&format!("growth/{size} {part} {unit} sum"));
    for unit in ["messages", "bytes"] {
        for part in ["start", "own"] {
            let (small, large) = (sent(sizes[0], part, unit), sent(sizes[1], part, unit));
            assert!(small > 0.0, "{part} {unit}");
            // Numbers that have grown meanwhile may take a byte more.
            assert!(
                (large / small - 1.0).abs() < 0.05,
                "{part} {unit}: {small}, {large}"
            );
        }
        assert_eq!(sent(sizes[1], "elsewhere", unit), 0.0);
    }
    // One by one, so each is told for itself.
    assert_eq!(sent(sizes[1], "own", "messages"), CHANGES);

    for (case, members) in [
        ("one-by-one", 6.0),
        ("64-at-once", 6.0),
        ("broad-one-by-one", 20.0),
        ("broad-16-at-once", 20.0),
    ] {
        assert_eq!(of(&format!("changes/{case} total members each")), members);
        ordered(&of, &format!("changes/{case} last-member"));
    }
    for (kind, count) in [
        ("state-machines-alone", 50.0),
        ("over-a-session-one-by-one", 12.0),
        ("over-a-session-64-at-once", 50.0),
    ] {
        assert_eq!(of(&format!("keys/{kind} total count sum")), count);
        ordered(&of, &format!("keys/{kind} one-way"));
        ordered(&of, &format!("keys/{kind} both-ways"));
        let way = |way: &str| of(&format!("keys/{kind} {way} ms max"));
        assert!(way("one-way") <= way("both-ways"), "{kind}");
    }
    for part in ["peer", "network-with-peer", "outbound-sa", "inbound-sa"] {
        let bytes = of(&format!("keying-memory {part} bytes mean"));
        assert!((16.0..65536.0).contains(&bytes), "{part}: {bytes}");
    }
}

fn ordered(of: &impl Fn(&str) -> f64, case: &str) {
    let [p50, p99, max] = ["p50", "p99", "max"].map(|stat| of(&format!("{case} ms {stat}")));
    assert!(
        0.0 < p50 && p50 <= p99 && p99 <= max,
        "{case}: {p50} {p99} {max}"
    );
}
