//! Whom we talk to: webpki's verdict on the chain, and then ours on trust domain, role and name.
//!
//! One `Verifier` serves one handshake, so that what it found out, for good or bad, can be told apart
//! from what another handshake did. It knows only TLS 1.3.

use core::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError as TlsError, DigitallySignedStruct, DistinguishedName};
use rustls::{Error, PeerIncompatible, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::certificate::{Certificate, CertificateError};
use super::credentials::Trust;
use super::denied::Denied;
use super::name::{Identity, Role};

/// Who may be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Anybody of our trust domain with one of these roles.
    Roles(Vec<Role>),
    /// Nobody but this one.
    Identity(Identity),
}

impl Expect {
    /// Whether only an edge will do.
    #[must_use]
    pub fn is_edge(&self) -> bool {
        match self {
            Self::Roles(roles) => *roles == [Role::Nve],
            Self::Identity(identity) => identity.role() == Role::Nve,
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(identity) => identity.fmt(f),
            Self::Roles(roles) => {
                let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
                write!(f, "role {}", roles.join(" or "))
            }
        }
    }
}

/// Why a peer's certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No chain to a CA of our bundle.
    #[error("the peer's certificate is not trusted: {0}")]
    Untrusted(String),
    /// What it says, or that it does not count now.
    #[error("the peer's certificate is refused: {0}")]
    Certificate(#[from] CertificateError),
    /// Somebody else.
    #[error("the peer is {found}, not {expected}")]
    Unexpected {
        /// Who it is, proved by its chain.
        found: Identity,
        /// Who it should have been.
        expected: Expect,
    },
    /// Revoked.
    #[error("{0} is revoked")]
    Denied(Identity),
    /// Its CA has revoked the certificate.
    #[error("the certificate of {0} is revoked by its CA")]
    Revoked(Identity),
    /// Somebody leads our own packets back to us, or two run as one.
    #[error("the peer has our own identity")]
    Ourselves,
}

impl Refusal {
    /// What the peer learns: an alert of TLS and no more (RFC 8446, section 6.2).
    fn alert(&self) -> Error {
        let error = match self {
            Self::Untrusted(_) => TlsError::UnknownIssuer,
            Self::Certificate(CertificateError::Expired(_)) => TlsError::Expired,
            Self::Certificate(CertificateError::NotYetValid(_)) => TlsError::NotValidYet,
            Self::Certificate(CertificateError::Usage(_) | CertificateError::Ca) => {
                TlsError::InvalidPurpose
            }
            Self::Certificate(CertificateError::OtherDomain { .. })
            | Self::Unexpected { .. }
            | Self::Ourselves => TlsError::ApplicationVerificationFailure,
            Self::Certificate(_) => TlsError::BadEncoding,
            Self::Denied(_) | Self::Revoked(_) => TlsError::Revoked,
        };
        Error::InvalidCertificate(error)
    }
}

/// Judges the certificate of one handshake's peer.
pub struct Verifier {
    trust: Arc<Trust>,
    expect: Expect,
    denied: Denied,
    verdict: OnceLock<Result<Certificate, Refusal>>,
}

impl Verifier {
    pub(super) fn new(trust: Arc<Trust>, expect: Expect, denied: Denied) -> Self {
        let verdict = OnceLock::new();
        Self {
            trust,
            expect,
            denied,
            verdict,
        }
    }

    pub(super) const fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// What the peer's certificate said, or why it was refused; `None` before it came. That the peer has
    /// its key is only known when the handshake is complete.
    #[must_use]
    pub fn verdict(&self) -> Option<&Result<Certificate, Refusal>> {
        self.verdict.get()
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        chain: Result<(), Error>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let verdict = self.opinion(leaf, intermediates, chain, now);
        let answer = verdict.as_ref().map(|_| ()).map_err(Refusal::alert);
        // A second certificate in one handshake would be a fault of the TLS library.
        self.verdict
            .set(verdict)
            .map_err(|_| Refusal::Certificate(CertificateError::Malformed).alert())?;
        answer
    }

    fn opinion(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        chain: Result<(), Error>,
        now: UnixTime,
    ) -> Result<Certificate, Refusal> {
        let parsed = Certificate::parse(leaf);
        let checked = parsed.and_then(|it| it.check(self.trust.own.domain(), now).map(|()| it));
        // Ours first, because they say more than "invalid"; both must be content.
        let certificate = checked?;
        chain.map_err(|error| Refusal::Untrusted(why(&error)))?;
        match self.trust.is_revoked(leaf, intermediates, now) {
            Ok(false) => {}
            Ok(true) => return Err(Refusal::Revoked(certificate.identity)),
            Err(error) => return Err(Refusal::Untrusted(error.to_string())),
        }
        let found = &certificate.identity;
        let welcome = match &self.expect {
            Expect::Roles(roles) => roles.contains(&found.role()),
            Expect::Identity(identity) => identity == found,
        };
        if !welcome {
            let (found, expected) = (found.clone(), self.expect.clone());
            return Err(Refusal::Unexpected { found, expected });
        }
        if *found == self.trust.own {
            return Err(Refusal::Ourselves);
        }
        if self.denied.contains(&certificate) {
            return Err(Refusal::Denied(certificate.identity));
        }
        Ok(certificate)
    }

    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.trust.provider.signature_verification_algorithms
    }
}

/// webpki's verdict in words.
pub(super) fn why(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(TlsError::UnknownIssuer) => {
            "no CA in the bundle has issued it".to_owned()
        }
        Error::InvalidCertificate(TlsError::BadSignature) => {
            "the CA in the bundle has the issuer's name, but another key".to_owned()
        }
        Error::InvalidCertificate(TlsError::Expired | TlsError::ExpiredContext { .. }) => {
            "a certificate of its chain has expired".to_owned()
        }
        other => other.to_string(),
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("own", &self.trust.own)
            .field("expect", &self.expect)
            .finish_non_exhaustive()
    }
}

/// Nobody gets here: only TLS 1.3 is enabled.
fn only_tls13() -> Error {
    Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic)
}

impl ServerCertVerifier for Verifier {
    /// The server's name is not looked at: who it is stands in its URI.
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = self.trust.verify_server(leaf, intermediates, now);
        self.judge(leaf, intermediates, chain, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    /// None: every CA named would be told to whoever asks.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = self.trust.verify_client(leaf, intermediates, now);
        self.judge(leaf, intermediates, chain, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

impl Trust {
    fn verify_server(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let leaf = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )
    }

    fn verify_client(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let verdict = self.clients.verify_client_cert(leaf, intermediates, now);
        verdict.map(|_| ())
    }

    /// Why a peer's chain no longer leads to a CA that is trusted; whichever end of the session it was at.
    pub(super) fn verify_either(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        self.verify_client(leaf, intermediates, now)
            .or_else(|_| self.verify_server(leaf, intermediates, now))
    }

    /// Whether a chain is good at both ends of a session.
    pub(super) fn verify_both(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        self.verify_server(leaf, intermediates, now)?;
        self.verify_client(leaf, intermediates, now)
    }
}
