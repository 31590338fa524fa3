//! What an implementation of AES-GCM must offer, which ones this CPU can run, and the
//! choice between them at start.

use thiserror::Error;

use crate::job::Job;
use crate::key::Form;
use crate::portable::Portable;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::wide::{Avx2, Avx512};

/// Only this crate has backends, and only those that the CPU can run leave it: what they rely
/// on is thereby certain.
pub(crate) trait Sealed {}

/// One implementation of batched AES-GCM.
#[expect(private_bounds, reason = "sealed")]
pub trait Backend: Sealed + core::fmt::Debug + Send + Sync {
    /// Name for logs and for [`select`], for example `portable`.
    fn name(&self) -> &'static str;

    /// Whether this CPU can run it.
    fn usable(&self) -> bool;

    /// How it wants keys expanded. A job whose key has another form fails.
    fn form(&self) -> Form;

    /// Encrypts each job's data in place and writes its tag.
    ///
    /// Sets every job's outcome; jobs made by [`Job::open`] fail.
    fn seal(&self, jobs: &mut [Job<'_>]);

    /// Verifies each job's tag and decrypts its data in place.
    ///
    /// Sets every job's outcome; jobs made by [`Job::seal`] fail.
    fn open(&self, jobs: &mut [Job<'_>]);
}

/// Why no backend could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SelectError {
    /// No backend has this name.
    #[error("no AES-GCM backend is called `{0}`: there are {known}", known = known())]
    Unknown(String),
    /// The backend exists, but this CPU lacks the instructions it needs.
    #[error("this CPU cannot run the AES-GCM backend `{0}`: it can run {usable}", usable = usable())]
    Unusable(&'static str),
}

fn known() -> String {
    names().collect::<Vec<_>>().join(", ")
}

fn usable() -> String {
    backends().map(|b| b.name()).collect::<Vec<_>>().join(", ")
}

/// Every backend built into this binary, the preferred first.
static ALL: &[&dyn Backend] = &[
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    &Avx512,
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    &Avx2,
    &Portable,
];

/// The names of all backends built into this binary, the preferred first.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|b| b.name())
}

/// The backend that runs everywhere. Also of use for keys that are looked at and not used.
#[must_use]
pub fn portable() -> &'static dyn Backend {
    &Portable
}

/// The backends that this CPU can run, the preferred first; never empty.
pub fn backends() -> impl Iterator<Item = &'static dyn Backend> {
    ALL.iter().copied().filter(|b| b.usable())
}

/// The backend called `forced`, or the preferred one that this CPU can run.
///
/// # Errors
/// When `forced` names no backend, or one that this CPU cannot run.
pub fn select(forced: Option<&str>) -> Result<&'static dyn Backend, SelectError> {
    let Some(name) = forced else {
        return Ok(backends().next().unwrap_or(&Portable));
    };
    match ALL.iter().find(|b| b.name() == name) {
        Some(b) if b.usable() => Ok(*b),
        Some(b) => Err(SelectError::Unusable(b.name())),
        None => Err(SelectError::Unknown(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection() {
        assert_eq!(select(Some("portable")).map(|b| b.name()), Ok("portable"));
        assert_eq!(
            select(Some("fpga")).map(|b| b.name()),
            Err(SelectError::Unknown("fpga".into()))
        );
        let first = backends().next().map(|b| b.name());
        assert_eq!(select(None).ok().map(|b| b.name()), first);
        assert!(first.is_some());
    }
}
