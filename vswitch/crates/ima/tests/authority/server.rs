//! A server with a file, and edges and operators over real sessions on the loopback.

use std::time::{Duration, Instant};

use crate::support::{
    Edge, Lab, PATIENCE, Told, declare, mac, nve, place, runtime, vn, with_server,
};
use tokio::time::timeout;
use vswitch_control::identity::Role;
use vswitch_control::message::encode;
use vswitch_control::message::ima::{
    FromEdge, FromIma, Goodbye, Refusal, Rejection, SealedBytes, VnFromEdge, VnFromIma, Wanted,
};
use vswitch_control::message::operator::{Change, Denied, FromOperator, PROTOCOL, Request, Text};
use vswitch_control::message::overlay::Admission;
use vswitch_control::session::Bytes;
use vswitch_ima::client::{Client, ClientError};
use vswitch_ima::engine::Limits;

#[test]
fn edges_learn_of_each_other_and_of_a_move() {
    with_server(Limits::default(), async |lab, server, operator| {
        declare(operator, "red", 1, Admission::Strict, &["a", "b"]).await;
        place(operator, "red", 1, "a").await;
        let mut a = lab.edge("a", 1, server).await;
        let mut b = lab.edge("b", 2, server).await;
        a.join("red").await.unwrap();
        b.join("red").await.unwrap();
        assert!(matches!(
            a.register("red", 1).await,
            VnFromIma::Registered { .. }
        ));
        b.until(|b| b.mappings("red").get(&mac(1)) == Some(&nve("a")))
            .await;
        b.until(|b| b.views[&vn("red")].members.len() == 2).await;
        // The machine moves.
        let change = Change::PlacementMove {
            vn: vn("red"),
            mac: mac(1),
            nve: nve("b"),
            port: None,
        };
        assert!(operator.change(change).await.unwrap());
        assert!(matches!(
            a.register("red", 1).await,
            VnFromIma::Rejected {
                why: Rejection::NotPlaced,
                ..
            }
        ));
        assert!(matches!(
            b.register("red", 1).await,
            VnFromIma::Registered { .. }
        ));
        a.until(|a| a.mappings("red").get(&mac(1)) == Some(&nve("b")))
            .await;
        // A new member: a new epoch, new keys, and everything goes on.
        let epoch = a.channels[&vn("red")].0;
        operator
            .change(Change::MemberAdd {
                vn: vn("red"),
                nve: nve("c"),
            })
            .await
            .unwrap();
        a.until(|a| a.channels[&vn("red")].0 > epoch).await;
        a.seal(
            "red",
            &VnFromEdge::Query {
                id: 9,
                what: Wanted::Mac(mac(1)),
            },
        )
        .await;
        loop {
            if let Some(Told::Vn(_, VnFromIma::Answer { id: 9, mapping, .. })) = a.next().await {
                assert_eq!(mapping.unwrap().nve, nve("b"));
                break;
            }
        }
        // The last port goes.
        b.send(&FromEdge::Leave { vn: vn("red") }).await;
        a.until(|a| a.mappings("red").is_empty()).await;
        a.until(|a| a.views[&vn("red")].members.len() == 1).await;
        assert_eq!(a.views[&vn("red")].fulls, 1, "told step by step");
    });
}

#[test]
fn nobody_is_heard_about_a_vn_it_is_not_in() {
    with_server(Limits::default(), async |lab, server, operator| {
        declare(operator, "red", 1, Admission::FirstClaim, &["a", "liar"]).await;
        declare(operator, "blue", 2, Admission::FirstClaim, &["a"]).await;
        let mut a = lab.edge("a", 1, server).await;
        a.join("red").await.unwrap();
        a.join("blue").await.unwrap();
        a.register("blue", 1).await;
        // Not a member; and what is said about it without a channel is not even answered.
        let mut liar = lab.edge("liar", 2, server).await;
        assert_eq!(liar.join("blue").await, Err(Refusal::NotMember));
        liar.join("red").await.unwrap();
        let (epoch, channel) = liar.channels.get_mut(&vn("red")).unwrap();
        let withdraw = encode(&VnFromEdge::Withdraw { mac: mac(1) }).unwrap();
        let bytes = SealedBytes::try_from(channel.seal(&withdraw).unwrap()).unwrap();
        let message = FromEdge::Sealed {
            vn: vn("blue"),
            epoch: *epoch,
            bytes,
        };
        liar.send(&message).await;
        liar.send(&FromEdge::Renew { sequence: 1 }).await;
        // A member of both: red's channel opens nothing of blue, and ends the session.
        let (epoch, channel) = a.channels.get_mut(&vn("red")).unwrap();
        let bytes = SealedBytes::try_from(channel.seal(&withdraw).unwrap()).unwrap();
        let message = FromEdge::Sealed {
            vn: vn("blue"),
            epoch: *epoch,
            bytes,
        };
        a.send(&message).await;
        assert_eq!(a.goodbye().await, Some(Goodbye::Protocol));
        assert_eq!(
            operator.mappings(&vn("blue")).await.unwrap().len(),
            1,
            "nothing was believed"
        );
        // Another's tunnel address, and garbage.
        let (endpoint, session) = lab.dial(Role::Nve, "liar", server).await.unwrap();
        let mut again = Edge::new("liar", endpoint, session);
        again.hello(1).await;
        assert_eq!(again.goodbye().await, Some(Goodbye::AddressTaken));
        for garbage in [&b"\xff\xff\xff"[..], &[0; 100], b"GET / HTTP/1.1\r\n\r\n"] {
            let (endpoint, session) = lab.dial(Role::Nve, "liar", server).await.unwrap();
            let mut edge = Edge::new("liar", endpoint, session);
            edge.session
                .send(Bytes::copy_from_slice(garbage))
                .await
                .unwrap();
            assert_eq!(edge.goodbye().await, Some(Goodbye::Protocol));
        }
    });
}

