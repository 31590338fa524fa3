//! Two servers of the authority before an etcd of three members: one server is killed while edges work, then
//! a member of etcd, then the certificate of the other server is stolen. Traffic and rekeying go on, and what operators
//! change afterwards reaches both edges.

use std::time::{Duration, Instant};

use pmd_tests::asking::{place, sealing, show, stands};
use pmd_tests::bridge::wire;
use pmd_tests::cluster::{self, Etcd, Server, order, with_servers};
use pmd_tests::daemon::Daemon;
use pmd_tests::isolate::{isolated_in_lab, skipped};
use pmd_tests::lab::{DIR, wait_for};
use pmd_tests::overlay::{By, PAIR, Tenant, declaration, edge, pki, plug};
use pmd_tests::stream::Stream;

const TENANTS: [Tenant; 3] = [PAIR[0], PAIR[1], Tenant::new("t3", "b", "red", 3)];
const NAMES: [&str; 2] = ["one", "two"];
const EDGES: [&str; 2] = ["a", "b"];
/// From the end of a session to the next with another server: the client's first wait and, once, a dial
/// that nobody answers; doubled for a busy machine.
const ANOTHER: u64 = 30;

/// Which server an edge has a session with.
fn serving(host: &str) -> Option<&'static str> {
    let ima = show(host, "ima");
    if ima["state"] != "connected" {
        return None;
    }
    let identity = ima["server_identity"].as_str()?;
    NAMES
        .into_iter()
        .find(|name| identity == format!("spiffe://lab.test/ima/{name}"))
}

#[track_caller]
fn served_by(name: &str) {
    for host in EDGES {
        wait_for(&format!("{host} is served by {name}"), ANOTHER, || {
            (serving(host)? == name).then_some(())
        });
    }
}

/// Every key is replaced.
#[track_caller]
fn rekeyed() {
    let before = EDGES.map(|host| sealing(host, None));
    for (host, before) in EDGES.iter().zip(before) {
        wait_for(&format!("{host} has other keys"), 15, || {
            let now = sealing(host, None);
            (!now.is_empty() && now.iter().all(|spi| !before.contains(spi))).then_some(())
        });
    }
}

/// Machine 3 comes and goes by the word of an operator at the `n`th server, and both edges follow.
#[track_caller]
fn changes_arrive(n: usize) {
    let mac = "52:54:00:00:00:03";
    order(
        n,
        &format!("placement add red {mac} b vm3 --ip 10.0.0.3 --ip fd00::3"),
    );
    stands("b", "red", &["vm2: admitted", "vm3: admitted"]);
    wait_for("`a` knows where machine 3 is", 10, || {
        (place("a", "red", 3)? == "b").then_some(())
    });
    order(n, &format!("placement remove red {mac}"));
    wait_for("`a` knows that it is gone", 10, || {
        place("a", "red", 3).is_none().then_some(())
    });
}

#[test]
fn whoever_fails_of_the_authority_the_edges_go_on() {
    isolated_in_lab(|| {
        wire(&EDGES, &[("ima", "192.0.2.250")]);
        pki(&["nve a", "nve b", "ima two"]);
        let Some(mut etcd) = Etcd::start() else {
            return skipped("no etcd (scripts/etcd unpacks it)");
        };
        let mut servers = [Some(Server::start(0, "one")), Some(Server::start(1, "two"))];
        let text = declaration(&[("red", "")], &EDGES, &TENANTS[..2]);
        std::fs::write(format!("{DIR}/networks.yaml"), text).expect("networks");
        order(0, &format!("apply {DIR}/networks.yaml"));
        let rekey = "  rekey-blocks: 6000";
        let start = |host: &str, n| {
            let text = edge(host, n, 1, rekey, (By::Switches, &TENANTS));
            Daemon::start(host, &with_servers(&text, 2))
        };
        let (a, b) = (start("a", 1), start("b", 2));
        let _tenants = plug("tenants", By::Switches, &TENANTS, &TENANTS);
        stands("a", "red", &["vm1: admitted"]);
        let streams = [
            Stream::start("t1", "t2", 2, 250),
            Stream::start("t2", "t1", 1, 250),
        ];
        let began = Instant::now();
        for stream in &streams {
            stream.first_after(began, 20);
        }
        let since = Instant::now();
        changes_arrive(0);
        changes_arrive(1);

        // The server that edge `a` has its session with, in the middle of it.
        let first = serving("a").expect("a session");
        let (gone, left) = match first {
            "one" => (0, 1),
            _ => (1, 0),
        };
        servers[gone].take().expect("a server").kill();
        served_by(NAMES[left]);
        rekeyed();
        changes_arrive(left);

        // A member of the store, whichever leads.
        etcd.kill(0);
        changes_arrive(left);
        rekeyed();
        for host in EDGES {
            assert_eq!(serving(host), Some(NAMES[left]));
        }
        etcd.run(0);

        // The other server comes back and catches up, and takes over.
        servers[gone] = Some(Server::start(gone, first));
        changes_arrive(gone);
        servers[left].take().expect("a server").kill();
        served_by(first);
        changes_arrive(gone);
        etcd.kill(2);
        changes_arrive(gone);

        // Its key is stolen: by the CA's word alone its sessions end, and the edges take the other one.
        servers[left] = Some(Server::start(left, NAMES[left]));
        cluster::revoke(&format!("ima {first}"));
        let revoked = Instant::now();
        for host in EDGES {
            wait_for(&format!("{host} has left {first}"), 10, || {
                (serving(host) != Some(first)).then_some(())
            });
        }
        assert!(revoked.elapsed() < Duration::from_secs(10));
        served_by(NAMES[left]);
        changes_arrive(left);
        rekeyed();
        // Nothing was lost to any of that.
        for stream in &streams {
            stream.whole(since);
        }
        // Nor is the revoked one taken when there is no other.
        servers[left].take().expect("a server").kill();
        for host in EDGES {
            wait_for(&format!("{host} refuses {first}"), ANOTHER, || {
                let ima = show(host, "ima");
                let trouble = ima["trouble"].as_str().unwrap_or_default();
                trouble
                    .contains(&format!("ima/{first} is revoked"))
                    .then_some(())
            });
            assert_eq!(serving(host), None);
        }
        drop((streams, servers));
        a.stop();
        b.stop();
    });
}
