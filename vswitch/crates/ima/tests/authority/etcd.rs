//! Several servers before one etcd of three members, one of which is killed while they write.

use std::time::Duration;

use crate::support::etcd::{Cluster, skip};
use crate::support::{Edge, Lab, PATIENCE, Told, declare, ips, mac, nve, runtime, vn};
use tokio::time::{Instant, timeout};
use vswitch_control::identity::Role;
use vswitch_control::message::ima::{FromIma, Goodbye, Rejection, VnFromEdge, VnFromIma};
use vswitch_control::message::operator::{Change, Text};
use vswitch_control::message::overlay::{Admission, Placement};
use vswitch_ima::engine::Limits;
use vswitch_ima::model::{Key, Op, Plan, Record, Revoked, State, Transaction};
use vswitch_ima::store::etcd::Etcd;
use vswitch_ima::store::{Commit, Store};

fn record(text: &str) -> Record {
    Record::Revoked(Revoked {
        by: Text::of(text),
        reason: Text::of(""),
    })
}

fn put(state: &State, key: &Key, text: &str) -> Transaction {
    let mut plan = Plan::default();
    plan.put(state, key.clone(), record(text));
    let mut transaction = Transaction::default();
    transaction.absorb(&plan);
    transaction
}

/// What the store says others changed, sooner or later.
async fn until(store: &mut Etcd, wanted: &Op) {
    while !timeout(PATIENCE, store.changes())
        .await
        .unwrap()
        .unwrap()
        .contains(wanted)
    {}
}

#[test]
fn transactions_conflict_where_they_must_and_nowhere_else() {
    let Some(cluster) = Cluster::start() else {
        return skip("transactions_conflict_where_they_must_and_nowhere_else");
    };
    runtime().block_on(async {
        let mut one = Etcd::open(&cluster.config()).await.unwrap();
        let mut two = Etcd::open(&cluster.config()).await.unwrap();
        let mut state_one = State::load(8, one.load().await.unwrap());
        let mut state_two = State::load(8, two.load().await.unwrap());
        let (a, b) = (Key::Revoked(nve("a")), Key::Revoked(nve("b")));
        // Different records: both take effect, and each learns of the other's.
        let committed = one.commit(&put(&state_one, &a, "one")).await.unwrap();
        assert_eq!(committed.commit, Commit::Done);
        state_one.apply(&[Op::Put(a.clone(), record("one"))]);
        let committed = two.commit(&put(&state_two, &b, "two")).await.unwrap();
        assert_eq!(committed.commit, Commit::Done);
        assert_eq!(committed.others, [Op::Put(a.clone(), record("one"))]);
        state_two.apply(&[Op::Put(b.clone(), record("two"))]);
        state_two.apply(&committed.others);
        // `one` does not know of b yet: it cannot make it, whatever it believes.
        let committed = one.commit(&put(&state_one, &b, "one")).await.unwrap();
        assert_eq!(committed.commit, Commit::Conflict);
        assert_eq!(committed.others, [Op::Put(b.clone(), record("two"))]);
        state_one.apply(&committed.others);
        // Now it does.
        let committed = one.commit(&put(&state_one, &b, "three")).await.unwrap();
        assert_eq!(committed.commit, Commit::Done);
        // Changed since: a record that is there must be as it was known.
        let committed = two.commit(&put(&state_two, &b, "four")).await.unwrap();
        assert_eq!(committed.commit, Commit::Conflict);
        state_two.apply(&committed.others);
        // Deleted since: a record that was there must still be there.
        let mut plan = Plan::default();
        plan.delete(&state_two, b.clone());
        let mut delete = Transaction::default();
        delete.absorb(&plan);
        assert_eq!(two.commit(&delete).await.unwrap().commit, Commit::Done);
        state_one.apply(&[Op::Put(b.clone(), record("three"))]);
        let committed = one.commit(&put(&state_one, &b, "five")).await.unwrap();
        assert_eq!(committed.commit, Commit::Conflict);
        assert_eq!(committed.others, [Op::Delete(b.clone())]);
        // Whoever only watches is told as well.
        let mut three = Etcd::open(&cluster.config()).await.unwrap();
        assert_eq!(three.load().await.unwrap(), [(a.clone(), record("one"))]);
        state_one.apply(&committed.others);
        assert_eq!(
            one.commit(&put(&state_one, &b, "six"))
                .await
                .unwrap()
                .commit,
            Commit::Done
        );
        until(&mut three, &Op::Put(b, record("six"))).await;
    });
}

