//! Those who have rights and use them badly: an edge that floods, one that claims what is another's, an
//! operator who has left.

use std::time::{Duration, Instant};

use crate::support::{Edge, Lab, Told, declare, ips, mac, nve, place, runtime, with_server};
use vswitch_control::identity::Role;
use vswitch_control::message::ima::{FromEdge, FromIma, Goodbye, Rejection, VnFromEdge, VnFromIma};
use vswitch_control::message::operator::{Change, Denied, Places, Text};
use vswitch_control::message::overlay::Admission;
use vswitch_ima::client::{Client, ClientError};
use vswitch_ima::engine::{Limits, Rates};

async fn counter(operator: &mut Client, name: &str) -> u64 {
    let server = operator.server().await.unwrap();
    let found = server.counters.iter().find(|(of, _)| of.as_str() == name);
    found.unwrap_or_else(|| panic!("no counter {name}")).1
}

/// As fast as it can an edge registers, and renews its lease: the store and the others notice what the rates
/// allow, and another edge is served meanwhile.
#[test]
fn a_flood_is_stored_and_told_no_faster_than_its_rate() {
    let mut limits = Limits::default();
    limits.edge.messages_per_second = 100_000;
    limits.edge.burst = 100_000;
    limits.rates = Rates {
        registrations: 5,
        ..Rates::default()
    };
    with_server(limits, async |lab, server, operator| {
        declare(operator, "red", 1, Admission::FirstClaim, &["a", "flood"]).await;
        let mut a = lab.edge("a", 1, server).await;
        let mut flood = lab.edge("flood", 2, server).await;
        a.join("red").await.unwrap();
        flood.join("red").await.unwrap();
        let commits = counter(operator, "store-commits").await;
        let (begin, mut refused, mut taken) = (Instant::now(), 0_u64, 0_u64);
        let mut slowest = Duration::ZERO;
        for round in 0..20_u16 {
            for n in 0..100_u16 {
                let register = VnFromEdge::Register {
                    port: "vm".parse().unwrap(),
                    mac: mac(1),
                    ips: ips(3000 + 100 * round + n),
                };
                flood.seal("red", &register).await;
                flood.send(&FromEdge::Renew { sequence: n.into() }).await;
            }
            let asked = Instant::now();
            let answer = a.register("red", 1000 + round).await;
            slowest = slowest.max(asked.elapsed());
            assert!(matches!(answer, VnFromIma::Registered { .. }), "{answer:?}");
            let mut answers = 0;
            while answers < 200 {
                match flood.next().await.unwrap() {
                    Told::Vn(_, VnFromIma::Registered { .. }) => {
                        (taken, answers) = (taken + 1, answers + 1)
                    }
                    Told::Vn(_, VnFromIma::Rejected { why, .. }) => {
                        assert_eq!(why, Rejection::Busy);
                        (refused, answers) = (refused + 1, answers + 1);
                    }
                    Told::Clear(FromIma::Renewed { .. }) => answers += 1,
                    _ => {}
                }
            }
        }
        // Fifty at once, five a second; the first time it is no change.
        let most = 50 + 5 * (begin.elapsed().as_secs() + 1);
        assert!((50..=most).contains(&taken), "{taken} of at most {most}");
        assert_eq!(refused, 2000 - taken);
        assert_eq!(counter(operator, "registrations-busy").await, refused);
        let commits = counter(operator, "store-commits").await - commits;
        assert!(commits <= taken + 21, "{commits}: renewals are not stored");
        let vns = operator.vns().await.unwrap();
        let version = vns.first().unwrap().version.0;
        assert!(version <= 2 + taken + 20, "{version}");
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    });
}

