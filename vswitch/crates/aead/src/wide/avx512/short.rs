//! Short packets, four in lockstep: their chains of AES rounds hide one another's latency, and
//! their hashes are reduced together. Between the rounds of four packets goes the hash of the
//! four before them: AES and multiplication keep one port each.
//!
//! A register holds four blocks of one packet, so a packet of `Z` registers is: the block of
//! associated data (under it, J0's keystream for the tag), the data, the block of lengths.
//! Opening computes and compares the tags first; data that is not authentic is never
//! deciphered in the buffer, but overwritten with zeros.

use core::arch::x86_64::*;

use super::ops::{
    Between, Products, V, block, broadcast, encipher, first_bytes, load, load_masked, reverse,
    store_masked, xor,
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
fn window<const Z: usize>(lane: &mut Lane<'_>, z: usize) -> (*mut u8, u64) {
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
    let at = lane.data.as_mut_ptr().wrapping_sub(16);
    (at.wrapping_add(64 * z), mask)
}

/// Packets whose keystream there is.
struct Group<'l, const P: usize, const Z: usize> {
    lanes: [Lane<'l>; P],
    /// What is to be hashed.
    hashed: [[V; Z]; P],
    /// What is to be written if it is authentic.
    plain: [[V; Z]; P],
    /// First registers of keystream, whose first blocks are J0's.
    first: [V; 4],
}

/// Enciphers the counters of `P` packets, and the packets if sealing.
///
/// # Safety
/// As for [`encipher`], and as always inlined. The packets are of at most [`longest`] bytes for
/// `Z`, and of more than for one register less.
#[inline(always)]
unsafe fn start<'l, const P: usize, const Z: usize, const SEAL: bool>(
    packets: &'l mut [Packet<'_, '_>; P],
    between: &mut impl Between,
) -> Group<'l, P, Z> {
    // SAFETY: the features are there.
    unsafe {
        let mut lanes = packets.each_mut().map(Lane::of);
        let schedules = lanes.each_ref().map(|lane| lane.schedule);
        let zero = _mm512_setzero_si512();
        let mut keystream = [[zero; Z]; P];
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
        encipher(schedules, &mut keystream, between);
        let (mut hashed, mut plain) = ([[zero; Z]; P], [[zero; Z]; P]);
        let mut first = [zero; 4];
        unrolled!(I < P, at most 4; {
            let lane = &mut lanes[I];
            first[I] = keystream[I][0];
            unrolled!(R < Z; {
                let (at, mask) = window::<Z>(lane, R);
                // SAFETY: the mask has bytes of the data only.
                let input = load_masked(at, mask);
                let output = xor(input, keystream[I][R]);
                if SEAL {
                    // SAFETY: as above.
                    store_masked(at, mask, output);
                } else {
                    plain[I][R] = output;
                }
                let cipher = if SEAL { output } else { input };
                // Where no data is: the associated data in the first block, zeros behind it.
                let other = if R == 0 {
                    _mm512_zextsi128_si512(block(lane.aad))
                } else {
                    zero
                };
                hashed[I][R] = reverse(_mm512_mask_mov_epi8(other, mask, cipher));
                if R == Z - 1 {
                    // SAFETY: 16 bytes, and a number modulo 4: that of the block behind the
                    // data, which is in the last register.
                    let lengths = broadcast(lane.lengths.as_ptr().cast());
                    let place = place((lane.data.len().div_ceil(16) + 1) % 4);
                    hashed[I][R] = _mm512_ternarylogic_epi64::<0x78>(hashed[I][R], lengths, place);
                }
            });
        });
        Group {
            lanes,
            hashed,
            plain,
            first,
        }
    }
}

/// The hash of a group, in steps.
struct Hash<'g, 'l, const P: usize, const Z: usize> {
    group: &'g Group<'l, P, Z>,
    /// Products of each packet, then of pairs in the first of each.
    products: [Products; 4],
    tags: V,
}

impl<'g, 'l, const P: usize, const Z: usize> Hash<'g, 'l, P, Z> {
    /// # Safety
    /// As for [`encipher`], and as always inlined.
    #[inline(always)]
    unsafe fn new(group: &'g Group<'l, P, Z>) -> Self {
        // SAFETY: the features are there.
        unsafe {
            Self {
                group,
                products: [Products::none(); 4],
                tags: _mm512_setzero_si512(),
            }
        }
    }

    /// Multiplies the blocks of a packet with their powers.
    ///
    /// # Safety
    /// As for [`Self::new`].
    #[inline(always)]
    unsafe fn multiply<const I: usize>(&mut self) {
        if I >= P {
            return;
        }
        // SAFETY: the features are there.
        unsafe {
            let lane = &self.group.lanes[I];
            let blocks = lane.data.len().div_ceil(16);
            // SAFETY: the first block's power is blocks + 2, at most 4 * Z, at most POWERS; that
            // of a later one may be beyond the table's end by 4 * Z - 2 blocks at most, which is
            // within the schedule. Those blocks are zero, for what they meet is no power.
            let powers = lane.schedule.power(blocks + 2);
            unrolled!(R < Z; {
                let hashed = self.group.hashed[I][R];
                let powers = load(powers.add(64 * R));
                if R == 0 {
                    self.products[I] = Products::of(hashed, powers);
                } else {
                    self.products[I].add(hashed, powers);
                }
            });
        }
    }

