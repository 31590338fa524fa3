//! Packets that take more registers than there are for lockstep, one at a time: chunks of eight
//! registers, as many chains of AES as it takes to hide their latency. Between the rounds goes a hash:
//! when opening that of the same chunk, when sealing that of the chunk before.
//!
//! A packet begins with a block of zeros that is neither enciphered nor changes the hash, and the
//! block of associated data (under it, J0's keystream for the tag): so each chunk begins with a
//! counter that is a multiple of its blocks, and counters are made by one addition without carry.
//!
//! One pass: opening deciphers before it knows the tag, in the caller's buffer, and wipes that
//! when the tag is wrong, before it returns.

use core::arch::x86_64::*;

use super::ops::{
    Between, Products, V, block, broadcast, encipher, first_bytes, load, load_masked, reverse,
    reverse1, store, store_masked, sum, xor,
};
use crate::job::Outcome;
use crate::wide::lane::{Lane, Packet};
use crate::wide::schedule::{POWERS, Schedule};
use crate::wide::unroll::unrolled;

/// Registers of a chunk.
const CHUNK: usize = 8;
/// Blocks of a chunk, and bytes.
const CHUNK_BLOCKS: usize = 4 * CHUNK;
const CHUNK_BYTES: usize = 64 * CHUNK;
/// Registers that are hashed for one reduction.
const TURN: usize = POWERS / 4;
const _: () = assert!(2 * TURN == CHUNK);

/// Blocks before the data: zeros, and the associated data.
const BEFORE: usize = 2;

#[repr(align(64))]
struct Offsets([[u8; 16]; CHUNK_BLOCKS]);

/// The places of blocks in a chunk, where counters have their last byte.
static OFFSETS: Offsets = {
    let mut blocks = [[0; 16]; CHUNK_BLOCKS];
    let mut i = 0;
    while i < blocks.len() {
        blocks[i][15] = i as u8;
        i += 1;
    }
    Offsets(blocks)
};

/// Where in a packet we are.
struct Walk<'s> {
    schedule: &'s Schedule,
    /// The next block, and the bytes from there to the end of the data.
    at: *mut u8,
    left: usize,
    /// The nonce, and the number of the next block, a multiple of [`CHUNK_BLOCKS`].
    nonce: __m128i,
    number: u32,
}

impl Walk<'_> {
    /// Keystream for the next `Z` registers.
    ///
    /// # Safety
    /// As for [`encipher`], and as always inlined.
    #[inline(always)]
    unsafe fn keystream<const Z: usize, const ROUNDS: usize>(
        &self,
        between: &mut impl Between,
    ) -> [V; Z] {
        // SAFETY: the features are there, a round there is, and a chunk has no fewer registers.
        unsafe {
            let key = broadcast(self.schedule.round_key(0));
            let first = _mm_insert_epi32::<3>(self.nonce, self.number.swap_bytes() as i32);
            let first = _mm512_broadcast_i32x4(first);
            let mut states = [[key; Z]];
            unrolled!(R < Z; {
                // No carries: the sum is an exclusive or.
                let offsets = load(OFFSETS.0.as_ptr().add(4 * R).cast());
                states[0][R] = _mm512_ternarylogic_epi64::<0x96>(first, key, offsets);
            });
            encipher::<1, Z, ROUNDS>([self.schedule], &mut states, between);
            let [states] = states;
            states
        }
    }

    /// Which bytes of the register at `R`, of `Z` that are left or of a chunk, are data. None if all.
    ///
    /// # Safety
    /// As for [`encipher`], and as always inlined. So many registers there are.
    #[inline(always)]
    unsafe fn data<const R: usize, const Z: usize, const TAIL: bool, const FIRST: bool>(
        &self,
    ) -> Option<u64> {
        // Of a chunk's blocks all have data, the last perhaps less; at the end that of the lengths
        // has none, and may be the only one in its register.
        let full = if TAIL { R + 2 < Z } else { R + 1 < Z };
        let mask = if full {
            None
        } else {
            // SAFETY: the features are there.
            Some(unsafe { first_bytes(self.left.saturating_sub(64 * R)) })
        };
        match FIRST && R == 0 {
            true => Some(mask.unwrap_or(!0) & (!0 << (16 * BEFORE))),
            false => mask,
        }
    }

    /// The register's worth at `R`, zeros where no data is.
    ///
    /// # Safety
    /// As for [`Self::data`].
    #[inline(always)]
    unsafe fn peek<const R: usize, const Z: usize, const TAIL: bool, const FIRST: bool>(
        &self,
    ) -> V {
        let at = self.at.wrapping_add(64 * R);
        // SAFETY: as this function's.
        unsafe {
            match self.data::<R, Z, TAIL, FIRST>() {
                Some(mask) => load_masked(at, mask),
                None => load(at),
            }
        }
    }

    /// Enciphers or deciphers it; returns the result, zeros where no data is.
    ///
    /// # Safety
    /// As for [`Self::data`].
    #[inline(always)]
    unsafe fn apply<const R: usize, const Z: usize, const TAIL: bool, const FIRST: bool>(
        &self,
        stream: V,
    ) -> V {
        let at = self.at.wrapping_add(64 * R);
        // SAFETY: as this function's.
        unsafe {
            let output = xor(self.peek::<R, Z, TAIL, FIRST>(), stream);
            match self.data::<R, Z, TAIL, FIRST>() {
                Some(mask) => {
                    store_masked(at, mask, output);
                    _mm512_maskz_mov_epi8(mask, output)
                }
                None => {
                    store(at, output);
                    output
                }
            }
        }
    }

    /// The same for all registers of a chunk; returns the results.
    ///
    /// # Safety
    /// As for [`Self::data`].
    #[inline(always)]
    unsafe fn apply_chunk<const FIRST: bool>(&self, keystream: &[V; CHUNK]) -> [V; CHUNK] {
        let mut outputs = *keystream;
        // SAFETY: as this function's.
        unsafe {
            unrolled!(R < CHUNK; {
                outputs[R] = self.apply::<R, CHUNK, false, FIRST>(keystream[R]);
            });
        }
        outputs
    }

    /// Goes on behind a chunk.
    fn advance(&mut self) {
        self.left -= self.left.min(CHUNK_BYTES);
        self.at = self.at.wrapping_add(CHUNK_BYTES);
        self.number = self.number.wrapping_add(CHUNK_BLOCKS as u32);
    }

    /// How many registers are left, with the block of lengths.
    fn registers(&self) -> usize {
        (self.left + 16).div_ceil(64)
    }
}

