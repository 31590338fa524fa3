//! The backends for vector registers wider than a block: VAES and VPCLMULQDQ.
//!
//! A batch is done in parts. First every job is looked at, its key is fetched, and it is put on the
//! list of its kind; then short packets go through the kernel several at a time, packets of like
//! length and key length together, whatever their keys, and long ones alone. Jobs that need
//! preparation (data or associated data in several pieces, much associated data as with AES-GMAC)
//! go alone before all others, the slow way.
//!
//! What is secret (keys, data, tags as computed) decides neither about a branch nor about an
//! address; lengths, numbers of rounds and verdicts do. docs/protection.md has the argument.

mod avx2;
mod avx512;
mod lane;
mod schedule;
mod unroll;

use core::hint::black_box;
use core::mem::MaybeUninit;

pub(crate) use avx2::Avx2;
pub(crate) use avx512::Avx512;
pub(crate) use schedule::{FEW_BYTES, Schedule};

use crate::job::{Aad, Data, Job, MAX_DATA, Outcome, Tag, Way};
use crate::key::Algorithm;
use crate::scratch::{Scratch, scatter};
use crate::vault::wipe_lines;
use lane::{Fold, Packet};

/// Jobs looked at before the first is worked on.
const AHEAD: usize = 32;
/// Classes of length of short packets.
const CLASSES: usize = 4;

/// The part of a backend that is its own.
trait Kernel {
    /// Data bytes of the longest packet in each class, ascending.
    const CLASSES: [usize; CLASSES];

    /// Seals or opens packets of one class, whose keys have the same length.
    ///
    /// # Safety
    /// The CPU has what the backend needs, and the packets are of that class.
    unsafe fn short<const SEAL: bool>(class: usize, packets: &mut [Packet<'_, '_>]);

    /// Seals or opens packets that are in no class.
    ///
    /// # Safety
    /// The CPU has what the backend needs, and the packets are longer than those of any class.
    unsafe fn long<const SEAL: bool>(packets: &mut [Packet<'_, '_>]);

    /// GHASH of blocks, on top of a state.
    ///
    /// # Safety
    /// As for [`Self::long`].
    unsafe fn hash(schedule: &Schedule, state: &[u8; 16], blocks: &[[u8; 16]]) -> [u8; 16];
}

/// Cache lines of the stack that a kernel and what it calls use at most, in any build: what the
/// compiler spills differs. `tests/backends/stack.rs` looks.
const DEPTH: usize = 128;

/// Works on a batch, and leaves nothing of it on the stack: kernels spill keystream, and powers
/// of H. They are functions apart (they have features of the CPU that this has not, which rules
/// out that they are inlined), and so is [`slow`]: nothing of that is in the frame of this one.
///
/// # Safety
/// The CPU has what the kernel needs.
#[inline(never)]
unsafe fn run<K: Kernel, const SEAL: bool>(jobs: &mut [Job<'_>]) {
    for part in jobs.chunks_mut(AHEAD) {
        // SAFETY: as this function's.
        unsafe { run_part::<K, SEAL>(part) };
    }
    wipe_lines::<DEPTH>();
}

/// Packets of a kind, and how many they are. The count lies elsewhere, so that nothing has to be
/// written before the first packet is.
struct List<'k, 'l, 'j> {
    packets: &'k mut [MaybeUninit<Packet<'l, 'j>>; AHEAD],
    count: &'k mut usize,
}

impl<'k, 'l, 'j> List<'k, 'l, 'j> {
    /// One more, of at most [`AHEAD`].
    #[inline(always)]
    fn push(self, packet: Packet<'l, 'j>) {
        if let Some(place) = self.packets.get_mut(*self.count) {
            place.write(packet);
            *self.count += 1;
        }
    }

