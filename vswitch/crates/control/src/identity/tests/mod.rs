//! Certificates and files that are wrong in one way each, renewal, and whole handshakes.

mod chain;
mod files;
mod handshakes;
mod renewal;

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::*;
use crate::testing::{DAY, Lab, clock, load, mode};

const URI: &str = "spiffe://lab/nve/a";

fn parse(files: &Files) -> Result<Certificate, CertificateError> {
    Certificate::parse(&CertificateDer::from_pem_file(&files.chain).unwrap())
}

#[test]
fn what_a_certificate_says_is_read() {
    let lab = Lab::new("lab");
    let files = lab.forge(&[URI], |params| {
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0xa1, 0x02, 0x03]));
        // Another kind of name beside the URI does not matter.
        params
            .subject_alt_names
            .push(SanType::DnsName("a.lab".try_into().unwrap()));
    });
    let certificate = parse(&files).unwrap();
    assert_eq!(certificate.identity, lab.identity(Role::Nve, "a"));
    assert_eq!(certificate.serial.to_string(), "a10203");
    assert_eq!("00:a1:02:03".parse(), Ok(certificate.serial.clone()));
    assert!("a10".parse::<Serial>().is_err() && "xy".parse::<Serial>().is_err());
    let now = Clock::system().now();
    certificate.check(lab.ca.domain(), now).unwrap();
    let left = certificate.remaining(now).as_secs();
    assert!((86390..=86400).contains(&left), "{left}");
}

#[test]
fn each_fault_of_a_certificate_has_its_own_error() {
    use CertificateError as E;
    let lab = Lab::new("lab");
    let parsed = |uris: &[&str]| parse(&lab.forge(uris, |_| ())).unwrap_err();
    assert_eq!(parsed(&[]), E::NoUri);
    assert_eq!(parsed(&[URI, "https://lab/"]), E::SeveralUris(2));
    assert!(matches!(
        parsed(&["spiffe://lab/root/a"]),
        E::Uri(UriError::Role(_))
    ));
    assert!(matches!(
        parsed(&["spiffe://lab/nve/.."]),
        E::Uri(UriError::Name(_))
    ));
    assert!(matches!(
        parsed(&["spiffe://lab"]),
        E::Uri(UriError::Shape(_))
    ));
    assert_eq!(Certificate::parse(b"0"), Err(E::Malformed));

    let ca = lab.forge(&[URI], |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    });
    assert_eq!(parse(&ca), Err(E::Ca));
    let usage = |usages: &[KeyUsagePurpose]| {
        parse(&lab.forge(&[URI], |params| params.key_usages = usages.to_vec()))
    };
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyAgreement};
    for wrong in [&[][..], &[KeyAgreement], &[DigitalSignature, CrlSign]] {
        assert!(matches!(usage(wrong), Err(E::Usage(_))), "{wrong:?}");
    }
    let extended = |usages: &[ExtendedKeyUsagePurpose]| {
        parse(&lab.forge(&[URI], |params| {
            params.extended_key_usages = usages.to_vec()
        }))
    };
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    assert!(matches!(extended(&[ClientAuth]), Err(E::Usage(_))));
    assert!(matches!(extended(&[ServerAuth]), Err(E::Usage(_))));
    // None at all restricts nothing (X509-SVID, section 4.4).
    extended(&[]).unwrap();
}

#[test]
fn domain_and_validity_are_checked() {
    use CertificateError as E;
    let lab = Lab::new("lab");
    let certificate = parse(&lab.forge(&[URI], |_| ())).unwrap();
    let now = Clock::system().now();
    let other = "other".parse().unwrap();
    assert!(matches!(
        certificate.check(&other, now),
        Err(E::OtherDomain { .. })
    ));
    let own = lab.ca.domain();
    let (first, last) = (certificate.not_before, certificate.not_after);
    certificate.check(own, first).unwrap();
    certificate.check(own, last).unwrap();
    let later = |time: rustls_pki_types::UnixTime, by: i64| {
        let seconds = time.as_secs().checked_add_signed(by).unwrap();
        rustls_pki_types::UnixTime::since_unix_epoch(core::time::Duration::from_secs(seconds))
    };
    assert_eq!(
        certificate.check(own, later(last, 1)),
        Err(E::Expired(last))
    );
    assert_eq!(
        certificate.check(own, later(first, -1)),
        Err(E::NotYetValid(first))
    );
}

proptest::proptest! {
    /// Whatever somebody sends as a certificate, it is read or refused.
    #[test]
    fn broken_certificates_are_refused_and_nothing_worse(
        changes in proptest::collection::vec((0..2000_usize, proptest::num::u8::ANY), 1..6),
        cut in 0..2000_usize,
    ) {
        static GOOD: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let good = GOOD.get_or_init(|| {
            let lab = Lab::new("lab");
            CertificateDer::from_pem_file(&lab.files(Role::Nve, "a").chain).unwrap().to_vec()
        });
        let mut changed = good.clone();
        for (place, byte) in changes {
            let place = place % changed.len();
            changed[place] = byte;
        }
        changed.truncate(cut.max(1));
        let whole = changed.len() == good.len();
        let read = Certificate::parse(&changed);
        proptest::prop_assert!(whole || read.is_err());
        if let Ok(read) = read {
            // It may name somebody else (that is for the signature), but never nobody.
            proptest::prop_assert!(read.identity.to_string().starts_with("spiffe://"));
        }
    }
}
