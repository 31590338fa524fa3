//! Short packets, four in lockstep: their chains of AES rounds hide one another's latency, and
//! their hashes are reduced together.
//!
//! A register holds four blocks of one packet, so a packet of `Z` registers is: the block of
//! associated data (under it, J0's keystream for the tag), the data, the block of lengths.
//!
//! Opening computes and compares the tags first; data that is not authentic is never deciphered in
//! the buffer, but overwritten with zeros.
//!
//! A hash between the rounds of AES, as long packets have it, gained nothing here: the CPU finds the
//! work of the next four by itself.

use core::arch::x86_64::*;

use super::ops::{
    Products, V, block, broadcast, encipher, first_bytes, load, load_masked, reverse, store_masked,
    xor,
};
use crate::job::Outcome;
use crate::wide::lane::{Lane, Packet};
use crate::wide::unroll::unrolled;

/// Packets that go together.
const TOGETHER: usize = 4;

/// Data bytes of the longest packet in so many registers: 4, 8, 12 or 16 blocks are hashed.
pub(super) const fn longest(registers: usize) -> usize {
    (4 * registers - 2) * 16
}

#[repr(align(64))]
struct Counters([[u32; 4]; 16]);

/// What J0 and the counter blocks after it have in their last 32 bits, big-endian: 1, 2, ...
static COUNTERS: Counters = {
    let mut blocks = [[0; 4]; 16];
    let mut i = 0;
    while i < blocks.len() {
        blocks[i][3] = (i as u32 + 1).to_be();
        i += 1;
    }
    Counters(blocks)
};

/// A register of ones between zeros: read at [`place`], it has ones in one block.
#[repr(align(64))]
struct Places([u8; 112]);

static PLACES: Places = {
    let mut bytes = [0; 112];
    let mut i = 48;
    while i < 64 {
        bytes[i] = 0xff;
        i += 1;
    }
    Places(bytes)
};

/// Ones in block `i` of a register.
///
/// # Safety
/// `i` is at most 3.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
unsafe fn place(i: usize) -> V {
    // SAFETY: 64 of the 112 bytes, from 0 to 48 on.
    unsafe { load(PLACES.0.as_ptr().add(48 - 16 * i)) }
}

/// Where the register's worth at `z` lies, and which of its bytes are data.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn window<const Z: usize>(lane: &Lane<'_>, z: usize) -> (*const u8, u64) {
    // Of all but the last two, every byte is data, for the data goes up to the last but one at
    // least. The first block is none: it would be before the data.
    let all = if z + 2 < Z {
        u64::MAX
    } else {
        first_bytes((16 + lane.data.len()).saturating_sub(64 * z))
    };
    let mask = if z == 0 { all & !0xffff } else { all };
    // Wrapping: for z = 0 this is before the data, and may be behind it otherwise. The mask has
    // exactly the bytes of the data.
    let at = lane.data.as_ptr().wrapping_sub(16);
    (at.wrapping_add(64 * z), mask)
}

/// What is hashed of the register at `R`, from what of it is enciphered.
///
/// # Safety
/// The data ends in the last of `Z` registers or the one before.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
unsafe fn blocks<const R: usize, const Z: usize>(lane: &Lane<'_>, mask: u64, cipher: V) -> V {
    // Where no data is: the associated data in the first block, zeros behind it.
    let other = if R == 0 {
        _mm512_zextsi128_si512(block(lane.aad))
    } else {
        _mm512_setzero_si512()
    };
    let blocks = reverse(_mm512_mask_mov_epi8(other, mask, cipher));
    if R + 1 < Z {
        return blocks;
    }
    // SAFETY: 16 bytes, and a number modulo 4: that of the block behind the data, which is in the
    // last register.
    unsafe {
        let lengths = broadcast(lane.lengths.as_ptr().cast());
        let place = place((lane.data.len().div_ceil(16) + 1) % 4);
        _mm512_ternarylogic_epi64::<0x78>(blocks, lengths, place)
    }
}

