//! What the lab CA makes is what sessions take, and nothing it made is overwritten by accident.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use super::*;
use crate::testing::{DAY, Lab, load, mode};

fn bits(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_are_for_their_owner_alone_and_nothing_is_left_behind() {
    let lab = Lab::new("lab");
    let root = lab.directory.path();
    let files = lab.files(Role::Nve, "a");
    assert_eq!(bits(&root.join("ca_key.pem")), 0o600);
    assert_eq!(bits(&files.key), 0o600);
    assert_eq!(bits(files.key.parent().unwrap()), 0o700);
    let names = |place: &Path| {
        let mut names: Vec<String> = fs::read_dir(place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(root), ["ca.pem", "ca_key.pem", "issued.txt", "nve"]);
    assert_eq!(
        names(&root.join("nve/a")),
        ["bundle.pem", "svid.pem", "svid_key.pem"]
    );
}

#[test]
fn a_ca_is_never_replaced() {
    let lab = Lab::new("lab");
    let root = lab.directory.path();
    let key = fs::read(root.join("ca_key.pem")).unwrap();
    let domain = "lab".parse().unwrap();
    let error = Ca::init(root, &domain, DAY, SystemTime::now()).unwrap_err();
    assert!(matches!(error, PkiError::Exists(_)), "{error}");
    assert_eq!(fs::read(root.join("ca_key.pem")).unwrap(), key);
    let error = Ca::open(&root.join("no")).unwrap_err();
    assert!(
        matches!(error, PkiError::File(FileError::Unreadable(..))),
        "{error}"
    );
    mode(&root.join("ca_key.pem"), 0o644);
    let error = Ca::open(root).unwrap_err();
    assert!(
        matches!(error, PkiError::File(FileError::Permissions { .. })),
        "{error}"
    );
}

#[test]
fn certificates_are_issued_renewed_and_shown() {
    let lab = Lab::new("lab.example");
    let first = lab.credentials(Role::Nve, "a");
    let second = lab.credentials(Role::Nve, "a");
    assert_ne!(first.certificate().serial, second.certificate().serial);
    lab.files(Role::Operator, "eve");
    let again = Ca::open(lab.directory.path()).unwrap();
    assert_eq!(again.domain().as_str(), "lab.example");
    let issued: Vec<_> = again
        .issued()
        .unwrap()
        .into_iter()
        .map(|(_, found)| found)
        .collect();
    assert_eq!(issued.len(), 2);
    assert_eq!(issued[0], *second.certificate());
    assert_eq!(
        issued[1].identity.to_string(),
        "spiffe://lab.example/operator/eve"
    );
}

#[test]
fn nothing_outlives_the_ca_and_names_are_checked() {
    let lab = Lab::new("lab");
    let now = SystemTime::now();
    let files = lab.ca.issue(Role::Ima, "i", 365 * DAY, now).unwrap();
    let until = load(&files, Role::Ima).certificate().not_after.as_secs();
    let ca = (now + 30 * DAY)
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(until.abs_diff(ca) < 60, "{until} {ca}");
    let error = lab.ca.issue(Role::Nve, "a/b", DAY, now).unwrap_err();
    assert!(
        matches!(error, PkiError::Name(UriError::Name(_))),
        "{error}"
    );
    let error = lab
        .ca
        .issue(Role::Nve, "a", Duration::from_secs(1 << 50), now)
        .unwrap_err();
    assert!(matches!(error, PkiError::Validity(_)), "{error}");
    let error = lab
        .ca
        .issue(Role::Nve, "a", DAY, now + 31 * DAY)
        .unwrap_err();
    assert!(matches!(error, PkiError::Expired(_)), "{error}");
}

/// A name's renewals are all revoked with it, a later one is not, and nobody else.
#[test]
fn whoever_is_revoked_is_so_with_all_that_was_issued_to_it() {
    let lab = Lab::new("lab");
    let root = lab.directory.path();
    let now = SystemTime::now();
    let serial = |name: &str| {
        let files = lab.files(Role::Ima, name);
        load(&files, Role::Ima).certificate().serial.clone()
    };
    let (first, renewed, other) = (serial("one"), serial("one"), serial("two"));
    let ca = Ca::open(root).unwrap();
    assert!(ca.revoked().unwrap().is_empty());
    assert_eq!(ca.revoke(Role::Ima, "one", now).unwrap(), 2);
    let listed = ca.revoked().unwrap();
    assert!(listed.contains(&first) && listed.contains(&renewed) && !listed.contains(&other));
    // Once is enough; what is on the list stays there.
    assert_eq!(ca.revoke(Role::Ima, "one", now).unwrap(), 0);
    let later = serial("one");
    assert_eq!(ca.revoke(Role::Ima, "two", now).unwrap(), 1);
    let listed = ca.revoked().unwrap();
    assert_eq!(listed.len(), 3);
    assert!(!listed.contains(&later));
    // It lies beside all bundles, of those too that come later.
    let list = fs::read(root.join("crl.pem")).unwrap();
    lab.files(Role::Nve, "new");
    for place in ["ima/one", "ima/two", "nve/new"] {
        assert_eq!(fs::read(root.join(place).join("crl.pem")).unwrap(), list);
    }
    let error = ca.revoke(Role::Nve, "one", now).unwrap_err();
    assert!(matches!(error, PkiError::Unknown(_)), "{error}");
}
