//! The host kernel is the best-kept stack there is.
//!
//! The switch takes a network interface away from the kernel and gives back, through a tap,
//! whatever is not overlay traffic: ARP, neighbour discovery, ICMP, routing daemons and the
//! host's own sockets stay the kernel's. What the switch needs to know about the underlay it
//! asks the kernel for: [`HostNetwork`] turns the kernel's routes and neighbours into the
//! Ethernet addresses that tunnel packets carry, and says so whenever they change.
//!
//! * [`setup_taps`]: MAC, MTU and addresses onto the taps beside the DPDK ports.
//! * [`HostNetwork`]: destinations in, [`PathUpdate`]s out.
//! * [`IngressGuard`]: with af_packet the kernel sees every packet too; it must not answer.
#![forbid(unsafe_code)]

mod device;
mod error;
mod ingress_guard;
mod monitor;
mod netlink;
mod network;
mod resolve;
mod tap;
mod types;

pub use device::{disable_offloads, parse_iface};
pub use error::HostError;
pub use ingress_guard::IngressGuard;
pub use network::{Destinations, HostNetwork};
pub use tap::setup_taps;
pub use types::{
    IpNet, MacAddress, ParseIpNetError, Path, PathUpdate, StaticNeighbour, StaticRoute,
    UnderlayPort,
};
