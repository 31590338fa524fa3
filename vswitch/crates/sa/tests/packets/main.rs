//! Security associations from the outside: packets, numbers and limits.

mod common;
mod lifetime;
mod replay;
mod roundtrip;
mod runs;
mod vectors;
