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
    const CLASSES: [usize; CLASSES] = [
        short::longest(1),
        short::longest(2),
        short::longest(3),
        short::longest(4),
    ];

    unsafe fn short<const SEAL: bool>(class: usize, packets: &mut [Packet<'_, '_>]) {
        // SAFETY: the features are there, and the packets fit into so many registers.
        unsafe {
            match class {
                0 => short::short::<1, SEAL>(packets),
                1 => short::short::<2, SEAL>(packets),
                2 => short::short::<3, SEAL>(packets),
                _ => short::short::<4, SEAL>(packets),
            }
        }
    }

    unsafe fn long<const SEAL: bool>(packets: &mut [Packet<'_, '_>]) {
        // A chunk at least: what its safety rests on.
        const { assert!(Self::CLASSES[CLASSES - 1] + 16 > 16 * (POWERS - 2)) };
        for packet in packets {
            // SAFETY: the features are there, and the packet is longer than any short one.
            unsafe { long::long::<SEAL>(packet) }
        }
    }

    unsafe fn hash(schedule: &Schedule, state: &[u8; 16], blocks: &[[u8; 16]]) -> [u8; 16] {
        // SAFETY: the features are there.
        unsafe { hash::hash(schedule, state, blocks) }
    }
}
