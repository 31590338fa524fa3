//! What the daemon does to itself before it reads a key: no core dumps, no debugger of the
//! same user, and memory for keys that is there.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use vswitch_aead::vault::{self, Memory, VaultError};

/// Why a process that holds keys should not start.
#[derive(Debug, thiserror::Error)]
pub enum HardeningError {
    /// The kernel refused to make it undumpable.
    #[error("the kernel does not exclude this process from core dumps (PR_SET_DUMPABLE): {0}")]
    Dumpable(#[source] std::io::Error),
    /// No memory for keys.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Makes the process undumpable, whatever RLIMIT_CORE says, and prepares memory for keys.
///
/// Only root can attach to it from here on, and `/proc/PID` belongs to root: a process
/// without CAP_DAC_OVERRIDE and not root can no longer open its own `/proc/self/pagemap`,
/// which EAL only wants of real devices without an IOMMU.
///
/// # Errors
/// As [`HardeningError`] says.
pub fn harden() -> Result<Memory, HardeningError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| HardeningError::Dumpable(error.into()))?;
    Ok(vault::prepare()?)
}
