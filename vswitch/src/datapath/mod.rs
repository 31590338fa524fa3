//! The worker loop and its stages: where the rooms meet DPDK.
//!
//! ```text
//! tenant → check → forward ─┬→ tenant, VLAN
//!                           └→ encapsulate → seal → underlay
//! underlay → classify ─┬→ open → checks → forward → tenant, VLAN
//!                      ├→ colleague that owns the SA
//!                      └→ host kernel (tap)
//! ```
//!
//! Bursts pass stage by stage; every packet ends in exactly one [`verdict::Verdict`], and a
//! worker's [`books::Books`] balance at every burst boundary.
mod ahead;
mod apply;
mod attachment;
pub mod books;
mod chains;
mod clear;
pub mod command;
pub mod counters;
mod decap;
pub mod demand;
mod drive;
mod encap;
mod express;
mod forward;
pub mod handoff;
mod inner;
mod intake;
mod inward;
pub mod latency;
pub mod ledger;
pub mod observe;
pub mod outlet;
mod police;
pub mod probe;
pub mod resolve;
mod sas;
pub mod sightings;
pub mod snapshot;
mod spis;
mod tenant;
mod tunnels;
mod underlay;
pub mod verdict;
mod vlan;
pub mod worker;

pub use tunnels::{source_port, wrapping};
pub use underlay::Endpoints;
