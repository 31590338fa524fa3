//! One packet: chunks of 14 blocks, the hash of each overlapping the encryption of the next,
//! then what is left of it.
//!
//! A packet that is no longer than a chunk is verified before it is deciphered. A longer one is
//! deciphered in one pass, in the caller's buffer, and wiped before this returns if its tag is
//! wrong.

use core::arch::x86_64::*;

use super::ops::{
    Products, V, block, encipher, first, lengths, load, load_first, reverse, reverse1, store_first,
    with_zero, xor,
};
use crate::job::Outcome;
use crate::wide::lane::{Lane, Packet};
use crate::wide::schedule::{POWERS, Schedule};

/// Registers of a chunk. With the block of lengths, its blocks are no more than there are powers.
const CHUNK: usize = 7;
const _: () = assert!(2 * CHUNK < POWERS);
/// Bytes of a register.
const WIDTH: usize = 32;
/// Longest packet that is verified first: one chunk.
pub(super) const SHORT: usize = CHUNK * WIDTH;

/// Keystream, and J0's if `MORE`.
///
/// # Safety
/// As for [`encipher`], and as always inlined.
#[inline(always)]
unsafe fn keystream<const Z: usize, const MORE: bool>(
    schedule: &Schedule,
    nonce: __m128i,
    counter: u32,
) -> ([V; Z], __m128i) {
    // SAFETY: the features are there.
    unsafe {
        // Counters little-endian until they are shuffled, so that they can be added to.
        let order = _mm_set_epi8(12, 13, 14, 15, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        let order = _mm256_broadcastsi128_si256(order);
        let nonce = _mm256_broadcastsi128_si256(nonce);
        let start = _mm256_add_epi32(nonce, numbers(counter, counter.wrapping_add(1)));
        let mut states = [start; Z];
        for (z, state) in states.iter_mut().enumerate() {
            let further = numbers(2 * z as u32, 2 * z as u32);
            *state = _mm256_shuffle_epi8(_mm256_add_epi32(start, further), order);
        }
        let one = _mm_set_epi32(1_i32.to_be(), 0, 0, 0);
        let mut j0 = _mm_or_si128(_mm256_castsi256_si128(nonce), one);
        encipher::<Z, MORE>(schedule, &mut states, &mut j0);
        (states, j0)
    }
}

/// Two blocks of zeros but for the counters.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
fn numbers(low: u32, high: u32) -> V {
    _mm256_set_epi32(high as i32, 0, 0, 0, low as i32, 0, 0, 0)
}

/// The state after whole blocks, at most POWERS.
///
/// # Safety
/// `count` blocks, between 1 and POWERS, can be read there.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
unsafe fn hash_blocks(schedule: &Schedule, at: *const u8, count: usize, state: __m128i) -> __m128i {
    let mut products = Products::none();
    let mut carried = with_zero(state);
    for z in 0..count.div_ceil(2) {
        // SAFETY: as this function's, and the power is between 1 and POWERS; of the last, one
        // block behind the table may be read.
        let (data, powers) = unsafe {
            (
                load_first(at.add(WIDTH * z), 16 * count - WIDTH * z),
                load(schedule.power(count - 2 * z)),
            )
        };
        products.add(xor(reverse(data), carried), powers);
        carried = _mm256_setzero_si256();
    }
    products.reduce()
}

/// Hashes whole blocks on top of a state.
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
pub(super) fn hash(schedule: &Schedule, state: &[u8; 16], blocks: &[[u8; 16]]) -> [u8; 16] {
    let mut state = reverse1(block(state));
    for chunk in blocks.chunks(POWERS) {
        // SAFETY: so many there are.
        state = unsafe { hash_blocks(schedule, chunk.as_ptr().cast(), chunk.len(), state) };
    }
    let mut out = [0; 16];
    // SAFETY: 16 bytes.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), reverse1(state)) };
    out
}

/// The state after the block of associated data.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
fn start(lane: &Lane<'_>) -> __m128i {
    let mut products = Products::none();
    // SAFETY: the power is 1, and a block behind the table may be read.
    let power = unsafe { load(lane.schedule.power(1)) };
    products.add(with_zero(reverse1(block(lane.aad))), power);
    products.reduce()
}

/// Where in a packet we are.
struct Walk<'s> {
    schedule: &'s Schedule,
    nonce: __m128i,
    /// The next block, the bytes from there to the end of the data, and its counter.
    at: *mut u8,
    left: usize,
    counter: u32,
}

