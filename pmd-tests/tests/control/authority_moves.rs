//! A machine moves from one edge to the other, and its former edge cannot win it back; with an edge's
//! last port in a network go its keys, on both sides, and its mappings.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use pmd_tests::asking::{drops, network, ping, place, sealing, show, stands};
use pmd_tests::bridge::wire;
use pmd_tests::daemon::{Daemon, binary};
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{DIR, wait_for};
use pmd_tests::overlay::{By, Ima, Tenant, declaration, edge, pki, plug};
use serde_json::Value;

const HERE: Tenant = Tenant::new("t3a", "a", "red", 3);
const THERE: Tenant = Tenant::new("t3b", "b", "red", 3);
const T1: Tenant = Tenant::new("t1", "a", "red", 1);
const T2: Tenant = Tenant::new("t2", "b", "red", 2);

/// Has an edge run another configuration.
#[track_caller]
fn apply(host: &str, text: &str) {
    let file = format!("{DIR}/{host}-new.yaml");
    fs::write(&file, text).expect("configuration");
    let output = Command::new(binary("vswitchctl"))
        .args([
            "--socket",
            &format!("{DIR}/{host}.api"),
            "apply",
            &file,
            "--yes",
        ])
        .output()
        .expect("vswitchctl");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// What a move may take from the operator's command to the edge that only hears of it. Events pushed: here
/// it is tens of milliseconds, most of it commands that ask; who polled once a second would need more.
const AT_ONCE: Duration = Duration::from_millis(800);

/// Moves machine 3 by the operator's word alone: both edges have a port for it. How long it takes until
/// both have it at the new place.
#[track_caller]
fn moved(from: &str, to: &str) -> Duration {
    let since = Instant::now();
    Ima::ctl(&format!("placement move red 52:54:00:00:00:03 {to}"));
    wait_for("the new edge has it", 10, || {
        (place(to, "red", 3)? == "vm3").then_some(())
    });
    wait_for("the former edge follows", 10, || {
        (place(from, "red", 3)? == to).then_some(())
    });
    since.elapsed()
}

/// Where the other edge has machine 3, and how new that is.
fn generation(host: &str) -> Option<(String, u64)> {
    let mappings = show(host, "mappings");
    let mut mappings = mappings.as_array()?.iter();
    let of = mappings.find(|m| m["mac"] == "52:54:00:00:00:03")?;
    Some((of["peer"].as_str()?.to_owned(), of["generation"].as_u64()?))
}

fn config(name: &str, tenants: &[Tenant]) -> String {
    let n = if name == "a" { 1 } else { 2 };
    edge(name, n, 1, "", (By::Machines, tenants))
}

#[test]
fn a_machine_moves_for_good_and_with_the_last_port_go_keys_and_mappings() {
    isolated_in_lab(|| {
        wire(&["a", "b"], &[("ima", "192.0.2.250")]);
        pki(&["nve a", "nve b"]);
        let ima = Ima::start("");
        let declare = |mover| {
            let tenants = [T1, T2, mover];
            Ima::declare(&declaration(&[("red", "")], &["a", "b"], &tenants));
        };
        declare(HERE);
        let a = Daemon::start("a", &config("a", &[T1, HERE]));
        let b = Daemon::start("b", &config("b", &[T2]));
        let all = [T1, T2, HERE];
        let _tenants = plug("tenants", By::Machines, &all, &all);
        stands("a", "red", &["vm1: admitted", "vm3: admitted"]);
        stands("b", "red", &["vm2: admitted"]);
        wait_for("b knows the machine", 10, || {
            (place("b", "red", 3)? == "a").then_some(())
        });
        assert_eq!(ping("t2", 3, 3, "0.2"), (3, 3));
        let (_, before) = generation("b").expect("a mapping");

        // The port goes, the place changes, the port comes elsewhere.
        apply("a", &config("a", &[T1]));
        stands("a", "red", &["vm1: admitted"]);
        wait_for("it is nowhere", 10, || {
            place("b", "red", 3).is_none().then_some(())
        });
        declare(THERE);
        apply("b", &config("b", &[T2, THERE]));
        let _there = plug("there", By::Machines, &[THERE], &all);
        stands("b", "red", &["vm2: admitted", "vm3: admitted"]);
        wait_for("a follows", 10, || {
            (place("a", "red", 3)? == "b").then_some(())
        });
        let (peer, after) = generation("a").expect("a mapping");
        assert_eq!(peer, "b");
        assert!(after > before, "{before}, then {after}");
        assert_eq!(ping("t1", 3, 3, "0.2"), (3, 3));

        // Its former edge claims it again, and the machine there speaks up.
        apply("a", &config("a", &[T1, HERE]));
        let refused = "vm3: the address is not placed on this edge";
        stands("a", "red", &["vm1: admitted", refused]);
        let spoofed = drops("a", "spoofed-mac");
        wait_for("what it sends is dropped", 20, || {
            ping("t3a", 2, 1, "0.2");
            (drops("a", "spoofed-mac") > spoofed).then_some(())
        });
        assert_eq!(generation("a"), Some(("b".to_owned(), after)));
        assert_eq!(place("b", "red", 3).as_deref(), Some("vm3"));
        assert_eq!(ping("t1", 3, 3, "0.2"), (3, 3));
        assert_eq!(ping("t2", 3, 3, "0.2"), (3, 3));

        // Back and forth, with both ports there.
        let took: Vec<Duration> = [("b", "a"), ("a", "b"), ("b", "a"), ("a", "b")]
            .map(|(from, to)| moved(from, to))
            .to_vec();
        println!("moves took {took:?}");
        assert!(took.iter().all(|took| *took < AT_ONCE), "{took:?}");
        assert!(generation("a").is_some_and(|(peer, newer)| peer == "b" && newer > after));
        assert_eq!(ping("t1", 3, 3, "0.2"), (3, 3));

        // The last ports leave.
        assert!(!sealing("a", Some("b")).is_empty() && !sealing("b", Some("a")).is_empty());
        let without = config("a", &[T1]);
        let ports = without.find("vns:").expect("networks");
        apply("a", &format!("{}vns: []\nports: []\n", &without[..ports]));
        wait_for("no key of the network is left on either side", 5, || {
            let none = |host| show(host, "keys") == Value::Array(vec![]);
            let sealed = sealing("a", None).is_empty() && sealing("b", None).is_empty();
            (none("a") && none("b") && sealed).then_some(())
        });
        wait_for("a has left", 5, || {
            network(&show("a", "ima"), "red").is_none().then_some(())
        });
        wait_for("b knows nobody there", 5, || {
            place("b", "red", 1).is_none().then_some(())
        });
        let mapped = Ima::ctl("show mappings red");
        assert!(mapped.contains("52:54:00:00:00:02"), "{mapped}");
        assert!(!mapped.contains("52:54:00:00:00:01"), "{mapped}");
        assert_eq!(ping("t2", 1, 1, "0.2").1, 0);
        assert!(sealing("b", None).is_empty(), "no keys for nobody");

        // And back.
        apply("a", &without);
        stands("a", "red", &["vm1: admitted"]);
        wait_for("both talk again", 20, || {
            (ping("t2", 1, 1, "0.2").1 == 1).then_some(())
        });
        drop(ima);
        a.stop();
        b.stop();
    });
}
