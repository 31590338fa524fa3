//! Nobody types keys: two edges, a mapping authority behind one of them, and tenants who notice
//! nothing of it. Real processes on one cable; the control plane uses the cable too.

use std::time::{Duration, Instant};

use pmd_tests::asking::{ping, place, sealing, security, show, stands};
use pmd_tests::daemon::Daemon;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{cable, sh, two_hosts, wait_for};
use pmd_tests::overlay::{By, Ima, Tenant, authority_at, declaration, edge, pki, taps};
use pmd_tests::testpmd::Testpmd;
use serde_json::Value;

/// The third is one machine that may be at either host; both have a place for it.
const TENANTS: [Tenant; 4] = [
    Tenant::new("t1", "a", "red", 1),
    Tenant::new("t2", "b", "red", 2),
    Tenant::new("t3b", "b", "red", 3),
    Tenant::new("t3a", "a", "red", 3),
];

/// Plugs all of them in; the switches run already. Nobody says anything unasked.
fn tenants() -> Testpmd {
    let mut testpmd = taps("tenants", By::Machines, &TENANTS);
    for Tenant { name, n, .. } in &TENANTS {
        sh(&format!(
            "ip netns exec {name} sysctl -qw net.ipv6.conf.all.disable_ipv6=1
             ip -n {name} link set eth0 up
             ip -n {name} addr add 10.0.0.{n}/24 dev eth0"
        ));
    }
    testpmd.command("start");
    testpmd
}

/// Machine 3 belongs on this host.
fn declare(place_of_3: &str) {
    let placed: Vec<Tenant> = TENANTS
        .into_iter()
        .filter(|tenant| tenant.n != 3 || tenant.host == place_of_3)
        .collect();
    Ima::declare(&declaration(&[("red", "")], &["a", "b"], &placed));
}

/// Packets that a host dropped, whatever the reason.
fn dropped(host: &str) -> u64 {
    let drops = show(host, "drops");
    let drops = drops.as_array().expect("drops").iter();
    drops.filter_map(|drop| drop["packets"].as_u64()).sum()
}

#[test]
fn two_edges_and_an_authority_without_a_key_in_any_file() {
    isolated_in_lab(|| {
        two_hosts();
        cable(0);
        pki(&["nve a", "nve b"]);
        // Host `b` reaches it by the switch's exception port.
        authority_at("a", "192.0.2.1:4700");
        let start = |name: &str, n| {
            let text = edge(name, n, 2, "  rekey: 5", (By::Machines, &TENANTS));
            Daemon::start(name, &text)
        };
        let a = start("a", 1);
        let ima = Ima::start("lease: 40\n");
        let b = start("b", 2);
        let _tenants = tenants();
        declare("b");
        stands(
            "a",
            "red",
            &[
                "vm1: admitted",
                "vm3: the address is not placed on this edge",
            ],
        );
        stands("b", "red", &["vm2: admitted", "vm3: admitted"]);
        wait_for("both know where the others are", 10, || {
            let known = place("a", "red", 2)? == "b" && place("a", "red", 3)? == "b";
            (known && place("b", "red", 1)? == "a").then_some(())
        });

        // No keys until somebody needs them; the first packet waits for them and is not lost.
        assert_eq!(show("a", "keys"), Value::Array(vec![]));
        assert_eq!(ping("t1", 2, 3, "0.2"), (3, 3));
        assert!(!sealing("a", None).is_empty() && !sealing("b", None).is_empty());
        assert!(show("a", "keys").as_array().is_some_and(|k| k.len() >= 2));

        // Rekeyed under traffic, without a loss.
        let before = (sealing("a", None), sealing("b", None));
        assert_eq!(ping("t1", 2, 1500, "0.008"), (1500, 1500));
        let after = (sealing("a", None), sealing("b", None));
        let renewed = |old: &[u64], new: &[u64]| new.iter().all(|spi| !old.contains(spi));
        assert!(renewed(&before.0, &after.0) && renewed(&before.1, &after.1));

        // A machine moves with its placement, and stays there.
        assert_eq!(ping("t1", 3, 2, "0.2"), (2, 2));
        declare("a");
        stands("a", "red", &["vm1: admitted", "vm3: admitted"]);
        wait_for("b follows", 5, || {
            (place("b", "red", 3)? == "a").then_some(())
        });
        assert_eq!(place("a", "red", 3).as_deref(), Some("vm3"));
        sh("ip -n t3b link set eth0 down");
        assert_eq!(ping("t2", 3, 5, "0.2"), (5, 5));
        assert_eq!(place("b", "red", 3).as_deref(), Some("a"));

        // The authority is away: traffic and rekeying go on.
        ima.kill();
        let before = sealing("a", None);
        assert_eq!(ping("t1", 2, 1000, "0.008"), (1000, 1000));
        assert!(renewed(&before, &sealing("a", None)));
        let ima = Ima::again();
        // The lease is as long as at the beginning again, which it is only after that.
        for host in ["a", "b"] {
            wait_for(&format!("{host} is back"), 25, || {
                let left = show(host, "ima")["lease_left"].as_u64()?;
                (left >= 37).then_some(())
            });
        }

        // Revoked: nothing passes within seconds, and nothing of it stays.
        Ima::ctl("revoke b --reason stolen");
        let began = Instant::now();
        wait_for("nothing passes", 5, || {
            (ping("t1", 2, 1, "0.2").1 == 0).then_some(())
        });
        assert!(began.elapsed() < Duration::from_secs(5));
        wait_for("no key with b is left", 5, || {
            (sealing("a", None).is_empty() && show("a", "keys") == Value::Array(vec![]))
                .then_some(())
        });
        assert_eq!(place("a", "red", 2), None);
        wait_for("b has left", 5, || {
            (sealing("b", None).is_empty() && place("b", "red", 1).is_none()).then_some(())
        });
        assert!(
            security("a").contains("\"peer-revoked\""),
            "{}",
            security("a")
        );
        // What is sent there is counted as dropped, at the edge that it comes from.
        let before = dropped("a");
        assert_eq!(ping("t1", 2, 2, "0.2").1, 0);
        assert!(dropped("a") >= before + 2, "{}", show("a", "drops"));
        // What is here goes on.
        assert_eq!(ping("t1", 3, 2, "0.2"), (2, 2));
        drop(ima);
        a.stop();
        b.stop();
    });
}
