//! What ends a session: revocation, expiry, newer ones, silence; and what does not.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn revocation_ends_sessions_at_once_and_begins_none() {
    let lab = Lab::new("lab");
    let (authority, edge) = pair(&lab, |_| ());
    let other = endpoint(lab.credentials(Role::Nve, "b"), &[], |_| ());
    let (mut here, mut there) = meet(&authority, &edge).await;
    let (mut stays, still) = meet(&authority, &other).await;
    // It has arrived, but whoever is revoked is not heard any more.
    there.send(Bytes::from_static(b"late")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let nve = lab.identity(Role::Nve, "a");
    assert_eq!(authority.sessions().deny(&nve), 1);
    assert_eq!(here.recv().await, None);
    assert_eq!(soon(there.recv()).await, None);
    assert_eq!(
        there.closed().await,
        Closed::Peer(Code::Revoked, "revoked".to_owned())
    );
    assert_eq!(
        there.send(Bytes::from_static(b"more")).await,
        Err(SendError::Closed)
    );
    let told = "the peer says we are revoked".to_owned();
    let error = dial(&edge, &authority, ima()).await.unwrap_err();
    assert_eq!(error, DialError::Closed(Closed::Transport(told)));
    until("it is counted", || authority.stats().failed_revoked == 1).await;
    assert_eq!(
        (authority.stats().closed_revoked, authority.stats().sessions),
        (1, 1)
    );

    still.send(Bytes::from_static(b"still here")).await.unwrap();
    assert_eq!(soon(stays.recv()).await.unwrap(), "still here");
    assert!(authority.sessions().denied().allow(&nve));
    let (here, _there) = meet(&authority, &edge).await;
    // One certificate alone; and whoever is denied behind the endpoint's back ends within a sweep.
    authority
        .sessions()
        .denied()
        .deny_serial(&here.certificate().serial);
    let closed = soon(here.closed()).await;
    assert_eq!(closed, Closed::Here);
    assert_eq!(authority.stats().closed_revoked, 2);
}

#[tokio::test]
async fn sessions_of_one_identity_can_be_ended_and_come_again() {
    let lab = Lab::new("lab");
    let (authority, edge) = pair(&lab, |_| ());
    let (_here, there) = meet(&authority, &edge).await;
    assert_eq!(
        authority.sessions().close(there.peer(), "not who we mean"),
        0
    );
    assert_eq!(
        authority
            .sessions()
            .close(&lab.identity(Role::Nve, "a"), "moved"),
        1
    );
    assert_eq!(
        soon(there.closed()).await,
        Closed::Peer(Code::Done, "moved".to_owned())
    );
    meet(&authority, &edge).await;
}

