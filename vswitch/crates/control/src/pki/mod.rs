//! A CA for the laboratory and for a handful of hosts: one key in a directory, and certificates
//! with SPIFFE URIs issued below it. For more than that there is SPIRE, whose files look the same.
//!
//! `<dir>/ca.pem` and `<dir>/ca_key.pem` are the CA's; each identity has a directory
//! `<dir>/<role>/<name>` of its own with `svid.pem`, `svid_key.pem` and `bundle.pem`, which is what
//! goes to its host. `<dir>/issued.txt` says what was issued to whom, `<dir>/crl.pem` what of it is revoked.

mod revocation;
mod store;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::identity::files::{FileError, Files, Guard, quoted, read};
use crate::identity::{Certificate, CertificateError, Identity, Role, TrustDomain, UriError};

/// Certificates count from a little before they are made: hosts' clocks differ.
pub const BACKDATED: Duration = Duration::from_secs(300);

/// Why the lab CA did not do it.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// It would be replaced, and all it issued would be worthless.
    #[error(
        "{0} is there already: this directory has a CA; issue from it, or name another directory"
    )]
    Exists(String),
    /// No CA here.
    #[error("{0} holds no CA of `vswitchctl pki init`: {1}")]
    NoCa(String, String),
    /// A file cannot be read, or others can.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file cannot be written.
    #[error("{0} cannot be written: {1}")]
    Write(String, std::io::Error),
    /// A bad name.
    #[error(transparent)]
    Name(#[from] UriError),
    /// A validity that is none, or too far ahead for a certificate.
    #[error("a certificate cannot be valid for {0:?}")]
    Validity(Duration),
    /// The CA's own time is over.
    #[error("the CA in {0} has expired; make a new one in another directory")]
    Expired(String),
    /// A certificate in the directory is none.
    #[error("{0}: {1}")]
    Certificate(String, CertificateError),
    /// Nobody's name.
    #[error("nothing was issued to {0} here")]
    Unknown(Identity),
    /// Its own list of what was revoked.
    #[error("{0} is no list of revoked certificates in PEM")]
    List(String),
    /// Key or signature could not be made.
    #[error("the certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// The lab CA of one directory.
pub struct Ca {
    directory: PathBuf,
    domain: TrustDomain,
    not_after: OffsetDateTime,
    pem: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes a CA for `domain` in `directory` (made with mode 0700 if it is not there).
    ///
    /// # Errors
    /// When there is one already, or files cannot be written.
    pub fn init(
        directory: &Path,
        domain: &TrustDomain,
        validity: Duration,
        now: SystemTime,
    ) -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = params(&format!("spiffe://{domain}"), validity, now)?;
        let name = format!("vswitch lab CA of {domain}");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = false;
        let pem = params.self_signed(&key)?.pem();
        let text = Zeroizing::new(key.serialize_pem());

        store::directory(directory)?;
        // The key first: without a certificate beside it nobody takes it for a CA.
        store::create(&directory.join("ca_key.pem"), text.as_bytes(), 0o600)?;
        store::create(&directory.join("ca.pem"), pem.as_bytes(), 0o644)?;
        Self::open(directory)
    }

    /// The CA that is in `directory`.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(directory: &Path) -> Result<Self, PkiError> {
        let no_ca = |why: &str| PkiError::NoCa(quoted(directory), why.to_owned());
        let pem = read(&directory.join("ca.pem"), Guard::Trusted)?;
        let key = read(&directory.join("ca_key.pem"), Guard::Secret)?;
        let der = CertificateDer::from_pem_slice(&pem).map_err(|_| no_ca("ca.pem is no PEM"))?;
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|_| no_ca("ca.pem is no certificate"))?;
        let domain = domain(&parsed).ok_or_else(|| no_ca("ca.pem names no trust domain"))?;
        let not_after = parsed.validity().not_after.to_datetime();
        let key = str::from_utf8(&key).map_err(|_| no_ca("ca_key.pem is no PEM"))?;
        let key = KeyPair::from_pem(key).map_err(|_| no_ca("ca_key.pem is no key"))?;
        if key.public_key_raw() != parsed.public_key().subject_public_key.data.as_ref() {
            return Err(no_ca("ca_key.pem is not the key of ca.pem"));
        }
        Ok(Self {
            directory: directory.to_owned(),
            domain,
            not_after,
            pem: pem.to_vec(),
            issuer: Issuer::from_ca_cert_der(&der, key)?,
        })
    }

    /// The domain it issues for.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Until when it and all it issues count.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after.into()
    }

    /// Issues a certificate with a new key, over the one that is there. ECDSA over P-256, for both ends of
    /// a session; never valid longer than the CA.
    ///
    /// # Errors
    /// When the name is none or files cannot be written.
    pub fn issue(
        &self,
        role: Role,
        name: &str,
        validity: Duration,
        now: SystemTime,
    ) -> Result<Files, PkiError> {
        let identity = Identity::new(&self.domain, role, name)?;
        let mut params = params(&identity.to_string(), validity, now)?;
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{role} {name}"));
        if self.not_after <= moment(now, Duration::ZERO)? {
            return Err(PkiError::Expired(quoted(&self.directory)));
        }
        params.not_after = params.not_after.min(self.not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = KeyPair::generate()?;
        let pem = params.signed_by(&key, &self.issuer)?.pem();
        let text = Zeroizing::new(key.serialize_pem());
        let serial = params.serial_number.as_ref();
        self.note(&identity, &serial.ok_or(PkiError::Random)?.to_bytes())?;

        let place = self.directory.join(role.as_str());
        store::directory(&place)?;
        let place = place.join(name);
        store::directory(&place)?;
        let files = Files {
            chain: place.join("svid.pem"),
            key: place.join("svid_key.pem"),
            bundle: place.join("bundle.pem"),
        };
        store::replace(&files.bundle, &self.pem, 0o644)?;
        self.copy_list(&place)?;
        store::replace(&files.key, text.as_bytes(), 0o600)?;
        store::replace(&files.chain, pem.as_bytes(), 0o644)?;
        Ok(files)
    }

    /// What it has issued, as far as it is still in its directory, by role and name.
    ///
    /// # Errors
    /// When a certificate there is unreadable.
    pub fn issued(&self) -> Result<Vec<(PathBuf, Certificate)>, PkiError> {
        let mut found = Vec::new();
        for role in Role::ALL {
            for place in store::list(&self.directory.join(role.as_str()))? {
                let path = place.join("svid.pem");
                let text = read(&path, Guard::Public)?;
                let der = CertificateDer::from_pem_slice(&text)
                    .map_err(|_| CertificateError::Malformed)
                    .and_then(|der| Certificate::parse(&der))
                    .map_err(|error| PkiError::Certificate(quoted(&path), error))?;
                found.push((place, der));
            }
        }
        Ok(found)
    }
}

impl core::fmt::Debug for Ca {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Ca").field(&self.domain).finish()
    }
}

/// What all certificates have in common: a URI, a validity, a random serial number.
fn params(uri: &str, validity: Duration, now: SystemTime) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(uri)?)];
    params.not_before = moment(now, Duration::ZERO)? - BACKDATED;
    params.not_after = moment(now, validity)?;
    params.use_authority_key_identifier_extension = true;
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| PkiError::Random)?;
    // A positive INTEGER without a leading zero (RFC 5280, section 4.1.2.2).
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// `after` from `now`. A certificate's years have four digits (RFC 5280, section 4.1.2.5).
fn moment(now: SystemTime, after: Duration) -> Result<OffsetDateTime, PkiError> {
    let bad = || PkiError::Validity(after);
    let since = now
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| since.checked_add(after));
    let seconds = i64::try_from(since.ok_or_else(bad)?.as_secs()).map_err(|_| bad())?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| bad())
}

/// The domain a CA's certificate is for: the URI `spiffe://<domain>`.
fn domain(ca: &X509Certificate<'_>) -> Option<TrustDomain> {
    let names = ca.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("spiffe://")?.parse().ok(),
            _ => None,
        })
}

#[cfg(test)]
mod tests;
