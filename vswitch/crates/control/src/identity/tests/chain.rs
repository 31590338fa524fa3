//! A CA between the one in the bundle and the certificate, as SPIRE's with an UpstreamAuthority: the
//! certificate's file holds both, the bundle the root alone.

use std::fs;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::UnixTime;

use super::handshakes::{meet, roles};
use super::renewal::until;
use super::*;
use crate::testing::{leaf, write};

/// A CA that the lab's has signed, and its certificate.
struct Middle {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Middle {
    fn new(lab: &Lab, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = leaf(&["spiffe://lab"]);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages.clear();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &lab.issuer()).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate of `uri` in `files`, this CA's behind it.
    fn issue(&self, files: &Files, uri: &str) {
        let key = KeyPair::generate().unwrap();
        let own = leaf(&[uri]).signed_by(&key, &self.issuer).unwrap().pem();
        write(files, &format!("{own}{}", self.pem), &key);
    }
}

fn load_now(files: &Files) -> Result<Credentials, CredentialsError> {
    Credentials::load(files, Role::Nve, Clock::system().now())
}

#[test]
fn sessions_are_as_with_any_other_certificate() {
    let lab = Lab::new("lab");
    let (denied, clock) = (Denied::new(), Clock::system());
    let files = lab.forge(&[URI], |_| ());
    Middle::new(&lab, "one", |_| ()).issue(&files, URI);
    let own = load_now(&files).unwrap();
    // With one of the root's, and one of another CA beside the first; each dials each.
    let direct = lab.credentials(Role::Nve, "b");
    let other = lab.forge(&["spiffe://lab/nve/c"], |_| ());
    Middle::new(&lab, "two", |_| ()).issue(&other, "spiffe://lab/nve/c");
    let other = load_now(&other).unwrap();
    let any = || roles(&[Role::Nve]);
    for peer in [&direct, &other] {
        for (one, two) in [(&own, peer), (peer, &own)] {
            let found = meet((one, any()), (two, any()), &denied, &clock);
            let found = found.map(|found| found.unwrap().unwrap());
            assert_eq!(found, [two.identity().clone(), one.identity().clone()]);
        }
    }
    // Whoever is denied is so by name, whichever CA.
    denied.deny(own.identity());
    let [found, _] = meet((&direct, any()), (&own, any()), &denied, &clock);
    assert_eq!(found, Some(Err(Refusal::Denied(own.identity().clone()))));
}

#[test]
fn each_link_counts() {
    let lab = Lab::new("lab");
    let files = lab.forge(&[URI], |_| ());
    let chain = |error| matches!(error, Err(CredentialsError::Chain { .. }));
    let middle = Middle::new(&lab, "one", |_| ());
    middle.issue(&files, URI);
    let whole = fs::read_to_string(&files.chain).unwrap();
    let good = load_now(&files).unwrap();
    // Without it, and in the wrong order.
    let end = "-----END CERTIFICATE-----\n";
    let (own, rest) = whole.split_at(whole.find(end).unwrap() + end.len());
    fs::write(&files.chain, own).unwrap();
    assert!(chain(load_now(&files)));
    fs::write(&files.chain, format!("{rest}{own}")).unwrap();
    let swapped = load_now(&files).unwrap_err();
    assert!(
        matches!(
            swapped,
            CredentialsError::Leaf {
                error: CertificateError::Ca,
                ..
            }
        ),
        "{swapped}"
    );
    // A CA in between that may not be one, that is too old, or another's.
    Middle::new(&lab, "no CA", |params| params.is_ca = IsCa::ExplicitNoCa).issue(&files, URI);
    assert!(chain(load_now(&files)));
    let old = |params: &mut CertificateParams| {
        params.not_after = (SystemTime::now() - Duration::from_secs(1)).into();
    };
    Middle::new(&lab, "old", old).issue(&files, URI);
    assert!(chain(load_now(&files)));
    Middle::new(&Lab::new("lab"), "one", |_| ()).issue(&files, URI);
    assert!(chain(load_now(&files)));

    // Of a session that stands: as long as the chain leads to the bundle.
    let ders = |text: &str| -> Vec<CertificateDer<'static>> {
        let all = CertificateDer::pem_slice_iter(text.as_bytes());
        all.map(Result::unwrap).collect()
    };
    let now = Clock::system().now();
    assert!(good.trusts(&ders(&whole), now));
    assert!(!good.trusts(&ders(own), now));
    let later = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + 2 * DAY);
    assert!(!good.trusts(&ders(&whole), later));
    let stranger = Lab::new("lab").credentials(Role::Nve, "a");
    assert!(!stranger.trusts(&ders(&whole), now));
}

#[test]
fn a_ca_in_between_can_be_revoked() {
    let lab = Lab::new("lab");
    let (denied, clock) = (Denied::new(), Clock::system());
    let serial = SerialNumber::from_slice(&[0x42, 7]);
    let set = |params: &mut CertificateParams| params.serial_number = Some(serial.clone());
    let peer = lab.forge(&[URI], |_| ());
    Middle::new(&lab, "one", set).issue(&peer, URI);
    let peer = load_now(&peer).unwrap();
    let own = lab.files(Role::Nve, "b");
    let any = || roles(&[Role::Nve]);
    let met = |own: &Credentials| meet((own, any()), (&peer, any()), &denied, &clock)[0].clone();
    assert_eq!(
        met(&load_now(&own).unwrap()),
        Some(Ok(peer.identity().clone()))
    );
    let now = SystemTime::now();
    let list = CertificateRevocationListParams {
        this_update: now.into(),
        next_update: (now + DAY).into(),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: serial.clone(),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&lab.issuer()).unwrap().pem().unwrap();
    fs::write(own.bundle.with_file_name("crl.pem"), list).unwrap();
    let refused = Refusal::Revoked(peer.identity().clone());
    assert_eq!(met(&load_now(&own).unwrap()), Some(Err(refused)));
}

#[tokio::test]
async fn a_renewal_under_another_ca_is_taken_and_half_a_chain_is_not() {
    let lab = Lab::new("lab");
    let files = lab.forge(&[URI], |_| ());
    Middle::new(&lab, "one", |_| ()).issue(&files, URI);
    let watcher = Watcher::start(files.clone(), Role::Nve, Clock::system()).unwrap();
    let first = watcher.current();
    Middle::new(&lab, "two", |_| ()).issue(&files, URI);
    until("a renewal is taken", || !watcher.current().same(&first)).await;
    let second = watcher.current();
    let whole = fs::read_to_string(&files.chain).unwrap();
    let half = whole.split_inclusive("-----END CERTIFICATE-----\n").next();
    fs::write(&files.chain, half.unwrap()).unwrap();
    until("half a chain is reported", || {
        watcher.status().problem.is_some()
    })
    .await;
    let problem = watcher.status().problem.unwrap().to_string();
    assert!(problem.contains("does not lead to a CA"), "{problem}");
    assert!(watcher.current().same(&second));
}
