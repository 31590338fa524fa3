//! Starts that fail, and say why and what to type.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;

use serde_json::Value;
use vswitch::manage::doctor::start::{claim_prefix, prefix_lock};

use super::*;

/// The daemon does not start, and says all of this.
#[track_caller]
fn refused(mut command: Command, says: &[&str]) {
    let output = command.output().expect("vswitchd");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    for part in says {
        assert!(log.contains(part), "no {part:?} in:\n{log}");
    }
}

/// `timeout` ends what starts although it should not.
fn daemon(file: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["20", VSWITCHD, "--config", file]);
    command
}

#[test]
fn hugepages_that_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    // More than any machine of today.
    let many = (
        "memory: no-huge, memory-mb: 96",
        "memory: hugepages, memory-mb: 1000000",
    );
    let file = configuration(dir.path(), &[many]);
    refused(daemon(&file), &["hugepages", "nr_hugepages"]);
}

#[test]
fn an_interface_or_a_card_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = configuration(dir.path(), &[("net_null0", "net_af_packet0,iface=nosuch0")]);
    let says = [
        "port up0: no interface nosuch0",
        "ip -br link",
        "vswitchctl doctor --config",
    ];
    refused(daemon(&file), &says);
    let file = configuration(dir.path(), &[("net_null0", "0000:ff:1f.7")]);
    let says = [
        "no PCI device 0000:ff:1f.7",
        "dpdk-devbind.py --status-dev net",
    ];
    refused(daemon(&file), &says);
}

#[test]
fn a_memory_lock_limit_for_a_card() {
    let dir = tempfile::tempdir().unwrap();
    let file = configuration(dir.path(), &[("net_null0", "0000:ff:1f.7")]);
    let mut command = Command::new("prlimit");
    command.args([
        "--memlock=65536:65536",
        "setpriv",
        "--bounding-set=-ipc_lock",
    ]);
    command.args([VSWITCHD, "--config", &file]);
    let says = [
        "lacks CAP_IPC_LOCK",
        "64 kB may be locked, 98304 kB are needed",
        "ulimit -l unlimited",
    ];
    refused(command, &says);
}

#[test]
fn sockets_of_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = configuration(dir.path(), &[]);
    let us = format!("process {}", std::process::id());
    for (name, of) in [("vm.sock", "port vm-1"), ("api.sock", "the API")] {
        let path = dir.path().join(name);
        let _listens = UnixListener::bind(&path).unwrap();
        refused(daemon(&file), &["is in use by", &us, of, name]);
        fs::remove_file(path).unwrap();
    }
    fs::write(dir.path().join("vm.sock"), "precious").unwrap();
    refused(daemon(&file), &["is a file or a directory", "ls -ld"]);
}

#[test]
fn a_file_prefix_of_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = configuration(dir.path(), &[]);
    let prefix = dir
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .replace('.', "");
    let held = claim_prefix(&prefix).unwrap();
    assert!(held.is_some(), "/run/lock can be written");
    let us = format!("(process {})", std::process::id());
    refused(
        daemon(&file),
        &[&prefix, "is in use by", &us, "file-prefix"],
    );
    assert!(claim_prefix(&prefix).is_err_and(|finding| finding.line().contains("fuser")));
    drop(held);
    assert!(claim_prefix(&prefix).is_ok());
    let _gone = fs::remove_file(prefix_lock(&prefix));
}

#[test]
fn privileges_that_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    // The program is copied to where nobody may go.
    let program = dir.path().join("vswitchd");
    fs::copy(VSWITCHD, &program).unwrap();
    for path in [dir.path(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let file = configuration(dir.path(), &[("net_null0", "net_af_packet0,iface=lo")]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = Command::new(program);
    command.args(["--config", &file]).uid(65534).gid(65534);
    let says = [
        "user 65534 lacks CAP_NET_ADMIN",
        "CAP_NET_RAW (packet sockets)",
        "as root",
    ];
    refused(command, &says);
}

#[test]
fn errors_of_dpdk_in_words() {
    let dir = tempfile::tempdir().unwrap();
    // The kernel's `lo` is no tap.
    let file = configuration(dir.path(), &[("net_null0", "net_tap0,iface=lo")]);
    refused(
        daemon(&file),
        &["the name of the tap is taken", "ip -d link show"],
    );
    let wide = [("mtu: 1500", "mtu: 4000")];
    let file = configuration(dir.path(), &wide);
    let says = [
        "MTU 4000 need buffers of 4018 bytes, they have 2048",
        "`mempool.data-room` to 4018",
    ];
    refused(daemon(&file), &says);
    let prefix = dir
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .replace('.', "");
    let _gone = fs::remove_file(prefix_lock(&prefix));
}

#[test]
fn the_doctor_on_this_very_host() {
    let dir = tempfile::tempdir().unwrap();
    let file = configuration(dir.path(), &[]);
    let output = run(VSWITCHCTL, &["doctor", "--config", &file, "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("a list");
    let mut checks: Vec<&str> = findings
        .iter()
        .filter_map(|f| f["check"].as_str())
        .collect();
    checks.dedup();
    for check in [
        "config",
        "privileges",
        "dpdk",
        "cpu",
        "hugepages",
        "cores",
        "sockets",
        "state-dir",
    ] {
        assert!(checks.contains(&check), "{check}: {checks:?}");
    }
    for finding in findings {
        let bad = finding["level"] != "ok";
        let told = !finding["why"].as_str().expect("text").is_empty();
        let mended = !finding["mend"].as_array().expect("a list").is_empty();
        assert!(!bad || (told && mended), "{finding}");
    }
    let failed = report["verdict"] == "fail";
    assert_eq!(output.status.code(), Some(i32::from(failed)));
    let text = run(VSWITCHCTL, &["doctor", "--config", &file]);
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(
        text.lines().any(|line| line.starts_with("ok    sockets")),
        "{text}"
    );
    // A mistake in the file is a finding like others.
    let file = configuration(dir.path(), &[("vni: 1001", "vni: 16777216")]);
    let output = run(VSWITCHCTL, &["doctor", "--config", &file]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("$ vswitchd check --config"), "{text}");
}
