//! The Information Mapping Authority (IMA): which edge may join which VN, which addresses belong on
//! which edge, and who is where. It never sees a data key.
#![forbid(unsafe_code)]

pub mod cli;
pub mod client;
pub mod config;
pub mod engine;
pub mod hardening;
pub mod model;
pub mod server;
pub mod store;
