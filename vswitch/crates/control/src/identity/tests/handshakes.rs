//! Whole handshakes, without a network: who gets in, who does not, and what both sides learn.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::{AlertDescription, ClientConfig, ClientConnection, Error, ServerConfig};
use rustls::{PeerIncompatible, ServerConnection};

use super::*;

fn connect(
    server: ServerConfig,
    client: ClientConfig,
) -> (Result<(), Error>, Result<(), Error>, ServerConnection) {
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let name = "192.0.2.1".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let (mut at_server, mut at_client) = (Ok(()), Ok(()));
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() && at_server.is_ok() {
            server.read_tls(&mut rest).unwrap();
            at_server = server.process_new_packets().map(|_| ());
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() && at_client.is_ok() {
            client.read_tls(&mut rest).unwrap();
            at_client = client.process_new_packets().map(|_| ());
        }
    }
    assert!(at_server.is_err() || at_client.is_err() || !server.is_handshaking());
    (at_server, at_client, server)
}

/// A handshake of two who expect something of each other: what each found.
pub(super) fn meet(
    server: (&Credentials, Expect),
    client: (&Credentials, Expect),
    denied: &Denied,
    clock: &Clock,
) -> [Option<Result<Identity, Refusal>>; 2] {
    let at_server = server.0.verifier(server.1, denied);
    let at_client = client.0.verifier(client.1, denied);
    let (one, two, _) = connect(
        tls::server(server.0, at_server.clone(), clock).unwrap(),
        tls::client(client.0, at_client.clone(), clock).unwrap(),
    );
    let found = [at_server, at_client].map(|verifier| {
        verifier
            .verdict()
            .cloned()
            .map(|found| found.map(|found| found.identity))
    });
    // A refusal is a failed handshake at both ends.
    let refused = found.iter().any(|found| !matches!(found, Some(Ok(_))));
    assert_eq!(refused, one.is_err() && two.is_err(), "{one:?} {two:?}");
    found
}

pub(super) fn roles(roles: &[Role]) -> Expect {
    Expect::Roles(roles.to_vec())
}

