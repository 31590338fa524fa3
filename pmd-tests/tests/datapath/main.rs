//! The datapath between rings in one process: what it forwards and how, and everything that attackers
//! on the underlay and in tenants try.

mod alike;
mod attack_bits;
mod attack_flood;
mod attack_headers;
mod attack_members;
mod attack_names;
mod attack_replay;
mod attack_tenants;
mod attack_underlay;
mod formats;
mod forwarding;
mod fuzz_replay;
mod handoff;
mod jumbo;
mod learning;
mod lifetime;
mod refusals;
mod runs;
mod senders;
mod too_big;
mod underlay;
