//! Sealing short packets: the hash of four of them goes between the rounds of the next four.

use core::arch::x86_64::*;

use super::ops::{Between, V, load_masked, store_masked, xor};
use super::short::{Grouped, Hashes, Steps, TOGETHER, blocks, keystream, window};
use crate::job::Outcome;
use crate::wide::lane::{Lane, Packet};
use crate::wide::unroll::unrolled;

/// Packets that are enciphered.
struct Group<'l, const P: usize, const Z: usize> {
    lanes: [Lane<'l>; P],
    /// What is to be hashed.
    hashed: [[V; Z]; P],
    /// First registers of keystream.
    first: [V; TOGETHER],
}

/// Enciphers `P` packets.
///
/// # Safety
/// As for [`keystream`]. The packets are of `Z` registers.
#[inline(always)]
unsafe fn start<'l, const P: usize, const Z: usize, const ROUNDS: usize>(
    packets: &'l mut [Packet<'_, '_>; P],
    between: &mut impl Between,
) -> Group<'l, P, Z> {
    let mut lanes = packets.each_mut().map(Lane::of);
    // SAFETY: the features are there; masks have bytes of the data only.
    unsafe {
        let keystream = keystream::<P, Z, ROUNDS>(&lanes, between);
        let mut hashed = keystream;
        let mut first = [_mm512_setzero_si512(); TOGETHER];
        unrolled!(I < P, at most 4; {
            let lane = &mut lanes[I];
            first[I] = keystream[I][0];
            unrolled!(R < Z; {
                let (at, mask) = window::<Z>(lane, R);
                // For writing: derived from the exclusive reference, as the other was not.
                let to = lane.data.as_mut_ptr().wrapping_sub(16).wrapping_add(64 * R);
                let output = xor(load_masked(at, mask), keystream[I][R]);
                store_masked(to, mask, output);
                hashed[I][R] = blocks::<R, Z>(lane, mask, output);
            });
        });
        Group {
            lanes,
            hashed,
            first,
        }
    }
}

/// The hash of a group, in steps.
struct GroupHash<'g, 'l, const P: usize, const Z: usize> {
    group: &'g Group<'l, P, Z>,
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
            let hashed = &self.group.hashed[I];
            // SAFETY: as this function's.
            unsafe {
                self.hashes
                    .multiply::<I, Z>(&self.group.lanes[I], |r| hashed[r]);
            }
        }
    }
}

impl<const P: usize, const Z: usize> Group<'_, P, Z> {
    /// Hashes and ends it with nothing beside.
    ///
    /// # Safety
    /// As for [`keystream`].
    #[inline(always)]
    unsafe fn alone(self) {
        // SAFETY: as this function's.
        unsafe {
            let mut hash = GroupHash {
                group: &self,
                hashes: Hashes::new(),
            };
            hash.multiply::<0>();
            hash.multiply::<1>();
            hash.multiply::<2>();
            hash.multiply::<3>();
            hash.hashes.pair::<0>();
            hash.hashes.pair::<2>();
            hash.hashes.finish();
            let hashes = hash.hashes;
            self.end(&hashes);
        }
    }

    /// Writes tags.
    ///
    /// # Safety
    /// As for [`keystream`].
    #[inline(always)]
    unsafe fn end(mut self, hashes: &Hashes) {
        // SAFETY: the features are there; a tag is 16 bytes.
        unsafe {
            let tags = hashes.tags(self.first);
            unrolled!(I < P, at most 4; {
                let lane = &mut self.lanes[I];
                _mm_storeu_si128(lane.tag.as_mut_ptr().cast(), tags[I]);
                *lane.outcome = Outcome::Sealed;
            });
        }
    }
}

/// Seals packets whose keys have `ROUNDS` rounds.
///
/// # Safety
/// Each is of at most [`super::short::longest`] bytes for `Z`, which is 1 to 4, and of more than
/// for one register less; `ROUNDS` is right.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) unsafe fn seal<const Z: usize, const ROUNDS: usize>(packets: &mut [Packet<'_, '_>]) {
    const { assert!(Z >= 1 && Z <= 4) };
    let (groups, rest) = packets.as_chunks_mut::<TOGETHER>();
    // SAFETY: this function has the features, and packets are as they should be.
    unsafe {
        if let Some((first, groups)) = groups.split_first_mut() {
            let mut group = start::<TOGETHER, Z, ROUNDS>(first, &mut ());
            for next in groups {
                let mut hash = GroupHash {
                    group: &group,
                    hashes: Hashes::new(),
                };
                let next = start::<TOGETHER, Z, ROUNDS>(next, &mut Steps(&mut hash));
                let hashes = hash.hashes;
                group.end(&hashes);
                group = next;
            }
            group.alone();
        }
        if let Some(three) = rest.first_chunk_mut::<3>() {
            start::<3, Z, ROUNDS>(three, &mut ()).alone();
        } else if let Some(two) = rest.first_chunk_mut::<2>() {
            start::<2, Z, ROUNDS>(two, &mut ()).alone();
        } else if let Some(one) = rest.first_chunk_mut::<1>() {
            start::<1, Z, ROUNDS>(one, &mut ()).alone();
        }
    }
}