#[test]
fn an_edge_is_no_operator_and_no_server() {
    with_server(Limits::default(), async |lab, server, operator| {
        // An operator's words, in an edge's session.
        let (endpoint, session) = lab.dial(Role::Nve, "a", server).await.unwrap();
        let mut edge = Edge::new("a", endpoint, session);
        let change = Change::Revoke {
            nve: nve("b"),
            reason: Text::of(""),
        };
        for message in [
            FromOperator::Hello { version: PROTOCOL },
            FromOperator::Request {
                id: 0,
                request: Request::Change(change),
            },
        ] {
            let _ = edge
                .session
                .send(Bytes::from(encode(&message).unwrap()))
                .await;
        }
        assert_eq!(edge.goodbye().await, Some(Goodbye::Protocol));
        assert!(operator.edges().await.unwrap().is_empty());
        // Nobody of the authority's own role may open a session with it.
        assert!(lab.dial(Role::Ima, "two", server).await.is_none());
        // An edge's certificate does not pass for an operator's.
        let files = lab.files(Role::Nve, "a");
        assert!(Client::connect(&files, &[server]).await.is_err());
    });
}

#[test]
fn a_revoked_edge_is_out_within_a_second() {
    with_server(Limits::default(), async |lab, server, operator| {
        declare(operator, "red", 1, Admission::FirstClaim, &["a", "b"]).await;
        let mut a = lab.edge("a", 1, server).await;
        let mut b = lab.edge("b", 2, server).await;
        a.join("red").await.unwrap();
        b.join("red").await.unwrap();
        b.register("red", 1).await;
        a.until(|a| a.mappings("red").len() == 1).await;
        let change = Change::Revoke {
            nve: nve("b"),
            reason: Text::of("stolen"),
        };
        let begin = Instant::now();
        operator.change(change).await.unwrap();
        assert_eq!(b.goodbye().await, Some(Goodbye::Revoked));
        timeout(PATIENCE, b.session.closed()).await.unwrap();
        let mut heard = false;
        while !(heard && a.mappings("red").is_empty()) {
            if let Told::Clear(FromIma::Revoked { nve: who }) = a.next().await.unwrap() {
                assert_eq!(who, nve("b"));
                heard = true;
            }
        }
        let elapsed = begin.elapsed();
        assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
        assert!(
            lab.dial(Role::Nve, "b", server).await.is_none(),
            "refused by TLS"
        );
        let edges = operator.edges().await.unwrap();
        let line = edges.iter().find(|line| line.nve == nve("b")).unwrap();
        assert_eq!(line.revoked.as_ref().unwrap().as_str(), "stolen");
        operator
            .change(Change::Unrevoke { nve: nve("b") })
            .await
            .unwrap();
        let mut b = lab.edge("b", 2, server).await;
        b.join("red").await.unwrap();
    });
}

#[test]
fn operators_are_answered_and_remembered() {
    runtime().block_on(async {
        let lab = Lab::new();
        let server = lab.redb(Limits::default()).await;
        let mut operator = lab.operator(server.address()).await;
        declare(&mut operator, "red", 1, Admission::Strict, &[]).await;
        for n in 0..300 {
            place(&mut operator, "red", n, "a").await;
        }
        assert_eq!(operator.placements(&vn("red")).await.unwrap().len(), 300);
        let audit = operator.audit().await.unwrap();
        assert_eq!(audit.len(), 301);
        assert!(audit.iter().all(|line| line.who.as_str() == "root"));
        assert!(
            matches!(audit.last().unwrap().change, Change::VnAdd { .. }),
            "newest first"
        );
        let unknown = operator.change(Change::VnRemove { vn: vn("blue") }).await;
        assert!(matches!(
            unknown,
            Err(ClientError::Denied(Denied::Unknown(_)))
        ));
        let server_line = operator.server().await.unwrap();
        assert_eq!(server_line.store.as_str(), "redb");
        assert!(server_line.revision >= 301);
        operator.close().await;
        server.stop().await.unwrap();
        // A new server has it all.
        let server = lab.redb(Limits::default()).await;
        let mut operator = lab.operator(server.address()).await;
        assert_eq!(operator.audit().await.unwrap().len(), 301);
        operator.close().await;
        server.stop().await.unwrap();
    });
}

