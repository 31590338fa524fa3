//! The security log: one JSON object per line for everything that somebody who watches over
//! the switch wants to know of, from workers, from vhost sockets and from the control side.
//!
//! Events are `tracing` events of target [`TARGET`]; [`layer`] makes lines of them. So any
//! part of the program can tell of one, whoever listens. `docs/security.md` has the schema.

mod event;
mod layer;
mod limiter;
mod sink;
mod summary;

pub use event::{SecurityEvent, configuration_changed, key_exported};
pub use layer::{SecurityLayer, layer};
pub use limiter::{INTERVAL, Limiter};
pub use sink::{SecurityLog, SecurityLogError};
pub use summary::PacketSummary;

/// Target of the `tracing` events that belong into the security log.
pub const TARGET: &str = "security";
