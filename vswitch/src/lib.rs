//! A Network Virtualization Edge (RFC 8014): a DPDK switch whose overlay is protected by ESP.
//!
//! Imports run one way: `bin` → `manage` → `datapath` → `dpdk` and the crates.
pub mod dpdk;
pub mod manage;
