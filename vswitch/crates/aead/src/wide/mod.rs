//! The backends for vector registers wider than a block: VAES and VPCLMULQDQ.
//!
//! A batch is done in parts. First every job is looked at and its key is fetched; then short
//! packets go through the kernel several at a time, packets of like length and key
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
mod unroll;

pub(crate) use avx2::Avx2;
pub(crate) use avx512::Avx512;
pub(crate) use schedule::Schedule;

use crate::job::{Aad, Data, Job, MAX_DATA, Outcome, Tag};
use crate::scratch::{Scratch, scatter};
use crate::vault::wipe_lines;
use lane::{Fold, Packet};

/// Jobs looked at before the first is worked on.
const AHEAD: usize = 32;
/// Packets that go through a kernel together.
const TOGETHER: usize = 4;
/// Classes of length of short packets.
const CLASSES: usize = 3;

/// The part of a backend that is its own.
trait Kernel {
    /// Data bytes of the longest packet in each class of short ones, ascending.
    const CLASSES: [usize; CLASSES];

    /// Seals or opens short packets, whose keys have the same length.
    ///
    /// # Safety
    /// The CPU has what the backend needs, and no packet is longer than those of its class.
    unsafe fn short<const P: usize, const SEAL: bool>(class: usize, packets: [Packet<'_, '_>; P]);

    /// Seals or opens a packet that is in no class.
    ///
    /// # Safety
    /// The CPU has what the backend needs, and the packet is longer than those of any class.
    unsafe fn long<const SEAL: bool>(packet: Packet<'_, '_>);

    /// GHASH of blocks, on top of a state.
    ///
    /// # Safety
    /// As for [`Self::short`].
    unsafe fn hash(schedule: &Schedule, state: &[u8; 16], blocks: &[[u8; 16]]) -> [u8; 16];
}

/// Cache lines of the stack that [`apart`] and what it calls use at most.
const DEPTH: usize = 80;

