//! What the kernels do to registers of four blocks.

use core::arch::x86_64::*;

use crate::wide::schedule::Schedule;
use crate::wide::unroll::unrolled;

/// Four blocks.
pub(super) type V = __m512i;

/// All of it.
///
/// # Safety
/// 64 bytes can be read there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) unsafe fn load(at: *const u8) -> V {
    // SAFETY: as this function's.
    unsafe { _mm512_loadu_si512(at.cast()) }
}

/// The bytes of the mask, the others zero.
///
/// # Safety
/// The masked bytes can be read; nothing else is touched, wherever it is.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) unsafe fn load_masked(at: *const u8, mask: u64) -> V {
    // SAFETY: as this function's: bytes that are masked out do not fault (Intel SDM, volume 1,
    // section 15.6.4).
    unsafe { _mm512_maskz_loadu_epi8(mask, at.cast()) }
}

/// Writes all of it.
///
/// # Safety
/// 64 bytes can be written there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) unsafe fn store(at: *mut u8, value: V) {
    // SAFETY: as this function's.
    unsafe { _mm512_storeu_si512(at.cast(), value) }
}

/// Writes the bytes of the mask.
///
/// # Safety
/// The masked bytes can be written; nothing else is touched.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) unsafe fn store_masked(at: *mut u8, mask: u64, value: V) {
    // SAFETY: as above.
    unsafe { _mm512_mask_storeu_epi8(at.cast(), mask, value) }
}

/// A block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn block(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// A block, four times.
///
/// # Safety
/// 16 bytes can be read there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) unsafe fn broadcast(at: *const u8) -> V {
    // SAFETY: as this function's.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(at.cast()) })
}

/// The first `n` of 64 bits; all if it is more.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn first_bytes(n: usize) -> u64 {
    _bzhi_u64(u64::MAX, n.min(64) as u32)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn xor(a: V, b: V) -> V {
    _mm512_xor_si512(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn xor3(a: V, b: V, c: V) -> V {
    _mm512_ternarylogic_epi64::<0x96>(a, b, c)
}

/// Each block's bytes the other way round: as the multiplier wants them, and back.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn reverse(blocks: V) -> V {
    let order = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm512_shuffle_epi8(blocks, _mm512_broadcast_i32x4(order))
}

/// [`reverse`] of one block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn reverse1(block: __m128i) -> __m128i {
    let order = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm_shuffle_epi8(block, order)
}

/// Work that goes on between rounds of AES, which leaves half of the ports free.
pub(super) trait Between {
    /// What is done behind round `ROUND`, 1 to 9.
    ///
    /// # Safety
    /// The CPU has the features of this module.
    unsafe fn step<const ROUND: usize>(&mut self);
}

/// No work.
impl Between for () {
    #[inline(always)]
    unsafe fn step<const ROUND: usize>(&mut self) {}
}

/// Enciphers counter blocks, `N` registers for each of `P` keys with `ROUNDS` rounds, 10 or 14; the
/// first round key is in them already.
///
/// The number of rounds is a constant: behind a branch on it, the optimizer would do the work that
/// goes between rounds.
///
/// # Safety
/// The CPU has AVX-512F and VAES, and the keys have so many rounds. Always inlined, where states
/// are registers: a function with features of its own, which the language does not let us inline
/// always, would have them in memory.
#[inline(always)]
pub(super) unsafe fn encipher<const P: usize, const N: usize, const ROUNDS: usize>(
    schedules: [&Schedule; P],
    states: &mut [[V; N]; P],
    between: &mut impl Between,
) {
    const { assert!(ROUNDS == 10 || ROUNDS == 14) };
    // SAFETY: the features are there, and rounds go up to 14.
    unsafe {
        macro_rules! rounds {
            ($($round:literal)*) => {
                $(
                    one_round(schedules, states, $round);
                    between.step::<$round>();
                )*
            };
        }
        rounds!(1 2 3 4 5 6 7 8 9);
        if ROUNDS == 14 {
            one_round(schedules, states, 10);
            one_round(schedules, states, 11);
            one_round(schedules, states, 12);
            one_round(schedules, states, 13);
        }
        unrolled!(I < P; {
            let key = broadcast(schedules[I].round_key(ROUNDS));
            unrolled!(Z < N; {
                states[I][Z] = _mm512_aesenclast_epi128(states[I][Z], key);
            });
        });
    }
}

