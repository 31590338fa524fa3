//! Certificates that their CA has revoked: lists (RFC 5280, section 5) in a file beside the bundle.
//! Whoever got hold of a key, a server's of the authority too, is out where the list is, whatever anybody
//! says.

use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, Error, KeyUsage, OwnedCertRevocationList,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::credentials::{CredentialsError, Trust};
use super::files::{Guard, quoted, read};

/// The file's name.
pub(crate) const CRL: &str = "crl.pem";

/// What was revoked, by however many CAs.
#[derive(Default)]
pub(super) struct Lists {
    /// As they were in the file.
    pub(super) der: Vec<CertificateRevocationListDer<'static>>,
    parsed: Vec<CertRevocationList<'static>>,
}

impl Lists {
    /// Those beside a bundle; none if there is no such file.
    pub(super) fn beside(bundle: &Path) -> Result<Self, CredentialsError> {
        let path = bundle.with_file_name(CRL);
        if !path.exists() {
            return Ok(Self::default());
        }
        let none = || CredentialsError::Pem {
            file: quoted(&path),
            what: "certificate revocation list",
        };
        // Who could write it could let in whoever was revoked.
        let text = read(&path, Guard::Trusted)?;
        let der: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
        let der = der
            .ok()
            .filter(|found: &Vec<_>| !found.is_empty())
            .ok_or_else(none)?;
        let parsed: Result<Vec<CertRevocationList<'static>>, _> = der
            .iter()
            .map(|list| OwnedCertRevocationList::from_der(list).map(Into::into))
            .collect();
        let parsed = parsed.map_err(|_| none())?;
        Ok(Self { der, parsed })
    }
}

impl Trust {
    /// Whether a CA of the bundle has revoked this certificate or one behind it. Asked of a chain that is good
    /// without lists. A CA that has no list here has revoked nothing; a list counts on when its next update
    /// is late, for what was revoked stays so.
    ///
    /// # Errors
    /// A list is not what it says: then nobody of its CA can be told from a thief.
    pub(super) fn is_revoked(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<bool, Error> {
        let lists: Vec<&CertRevocationList<'_>> = self.lists.parsed.iter().collect();
        let Ok(options) = RevocationOptionsBuilder::new(&lists) else {
            return Ok(false);
        };
        let options = options
            .with_status_policy(UnknownStatusPolicy::Allow)
            .build();
        let algorithms = self.provider.signature_verification_algorithms.all;
        let leaf = EndEntityCert::try_from(leaf)?;
        let usages = [KeyUsage::server_auth(), KeyUsage::client_auth()];
        let mut why = Ok(false);
        for usage in usages {
            let judged = leaf.verify_for_usage(
                algorithms,
                &self.roots.roots,
                intermediates,
                now,
                usage,
                Some(options),
                None,
            );
            match judged {
                Ok(_) => return Ok(false),
                Err(Error::CertRevoked) => return Ok(true),
                Err(error) => why = Err(error),
            }
        }
        why
    }
}