/// Works on a batch, and leaves nothing of it on the stack: kernels spill keystream, and powers
/// of H.
///
/// # Safety
/// The CPU has what the kernel needs.
unsafe fn run<K: Kernel, const SEAL: bool>(jobs: &mut [Job<'_>]) {
    // SAFETY: as this function's.
    unsafe { apart::<K, SEAL>(jobs) };
    wipe_lines::<DEPTH>();
}

/// A frame of its own, so that nothing is in that of [`run`].
///
/// # Safety
/// As for [`run`].
#[inline(never)]
unsafe fn apart<K: Kernel, const SEAL: bool>(jobs: &mut [Job<'_>]) {
    for part in jobs.chunks_mut(AHEAD) {
        // SAFETY: as this function's.
        unsafe { run_part::<K, SEAL>(part) };
    }
}

/// Packets of a kind that wait for company, from the first place on.
#[derive(Default)]
struct Waiting<'l, 'j> {
    packets: [Option<Packet<'l, 'j>>; TOGETHER],
    count: usize,
}

impl<'l, 'j> Waiting<'l, 'j> {
    /// One more; tells whether they are enough.
    #[inline(always)]
    fn push(&mut self, packet: Packet<'l, 'j>) -> bool {
        if let Some(place) = self.packets.get_mut(self.count) {
            *place = Some(packet);
            self.count += 1;
        }
        self.count == TOGETHER
    }

    /// All that there are.
    ///
    /// # Safety
    /// As for [`run`].
    #[inline(always)]
    unsafe fn go<K: Kernel, const SEAL: bool>(&mut self, class: usize) {
        self.count = 0;
        let [a, b, c, d] = &mut self.packets;
        // SAFETY: as this function's.
        unsafe {
            match (a.take(), b.take(), c.take(), d.take()) {
                (Some(a), Some(b), Some(c), Some(d)) => K::short::<4, SEAL>(class, [a, b, c, d]),
                (Some(a), Some(b), Some(c), _) => K::short::<3, SEAL>(class, [a, b, c]),
                (Some(a), Some(b), ..) => K::short::<2, SEAL>(class, [a, b]),
                (Some(a), ..) => K::short::<1, SEAL>(class, [a]),
                (None, ..) => {}
            }
        }
    }
}

/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn run_part<K: Kernel, const SEAL: bool>(jobs: &mut [Job<'_>]) {
    let success = if SEAL {
        Outcome::Sealed
    } else {
        Outcome::Authentic
    };
    for job in &*jobs {
        job.key.prefetch(match &job.data {
            Data::Contiguous(data) => data.len(),
            Data::Segments(_) => usize::MAX,
        });
    }
    let mut waiting: [Waiting<'_, '_>; 2 * CLASSES] = Default::default();
    for job in jobs {
        if !job.admit(success) {
            continue;
        }
        let key = job.key;
        let Some(schedule) = key.schedule() else {
            job.fail();
            continue;
        };
        let Some(len) = job.plain_len() else {
            // SAFETY: as this function's.
            unsafe { slow::<K, SEAL>(job, schedule, success) };
            continue;
        };
        let class = class::<K>(len);
        let kind = class + if schedule.rounds() == 10 { 0 } else { CLASSES };
        match waiting.get_mut(kind).filter(|_| class < CLASSES) {
            Some(waiting) => {
                if waiting.push((schedule, job)) {
                    // SAFETY: as this function's.
                    unsafe { waiting.go::<K, SEAL>(class) };
                }
            }
            // SAFETY: as this function's.
            None => unsafe { K::long::<SEAL>((schedule, job)) },
        }
    }
    for (kind, waiting) in waiting.iter_mut().enumerate() {
        if waiting.count > 0 {
            // SAFETY: as this function's.
            unsafe { waiting.go::<K, SEAL>(kind % CLASSES) };
        }
    }
}

/// The class of a packet, [`CLASSES`] or more if it is not short. No branches: lengths of
/// neighbours differ.
#[inline(always)]
fn class<K: Kernel>(len: usize) -> usize {
    K::CLASSES.map(|most| usize::from(len > most)).iter().sum()
}

/// A job that needs preparation: associated data is hashed into one block, data gathered.
///
/// # Safety
/// As for [`run`].
#[cold]
unsafe fn slow<K: Kernel, const SEAL: bool>(
    job: &mut Job<'_>,
    schedule: &Schedule,
    success: Outcome,
) {
    if job.data.len() as u64 > MAX_DATA {
        return job.fail();
    }
    let mut fold = Fold::new(schedule, |schedule, state, blocks| {
        // SAFETY: as this function's.
        unsafe { K::hash(schedule, state, blocks) }
    });
    job.aad.pieces().for_each(|piece| fold.update(piece));
    let aad = Aad::folded(fold.finish(), job.aad.len() as u64 * 8);
    let mut scratch = Scratch::default();
    let data = match &mut job.data {
        Data::Contiguous(data) => &mut **data,
        Data::Segments(pieces) => {
            let len = pieces.iter().map(|p| p.len()).sum();
            scratch.gather(len, pieces.iter().map(|p| &**p))
        }
    };
    let len = data.len();
    let outcome = {
        let mut prepared = Job {
            key: job.key,
            counter: job.counter,
            aad,
            data: Data::Contiguous(data),
            tag: match &mut job.tag {
                Tag::Write(tag) => Tag::Write(tag),
                Tag::Compare(tag) => Tag::Compare(*tag),
            },
            outcome: Outcome::Pending,
        };
        let class = class::<K>(len);
        let packet = (schedule, &mut prepared);
        // SAFETY: as this function's.
        unsafe {
            if class < CLASSES {
                K::short::<1, SEAL>(class, [packet]);
            } else {
                K::long::<SEAL>(packet);
            }
        }
        prepared.outcome
    };
    if outcome != success {
        return job.fail();
    }
    job.succeed(success);
    if let Data::Segments(pieces) = &mut job.data {
        scatter(scratch.bytes(), pieces);
    }
}
