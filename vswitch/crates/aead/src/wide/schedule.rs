//! A key as the wide backends have it: everything a packet needs, in the order in which short
//! packets need it.

use core::arch::x86_64::*;

/// Powers of the hash key in the table: as many blocks are hashed for one reduction. 16 was
/// chosen by a measurement (docs/protection.md).
pub(super) const POWERS: usize = 16;

/// Most rounds of AES.
const ROUNDS: usize = 14;

/// Round keys and powers of the hash key. Powers descend towards the round keys, so that a
/// packet of `n` blocks touches the last `n` of them and what comes right behind.
#[repr(C, align(64))]
pub(crate) struct Schedule {
    /// H^POWERS to H^1, each times x modulo the field's polynomial, all in the bit order of
    /// the carry-less multiplier (Gueron and Kounavis, "Intel Carry-Less Multiplication
    /// Instruction and its Usage for Computing the GCM Mode", 2014).
    powers: [[u8; 16]; POWERS],
    /// The number of rounds, 10 or 14, and zeros.
    head: [u8; 16],
    /// Of AES (FIPS 197, section 5.2); unused ones are zero.
    round_keys: [[u8; 16]; ROUNDS + 1],
}

impl Schedule {
    /// Expands a key of 16 or 32 bytes. Called for wide backends, which need more of the CPU
    /// than this does.
    pub(crate) fn new(key: &[u8]) -> Self {
        // SAFETY: only `Key::new` calls this, for a backend that said it was usable: it needs
        // AES and carry-less multiplication in wider registers than these.
        unsafe { Self::expand(key) }
    }

    #[target_feature(enable = "aes,pclmulqdq,ssse3")]
    fn expand(key: &[u8]) -> Self {
        let (round_keys, rounds) = round_keys(key);
        let mut block = _mm_setzero_si128();
        for (round, key) in round_keys.iter().enumerate().take(rounds + 1) {
            let key = from_bytes(*key);
            block = match round {
                0 => _mm_xor_si128(block, key),
                _ if round == rounds => _mm_aesenclast_si128(block, key),
                _ => _mm_aesenc_si128(block, key),
            };
        }
        // Times x: a shift, as bits are reflected, and the polynomial without a branch.
        let h = u128::from_be_bytes(to_bytes(block));
        let carry = (h >> 127).wrapping_neg();
        let h = (h << 1) ^ (carry & (0xc200_0000_0000_0000 << 64 | 1));
        let h = from_bytes(h.to_le_bytes());
        let mut powers = [[0; 16]; POWERS];
        let mut power = h;
        for place in powers.iter_mut().rev() {
            *place = to_bytes(power);
            power = multiply(power, h);
        }
        let mut head = [0; 16];
        head[0] = rounds as u8;
        Self {
            powers,
            head,
            round_keys,
        }
    }

    /// 10 or 14.
    #[inline(always)]
    pub(super) fn rounds(&self) -> usize {
        usize::from(self.head[0])
    }

    /// Address of the round key of a round.
    ///
    /// # Safety
    /// `round` is at most 14.
    #[inline(always)]
    pub(super) unsafe fn round_key(&self, round: usize) -> *const u8 {
        // SAFETY: within the array of 15.
        unsafe { self.round_keys.as_ptr().add(round).cast() }
    }

    /// Address of H^`power`, behind which H^(`power`-1) and so on follow, then 256 bytes of
    /// other parts of the schedule, which a product with zero may read.
    ///
    /// # Safety
    /// `power` is at most [`POWERS`].
    #[inline(always)]
    pub(super) unsafe fn power(&self, power: usize) -> *const u8 {
        // SAFETY: within the schedule, of which the powers are the beginning; the address is
        // that of the whole so that reads may go beyond the table.
        unsafe {
            core::ptr::from_ref(self)
                .cast::<u8>()
                .add(16 * (POWERS - power))
        }
    }

