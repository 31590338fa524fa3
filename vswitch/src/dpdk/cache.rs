//! Hints to the CPU's cache, as `rte_prefetch.h` has them: memory that will be needed is asked for, and
//! nobody waits.

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for all lines in which a value lies.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    prefetch_first(value, size_of::<T>());
}

/// Asks for the lines in which the first `bytes` of a value lie.
#[inline(always)]
pub fn prefetch_first<T>(value: &T, bytes: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let at = core::ptr::from_ref(value).cast::<i8>();
        let inside = at.addr() % LINE;
        for line in 0..(inside + bytes.min(size_of::<T>())).div_ceil(LINE) {
            // SAFETY: a hint, which reads nothing that the program could see and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(line * LINE)) };
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (value, bytes);
}