    /// # Safety
    /// As for [`Self::new`].
    #[inline(always)]
    unsafe fn finish(&mut self) {
        // SAFETY: the features are there.
        unsafe {
            let [a, b, c, d] = self.group.first;
            let j0 = _mm512_shuffle_i32x4::<0x88>(
                _mm512_shuffle_i32x4::<0>(a, b),
                _mm512_shuffle_i32x4::<0>(c, d),
            );
            let hash = self.products[0].quads(self.products[2]).reduce();
            self.tags = xor(reverse(hash), j0);
        }
    }
}

impl<const P: usize, const Z: usize> Between for Hash<'_, '_, P, Z> {
    #[inline(always)]
    unsafe fn step<const ROUND: usize>(&mut self) {
        // SAFETY: as this function's.
        unsafe {
            match ROUND {
                1 => self.multiply::<0>(),
                3 => self.multiply::<1>(),
                4 => self.products[0] = self.products[0].pairs(self.products[1]),
                5 => self.multiply::<2>(),
                7 => self.multiply::<3>(),
                8 => self.products[2] = self.products[2].pairs(self.products[3]),
                9 => self.finish(),
                _ => {}
            }
        }
    }
}

impl<const P: usize, const Z: usize> Group<'_, P, Z> {
    /// Hashes and ends it with nothing beside.
    ///
    /// # Safety
    /// As for [`encipher`], and as always inlined.
    #[inline(always)]
    unsafe fn alone<const SEAL: bool>(self) {
        // SAFETY: as this function's.
        unsafe {
            let mut hash = Hash::new(&self);
            hash.multiply::<0>();
            hash.multiply::<1>();
            hash.multiply::<2>();
            hash.multiply::<3>();
            hash.products[0] = hash.products[0].pairs(hash.products[1]);
            hash.products[2] = hash.products[2].pairs(hash.products[3]);
            hash.finish();
            let tags = hash.tags;
            self.end::<SEAL>(tags);
        }
    }

    /// Writes tags, or compares them and deciphers.
    ///
    /// # Safety
    /// As for [`encipher`], and as always inlined.
    #[inline(always)]
    unsafe fn end<const SEAL: bool>(mut self, tags: V) {
        // SAFETY: the features are there.
        unsafe {
            let tags = [
                _mm512_extracti32x4_epi32::<0>(tags),
                _mm512_extracti32x4_epi32::<1>(tags),
                _mm512_extracti32x4_epi32::<2>(tags),
                _mm512_extracti32x4_epi32::<3>(tags),
            ];
            unrolled!(I < P, at most 4; {
                let lane = &mut self.lanes[I];
                if SEAL {
                    // SAFETY: 16 bytes.
                    _mm_storeu_si128(lane.tag.as_mut_ptr().cast(), tags[I]);
                    *lane.outcome = Outcome::Sealed;
                } else {
                    // All 128 bits at once. From here on the verdict is public.
                    if _mm_cmpneq_epi64_mask(tags[I], block(lane.tag)) == 0 {
                        unrolled!(R < Z; {
                            let (at, mask) = window::<Z>(lane, R);
                            // SAFETY: the mask has bytes of the data only.
                            store_masked(at, mask, self.plain[I][R]);
                        });
                        *lane.outcome = Outcome::Authentic;
                    } else {
                        // Not lost to the optimizer: the buffer is the caller's.
                        lane.data.fill(0);
                        *lane.outcome = Outcome::Failed;
                    }
                }
            });
        }
    }
}

/// Seals or opens packets whose keys have the same number of rounds.
///
/// # Safety
/// Each is of at most [`longest`] bytes for `Z`, which is 1 to 4, and of more than for one
/// register less.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) unsafe fn short<const Z: usize, const SEAL: bool>(packets: &mut [Packet<'_, '_>]) {
    const { assert!(Z >= 1 && Z <= 4) };
    let (groups, rest) = packets.as_chunks_mut::<TOGETHER>();
    // SAFETY: this function has the features, and packets are as they should be.
    unsafe {
        if let Some((first, groups)) = groups.split_first_mut() {
            let mut group = start::<4, Z, SEAL>(first, &mut ());
            for next in groups {
                let mut hash = Hash::new(&group);
                let next = start::<4, Z, SEAL>(next, &mut hash);
                let tags = hash.tags;
                group.end::<SEAL>(tags);
                group = next;
            }
            group.alone::<SEAL>();
        }
        if let Some(three) = rest.first_chunk_mut::<3>() {
            start::<3, Z, SEAL>(three, &mut ()).alone::<SEAL>();
        } else if let Some(two) = rest.first_chunk_mut::<2>() {
            start::<2, Z, SEAL>(two, &mut ()).alone::<SEAL>();
        } else if let Some(one) = rest.first_chunk_mut::<1>() {
            start::<1, Z, SEAL>(one, &mut ()).alone::<SEAL>();
        }
    }
}
