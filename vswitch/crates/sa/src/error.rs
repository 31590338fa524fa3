//! Why a packet could not be sent or was not accepted, and why an association was refused.

use thiserror::Error;

use crate::replay::{ReplayError, WindowError};

/// Why an association cannot be set up as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Sequence numbers start at 1.
    #[error("the first sequence number is 0")]
    ZeroSequence,
    /// The next sequence number lies above what is reserved.
    #[error("next sequence number {next} is above the reservation, which ends at {until}")]
    Reservation {
        /// Next sequence number asked for.
        next: u64,
        /// Exclusive end of the reservation.
        until: u64,
    },
    /// The hard limit may be lowered but not raised above 2^48 blocks.
    #[error("hard limit of {0} blocks is above 2^48")]
    HardLimit(u64),
    /// The soft limit lies above the hard limit.
    #[error("soft limit of {soft} blocks is above the hard limit of {hard}")]
    SoftLimit {
        /// Soft limit in AES blocks.
        soft: u64,
        /// Hard limit in AES blocks.
        hard: u64,
    },
    /// Key material for another algorithm than the association's.
    #[error("the key is for another algorithm")]
    Algorithm,
    /// What was enciphered under the key before leaves nothing of its lifetime.
    #[error(
        "up to {used} AES blocks are used of the key's hard limit of {hard}: give the association \
         a new key"
    )]
    Spent {
        /// AES blocks charged at the start.
        used: u64,
        /// Hard limit in AES blocks.
        hard: u64,
    },
    /// The replay window's width cannot be had.
    #[error(transparent)]
    Window(#[from] WindowError),
}

/// Why a packet was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum SealError {
    /// The key has enciphered as many blocks as it may; the association is closed.
    #[error("hard limit of AES blocks reached")]
    HardLimit,
    /// No sequence number is left (2^32 - 1 without ESN).
    #[error("sequence numbers exhausted")]
    SequenceExhausted,
    /// All durably reserved sequence numbers are spent; extend the reservation.
    #[error("reserved sequence numbers exhausted")]
    ReservationExhausted,
    /// The ESP packet would exceed [`MAX_PACKET_LEN`](crate::MAX_PACKET_LEN).
    #[error("payload too long for one ESP packet")]
    TooLong,
    /// The buffer's length is not [`sealed_len`](crate::sealed_len) of the payload assigned.
    #[error("buffer does not have the length of the sealed packet")]
    BufferLength,
    /// ESP header and IV are not in the first segment, or trailer and ICV not in the last.
    #[error("ESP header or trailer cut by a segment boundary")]
    Layout,
    /// The sequence number was assigned by another association.
    #[error("sequence number of another association")]
    WrongAssociation,
}

/// Why a packet was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum OpenError {
    /// Shorter than the shortest ESP packet.
    #[error("truncated ESP packet")]
    Truncated,
    /// Ciphertext does not end on a 4-byte boundary (RFC 4303 section 2.4).
    #[error("ESP packet not aligned to 4 bytes")]
    Misaligned,
    /// The packet carries another association's SPI.
    #[error("SPI of another association")]
    WrongSpi,
    /// The IV is not the extended sequence number.
    #[error("IV differs from the sequence number")]
    IvMismatch,
    /// The sequence number was seen before, or lies at or below the floor.
    #[error("replayed sequence number")]
    Replayed,
    /// The sequence number lies below the replay window.
    #[error("sequence number below the replay window")]
    TooOld,
    /// The packet is not authentic, or no backend has opened it.
    #[error("not authentic")]
    Forged,
    /// The padding is not 1, 2, 3.. or is longer than the packet.
    #[error("malformed padding")]
    Padding,
    /// ESP header and IV are not both in the first segment.
    #[error("ESP header cut by a segment boundary")]
    Layout,
    /// The packet handed over is not the one that was checked before.
    #[error("not the packet that was checked before")]
    WrongPacket,
}

impl From<ReplayError> for OpenError {
    fn from(e: ReplayError) -> Self {
        match e {
            ReplayError::Zero | ReplayError::Replayed => Self::Replayed,
            ReplayError::TooOld => Self::TooOld,
        }
    }
}
