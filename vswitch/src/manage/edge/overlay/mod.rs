//! What an authority adds to the configuration while the switch runs: networks, peers, mappings
//! and agreed keys come as orders, and what the workers want of it goes back as notices. The
//! control thread stays the only one that tells workers anything.
//!
//! `wanted` is what was ordered and how the configuration looks with it, `orders` carries it out,
//! `parts` leaves out what cannot be, `moves` does so for mappings alone, `agreed` keeps the SAs of agreed keys, `notices` are on their way to the authority's thread.

mod agreed;
mod moves;
mod notices;
mod orders;
mod parts;
mod wanted;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use tokio::sync::{mpsc, watch};
use vswitch_net::rss::Spread;
use vswitch_sa::{Algorithm, SecretBytes, Spi};
use vswitch_vn::Protection;

pub use crate::datapath::resolve::Unknown;
pub(super) use agreed::{Agreed, Installing};
pub(super) use notices::Outbox;
pub(super) use wanted::Wanted;

use crate::datapath::command::WorkerId;
use crate::manage::config::{Config, MacAddr, Vni};
use crate::manage::status::Ima;

/// Batches of orders that wait for the control thread at most.
const ORDERS: usize = 256;
/// Notices that wait for the authority's thread at most; more wait at the control thread.
const NOTICES: usize = 4096;

/// Names an order, for its [`Notice::Done`] or [`Notice::Failed`].
pub type OrderId = u64;

/// Where an address is, as the authority says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The tenant's MAC address.
    pub mac: MacAddr,
    /// Its IP addresses.
    pub ips: Vec<IpAddr>,
    /// The edge it is at.
    pub peer: String,
}

/// A key to be used, whose other end has it too.
#[derive(Debug)]
pub struct AgreedKey {
    /// The network.
    pub vn: String,
    /// The edge at the other end.
    pub peer: String,
    /// The local worker that seals, or that opens.
    pub worker: WorkerId,
    /// Names the association on the wire.
    pub spi: Spi,
    /// The transform; as confidential as the network is.
    pub algorithm: Algorithm,
    /// Key and salt, one behind the other.
    pub secret: SecretBytes,
}

/// What the authority's thread wants of the control thread.
#[derive(Debug)]
pub enum Order {
    /// The edge is on a network that the file names and does not describe.
    Vn {
        /// Its name.
        vn: String,
        /// Its identifier on the wire.
        vni: Vni,
        /// Its protection between edges.
        protection: Protection,
    },
    /// It is on it no more.
    LeaveVn {
        /// The network's name.
        vn: String,
    },
    /// Another edge, new or with other addresses.
    Peer {
        /// Its name.
        name: String,
        /// Its tunnel endpoints, the preferred one first.
        addresses: Vec<IpAddr>,
    },
    /// It is nobody's neighbour any more.
    RemovePeer {
        /// Its name.
        name: String,
    },
    /// The other edges on a network, all of them.
    Edges {
        /// The network's name.
        vn: String,
        /// Their names; each was ordered as a peer before.
        peers: Vec<String>,
    },
    /// Mappings of a network.
    Mappings {
        /// The network's name.
        vn: String,
        /// Whether these are all; else they change what was said before.
        full: bool,
        /// New ones, and new places of old ones.
        upserts: Vec<Remote>,
        /// Those that are gone.
        withdrawals: Vec<MacAddr>,
    },
    /// The addresses of this edge's own ports that the authority admits on a network, all of
    /// them: frames from others are refused.
    Admitted {
        /// The network's name.
        vn: String,
        /// The addresses.
        macs: Vec<MacAddr>,
    },
    /// Seal with this key from now on, in place of the one before.
    InstallOutbound(OrderId, AgreedKey),
    /// Open what was sealed with this key, beside others.
    InstallInbound(OrderId, AgreedKey),
    /// Seal no more; the key is destroyed.
    RemoveOutbound {
        /// The network.
        vn: String,
        /// The edge at the other end.
        peer: String,
        /// The worker that seals.
        worker: WorkerId,
        /// Which key; another in its place stays.
        spi: Spi,
        /// It has come to a limit: what finds no other key is dropped for that.
        limit: bool,
    },
    /// Open no more; the key is destroyed.
    RemoveInbound {
        /// Which.
        spi: Spi,
    },
}