/// A hash in the making: [`TURN`] registers, then a reduction.
struct Hash<'l> {
    lane: &'l Lane<'l>,
    state: __m128i,
    products: Products,
}

impl<'l> Hash<'l> {
    /// # Safety
    /// As for [`encipher`], and as always inlined.
    #[inline(always)]
    unsafe fn new(lane: &'l Lane<'l>, state: __m128i) -> Self {
        // SAFETY: the features are there.
        let products = unsafe { Products::none() };
        Self {
            lane,
            state,
            products,
        }
    }

    /// Adds the blocks at `R`, reversed.
    ///
    /// # Safety
    /// As for [`Self::new`].
    #[inline(always)]
    unsafe fn add<const R: usize>(&mut self, blocks: V, powers: V) {
        // SAFETY: the features are there.
        unsafe {
            if R.is_multiple_of(TURN) {
                if R > 0 {
                    self.finish();
                }
                let blocks = xor(blocks, _mm512_zextsi128_si512(self.state));
                self.products = Products::of(blocks, powers);
            } else {
                self.products.add(blocks, powers);
            }
        }
    }

    /// Adds the register at `R` of a chunk, from its ciphertext.
    ///
    /// # Safety
    /// As for [`Self::new`]; the packet begins there if `FIRST`.
    #[inline(always)]
    unsafe fn chunk<const R: usize, const FIRST: bool>(&mut self, cipher: V) {
        // SAFETY: the features are there; the power is between 4 and POWERS.
        unsafe {
            let cipher = match FIRST && R == 0 {
                true => _mm512_mask_broadcast_i32x4(cipher, 0xf0, block(self.lane.aad)),
                false => cipher,
            };
            let powers = load(self.lane.schedule.power(POWERS - 4 * (R % TURN)));
            self.add::<R>(reverse(cipher), powers);
        }
    }

    /// Adds the register at `R` of the last `Z`, which have `blocks` and that of the lengths.
    ///
    /// # Safety
    /// As for [`Self::chunk`]; so many they are.
    #[inline(always)]
    unsafe fn tail<const R: usize, const Z: usize, const FIRST: bool>(
        &mut self,
        blocks: usize,
        cipher: V,
    ) {
        // SAFETY: the features are there; the power is at most POWERS, for with more than TURN
        // registers so many as have just those go first. Later ones may be beyond the table's
        // end by less than a register: Z is no more than it takes.
        unsafe {
            if Z > TURN && R < TURN {
                return self.chunk::<R, FIRST>(cipher);
            }
            let lengths = _mm_loadu_si128(self.lane.lengths.as_ptr().cast());
            let mut hashed = reverse(cipher);
            if R + 1 == Z {
                // Two bits for each block: the one behind the data is that of the lengths.
                let place = 3 << (2 * (blocks % 4));
                hashed = _mm512_mask_broadcast_i64x2(hashed, place, lengths);
            }
            let all = blocks + 1;
            let power = if Z > TURN { all - POWERS } else { all };
            let powers = self.lane.schedule.power(power).add(64 * (R % TURN));
            self.add::<R>(hashed, load(powers));
        }
    }

