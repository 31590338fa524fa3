//! Security associations of the overlay: ESP (RFC 4303) with AES-GCM-16 (RFC 4106) or
//! AES-GMAC (RFC 4543), extended sequence numbers, replay protection and lifetimes.
//!
//! No clock and no I/O: an association is a value that one worker owns. Sending is
//! [`Outbound::assign`] (a sequence number, spent for good) and [`Outbound::seal_job`] (the
//! ESP packet laid out around its payload, ready for a batch of `vswitch-aead`). Receiving
//! is [`Inbound::precheck`], [`Inbound::open_job`], the batch, [`Candidate::verdict`] and
//! [`Inbound::accept`], in types such that only an authenticated packet reaches the last.
//!
//! A packet here starts at the ESP header; UDP and IP around it are the caller's:
//!
//! ```text
//! SPI 4 | Seq-lo 4 | IV 8 | payload | padding 1,2,3.. | pad length 1 | next header 1 | ICV 16
//! ```
#![forbid(unsafe_code)]

mod assigned;
mod error;
mod esn;
mod esp;
mod fingerprint;
mod inbound;
mod keys;
mod outbound;
mod replay;
pub mod reservation;
mod spi;

pub use assigned::{Assigned, AssignedRun, Load};
pub use error::{ConfigError, OpenError, SealError};
pub use esp::{
    HEADER_LEN, ICV_LEN, IV_LEN, MAX_PACKET_LEN, MIN_PACKET_LEN, PREFIX_LEN, sealed_len,
};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use inbound::{Authenticated, Candidate, Inbound, InboundConfig, IvMode, Opened};
pub use keys::{Algorithm, KeyMaterial, KeyMaterialError, SALT_LEN, decode_hex};
pub use outbound::{Limits, Outbound, OutboundConfig};
pub use replay::{MAX_WINDOW, MIN_WINDOW, ReplayError, ReplayWindow, WindowError};
pub use spi::{Spi, SpiError};
pub use vswitch_aead::vault::SecretBytes;

/// What an association has carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets sealed, or accepted.
    pub packets: u64,
    /// Bytes of their payloads (without ESP header, padding and ICV).
    pub bytes: u64,
}

/// Data bytes of a short packet, for which keys are fetched ahead; of a longer one the rest is
/// fetched when its batch is worked on.
const SHORT: usize = 128;
