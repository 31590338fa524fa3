//! Who gets no session, in either direction, and what both sides know of it.

use std::sync::atomic::Ordering;

use rustls::crypto::aws_lc_rs::{default_provider, kx_group};

use super::*;

/// Dials, and what came of it at both ends.
async fn refused(from: &Endpoint, to: &Endpoint, expect: Expect) -> (DialError, Stats) {
    let error = dial(from, to, expect).await.unwrap_err();
    until("the handshake is given up", || to.stats().half_open == 0).await;
    assert_eq!((from.stats().sessions, to.stats().sessions), (0, 0));
    assert_eq!((from.stats().established, to.stats().established), (0, 0));
    (error, to.stats())
}

#[tokio::test]
async fn no_role_passes_for_another_at_either_end() {
    let lab = Lab::new("lab");
    for accepts in Role::ALL {
        let server = endpoint(lab.credentials(Role::Ima, "server"), &[accepts], |_| ());
        for role in Role::ALL {
            let client = endpoint(lab.credentials(role, "client"), &[], |_| ());
            if role == accepts {
                let (here, there) = tokio::join!(server.accept(), dial(&client, &server, ima()));
                assert_eq!(here.unwrap().peer().role(), role);
                there.unwrap();
                continue;
            }
            let before = server.stats().failed_identity;
            let error = dial(&client, &server, ima()).await.unwrap_err();
            let told = "the peer does not talk to our role, name or trust domain";
            assert_eq!(
                error,
                DialError::Closed(Closed::Transport(told.to_owned())),
                "{role}"
            );
            until("it is counted", || {
                server.stats().failed_identity == before + 1
            })
            .await;
        }
    }
    for is in Role::ALL {
        let server = endpoint(lab.credentials(is, "server"), &[Role::Nve], |_| ());
        let client = endpoint(lab.credentials(Role::Nve, "client"), &[], |_| ());
        for expected in Role::ALL.into_iter().filter(|expected| *expected != is) {
            let (error, _) = refused(&client, &server, Expect::Roles(vec![expected])).await;
            assert!(
                matches!(error, DialError::Refused(Refusal::Unexpected { .. })),
                "{error}"
            );
        }
        let other = Expect::Identity(lab.identity(is, "another"));
        let (error, _) = refused(&client, &server, other).await;
        assert!(
            matches!(error, DialError::Refused(Refusal::Unexpected { .. })),
            "{error}"
        );
        assert_eq!(client.stats().failed_identity, 3);
    }
}

#[tokio::test]
async fn other_authorities_are_refused_at_either_end() {
    let (lab, other) = (Lab::new("lab"), Lab::new("lab"));
    let server = endpoint(lab.credentials(Role::Ima, "i"), &[Role::Nve], |_| ());
    let stranger = endpoint(other.credentials(Role::Nve, "a"), &[], |_| ());
    let (error, _) = refused(&stranger, &server, ima()).await;
    assert!(
        matches!(error, DialError::Refused(Refusal::Untrusted(_))),
        "{error}"
    );

    // One who trusts our CA as well, but has a certificate of another.
    let files = other.files(Role::Nve, "a");
    let mut bundle = std::fs::read_to_string(&files.bundle).unwrap();
    bundle += &std::fs::read_to_string(lab.directory.path().join("ca.pem")).unwrap();
    std::fs::write(&files.bundle, bundle).unwrap();
    let stranger = endpoint(load(&files, Role::Nve), &[], |_| ());
    let (error, stats) = refused(&stranger, &server, ima()).await;
    let told = "the peer does not trust the CA of our certificate";
    assert_eq!(error, DialError::Closed(Closed::Transport(told.to_owned())));
    assert_eq!(stats.failed_untrusted, 1);
}

