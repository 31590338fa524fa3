//! Differences as people see them, and what needs a restart.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Diff, Op};
use crate::manage::config::Config;

const RUNNING: &str = r#"
nve: {name: a}
eal: {memory: no-huge, memory-mb: 192}
workers: {cores: [0, 0], idle: yield}
state-dir: /var/lib/vswitch
underlay:
  ports:
    - name: up0
      device: net_ring_up0
      addresses: ["192.0.2.1/24"]
      neighbours: [{address: 192.0.2.2, mac: "02:00:00:00:00:02"}]
    - {name: up1, device: net_ring_up1, addresses: ["198.51.100.1/24"], tap: vsw1}
devices:
  - {name: trunk0, device: net_ring_trunk0, mtu: 1500}
peers:
  - {name: b, addresses: [192.0.2.2]}
  - {name: c, addresses: [192.0.2.3]}
vns:
  - name: blue
    vni: 100
    edges: [b, c]
    mappings: [{mac: "52:54:00:00:00:02", ips: [10.0.0.2], peer: b}]
  - {name: red, vni: 200, protection: none, edges: [b]}
ports:
  - name: web-1
    vn: blue
    vhost: {socket: /run/vswitch/web-1.sock, mode: server}
    addresses: [{mac: "52:54:00:00:00:01", ips: [10.0.0.1]}]
  - {name: lan, vn: red, vlan: {device: trunk0, vid: 120}, learning: true}
security-associations:
  - {vn: blue, peer: b, direction: outbound, spi: 4096, algorithm: aes-128-gcm, key-file: 1.key}
  - {vn: blue, peer: b, direction: inbound, spi: 4097, algorithm: aes-128-gcm, key-file: 2.key}
"#;

