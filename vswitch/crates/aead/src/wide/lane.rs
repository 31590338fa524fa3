//! A job as the kernels want it: one stretch of data, one block of associated data.

use crate::job::{Data, Job, MAX_DATA, Outcome, Tag};

use super::schedule::Schedule;

/// Longest associated data in a [`Lane`] as it stands.
const BLOCK: usize = 16;

/// One packet on its way through a kernel.
pub(super) struct Lane<'l> {
    pub(super) schedule: &'l Schedule,
    /// The nonce and 32 zero bits.
    pub(super) counter: &'l [u8; 16],
    /// What is hashed before the ciphertext: associated data padded with zeros, or the hash of
    /// all but its last block, added to that one (see [`Fold`]).
    pub(super) aad: &'l [u8; 16],
    /// Length of the associated data in bits.
    pub(super) aad_bits: u64,
    pub(super) data: &'l mut [u8],
    /// Written when sealing, read when opening.
    pub(super) tag: &'l mut [u8; 16],
    /// Set by the kernel.
    pub(super) outcome: &'l mut Outcome,
}

impl<'l> Lane<'l> {
    /// A job that needs no preparation; else nothing is changed.
    #[inline(always)]
    pub(super) fn of(job: &'l mut Job<'_>, schedule: &'l Schedule) -> Option<Self> {
        let Data::Contiguous(data) = &mut job.data else {
            return None;
        };
        if data.len() as u64 > MAX_DATA {
            return None;
        }
        Some(Lane {
            schedule,
            counter: &job.counter,
            aad: job.aad.block()?,
            aad_bits: job.aad.len() as u64 * 8,
            data,
            tag: place(&mut job.tag),
            outcome: &mut job.outcome,
        })
    }

    /// A job with its associated data folded, and its data if it had to be gathered.
    pub(super) fn prepared(
        job: &'l mut Job<'_>,
        schedule: &'l Schedule,
        aad: &'l [u8; 16],
        gathered: Option<&'l mut [u8]>,
    ) -> Option<Self> {
        let aad_bits = job.aad.len() as u64 * 8;
        let data = match (gathered, &mut job.data) {
            (Some(gathered), _) => gathered,
            (None, Data::Contiguous(data)) => data,
            (None, Data::Segments(_)) => return None,
        };
        (data.len() as u64 <= MAX_DATA).then_some(Lane {
            schedule,
            counter: &job.counter,
            aad,
            aad_bits,
            data,
            tag: place(&mut job.tag),
            outcome: &mut job.outcome,
        })
    }
}

#[inline(always)]
fn place<'l>(tag: &'l mut Tag<'_>) -> &'l mut [u8; 16] {
    match tag {
        Tag::Write(tag) => tag,
        Tag::Compare(tag) => tag,
    }
}

/// Hashes all of some associated data but its last block, to which it adds the result: hashed
/// as the first block, the sum leads to the same state as all of it.
pub(super) struct Fold<'s, H> {
    schedule: &'s Schedule,
    /// Hashes whole blocks on top of a state.
    hash: H,
    state: [u8; BLOCK],
    /// The start of the block at which we are, and how much of it there is.
    pending: [u8; BLOCK],
    filled: usize,
}

impl<'s, H: Fn(&Schedule, &[u8; BLOCK], &[[u8; BLOCK]]) -> [u8; BLOCK]> Fold<'s, H> {
    pub(super) fn new(schedule: &'s Schedule, hash: H) -> Self {
        Self {
            schedule,
            hash,
            state: [0; BLOCK],
            pending: [0; BLOCK],
            filled: 0,
        }
    }

    /// Takes a further piece.
    pub(super) fn update(&mut self, piece: &[u8]) {
        let room = self.pending.get_mut(self.filled..).unwrap_or_default();
        let (now, rest) = piece.split_at(room.len().min(piece.len()));
        for (to, from) in room.iter_mut().zip(now) {
            *to = *from;
        }
        self.filled += now.len();
        if rest.is_empty() {
            // The block, full or not, may be the last.
            return;
        }
        self.state = (self.hash)(self.schedule, &self.state, &[self.pending]);
        // The last block stays pending, be it full.
        let whole = (rest.len() - 1) / BLOCK * BLOCK;
        let (bulk, rest) = rest.split_at(whole);
        let (blocks, _) = bulk.as_chunks();
        if !blocks.is_empty() {
            self.state = (self.hash)(self.schedule, &self.state, blocks);
        }
        self.pending = [0; BLOCK];
        for (to, from) in self.pending.iter_mut().zip(rest) {
            *to = *from;
        }
        self.filled = rest.len();
    }

    /// The block that stands for all of it.
    pub(super) fn finish(self) -> [u8; BLOCK] {
        let mut sum = self.state;
        for (to, from) in sum.iter_mut().zip(self.pending) {
            *to ^= from;
        }
        sum
    }
}
