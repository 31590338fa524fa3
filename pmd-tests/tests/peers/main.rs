//! Switches over every driver, with guests, and against programs of other people's.

mod bounce;
mod drivers;
mod guests;
mod kernel;
mod linux_edge;
mod linux_vxlan;
mod ovs;
mod scapy;
mod single;
mod tshark;
