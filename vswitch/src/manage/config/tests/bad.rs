//! Bad files and exactly what is said about them.

use std::path::Path;

use super::{EXAMPLE, edit, key_dir, parse};

/// Edits of the example, and the one line that comes of each.
#[test]
fn one_mistake_one_line() {
    let dir = key_dir();
    compare(CASES.iter().map(|(old, new, expected)| {
        let text = edit(EXAMPLE, old, new);
        let said = parse(&text, dir.path())
            .map(|_| ())
            .map_err(|e| e.to_string());
        (*new, *expected, said)
    }));
}

const CASES: &[(&str, &str, &str)] = include!("bad_cases.rs");

/// Shows all that differ at once: a changed word changes many lines.
fn compare<'a>(cases: impl Iterator<Item = (&'a str, &'a str, Result<(), String>)>) {
    let mut wrong = String::new();
    for (case, expected, said) in cases {
        if said.as_ref().err().map(String::as_str) != Some(expected) {
            wrong += &format!("{case:?}\n  expected {expected:?}\n  found    {said:?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn message(text: &str) -> String {
    parse(text, Path::new("/")).unwrap_err().to_string()
}

#[test]
fn yaml_that_is_none() {
    compare(YAML.iter().map(|(text, expected)| {
        let said = parse(text, Path::new("/"))
            .map(|_| ())
            .map_err(|e| e.to_string());
        (*text, *expected, said)
    }));
}

const YAML: &[(&str, &str)] = include!("yaml_cases.rs");

/// Independent mistakes come together, in the order of the text.
#[test]
fn everything_wrong_is_said() {
    let text = "\
nve: {name: \"a b\"}
workers: {cores: []}
underlay: {esp-port: 6081}
peers:
  - {name: b, addresses: [192.0.2.2, nonsense]}
vns:
  - name: v
    vni: 16777216
    edges: [c]
    mappings:
      - {mac: \"03:00:00:00:00:01\", ips: [10.0.0.1, 10.0.0.1], peer: b}
ports:
  - {name: p, vn: w, worker: 3}
security-associations:
  - {vn: v, peer: b, direction: inbound, spi: 255, algorithm: aes-128-gcm, key-file: /none}
";
    assert_eq!(
        message(text),
        "\
configuration:1:7: nve.name: \"a b\" is not a usable name: 1 to 63 letters, digits, `.`, `_` or `-`, the first a letter or digit
configuration:2:11: workers.cores: is empty: at least one worker is needed
configuration:3:12: underlay.esp-port: 6081 is the port of Geneve in the clear
configuration:5:27: peers[0].addresses[0]: this edge has no IPv4 address to reach 192.0.2.2 from: see underlay.local
configuration:5:38: peers[0].addresses[1]: \"nonsense\" is not an IPv4 or IPv6 address
configuration:8:5: vns[0].vni: 16777216 is out of range: 0 to 16777215 (24 bits)
configuration:9:13: vns[0].edges[0]: no peer is called `c`: there is `b`
configuration:11:10: vns[0].mappings[0].mac: 03:00:00:00:00:01 is a group address (lowest bit of the first byte): no interface can have it
configuration:11:52: vns[0].mappings[0].ips[1]: 10.0.0.1, in the same VN, is already taken by vns[0].mappings[0].ips[0]
configuration:13:5: ports[0]: port `p` has neither `vhost` nor `vlan`
configuration:13:15: ports[0].vn: no VN is called `w`: there is `v`
configuration:13:22: ports[0].worker: there is no worker 3: workers.cores makes 0 to 0
configuration:15:42: security-associations[0].spi: 255 is out of range: 256 to 4294967295
configuration:15:76: security-associations[0].key-file: /none cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn long_lists_end() {
    let peers: Vec<String> = (0..300)
        .map(|i| format!("  - {{name: p{i}, addresses: [nonsense]}}\n"))
        .collect();
    let text = format!("nve: {{name: a}}\npeers:\n{}", peers.concat());
    let error = parse(&text, Path::new("/")).unwrap_err();
    assert_eq!(error.problems().len(), 300);
    let shown = error.to_string();
    assert_eq!(shown.lines().count(), 51);
    assert!(shown.ends_with("\nand 250 more"), "{shown}");
}
