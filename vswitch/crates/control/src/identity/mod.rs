//! Who somebody is, how they prove it, and how our TLS is set up.
//!
//! An identity is `spiffe://<domain>/<nve|ima|operator>/<name>` in an X.509 certificate (SPIFFE's
//! X509-SVID) from any CA. `Credentials` are our own, `Watcher` keeps them fresh, a `Verifier` judges
//! one peer, `revoked` are the lists of CAs, `Denied` says who is refused nevertheless. See docs/identity.md.

mod certificate;
mod clock;
mod credentials;
mod denied;
pub(crate) mod files;
mod name;
pub(crate) mod revoked;
pub mod tls;
mod verify;
mod watch;

pub use certificate::{Certificate, CertificateError, Serial};
pub use clock::Clock;
pub use credentials::{Credentials, CredentialsError};
pub use denied::Denied;
pub use files::{FileError, Files};
pub use name::{Identity, Role, TrustDomain, UriError};
pub use verify::{Expect, Refusal, Verifier};
pub use watch::{RenewalError, Status as WatchStatus, WatchError, Watcher};

#[cfg(test)]
mod tests;
