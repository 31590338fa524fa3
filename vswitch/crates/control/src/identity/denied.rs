//! Who gets no session any more, whatever their certificate says: the authority's word arrives
//! sooner than a certificate expires.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use super::certificate::{Certificate, Serial};
use super::name::Identity;

#[derive(Debug, Default)]
struct Lists {
    identities: HashSet<Identity>,
    serials: HashSet<Serial>,
}

/// Identities and certificates that are refused. Clones share one list.
///
/// It is asked when a session begins; `session::Sessions` also closes those that exist.
#[derive(Debug, Clone, Default)]
pub struct Denied(Arc<RwLock<Lists>>);

impl Denied {
    /// Nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Lists) -> T) -> T {
        // Nothing panics while it is held, and sets are whole after every change.
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Refuses an identity. Whether that is new.
    pub fn deny(&self, identity: &Identity) -> bool {
        self.change(|lists| lists.identities.insert(identity.clone()))
    }

    /// Refuses one certificate; its owner may come with another.
    pub fn deny_serial(&self, serial: &Serial) -> bool {
        self.change(|lists| lists.serials.insert(serial.clone()))
    }

    /// Takes an identity off the list. Whether it was on it.
    pub fn allow(&self, identity: &Identity) -> bool {
        self.change(|lists| lists.identities.remove(identity))
    }

    /// Takes a certificate off the list.
    pub fn allow_serial(&self, serial: &Serial) -> bool {
        self.change(|lists| lists.serials.remove(serial))
    }

    /// Replaces the identities, as when the authority tells all of them at once.
    pub fn replace(&self, identities: impl IntoIterator<Item = Identity>) {
        let identities = identities.into_iter().collect();
        self.change(|lists| lists.identities = identities);
    }

    /// Whether this certificate is refused.
    #[must_use]
    pub fn contains(&self, certificate: &Certificate) -> bool {
        let lists = self.0.read().unwrap_or_else(PoisonError::into_inner);
        lists.identities.contains(&certificate.identity)
            || lists.serials.contains(&certificate.serial)
    }
}
