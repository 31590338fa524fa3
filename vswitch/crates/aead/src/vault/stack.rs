//! What a computation with keys leaves on the stack.

use core::hint::black_box;
use core::mem::MaybeUninit;

use zeroize::Zeroize;

/// More than the deepest key expansion uses (bit-sliced AES-256: some 4 KiB). Miri has no such
/// stack, and takes a second to wipe one.
const DEPTH: usize = if cfg!(miri) { 64 } else { 32 * 1024 };

/// Runs `work` and then wipes the stack below the caller, where `work` had its frames: 32 KiB of it.
/// What `work` returns should hold nothing secret but on the heap: it passes over the stack itself.
#[inline(never)]
pub fn without_traces<R>(work: impl FnOnce() -> R) -> R {
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

/// A cache line.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line(#[expect(dead_code, reason = "only written")] [u64; 8]);

/// Wipes so many cache lines of the stack below the caller: for what a batch of packets left
/// there. Called behind the functions that did it, from the same frame as they.
#[inline(never)]
pub(crate) fn wipe_lines<const LINES: usize>() {
    let mut frames = [const { MaybeUninit::<Line>::uninit() }; LINES];
    for line in &mut frames {
        line.write(Line([0; 8]));
    }
    // As if all of it were read: so it has to be written.
    black_box(&frames);
}
