//! Short packets, up to four in lockstep: their chains of AES rounds hide one another's
//! latency, and their hashes are reduced together.
//!
//! A register holds four blocks of one packet, so a packet of `Z` registers is: the block of
//! associated data (under it, J0's keystream for the tag), the data, the block of lengths.
//! Opening computes and compares the tags first; data that is not authentic is never
//! deciphered in memory, but overwritten with zeros.

use core::arch::x86_64::*;

use super::ops::{
    Products, V, block, broadcast, encipher_all, first_bytes, load, load_masked, reverse,
    store_masked, sums, xor,
};
use crate::job::Outcome;
use crate::wide::lane::Lane;

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
    mut lanes: [&mut Lane<'_>; P],
) {
    const { assert!(P <= 4 && Z <= 4) };
    let schedules = lanes.each_ref().map(|lane| lane.schedule);
    let mut keystream = [[_mm512_setzero_si512(); Z]; P];
    for (lane, states) in lanes.iter().zip(&mut keystream) {
        // SAFETY: 16 bytes each.
        let start = unsafe {
            xor(
                broadcast(lane.counter.as_ptr()),
                broadcast(lane.schedule.round_key(0)),
            )
        };
        for (z, state) in states.iter_mut().enumerate() {
            // SAFETY: Z is at most 4, and there are 16 blocks.
            *state = xor(start, unsafe {
                load(COUNTERS.0.as_ptr().add(4 * z).cast())
            });
        }
    }
    encipher_all(&schedules, &mut keystream);

    let zero = _mm512_setzero_si512();
    let (mut low, mut middle, mut high) = ([zero; 4], [zero; 4], [zero; 4]);
    for (p, (lane, keystream)) in lanes.iter_mut().zip(&keystream).enumerate() {
        let len = lane.data.len();
        let blocks = len.div_ceil(16);
        let lengths = _mm_set_epi64x(lane.aad_bits as i64, (len * 8) as i64);
        // Two bits for each block: the one behind the data is that of the lengths.
        let place = 3_u64 << (2 * (blocks + 1));
        let data = lane.data.as_mut_ptr();
        let mut products = Products::none();
        for (z, stream) in keystream.iter().enumerate() {
            let (at, mask) = window(data, len, z);
            // SAFETY: the mask has bytes of the data only.
            let input = unsafe { load_masked(at, mask) };
            let mut hashed = input;
            if SEAL {
                let output = xor(input, *stream);
                // SAFETY: as above.
                unsafe { store_masked(at, mask, output) };
                hashed = _mm512_maskz_mov_epi8(mask, output);
            }
            if z == 0 {
                hashed = _mm512_mask_broadcast_i32x4(hashed, 0xf, block(lane.aad));
            }
            let hashed =
                _mm512_mask_broadcast_i64x2(reverse(hashed), (place >> (8 * z)) as u8, lengths);
            // SAFETY: the first block's power is blocks + 2, at most 4 * Z, at most POWERS; that
            // of a later one may be beyond the table's end by 4 * Z - 2 blocks at most, which is
            // within the schedule. Those blocks are zero, for what they meet is no power.
            let powers = unsafe { load(lane.schedule.power(blocks + 2).add(64 * z)) };
            products.add(hashed, powers);
        }
        low[p] = products.low;
        middle[p] = products.middle;
        high[p] = products.high;
    }
    let hash = Products {
        low: sums(low),
        middle: sums(middle),
        high: sums(high),
    };
    let mut first = [zero; 4];
    for (to, from) in first.iter_mut().zip(&keystream) {
        *to = from[0];
    }
    let [a, b, c, d] = first;
    let j0 = _mm512_shuffle_i32x4::<0x88>(
        _mm512_shuffle_i32x4::<0>(a, b),
        _mm512_shuffle_i32x4::<0>(c, d),
    );
    let tags = xor(reverse(hash.reduce()), j0);
    if SEAL {
        write(tags, lanes);
    } else {
        release(&keystream, tags, lanes);
    }
}

/// Writes the tags of sealed packets.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn write<const P: usize>(tags: V, lanes: [&mut Lane<'_>; P]) {
    let tags = [
        _mm512_extracti32x4_epi32::<0>(tags),
        _mm512_extracti32x4_epi32::<1>(tags),
        _mm512_extracti32x4_epi32::<2>(tags),
        _mm512_extracti32x4_epi32::<3>(tags),
    ];
    for (lane, tag) in lanes.into_iter().zip(tags) {
        // SAFETY: 16 bytes.
        unsafe { _mm_storeu_si128(lane.tag.as_mut_ptr().cast(), tag) };
        *lane.outcome = Outcome::Sealed;
    }
}

/// Deciphers packets whose tag is as it should be, and wipes the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn release<const P: usize, const Z: usize>(
    keystream: &[[V; Z]; P],
    tags: V,
    lanes: [&mut Lane<'_>; P],
) {
    for (p, (lane, keystream)) in lanes.into_iter().zip(keystream).enumerate() {
        let expected = match p {
            0 => _mm512_extracti32x4_epi32::<0>(tags),
            1 => _mm512_extracti32x4_epi32::<1>(tags),
            2 => _mm512_extracti32x4_epi32::<2>(tags),
            _ => _mm512_extracti32x4_epi32::<3>(tags),
        };
        // All 128 bits at once. From here on the verdict is public.
        let authentic = _mm_cmpneq_epi64_mask(expected, block(lane.tag)) == 0;
        *lane.outcome = if authentic {
            Outcome::Authentic
        } else {
            Outcome::Failed
        };
        let keep = u8::from(authentic).wrapping_neg();
        let (data, len) = (lane.data.as_mut_ptr(), lane.data.len());
        for (z, stream) in keystream.iter().enumerate() {
            let (at, mask) = window(data, len, z);
            // SAFETY: the mask has bytes of the data only.
            unsafe {
                let plain = xor(load_masked(at, mask), *stream);
                store_masked(at, mask, _mm512_maskz_mov_epi64(keep, plain));
            }
        }
    }
}
