//! A CA that is taken out of the bundle.

use super::*;
use std::fs;

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
