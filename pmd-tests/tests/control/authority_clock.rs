//! Wall clocks that are wrong, and certificates: steps of a process's clock cost no packet and no key,
//! certificates count by the clock of whoever judges them, and who is refused is told why.

use std::time::{Duration, Instant};

use pmd_tests::asking::{all_admitted, rekeyed_since, sealing, show};
use pmd_tests::bridge::wire;
use pmd_tests::clock::WallClock;
use pmd_tests::daemon::Daemon;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::wait_for;
use pmd_tests::overlay::{By, Ima, PAIR, declaration, edge, pki, plug};
use pmd_tests::stream::Stream;

const HOUR: i64 = 3600;
/// Certificates of the laboratory's CA are valid for 30 days, and from five minutes before.
const MONTH: i64 = 31 * 24 * HOUR;

fn told(host: &str, field: &str) -> String {
    show(host, "ima")[field].as_str().unwrap_or("").to_owned()
}

#[track_caller]
fn connected(host: &str) {
    wait_for(&format!("{host} is connected"), 30, || {
        (told(host, "state") == "connected").then_some(())
    });
}

/// Waits until it has no session with the authority, for this reason.
#[track_caller]
fn trouble(host: &str, why: &str) {
    wait_for(&format!("{host} is away: {why}"), 30, || {
        let away = told(host, "state") == "away" && told(host, "trouble").contains(why);
        away.then_some(())
    });
}

/// Every key is replaced.
#[track_caller]
fn rekeyed() {
    let before = [sealing("a", None), sealing("b", None)];
    for (host, before) in ["a", "b"].iter().zip(before) {
        rekeyed_since(host, None, &before);
    }
}

#[test]
fn steps_of_the_wall_clock_cost_nothing_but_what_certificates_say() {
    isolated_in_lab(|| {
        wire(&["a", "b"], &[("ima", "192.0.2.250")]);
        pki(&["nve a", "nve b"]);
        let clocks = ["ima", "a", "b"].map(WallClock::new);
        let [of_ima, of_a, of_b] = &clocks;
        let ima = Ima::start_with("", &of_ima.environment());
        Ima::declare(&declaration(&[("red", "")], &["a", "b"], &PAIR));
        // By use, every second or so.
        let rekey = "  rekey-blocks: 6000";
        let start = |name: &str, n, clock: &WallClock| {
            let text = edge(name, n, 1, rekey, (By::Switches, &PAIR));
            Daemon::start_with(name, &text, &clock.environment())
        };
        let a = start("a", 1, of_a);
        let b = start("b", 2, of_b);
        let _tenants = plug("tenants", By::Switches, &PAIR, &PAIR);
        all_admitted(&PAIR);
        let streams = [
            Stream::start("t1", "t2", 2, 250),
            Stream::start("t2", "t1", 1, 250),
        ];
        let began = Instant::now();
        for stream in &streams {
            stream.first_after(began, 20);
        }
        let since = Instant::now();
        rekeyed();

        // Within what certificates allow: nothing happens, though the three disagree by hours.
        let lease = show("a", "ima")["lease_left"].as_u64().expect("a lease");
        of_a.set(24 * HOUR);
        of_b.set(-HOUR);
        of_ima.set(2 * HOUR);
        // Longer than the clocks' files take to be seen, and sessions to be looked through.
        let stepped = Instant::now();
        while stepped.elapsed() < Duration::from_secs(3) {
            rekeyed();
        }
        for host in ["a", "b"] {
            assert_eq!(told(host, "state"), "connected");
        }
        let left = show("a", "ima")["lease_left"].as_u64().expect("a lease");
        assert!(
            left <= lease.max(3600) && left + 120 > lease,
            "{lease}, then {left}"
        );

        // Beyond: `a` ends its sessions, for everybody else's certificate has expired.
        of_a.set(MONTH);
        trouble("a", "expired");
        // Long before they were made.
        of_a.set(-HOUR);
        trouble("a", "is the clock right?");
        // The others go on, and so do the keys that there are.
        assert_eq!(told("b", "state"), "connected");
        of_a.set(0);
        of_b.set(0);
        of_ima.set(0);
        connected("a");
        rekeyed();

        for stream in &streams {
            stream.whole(since);
        }
        drop((streams, ima));
        a.stop();
        b.stop();
    });
}
