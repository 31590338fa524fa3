//! Packet formats of the edge: parsed in place, bounds-checked, without allocation.
//!
//! One module per format, plus the two views the datapath takes of a packet: [`frame`] (what a
//! tenant sends or gets, parsed once) and [`outer`] (what is on the underlay). Nothing here
//! panics, whatever the input. Offsets count from the first byte of the slice given; checksums
//! are values in host order, to be written with `to_be_bytes`.
#![forbid(unsafe_code)]

pub mod answer;
pub mod arp;
pub mod checksum;
pub mod envelope;
pub mod esp;
pub mod ethernet;
pub mod frame;
pub mod geneve;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod mac;
pub mod mtu;
pub mod nd;
pub mod outer;
pub mod quick;
pub mod rss;
pub mod tcp;
pub mod template;
pub mod too_big;
pub mod tunnel;
pub mod udp;
pub mod vni;
pub mod vxlan;
pub mod wire;

pub use envelope::Envelope;
pub use ethernet::ethertype;
pub use frame::{Frame, FrameError, L3, L4};
pub use ip::{Fragment, IpVersion, protocol};
pub use mac::MacAddr;
pub use nd::Nd;
pub use outer::{Outer, OuterError};
pub use template::Template;
pub use tunnel::Encapsulation;
pub use vni::Vni;