    /// Fetches all of it, or what a packet of a few blocks needs; the last round keys only of a
    /// long key.
    #[inline(always)]
    pub(crate) fn prefetch(&self, all: bool, long_key: bool) {
        let at = core::ptr::from_ref(self).cast::<i8>();
        // SAFETY: within the schedule (and a prefetch never faults); SSE is part of x86-64.
        unsafe {
            for line in FEW..LINES - 1 {
                _mm_prefetch::<_MM_HINT_T0>(at.add(64 * line));
            }
            if all {
                for line in 0..FEW {
                    _mm_prefetch::<_MM_HINT_T0>(at.add(64 * line));
                }
            }
            if long_key {
                _mm_prefetch::<_MM_HINT_T0>(at.add(64 * (LINES - 1)));
            }
        }
    }
}

/// Cache lines of a schedule.
const LINES: usize = size_of::<Schedule>() / 64;
const _: () = assert!(LINES == 8);

/// Cache lines that a packet of a few blocks does not need: behind them are H^8 to H^1, the head
/// and the round keys, of which those of AES-128 end with the last line but one.
const FEW: usize = 2;
/// Bytes of data of such a packet at most.
pub(crate) const FEW_BYTES: usize = 6 * 16;
const _: () = assert!(16 * (POWERS + 1 + 11) == 64 * (LINES - 1));

/// Round keys and the number of rounds.
#[target_feature(enable = "aes,ssse3")]
fn round_keys(key: &[u8]) -> ([[u8; 16]; ROUNDS + 1], usize) {
    let mut words = [0_u32; 4 * (ROUNDS + 1)];
    let (given, _) = key.as_chunks::<4>();
    for (word, bytes) in words.iter_mut().zip(given) {
        *word = u32::from_le_bytes(*bytes);
    }
    let nk = given.len();
    let rounds = if nk == 4 { 10 } else { ROUNDS };
    let mut rcon = 1_u32;
    // As FIPS 197's figure 6; words are little-endian here, so its rotation is the other way.
    for i in nk..4 * (rounds + 1) {
        let before = words.get(i - 1).copied().unwrap_or(0);
        let changed = if i.is_multiple_of(nk.max(1)) {
            let word = substitute(before).rotate_right(8) ^ rcon;
            rcon = (rcon << 1) ^ if rcon & 0x80 == 0 { 0 } else { 0x11b };
            word
        } else if nk > 6 && i % nk == 4 {
            substitute(before)
        } else {
            before
        };
        let earlier = words.get(i - nk).copied().unwrap_or(0);
        if let Some(word) = words.get_mut(i) {
            *word = earlier ^ changed;
        }
    }
    let mut keys = [[0; 16]; ROUNDS + 1];
    let bytes = words.iter().flat_map(|w| w.to_le_bytes());
    for (to, from) in keys.as_flattened_mut().iter_mut().zip(bytes) {
        *to = from;
    }
    (keys, rounds)
}

/// The S-box on each byte.
#[target_feature(enable = "aes")]
fn substitute(word: u32) -> u32 {
    let words = _mm_set_epi32(0, 0, word as i32, 0);
    _mm_cvtsi128_si32(_mm_aeskeygenassist_si128::<0>(words)) as u32
}

/// A product in the field, of which one factor is times x.
#[target_feature(enable = "pclmulqdq")]
fn multiply(a: __m128i, b: __m128i) -> __m128i {
    let poly = _mm_set_epi64x(0xc200_0000_0000_0000_u64 as i64, 1);
    let lo = _mm_clmulepi64_si128::<0x00>(a, b);
    let hi = _mm_clmulepi64_si128::<0x11>(a, b);
    let mid = _mm_xor_si128(
        _mm_clmulepi64_si128::<0x01>(a, b),
        _mm_clmulepi64_si128::<0x10>(a, b),
    );
    let swapped = _mm_shuffle_epi32::<0x4e>(lo);
    let folded = _mm_clmulepi64_si128::<0x01>(poly, lo);
    let mid = _mm_xor_si128(_mm_xor_si128(mid, folded), swapped);
    let swapped = _mm_shuffle_epi32::<0x4e>(mid);
    let folded = _mm_clmulepi64_si128::<0x01>(poly, mid);
    _mm_xor_si128(_mm_xor_si128(hi, folded), swapped)
}

#[target_feature(enable = "sse2")]
fn from_bytes(bytes: [u8; 16]) -> __m128i {
    // SAFETY: 16 bytes, read unaligned.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
fn to_bytes(block: __m128i) -> [u8; 16] {
    let mut bytes = [0; 16];
    // SAFETY: 16 bytes, written unaligned.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), block) };
    bytes
}
