//! A machine moves from one edge to the other, and its former edge cannot win it back; who claims another
//! edge's address is sent away, and nobody else notices; with an edge's last port in a network go its keys, on
//! both sides, and its mappings.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use pmd_tests::asking::{drops, network, ping, place, sealing, security, show, standing, stands};
use pmd_tests::bridge::wire;
use pmd_tests::claimant::says_it_is_at;
use pmd_tests::daemon::{Daemon, apply};
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::wait_for;
use pmd_tests::overlay::{By, Ima, Tenant, declaration, edge, pki, plug};
use pmd_tests::stream::Stream;
use serde_json::Value;
use vswitch_control::message::ima::Goodbye;

const HERE: Tenant = Tenant::new("t3a", "a", "red", 3);
const THERE: Tenant = Tenant::new("t3b", "b", "red", 3);
const T1: Tenant = Tenant::new("t1", "a", "red", 1);
const T2: Tenant = Tenant::new("t2", "b", "red", 2);

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

/// Edge `c`, a member with credentials of its own, is sent away: it is told why, and so is the operator. The
/// others forward meanwhile, and follow what changes.
#[track_caller]
fn claims_in_vain() {
    let streams = [
        Stream::start("t1", "t2", 2, 100),
        Stream::start("t2", "t1", 1, 100),
    ];
    let since = Instant::now();
    for stream in &streams {
        stream.first_after(since, 5);
    }
    let refused = Ima::count("claims-refused");
    // A switch: both its own address and one of `b`'s.
    let places = "underlay:\n  local: [192.0.2.3, 192.0.2.2]\n";
    let machine = Tenant::new("t5", "c", "red", 5);
    let config = edge("c", 3, 1, "", (By::Switches, &[machine]));
    let c = Daemon::start("c", &config.replace("underlay:\n", places));
    let taken = "a tunnel address belongs to another edge";
    wait_for("c is told why", 10, || {
        let ima = show("c", "ima");
        assert_ne!(ima["state"], "connected");
        security("c").contains(taken).then_some(())
    });
    assert_eq!(standing("c", "red"), ["vm5: waiting"]);
    // Words alone: that of another and nothing else, and one of its own twice.
    let own: IpAddr = [192, 0, 2, 3].into();
    let others: IpAddr = [192, 0, 2, 2].into();
    for (addresses, why) in [
        (vec![others], Goodbye::AddressTaken),
        (vec![own, own], Goodbye::Protocol),
    ] {
        assert_eq!(says_it_is_at("ima", "c", &addresses), Some(why));
    }
    wait_for("the operator sees it", 5, || {
        let log = Ima::log();
        let said = |what: &str, why: &str| {
            let mut lines = log.lines();
            lines.any(|l| l.contains(what) && l.contains("nve/c") && l.contains(why))
        };
        let refused = Ima::count("claims-refused") >= refused + 2;
        (refused && said("session closed", "the protocol was not kept")).then_some(())
    });
    let log = Ima::log();
    let line = log.lines().find(|line| line.contains("claim refused"));
    assert!(line.is_some_and(|line| line.contains(taken)), "{log}");
    let addresses = Ima::ctl("show addresses");
    assert!(!addresses.contains("192.0.2.3"), "{addresses}");
    // Changes.
    moved("b", "a");
    moved("a", "b");
    c.kill();
    for stream in streams {
        stream.whole(since);
    }
}

#[test]
fn a_machine_moves_for_good_and_with_the_last_port_go_keys_and_mappings() {
    isolated_in_lab(|| {
        wire(&["a", "b", "c"], &[("ima", "192.0.2.250")]);
        pki(&["nve a", "nve b", "nve c"]);
        let ima = Ima::start("");
        let declare = |mover| {
            let tenants = [T1, T2, mover];
            Ima::declare(&declaration(&[("red", "")], &["a", "b", "c"], &tenants));
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

        // Somebody says that it is where another edge is, or that it is twice at one place.
        claims_in_vain();

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
