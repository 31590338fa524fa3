//! Virtual networks: what one worker needs to know to forward.
//!
//! Every worker owns one [`Tables`]; nothing is shared and nothing is locked. The control
//! side owns a master copy, validates a list of [`Change`]s against it as a whole, and sends
//! the same list to all workers, who apply it at a burst boundary. Where the changes come
//! from (a configuration file, a mapping authority) is not known here.
#![forbid(unsafe_code)]

mod apply;
mod change;
mod draft;
mod fdb;
mod hash;
mod holders;
mod ids;
mod learn;
mod model;
mod tables;

pub use change::{Change, ChangeError, FlushScope, Refusal};
pub use fdb::{Claim, Entry, Fdb, Insert, Key, Origin};
pub use ids::{Destination, PeerId, PortId, TunnelId, VnId};
pub use learn::{Learn, RemoteSpoof, SourceVerdict};
pub use model::{Mapping, Peer, Port, PortKind, Protection, Tunnel, UnknownUnicast, Vn, VnConfig};
pub use tables::Tables;
pub use vswitch_net::Encapsulation;