/// # Safety
/// As for [`encipher`], and `round` is at most 14.
#[inline(always)]
unsafe fn one_round<const P: usize, const N: usize>(
    schedules: [&Schedule; P],
    states: &mut [[V; N]; P],
    round: usize,
) {
    // SAFETY: as this function's.
    unsafe {
        unrolled!(I < P; {
            let key = broadcast(schedules[I].round_key(round));
            unrolled!(Z < N; {
                states[I][Z] = _mm512_aesenc_epi128(states[I][Z], key);
            });
        });
    }
}

/// Products of blocks and powers that are yet to be reduced.
#[derive(Clone, Copy)]
pub(super) struct Products {
    pub(super) low: V,
    pub(super) middle: V,
    pub(super) high: V,
}

impl Products {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn none() -> Self {
        let zero = _mm512_setzero_si512();
        Self {
            low: zero,
            middle: zero,
            high: zero,
        }
    }

    /// Those of one register.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn of(blocks: V, powers: V) -> Self {
        Self {
            low: _mm512_clmulepi64_epi128::<0x00>(blocks, powers),
            middle: xor(
                _mm512_clmulepi64_epi128::<0x01>(blocks, powers),
                _mm512_clmulepi64_epi128::<0x10>(blocks, powers),
            ),
            high: _mm512_clmulepi64_epi128::<0x11>(blocks, powers),
        }
    }

    /// Adds further products. Four multiplications: where this runs, they are not what limits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn add(&mut self, blocks: V, powers: V) {
        self.low = xor(self.low, _mm512_clmulepi64_epi128::<0x00>(blocks, powers));
        self.middle = xor3(
            self.middle,
            _mm512_clmulepi64_epi128::<0x01>(blocks, powers),
            _mm512_clmulepi64_epi128::<0x10>(blocks, powers),
        );
        self.high = xor(self.high, _mm512_clmulepi64_epi128::<0x11>(blocks, powers));
    }

    /// The four of one packet to two, beside those of another.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn pairs(self, other: Self) -> Self {
        Self {
            low: pairs(self.low, other.low),
            middle: pairs(self.middle, other.middle),
            high: pairs(self.high, other.high),
        }
    }

    /// The two of each of two packets to one, beside those of two others.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn quads(self, other: Self) -> Self {
        Self {
            low: quads(self.low, other.low),
            middle: quads(self.middle, other.middle),
            high: quads(self.high, other.high),
        }
    }

    /// Modulo the field's polynomial, each of the four by itself.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn reduce(self) -> V {
        let poly = _mm_set_epi64x(0xc200_0000_0000_0000_u64 as i64, 1);
        let poly = _mm512_broadcast_i32x4(poly);
        let fold = _mm512_clmulepi64_epi128::<0x01>(poly, self.low);
        let middle = xor3(self.middle, fold, _mm512_shuffle_epi32::<0x4e>(self.low));
        let fold = _mm512_clmulepi64_epi128::<0x01>(poly, middle);
        xor3(self.high, fold, _mm512_shuffle_epi32::<0x4e>(middle))
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn pairs(a: V, b: V) -> V {
    xor(
        _mm512_shuffle_i32x4::<0x44>(a, b),
        _mm512_shuffle_i32x4::<0xee>(a, b),
    )
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn quads(ab: V, cd: V) -> V {
    xor(
        _mm512_shuffle_i32x4::<0x88>(ab, cd),
        _mm512_shuffle_i32x4::<0xdd>(ab, cd),
    )
}

/// The sum of the four blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn sum(v: V) -> __m128i {
    let halves = _mm256_xor_si256(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v));
    _mm_xor_si128(
        _mm256_castsi256_si128(halves),
        _mm256_extracti128_si256::<1>(halves),
    )
}