#[tokio::test]
async fn an_expired_certificate_gets_no_session() {
    let lab = Lab::new("lab");
    let (clock, ahead) = clock();
    let (authority, edge) = pair(&lab, |setup| setup.clock = clock.clone());
    drop(meet(&authority, &edge).await);
    ahead.store(2 * DAY.as_secs(), Ordering::Relaxed);
    let error = dial(&edge, &authority, ima()).await.unwrap_err();
    assert!(
        matches!(error, DialError::Refused(Refusal::Certificate(_))),
        "{error}"
    );

    // The authority's own is good for longer: it finds the edge's expired.
    let files = lab
        .ca
        .issue(Role::Ima, "i", 20 * DAY, std::time::SystemTime::now())
        .unwrap();
    let authority = endpoint(load(&files, Role::Ima), &[Role::Nve], |setup| {
        setup.clock = clock.clone()
    });
    let (error, stats) = refused_after(&edge, &authority).await;
    let told = "the peer says our certificate has expired, or is not valid yet";
    assert_eq!(error, DialError::Closed(Closed::Transport(told.to_owned())));
    assert_eq!(stats.failed_certificate, 1);
}

async fn refused_after(from: &Endpoint, to: &Endpoint) -> (DialError, Stats) {
    let error = dial(from, to, ima()).await.unwrap_err();
    until("the handshake is given up", || to.stats().half_open == 0).await;
    (error, to.stats())
}

#[tokio::test]
async fn a_peer_without_the_hybrid_key_exchange_gets_no_session() {
    let lab = Lab::new("lab");
    let (authority, _edge) = pair(&lab, |_| ());
    let mut classic = default_provider();
    classic.kx_groups = vec![kx_group::X25519];
    let nve = lab.credentials(Role::Nve, "a");
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(classic))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(nve.verifier(ima(), &Denied::new()))
        .with_no_client_auth();
    tls.alpn_protocols = vec![tls::ALPN.to_vec()];
    let config = transport::client(
        tls,
        transport::transport(&Limits::default(), Liveness::LONG, 0).unwrap(),
    );
    let quinn = quinn::Endpoint::client(LOOPBACK).unwrap();
    let connecting = quinn
        .connect_with(config.unwrap(), address(&authority), "192.0.2.1")
        .unwrap();
    let closed = Closed::from(soon(connecting).await.unwrap_err());
    let told = "the peer has no key exchange in common with us (X25519MLKEM768)";
    assert_eq!(closed, Closed::Transport(told.to_owned()));
    until("it is counted", || {
        authority.stats().failed_negotiation == 1
    })
    .await;
}

#[tokio::test]
async fn a_peer_of_another_protocol_gets_no_session() {
    let lab = Lab::new("lab");
    let (authority, _edge) = pair(&lab, |_| ());
    let nve = lab.credentials(Role::Nve, "a");
    let clock = crate::identity::Clock::system();
    let mut tls = tls::client(&nve, nve.verifier(ima(), &Denied::new()), &clock).unwrap();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let config = transport::client(
        tls,
        transport::transport(&Limits::default(), Liveness::LONG, 0).unwrap(),
    );
    let quinn = quinn::Endpoint::client(LOOPBACK).unwrap();
    let connecting = quinn
        .connect_with(config.unwrap(), address(&authority), "192.0.2.1")
        .unwrap();
    let closed = Closed::from(soon(connecting).await.unwrap_err());
    assert_eq!(
        closed,
        Closed::Transport("the peer speaks another protocol".to_owned())
    );
}

#[tokio::test]
async fn who_only_dials_answers_nobody() {
    let lab = Lab::new("lab");
    let (_authority, edge) = pair(&lab, |_| ());
    let quick = |setup: &mut Setup| setup.limits.handshake_timeout = Duration::from_millis(400);
    let other = endpoint(lab.credentials(Role::Nve, "b"), &[], quick);
    let expect = Expect::Identity(lab.identity(Role::Nve, "a"));
    assert_eq!(
        dial(&other, &edge, expect).await.unwrap_err(),
        DialError::Timeout
    );
    assert_eq!(
        (edge.stats().initials, other.stats().failed_timeout),
        (0, 1)
    );
}
