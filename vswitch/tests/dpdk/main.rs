//! The layer over DPDK, its ports and tenants' vhost devices, and the packets of an edge as the pages
//! under `docs/` print them.
#![allow(missing_docs)]

mod docs;
mod layer;
mod ports;
mod rss;
mod support;
mod vhost_attacks;
mod vhost_hostile;
mod vhost_support;
mod vhost_user;
