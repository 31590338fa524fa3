//! 256 bits: two consecutive blocks of one packet to a register, one packet after the other.
//!
//! For CPUs with VAES and VPCLMULQDQ but not AVX-512. Without byte masks, only data is ever
//! loaded as data: the block of associated data and that of the lengths are registers of their
//! own. As in `avx512`, safe functions are unsafe to call from where their CPU features are not
//! known to be there.

mod ops;
mod packet;

use crate::backend::{Backend, Sealed};
use crate::job::Job;
use crate::key::Form;

use super::lane::Packet;
use super::schedule::Schedule;
use super::{CLASSES, Kernel, run};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Avx2;

impl Sealed for Avx2 {}

impl Backend for Avx2 {
    fn name(&self) -> &'static str {
        "vaes-avx2"
    }

    fn usable(&self) -> bool {
        is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
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

impl Kernel for Avx2 {
    // What can be verified before it is deciphered, as the keystream fits into registers.
    const CLASSES: [usize; CLASSES] = [packet::SHORT; CLASSES];

    unsafe fn short<const SEAL: bool>(_class: usize, packets: &mut [Packet<'_, '_>]) {
        for packet in packets {
            // SAFETY: the features are there.
            unsafe { packet::short::<SEAL>(packet) }
        }
    }

    unsafe fn long<const SEAL: bool>(packets: &mut [Packet<'_, '_>]) {
        for packet in packets {
            // SAFETY: the features are there.
            unsafe { packet::long::<SEAL>(packet) }
        }
    }

    unsafe fn hash(schedule: &Schedule, state: &[u8; 16], blocks: &[[u8; 16]]) -> [u8; 16] {
        // SAFETY: the features are there.
        unsafe { packet::hash(schedule, state, blocks) }
    }
}
