//! What the kernel does to registers of two blocks.

use core::arch::x86_64::*;

use crate::wide::schedule::Schedule;

/// Two blocks.
pub(super) type V = __m256i;

/// All of it.
///
/// # Safety
/// 32 bytes can be read there.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
pub(super) unsafe fn load(at: *const u8) -> V {
    // SAFETY: as this function's.
    unsafe { _mm256_loadu_si256(at.cast()) }
}

/// The first `len` bytes, the others zero.
///
/// # Safety
/// `len` bytes can be read there.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
pub(super) unsafe fn load_first(at: *const u8, len: usize) -> V {
    if len >= 32 {
        // SAFETY: as this function's.
        return unsafe { load(at) };
    }
    if len.is_multiple_of(4) {
        // SAFETY: as this function's: words that are masked out do not fault (Intel SDM,
        // volume 2, VPMASKMOV).
        return unsafe { _mm256_maskload_epi32(at.cast(), words(len)) };
    }
    let mut bytes = [0_u8; 32];
    // SAFETY: less than 32 bytes, from memory that is none of ours.
    unsafe {
        at.copy_to_nonoverlapping(bytes.as_mut_ptr(), len);
        load(bytes.as_ptr())
    }
}

/// Writes the first `len` bytes.
///
/// # Safety
/// `len` bytes can be written there.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
pub(super) unsafe fn store_first(at: *mut u8, len: usize, value: V) {
    if len >= 32 {
        // SAFETY: as this function's.
        return unsafe { _mm256_storeu_si256(at.cast(), value) };
    }
    if len.is_multiple_of(4) {
        // SAFETY: as for loading.
        return unsafe { _mm256_maskstore_epi32(at.cast(), words(len), value) };
    }
    let mut bytes = [0_u8; 32];
    // SAFETY: less than 32 bytes, to memory that is none of ours.
    unsafe {
        _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value);
        bytes.as_ptr().copy_to_nonoverlapping(at, len);
    }
}

/// A mask of the words in the first `len` bytes.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
fn words(len: usize) -> V {
    let place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32((len / 4) as i32), place)
}

/// `value` with zeros behind its first `len` bytes.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
pub(super) fn first(value: V, len: usize) -> V {
    if len >= 32 {
        return value;
    }
    let place = _mm256_setr_epi8(
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
        25, 26, 27, 28, 29, 30, 31,
    );
    let inside = _mm256_cmpgt_epi8(_mm256_set1_epi8(len as i8), place);
    _mm256_and_si256(value, inside)
}

/// A block.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
pub(super) fn block(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// The block of lengths.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
pub(super) fn lengths(bits: &[u64; 2]) -> __m128i {
    // SAFETY: 16 bytes.
    unsafe { _mm_loadu_si128(bits.as_ptr().cast()) }
}

/// The round key of a round, twice.
///
/// # Safety
/// `round` is at most 14.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
pub(super) unsafe fn round_key(schedule: &Schedule, round: usize) -> V {
    // SAFETY: as this function's.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(schedule.round_key(round).cast()) })
}

#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
pub(super) fn xor(a: V, b: V) -> V {
    _mm256_xor_si256(a, b)
}

/// Each block's bytes the other way round: as the multiplier wants them, and back.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
pub(super) fn reverse(blocks: V) -> V {
    let order = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm256_shuffle_epi8(blocks, _mm256_broadcastsi128_si256(order))
}

/// [`reverse`] of one block.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
pub(super) fn reverse1(block: __m128i) -> __m128i {
    let order = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm_shuffle_epi8(block, order)
}

/// A block and a zero one.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
pub(super) fn with_zero(block: __m128i) -> V {
    _mm256_zextsi128_si256(block)
}

/// Enciphers counter blocks into which the first round key is not yet mixed, and beside them
/// one more block if `MORE`. The number of rounds is public, so there is a branch on it.
///
/// # Safety
/// The CPU has AVX2 and VAES. Always inlined, where states are registers: a function with
/// features of its own, which the language does not let us inline always, would have them in
/// memory.
#[inline(always)]
pub(super) unsafe fn encipher<const Z: usize, const MORE: bool>(
    schedule: &Schedule,
    states: &mut [V; Z],
    more: &mut __m128i,
) {
    // SAFETY: the features are there, and rounds go up to 14.
    unsafe {
        let key = round_key(schedule, 0);
        for state in &mut *states {
            *state = xor(*state, key);
        }
        *more = _mm_xor_si128(*more, _mm256_castsi256_si128(key));
        for round in 1..10 {
            one_round::<Z, MORE>(schedule, states, more, round);
        }
        let mut last = 10;
        if schedule.rounds() != last {
            last = 14;
            for round in 10..14 {
                one_round::<Z, MORE>(schedule, states, more, round);
            }
        }
        let key = round_key(schedule, last);
        for state in states {
            *state = _mm256_aesenclast_epi128(*state, key);
        }
        if MORE {
            *more = _mm_aesenclast_si128(*more, _mm256_castsi256_si128(key));
        }
    }
}

/// # Safety
/// As for [`encipher`], and `round` is at most 14.
#[inline(always)]
unsafe fn one_round<const Z: usize, const MORE: bool>(
    schedule: &Schedule,
    states: &mut [V; Z],
    more: &mut __m128i,
    round: usize,
) {
    // SAFETY: as this function's.
    unsafe {
        let key = round_key(schedule, round);
        for state in states {
            *state = _mm256_aesenc_epi128(*state, key);
        }
        if MORE {
            *more = _mm_aesenc_si128(*more, _mm256_castsi256_si128(key));
        }
    }
}

/// Products of blocks and powers that are yet to be reduced.
#[derive(Clone, Copy)]
pub(super) struct Products {
    low: V,
    middle: V,
    high: V,
}

impl Products {
    #[inline]
    #[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
    pub(super) fn none() -> Self {
        let zero = _mm256_setzero_si256();
        Self {
            low: zero,
            middle: zero,
            high: zero,
        }
    }

    /// Adds further products.
    #[inline]
    #[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
    pub(super) fn add(&mut self, blocks: V, powers: V) {
        let cross = xor(
            _mm256_clmulepi64_epi128::<0x01>(blocks, powers),
            _mm256_clmulepi64_epi128::<0x10>(blocks, powers),
        );
        self.low = xor(self.low, _mm256_clmulepi64_epi128::<0x00>(blocks, powers));
        self.middle = xor(self.middle, cross);
        self.high = xor(self.high, _mm256_clmulepi64_epi128::<0x11>(blocks, powers));
    }

    /// The sum of both, modulo the field's polynomial.
    #[inline]
    #[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
    pub(super) fn reduce(self) -> __m128i {
        let (low, middle, high) = (sum(self.low), sum(self.middle), sum(self.high));
        let poly = _mm_set_epi64x(0xc200_0000_0000_0000_u64 as i64, 1);
        let fold = _mm_clmulepi64_si128::<0x01>(poly, low);
        let swapped = _mm_shuffle_epi32::<0x4e>(low);
        let middle = _mm_xor_si128(_mm_xor_si128(middle, fold), swapped);
        let fold = _mm_clmulepi64_si128::<0x01>(poly, middle);
        let swapped = _mm_shuffle_epi32::<0x4e>(middle);
        _mm_xor_si128(_mm_xor_si128(high, fold), swapped)
    }
}

#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
fn sum(v: V) -> __m128i {
    _mm_xor_si128(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v))
}
