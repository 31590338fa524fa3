//! GHASH of what is not enciphered.

use core::arch::x86_64::*;

use super::ops::{Products, block, first_bytes, load, load_masked, reverse, reverse1, sum, xor};
use crate::wide::schedule::{POWERS, Schedule};

/// Hashes whole blocks on top of a state.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn hash(schedule: &Schedule, state: &[u8; 16], blocks: &[[u8; 16]]) -> [u8; 16] {
    let mut state = reverse1(block(state));
    for chunk in blocks.chunks(POWERS) {
        let bytes = chunk.as_flattened();
        let mut products = Products::none();
        let mut carried = _mm512_zextsi128_si512(state);
        for (z, four) in bytes.chunks(64).enumerate() {
            // SAFETY: the mask has as many bits as there are bytes.
            let data = unsafe { load_masked(four.as_ptr(), first_bytes(four.len())) };
            // SAFETY: the chunk has at most POWERS blocks, and 4z of them come before these, so
            // the power is between 1 and POWERS; three blocks behind the table may be read.
            let powers = unsafe { load(schedule.power(chunk.len() - 4 * z)) };
            products.add(xor(reverse(data), carried), powers);
            carried = _mm512_setzero_si512();
        }
        state = sum(products.reduce());
    }
    let mut out = [0; 16];
    // SAFETY: 16 bytes.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), reverse1(state)) };
    out
}
