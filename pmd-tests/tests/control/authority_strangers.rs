//! Who comes with a certificate that is not for what he does, that has expired, or that is of another
//! trust domain, gets no session from real processes, and both ends' logs say what to look at.

use std::process::Command;

use pmd_tests::asking::{show, stands};
use pmd_tests::bridge::wire;
use pmd_tests::clock::WallClock;
use pmd_tests::daemon::{Daemon, binary};
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{DIR, sh, wait_for};
use pmd_tests::overlay::{AUTHORITY, By, Ima, PAIR, declaration, edge};

const DAY: i64 = 24 * 3600;

/// Edge `a` gets no session with the authority for this reason, has joined nothing, and logs it.
#[track_caller]
fn refused(a: Daemon, why: &str) {
    wait_for(why, 20, || {
        let ima = show("a", "ima");
        assert_eq!(ima["state"], "away");
        ima["trouble"].as_str()?.contains(why).then_some(())
    });
    assert_eq!(show("a", "ima")["vns"][0]["state"], "waiting");
    let log = a.log();
    let line = log.lines().rev().find(|line| line.contains(why));
    assert!(
        line.is_some_and(|line| line.contains("no session with the authority")),
        "{log}"
    );
    a.kill();
}

/// A command fails and says this.
#[track_caller]
fn fails(command: &mut Command, why: &str) {
    let output = command.output().expect("a command");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(why), "{said}");
}

#[track_caller]
fn authority_says(why: &str) {
    wait_for(&format!("the authority says {why}"), 5, || {
        let log = Ima::log();
        let mut lines = log.lines();
        lines
            .any(|l| l.contains("no session") && l.contains(why))
            .then_some(())
    });
}

#[test]
fn wrong_roles_expired_certificates_and_other_domains_are_refused_with_a_reason() {
    isolated_in_lab(|| {
        wire(&["a", "b"], &[("ima", "192.0.2.250")]);
        // Everything was issued forty days ago: what is not renewed has expired.
        let clock = WallClock::new("a");
        clock.set(-40 * DAY);
        let ctl = binary("vswitchctl");
        let long_ago = |who: &str, valid: &str| {
            let issue = format!("pki issue {DIR}/pki {who} --valid {valid}");
            let made = Command::new(&ctl)
                .args(issue.split(' '))
                .envs(clock.environment())
                .status();
            assert!(made.expect("vswitchctl").success(), "{who}");
        };
        let init = format!("pki init {DIR}/pki --domain lab.test");
        let made = Command::new(&ctl)
            .args(init.split(' '))
            .envs(clock.environment())
            .status();
        assert!(made.expect("vswitchctl").success());
        for who in ["nve b", "ima one", "operator op"] {
            long_ago(who, "365days");
        }
        long_ago("nve a", "30days");
        let ctl = ctl.display();
        sh(&format!(
            "{ctl} pki init {DIR}/elsewhere --domain other.test
                 {ctl} pki issue {DIR}/elsewhere nve a
                 {ctl} pki init {DIR}/namesake --domain lab.test
                 {ctl} pki issue {DIR}/namesake nve a
                 {ctl} pki issue {DIR}/pki operator a"
        ));
        let ima = Ima::start("");
        Ima::declare(&declaration(&[("red", "")], &["a", "b"], &PAIR));
        let b = Daemon::start("b", &edge("b", 2, 1, "", (By::Machines, &PAIR)));
        stands("b", "red", &["vm2: admitted"]);

        // Its own certificate has expired: it does not begin, whatever the reason.
        let a = edge("a", 1, 1, "", (By::Machines, &PAIR));
        let vswitchd = |text: &str| {
            std::fs::write(format!("{DIR}/a.yaml"), text).expect("configuration");
            let mut command = Command::new("ip");
            command.args(["netns", "exec", "a"]).arg(binary("vswitchd"));
            command.args(["--config", &format!("{DIR}/a.yaml")]);
            command
        };
        fails(&mut vswitchd(&a), "expired on");
        // One whose clock is wrong too: the authority sees it.
        clock.set(-35 * DAY);
        let late = Daemon::start_with("a", &a, &clock.environment());
        refused(late, "our certificate has expired");
        authority_says("expired on");

        // An operator's certificate makes no edge.
        fails(
            &mut vswitchd(&a.replace("pki/nve/a/", "pki/operator/a/")),
            "needs one of role nve",
        );
        // An edge's makes no operator.
        let mut operator = Command::new("ip");
        operator
            .args(["netns", "exec", "b"])
            .arg(binary("vswitch-ima"));
        operator.args(["ctl", "--server", AUTHORITY, "show", "vns"]);
        operator.args(["--credentials", &format!("{DIR}/pki/nve/b")]);
        fails(&mut operator, "operator");
        // Nor an authority: `b` is no such, though it is asked as one.
        sh(&format!("{ctl} pki issue {DIR}/pki nve a"));
        let misled = a.replace(AUTHORITY, "192.0.2.2:4600");
        refused(
            Daemon::start("a", &misled),
            "the peer is spiffe://lab.test/nve/b, not role ima",
        );

        // Of another domain, and of another CA that calls itself the same.
        let other = a.replace("pki/nve/a/", "elsewhere/nve/a/");
        refused(Daemon::start("a", &other), "another trust domain");
        let namesake = a.replace("pki/nve/a/", "namesake/nve/a/");
        refused(Daemon::start("a", &namesake), "not trusted");

        // With the right one it is let in.
        let a = Daemon::start("a", &a);
        stands("a", "red", &["vm1: admitted"]);
        drop(ima);
        a.stop();
        b.stop();
    });
}
