//! What a computation with keys leaves on the stack.

use core::hint::black_box;

use zeroize::Zeroize;

/// More than the deepest key expansion uses (bit-sliced AES-256: some 4 KiB).
const DEPTH: usize = 32 * 1024;

/// Runs `work` and then wipes the stack below the caller, where `work` had its frames.
#[inline(never)]
pub(crate) fn without_traces<R>(work: impl FnOnce() -> R) -> R {
    let result = apart(work);
    wipe();
    result
}

/// A frame of its own, so that nothing of `work` is in that of [`without_traces`].
#[inline(never)]
fn apart<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[inline(never)]
fn wipe() {
    let mut frames = [0_u64; DEPTH / 8];
    frames.zeroize();
    black_box(&frames);
}
