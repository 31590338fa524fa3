//! Opening short packets: what is hashed is there before AES begins, so the hash of four packets goes
//! between the rounds of their own keystream. Tags are computed and compared first; data that is
//! not authentic is never deciphered in the buffer, but overwritten with zeros.

use core::arch::x86_64::*;

use super::ops::{block, load_masked, store_masked, xor};
use super::short::{Grouped, Hashes, Steps, TOGETHER, blocks, keystream, window};
use crate::job::Outcome;
use crate::wide::lane::{Lane, Packet};
use crate::wide::unroll::unrolled;

/// The hash of packets as they came, in steps.
struct GroupHash<'g, 'l, const P: usize, const Z: usize> {
    lanes: &'g [Lane<'l>; P],
    hashes: Hashes,
}

impl<const P: usize, const Z: usize> Grouped for GroupHash<'_, '_, P, Z> {
    #[inline(always)]
    fn hashes(&mut self) -> &mut Hashes {
        &mut self.hashes
    }

    #[inline(always)]
    unsafe fn multiply<const I: usize>(&mut self) {
        if I < P {
            let lane = &self.lanes[I];
            // SAFETY: as this function's; masks have bytes of the data only.
            unsafe {
                let mut hashed = [_mm512_setzero_si512(); Z];
                unrolled!(R < Z; {
                    let (at, mask) = window::<Z>(lane, R);
                    hashed[R] = blocks::<R, Z>(lane, mask, load_masked(at, mask));
                });
                self.hashes.multiply::<I, Z>(lane, |r| hashed[r]);
            }
        }
    }
}

/// Opens `P` packets.
///
/// # Safety
/// As for [`keystream`]. The packets are of `Z` registers.
#[inline(always)]
unsafe fn group<const P: usize, const Z: usize, const ROUNDS: usize>(
    packets: &mut [Packet<'_, '_>; P],
) {
    let mut lanes = packets.each_mut().map(Lane::of);
    // SAFETY: the features are there; masks have bytes of the data only.
    unsafe {
        let mut hash = GroupHash::<P, Z> {
            lanes: &lanes,
            hashes: Hashes::new(),
        };
        let keystream = keystream::<P, Z, ROUNDS>(&lanes, &mut Steps(&mut hash));
        let mut first = [_mm512_setzero_si512(); TOGETHER];
        unrolled!(I < P, at most 4; { first[I] = keystream[I][0]; });
        let tags = hash.hashes.tags(first);
        unrolled!(I < P, at most 4; {
            let lane = &mut lanes[I];
            // All 128 bits at once. From here on the verdict is public.
            if _mm_cmpneq_epi64_mask(tags[I], block(lane.tag)) == 0 {
                unrolled!(R < Z; {
                    let (at, mask) = window::<Z>(lane, R);
                    let to = lane.data.as_mut_ptr().wrapping_sub(16).wrapping_add(64 * R);
                    store_masked(to, mask, xor(load_masked(at, mask), keystream[I][R]));
                });
                *lane.outcome = Outcome::Authentic;
            } else {
                // Not lost to the optimizer: the buffer is the caller's.
                lane.data.fill(0);
                *lane.outcome = Outcome::Failed;
            }
        });
    }
}

/// Opens packets whose keys have `ROUNDS` rounds.
///
/// # Safety
/// Each is of at most [`super::short::longest`] bytes for `Z`, which is 1 to 4, and of more than
/// for one register less; `ROUNDS` is right.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) unsafe fn open<const Z: usize, const ROUNDS: usize>(packets: &mut [Packet<'_, '_>]) {
    const { assert!(Z >= 1 && Z <= 4) };
    let (groups, rest) = packets.as_chunks_mut::<TOGETHER>();
    // SAFETY: this function has the features, and packets are as they should be.
    unsafe {
        for four in groups {
            group::<TOGETHER, Z, ROUNDS>(four);
        }
        if let Some(three) = rest.first_chunk_mut::<3>() {
            group::<3, Z, ROUNDS>(three);
        } else if let Some(two) = rest.first_chunk_mut::<2>() {
            group::<2, Z, ROUNDS>(two);
        } else if let Some(one) = rest.first_chunk_mut::<1>() {
            group::<1, Z, ROUNDS>(one);
        }
    }
}
