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
        let long_keys = packets.first().is_some_and(|(key, _)| key.rounds() == 14);
        // SAFETY: the features are there, the packets fit into so many registers, and their keys
        // have the same length.
        unsafe {
            match (class, long_keys) {
                (0, false) => short::short::<1, SEAL, 10>(packets),
                (1, false) => short::short::<2, SEAL, 10>(packets),
                (2, false) => short::short::<3, SEAL, 10>(packets),
                (_, false) => short::short::<4, SEAL, 10>(packets),
                (0, true) => short::short::<1, SEAL, 14>(packets),
                (1, true) => short::short::<2, SEAL, 14>(packets),
                (2, true) => short::short::<3, SEAL, 14>(packets),
                (_, true) => short::short::<4, SEAL, 14>(packets),
            }
        }
    }

    unsafe fn long<const SEAL: bool>(packets: &mut [Packet<'_, '_>]) {
        // More than four registers: what its safety rests on.
        const { assert!(Self::CLASSES[CLASSES - 1] + 16 > 16 * (POWERS - 2)) };
        for packet in packets {
            // SAFETY: the features are there, and the packet is longer than any short one.
            unsafe {
                match packet.0.rounds() {
                    10 => long::long::<SEAL, 10>(packet),
                    _ => long::long::<SEAL, 14>(packet),
                }
            }
        }
    }

    unsafe fn hash(schedule: &Schedule, state: &[u8; 16], blocks: &[[u8; 16]]) -> [u8; 16] {
        // SAFETY: the features are there.
        unsafe { hash::hash(schedule, state, blocks) }
    }
}