#[tokio::test]
async fn a_session_ends_when_the_certificate_does() {
    let lab = Lab::new("lab");
    let (clock, ahead) = clock();
    let (authority, edge) = pair(&lab, |_| ());
    // Only the authority's clock runs ahead, so it is it that ends the session.
    drop(authority);
    let authority = endpoint(lab.credentials(Role::Ima, "i"), &[Role::Nve], |setup| {
        setup.clock = clock
    });
    let (_here, there) = meet(&authority, &edge).await;
    ahead.store(DAY.as_secs() - 60, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(authority.stats().sessions, 1);
    ahead.store(DAY.as_secs() + 60, Ordering::Relaxed);
    let closed = timeout(Duration::from_secs(3), there.closed())
        .await
        .unwrap();
    let why = "the peer's certificate has expired".to_owned();
    assert_eq!(closed, Closed::Peer(Code::Expired, why));
    assert_eq!(authority.stats().closed_expired, 1);
}

#[tokio::test]
async fn of_one_identity_the_newest_sessions_stay() {
    let lab = Lab::new("lab");
    let (authority, edge) = pair(&lab, |setup| setup.limits.sessions_per_identity = 2);
    let mut all = Vec::new();
    for _ in 0..3 {
        // One who starts anew has another port.
        all.push(meet(&authority, &edge).await);
    }
    let why = "a newer session of the same identity".to_owned();
    // The edge's own limit does not count the same sessions differently: both end the oldest.
    let closed = soon(all[0].1.closed()).await;
    assert!(matches!(closed, Closed::Here) || closed == Closed::Peer(Code::Replaced, why));
    assert_eq!(authority.stats().sessions, 2);
    let (here, there) = &mut all[1];
    there.send(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(soon(here.recv()).await.unwrap(), "x");
}

#[tokio::test]
async fn there_are_no_more_sessions_than_allowed() {
    let lab = Lab::new("lab");
    let authority = endpoint(lab.credentials(Role::Ima, "i"), &[Role::Nve], |setup| {
        setup.limits.sessions = 2
    });
    let edges: Vec<Endpoint> = ["a", "b", "c"]
        .map(|name| endpoint(lab.credentials(Role::Nve, name), &[], |_| ()))
        .into();
    let first = meet(&authority, &edges[0]).await;
    let _second = meet(&authority, &edges[1]).await;
    let error = dial(&edges[2], &authority, ima()).await.unwrap_err();
    assert!(
        matches!(error, DialError::Closed(Closed::Transport(_))),
        "{error}"
    );
    assert_eq!(
        (authority.stats().refused_full, authority.stats().sessions),
        (1, 2)
    );
    drop(first);
    until("there is room", || authority.stats().sessions == 1).await;
    meet(&authority, &edges[2]).await;
}

#[tokio::test]
async fn finishing_delivers_what_waits() {
    let lab = Lab::new("lab");
    let (authority, edge) = pair(&lab, |_| ());
    let (here, mut there) = meet(&authority, &edge).await;
    for _ in 0..3 {
        here.try_send(Bytes::from(vec![9; MAX_FRAME])).unwrap();
    }
    here.try_send(Bytes::from_static(b"expelled")).unwrap();
    here.finish("done");
    for _ in 0..3 {
        assert_eq!(soon(there.recv()).await.unwrap().len(), MAX_FRAME);
    }
    assert_eq!(soon(there.recv()).await.unwrap(), "expelled");
    assert_eq!(soon(there.recv()).await, None);
    soon(here.closed()).await;
}

#[tokio::test]
async fn renewal_is_for_new_sessions_and_old_ones_live_on() {
    let lab = Lab::new("lab");
    let first = Arc::new(lab.credentials(Role::Ima, "i"));
    let second = Arc::new(lab.credentials(Role::Ima, "i"));
    let (renew, credentials) = watch::channel(first.clone());
    let authority = Endpoint::bind(LOOPBACK, Setup::new(credentials, &[Role::Nve])).unwrap();
    let edge = endpoint(lab.credentials(Role::Nve, "a"), &[], |_| ());
    let (mut old, at_edge) = meet(&authority, &edge).await;
    assert_eq!(at_edge.certificate(), first.certificate());
    renew.send(second.clone()).unwrap();
    let (_new, new_at_edge) = meet(&authority, &edge).await;
    assert_eq!(new_at_edge.certificate(), second.certificate());
    at_edge.send(Bytes::from_static(b"alive")).await.unwrap();
    assert_eq!(soon(old.recv()).await.unwrap(), "alive");
}

/// Carries packets between one client and `to` until it is cut. Where it is.
async fn relay(to: SocketAddr, cut: Arc<AtomicBool>) -> SocketAddr {
    let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
    let here = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut buffer, mut client) = ([0; 2048], None);
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let next = if from == to {
                client
            } else {
                client.replace(from);
                Some(to)
            };
            if let Some(next) = next.filter(|_| !cut.load(Ordering::Relaxed)) {
                socket.send_to(&buffer[..len], next).await.unwrap();
            }
        }
    });
    here
}

#[tokio::test]
async fn silence_ends_a_session_and_an_idle_one_is_not_silent() {
    let lab = Lab::new("lab");
    let (authority, edge) = pair(&lab, |setup| {
        setup.limits.dialled.idle_timeout = Duration::from_secs(1);
        setup.limits.accepted.idle_timeout = Duration::from_secs(1);
        setup.limits.dialled.keepalive = Duration::from_millis(250);
        setup.limits.accepted.keepalive = Duration::from_millis(250);
    });
    let cut = Arc::new(AtomicBool::new(false));
    let relay = relay(address(&authority), cut.clone()).await;
    let (here, there) = tokio::join!(authority.accept(), edge.dial(relay, ima()));
    let (here, there) = (here.unwrap(), there.unwrap());
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!((authority.stats().sessions, edge.stats().sessions), (1, 1));
    cut.store(true, Ordering::Relaxed);
    assert_eq!(soon(here.closed()).await, Closed::Silence);
    assert_eq!(soon(there.closed()).await, Closed::Silence);
}

