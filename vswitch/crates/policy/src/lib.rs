//! What a tenant may send and how much of it: source addresses, neighbour discovery and
//! the policing of traffic that is replicated.
//!
//! No clocks, no sockets: time is a parameter, frames come parsed.
#![forbid(unsafe_code)]

mod binding;
mod bucket;
mod bum;
mod source;

pub use binding::Bindings;
pub use bucket::TokenBucket;
pub use bum::{Cast, is_bridge_reserved};
pub use source::{Spoof, check_source, check_stranger, link_local};
