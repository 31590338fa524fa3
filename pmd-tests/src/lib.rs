//! What the tests over real poll-mode drivers share.
//!
//! `isolate` gives each test a process; `frames` and `wire` build packets by hand, from the
//! RFCs and not with the code under test; `setup` writes configurations and `rig` runs an
//! edge in this process between rings, with `changes` saying what it counted and `tally` what
//! it must have; `aead` chooses the cipher's backend; `tenant` plays virtual machines, `scanner` one that asks and asks, `discovery` what they say of themselves,
//! `hostile` what they should not; `hand` drives a worker, for `fuzz` and with `noise`; `lab`,
//! `hosts`, `daemon`, `testpmd` and `guest` run the daemon over real drivers with real
//! tenants; `overlay` puts a mapping authority before them, `asking` asks them, `bridge` is a wire to
//! cut and to watch, `stream` says what of steady traffic was lost and when, `sums` whether edges count the same, `clock` steps a process's
//! wall clock, `spoof` begins handshakes in others' names, `claimant` is an edge that lies; `peering`, `peer`, `ovs`, `scapy`, `pcap`
//! and `records` set it against programs of other people's.

pub mod aead;
pub mod asking;
pub mod bridge;
pub mod changes;
pub mod claimant;
pub mod clock;
pub mod cluster;
pub mod daemon;
pub mod discovery;
pub mod frames;
pub mod fuzz;
pub mod guest;
pub mod hand;
pub mod hostile;
pub mod hosts;
pub mod isolate;
pub mod lab;
pub mod live;
pub mod noise;
pub mod overlay;
pub mod ovs;
pub mod pcap;
pub mod peer;
pub mod peering;
pub mod plays;
pub mod records;
pub mod rig;
pub mod scanner;
pub mod scapy;
pub mod setup;
pub mod spoof;
pub mod stream;
pub mod sums;
pub mod tally;
pub mod tap;
pub mod tenant;
pub mod testpmd;
pub mod wire;
