//! The daemon as its operator changes it: `vswitchctl diff`, `apply`, `rollback`, `reload` and
//! SIGHUP, while a tenant stays connected.

use std::fs;
use std::process::{Command, Output};

use pmd_tests::daemon::{Daemon, binary};
use pmd_tests::hosts::Host;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{DIR, sh};
use pmd_tests::live::edited;
use pmd_tests::testpmd::{BURST, Testpmd};
use vswitch::manage::status::Status;

fn ctl(args: &[&str]) -> Output {
    Command::new(binary("vswitchctl"))
        .args(["--socket", &format!("{DIR}/a.api")])
        .args(args)
        .output()
        .expect("vswitchctl")
}

/// What it prints; it must succeed.
#[track_caller]
fn said(args: &[&str]) -> String {
    let output = ctl(args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// What it prints when it must fail.
#[track_caller]
fn refused(args: &[&str]) -> String {
    let output = ctl(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn port<'a>(status: &'a Status, name: &str) -> Option<&'a vswitch::manage::status::Port> {
    status.ports.iter().find(|p| p.name == name)
}

fn up(status: &Status) -> bool {
    port(status, "a-blue").is_some_and(|p| p.state == "up" && p.queues == 1)
}

fn sent(status: &Status, vn: &str) -> u64 {
    let tunnels = status.tunnels.iter();
    tunnels
        .filter(|t| t.vn == vn)
        .map(|t| t.traffic.tx_packets)
        .sum()
}

#[test]
fn the_operator_changes_a_switch_whose_tenant_stays() {
    isolated_in_lab(|| {
        let mut host = Host::new(1, "net_ring0");
        host.bind_ips = false;
        let text = host.yaml();
        let a = Daemon::start("a", &text);
        let startup = format!("{DIR}/a.yaml");
        let mut testpmd = Testpmd::tenants(&[host.socket("blue")], true, 1);
        a.wait("the tenant", up);
        let n = testpmd.exchange(&[0], 2)[0].tx;
        assert_eq!(n, 2 * BURST);
        a.wait("sent as blue", |s| sent(s, "blue") == n);

        // Nothing is different, then something is.
        let same = said(&["diff"]);
        assert_eq!(
            same,
            format!("No difference between revision 1, which runs, and {startup}.\n")
        );
        // The tenant's port goes to the other network, whose own port goes.
        let red = text.find("  - name: a-red").expect("a port");
        let end = text.find("security-associations:").expect("SAs");
        let without = text[..red].to_owned() + &text[end..];
        let moved = edited(
            &without,
            &[(
                "  - name: a-blue\n    vn: blue",
                "  - name: a-blue\n    vn: red",
            )],
        );
        let file = format!("{DIR}/moved.yaml");
        fs::write(&file, &moved).expect("a file");
        let diff = said(&["diff", &file]);
        let shown = format!(
            "--- revision 1, which runs\n+++ {file}\n~ port a-blue\n    vn: blue -> red\n- port \
             a-red\n    vn: red\n    socket: {DIR}/a-red.sock\n"
        );
        assert!(diff.starts_with(&shown), "{diff}");
        assert!(refused(&["apply", &file]).contains("say --yes"));
        let dry = said(&["apply", &file, "--dry-run"]);
        assert!(
            dry.ends_with("It could be applied. Revision 1 still runs.\n"),
            "{dry}"
        );
        let applied = said(&["apply", &file, "--yes"]);
        assert_eq!(
            applied,
            diff + "Applied: revision 2 runs. `vswitchctl rollback` goes back to revision 1.\n"
        );
        // It never disconnected, and what it sends is red's now.
        let before = a.wait("the queues again", up);
        let blue = sent(&before, "blue");
        let n = testpmd.exchange(&[0], 2)[0].tx;
        let now = a.wait("sent as red", |s| sent(s, "red") == n);
        assert_eq!(sent(&now, "blue"), blue);
        assert!(port(&now, "a-red").is_none());
        assert_eq!(
            a.log().matches("tenant connected").count(),
            1,
            "{}",
            a.log()
        );
        assert!(!a.log().contains("tenant disconnected"));

        // The file of the start differs from what runs; the way back.
        assert!(said(&["diff"]).contains("    vn: red -> blue\n"));
        let back = said(&["rollback", "--yes"]);
        assert!(
            back.ends_with("runs. `vswitchctl rollback` goes back to revision 2.\n"),
            "{back}"
        );
        let before = a.wait("the queues again", up);
        let n = testpmd.exchange(&[0], 2)[0].tx;
        a.wait("sent as blue", |s| {
            sent(s, "blue") == sent(&before, "blue") + n
        });
        a.wait("red's port", |s| port(s, "a-red").is_some());

        // SIGHUP applies the file, and a wrong one changes nothing.
        let rated = edited(
            &text,
            &[(
                "  - name: a-blue\n    vn: blue\n",
                "  - name: a-blue\n    vn: blue\n    bum-rate: 77\n",
            )],
        );
        fs::write(&startup, &rated).expect("the file");
        let pid = a.pid();
        sh(&format!("kill -HUP {pid}"));
        pmd_tests::lab::wait_for("SIGHUP", 20, || {
            a.log().contains("the file was applied").then_some(())
        });
        assert!(said(&["diff"]).starts_with("No difference between revision 4"));
        fs::write(&startup, rated.replace("bum-rate: 77", "bum-rat: 77")).expect("the file");
        sh(&format!("kill -HUP {pid}"));
        pmd_tests::lab::wait_for("the refusal", 20, || {
            a.log()
                .contains("SIGHUP: nothing was changed")
                .then_some(())
        });
        let wrong = refused(&["reload"]);
        assert!(
            wrong.contains("bum-rate") && wrong.contains("a.yaml:"),
            "{wrong}"
        );
        fs::write(&startup, rated.replace("memory-mb: 256", "memory-mb: 300")).expect("the file");
        let restart = refused(&["reload"]);
        assert!(
            restart.contains("~ eal\n    memory-mb: 256 -> 300\n    ! needs a restart: "),
            "{restart}"
        );
        fs::write(&startup, &text).expect("the file");
        let reloaded = said(&["reload"]);
        assert!(
            reloaded.contains("    bum-rate: 77 -> 1000\n"),
            "{reloaded}"
        );

        let list = said(&["revisions"]);
        let by: Vec<&str> = list
            .lines()
            .skip(1)
            .filter_map(|line| line.split("Z  ").nth(1)?.split("  ").next())
            .collect();
        assert_eq!(
            by,
            ["start", "apply", "rollback to 1", "SIGHUP", "reload"],
            "{list}"
        );
        assert!(list.contains("5 *  "), "{list}");
        let output = sh(&format!(
            "curl -sS --unix-socket {DIR}/a.api http://localhost/v1/config | head -c 200"
        ));
        assert!(output.contains("\"how\":\"reload\""), "{output}");
        // Only root and the daemon's user may change; others of the group may look.
        sh(&format!("chmod 0666 {DIR}/a.api && chmod 0755 {DIR}"));
        let as_nobody = sh(&format!(
            "setpriv --reuid=65534 --clear-groups curl -sS --unix-socket {DIR}/a.api -w '%{{http_code}}' \
             -H 'Content-Type: application/json' -d '{{\"wanted\": {{\"source\": \"startup\"}}}}' \
             http://localhost/v1/config/apply"
        ));
        assert!(as_nobody.ends_with("403"), "{as_nobody}");
        let looks = sh(&format!(
            "setpriv --reuid=65534 --clear-groups curl -sS --unix-socket {DIR}/a.api \
             http://localhost/v1/config/revisions | head -c 20"
        ));
        assert!(looks.starts_with("[{\"number\":1,"), "{looks}");

        // A restart takes the file; the history stays.
        a.wait("the tenant still", up);
        assert_eq!(a.log().matches("tenant connected").count(), 1);
        testpmd.quit();
        a.stop();
        let a = Daemon::restart("a");
        assert_eq!(said(&["revisions"]).lines().count(), list.lines().count());
        let back = said(&["rollback", "4", "--yes"]);
        assert!(back.contains("    bum-rate: 1000 -> 77\n"), "{back}");
        a.stop();
    });
}
