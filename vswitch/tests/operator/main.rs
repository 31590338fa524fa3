//! What the programs of this package do for an operator, and what the switch asks of its host.
#![allow(missing_docs)]

mod ctl;
mod host_guard;
mod host_network;
mod host_ready;
mod host_support;