#[test]
fn a_killed_member_loses_nothing_and_any_server_will_do() {
    let Some(mut cluster) = Cluster::start() else {
        return skip("a_killed_member_loses_nothing_and_any_server_will_do");
    };
    runtime().block_on(async {
        let lab = Lab::new();
        let mut servers = Vec::new();
        for (n, name) in ["one", "two"].into_iter().enumerate() {
            // Each begins with another member.
            let mut config = cluster.config();
            config.endpoints.rotate_left(n);
            let store = Etcd::open(&config).await.unwrap();
            servers.push(lab.server(name, store, Limits::default()).await);
        }
        let (first, second) = (servers[0].address(), servers[1].address());
        let mut operator = lab.operator(first).await;
        let members = ["a", "b"];
        declare(&mut operator, "red", 1, Admission::FirstClaim, &members).await;
        let mut a = lab.edge("a", 1, first).await;
        let mut b = lab.edge("b", 2, second).await;
        a.join("red").await.unwrap();
        // The second server may not have heard of it yet.
        let begin = Instant::now();
        while let Err(refused) = b.join("red").await {
            assert!(begin.elapsed() < PATIENCE, "{refused:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Both servers write to the same VN, all the time.
        let mut taken = Vec::new();
        for n in 0..300_u16 {
            match n {
                60 => cluster.kill(0),
                180 => cluster.restart(0),
                220 => cluster.kill(1),
                _ => {}
            }
            let edge = if n % 2 == 0 { &mut a } else { &mut b };
            let begin = Instant::now();
            loop {
                match edge.register("red", n).await {
                    VnFromIma::Registered { .. } => break taken.push(n),
                    VnFromIma::Rejected {
                        why: Rejection::Unavailable,
                        ..
                    } => {
                        assert!(begin.elapsed() < PATIENCE, "{n}: never available again");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(taken.len(), 300);
        for edge in [&mut a, &mut b] {
            edge.until(|edge| edge.mappings("red").len() == 300).await;
        }
        let (a_knows, b_knows) = (&a.views[&vn("red")], &b.views[&vn("red")]);
        assert_eq!(a_knows.mappings, b_knows.mappings);
        // What the first took, the second refuses.
        let port = "p".parse().unwrap();
        let stolen = VnFromEdge::Register {
            port,
            mac: mac(0),
            ips: ips(0),
        };
        b.seal("red", &stolen).await;
        b.register("red", 1).await;
        assert_eq!(b.mappings("red")[&mac(0)], nve("a"));
        // A revocation by one server is the other's, within a second; an operator at any server.
        let mut elsewhere = lab.operator(second).await;
        let placement = Placement {
            mac: mac(999),
            ips: ips(999),
            nve: nve("a"),
            port: "p".parse().unwrap(),
        };
        elsewhere
            .change(Change::PlacementAdd {
                vn: vn("red"),
                placement,
            })
            .await
            .unwrap();
        let begin = Instant::now();
        let change = Change::Revoke {
            nve: nve("b"),
            reason: Text::of(""),
        };
        operator.change(change).await.unwrap();
        timeout(PATIENCE, b.goodbye()).await.unwrap();
        assert!(
            begin.elapsed() < Duration::from_secs(2),
            "{:?}",
            begin.elapsed()
        );
        a.until(|a| a.mappings("red").len() == 150).await;
        // A server that starts now knows it all.
        let store = Etcd::open(&cluster.config()).await.unwrap();
        let third = lab.server("three", store, Limits::default()).await;
        let mut late = lab.operator(third.address()).await;
        assert_eq!(late.mappings(&vn("red")).await.unwrap().len(), 150);
        assert_eq!(late.audit().await.unwrap().len(), 5);
        for client in [operator, elsewhere, late] {
            client.close().await;
        }
        servers.push(third);
        for server in servers {
            server.stop().await.unwrap();
        }
    });
}

/// Two servers that were asked at the same time: one says yes.
#[test]
fn of_two_servers_only_one_gives_an_address_away() {
    let Some(cluster) = Cluster::start() else {
        return skip("of_two_servers_only_one_gives_an_address_away");
    };
    runtime().block_on(async {
        let lab = Lab::new();
        let mut servers = Vec::new();
        for name in ["one", "two"] {
            let store = Etcd::open(&cluster.config()).await.unwrap();
            servers.push(lab.server(name, store, Limits::default()).await);
        }
        let (first, second) = (servers[0].address(), servers[1].address());
        // Sessions are there; the greetings go out together.
        for number in 1..=20_u8 {
            let mut edges = Vec::new();
            for (side, server) in [("a", first), ("b", second)] {
                let name = format!("{side}{number}");
                let (endpoint, session) = lab.dial(Role::Nve, &name, server).await.unwrap();
                edges.push(Edge::new(&name, endpoint, session));
            }
            for edge in &edges {
                edge.hello(number).await;
            }
            let mut welcome = 0;
            for edge in &mut edges {
                match edge.next().await {
                    Some(Told::Clear(FromIma::Welcome { .. })) => welcome += 1,
                    Some(Told::Clear(FromIma::Goodbye {
                        why: Goodbye::AddressTaken,
                    })) => {}
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(welcome, 1, "round {number}");
        }
        // The same IP address for two machines, in a strict VN.
        let mut operators = [lab.operator(first).await, lab.operator(second).await];
        declare(&mut operators[0], "red", 1, Admission::Strict, &[]).await;
        while operators[1].vns().await.unwrap().is_empty() {}
        for n in 0..20_u16 {
            let place = |of: u16| Change::PlacementAdd {
                vn: vn("red"),
                placement: Placement {
                    mac: mac(2 * n + of),
                    ips: ips(n),
                    nve: nve("a"),
                    port: "p".parse().unwrap(),
                },
            };
            let [one, two] = &mut operators;
            let placed = tokio::join!(one.change(place(0)), two.change(place(1)));
            let placed = [placed.0, placed.1];
            let yes = placed.iter().filter(|done| matches!(done, Ok(true)));
            assert_eq!(yes.count(), 1, "round {n}: {placed:?}");
        }
        for operator in operators {
            operator.close().await;
        }
        for server in servers {
            server.stop().await.unwrap();
        }
    });
}

/// What somebody else writes behind our prefix, or writes badly, stops no server.
#[test]
fn a_bad_key_stops_nobody() {
    let Some(cluster) = Cluster::start() else {
        return skip("a_bad_key_stops_nobody");
    };
    runtime().block_on(async {
        let lab = Lab::new();
        let config = cluster.config();
        let mut raw = etcd_client::Client::connect(&config.endpoints, None)
            .await
            .unwrap();
        let key = |path: &str| format!("{}{path}", config.prefix);
        raw.put(key("nonsense/of/others"), "x", None).await.unwrap();
        raw.put(key("member/red/a"), [9, 9, 9], None).await.unwrap();
        let store = Etcd::open(&config).await.unwrap();
        let server = lab.server("one", store, Limits::default()).await;
        let mut operator = lab.operator(server.address()).await;
        declare(&mut operator, "red", 1, Admission::FirstClaim, &[]).await;
        // Writing it again repairs it.
        let member = Change::MemberAdd {
            vn: vn("red"),
            nve: nve("a"),
        };
        assert!(operator.change(member).await.unwrap());
        let mut a = lab.edge("a", 1, server.address()).await;
        a.join("red").await.unwrap();
        // And while the server runs: the VN's counters, a revocation, and something of nobody's.
        for path in ["clock/red", "vn/red", "revoked/b", "more/nonsense"] {
            raw.put(key(path), [200, 1], None).await.unwrap();
        }
        for n in 0..10 {
            let answer = a.register("red", n).await;
            assert!(matches!(answer, VnFromIma::Registered { .. }), "{answer:?}");
        }
        let line = operator.server().await.unwrap();
        let counter = |name: &str| {
            let found = line.counters.iter().find(|(of, _)| of.as_str() == name);
            found.unwrap().1
        };
        assert_eq!(counter("store-skipped"), 6);
        assert_eq!(counter("store-broken"), 0);
        let edges = operator.edges().await.unwrap();
        let b = edges.iter().find(|line| line.nve == nve("b")).unwrap();
        assert!(b.revoked.is_some(), "the worst is believed");
        operator.close().await;
        server.stop().await.unwrap();
    });
}
