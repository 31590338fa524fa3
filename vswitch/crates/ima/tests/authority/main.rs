//! The mapping authority over its real store and real sessions.

mod abuse;
mod crash;
mod etcd;
mod messages;
mod process;
mod server;
mod support;