/// Edges `a` and `b`, and where `a` finds `b`: nothing passes there while that is cut.
async fn edges(lab: &Lab) -> (Endpoint, Endpoint, Arc<AtomicBool>, SocketAddr) {
    let edge = |name| endpoint(lab.credentials(Role::Nve, name), &[Role::Nve], |_| ());
    let (a, b) = (edge("a"), edge("b"));
    let cut = Arc::new(AtomicBool::new(false));
    let relay = relay(address(&b), cut.clone()).await;
    (a, b, cut, relay)
}

/// Sessions between edges, as they are by default: what stands still for a second keeps its session,
/// what is gone is noticed soon enough to be whole within two; at both ends, whoever dialled.
#[tokio::test]
async fn edges_bear_a_second_of_silence_and_no_two() {
    let lab = Lab::new("lab");
    let (a, b, cut, relay) = edges(&lab).await;
    let name = lab.identity(Role::Nve, "b");
    let (here, there) = tokio::join!(b.accept(), a.dial(relay, Expect::Identity(name)));
    let (mut here, there) = (here.unwrap(), there.unwrap());
    for n in 0..4 {
        cut.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1000)).await;
        cut.store(false, Ordering::Relaxed);
        let word = Bytes::from(format!("{n}"));
        there.send(word.clone()).await.unwrap();
        assert_eq!(soon(here.recv()).await, Some(word));
        // Nothing is under way, so both wait for the next keepalive.
        tokio::time::sleep(Duration::from_millis(600 + n * 50)).await;
    }
    cut.store(true, Ordering::Relaxed);
    let since = Instant::now();
    let ends = [there.closed(), here.closed()].map(|closed| async move {
        assert_eq!(soon(closed).await, Closed::Silence);
        since.elapsed()
    });
    let [first, second] = ends;
    let (first, second) = tokio::join!(first, second);
    let Liveness {
        idle_timeout,
        keepalive,
    } = Liveness::SHORT;
    for took in [first, second] {
        let least = idle_timeout.checked_sub(keepalive).unwrap();
        assert!(
            took > least && took < Duration::from_millis(1850),
            "{took:?}"
        );
    }
}

/// Only one end has lost the session: the other learns of it with its next word, not by silence.
#[tokio::test]
async fn who_knows_of_no_session_says_so() {
    let lab = Lab::new("lab");
    let (a, b, cut, relay) = edges(&lab).await;
    let name = lab.identity(Role::Nve, "b");
    for at_dialler in [true, false] {
        let to = Expect::Identity(name.clone());
        let (here, there) = tokio::join!(b.accept(), a.dial(relay, to));
        let (here, there) = (here.unwrap(), there.unwrap());
        let (left, kept) = if at_dialler {
            (there, here)
        } else {
            (here, there)
        };
        // Its last word is lost.
        cut.store(true, Ordering::Relaxed);
        left.close("gone");
        tokio::time::sleep(Duration::from_millis(600)).await;
        cut.store(false, Ordering::Relaxed);
        let since = Instant::now();
        let how = soon(kept.closed()).await;
        let took = since.elapsed();
        assert!(took < Duration::from_millis(1000), "{took:?}: {how:?}");
    }
}

#[tokio::test]
async fn closing_an_endpoint_tells_everybody() {
    let lab = Lab::new("lab");
    let (authority, edge) = pair(&lab, |_| ());
    let (_here, there) = meet(&authority, &edge).await;
    authority.close("maintenance").await;
    assert_eq!(
        soon(there.closed()).await,
        Closed::Peer(Code::Shutdown, "maintenance".to_owned())
    );
    assert!(authority.accept().await.is_none());
    let error = authority.dial(address(&edge), ima()).await.unwrap_err();
    assert!(matches!(error, DialError::Impossible(_)), "{error}");
}