#[test]
fn nobody_passes_for_another_role() {
    let lab = Lab::new("lab");
    let (denied, clock) = (Denied::new(), Clock::system());
    // The same name in each role, so that nothing but the role tells them apart.
    let all = Role::ALL.map(|role| (role, lab.credentials(role, "same")));
    for (role, peer) in &all {
        for expected in Role::ALL {
            let own = &lab.credentials(Role::Nve, "other");
            // The one who dials has the role, and the one who accepts expects it; and the reverse.
            let [found, _] = meet(
                (own, roles(&[expected])),
                (peer, roles(&[Role::Nve])),
                &denied,
                &clock,
            );
            let [_, reverse] = meet(
                (peer, roles(&[Role::Nve])),
                (own, roles(&[expected])),
                &denied,
                &clock,
            );
            for found in [found, reverse] {
                let found = found.unwrap();
                if *role == expected {
                    assert_eq!(found.unwrap(), *peer.identity());
                } else {
                    assert!(
                        matches!(found, Err(Refusal::Unexpected { .. })),
                        "{found:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn of_a_role_only_the_expected_one_may_be_asked_for() {
    let lab = Lab::new("lab");
    let (denied, clock) = (Denied::new(), Clock::system());
    let [a, b] = ["a", "b"].map(|name| lab.credentials(Role::Nve, name));
    let expect = |name| Expect::Identity(lab.identity(Role::Nve, name));
    let [at_b, at_a] = meet(
        (&b, roles(&[Role::Nve])),
        (&a, expect("b")),
        &denied,
        &clock,
    );
    assert_eq!(
        [at_b.unwrap().unwrap(), at_a.unwrap().unwrap()],
        [a.identity().clone(), b.identity().clone()]
    );
    let [_, at_a] = meet(
        (&b, roles(&[Role::Nve])),
        (&a, expect("c")),
        &denied,
        &clock,
    );
    assert!(matches!(at_a, Some(Err(Refusal::Unexpected { .. }))));
}

#[test]
fn other_authorities_and_other_domains_are_refused() {
    let (lab, other) = (Lab::new("lab"), Lab::new("lab"));
    let (denied, clock) = (Denied::new(), Clock::system());
    let own = lab.credentials(Role::Nve, "a");
    let any = || roles(&Role::ALL);
    // The same domain by another CA.
    let false_one = other.credentials(Role::Nve, "b");
    let [at_own, _] = meet((&own, any()), (&false_one, any()), &denied, &clock);
    // The stranger, expecting his own CA, turns away first.
    assert_eq!(at_own, None);
    let [_, at_own] = meet((&false_one, any()), (&own, any()), &denied, &clock);
    assert!(
        matches!(at_own, Some(Err(Refusal::Untrusted(_)))),
        "{at_own:?}"
    );
    // Another domain by the same CA.
    let foreign = lab.forge(&["spiffe://other/nve/b"], |_| ());
    let foreign = load(&foreign, Role::Nve);
    let [_, at_own] = meet((&foreign, any()), (&own, any()), &denied, &clock);
    let wrong = |found: &Option<Result<_, Refusal>>| {
        matches!(
            found,
            Some(Err(Refusal::Certificate(
                CertificateError::OtherDomain { .. }
            )))
        )
    };
    assert!(wrong(&at_own), "{at_own:?}");
}

#[test]
fn a_certificate_counts_only_in_its_time_and_until_it_is_revoked() {
    let lab = Lab::new("lab");
    let denied = Denied::new();
    let (clock, ahead) = clock();
    let [a, b] = ["a", "b"].map(|name| lab.credentials(Role::Nve, name));
    let any = || roles(&[Role::Nve]);
    let at_client = || {
        meet((&b, any()), (&a, any()), &denied, &clock)[1]
            .clone()
            .unwrap()
    };
    assert_eq!(at_client().unwrap(), *b.identity());
    denied.deny(b.identity());
    assert_eq!(
        at_client().unwrap_err(),
        Refusal::Denied(b.identity().clone())
    );
    assert!(denied.allow(b.identity()) && at_client().is_ok());
    denied.deny_serial(&b.certificate().serial);
    assert_eq!(
        at_client().unwrap_err(),
        Refusal::Denied(b.identity().clone())
    );
    denied.allow_serial(&b.certificate().serial);
    at_client().unwrap();
    ahead.store(2 * DAY.as_secs(), Ordering::Relaxed);
    let expired = at_client().unwrap_err();
    assert_eq!(
        expired,
        CertificateError::Expired(b.certificate().not_after).into()
    );
}

#[test]
fn nobody_talks_to_themselves() {
    let lab = Lab::new("lab");
    let (denied, clock) = (Denied::new(), Clock::system());
    let own = lab.credentials(Role::Nve, "a");
    let any = || roles(&[Role::Nve]);
    let [_, at_client] = meet((&own, any()), (&own, any()), &denied, &clock);
    assert_eq!(at_client, Some(Err(Refusal::Ourselves)));
}

#[test]
fn without_the_hybrid_key_exchange_there_is_no_handshake() {
    let lab = Lab::new("lab");
    let (denied, clock) = (Denied::new(), Clock::system());
    let own = lab.credentials(Role::Nve, "a");
    let verifier = || own.verifier(roles(&[Role::Nve]), &denied);
    let mut classic = default_provider();
    classic.kx_groups = vec![kx_group::X25519];
    let classic = Arc::new(classic);

    let server = tls::server(&own, verifier(), &clock).unwrap();
    let client = ClientConfig::builder_with_provider(classic.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier())
        .with_client_cert_resolver(own.signer());
    let (at_server, at_client, _) = connect(server, client);
    let none = Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon);
    assert_eq!(at_server, Err(none));
    assert_eq!(
        at_client,
        Err(Error::AlertReceived(AlertDescription::HandshakeFailure))
    );

    let client = tls::client(&own, verifier(), &clock).unwrap();
    let server = ServerConfig::builder_with_provider(classic)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier())
        .with_cert_resolver(own.signer());
    let (at_server, at_client, _) = connect(server, client);
    assert!(
        at_server.is_err() && at_client.is_err(),
        "{at_server:?} {at_client:?}"
    );
}

#[test]
fn nothing_is_resumed_and_no_ticket_given() {
    let lab = Lab::new("lab");
    let (denied, clock) = (Denied::new(), Clock::system());
    let [own, peer] = ["a", "b"].map(|name| lab.credentials(Role::Nve, name));
    let verifier = |of: &Credentials| of.verifier(roles(&[Role::Nve]), &denied);
    let server = || tls::server(&own, verifier(&own), &clock).unwrap();
    let client = || tls::client(&peer, verifier(&peer), &clock).unwrap();
    assert_eq!(
        (server().send_tls13_tickets, server().max_early_data_size),
        (0, 0)
    );
    assert!(!client().enable_early_data && !client().enable_sni);
    // A client that would resume, from a store that outlives its first session.
    let store = rustls::client::Resumption::in_memory_sessions(4);
    for _ in 0..2 {
        let mut client = client();
        client.resumption = store.clone();
        let (at_server, at_client, server) = connect(server(), client);
        assert_eq!((at_server, at_client), (Ok(()), Ok(())));
        assert_eq!(server.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(server.alpn_protocol(), Some(tls::ALPN));
        let group = server.negotiated_key_exchange_group().unwrap();
        assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
    }
}
