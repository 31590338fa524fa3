//! Whoever blocks the authority cannot keep a revoked edge alive for longer than the lease: under
//! `stop` a network ends with it, under `keep` it goes on with an alarm, until the authority is heard.

use std::time::{Duration, Instant};

use pmd_tests::asking::{all_admitted, drops, network, place, security, show, stands};
use pmd_tests::bridge::{Cut, UNDER_WAY, part, wire};
use pmd_tests::daemon::Daemon;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::wait_for;
use pmd_tests::overlay::{By, Ima, TWO_PAIRS, declaration, edge, pki, plug};
use pmd_tests::stream::Stream;

/// The shortest there is.
const LEASE: u64 = 10;
/// A busy machine may be late by so much.
const LATE: Duration = Duration::from_secs(2);

fn lease_left(host: &str) -> u64 {
    show(host, "ima")["lease_left"].as_u64().unwrap_or(0)
}

fn state(host: &str, vn: &str) -> String {
    let ima = show(host, "ima");
    let state = network(&ima, vn).and_then(|vn| vn["state"].as_str());
    state.unwrap_or("none").to_owned()
}

/// Keys of a network.
fn keys(host: &str, vn: &str) -> usize {
    let keys = show(host, "keys");
    let keys = keys.as_array().expect("keys").iter();
    keys.filter(|key| key["vn"] == vn).count()
}

#[test]
fn a_revoked_edge_outlives_a_blocked_authority_by_the_lease_at_most() {
    isolated_in_lab(|| {
        wire(&["a", "b"], &[("ima", "192.0.2.250")]);
        pki(&["nve a", "nve b"]);
        let ima = Ima::start(&format!("lease: {LEASE}\n"));
        let networks = [("red", "lease-end: stop"), ("blue", "lease-end: keep")];
        Ima::declare(&declaration(&networks, &["a", "b"], &TWO_PAIRS));
        let rekey = "  rekey: 5";
        let a = Daemon::start("a", &edge("a", 1, 1, rekey, (By::Switches, &TWO_PAIRS)));
        let b = Daemon::start("b", &edge("b", 2, 1, rekey, (By::Switches, &TWO_PAIRS)));
        let _tenants = plug("tenants", By::Switches, &TWO_PAIRS, &TWO_PAIRS);
        all_admitted(&TWO_PAIRS);
        let red = [
            Stream::start("t1", "t2", 2, 100),
            Stream::start("t2", "t1", 1, 100),
        ];
        let blue = [
            Stream::start("t3", "t4", 4, 100),
            Stream::start("t4", "t3", 3, 100),
        ];
        let began = Instant::now();
        for stream in red.iter().chain(&blue) {
            stream.first_after(began, 20);
        }

        // Edge `a` hears the authority no more; `b`, whose lease is younger by then, does not hear
        // that it is revoked.
        let from_a = part("a", "ima");
        let parted = Instant::now();
        wait_for("the lease of `a` is the older one", 10, || {
            (lease_left("a") + 3 <= lease_left("b")).then_some(())
        });
        let _from_b = part("b", "ima");
        Ima::ctl("revoke b --reason stolen");
        let revoked = Instant::now();
        for stream in red.iter().chain(&blue) {
            stream.first_after(revoked, 5);
        }

        // Until the lease ends, and no longer.
        wait_for("`a` leaves", LEASE + 5, || {
            let state = state("a", "red");
            (!state.starts_with("joined")).then_some(())
        });
        let left = Instant::now();
        assert!(left - parted < Duration::from_secs(LEASE) + LATE);
        assert!(left - revoked > Duration::from_secs(1));
        // Of `b` it is not that this is known: it is a member yet, and has not heard a word.
        assert!(state("b", "red").starts_with("joined") && lease_left("b") > 0);
        wait_for("nothing of red is left", 5, || {
            (keys("a", "red") == 0 && place("a", "red", 2).is_none()).then_some(())
        });
        let gone = Instant::now();
        // `b` is told that the keys are gone, so that what it sends may have ended before.
        wait_for("what is still sent is dropped and counted", 5, || {
            (drops("a", "no-vn") > 0).then_some(())
        });
        assert!(
            security("a").contains("\"vn-stopped\""),
            "{}",
            security("a")
        );

        // The other goes on, and that is told.
        for stream in &blue {
            stream.first_after(gone, 5);
        }
        assert!(security("a").contains("\"vn-kept\""), "{}", security("a"));
        for stream in &red {
            assert!(!stream.any_after(gone));
            assert!(stream.last().is_some_and(|last| last > revoked));
        }

        // Heard again: `b` is cut at once, though it does not know it yet.
        from_a.into_iter().for_each(Cut::mend);
        wait_for("nothing of `b` is left", 5, || {
            (keys("a", "blue") == 0 && place("a", "blue", 4).is_none()).then_some(())
        });
        let gone = Instant::now();
        std::thread::sleep(UNDER_WAY);
        for stream in blue.iter().chain(&red) {
            assert!(!stream.any_after(gone));
        }
        stands("a", "red", &["vm1: admitted"]);
        drop((red, blue, ima));
        a.stop();
        b.stop();
    });
}
