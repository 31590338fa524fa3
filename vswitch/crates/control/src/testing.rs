//! What tests have in common: a CA in a temporary directory, certificates it should never have
//! issued, and a clock that is told.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
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
        let mut params = leaf(uris);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer()).unwrap().pem();
        let place = tempfile::tempdir_in(self.directory.path()).unwrap().keep();
        let files = Files::in_directory(&place);
        fs::write(&files.bundle, self.read("ca.pem")).unwrap();
        write(&files, &chain, &key);
        files
    }

    /// This CA, to sign with.
    pub(crate) fn issuer(&self) -> Issuer<'static, KeyPair> {
        let key = KeyPair::from_pem(&self.read("ca_key.pem")).unwrap();
        Issuer::from_ca_cert_pem(&self.read("ca.pem"), key).unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).unwrap()
    }
}

/// A certificate of whoever `uris` name, as it should be if that is one.
pub(crate) fn leaf(uris: &[&str]) -> CertificateParams {
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
    params
}

/// A certificate with those behind it, and its key, into their files.
pub(crate) fn write(files: &Files, chain: &str, key: &KeyPair) {
    fs::write(&files.key, key.serialize_pem()).unwrap();
    mode(&files.key, 0o600);
    fs::write(&files.chain, chain).unwrap();
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

/// How often bytes are in this process's memory, wherever it can be written: heap, stacks, registers saved
/// on them. What is looked for is given as the complement of its bytes, or it would find itself.
pub(crate) fn in_memory(complement: &[u8]) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let memory = fs::File::open("/proc/self/mem").unwrap();
    // What was read last must not be found when it is this buffer's turn.
    let mut part = zeroize::Zeroizing::new(vec![0_u8; 1 << 20]);
    let own = part.as_ptr() as u64;
    let own = own..own + part.len() as u64;
    let mut found = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (mut at, to) = (number(from), number(to));
        while at < to {
            let want = (to - at).min(part.len() as u64) as usize;
            // Some cannot be read by anybody.
            let Ok(n) = memory.read_at(&mut part[..want], at) else {
                break;
            };
            let places = part[..n].windows(complement.len()).enumerate();
            found += places
                .filter(|(i, bytes)| {
                    let same = bytes.iter().zip(complement).all(|(a, b)| *a == !*b);
                    same && !own.contains(&(at + *i as u64))
                })
                .count();
            let Some(next) = n.checked_sub(complement.len()).filter(|n| *n > 0) else {
                break;
            };
            at += next as u64 + 1;
        }
    }
    found
}

#[test]
fn the_clock_never_fails() {
    let before = Clock::new(|| UNIX_EPOCH - DAY);
    assert_eq!(before.now().as_secs(), 0);
}
