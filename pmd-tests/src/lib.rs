//! What the tests over real poll-mode drivers share.
//!
//! `isolate` gives each test a process; `frames` and `wire` build packets by hand, from the
//! RFCs and not with the code under test; `setup` writes configurations and `rig` runs an
//! edge in this process between rings, with `changes` saying what it counted; `lab`,
//! `hosts`, `daemon`, `testpmd` and `guest` run the daemon over real drivers with real
//! tenants.

pub mod changes;
pub mod daemon;
pub mod frames;
pub mod guest;
pub mod hosts;
pub mod isolate;
pub mod lab;
pub mod live;
pub mod rig;
pub mod setup;
pub mod testpmd;
pub mod wire;
