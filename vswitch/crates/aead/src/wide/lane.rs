//! A job as the kernels want it: one stretch of data, one block of associated data.

use crate::job::{Data, Job, Outcome, Tag};

use super::schedule::Schedule;

/// Bytes of a block.
const BLOCK: usize = 16;

/// A job that needs no preparation, and its key.
pub(super) type Packet<'l, 'j> = (&'l Schedule, &'l mut Job<'j>);

/// One packet on its way through a kernel.
pub(super) struct Lane<'l> {
    pub(super) schedule: &'l Schedule,
    /// The nonce and 32 zero bits.
    pub(super) counter: &'l [u8; 16],
    /// What is hashed before the ciphertext: associated data padded with zeros, or the hash of
    /// all but its last block, added to that one (see [`Fold`]).
    pub(super) aad: &'l [u8; 16],
    /// Bits of data and of associated data: the block that is hashed last.
    pub(super) lengths: &'l [u64; 2],
    pub(super) data: &'l mut [u8],
    /// Written when sealing, read when opening.
    pub(super) tag: &'l mut [u8; 16],
    /// Set by the kernel.
    pub(super) outcome: &'l mut Outcome,
}

impl<'l> Lane<'l> {
    /// A job that needs no preparation (see [`Job::straight`]): of others, data and some of the
    /// associated data would be left out.
    #[inline(always)]
    pub(super) fn of((schedule, job): &'l mut Packet<'_, '_>) -> Self {
        Lane {
            schedule,
            counter: &job.counter,
            aad: job.aad.block(),
            lengths: &job.lengths,
            data: match &mut job.data {
                Data::Contiguous(data) => data,
                Data::Segments(_) => &mut [],
            },
            tag: match &mut job.tag {
                Tag::Write(tag) => tag,
                Tag::Compare(tag) => tag,
            },
            outcome: &mut job.outcome,
        }
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
