//! What tests have in common: a CA in a temporary directory, certificates it should never have
//! issued, and a clock that is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use tempfile::TempDir;

use crate::identity::{Clock, Credentials, Files, Identity, Role, TrustDomain};
use crate::pki::Ca;

pub(crate) const DAY: Duration = Duration::from_secs(86400);

/// A CA of its own.
pub(crate) struct Lab {
    pub(crate) directory: TempDir,
    pub(crate) ca: Ca,
}

impl Lab {
    pub(crate) fn new(domain: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let domain: TrustDomain = domain.parse().unwrap();
        let ca = Ca::init(directory.path(), &domain, 30 * DAY, SystemTime::now()).unwrap();
        Self { directory, ca }
    }

    pub(crate) fn files(&self, role: Role, name: &str) -> Files {
        self.ca.issue(role, name, DAY, SystemTime::now()).unwrap()
    }

    pub(crate) fn credentials(&self, role: Role, name: &str) -> Credentials {
        load(&self.files(role, name), role)
    }

    pub(crate) fn identity(&self, role: Role, name: &str) -> Identity {
        Identity::new(self.ca.domain(), role, name).unwrap()
    }

    /// A certificate for `uris`, made wrong by `change`, signed by this CA all the same.
    pub(crate) fn forge(
        &self,
        uris: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Files {
        let read = |name: &str| fs::read_to_string(self.directory.path().join(name)).unwrap();
        let ca_key = KeyPair::from_pem(&read("ca_key.pem")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), ca_key).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()))
            .collect();
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = (SystemTime::now() - Duration::from_secs(60)).into();
        params.not_after = (SystemTime::now() + DAY).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &issuer).unwrap().pem();
        let place = tempfile::tempdir_in(self.directory.path()).unwrap().keep();
        let files = Files::in_directory(&place);
        fs::write(&files.chain, chain).unwrap();
        fs::write(&files.bundle, read("ca.pem")).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        mode(&files.key, 0o600);
        files
    }
}

pub(crate) fn load(files: &Files, role: Role) -> Credentials {
    Credentials::load(files, role, Clock::system().now()).unwrap()
}

pub(crate) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A clock, and the seconds it is to be ahead of the system's.
pub(crate) fn clock() -> (Clock, Arc<AtomicU64>) {
    let ahead = Arc::new(AtomicU64::new(0));
    let told = ahead.clone();
    let now = move || SystemTime::now() + Duration::from_secs(told.load(Ordering::Relaxed));
    (Clock::new(now), ahead)
}

#[test]
fn the_clock_never_fails() {
    let before = Clock::new(|| UNIX_EPOCH - DAY);
    assert_eq!(before.now().as_secs(), 0);
}
