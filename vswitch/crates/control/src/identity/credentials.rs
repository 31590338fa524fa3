//! Our own certificate, key and trust bundle, from files, checked as a whole before they are used.

use core::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio::sync::watch;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::{Zeroize, Zeroizing};

use super::certificate::{Certificate, CertificateError};
use super::denied::Denied;
use super::files::{FileError, Files, Guard, quoted, read};
use super::name::{Identity, Role};
use super::revoked::{CRL, Lists};
use super::tls::provider;
use super::verify::{Expect, Verifier, why};

/// Why there are no credentials, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read, or others can.
    #[error(transparent)]
    File(#[from] FileError),
    /// No PEM, or PEM of something else.
    #[error("{file} holds no {what} in PEM; is it another file, or cut short?")]
    Pem {
        /// Which.
        file: String,
        /// What should be there.
        what: &'static str,
    },
    /// Of a kind that TLS 1.3 does not sign with.
    #[error("the key in {0} cannot be used: it must be ECDSA (P-256, P-384), Ed25519 or RSA")]
    Key(String),
    /// Of two identities, or of two renewals.
    #[error("the key in {key} is not that of the certificate in {chain}; renew both together")]
    Mismatch {
        /// The certificate's file.
        chain: String,
        /// The key's file.
        key: String,
    },
    /// Our certificate would be refused by everybody.
    #[error("the certificate in {file} cannot be used: {error}")]
    Leaf {
        /// Which.
        file: String,
        /// Why.
        error: CertificateError,
    },
    /// Somebody else's certificate.
    #[error("the certificate in {file} is {found}'s, but this needs one of role {expected}")]
    Role {
        /// Which.
        file: String,
        /// Whose it is.
        found: Identity,
        /// What it should be.
        expected: Role,
    },
    /// It would make its owner a CA.
    #[error("{0} holds a certificate that is no CA's; a bundle has those of CAs alone")]
    NoCa(String),
    /// All of the bundle is too old.
    #[error("all CAs in {0} have expired; get the current bundle")]
    StaleBundle(String),
    /// Nobody could be told from a thief by it.
    #[error("{file} is no list of a CA in the bundle beside it: {why}")]
    List {
        /// Which.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and bundle are of different CAs.
    #[error("the certificate in {chain} does not lead to a CA in {bundle}: {why}")]
    Chain {
        /// The certificate's file.
        chain: String,
        /// The bundle's.
        bundle: String,
        /// What the chain lacks.
        why: String,
    },
}

/// Whom we believe.
pub(super) struct Trust {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) own: Identity,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) clients: Arc<dyn ClientCertVerifier>,
    pub(super) lists: Lists,
}

/// Certificate, key and trust bundle of one identity. The key is not to be got out of it.
pub struct Credentials {
    certificate: Certificate,
    chain: Vec<CertificateDer<'static>>,
    bundle: Vec<CertificateDer<'static>>,
    signer: Arc<SingleCertAndKey>,
    trust: Arc<Trust>,
}

impl Credentials {
    /// Reads and checks all files, the list of what was revoked among them if there is one; `role` is what
    /// their owner has to be. That our own certificate was revoked is logged and no error: we are told by
    /// everybody else.
    ///
    /// # Errors
    /// When anything is wrong that would make sessions fail later; it names the file.
    pub fn load(files: &Files, role: Role, now: UnixTime) -> Result<Self, CredentialsError> {
        let text = read(&files.chain, Guard::Public)?;
        let chain = certificates(&text, &files.chain)?;
        let text = read(&files.bundle, Guard::Trusted)?;
        let bundle = certificates(&text, &files.bundle)?;
        let key = read(&files.key, Guard::Secret)?;

        let file = || quoted(&files.chain);
        let leaf = |error| CredentialsError::Leaf {
            file: file(),
            error,
        };
        let (first, rest) = chain.split_first().ok_or_else(|| none(&files.chain))?;
        let certificate = Certificate::parse(first).map_err(leaf)?;
        let found = &certificate.identity;
        if found.role() != role {
            let (found, expected) = (found.clone(), role);
            return Err(CredentialsError::Role {
                file: file(),
                found,
                expected,
            });
        }
        certificate.check(found.domain(), now).map_err(leaf)?;

        let signer = signer(&chain, &key, files)?;
        let mut trust = trust(&bundle, found, now, &files.bundle)?;
        trust.lists = Lists::beside(&files.bundle)?;
        trust
            .verify_both(first, rest, now)
            .map_err(|error| CredentialsError::Chain {
                chain: file(),
                bundle: quoted(&files.bundle),
                why: why(&error),
            })?;
        match trust.is_revoked(first, rest, now) {
            Ok(false) => {}
            Ok(true) => tracing::error!(
                identity = %found, file = file(),
                "our own certificate is revoked: nobody with the same list takes it"
            ),
            Err(error) => {
                let list = files.bundle.with_file_name(CRL);
                return Err(CredentialsError::List {
                    file: quoted(&list),
                    why: error.to_string(),
                });
            }
        }
        let (signer, trust) = (Arc::new(signer), Arc::new(trust));
        Ok(Self {
            certificate,
            chain,
            bundle,
            signer,
            trust,
        })
    }

