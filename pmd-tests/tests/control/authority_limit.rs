//! More workers, networks and edges than there may be keys: workers share one, which costs them a
//! hand-over and no packet; where not even one is left, frames are dropped for that; and both are shown.

use std::time::{Duration, Instant};

use pmd_tests::asking::{drops, ping, show, stands};
use pmd_tests::bridge::wire;
use pmd_tests::daemon::Daemon;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{DIR, sh, wait_for};
use pmd_tests::overlay::{By, Ima, Tenant, declaration, edge, pki, plug_quiet};
use pmd_tests::stream::Stream;

/// Of the first network, two machines at `a`, behind a worker each.
const TENANTS: [Tenant; 5] = [
    Tenant::new("t1", "a", "red", 1),
    Tenant::new("t2", "a", "red", 2),
    Tenant::new("t3", "b", "red", 3),
    Tenant::new("t4", "a", "green", 4),
    Tenant::new("t5", "b", "green", 5),
];

/// A figure of `keys` in `show ima`.
fn keys(host: &str, what: &str) -> u64 {
    show(host, "ima")["keys"][what].as_u64().expect("a figure")
}

/// Workers that `show keys` lists as sharing, by network.
fn sharing(host: &str) -> Vec<String> {
    let keys = show(host, "keys");
    let keys = keys.as_array().expect("keys").iter();
    keys.filter(|key| {
        key["state"]
            .as_str()
            .is_some_and(|s| s.starts_with("shares worker"))
    })
    .map(|key| format!("{} {}", key["vn"].as_str().unwrap_or("?"), key["worker"]))
    .collect()
}

#[test]
fn beyond_the_limit_workers_share_keys_and_it_is_shown() {
    isolated_in_lab(|| {
        wire(&["a", "b"], &[("ima", "192.0.2.250")]);
        pki(&["nve a", "nve b"]);
        let ima = Ima::start("");
        let networks = [("red", ""), ("green", "")];
        Ima::declare(&declaration(&networks, &["a", "b"], &TENANTS));
        let limit = "  max-sas: 1";
        let mut text = edge("a", 1, 2, limit, (By::Switches, &TENANTS));
        for (n, worker) in [(1, 0), (2, 1), (4, 0)] {
            let port = format!("{{name: vm{n}, ");
            text = text.replace(&port, &format!("{port}worker: {worker}, "));
        }
        let a = Daemon::start("a", &text);
        let b = Daemon::start("b", &edge("b", 2, 1, "", (By::Switches, &TENANTS)));
        let _tenants = plug_quiet("tenants", By::Switches, &TENANTS, &TENANTS);
        for (host, vn, wanted) in [
            ("a", "red", &["vm1: admitted", "vm2: admitted"][..]),
            ("b", "red", &["vm3: admitted"]),
            ("a", "green", &["vm4: admitted"]),
            ("b", "green", &["vm5: admitted"]),
        ] {
            stands(host, vn, wanted);
        }
        // In this order, and nothing else is sent, so that it is known who comes too late.
        let own = Stream::start("t1", "t3", 3, 250);
        own.first_after(Instant::now(), 20);
        wait_for("its key is shown", 10, || {
            (keys("a", "outbound") == 1).then_some(())
        });
        assert_eq!(keys("a", "limit"), 1);
        assert_eq!((keys("a", "shared"), sharing("a")), (0, vec![]));

        // One worker more: it hands over to the one that has a key.
        let begin = Instant::now();
        let shared = Stream::start("t2", "t3", 3, 250);
        let first = shared.first_after(begin, 20);
        let took = first.saturating_duration_since(begin);
        assert!(took < Duration::from_secs(2), "no packet for {took:?}");
        wait_for("it is shown", 10, || {
            (keys("a", "shared") == 1).then_some(())
        });
        assert_eq!(sharing("a"), ["red 1"]);
        assert_eq!((keys("a", "outbound"), keys("a", "denied")), (1, 0));
        let since = Instant::now();
        std::thread::sleep(Duration::from_secs(2));
        shared.whole(since);
        own.whole(since);

        // A network more: there is not even one key for it, and that is counted and shown.
        let before = drops("a", "no-key");
        let (sent, answered) = ping("t4", 5, 5, "0.2");
        assert_eq!((sent, answered), (5, 0));
        wait_for("it is dropped and counted", 10, || {
            (drops("a", "no-key") > before && keys("a", "denied") > 0).then_some(())
        });
        let ctl = pmd_tests::daemon::binary("vswitchctl");
        let told = sh(&format!("{} --socket {DIR}/a.api show ima", ctl.display()));
        let line = told.lines().find(|line| line.starts_with("keys "));
        let line = line.unwrap_or_default();
        assert!(
            line.contains("1 to send") && line.contains("of 1 each, 1 workers share"),
            "{told}"
        );
        shared.whole(since);
        own.whole(since);
        drop((own, shared, ima));
        a.stop();
        b.stop();
    });
}
