//! Sequence numbers that are spent: of one packet, or of a run. Only [`Outbound`](crate::Outbound)
//! makes them.

use crate::esp::{MAX_PAYLOAD_LEN, blocks};
use crate::spi::Spi;

/// A sequence number spent on one packet. It cannot be copied, so it seals once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the sequence number is spent"]
pub struct Assigned {
    pub(crate) seq: u64,
    pub(crate) spi: Spi,
    /// At most [`MAX_PAYLOAD_LEN`].
    pub(crate) payload_len: u16,
    pub(crate) soft_limit_hit: bool,
}

impl Assigned {
    /// The 64-bit sequence number; also the packet's IV.
    #[must_use]
    #[inline]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Length of the payload it was assigned for, in bytes.
    #[must_use]
    #[inline]
    pub fn payload_len(&self) -> usize {
        usize::from(self.payload_len)
    }

    /// True for the one packet that reaches the soft limit: ask for a new key now.
    #[must_use]
    #[inline]
    pub fn soft_limit_hit(&self) -> bool {
        self.soft_limit_hit
    }
}

/// Packets that are to be sent one behind the other, and what they take of their key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    pub(crate) packets: u64,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
}

impl Load {
    /// One packet more, with a payload of `payload_len` bytes. `false`, and it is not added, if
    /// that is too long.
    #[inline(always)]
    pub fn add(&mut self, payload_len: usize) -> bool {
        if payload_len > MAX_PAYLOAD_LEN {
            return false;
        }
        self.packets += 1;
        self.blocks += blocks(payload_len);
        self.bytes += payload_len as u64;
        true
    }
}

/// Sequence numbers spent on a run of packets. They cannot be copied, so each seals once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the sequence numbers are spent"]
pub struct AssignedRun {
    pub(crate) seq: u64,
    pub(crate) spi: Spi,
    pub(crate) left: Load,
}

impl AssignedRun {
    /// The next number, for a payload of `payload_len` bytes. `None` if there are not so many
    /// packets or bytes in the run.
    #[inline(always)]
    pub fn next(&mut self, payload_len: usize) -> Option<Assigned> {
        self.left.packets = self.left.packets.checked_sub(1)?;
        self.left.bytes = self.left.bytes.checked_sub(payload_len as u64)?;
        let seq = self.seq;
        self.seq += 1;
        Some(Assigned {
            seq,
            spi: self.spi,
            // No more than all of the run's, each of which has 16 bits; what it says is
            // compared with the packet.
            payload_len: u16::try_from(payload_len).ok()?,
            soft_limit_hit: false,
        })
    }
}