impl<'s> Walk<'s> {
    #[inline]
    #[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn new(lane: &mut Lane<'s>) -> Self {
        Self {
            schedule: lane.schedule,
            nonce: block(lane.counter),
            at: lane.data.as_mut_ptr(),
            left: lane.data.len(),
            counter: 2,
        }
    }

    /// Bytes of the data in the register at `z`, and where they are.
    #[inline]
    #[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn part(&self, z: usize) -> (*mut u8, usize) {
        let len = self.left.saturating_sub(WIDTH * z).min(WIDTH);
        (self.at.wrapping_add(WIDTH * z), len)
    }

    /// The last data, in `Z` registers, and the block of lengths: hash and J0's keystream (of
    /// which the latter is none if not `MORE`).
    ///
    /// With `WRITE`, data is enciphered or deciphered; without, it is only hashed, and the
    /// keystream is for later.
    #[inline]
    #[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn tail<const Z: usize, const SEAL: bool, const WRITE: bool, const MORE: bool>(
        &self,
        lane: &Lane<'_>,
        state: __m128i,
    ) -> (__m128i, __m128i, [V; Z]) {
        // SAFETY: this function has the features.
        let (keystream, j0) =
            unsafe { keystream::<Z, MORE>(self.schedule, self.nonce, self.counter) };
        let blocks = self.left.div_ceil(16);
        let mut products = Products::none();
        let mut carried = with_zero(state);
        for (z, stream) in keystream.iter().enumerate() {
            let (at, len) = self.part(z);
            // SAFETY: a part of the data.
            let input = unsafe { load_first(at, len) };
            let mut cipher = input;
            if WRITE {
                let output = xor(input, *stream);
                // SAFETY: as above.
                unsafe { store_first(at, len, output) };
                if SEAL {
                    cipher = first(output, len);
                }
            }
            // SAFETY: at most CHUNK registers, so the first power is at most 2 * CHUNK + 1, no
            // more than POWERS, and a block behind the table may be read.
            let powers = unsafe { load(self.schedule.power(blocks + 1).add(WIDTH * z)) };
            products.add(xor(reverse(cipher), carried), powers);
            carried = _mm256_setzero_si256();
        }
        let lengths = lengths(lane.lengths);
        // Without data here, what was carried meets the lengths.
        let lengths = xor(with_zero(lengths), carried);
        // SAFETY: the power is 1, and a block behind the table may be read.
        let power = unsafe { load(self.schedule.power(1)) };
        products.add(lengths, power);
        (products.reduce(), j0, keystream)
    }

    /// [`Self::tail`] with as many registers as it takes.
    #[inline]
    #[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
    fn rest<const SEAL: bool>(&self, lane: &Lane<'_>, state: __m128i) -> __m128i {
        match self.left.div_ceil(WIDTH) {
            0 => self.tail::<0, SEAL, true, false>(lane, state).0,
            1 => self.tail::<1, SEAL, true, false>(lane, state).0,
            2 => self.tail::<2, SEAL, true, false>(lane, state).0,
            3 => self.tail::<3, SEAL, true, false>(lane, state).0,
            4 => self.tail::<4, SEAL, true, false>(lane, state).0,
            5 => self.tail::<5, SEAL, true, false>(lane, state).0,
            6 => self.tail::<6, SEAL, true, false>(lane, state).0,
            _ => self.tail::<7, SEAL, true, false>(lane, state).0,
        }
    }
}

