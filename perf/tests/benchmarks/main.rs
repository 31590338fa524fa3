//! Every benchmark as it is called, in little.

mod aead;
mod common;
mod control;
mod datapath;
mod delay;
mod latency;
mod others;
mod peers;
mod scale;
mod timing;
