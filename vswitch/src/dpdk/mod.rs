//! The safe layer over `dpdk-sys`: everything the datapath needs of DPDK, with ownership
//! in the types. All FFI calls of the product are in this room.
pub mod mapped;
pub mod mbuf;
pub mod quiescence;
mod sync;
