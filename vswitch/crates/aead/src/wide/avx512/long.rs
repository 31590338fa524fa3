//! Packets that take more registers than there are for lockstep, one at a time: chunks of as
//! many blocks as there are powers, each hashed while the next is enciphered.
//!
//! One pass: opening deciphers before it knows the tag, in the caller's buffer, and wipes that
//! when the tag is wrong, before it returns.

use core::arch::x86_64::*;

use super::ops::{
    Products, V, block, broadcast, encipher, first_bytes, load, load_masked, reverse, reverse1,
    store_masked, sum, xor,
};
use crate::job::Outcome;
use crate::wide::lane::{Lane, Packet};
use crate::wide::schedule::{POWERS, Schedule};

/// Registers of a chunk.
const CHUNK: usize = POWERS / 4;
/// Bytes of a chunk.
const CHUNK_BYTES: usize = 16 * POWERS;

/// Where in a packet we are. The first block, 16 bytes before the data, is that of the
/// associated data.
struct Walk<'s> {
    schedule: &'s Schedule,
    /// The next block, and the bytes from there to the end of the data.
    at: *mut u8,
    left: usize,
    /// The next four counter blocks, their counters little-endian.
    counters: V,
}

impl Walk<'_> {
    /// Keystream for the next `Z` registers.
    ///
    /// # Safety
    /// As for [`encipher`], and as always inlined.
    #[inline(always)]
    unsafe fn keystream<const Z: usize>(&self) -> [V; Z] {
        // SAFETY: the features are there, and a round there is.
        unsafe {
            let key = broadcast(self.schedule.round_key(0));
            let order = _mm_set_epi8(12, 13, 14, 15, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
            let order = _mm512_broadcast_i32x4(order);
            let mut states = [[key; Z]];
            for (z, state) in states.as_flattened_mut().iter_mut().enumerate() {
                let counters = _mm512_add_epi32(self.counters, later(4 * z as i32));
                *state = xor(key, _mm512_shuffle_epi8(counters, order));
            }
            encipher([self.schedule], &mut states, &mut ());
            let [states] = states;
            states
        }
    }

    /// Enciphers or deciphers the register's worth at `z`, of which the mask has the data;
    /// returns the ciphertext.
    ///
    /// # Safety
    /// The mask has bytes of the data only.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    unsafe fn apply<const SEAL: bool>(&self, z: usize, mask: u64, stream: V) -> V {
        let at = self.at.wrapping_add(64 * z);
        // SAFETY: as this function's.
        let input = unsafe { load_masked(at, mask) };
        let output = xor(input, stream);
        // SAFETY: as this function's.
        unsafe { store_masked(at, mask, output) };
        if SEAL {
            _mm512_maskz_mov_epi8(mask, output)
        } else {
            input
        }
    }

    /// A chunk, of which at most the last block is partial: enciphers or deciphers it with the
    /// keystream and returns what of it is to be hashed.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    fn chunk<const SEAL: bool, const FIRST: bool>(
        &mut self,
        lane: &Lane<'_>,
        keystream: &[V; CHUNK],
    ) -> [V; CHUNK] {
        let mut hashed = *keystream;
        for (z, (hashed, stream)) in hashed.iter_mut().zip(keystream).enumerate() {
            let mut mask = u64::MAX;
            if FIRST && z == 0 {
                mask = !0xffff;
            }
            if z == CHUNK - 1 {
                mask &= first_bytes(self.left - 64 * z);
            }
            // SAFETY: more than POWERS - 1 blocks are left, so all registers but the last are
            // full, and the last has the rest of the data or is full. The first 16 bytes of the
            // first are not data and not in the mask.
            let mut cipher = unsafe { self.apply::<SEAL>(z, mask, *stream) };
            if FIRST && z == 0 {
                cipher = _mm512_mask_broadcast_i32x4(cipher, 0xf, block(lane.aad));
            }
            *hashed = reverse(cipher);
        }
        self.left -= self.left.min(CHUNK_BYTES);
        self.at = self.at.wrapping_add(CHUNK_BYTES);
        self.counters = _mm512_add_epi32(self.counters, later(POWERS as i32));
        hashed
    }

    /// The last blocks, at most POWERS - 1 and in `Z` registers, and that of the lengths.
    /// `state` is the hash so far. Returns the hash.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    fn tail<const Z: usize, const SEAL: bool>(
        &self,
        lane: &Lane<'_>,
        state: impl FnOnce() -> __m128i,
    ) -> __m128i {
        // SAFETY: this function has the features.
        let keystream = unsafe { self.keystream::<Z>() };
        let state = state();
        let blocks = self.left.div_ceil(16);
        // SAFETY: 16 bytes.
        let lengths = unsafe { _mm_loadu_si128(lane.lengths.as_ptr().cast()) };
        let mut products = Products::none();
        for (z, stream) in keystream.iter().enumerate() {
            let mask = first_bytes(self.left.saturating_sub(64 * z));
            // SAFETY: the mask has what is left of the data.
            let hashed = unsafe { self.apply::<SEAL>(z, mask, *stream) };
            // Two bits for each block: the one behind the data is that of the lengths.
            let place = if blocks / 4 == z {
                3 << (2 * (blocks % 4))
            } else {
                0
            };
            let mut hashed = _mm512_mask_broadcast_i64x2(reverse(hashed), place, lengths);
            if z == 0 {
                hashed = xor(hashed, _mm512_zextsi128_si512(state));
            }
            // SAFETY: blocks + 1 is at most POWERS; later powers may be beyond the table's end
            // by less than a register: Z is no more than blocks + 1 need.
            let powers = unsafe { load(self.schedule.power(blocks + 1).add(64 * z)) };
            products.add(hashed, powers);
        }
        sum(products.reduce())
    }
}

