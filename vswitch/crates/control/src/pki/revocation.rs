//! Certificates that do not count any more: what was issued to whom (`issued.txt`), and the list of what was
//! revoked (`crl.pem`, RFC 5280, section 5), signed by the CA.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::{BACKDATED, Ca, PkiError, moment, store};
use crate::identity::files::{Guard, quoted, read};
use crate::identity::revoked::CRL;
use crate::identity::{Identity, Role, Serial};

/// What was issued: an identity and a serial number in each line, the oldest first.
const ISSUED: &str = "issued.txt";

/// What is on the list: when it was put there.
type Entries = BTreeMap<Serial, OffsetDateTime>;

impl Ca {
    /// The list of this CA; there is none before the first revocation.
    #[must_use]
    pub fn list(&self) -> PathBuf {
        self.directory.join(CRL)
    }

    /// Notes that a certificate is about to be issued: one that is not noted could not be revoked.
    pub(super) fn note(&self, identity: &Identity, serial: &[u8]) -> Result<(), PkiError> {
        let path = self.directory.join(ISSUED);
        let failed = |error| PkiError::Write(quoted(&path), error);
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .open(&path)
            .map_err(failed)?;
        // One line by one call, whoever else issues.
        let line = format!("{identity} {}\n", Serial::new(serial));
        file.write_all(line.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)
    }

    /// All certificates that were issued to an identity, renewals included.
    fn serials(&self, identity: &Identity) -> Result<BTreeSet<Serial>, PkiError> {
        let path = self.directory.join(ISSUED);
        let mut found = BTreeSet::new();
        if path.exists() {
            let text = read(&path, Guard::Trusted)?;
            let text = String::from_utf8_lossy(&text);
            let own = identity.to_string();
            let of_own = text.lines().filter_map(|line| {
                let (whose, serial) = line.split_once(' ')?;
                serial.parse().ok().filter(|_| whose == own)
            });
            found.extend(of_own);
        }
        // One that was issued before there was such a file.
        for (_, certificate) in self.issued()? {
            if certificate.identity == *identity {
                found.insert(certificate.serial);
            }
        }
        Ok(found)
    }

    fn entries(&self) -> Result<(Entries, u64), PkiError> {
        let path = self.list();
        if !path.exists() {
            return Ok((Entries::new(), 0));
        }
        let bad = || PkiError::List(quoted(&path));
        let text = read(&path, Guard::Trusted)?;
        let der = CertificateRevocationListDer::from_pem_slice(&text).map_err(|_| bad())?;
        let (_, list) = CertificateRevocationList::from_der(&der).map_err(|_| bad())?;
        let entries = list.iter_revoked_certificates().map(|entry| {
            let serial = Serial::new(entry.raw_serial());
            (serial, entry.revocation_date.to_datetime())
        });
        let number = list.crl_number().and_then(|number| {
            let digits = number.to_u64_digits();
            digits.first().copied()
        });
        Ok((entries.collect(), number.unwrap_or_default()))
    }

    /// Serial numbers that are on the list.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn revoked(&self) -> Result<BTreeSet<Serial>, PkiError> {
        Ok(self.entries()?.0.into_keys().collect())
    }

    /// Revokes all certificates that were issued to an identity so far. One that is issued later counts. The
    /// list is written into the CA's directory and into those of all identities: it counts where it lies
    /// beside a bundle. Gives how many it has more than before.
    ///
    /// # Errors
    /// When nothing was issued to it, or files cannot be read or written.
    pub fn revoke(&self, role: Role, name: &str, now: SystemTime) -> Result<usize, PkiError> {
        let identity = Identity::new(&self.domain, role, name)?;
        let serials = self.serials(&identity)?;
        if serials.is_empty() {
            return Err(PkiError::Unknown(identity));
        }
        let (mut entries, number) = self.entries()?;
        let before = entries.len();
        let at = moment(now, BACKDATED)? - 2 * BACKDATED;
        for serial in serials {
            entries.entry(serial).or_insert(at);
        }
        let more = entries.len() - before;
        let params = CertificateRevocationListParams {
            this_update: at,
            // The next one is made by the next revocation; until then this one counts.
            next_update: self.not_after,
            crl_number: SerialNumber::from(number.saturating_add(1)),
            issuing_distribution_point: None,
            revoked_certs: entries
                .iter()
                .map(|(serial, at)| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(serial.bytes()),
                    revocation_time: *at,
                    reason_code: Some(RevocationReason::KeyCompromise),
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = params.signed_by(&self.issuer)?.pem()?;
        store::replace(&self.list(), pem.as_bytes(), 0o644)?;
        for (place, _) in self.issued()? {
            store::replace(&place.join(CRL), pem.as_bytes(), 0o644)?;
        }
        Ok(more)
    }

    /// The list as it is now, for a directory that is made later.
    pub(super) fn copy_list(&self, place: &std::path::Path) -> Result<(), PkiError> {
        let list = self.list();
        if list.exists() {
            let text = fs::read(&list).map_err(|error| PkiError::Write(quoted(&list), error))?;
            store::replace(&place.join(CRL), &text, 0o644)?;
        }
        Ok(())
    }
}
