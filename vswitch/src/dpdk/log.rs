//! DPDK's log lines become events of `tracing`, target `dpdk`.

use std::ffi::{c_char, c_int};
use std::panic::catch_unwind;
use std::slice;
use std::sync::{Mutex, PoisonError};

use dpdk_sys as sys;

/// DPDK's last errors and warnings: an error number says less than the lines before it.
static COMPLAINTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// As many as one failed start writes.
const KEPT: usize = 32;

/// The errors and warnings since the last call, at most the last [`KEPT`].
pub(in crate::dpdk) fn complaints() -> Vec<String> {
    let mut lines = COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *lines)
}

/// Workers log nothing, so that the lock is the control side's alone.
fn keep(line: &str) {
    let mut lines = COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner);
    if lines.len() >= KEPT {
        lines.remove(0);
    }
    lines.push(line.to_owned());
}

/// How much DPDK says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// And warnings.
    Warning,
    /// And remarkable events.
    #[default]
    Notice,
    /// And what drivers do.
    Info,
    /// Everything.
    Debug,
}

impl LogLevel {
    /// The name in EAL's `--log-level`.
    pub(in crate::dpdk) fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warning => "warning",
            LogLevel::Notice => "notice",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        }
    }
}

/// Sends DPDK's log to `tracing`; where libc cannot, it stays on standard error.
pub(in crate::dpdk) fn forward() {
    // SAFETY: `sink` is a function for the life of the process.
    if unsafe { sys::vs_log_to(Some(sink)) } != 0 {
        tracing::debug!("DPDK logs to standard error");
    }
}

/// # Safety
/// `text` is `len` readable bytes.
unsafe extern "C" fn sink(level: c_int, text: *const c_char, len: usize) {
    if text.is_null() || len == 0 {
        return;
    }
    // SAFETY: caller's contract, not null.
    let bytes = unsafe { slice::from_raw_parts(text.cast::<u8>(), len) };
    // A subscriber that panics must not unwind into C; its line is lost.
    let _lost = catch_unwind(|| {
        for line in String::from_utf8_lossy(bytes).lines().map(str::trim_end) {
            if !line.is_empty() {
                emit(level, line);
            }
        }
    });
}

/// Errors and warnings of 22.11 that say nothing is wrong, seen at every start: no 1 GiB pages
/// beside those of 2 MiB; no multiq qdisc, which only rte_flow on a tap would need; no
/// secondary process to tell of a tap.
const HARMLESS: &[&str] = &[
    "hugepages reported on node",
    "tap_nl_dump_ext_ack(): Specified qdisc kind is unknown",
    "multiq qdisc",
    "Disabling rte flow support",
    "tap_mp_req_on_rxtx(): Failed to send start req to secondary",
];

/// Levels of `rte_log.h`: 1 emergency … 4 error, 5 warning, 6 notice, 7 info, 8 debug.
fn emit(level: c_int, line: &str) {
    let level = if HARMLESS.iter().any(|known| line.contains(known)) {
        level.max(7)
    } else {
        level
    };
    if level <= 5 {
        keep(line);
    }
    match level {
        ..=4 => tracing::error!(target: "dpdk", "{line}"),
        5 => tracing::warn!(target: "dpdk", "{line}"),
        6 => tracing::info!(target: "dpdk", "{line}"),
        7 => tracing::debug!(target: "dpdk", "{line}"),
        _ => tracing::trace!(target: "dpdk", "{line}"),
    }
}