/// A tunnel address is its first claimant's over a restart of the server, and by an operator's word
/// somebody else's at once, and the claims are to be seen.
#[test]
fn a_tunnel_address_has_one_owner() {
    runtime().block_on(async {
        let lab = Lab::new();
        let server = lab.redb(Limits::default()).await;
        let mut thief = lab.edge("thief", 1, server.address()).await;
        let mut operator = lab.operator(server.address()).await;
        let lines = operator.addresses().await.unwrap();
        assert_eq!(lines.len(), 1);
        assert!(!lines[0].declared && lines[0].nve == nve("thief"));
        assert_eq!(counter(&mut operator, "first-claims-tunnel").await, 1);
        let (endpoint, session) = lab
            .dial(Role::Nve, "owner", server.address())
            .await
            .unwrap();
        let mut owner = Edge::new("owner", endpoint, session);
        owner.hello(1).await;
        assert_eq!(owner.goodbye().await, Some(Goodbye::AddressTaken));
        assert_eq!(counter(&mut operator, "claims-refused").await, 1);
        let places = Places {
            tunnel_addresses: vec![[192, 0, 2, 1].into()].try_into().unwrap(),
            control: Default::default(),
        };
        let declare = Change::EdgeSet {
            nve: nve("owner"),
            places: places.clone(),
        };
        assert!(operator.change(declare.clone()).await.unwrap());
        assert!(!operator.change(declare).await.unwrap(), "it is so already");
        assert_eq!(thief.goodbye().await, Some(Goodbye::AddressTaken));
        let declared = operator.declared().await.unwrap();
        assert_eq!(declared.len(), 1);
        assert_eq!(declared[0].places, places);
        operator.close().await;
        server.stop().await.unwrap();
        // Nothing of it is forgotten.
        let server = lab.redb(Limits::default()).await;
        let (endpoint, session) = lab
            .dial(Role::Nve, "thief", server.address())
            .await
            .unwrap();
        let mut thief = Edge::new("thief", endpoint, session);
        thief.hello(1).await;
        assert_eq!(thief.goodbye().await, Some(Goodbye::AddressTaken));
        lab.edge("owner", 1, server.address()).await;
        server.stop().await.unwrap();
    });
}

/// Who claims what nobody placed is written down.
#[test]
fn first_claims_are_counted() {
    with_server(Limits::default(), async |lab, server, operator| {
        declare(operator, "red", 1, Admission::FirstClaim, &["a"]).await;
        place(operator, "red", 1, "a").await;
        let mut a = lab.edge("a", 1, server).await;
        a.join("red").await.unwrap();
        for n in [1, 2, 2, 3] {
            a.register("red", n).await;
        }
        assert_eq!(counter(operator, "first-claims").await, 2);
    });
}

/// Within a second, with a session or without; and comes back only by another's word.
#[test]
fn a_revoked_operator_is_out() {
    runtime().block_on(async {
        let lab = Lab::new();
        let server = lab.redb(Limits::default()).await;
        let mut root = lab.operator(server.address()).await;
        let files = lab.files(Role::Operator, "former");
        let mut former = Client::connect(&files, &[server.address()]).await.unwrap();
        declare(&mut former, "red", 1, Admission::FirstClaim, &[]).await;
        let revoke = |name: &str| Change::OperatorRevoke {
            name: name.parse().unwrap(),
            reason: Text::of("has left"),
        };
        let own = root.change(revoke("root")).await;
        assert!(
            matches!(own, Err(ClientError::Denied(Denied::Conflict(_)))),
            "{own:?}"
        );
        root.change(revoke("former")).await.unwrap();
        let begin = Instant::now();
        while former.server().await.is_ok() {
            assert!(begin.elapsed() < Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let again = Client::connect(&files, &[server.address()]).await;
        assert!(again.is_err(), "refused by TLS");
        let lines = root.operators().await.unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].reason.as_str(), "has left");
        root.close().await;
        server.stop().await.unwrap();
        // A server that starts anew knows.
        let server = lab.redb(Limits::default()).await;
        assert!(Client::connect(&files, &[server.address()]).await.is_err());
        let mut root = lab.operator(server.address()).await;
        let unrevoke = Change::OperatorUnrevoke {
            name: "former".parse().unwrap(),
        };
        root.change(unrevoke).await.unwrap();
        let former = Client::connect(&files, &[server.address()]).await.unwrap();
        former.close().await;
        root.close().await;
        server.stop().await.unwrap();
    });
}
