//! Sessions between two who have proved who they are: QUIC, mutually authenticated, one stream of
//! frames each way. Thin I/O: what the frames mean is not known here.
//!
//! An `Endpoint` dials and accepts on one UDP socket. Everything it keeps for others is bounded
//! (`Limits`) and counted (`Stats`); `Sessions` ends sessions by identity. See docs/identity.md.

mod admission;
mod endpoint;
mod error;
mod frame;
mod handle;
mod handshake;
mod known;
mod limits;
mod rates;
mod registry;
mod stats;
mod transport;

pub use bytes::Bytes;
pub use endpoint::{Endpoint, OpenError, Setup};
pub use error::{Closed, Code, DialError, SendError};
pub use frame::{Assembler, BadFrame, MAX_FRAME};
pub use handle::{Exported, FRAME_COST, Handle, Session};
pub use known::Known;
pub use limits::{Limits, Liveness, Rate};
pub use registry::Sessions;
pub use stats::Stats;
pub use transport::BadLimit;
#[cfg(test)]
pub(crate) use transport::INITIAL_RTT;

#[cfg(test)]
mod tests;
