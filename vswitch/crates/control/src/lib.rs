//! The control plane of an edge: who it is (`identity`), how it talks (`session`, `message`), how
//! two edges agree on keys (`keying`), and its side of the mapping authority (`client`).
//! Which of two sessions with another edge stays, and when one is dialled, is in `meetings`.
//!
//! Protocol logic has no sockets and no clock: time is a parameter. `session` is the thin I/O.
#![forbid(unsafe_code)]

pub mod client;
pub mod hybrid;
pub mod identity;
pub mod keying;
pub mod meetings;
pub mod message;
pub mod pki;
pub mod secret;
pub mod session;
pub mod types;
pub mod uptime;
pub mod vnchannel;

#[cfg(test)]
mod testing;
