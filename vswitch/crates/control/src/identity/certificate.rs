//! What a leaf certificate says: exactly one identity, a validity, a serial number (X509-SVID,
//! sections 2 to 4; RFC 5280, section 4.2.1). Whether its chain leads to a trusted CA is `verify`'s.

use core::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::name::{Identity, TrustDomain, UriError};

/// Why a certificate gives nobody an identity here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No X.509 certificate, or an extension twice.
    #[error("it is no well-formed X.509 certificate")]
    Malformed,
    /// None to be found.
    #[error("it names nobody: there is no URI among its subject alternative names")]
    NoUri,
    /// Which one would count?
    #[error("it has {0} URIs among its subject alternative names; there must be one")]
    SeveralUris(usize),
    /// The URI is none of ours.
    #[error("its URI names nobody here: {0}")]
    Uri(#[from] UriError),
    /// From another overlay.
    #[error("{found} is of another trust domain than ours, {own}")]
    OtherDomain {
        /// Whose certificate it is.
        found: Identity,
        /// Our domain.
        own: TrustDomain,
    },
    /// It may sign others, so it must not speak for itself.
    #[error("it is a CA's certificate; an identity needs one of its own, issued by the CA")]
    Ca,
    /// Too old.
    #[error("it expired on {}", Date(*.0))]
    Expired(UnixTime),
    /// Too new.
    #[error("it is not valid before {}; is the clock right?", Date(*.0))]
    NotYetValid(UnixTime),
    /// It was issued for something else.
    #[error("it may not be used for this: {0}")]
    Usage(&'static str),
}

/// A time as people read it.
struct Date(UnixTime);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX);
        match ASN1Time::from_timestamp(seconds) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{seconds} s after 1970"),
        }
    }
}

/// A serial number as the certificate has it: big-endian, at most 20 bytes (RFC 5280, 4.1.2.2),
/// without leading zeros. Unique for one CA. Written in hex.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(Arc<[u8]>);

impl Serial {
    /// Of the bytes of the certificate's INTEGER.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        Self(bytes.get(zeros..).unwrap_or_default().into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::str::FromStr for Serial {
    type Err = CertificateError;

    /// Hex digits, with or without colons between the bytes.
    fn from_str(text: &str) -> Result<Self, CertificateError> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
        let nibble = |digit: &u8| char::from(*digit).to_digit(16);
        let bytes: Option<Vec<u8>> = digits
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => u8::try_from(nibble(high)? * 16 + nibble(low)?).ok(),
                _ => None,
            })
            .collect();
        let bytes = bytes.filter(|bytes| (1..=20).contains(&bytes.len()));
        Ok(Self::new(&bytes.ok_or(CertificateError::Malformed)?))
    }
}

/// What a leaf certificate says of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Who it is.
    pub identity: Identity,
    /// Which certificate of theirs.
    pub serial: Serial,
    /// The first moment at which it counts.
    pub not_before: UnixTime,
    /// The last moment at which it counts.
    pub not_after: UnixTime,
}

impl Certificate {
    /// Reads a leaf certificate; says nothing of when it is valid and who issued it.
    ///
    /// # Errors
    /// When it gives nobody exactly one identity, or is none to open sessions with.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let malformed = |_| CertificateError::Malformed;
        let (rest, leaf) =
            X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        let constraints = leaf.basic_constraints().map_err(malformed)?;
        if constraints.is_some_and(|found| found.value.ca) {
            return Err(CertificateError::Ca);
        }
        usage(&leaf)?;
        let identity = uri(&leaf)?.parse()?;
        Ok(Self {
            identity,
            serial: Serial::new(leaf.raw_serial()),
            not_before: moment(leaf.validity().not_before)?,
            not_after: moment(leaf.validity().not_after)?,
        })
    }

    /// Whether it counts at `now`, for somebody whose trust domain is `own`.
    ///
    /// # Errors
    /// When it is of another domain, expired, or not valid yet.
    pub fn check(&self, own: &TrustDomain, now: UnixTime) -> Result<(), CertificateError> {
        if self.identity.domain() != own {
            let (found, own) = (self.identity.clone(), own.clone());
            return Err(CertificateError::OtherDomain { found, own });
        }
        if now < self.not_before {
            return Err(CertificateError::NotYetValid(self.not_before));
        }
        if now > self.not_after {
            return Err(CertificateError::Expired(self.not_after));
        }
        Ok(())
    }

    /// How long it still counts.
    #[must_use]
    pub fn remaining(&self, now: UnixTime) -> Duration {
        Duration::from_secs(self.not_after.as_secs().saturating_sub(now.as_secs()))
    }
}

fn moment(time: ASN1Time) -> Result<UnixTime, CertificateError> {
    let seconds = u64::try_from(time.timestamp()).map_err(|_| CertificateError::Malformed)?;
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

/// X509-SVID, section 4.3: `digitalSignature` and no signing of certificates or CRLs. Extended key
/// usage (4.4), where there is one, allows both ends of a session.
fn usage(leaf: &X509Certificate<'_>) -> Result<(), CertificateError> {
    let malformed = |_| CertificateError::Malformed;
    let usage = leaf
        .key_usage()
        .map_err(malformed)?
        .map(|found| found.value);
    let extended = leaf
        .extended_key_usage()
        .map_err(malformed)?
        .map(|found| found.value);
    let wrong = match usage {
        None => Some("it has no key usage; it needs digitalSignature"),
        Some(usage) if !usage.digital_signature() => Some("its key usage lacks digitalSignature"),
        Some(usage) if usage.key_cert_sign() || usage.crl_sign() => {
            Some("its key may sign certificates")
        }
        Some(_) => match extended {
            Some(extended) if !extended.client_auth => {
                Some("its extended key usage lacks clientAuth")
            }
            Some(extended) if !extended.server_auth => {
                Some("its extended key usage lacks serverAuth")
            }
            _ => None,
        },
    };
    wrong.map_or(Ok(()), |wrong| Err(CertificateError::Usage(wrong)))
}

/// The one URI. Other kinds of names (DNS) do not matter.
fn uri<'a>(leaf: &'a X509Certificate<'_>) -> Result<&'a str, CertificateError> {
    // Not the library's accessor, which would hide a name it cannot read behind "no extension".
    let names =
        leaf.extensions()
            .iter()
            .filter_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                _ => None,
            });
    let uris: Vec<&str> = names
        .flatten()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [] => Err(CertificateError::NoUri),
        [uri] => Ok(uri),
        several => Err(CertificateError::SeveralUris(several.len())),
    }
}