    /// # Safety
    /// As for [`Self::new`].
    #[inline(always)]
    unsafe fn finish(&mut self) {
        // SAFETY: the features are there.
        self.state = unsafe { sum(self.products.reduce()) };
    }
}

/// Steps behind rounds: one register each, then the end.
macro_rules! steps {
    ($round:expr, $this:expr) => {
        match $round {
            1 => $this.register::<0>(),
            2 => $this.register::<1>(),
            3 => $this.register::<2>(),
            4 => $this.register::<3>(),
            5 => $this.register::<4>(),
            6 => $this.register::<5>(),
            7 => $this.register::<6>(),
            8 => $this.register::<7>(),
            9 => $this.hash.finish(),
            _ => {}
        }
    };
}

/// The hash of a chunk that was sealed.
struct Sealed<'l, 'c> {
    hash: Hash<'l>,
    chunk: &'c [V; CHUNK],
}

impl Sealed<'_, '_> {
    /// # Safety
    /// As for [`Hash::new`].
    #[inline(always)]
    unsafe fn register<const R: usize>(&mut self) {
        // SAFETY: as this function's.
        unsafe { self.hash.chunk::<R, false>(self.chunk[R]) }
    }
}

impl Between for Sealed<'_, '_> {
    #[inline(always)]
    unsafe fn step<const ROUND: usize>(&mut self) {
        // SAFETY: as this function's.
        unsafe { steps!(ROUND, self) }
    }
}

/// The hash of what is about to be opened: a chunk, or the last `Z` registers.
struct Opening<'l, 'w, const Z: usize, const TAIL: bool, const FIRST: bool> {
    hash: Hash<'l>,
    walk: &'w Walk<'w>,
}

impl<const Z: usize, const TAIL: bool, const FIRST: bool> Opening<'_, '_, Z, TAIL, FIRST> {
    /// # Safety
    /// As for [`Walk::data`].
    #[inline(always)]
    unsafe fn register<const R: usize>(&mut self) {
        if R >= Z {
            return;
        }
        // SAFETY: as this function's.
        unsafe {
            let cipher = self.walk.peek::<R, Z, TAIL, FIRST>();
            match TAIL {
                true => {
                    let blocks = self.walk.left.div_ceil(16);
                    self.hash.tail::<R, Z, FIRST>(blocks, cipher);
                }
                false => self.hash.chunk::<R, FIRST>(cipher),
            }
        }
    }
}

impl<const Z: usize, const TAIL: bool, const FIRST: bool> Between
    for Opening<'_, '_, Z, TAIL, FIRST>
{
    #[inline(always)]
    unsafe fn step<const ROUND: usize>(&mut self) {
        // SAFETY: as this function's.
        unsafe { steps!(ROUND, self) }
    }
}

/// The last `Z` registers, or all of a packet: its hash, and the first register of keystream.
/// `state` is the hash of what is before them, less that of `chunk` when sealing.
///
/// # Safety
/// So many they are.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
unsafe fn last<const Z: usize, const SEAL: bool, const FIRST: bool, const ROUNDS: usize>(
    walk: &Walk<'_>,
    lane: &Lane<'_>,
    chunk: &[V; CHUNK],
    state: __m128i,
) -> (__m128i, V) {
    // SAFETY: this function has the features; as this function's.
    unsafe {
        let mut hash = Hash::new(lane, state);
        if !SEAL {
            let mut opening = Opening::<Z, true, FIRST> { hash, walk };
            let keystream = walk.keystream::<Z, ROUNDS>(&mut opening);
            unrolled!(R < Z; { walk.apply::<R, Z, true, FIRST>(keystream[R]); });
            return (opening.hash.state, keystream[0]);
        }
        let keystream = match FIRST {
            true => walk.keystream::<Z, ROUNDS>(&mut ()),
            false => {
                let mut sealed = Sealed { hash, chunk };
                let keystream = walk.keystream::<Z, ROUNDS>(&mut sealed);
                hash = Hash::new(lane, sealed.hash.state);
                keystream
            }
        };
        let blocks = walk.left.div_ceil(16);
        unrolled!(R < Z; {
            let cipher = walk.apply::<R, Z, true, FIRST>(keystream[R]);
            hash.tail::<R, Z, FIRST>(blocks, cipher);
        });
        hash.finish();
        (hash.state, keystream[0])
    }
}

