//! Batched AES-GCM (NIST SP 800-38D, used as RFC 5288 and RFC 4106 use it: 96-bit
//! nonce, 128-bit tag), and AES-GMAC as GCM over no data (RFC 4543).
//!
//! A [`Backend`] takes a slice of independent [`Job`]s, each with a key, nonce and buffer
//! of its own, and seals or opens them in place. Two promises hold for every backend:
//!
//! * A job that does not succeed is marked, its neighbours are not touched, and its data
//!   is wiped: neither unauthenticated plaintext after a failed open nor unsealed
//!   plaintext after a failed seal is left in the buffer.
//! * Scratch memory that held plaintext, and every [`Key`], is zeroized before it is freed.
//!
//! Keys live in the [`vault`], apart from all other memory.
//!
//! The caller owns the one thing this crate cannot check: that no nonce is used twice
//! under one key.
#![deny(unsafe_code)]

mod backend;
mod job;
mod key;
mod portable;
mod scratch;
#[allow(unsafe_code)]
pub mod vault;
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[allow(unsafe_code)]
mod wide;

pub use backend::{Backend, SelectError, backends, names, portable, select};
pub use job::{AAD_INLINE, Aad, Data, Job, MAX_DATA, Outcome, TAG_LEN};
pub use key::{Algorithm, Form, Key, KeyError};
