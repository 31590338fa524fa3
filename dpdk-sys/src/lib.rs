//! Raw bindings to libdpdk, generated at build time by bindgen, and nothing else.
//!
//! Static inline functions come through the C shim (`vs_*`), which is called once per
//! burst and never per packet. Safe wrappers live in `vswitch::dpdk`.
#![allow(
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    missing_docs,
    unnecessary_transmutes,
    unreachable_pub,
    clippy::all,
    rustdoc::all
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