#[test]
fn a_slow_edge_costs_nobody_anything() {
    // Its log is short, so that the slow one has to be told everything; and one edge may change much.
    let mut limits = Limits {
        log: 64,
        ..Limits::default()
    };
    limits.rates.registrations = 10_000;
    with_server(limits, async |lab, server, operator| {
        declare(
            operator,
            "red",
            1,
            Admission::FirstClaim,
            &["a", "b", "slow"],
        )
        .await;
        let mut a = lab.edge("a", 1, server).await;
        let mut b = lab.edge("b", 2, server).await;
        let mut slow = lab.edge("slow", 3, server).await;
        for edge in [&mut a, &mut b, &mut slow] {
            edge.join("red").await.unwrap();
        }
        // Nobody reads what `slow` is sent, which is more than all queues on its way hold.
        let (rounds, machines) = (12_u16, 400_u16);
        for round in 0..rounds {
            for n in 0..machines {
                let ip = |i: u16| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, round, n, i).into();
                let ips = (0..16).map(ip).collect::<Vec<_>>().try_into().unwrap();
                let port = "p".parse().unwrap();
                a.seal(
                    "red",
                    &VnFromEdge::Register {
                        port,
                        mac: mac(n),
                        ips,
                    },
                )
                .await;
                // As many as may be under way.
                if n % 40 == 39 {
                    let mut answers = 0;
                    while answers < 40 {
                        if let Told::Vn(_, VnFromIma::Registered { .. }) = a.next().await.unwrap() {
                            answers += 1;
                        }
                    }
                    b.until(|b| {
                        let mapping = b.views[&vn("red")].mappings.get(&mac(n));
                        mapping.is_some_and(|mapping| mapping.ips.contains(&ip(0)))
                    })
                    .await;
                }
            }
        }
        let version = b.views[&vn("red")].version;
        while slow.views[&vn("red")].version < version {
            if slow.next().await.is_none() {
                // On a busy machine it took nothing for so long that its session was ended.
                let views = std::mem::take(&mut slow.views);
                slow = lab.edge("slow", 3, server).await;
                slow.views = views;
                slow.join("red").await.unwrap();
            }
        }
        let (b, slow) = (&b.views[&vn("red")], &slow.views[&vn("red")]);
        assert_eq!(b.mappings, slow.mappings);
        assert_eq!(
            b.heard,
            usize::from(rounds * machines),
            "everything, one by one"
        );
        assert!(slow.heard < b.heard, "{}: it was told sums", slow.heard);
    });
}

#[test]
fn who_sends_too_much_waits_alone() {
    let mut limits = Limits::default();
    limits.edge.messages_per_second = 100;
    limits.edge.burst = 20;
    with_server(limits, async |lab, server, operator| {
        declare(operator, "red", 1, Admission::FirstClaim, &["a", "flood"]).await;
        let mut a = lab.edge("a", 1, server).await;
        let mut flood = lab.edge("flood", 2, server).await;
        a.join("red").await.unwrap();
        flood.join("red").await.unwrap();
        let begin = Instant::now();
        for id in 0..200 {
            let what = Wanted::Mac(mac(u16::try_from(id).unwrap()));
            flood.seal("red", &VnFromEdge::Query { id, what }).await;
        }
        a.register("red", 1).await;
        let fair = begin.elapsed();
        loop {
            if let Some(Told::Vn(_, VnFromIma::Answer { id: 199, .. })) = flood.next().await {
                break;
            }
        }
        // 202 messages, 20 of them at once, 100 a second.
        let slowed = begin.elapsed();
        assert!(slowed > Duration::from_millis(1700), "{slowed:?}");
        assert!(fair < slowed, "{fair:?} {slowed:?}");
    });
}

/// With every session a burst would be as much as one likes.
#[test]
fn who_comes_anew_is_read_no_faster() {
    let mut limits = Limits::default();
    limits.edge.messages_per_second = 100;
    limits.edge.burst = 20;
    with_server(limits, async |lab, server, _| {
        let begin = Instant::now();
        for _ in 0..10 {
            let mut flood = lab.edge("flood", 2, server).await;
            for sequence in 0..20 {
                flood.send(&FromEdge::Renew { sequence }).await;
            }
            loop {
                let told = flood.next().await.unwrap();
                if matches!(told, Told::Clear(FromIma::Renewed { sequence: 19, .. })) {
                    break;
                }
            }
        }
        // 210 messages, 20 of them at once, 100 a second.
        let took = begin.elapsed();
        assert!(took > Duration::from_millis(1800), "{took:?}");
    });
}