fn key_file(dir: &Path, n: u8, key: u8, salt: u8) {
    let file = dir.join(format!("{n}.key"));
    let key = format!("{key:02x}").repeat(16) + &format!("{salt:02x}").repeat(4);
    fs::write(&file, key).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for n in 1..=3 {
            key_file(dir.path(), n, n, 9);
        }
        Files(dir)
    }

    fn parse(&self, text: &str) -> Config {
        Config::parse(text, self.0.path()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The difference that these replacements in the text make.
    fn diff(&self, replacements: &[(&str, &str)]) -> Diff {
        let mut text = RUNNING.to_owned();
        for (old, new) in replacements {
            assert_eq!(text.matches(old).count(), 1, "{old}");
            text = text.replace(old, new);
        }
        Diff::between(&self.parse(RUNNING), &self.parse(&text))
    }
}

#[test]
fn comments_and_order_are_no_difference() {
    let files = Files::new();
    let same = files.diff(&[
        ("nve: {name: a}", "# mine\nnve: {name: a}"),
        ("edges: [b, c]", "edges: [c, b]"),
        (
            "  - {name: b, addresses: [192.0.2.2]}\n  - {name: c, addresses: [192.0.2.3]}",
            "  - {name: c, addresses: [192.0.2.3]}\n  - {name: b, addresses: [192.0.2.2]}",
        ),
    ]);
    assert!(same.is_empty(), "{same}");
    assert_eq!(same.to_string(), "");
}

#[test]
fn a_difference_reads_well() {
    let files = Files::new();
    let diff = files.diff(&[
        (
            "    addresses: [{mac: \"52:54:00:00:00:01\", ips: [10.0.0.1]}]",
            "    addresses: [{mac: \"52:54:00:00:00:01\"}, {mac: \"52:54:00:00:00:07\"}]\n    \
             bum-rate: 500",
        ),
        (
            "  - {name: lan, vn: red, vlan: {device: trunk0, vid: 120}, learning: true}\n",
            "",
        ),
        ("  - {name: c, addresses: [192.0.2.3]}\n", ""),
        ("edges: [b, c]", "edges: [b]"),
        ("ips: [10.0.0.2], peer: b}]", "peer: b}]"),
        (
            "  - {name: red, vni: 200, protection: none, edges: [b]}",
            "  - {name: red, vni: 201, protection: none, edges: [b]}\n  - {name: green, vni: 300, \
             unknown-unicast: flood}",
        ),
        (
            "spi: 4096, algorithm: aes-128-gcm, key-file: 1.key",
            "spi: 8192, algorithm: aes-128-gcm, key-file: 3.key",
        ),
    ]);
    let key = |n: u8| {
        let bytes: Vec<u8> = [[n; 16].as_slice(), &[9; 4]].concat();
        let algorithm = vswitch_sa::Algorithm::Aes128Gcm;
        let key = vswitch_sa::KeyMaterial::from_bytes(vswitch_aead::portable(), algorithm, &bytes)
            .unwrap();
        key.fingerprint().to_string()
    };
    let expected = format!(
        "\
~ vn blue
    edges:
      - c
    mappings: 52:54:00:00:00:02 (10.0.0.2) at b -> 52:54:00:00:00:02 at b
~ vn red
    vni: 200 -> 201
+ vn green
    vni: 300
    protection: confidential
    unknown-unicast: flood
    learning: no
    learning-age: 300
~ port web-1
    addresses:
      - 52:54:00:00:00:01 (10.0.0.1)
      + 52:54:00:00:00:01
      + 52:54:00:00:00:07
    bum-rate: 1000 -> 500
~ sa outbound blue/b worker 0
    spi: 0x00001000 -> 0x00002000
    key: {} -> {}
- peer c
    addresses: 192.0.2.3
    encapsulation: geneve
    esp-source-port: auto
    foreign: no
- port lan
    vn: red
    vlan: trunk0.120
    learning: yes
    bum-rate: 1000
    worker: any
",
        key(1),
        key(3)
    );
    assert_eq!(diff.to_string(), expected, "{diff}");
    assert_eq!(diff.restarts().count(), 0);
    let json = serde_json::to_string(&diff).unwrap();
    assert_eq!(serde_json::from_str::<Diff>(&json).unwrap(), diff);
}

#[test]
fn another_salt_is_a_difference_and_no_key_is_shown() {
    let files = Files::new();
    let before = files.parse(RUNNING);
    key_file(files.0.path(), 1, 1, 8);
    let diff = Diff::between(&before, &files.parse(RUNNING));
    let [entry] = diff.entries.as_slice() else {
        panic!("{diff}")
    };
    assert_eq!((entry.op, entry.kind.as_str()), (Op::Change, "salt"));
    assert!(!diff.to_string().contains("0808"), "{diff}");
    assert!(!diff.to_string().contains("0101"), "{diff}");
}

#[test]
fn what_needs_a_restart_is_named_with_the_reason() {
    let files = Files::new();
    let restarts = |old: &str, new: &str| -> Vec<String> {
        let diff = files.diff(&[(old, new)]);
        let all = diff.restarts().map(|e| format!("{} {}", e.kind, e.name));
        let text = diff.to_string();
        let lines = text.lines().filter(|l| l.contains("! needs a restart: "));
        assert_eq!(lines.count(), diff.restarts().count(), "{text}");
        all.collect()
    };
    for (old, new, what) in [
        ("{name: a}", "{name: z}", "nve "),
        ("idle: yield", "idle: yield, aead: portable", "workers "),
        ("no-huge,", "no-huge, file-prefix: x,", "eal "),
        ("memory-mb: 192", "memory-mb: 256", "eal "),
        ("cores: [0, 0]", "cores: [0, 1]", "workers "),
        ("/var/lib/vswitch", "/var/lib/other", "state-dir "),
        (
            "device: net_ring_up0",
            "device: net_ring_up9",
            "underlay-port up0",
        ),
        ("tap: vsw1", "tap: vsw2", "underlay-port up1"),
        (
            "tap: vsw1}",
            "tap: vsw1, neighbours: [{address: 198.51.100.9, mac: \"02:00:00:00:00:09\"}]}",
            "underlay-port up1",
        ),
        ("mtu: 1500}", "mtu: 1400}", "device trunk0"),
        (
            "underlay:\n",
            "mempool: {mbufs: 9000}\nunderlay:\n",
            "mempool ",
        ),
        ("underlay:\n", "api: {socket: /run/x}\nunderlay:\n", "api "),
        ("underlay:\n", "underlay:\n  esp-port: 4501\n", "underlay "),
    ] {
        let mut all = restarts(old, new);
        // The prefix of EAL's files is the edge's name unless it has one of its own.
        all.retain(|other| what != "nve " || other != "eal ");
        assert_eq!(all, [what], "{new}");
    }
    // Static neighbours of a port without a tap are the switch's own.
    let neighbour = ("\"02:00:00:00:00:02\"}]", "\"02:00:00:00:00:22\"}]");
    assert_eq!(restarts(neighbour.0, neighbour.1), [""; 0]);
}
