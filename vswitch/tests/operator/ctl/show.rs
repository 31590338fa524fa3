//! `vswitchctl`, run as an operator runs it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::Value;
use vswitch::manage::status::Status;

use super::switch::{STATUS, Switch, ctl, status, stderr};

const PARTS: [&str; 12] = [
    "nve", "ports", "vns", "fdb", "tunnels", "peers", "sas", "workers", "drops", "latency",
    "memory", "ima",
];

#[test]
fn json_is_what_the_switch_said() {
    let switch = Switch::start();
    let all: Value = serde_json::from_str(STATUS).unwrap();
    for part in PARTS {
        let got: Value = serde_json::from_str(&switch.shown(&["show", part, "--json"])).unwrap();
        assert_eq!(got, all[part], "{part}");
    }
    let got: Value = serde_json::from_str(&switch.shown(&["--json", "show", "status"])).unwrap();
    assert_eq!(got, all);
}

#[test]
fn json_numbers_are_exact() {
    let mut status = status();
    status.nve.uptime = u64::MAX;
    let switch = Switch::with(status);
    let text = switch.shown(&["show", "nve", "--json"]);
    assert!(text.contains("18446744073709551615"), "{text}");
}

/// What the line that begins with `row` has in the column `column`. Columns are two spaces
/// apart at least.
fn cell<'a>(text: &'a str, column: &str, row: &str) -> &'a str {
    let cells = |line: &'a str| {
        line.split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect::<Vec<_>>()
    };
    let mut lines = text.lines().map(cells);
    let header = lines
        .find(|cells| cells.contains(&column))
        .unwrap_or_else(|| panic!("no column {column} in\n{text}"));
    let found = lines
        .find(|cells| cells.first() == Some(&row))
        .unwrap_or_else(|| panic!("no row {row} in\n{text}"));
    let at = header.iter().position(|title| *title == column).unwrap();
    found[at]
}

#[test]
fn tables_have_the_values_under_their_headers() {
    let switch = Switch::start();
    let ports = switch.shown(&["show", "ports"]);
    assert_eq!(cell(&ports, "KIND", "web-1"), "vhost");
    assert_eq!(cell(&ports, "GUEST", "web-1"), "9000");
    assert_eq!(cell(&ports, "GUEST", "uplink"), "-");
    assert_eq!(cell(&ports, "WORKERS", "uplink"), "0 1");
    assert_eq!(cell(&ports, "RX PACKETS", "uplink"), "48211907");
    assert_eq!(cell(&ports, "RX BYTES", "uplink"), "31.3 GB");
    assert_eq!(cell(&ports, "TX DROPPED", "web-1"), "3");
    assert!(ports.ends_with("give QEMU host_mtu=1500\n"), "{ports}");

    let sas = switch.shown(&["show", "sas"]);
    assert_eq!(cell(&sas, "RESERVED", "0x00001001"), "33554432");
    assert_eq!(cell(&sas, "KEY USED", "0x00001001"), "<0.1%");
    assert_eq!(cell(&sas, "KEY USED", "0x00001002"), "36.8%");
    assert_eq!(cell(&sas, "REPLAYED", "0x00002001"), "4");

    let workers = switch.shown(&["show", "workers"]);
    assert_eq!(cell(&workers, "= IN", "0"), cell(&workers, "= OUT", "0"));
    assert_eq!(cell(&workers, "BALANCED", "1"), "yes");
}

#[test]
fn tables_fit_a_terminal() {
    let switch = Switch::start();
    let text = switch.shown(&["show", "status"]);
    for line in text.lines() {
        assert!(line.chars().count() <= 120, "{line}");
        assert_eq!(line, line.trim_end());
    }
    for part in PARTS {
        assert!(text.contains(&switch.shown(&["show", part])), "{part}");
    }
}

#[test]
fn an_unbalanced_worker_is_conspicuous() {
    let mut status = status();
    status.workers[1].balanced = false;
    let workers = Switch::with(status).shown(&["show", "workers"]);
    assert_eq!(cell(&workers, "BALANCED", "1"), "NO");
}

#[test]
fn drops_are_those_that_happened_or_all() {
    let switch = Switch::start();
    let some = switch.shown(&["show", "drops"]);
    assert_eq!(cell(&some, "PACKETS", "unknown-spi"), "34");
    assert!(some.contains("ESP with an SPI nobody here knows"));
    assert!(!some.contains("malformed"));
    let all = switch.shown(&["show", "drops", "--all"]);
    assert_eq!(cell(&all, "PACKETS", "malformed"), "0");
    assert_eq!(all.lines().count(), 1 + status().drops.len());
}

#[test]
fn an_empty_switch_is_said_to_be_empty() {
    let switch = Switch::with(Status::default());
    for part in PARTS.into_iter().filter(|part| *part != "nve") {
        let text = switch.shown(&["show", part]);
        assert!(text.starts_with("No "), "{part}: {text}");
        assert_eq!(text.lines().count(), 1);
    }
}

#[test]
fn watching_prints_again() {
    let switch = Switch::start();
    let mut child = Command::new(env!("CARGO_BIN_EXE_vswitchctl"))
        .env("VSWITCH_SOCKET", switch.socket())
        .args(["show", "nve", "--json", "--watch", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let prints: Vec<String> = lines.take(2).map(Result::unwrap).collect();
    // Its reader is gone by now: it ends by itself, and not with an error.
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(prints[0], prints[1]);
    let nve: Value = serde_json::from_str(&prints[1]).unwrap();
    assert_eq!(nve["name"], "nve-a");
}

#[test]
fn errors_say_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("none.sock");
    let absent = ctl(&nowhere, &["show", "ports"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(absent.stdout.is_empty());
    let said = stderr(&absent);
    assert!(said.contains(nowhere.to_str().unwrap()), "{said}");
    assert!(said.contains("is vswitchd running?"), "{said}");
    assert!(said.contains("--socket"), "{said}");

    drop(UnixListener::bind(&nowhere).unwrap());
    let refused = ctl(&nowhere, &["show", "ports"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("nobody answers"), "{refused:?}");

    let stopping = Switch::controlled(|requests| requests.into_iter().for_each(drop));
    let said = stopping.ctl(&["show", "ports"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(stderr(&said).contains("503"), "{said:?}");
    assert!(stderr(&said).contains("stopping"), "{said:?}");
}

#[test]
fn who_may_not_connect_is_told_who_may() {
    const NOBODY: u32 = 65534;
    let switch = Switch::start();
    // Where nobody else can get at them, the binary included.
    let binary = switch.directory().join("vswitchctl");
    fs::copy(env!("CARGO_BIN_EXE_vswitchctl"), &binary).unwrap();
    fs::set_permissions(switch.directory(), fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(&binary)
        .arg("--socket")
        .arg(switch.socket())
        .args(["show", "ports"])
        .uid(NOBODY)
        .gid(NOBODY)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            eprintln!("skipped: only root can become nobody");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no permission"), "{output:?}");
    assert!(stderr(&output).contains("sudo"), "{output:?}");
}

#[test]
fn wrong_usage_is_status_2() {
    let socket = std::path::Path::new("/nonexistent");
    for args in [
        &["show", "nonsense"][..],
        &["show", "ports", "--watch", "0"],
        &["show"],
        &["--nonsense"],
    ] {
        assert_eq!(ctl(socket, args).status.code(), Some(2), "{args:?}");
    }
    assert_eq!(ctl(socket, &["--help"]).status.code(), Some(0));
}
