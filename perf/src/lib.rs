//! Benchmarks: what the switch costs, measured the same way every time.
//!
//! Each benchmark is a module and a subcommand of `perf/run`; all of them report
//! [`report::Record`]s, printed as a table or as JSON lines.
#![forbid(unsafe_code)]

pub mod aead;
pub mod control;
pub mod daemon;
pub mod datapath;
pub mod delay;
pub mod e2e;
pub mod latency;
pub mod machine;
pub mod options;
pub mod peers;
pub mod plot;
pub mod report;
pub mod save;
pub mod scale;
pub mod stats;
pub mod switch;
pub mod tables;
pub mod testpmd;
pub mod timing;