/// What the control thread tells the authority's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Every worker follows the order.
    Done(OrderId),
    /// It was not carried out.
    Failed(OrderId, String),
    /// A worker has frames for a peer and no key.
    NeedKey {
        /// The network.
        vn: String,
        /// The edge.
        peer: String,
        /// Who seals.
        worker: WorkerId,
    },
    /// A key should be replaced.
    SoftLimit(KeyName),
    /// A key seals no more.
    HardLimit(KeyName),
    /// A key has sealed nothing for a while.
    Idle(KeyName),
    /// A key has opened nothing for a while; its worker is the one here that opens.
    IdleInbound(KeyName),
    /// A tenant asks for an address that no mapping lists.
    Unknown {
        /// The network.
        vn: String,
        /// The tenant's port.
        port: String,
        /// The address.
        what: Unknown,
    },
    /// The operator's configuration, at the start and whenever it has changed.
    Configuration(Arc<Config>),
}

/// Which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName {
    /// The network.
    pub vn: String,
    /// The edge at the other end.
    pub peer: String,
    /// The worker that has it.
    pub worker: WorkerId,
    /// Its SPI.
    pub spi: Spi,
}

/// The authority's side of the two queues.
pub struct Overlay {
    /// Orders, a batch at a time; what is in one batch takes effect together where it can.
    pub orders: Sender<Vec<Order>>,
    /// Notices.
    pub notices: mpsc::Receiver<Notice>,
    /// What is to be shown of the authority.
    pub shown: watch::Sender<Option<Arc<Ima>>>,
    /// How many workers there are.
    pub workers: u16,
    /// How the underlay's ports spread what they receive over their queues, where that is known; by
    /// index of the configuration.
    pub spreads: Vec<Option<Spread>>,
}

/// The control thread's side.
pub(super) struct Ends {
    pub orders: Receiver<Vec<Order>>,
    pub outbox: Outbox,
    pub shown: watch::Receiver<Option<Arc<Ima>>>,
}

/// Both sides.
pub(super) fn channel(workers: usize, spreads: Vec<Option<Spread>>) -> (Overlay, Ends) {
    let (orders_tx, orders) = bounded(ORDERS);
    let (notices_tx, notices) = mpsc::channel(NOTICES);
    let (shown_tx, shown) = watch::channel(None);
    let overlay = Overlay {
        orders: orders_tx,
        notices,
        shown: shown_tx,
        workers: u16::try_from(workers).unwrap_or(u16::MAX),
        spreads,
    };
    let ends = Ends {
        orders,
        outbox: Outbox::new(notices_tx),
        shown,
    };
    (overlay, ends)
}

/// What whoever plays the control thread in a test has of it.
#[cfg(test)]
pub(in crate::manage) struct Played {
    pub orders: Receiver<Vec<Order>>,
    pub notices: mpsc::Sender<Notice>,
    pub shown: watch::Receiver<Option<Arc<Ima>>>,
}

/// As [`channel`], with the other side for a test.
#[cfg(test)]
pub(in crate::manage) fn played(workers: u16, spreads: Vec<Option<Spread>>) -> (Overlay, Played) {
    let (overlay, ends) = channel(usize::from(workers), spreads);
    let (notices, received) = mpsc::channel(NOTICES);
    let overlay = Overlay {
        notices: received,
        ..overlay
    };
    let Ends { orders, shown, .. } = ends;
    let played = Played {
        orders,
        notices,
        shown,
    };
    (overlay, played)
}
