//! Tests of the formats against packets built by others, against packets built by hand, and
//! against noise.

mod build;
mod frame;
mod ipv6;
mod mtu;
mod nd;
mod noise;
mod outer;
mod too_big;
mod tunnel;
mod vectors;
