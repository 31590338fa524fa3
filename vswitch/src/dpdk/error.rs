//! DPDK's error numbers, shown in DPDK's own words.

use std::ffi::{CStr, CString, c_int};
use std::fmt;

use dpdk_sys as sys;

/// An error number of DPDK: `errno` values and its own (`rte_errno.h`), always positive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// What the last failed call of this thread left in `rte_errno`.
    pub(in crate::dpdk) fn last() -> Self {
        // SAFETY: reads a thread-local variable.
        Errno(unsafe { sys::vs_errno() })
    }

    /// For calls that return `-errno`.
    pub(in crate::dpdk) fn check(result: c_int) -> Result<c_int, Errno> {
        if result < 0 {
            Err(Errno(result.saturating_neg()))
        } else {
            Ok(result)
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: returns a NUL-terminated string, static or thread-local, copied at once.
        let text = unsafe { CStr::from_ptr(sys::rte_strerror(self.0)) };
        write!(f, "{} (error {})", text.to_string_lossy(), self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A string holds a NUL byte and cannot be given to DPDK.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} holds a NUL byte")]
pub struct NulByte(pub String);

pub(in crate::dpdk) fn cstring(text: &str) -> Result<CString, NulByte> {
    CString::new(text).map_err(|_| NulByte(text.to_owned()))
}

/// Copies a C string that DPDK owns; empty for a null pointer.
///
/// # Safety
/// `text` is null or a NUL-terminated string that lives through the call.
pub(in crate::dpdk) unsafe fn string_from(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: caller's contract.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// DPDK's number for a NUMA node: `None` leaves the choice to it.
pub(in crate::dpdk) fn socket_id(numa: Option<u32>) -> c_int {
    numa.and_then(|n| c_int::try_from(n).ok())
        .unwrap_or(sys::SOCKET_ID_ANY)
}
