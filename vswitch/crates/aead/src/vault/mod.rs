//! Where keys live: page-granular memory that is locked, left out of core dumps and not
//! inherited by children, with guard pages around it, never a hugepage, never DPDK's.
//!
//! Memory comes from `memfd_secret(2)` where the kernel gives it: then not even root reads it
//! through `/proc/PID/mem`, nor does a kernel thread by its own mapping. Otherwise it is
//! anonymous memory with `mlock(2)` and `MADV_DONTDUMP`. [`prepare`] tells which.
//!
//! A [`Secret`] is a pointer to a cache-line aligned slot that does not cross a page: one
//! indirection, as with a `Box`. Slots of one size lie side by side, so that 10,000 keys
//! touch as few pages as they can (of 4 KiB: the kernel has no larger ones to hide).
//!
//! Making one takes a lock and perhaps system calls; that is for control threads. Dropping
//! one does neither.

mod arena;
mod secret;
mod slab;
mod stack;

use thiserror::Error;

pub use arena::Memory;
pub use secret::{Secret, SecretBytes};
pub(crate) use stack::wipe_lines;
pub use stack::without_traces;

/// Why there is no memory for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VaultError {
    /// The limit on locked memory is reached.
    #[error(
        "keys need memory that is never swapped out, and no more may be locked \
         (RLIMIT_MEMLOCK: {limit} bytes): set LimitMEMLOCK=infinity in the systemd unit, or \
         `ulimit -l unlimited` before the start, or give the process CAP_IPC_LOCK"
    )]
    Limit {
        /// Bytes that may be locked.
        limit: u64,
    },
    /// The system refused.
    #[error("memory for keys: {doing}: {}", std::io::Error::from_raw_os_error(*.errno))]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        errno: i32,
    },
    /// More than [`SecretBytes::MAX`] bytes.
    #[error("a secret of {len} bytes, of which {max} fit", max = SecretBytes::MAX)]
    TooLong {
        /// Bytes asked for.
        len: usize,
    },
}

/// Makes sure that there is memory for keys, and tells of which kind.
///
/// # Errors
/// As the first key would be refused.
pub fn prepare() -> Result<Memory, VaultError> {
    // Bytes and not a cipher: the smallest size, which every configured key needs.
    drop(SecretBytes::new(0, |_| {})?);
    Ok(slab::memory().unwrap_or(Memory::Locked))
}

/// Bytes of memory mapped for keys now, guard pages not counted.
#[must_use]
pub fn mapped() -> usize {
    slab::mapped()
}
