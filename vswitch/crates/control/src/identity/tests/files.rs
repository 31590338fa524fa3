//! Credentials from files: what is wrong is said with the file's name.

use std::fs;
use std::time::SystemTime;

use super::*;

fn refused(files: &Files, role: Role) -> CredentialsError {
    Credentials::load(files, role, Clock::system().now()).unwrap_err()
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let lab = Lab::new("lab");
    let files = lab.files(Role::Nve, "a");
    load(&files, Role::Nve);
    for (bits, what) in [
        (0o640, "read"),
        (0o604, "read"),
        (0o620, "written"),
        (0o601, "used"),
    ] {
        mode(&files.key, bits);
        let error = refused(&files, Role::Nve).to_string();
        let advice = format!("chmod 0600 {}", files.key.display());
        assert!(error.contains(what) && error.contains(&advice), "{error}");
    }
    mode(&files.key, 0o400);
    load(&files, Role::Nve);
    // Who can write the bundle decides whom we trust.
    mode(&files.bundle, 0o664);
    let error = refused(&files, Role::Nve);
    assert!(
        matches!(&error, CredentialsError::File(FileError::Permissions { what, .. }) if *what == "written")
    );
}

#[test]
fn each_fault_of_the_files_has_its_own_error() {
    use CredentialsError as E;
    let lab = Lab::new("lab");
    let files = lab.files(Role::Nve, "a");
    let other = lab.files(Role::Nve, "b");
    let ima = lab.files(Role::Ima, "a");
    let with = |change: &dyn Fn(&mut Files)| {
        let mut files = files.clone();
        change(&mut files);
        refused(&files, Role::Nve)
    };
    assert!(matches!(
        with(&|f| f.key = other.key.clone()),
        E::Mismatch { .. }
    ));
    assert!(matches!(
        with(&|f| f.key = f.key.with_extension("no")),
        E::File(FileError::Unreadable(..))
    ));
    assert!(matches!(
        with(&|f| f.key = lab.directory.path().to_owned()),
        E::File(FileError::NotAFile(_))
    ));
    assert!(matches!(with(&|f| f.bundle = f.chain.clone()), E::NoCa(_)));
    assert!(matches!(
        with(&|f| f.chain = f.bundle.clone()),
        E::Leaf {
            error: CertificateError::Ca,
            ..
        }
    ));
    assert!(matches!(with(&|f| f.chain = f.key.clone()), E::Pem { .. }));
    assert!(matches!(refused(&ima, Role::Nve), E::Role { .. }));
    let elsewhere = Lab::new("lab").files(Role::Nve, "a");
    let error = with(&|f| f.bundle = elsewhere.bundle.clone());
    assert!(
        matches!(error, E::File(FileError::Unreadable(..))),
        "its directory is gone: {error}"
    );
    let elsewhere = Lab::new("lab");
    let bundle = elsewhere.files(Role::Nve, "a").bundle;
    let error = with(&|f| f.bundle = bundle.clone());
    assert!(
        matches!(&error, E::Chain { why, .. } if why.contains("another key")),
        "{error}"
    );
    fs::write(&files.key, "").unwrap();
    assert!(matches!(refused(&files, Role::Nve), E::Pem { .. }));
}

#[test]
fn what_has_expired_is_told_apart() {
    let lab = Lab::new("lab");
    let files = lab.files(Role::Nve, "a");
    let load = |ahead| {
        let clock = Clock::new(move || SystemTime::now() + ahead);
        Credentials::load(&files, Role::Nve, clock.now()).unwrap_err()
    };
    let leaf = load(2 * DAY);
    assert!(
        matches!(
            &leaf,
            CredentialsError::Leaf {
                error: CertificateError::Expired(_),
                ..
            }
        ),
        "{leaf}"
    );
    // The leaf outlives its CA, and a root's age is not looked at by the TLS library.
    let long = lab.forge(&[URI], |params| {
        params.not_after = (SystemTime::now() + 90 * DAY).into()
    });
    let later = Clock::new(|| SystemTime::now() + 60 * DAY).now();
    let error = Credentials::load(&long, Role::Nve, later).unwrap_err();
    assert!(matches!(error, CredentialsError::StaleBundle(_)), "{error}");
}

#[test]
fn names_that_spire_gives_its_files_are_found() {
    let lab = Lab::new("lab");
    let files = lab.files(Role::Nve, "a");
    let place = files.chain.parent().unwrap();
    assert_eq!(Files::in_directory(place), files);
    for [chain, key, bundle] in [
        ["svid.pem", "svid_key.pem", "svid_bundle.pem"],
        ["svid.0.pem", "svid.0.key", "bundle.0.pem"],
    ] {
        let other = tempfile::tempdir().unwrap();
        fs::copy(&files.chain, other.path().join(chain)).unwrap();
        fs::copy(&files.key, other.path().join(key)).unwrap();
        fs::copy(&files.bundle, other.path().join(bundle)).unwrap();
        load(&Files::in_directory(other.path()), Role::Nve);
    }
}

#[test]
fn nothing_of_the_key_is_shown() {
    let lab = Lab::new("lab");
    let credentials = lab.credentials(Role::Nve, "a");
    let shown = format!("{credentials:?}");
    assert!(
        shown.contains("spiffe://lab/nve/a") && !shown.contains("key"),
        "{shown}"
    );
}

/// A list that is not of the bundle's CA, or none, or that others may write, is not taken, and without it nobody
/// begins; one's own name on it is said and no reason not to begin.
#[test]
fn a_list_of_revoked_certificates_is_what_it_says() {
    let (lab, other) = (Lab::new("lab"), Lab::new("lab"));
    let files = lab.files(Role::Nve, "a");
    let list = files.bundle.with_file_name("crl.pem");
    let refused = || Credentials::load(&files, Role::Nve, Clock::system().now()).unwrap_err();
    for lab in [&lab, &other] {
        lab.files(Role::Ima, "one");
        let ca = crate::pki::Ca::open(lab.directory.path()).unwrap();
        ca.revoke(Role::Ima, "one", SystemTime::now()).unwrap();
    }
    load(&files, Role::Nve);
    // The same name, another key.
    let theirs = fs::read(other.directory.path().join("crl.pem")).unwrap();
    fs::write(&list, theirs).unwrap();
    assert!(
        matches!(refused(), CredentialsError::List { .. }),
        "{}",
        refused()
    );
    fs::write(&list, "nothing").unwrap();
    assert!(
        matches!(refused(), CredentialsError::Pem { .. }),
        "{}",
        refused()
    );
    fs::copy(lab.directory.path().join("crl.pem"), &list).unwrap();
    mode(&list, 0o666);
    let permissions = |error: &CredentialsError| {
        matches!(error, CredentialsError::File(FileError::Permissions { .. }))
    };
    assert!(permissions(&refused()), "{}", refused());
    mode(&list, 0o644);
    let ca = crate::pki::Ca::open(lab.directory.path()).unwrap();
    ca.revoke(Role::Nve, "a", SystemTime::now()).unwrap();
    load(&files, Role::Nve);
}
