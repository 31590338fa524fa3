//! The safe layer over `dpdk-sys`: everything the datapath needs of DPDK, with ownership
//! in the types. All FFI calls of the product are in this room.
//!
//! Nothing here works before [`eal::Eal::init`]; constructors say so with an error.
pub mod cache;
pub mod devices;
pub mod eal;
pub mod error;
pub mod ethdev;
mod explain;
pub mod hugepages;
mod interrupts;
mod log;
pub mod mapped;
pub mod mbuf;
pub mod memory;
pub mod mempool;
pub mod port_config;
pub mod queue;
pub mod quiescence;
mod quirks;
pub mod ring;
pub mod ring_port;
pub mod rss;
mod sync;
pub mod thread;
pub mod time;
pub mod vhost;
