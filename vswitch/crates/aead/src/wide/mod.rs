//! The backends for vector registers wider than a block: VAES and VPCLMULQDQ.
//!
//! A batch is done in parts. First every job becomes a [`Lane`] and its key is fetched; then
//! short packets go through the kernel several at a time, packets of like length and key
//! length together, whatever their keys, and long ones alone. Jobs that need preparation (data
//! or associated data in several pieces, much associated data as with AES-GMAC) go alone
//! before all others, the slow way.
//!
//! What is secret (keys, data, tags as computed) decides neither about a branch nor about an
//! address; lengths, numbers of rounds and verdicts do. docs/protection.md has the argument.

mod avx2;
mod avx512;
mod lane;
mod schedule;

pub(crate) use avx2::Avx2;
pub(crate) use avx512::Avx512;
pub(crate) use schedule::Schedule;

use crate::job::{Data, Job, Outcome};
use crate::scratch::{Scratch, scatter};
use lane::{Fold, Lane};

/// Jobs looked at before the first is worked on.
const AHEAD: usize = 32;
/// Packets that go through a kernel together.
const TOGETHER: usize = 4;
/// Kinds of short packets there are at most: classes of length, two lengths of key.
const KINDS: usize = 6;

/// Lanes that wait for company, and how many they are.
type Waiting<'a, 'l> = ([Option<&'a mut Lane<'l>>; TOGETHER], usize);

/// The part of a backend that is its own.
trait Kernel {
    /// Data bytes of the longest packet in each class of short ones, ascending.
    const CLASSES: [usize; KINDS / 2];

    /// Seals or opens short packets, whose class is `class` or less and whose keys have the same
    /// length.
    ///
    /// # Safety
    /// The CPU has what the backend needs.
    unsafe fn short<const P: usize, const SEAL: bool>(class: usize, lanes: [&mut Lane<'_>; P]);

    /// Seals or opens a packet that is in no class.
    ///
    /// # Safety
    /// As for [`Self::short`].
    unsafe fn long<const SEAL: bool>(lane: &mut Lane<'_>);

    /// GHASH of blocks, on top of a state.
    ///
    /// # Safety
    /// As for [`Self::short`].
    unsafe fn hash(schedule: &Schedule, state: &[u8; 16], blocks: &[[u8; 16]]) -> [u8; 16];
}

/// Works on a batch.
///
/// # Safety
/// The CPU has what the kernel needs.
unsafe fn run<K: Kernel, const SEAL: bool>(jobs: &mut [Job<'_>]) {
    for part in jobs.chunks_mut(AHEAD) {
        // SAFETY: as this function's.
        unsafe { run_part::<K, SEAL>(part) };
    }
}

/// # Safety
/// As for [`run`].
unsafe fn run_part<K: Kernel, const SEAL: bool>(jobs: &mut [Job<'_>]) {
    let success = if SEAL {
        Outcome::Sealed
    } else {
        Outcome::Authentic
    };
    let mut lanes: [Option<Lane<'_>>; AHEAD] = [const { None }; AHEAD];
    for (job, place) in jobs.iter_mut().zip(&mut lanes) {
        if !job.admit(success) {
            continue;
        }
        let Some(schedule) = job.key.schedule() else {
            job.fail();
            continue;
        };
        schedule.prefetch();
        if job.is_plain() {
            *place = Lane::of(job, schedule);
        } else {
            // SAFETY: as this function's.
            unsafe { slow::<K, SEAL>(job, schedule, success) };
        }
    }
    let mut waiting: [Waiting<'_, '_>; KINDS] = [const { ([const { None }; TOGETHER], 0) }; KINDS];
    for lane in lanes.iter_mut().flatten() {
        let Some(class) = class::<K>(lane) else {
            // SAFETY: as this function's.
            unsafe { K::long::<SEAL>(lane) };
            continue;
        };
        let kind = class
            + if lane.schedule.rounds() == 10 {
                0
            } else {
                KINDS / 2
            };
        let Some((held, count)) = waiting.get_mut(kind) else {
            continue;
        };
        if let Some(place) = held.get_mut(*count) {
            *place = Some(lane);
            *count += 1;
        }
        if *count == TOGETHER {
            *count = 0;
            // SAFETY: as this function's.
            unsafe { together::<K, SEAL>(class, held) };
        }
    }
    for (kind, (held, count)) in waiting.iter_mut().enumerate() {
        if *count > 0 {
            // SAFETY: as this function's.
            unsafe { together::<K, SEAL>(kind % (KINDS / 2), held) };
        }
    }
}

/// The class of a short packet.
#[inline(always)]
fn class<K: Kernel>(lane: &Lane<'_>) -> Option<usize> {
    K::CLASSES.iter().position(|most| lane.data.len() <= *most)
}

/// Those of a class that have come together, from the first place on; leaves nobody.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn together<K: Kernel, const SEAL: bool>(
    class: usize,
    held: &mut [Option<&mut Lane<'_>>; TOGETHER],
) {
    let lanes = core::mem::replace(held, [const { None }; TOGETHER]);
    // SAFETY: as this function's.
    unsafe {
        match lanes {
            [Some(a), Some(b), Some(c), Some(d)] => K::short::<4, SEAL>(class, [a, b, c, d]),
            [Some(a), Some(b), Some(c), _] => K::short::<3, SEAL>(class, [a, b, c]),
            [Some(a), Some(b), ..] => K::short::<2, SEAL>(class, [a, b]),
            [Some(a), ..] => K::short::<1, SEAL>(class, [a]),
            [None, ..] => {}
        }
    }
}

/// A job that needs preparation.
///
/// # Safety
/// As for [`run`].
#[cold]
unsafe fn slow<K: Kernel, const SEAL: bool>(
    job: &mut Job<'_>,
    schedule: &Schedule,
    success: Outcome,
) {
    let mut fold = Fold::new(schedule, |schedule, state, blocks| {
        // SAFETY: as this function's.
        unsafe { K::hash(schedule, state, blocks) }
    });
    job.aad.pieces().for_each(|piece| fold.update(piece));
    let aad = fold.finish();
    let mut scratch = Scratch::default();
    let mut gathered = match &job.data {
        Data::Contiguous(_) => None,
        Data::Segments(pieces) => Some(scratch.gather(job.data.len(), pieces.iter().map(|p| &**p))),
    };
    if let Some(mut lane) = Lane::prepared(job, schedule, &aad, gathered.as_deref_mut()) {
        // SAFETY: as this function's.
        unsafe {
            match class::<K>(&lane) {
                Some(class) => K::short::<1, SEAL>(class, [&mut lane]),
                None => K::long::<SEAL>(&mut lane),
            }
        }
    }
    if job.outcome() != success {
        job.fail();
    } else if let (Some(all), Data::Segments(pieces)) = (gathered, &mut job.data) {
        scatter(all, pieces);
    }
}
