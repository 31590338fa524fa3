//! Real sessions over loopback: who gets one, what ends it, what it costs at most.

mod bounds;
mod ends;
mod flood;
mod roles;
mod trust;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Connection, RecvStream, SendStream};
use tokio::time::timeout;

use super::frame::OPENING;
use super::*;
use crate::identity::{Credentials, Denied, Expect, Refusal, Role, tls};
use crate::testing::{DAY, Lab, clock, load};

/// Longer than anything here takes, on a machine with other work.
const SOON: Duration = Duration::from_secs(10);

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn endpoint(
    credentials: Credentials,
    accept: &[Role],
    change: impl FnOnce(&mut Setup),
) -> Endpoint {
    let mut setup = Setup::new(credentials.fixed(), accept);
    change(&mut setup);
    Endpoint::bind(LOOPBACK, setup).unwrap()
}

/// An authority and an edge of one lab.
fn pair(lab: &Lab, change: impl Fn(&mut Setup)) -> (Endpoint, Endpoint) {
    let ima = lab.credentials(Role::Ima, "i");
    let nve = lab.credentials(Role::Nve, "a");
    (
        endpoint(ima, &[Role::Nve], &change),
        endpoint(nve, &[], &change),
    )
}

fn address(endpoint: &Endpoint) -> SocketAddr {
    endpoint.local_address().unwrap()
}

fn ima() -> Expect {
    Expect::Roles(vec![Role::Ima])
}

async fn dial(from: &Endpoint, to: &Endpoint, expect: Expect) -> Result<Session, DialError> {
    from.dial(address(to), expect).await
}

/// Both ends of a session from `edge` to `authority`: the authority's and the edge's.
async fn meet(authority: &Endpoint, edge: &Endpoint) -> (Session, Session) {
    let (here, there) = tokio::join!(authority.accept(), dial(edge, authority, ima()));
    (here.unwrap(), there.unwrap())
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(SOON, what).await.expect("within ten seconds")
}

/// Until `done`.
async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within ten seconds: {what}");
}

/// The configuration of a client with good credentials that need not keep to anything else.
fn raw_config(
    credentials: &Credentials,
    transport: Option<quinn::TransportConfig>,
) -> ClientConfig {
    let verifier = credentials.verifier(ima(), &Denied::new());
    let clock = crate::identity::Clock::system();
    let tls = tls::client(credentials, verifier, &clock).unwrap();
    let transport = transport.map_or_else(
        || transport::transport(&Limits::default(), Liveness::LONG, 0).unwrap(),
        Arc::new,
    );
    transport::client(tls, transport).unwrap()
}

/// A connection by such a client, opened as it should be.
async fn raw(to: &Endpoint, credentials: &Credentials) -> (Connection, SendStream, RecvStream) {
    let quinn = quinn::Endpoint::client(LOOPBACK).unwrap();
    let config = raw_config(credentials, None);
    let connection = quinn
        .connect_with(config, address(to), "192.0.2.1")
        .unwrap()
        .await
        .unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&OPENING).await.unwrap();
    let mut answer = [1; 4];
    receive.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, OPENING);
    (connection, send, receive)
}