/// To be added to counters so that they are `blocks` further.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn later(blocks: i32) -> V {
    _mm512_broadcast_i32x4(_mm_set_epi32(blocks, 0, 0, 0))
}

/// The state after a whole chunk.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn hash_chunk(schedule: &Schedule, chunk: &[V; CHUNK], state: __m128i) -> __m128i {
    let mut products = Products::none();
    for (z, blocks) in chunk.iter().enumerate() {
        // SAFETY: between 4 and POWERS.
        let powers = unsafe { load(schedule.power(POWERS - 4 * z)) };
        let blocks = if z == 0 {
            xor(*blocks, _mm512_zextsi128_si512(state))
        } else {
            *blocks
        };
        products.add(blocks, powers);
    }
    sum(products.reduce())
}

/// Seals or opens a packet of more than POWERS - 2 blocks.
///
/// # Safety
/// It is as long as that.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) unsafe fn long<const SEAL: bool>(packet: &mut Packet<'_, '_>) {
    let lane = Lane::of(packet);
    let schedule = lane.schedule;
    // SAFETY: 16 bytes.
    let nonce = unsafe { broadcast(lane.counter.as_ptr()) };
    let numbers = _mm512_set_epi32(4, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0);
    let mut walk = Walk {
        schedule,
        // Wrapping: before the data.
        at: lane.data.as_mut_ptr().wrapping_sub(16),
        left: lane.data.len() + 16,
        counters: _mm512_or_si512(nonce, numbers),
    };
    let zero = _mm_setzero_si128();
    let (hash, j0) = {
        // SAFETY: this function has the features.
        let keystream = unsafe { walk.keystream() };
        let j0 = _mm512_castsi512_si128(keystream[0]);
        let mut state = zero;
        let mut chunk = walk.chunk::<SEAL, true>(&lane, &keystream);
        while walk.left > CHUNK_BYTES - 16 {
            // SAFETY: this function has the features.
            let keystream = unsafe { walk.keystream() };
            // Meanwhile: nothing of this depends on the keystream.
            state = hash_chunk(schedule, &chunk, state);
            chunk = walk.chunk::<SEAL, false>(&lane, &keystream);
        }
        let state = || hash_chunk(schedule, &chunk, state);
        let hash = tail::<SEAL>(&walk, &lane, &state);
        (hash, j0)
    };
    let tag = _mm_xor_si128(reverse1(hash), j0);
    if SEAL {
        // SAFETY: 16 bytes.
        unsafe { _mm_storeu_si128(lane.tag.as_mut_ptr().cast(), tag) };
        *lane.outcome = Outcome::Sealed;
        return;
    }
    // All 128 bits at once. From here on the verdict is public.
    if _mm_cmpneq_epi64_mask(tag, block(lane.tag)) == 0 {
        *lane.outcome = Outcome::Authentic;
    } else {
        // Not lost to the optimizer: the buffer is the caller's.
        lane.data.fill(0);
        *lane.outcome = Outcome::Failed;
    }
}

/// [`Walk::tail`] with as many registers as it takes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn tail<const SEAL: bool>(
    walk: &Walk<'_>,
    lane: &Lane<'_>,
    state: &impl Fn() -> __m128i,
) -> __m128i {
    const { assert!(CHUNK == 4) };
    match (walk.left + 16).div_ceil(64) {
        0 | 1 => walk.tail::<1, SEAL>(lane, state),
        2 => walk.tail::<2, SEAL>(lane, state),
        3 => walk.tail::<3, SEAL>(lane, state),
        _ => walk.tail::<4, SEAL>(lane, state),
    }
}