/// Writes the tag, or compares it; tells whether all is well.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
fn conclude<const SEAL: bool>(lane: &mut Lane<'_>, hash: __m128i, j0: __m128i) -> bool {
    let tag = _mm_xor_si128(reverse1(hash), j0);
    if SEAL {
        // SAFETY: 16 bytes.
        unsafe { _mm_storeu_si128(lane.tag.as_mut_ptr().cast(), tag) };
        *lane.outcome = Outcome::Sealed;
        return true;
    }
    // All 128 bits at once. From here on the verdict is public.
    let difference = _mm_xor_si128(tag, block(lane.tag));
    let authentic = _mm_testz_si128(difference, difference) == 1;
    *lane.outcome = if authentic {
        Outcome::Authentic
    } else {
        Outcome::Failed
    };
    authentic
}

/// Seals or opens a packet of at most [`SHORT`] bytes (of a longer one, the rest would be
/// ignored).
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
pub(super) fn short<const SEAL: bool>(packet: &mut Packet<'_, '_>) {
    let lane = &mut Lane::of(packet);
    match lane.data.len().div_ceil(WIDTH) {
        0 => short_of::<0, SEAL>(lane),
        1 => short_of::<1, SEAL>(lane),
        2 => short_of::<2, SEAL>(lane),
        3 => short_of::<3, SEAL>(lane),
        4 => short_of::<4, SEAL>(lane),
        5 => short_of::<5, SEAL>(lane),
        6 => short_of::<6, SEAL>(lane),
        _ => short_of::<7, SEAL>(lane),
    }
}

#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
fn short_of<const Z: usize, const SEAL: bool>(lane: &mut Lane<'_>) {
    let walk = Walk::new(lane);
    let state = start(lane);
    if SEAL {
        let (hash, j0, _) = walk.tail::<Z, SEAL, true, true>(lane, state);
        conclude::<SEAL>(lane, hash, j0);
        return;
    }
    let (hash, j0, keystream) = walk.tail::<Z, SEAL, false, true>(lane, state);
    if !conclude::<SEAL>(lane, hash, j0) {
        lane.data.fill(0);
        return;
    }
    for (z, stream) in keystream.iter().enumerate() {
        let (at, len) = walk.part(z);
        // SAFETY: a part of the data.
        unsafe { store_first(at, len, xor(load_first(at, len), *stream)) };
    }
}

/// Seals or opens a packet of any length.
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
pub(super) fn long<const SEAL: bool>(packet: &mut Packet<'_, '_>) {
    let lane = &mut Lane::of(packet);
    let mut walk = Walk::new(lane);
    let mut state = start(lane);
    // SAFETY: this function has the features.
    let (_, j0) = unsafe { keystream::<0, true>(walk.schedule, walk.nonce, 0) };
    let mut before: Option<*const u8> = None;
    while walk.left >= CHUNK * WIDTH {
        // SAFETY: this function has the features.
        let (keystream, _) =
            unsafe { keystream::<CHUNK, false>(walk.schedule, walk.nonce, walk.counter) };
        // Meanwhile: the ciphertext before this chunk's, or this one's before it is gone.
        let hashed = if SEAL {
            before.replace(walk.at)
        } else {
            Some(walk.at.cast_const())
        };
        if let Some(at) = hashed {
            // SAFETY: a whole chunk of the data.
            state = unsafe { hash_blocks(walk.schedule, at, 2 * CHUNK, state) };
        }
        for (z, stream) in keystream.iter().enumerate() {
            let (at, len) = walk.part(z);
            // SAFETY: a part of the data.
            unsafe { store_first(at, len, xor(load_first(at, len), *stream)) };
        }
        walk.at = walk.at.wrapping_add(CHUNK * WIDTH);
        walk.left -= CHUNK * WIDTH;
        walk.counter = walk.counter.wrapping_add(2 * CHUNK as u32);
    }
    if let Some(at) = before {
        // SAFETY: a whole chunk of the data.
        state = unsafe { hash_blocks(walk.schedule, at, 2 * CHUNK, state) };
    }
    let hash = walk.rest::<SEAL>(lane, state);
    if !conclude::<SEAL>(lane, hash, j0) {
        // Not lost to the optimizer: the buffer is the caller's.
        lane.data.fill(0);
    }
}