/// All chunks of a packet, and what is behind them: as [`last`].
///
/// # Safety
/// There is one at least.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
unsafe fn chunks<const SEAL: bool, const ROUNDS: usize>(
    walk: &mut Walk<'_>,
    lane: &Lane<'_>,
) -> (__m128i, V) {
    // SAFETY: this function has the features; a chunk is worked on when its last block has data.
    unsafe {
        let mut state = _mm_setzero_si128();
        let mut chunk;
        let first;
        if SEAL {
            let keystream = walk.keystream::<CHUNK, ROUNDS>(&mut ());
            first = keystream[0];
            chunk = walk.apply_chunk::<true>(&keystream);
            chunk[0] = _mm512_mask_broadcast_i32x4(chunk[0], 0xf0, block(lane.aad));
        } else {
            let hash = Hash::new(lane, state);
            let mut opening = Opening::<CHUNK, false, true> { hash, walk };
            let keystream = walk.keystream::<CHUNK, ROUNDS>(&mut opening);
            state = opening.hash.state;
            first = keystream[0];
            chunk = walk.apply_chunk::<true>(&keystream);
        }
        walk.advance();
        while walk.left > CHUNK_BYTES - 16 {
            let hash = Hash::new(lane, state);
            let keystream;
            if SEAL {
                let mut sealed = Sealed {
                    hash,
                    chunk: &chunk,
                };
                keystream = walk.keystream::<CHUNK, ROUNDS>(&mut sealed);
                state = sealed.hash.state;
            } else {
                let mut opening = Opening::<CHUNK, false, false> { hash, walk };
                keystream = walk.keystream::<CHUNK, ROUNDS>(&mut opening);
                state = opening.hash.state;
            }
            chunk = walk.apply_chunk::<false>(&keystream);
            walk.advance();
        }
        let (walk, chunk) = (&*walk, &chunk);
        let (hash, _) = match walk.registers() {
            0 | 1 => last::<1, SEAL, false, ROUNDS>(walk, lane, chunk, state),
            2 => last::<2, SEAL, false, ROUNDS>(walk, lane, chunk, state),
            3 => last::<3, SEAL, false, ROUNDS>(walk, lane, chunk, state),
            4 => last::<4, SEAL, false, ROUNDS>(walk, lane, chunk, state),
            5 => last::<5, SEAL, false, ROUNDS>(walk, lane, chunk, state),
            6 => last::<6, SEAL, false, ROUNDS>(walk, lane, chunk, state),
            7 => last::<7, SEAL, false, ROUNDS>(walk, lane, chunk, state),
            _ => last::<8, SEAL, false, ROUNDS>(walk, lane, chunk, state),
        };
        (hash, first)
    }
}

/// Seals or opens a packet of more than [`TURN`] registers, with the blocks before and behind
/// the data, whose key has `ROUNDS` rounds.
///
/// # Safety
/// It is as long as that, and the rounds are right.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) unsafe fn long<const SEAL: bool, const ROUNDS: usize>(packet: &mut Packet<'_, '_>) {
    let lane = Lane::of(packet);
    let mut walk = Walk {
        schedule: lane.schedule,
        // Wrapping: before the data.
        at: lane.data.as_mut_ptr().wrapping_sub(16 * BEFORE),
        left: lane.data.len() + 16 * BEFORE,
        nonce: block(lane.counter),
        number: 0,
    };
    let zero = _mm_setzero_si128();
    let none = &[_mm512_setzero_si512(); CHUNK];
    // SAFETY: this function has the features; what is left is as long as the length says.
    let (hash, first) = unsafe {
        match walk.registers() {
            0..=5 => last::<5, SEAL, true, ROUNDS>(&walk, &lane, none, zero),
            6 => last::<6, SEAL, true, ROUNDS>(&walk, &lane, none, zero),
            7 => last::<7, SEAL, true, ROUNDS>(&walk, &lane, none, zero),
            8 => last::<8, SEAL, true, ROUNDS>(&walk, &lane, none, zero),
            _ => chunks::<SEAL, ROUNDS>(&mut walk, &lane),
        }
    };
    // Under the associated data.
    let j0 = _mm512_extracti32x4_epi32::<1>(first);
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
