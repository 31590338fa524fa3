//! Short packets, up to four in lockstep: their chains of AES rounds hide one another's
//! latency, and their hashes are reduced together.
//!
//! A register holds four blocks of one packet, so a packet of `Z` registers is: the block of
//! associated data (under it, J0's keystream for the tag), the data, the block of lengths.
//! Opening computes and compares the tags first; data that is not authentic is never
//! deciphered in memory, but overwritten with zeros.

use core::arch::x86_64::*;

use super::ops::{
    Products, V, block, broadcast, encipher, first_bytes, load, load_masked, reverse, store_masked,
    sums, xor,
};
use crate::job::Outcome;
use crate::wide::lane::{Lane, Packet};
use crate::wide::unroll::unrolled;

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

/// Blocks 4z to 4z + 3 of a packet of `len` bytes: where they are, and which of their bytes are
/// data. The first block is none: it would be before the data.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn window(data: *mut u8, len: usize, z: usize) -> (*mut u8, u64) {
    let all = first_bytes((16 + len).saturating_sub(64 * z));
    let mask = if z == 0 { all & !0xffff } else { all };
    // Wrapping: for z = 0 this is before the data, and may be behind it otherwise. The mask has
    // exactly the bytes from `data` to `data + len`.
    (data.wrapping_sub(16).wrapping_add(64 * z), mask)
}

/// Seals or opens `P` packets, at most 4, whose keys have the same number of rounds, each of at
/// most `4 * Z - 2` blocks of data; `Z` is at most 4.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn short<const P: usize, const Z: usize, const SEAL: bool>(
    packets: [Packet<'_, '_>; P],
) {
    const { assert!(P <= 4 && Z <= 4) };
    let mut lanes = packets.map(Lane::of);
    let zero = _mm512_setzero_si512();
    let schedules = lanes.each_ref().map(|lane| lane.schedule);
    let mut keystream = [[zero; Z]; P];
    unrolled!(I < P, at most 4; {
        // SAFETY: 16 bytes each.
        let start = unsafe {
            xor(
                broadcast(lanes[I].counter.as_ptr()),
                broadcast(schedules[I].round_key(0)),
            )
        };
        unrolled!(R < Z; {
            // SAFETY: Z is at most 4, and there are 16 blocks.
            keystream[I][R] = xor(start, unsafe { load(COUNTERS.0.as_ptr().add(4 * R).cast()) });
        });
    });
    // SAFETY: this function has the features.
    unsafe { encipher(schedules, &mut keystream) };

    let (mut low, mut middle, mut high, mut first) = ([zero; 4], [zero; 4], [zero; 4], [zero; 4]);
    unrolled!(I < P, at most 4; {
        // SAFETY: this function has the features.
        let products = unsafe { absorb::<Z, SEAL>(&mut lanes[I], &keystream[I]) };
        low[I] = products.low;
        middle[I] = products.middle;
        high[I] = products.high;
        first[I] = keystream[I][0];
    });
    let hash = Products {
        low: sums(low),
        middle: sums(middle),
        high: sums(high),
    };
    let [a, b, c, d] = first;
    let j0 = _mm512_shuffle_i32x4::<0x88>(
        _mm512_shuffle_i32x4::<0>(a, b),
        _mm512_shuffle_i32x4::<0>(c, d),
    );
    let tags = xor(reverse(hash.reduce()), j0);
    let tags = [
        _mm512_extracti32x4_epi32::<0>(tags),
        _mm512_extracti32x4_epi32::<1>(tags),
        _mm512_extracti32x4_epi32::<2>(tags),
        _mm512_extracti32x4_epi32::<3>(tags),
    ];
    unrolled!(I < P, at most 4; {
        if SEAL {
            // SAFETY: 16 bytes.
            unsafe { _mm_storeu_si128(lanes[I].tag.as_mut_ptr().cast(), tags[I]) };
            *lanes[I].outcome = Outcome::Sealed;
        } else {
            // SAFETY: this function has the features.
            unsafe { release::<Z>(&mut lanes[I], &keystream[I], tags[I]) };
        }
    });
}

/// Enciphers a packet if sealing, and multiplies its blocks with their powers.
///
/// # Safety
/// As for [`encipher`], and as always inlined.
#[inline(always)]
unsafe fn absorb<const Z: usize, const SEAL: bool>(
    lane: &mut Lane<'_>,
    keystream: &[V; Z],
) -> Products {
    let len = lane.data.len();
    let blocks = len.div_ceil(16);
    // Two bits for each block: the one behind the data is that of the lengths.
    let place = 3_u64 << (2 * (blocks + 1));
    let data = lane.data.as_mut_ptr();
    // SAFETY: the features are there.
    unsafe {
        let lengths = _mm_set_epi64x(lane.aad_bits as i64, (len * 8) as i64);
        let mut products = Products::none();
        unrolled!(R < Z; {
            let (at, mask) = window(data, len, R);
            // SAFETY: the mask has bytes of the data only.
            let input = load_masked(at, mask);
            let mut hashed = input;
            if SEAL {
                let output = xor(input, keystream[R]);
                // SAFETY: as above.
                store_masked(at, mask, output);
                hashed = _mm512_maskz_mov_epi8(mask, output);
            }
            if R == 0 {
                hashed = _mm512_mask_broadcast_i32x4(hashed, 0xf, block(lane.aad));
            }
            let place = (place >> (8 * R)) as u8;
            let hashed = _mm512_mask_broadcast_i64x2(reverse(hashed), place, lengths);
            // SAFETY: the first block's power is blocks + 2, at most 4 * Z, at most POWERS; that
            // of a later one may be beyond the table's end by 4 * Z - 2 blocks at most, which is
            // within the schedule. Those blocks are zero, for what they meet is no power.
            let powers = load(lane.schedule.power(blocks + 2).add(64 * R));
            products.add(hashed, powers);
        });
        products
    }
}

/// Deciphers a packet if its tag is as it should be, and wipes it otherwise.
///
/// # Safety
/// As for [`encipher`], and as always inlined.
#[inline(always)]
unsafe fn release<const Z: usize>(lane: &mut Lane<'_>, keystream: &[V; Z], tag: __m128i) {
    let (data, len) = (lane.data.as_mut_ptr(), lane.data.len());
    // SAFETY: the features are there.
    unsafe {
        // All 128 bits at once. From here on the verdict is public.
        let authentic = _mm_cmpneq_epi64_mask(tag, block(lane.tag)) == 0;
        *lane.outcome = if authentic {
            Outcome::Authentic
        } else {
            Outcome::Failed
        };
        let keep = u8::from(authentic).wrapping_neg();
        unrolled!(R < Z; {
            let (at, mask) = window(data, len, R);
            // SAFETY: the mask has bytes of the data only.
            let plain = xor(load_masked(at, mask), keystream[R]);
            store_masked(at, mask, _mm512_maskz_mov_epi64(keep, plain));
        });
    }
}