    /// All that there are.
    ///
    /// # Safety
    /// So many were pushed.
    #[inline(always)]
    unsafe fn all(self) -> &'k mut [Packet<'l, 'j>] {
        let packets = self.packets.as_mut_ptr().cast();
        // SAFETY: as this function's.
        unsafe { core::slice::from_raw_parts_mut(packets, *self.count) }
    }
}

/// Kinds of packets: those in no class, and those of each class, for either length of a key.
const KINDS: usize = 1 + 2 * CLASSES;

/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn run_part<K: Kernel, const SEAL: bool>(jobs: &mut [Job<'_>]) {
    let mut places = [const { [const { MaybeUninit::uninit() }; AHEAD] }; KINDS];
    let mut counts = [0; KINDS];
    let way = if SEAL { Way::Seal } else { Way::Open };
    for job in jobs {
        let key = job.key;
        let Some((schedule, len)) = key.schedule().zip(job.straight(way)) else {
            // SAFETY: as this function's.
            unsafe { slow::<K, SEAL>(job) };
            continue;
        };
        let long_key = key.algorithm() == Algorithm::Aes256Gcm;
        // No branches: lengths of neighbours differ.
        let class = class::<K>(len);
        schedule.prefetch(len > FEW_BYTES, long_key);
        let kind = class + if long_key { CLASSES } else { 0 };
        let kind = if class < CLASSES { 1 + kind } else { 0 };
        if let (Some(packets), Some(count)) = (places.get_mut(kind), counts.get_mut(kind)) {
            List { packets, count }.push((schedule, job));
        }
    }
    for (kind, (packets, count)) in places.iter_mut().zip(&mut counts).enumerate() {
        if *count == 0 {
            continue;
        }
        // SAFETY: counted as they were pushed.
        let packets = unsafe { List { packets, count }.all() };
        // SAFETY: as this function's, and of this class they are.
        unsafe {
            below::<K, SEAL>(
                kind.checked_sub(1).map_or(CLASSES, |c| c % CLASSES),
                packets,
            )
        };
    }
}

/// Runs a kernel a little further down the stack, so that all of its frame is where [`wipe_lines`]
/// wipes, which aligns its own.
///
/// # Safety
/// As for [`run`], and the packets are of this class.
#[inline(never)]
unsafe fn below<K: Kernel, const SEAL: bool>(class: usize, packets: &mut [Packet<'_, '_>]) {
    let room = MaybeUninit::<[u64; 16]>::uninit();
    black_box(&room);
    // SAFETY: as this function's.
    unsafe {
        if class < CLASSES {
            K::short::<SEAL>(class, packets);
        } else {
            K::long::<SEAL>(packets);
        }
    }
    black_box(&room);
}

/// The class of a packet, [`CLASSES`] if it is in none.
#[inline(always)]
fn class<K: Kernel>(len: usize) -> usize {
    K::CLASSES.map(|most| usize::from(len > most)).iter().sum()
}

/// A job that is not as it should be, or needs preparation: associated data is hashed into one
/// block, data gathered.
///
/// # Safety
/// As for [`run`].
#[cold]
#[inline(never)]
unsafe fn slow<K: Kernel, const SEAL: bool>(job: &mut Job<'_>) {
    let success = if SEAL {
        Outcome::Sealed
    } else {
        Outcome::Authentic
    };
    if !job.admit(success) {
        return;
    }
    let key = job.key;
    let Some(schedule) = key.schedule() else {
        return job.fail();
    };
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
    let outcome = {
        let tag = match &mut job.tag {
            Tag::Write(tag) => Tag::Write(tag),
            Tag::Compare(tag) => Tag::Compare(*tag),
        };
        let data = Data::Contiguous(data);
        let mut prepared = Job::with_counter(job.key, job.counter, aad, data, tag);
        let class = class::<K>((prepared.lengths[0] / 8) as usize);
        let packet = &mut [(schedule, &mut prepared)];
        // SAFETY: as this function's, and of this class it is.
        unsafe { below::<K, SEAL>(class, packet) };
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