    /// Who we are, and until when.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Who we are.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.certificate.identity
    }

    /// Whether this is what a judge goes by.
    #[must_use]
    pub fn is_of(&self, verifier: &Verifier) -> bool {
        Arc::ptr_eq(&self.trust, verifier.trust())
    }

    /// A judge for one handshake's peer.
    #[must_use]
    pub fn verifier(&self, expect: Expect, denied: &Denied) -> Arc<Verifier> {
        Arc::new(Verifier::new(self.trust.clone(), expect, denied.clone()))
    }

    /// Whether a peer's certificate, and those behind it, lead to a CA of this bundle now, and none of
    /// them is revoked.
    #[must_use]
    pub fn trusts(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        chain.split_first().is_some_and(|(leaf, rest)| {
            self.trust.verify_either(leaf, rest, now).is_ok()
                && matches!(self.trust.is_revoked(leaf, rest, now), Ok(false))
        })
    }

    /// For those who never renew, such as a command that runs once.
    #[must_use]
    pub fn fixed(self) -> watch::Receiver<Arc<Self>> {
        watch::channel(Arc::new(self)).1
    }

    /// Whether these are the same certificates and lists.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.chain == other.chain
            && self.bundle == other.bundle
            && self.trust.lists.der == other.trust.lists.der
    }

    pub(super) fn signer(&self) -> Arc<SingleCertAndKey> {
        self.signer.clone()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials")
            .field(&self.certificate)
            .finish()
    }
}

fn none(path: &Path) -> CredentialsError {
    let (file, what) = (quoted(path), "certificate");
    CredentialsError::Pem { file, what }
}

fn certificates(
    text: &[u8],
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| none(path))
}

fn signer(
    chain: &[CertificateDer<'static>],
    text: &Zeroizing<Vec<u8>>,
    files: &Files,
) -> Result<SingleCertAndKey, CredentialsError> {
    let file = || quoted(&files.key);
    let what = "private key";
    let mut key = PrivateKeyDer::from_pem_slice(text)
        .map_err(|_| CredentialsError::Pem { file: file(), what })?;
    // By reference, so that there is one copy to clear.
    let loaded = any_supported_type(&key);
    key.zeroize();
    let signing = loaded.map_err(|_| CredentialsError::Key(file()))?;
    let certified = CertifiedKey::new(chain.to_vec(), signing);
    match certified.keys_match() {
        Ok(()) => Ok(SingleCertAndKey::from(certified)),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let (chain, key) = (quoted(&files.chain), file());
            Err(CredentialsError::Mismatch { chain, key })
        }
        Err(_) => Err(CredentialsError::Key(file())),
    }
}

fn trust(
    bundle: &[CertificateDer<'static>],
    own: &Identity,
    now: UnixTime,
    path: &Path,
) -> Result<Trust, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for ca in bundle {
        let no_ca = || CredentialsError::NoCa(quoted(path));
        let (_, parsed) = X509Certificate::from_der(ca).map_err(|_| none(path))?;
        // The TLS library takes any certificate for an anchor, whether or not it may sign and
        // however old it is.
        if !parsed.is_ca() {
            return Err(no_ca());
        }
        let until = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        if until >= now.as_secs() {
            roots.add(ca.clone()).map_err(|_| no_ca())?;
        }
    }
    if roots.is_empty() {
        return Err(CredentialsError::StaleBundle(quoted(path)));
    }
    let (roots, provider) = (Arc::new(roots), provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|_| CredentialsError::StaleBundle(quoted(path)))?;
    let own = own.clone();
    Ok(Trust {
        provider,
        own,
        roots,
        clients,
        lists: Lists::default(),
    })
}