/// Keystream of `P` packets, whose keys have `ROUNDS` rounds.
///
/// # Safety
/// As for [`encipher`], and as always inlined.
#[inline(always)]
unsafe fn keystream<const P: usize, const Z: usize, const ROUNDS: usize>(
    lanes: &[Lane<'_>; P],
) -> [[V; Z]; P] {
    // SAFETY: the features are there.
    unsafe {
        let schedules = lanes.each_ref().map(|lane| lane.schedule);
        let mut keystream = [[_mm512_setzero_si512(); Z]; P];
        unrolled!(I < P, at most 4; {
            // SAFETY: 16 bytes each.
            let nonce = broadcast(lanes[I].counter.as_ptr());
            let key = broadcast(schedules[I].round_key(0));
            unrolled!(R < Z; {
                // SAFETY: Z is at most 4, and there are 16 blocks.
                let counters = load(COUNTERS.0.as_ptr().add(4 * R).cast());
                keystream[I][R] = _mm512_ternarylogic_epi64::<0x96>(nonce, key, counters);
            });
        });
        encipher::<P, Z, ROUNDS>(schedules, &mut keystream, &mut ());
        keystream
    }
}

/// Hashes of up to four packets in the making.
struct Hashes {
    /// Products of each packet, then of pairs in the first of each.
    products: [Products; TOGETHER],
    hash: V,
}

impl Hashes {
    /// # Safety
    /// As for [`encipher`], and as always inlined.
    #[inline(always)]
    unsafe fn new() -> Self {
        // SAFETY: the features are there.
        unsafe {
            Self {
                products: [Products::none(); TOGETHER],
                hash: _mm512_setzero_si512(),
            }
        }
    }

    /// Multiplies the blocks of packet `I` with their powers.
    ///
    /// # Safety
    /// As for [`Self::new`], and the packet is one of `Z` registers.
    #[inline(always)]
    unsafe fn multiply<const I: usize, const Z: usize>(
        &mut self,
        lane: &Lane<'_>,
        mut blocks: impl FnMut(usize) -> V,
    ) {
        // SAFETY: the features are there. The first block's power is that of the data's blocks
        // and two, at most 4 * Z, at most POWERS; that of a later one may be beyond the table's
        // end by 4 * Z - 2 blocks at most, which is within the schedule. Those blocks are zero,
        // for what they meet is no power.
        unsafe {
            let powers = lane.schedule.power(lane.data.len().div_ceil(16) + 2);
            unrolled!(R < Z; {
                let blocks = blocks(R);
                let powers = load(powers.add(64 * R));
                if R == 0 {
                    self.products[I] = Products::of(blocks, powers);
                } else {
                    self.products[I].add(blocks, powers);
                }
            });
        }
    }

    /// What follows the multiplications of packets 0 and 1 (`FIRST` 0), or 2 and 3 (2).
    ///
    /// # Safety
    /// As for [`Self::new`].
    #[inline(always)]
    unsafe fn pair<const FIRST: usize>(&mut self) {
        // SAFETY: the features are there.
        unsafe {
            self.products[FIRST] = self.products[FIRST].pairs(self.products[FIRST + 1]);
        }
    }

    /// What follows that.
    ///
    /// # Safety
    /// As for [`Self::new`].
    #[inline(always)]
    unsafe fn finish(&mut self) {
        // SAFETY: the features are there.
        self.hash = unsafe { self.products[0].quads(self.products[2]).reduce() };
    }

    /// The tags, from the packets' first registers of keystream, in which J0's is the first block.
    ///
    /// # Safety
    /// As for [`Self::new`].
    #[inline(always)]
    unsafe fn tags(&self, [a, b, c, d]: [V; TOGETHER]) -> [__m128i; TOGETHER] {
        // SAFETY: the features are there.
        unsafe {
            let j0 = _mm512_shuffle_i32x4::<0x88>(
                _mm512_shuffle_i32x4::<0>(a, b),
                _mm512_shuffle_i32x4::<0>(c, d),
            );
            let tags = xor(reverse(self.hash), j0);
            [
                _mm512_extracti32x4_epi32::<0>(tags),
                _mm512_extracti32x4_epi32::<1>(tags),
                _mm512_extracti32x4_epi32::<2>(tags),
                _mm512_extracti32x4_epi32::<3>(tags),
            ]
        }
    }
}

/// Seals or opens `P` packets. Never inlined: side by side in one frame, those for one to four packets
/// would take four times the stack.
///
/// # Safety
/// As for [`keystream`]. The packets are of `Z` registers.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
unsafe fn group<const P: usize, const Z: usize, const SEAL: bool, const ROUNDS: usize>(
    packets: &mut [Packet<'_, '_>; P],
) {
    let mut lanes = packets.each_mut().map(Lane::of);
    // SAFETY: the features are there; masks have bytes of the data only; a tag is 16 bytes.
    unsafe {
        let keystream = keystream::<P, Z, ROUNDS>(&lanes);
        let mut hashes = Hashes::new();
        let mut first = [_mm512_setzero_si512(); TOGETHER];
        unrolled!(I < P, at most 4; {
            first[I] = keystream[I][0];
            let mut hashed: [V; Z] = keystream[I];
            let lane = &mut lanes[I];
            unrolled!(R < Z, at most 4; {
                let (at, mask) = window::<Z>(lane, R);
                let mut cipher = load_masked(at, mask);
                if SEAL {
                    cipher = xor(cipher, keystream[I][R]);
                    store_masked(write_at(lane, R), mask, cipher);
                }
                hashed[R] = blocks::<R, Z>(lane, mask, cipher);
            });
            hashes.multiply::<I, Z>(lane, |r| hashed[r]);
        });
        hashes.pair::<0>();
        hashes.pair::<2>();
        hashes.finish();
        let tags = hashes.tags(first);
        unrolled!(I < P, at most 4; {
            let lane = &mut lanes[I];
            if SEAL {
                _mm_storeu_si128(lane.tag.as_mut_ptr().cast(), tags[I]);
                *lane.outcome = Outcome::Sealed;
            } else {
                // All 128 bits at once. From here on the verdict is public.
                let authentic = _mm_cmpneq_epi64_mask(tags[I], block(lane.tag)) == 0;
                let all_or_nothing = u8::from(authentic).wrapping_neg();
                unrolled!(R < Z, at most 4; {
                    let (at, mask) = window::<Z>(lane, R);
                    let plain = xor(load_masked(at, mask), keystream[I][R]);
                    let plain = _mm512_maskz_mov_epi64(all_or_nothing, plain);
                    store_masked(write_at(lane, R), mask, plain);
                });
                *lane.outcome = if authentic { Outcome::Authentic } else { Outcome::Failed };
            }
        });
    }
}

/// As [`window`], for writing: derived from the exclusive reference, as the other is not.
#[inline(always)]
fn write_at(lane: &mut Lane<'_>, z: usize) -> *mut u8 {
    lane.data.as_mut_ptr().wrapping_sub(16).wrapping_add(64 * z)
}

/// Seals or opens packets whose keys have `ROUNDS` rounds.
///
/// # Safety
/// Each is of at most [`longest`] bytes for `Z`, which is 1 to 4, and of more than for one register
/// less; `ROUNDS` is right.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) unsafe fn short<const Z: usize, const SEAL: bool, const ROUNDS: usize>(
    packets: &mut [Packet<'_, '_>],
) {
    const { assert!(Z >= 1 && Z <= 4) };
    let (groups, rest) = packets.as_chunks_mut::<TOGETHER>();
    // SAFETY: this function has the features, and packets are as they should be.
    unsafe {
        for four in groups {
            group::<TOGETHER, Z, SEAL, ROUNDS>(four);
        }
        if let Some(three) = rest.first_chunk_mut::<3>() {
            group::<3, Z, SEAL, ROUNDS>(three);
        } else if let Some(two) = rest.first_chunk_mut::<2>() {
            group::<2, Z, SEAL, ROUNDS>(two);
        } else if let Some(one) = rest.first_chunk_mut::<1>() {
            group::<1, Z, SEAL, ROUNDS>(one);
        }
    }
}
