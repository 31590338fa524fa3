//! A CA that is taken out of the bundle, and certificates that a CA takes back.

use super::*;
use std::fs;
use std::time::SystemTime;

use crate::identity::Files;
use crate::pki::Ca;

/// Whoever it let in is out, and comes not again; the others stay, and so does who begins anew.
#[tokio::test]
async fn a_ca_that_is_no_longer_trusted_ends_the_sessions_it_let_in() {
    let (old, new) = (Lab::new("lab"), Lab::new("lab"));
    let both = [&old, &new].map(|lab| fs::read(lab.directory.path().join("ca.pem")).unwrap());
    let (both, alone) = (both.concat(), both[1].clone());
    let with = |lab: &Lab, role, name: &str, bundle: &[u8]| {
        let files = lab.files(role, name);
        fs::write(&files.bundle, bundle).unwrap();
        load(&files, role)
    };
    let ours = with(&new, Role::Ima, "i", &both);
    let (publish, credentials) = tokio::sync::watch::channel(Arc::new(ours));
    let authority = Endpoint::bind(LOOPBACK, Setup::new(credentials, &[Role::Nve])).unwrap();
    let one = endpoint(with(&old, Role::Nve, "one", &both), &[], |_| ());
    let two = endpoint(with(&new, Role::Nve, "two", &both), &[], |_| ());
    let (_ours_one, mut of_one) = meet(&authority, &one).await;
    let (_ours_two, of_two) = meet(&authority, &two).await;
    // Renewed, and all CAs as before: nobody is sent away.
    publish.send_replace(Arc::new(with(&new, Role::Ima, "i", &both)));
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(authority.stats().sessions, 2);
    publish.send_replace(Arc::new(with(&new, Role::Ima, "i", &alone)));
    assert_eq!(soon(of_one.recv()).await, None);
    assert!(
        matches!(of_one.closed().await, Closed::Peer(Code::Untrusted, _)),
        "{:?}",
        of_one.closed().await
    );
    let stats = authority.stats();
    assert_eq!((stats.closed_untrusted, stats.sessions), (1, 1));
    assert!(dial(&one, &authority, ima()).await.is_err());
    // The other one is served as before.
    let again = endpoint(with(&new, Role::Nve, "three", &both), &[], |_| ());
    let (_ours, _theirs) = meet(&authority, &again).await;
    assert_eq!(authority.stats().sessions, 2);
    drop(of_two);
}

/// A server's key was stolen. Where the CA's list is, its sessions end, it is not dialled and does not dial, and
/// the server of the same name is served again as soon as it has another certificate.
#[tokio::test]
async fn a_stolen_certificate_is_out_where_the_cas_list_is() {
    let lab = Lab::new("lab");
    let stolen = lab.files(Role::Ima, "one");
    let server = |files: &Files| {
        let setup = Setup::new(load(files, Role::Ima).fixed(), &[Role::Nve]);
        Endpoint::bind(LOOPBACK, setup).unwrap()
    };
    let (thief, other) = (server(&stolen), server(&lab.files(Role::Ima, "two")));
    let files = lab.files(Role::Nve, "edge");
    let (publish, credentials) = tokio::sync::watch::channel(Arc::new(load(&files, Role::Nve)));
    let edge = Endpoint::bind(LOOPBACK, Setup::new(credentials, &[])).unwrap();
    let (_his, mut with_thief) = meet(&thief, &edge).await;
    let (_its, _with_other) = meet(&other, &edge).await;

    let ca = Ca::open(lab.directory.path()).unwrap();
    assert_eq!(ca.revoke(Role::Ima, "one", SystemTime::now()).unwrap(), 1);
    // What lies beside the bundle of every identity here.
    publish.send_replace(Arc::new(load(&files, Role::Nve)));
    assert_eq!(soon(with_thief.recv()).await, None);
    let stats = edge.stats();
    assert_eq!((stats.closed_untrusted, stats.sessions), (1, 1));
    let refused = edge.dial(thief.local_address().unwrap(), ima()).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("spiffe://lab/ima/one is revoked"),
        "{refused}"
    );
    // Nor is he let in where servers may dial.
    let door = endpoint(load(&files, Role::Nve), &[Role::Ima], |_| ());
    assert!(
        dial(&thief, &door, Expect::Roles(vec![Role::Nve]))
            .await
            .is_err()
    );

    let again = server(&lab.files(Role::Ima, "one"));
    let (_ours, _with_again) = meet(&again, &edge).await;
    assert_eq!(edge.stats().sessions, 2);
}
