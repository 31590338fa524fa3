//! A Network Virtualization Edge (RFC 8014): a DPDK switch whose overlay is protected by ESP.
//!
//! Imports run one way: `bin` → `manage` → `datapath` → `dpdk` and the crates; `manage` also
//! uses `host`, where the kernel's routes and neighbours come from.
#![deny(unsafe_code)]

pub mod datapath;
#[allow(unsafe_code)] // the FFI room; each block says why it is sound
pub mod dpdk;
pub mod host;
pub mod manage;