#[tokio::test]
async fn frames_go_both_ways_and_each_knows_the_other() {
    let lab = Lab::new("lab");
    let (authority, edge) = pair(&lab, |_| ());
    let (mut here, mut there) = meet(&authority, &edge).await;
    assert_eq!(*here.peer(), lab.identity(Role::Nve, "a"));
    assert_eq!(*there.peer(), lab.identity(Role::Ima, "i"));
    assert_eq!(here.remote_address(), address(&edge));
    assert_eq!(there.remote_address(), address(&authority));

    let frames = [
        Bytes::from_static(b"x"),
        Bytes::from(vec![7; MAX_FRAME]),
        Bytes::from_static(b"end"),
    ];
    for frame in &frames {
        there.send(frame.clone()).await.unwrap();
        here.handle().send(frame.clone()).await.unwrap();
    }
    for frame in &frames {
        assert_eq!(soon(here.recv()).await.as_ref(), Some(frame));
        assert_eq!(soon(there.recv()).await.as_ref(), Some(frame));
    }
    assert_eq!(there.try_send(Bytes::new()), Err(SendError::Size));
    assert_eq!(
        there.try_send(Bytes::from(vec![0; MAX_FRAME + 1])),
        Err(SendError::Size)
    );

    let secret = |session: &Session, label: &[u8], context: &[u8]| {
        session.export_keying_material(label, context).unwrap()
    };
    let one = secret(&here, b"l", b"c");
    assert_eq!(one, secret(&there, b"l", b"c"));
    assert_ne!(one, secret(&there, b"m", b"c"));
    assert_ne!(one, secret(&there, b"l", b"d"));

    let (server, client) = (authority.stats(), edge.stats());
    assert_eq!(
        (
            server.handshakes,
            server.established,
            server.sessions,
            server.half_open
        ),
        (1, 1, 1, 0)
    );
    assert_eq!(
        (client.dials, client.established, client.sessions),
        (1, 1, 1)
    );
    assert_eq!(
        authority.sessions().list(),
        [(here.peer().clone(), here.remote_address())]
    );
    drop(there);
    assert_eq!(soon(here.recv()).await, None);
    assert_eq!(
        here.closed().await,
        Closed::Peer(Code::Done, "dropped".to_owned())
    );
    until("both forget it", || {
        authority.stats().sessions + edge.stats().sessions == 0
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_both_dials_and_accepts_on_one_socket() {
    let lab = Lab::new("lab");
    let [a, b] =
        ["a", "b"].map(|name| endpoint(lab.credentials(Role::Nve, name), &[Role::Nve], |_| ()));
    let expect = |name| Expect::Identity(lab.identity(Role::Nve, name));
    let (at_b, at_a) = tokio::join!(b.accept(), dial(&a, &b, expect("b")));
    let (at_a2, at_b2) = tokio::join!(a.accept(), dial(&b, &a, expect("a")));
    assert_eq!(
        at_b.unwrap().remote_address(),
        at_b2.unwrap().remote_address()
    );
    assert_eq!(
        at_a.unwrap().remote_address(),
        at_a2.unwrap().remote_address()
    );
}

#[tokio::test]
async fn what_is_received_is_not_lost_when_reading_is_interrupted() {
    let lab = Lab::new("lab");
    let (authority, edge) = pair(&lab, |_| ());
    let nve = lab.credentials(Role::Nve, "b");
    let accepted = async { authority.accept().await.unwrap() };
    let (mut here, (_connection, mut send, _receive)) =
        tokio::join!(accepted, raw(&authority, &nve));
    for piece in [&[0, 0][..], &[0, 3], &[1], &[2, 3]] {
        send.write_all(piece).await.unwrap();
        // Given up in the middle of a frame, and begun again.
        let got = timeout(Duration::from_millis(50), here.recv()).await;
        match piece {
            [2, 3] => assert_eq!(got.unwrap().unwrap(), [1, 2, 3][..]),
            _ => assert!(got.is_err()),
        }
    }
    drop(edge);
}

#[tokio::test]
async fn sessions_go_over_ipv6_and_a_socket_of_both_families() {
    let lab = Lab::new("lab");
    let at = |name: &str, address: &str| {
        let setup = Setup::new(lab.credentials(Role::Nve, name).fixed(), &[Role::Nve]);
        Endpoint::bind(address.parse().unwrap(), setup).unwrap()
    };
    let (a, b, c) = (
        at("a", "[::]:0"),
        at("b", "[::1]:0"),
        at("c", "127.0.0.1:0"),
    );
    let expect = |name| Expect::Identity(lab.identity(Role::Nve, name));
    for (peer, name) in [(&b, "b"), (&c, "c")] {
        let (here, there) = tokio::join!(peer.accept(), dial(&a, peer, expect(name)));
        assert_eq!(*here.unwrap().peer(), lab.identity(Role::Nve, "a"));
        assert_eq!(*there.unwrap().peer(), lab.identity(Role::Nve, name));
    }
}
