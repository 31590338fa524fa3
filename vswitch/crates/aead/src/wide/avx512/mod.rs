//! 512 bits: four consecutive blocks of one packet to a register, partial ones by masks.
//!
//! Safe functions of this module need the CPU features they are marked with; a call from
//! without is what is unsafe about them. Within, only addresses are.

mod hash;
mod long;
mod ops;
mod short;

use crate::backend::{Backend, Sealed};
use crate::job::Job;
use crate::key::Form;

use super::lane::Packet;
use super::schedule::{POWERS, Schedule};
use super::{CLASSES, Kernel, run};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Avx512;

impl Sealed for Avx512 {}

impl Backend for Avx512 {
    fn name(&self) -> &'static str {
        "vaes-avx512"
    }

    fn usable(&self) -> bool {
        // The first three: what expanding a key needs. Each register width has its own bit.
        is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
            && is_x86_feature_detected!("bmi2")
    }

    fn form(&self) -> Form {
        Form::Wide
    }

    fn seal(&self, jobs: &mut [Job<'_>]) {
        // SAFETY: a backend leaves this crate only if it is usable.
        unsafe { run::<Self, true>(jobs) }
    }

    fn open(&self, jobs: &mut [Job<'_>]) {
        // SAFETY: as above.
        unsafe { run::<Self, false>(jobs) }
    }
}

impl Kernel for Avx512 {
    // 2, 3 and 4 registers: with the block of associated data before and that of the lengths
    // behind, 8, 12 and 16 blocks are hashed.
    const CLASSES: [usize; CLASSES] = [6 * 16, 10 * 16, 14 * 16];

    unsafe fn short<const P: usize, const SEAL: bool>(class: usize, packets: [Packet<'_, '_>; P]) {
        // SAFETY: the features are there, and the packets fit into so many registers.
        unsafe {
            match class {
                0 => short::short::<P, 2, SEAL>(packets),
                1 => short::short::<P, 3, SEAL>(packets),
                _ => short::short::<P, 4, SEAL>(packets),
            }
        }
    }

    unsafe fn long<const SEAL: bool>(packet: Packet<'_, '_>) {
        // A chunk at least: what its safety rests on.
        const { assert!(Self::CLASSES[CLASSES - 1] + 16 > 16 * (POWERS - 2)) };
        // SAFETY: the features are there, and the packet is longer than any short one.
        unsafe { long::long::<SEAL>(packet) }
    }

    unsafe fn hash(schedule: &Schedule, state: &[u8; 16], blocks: &[[u8; 16]]) -> [u8; 16] {
        // SAFETY: the features are there.
        unsafe { hash::hash(schedule, state, blocks) }
    }
}
