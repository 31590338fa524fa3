//! What [`Keying`](super::Keying) tells of itself: reports, counters, and the SAs there are.

use std::time::Duration;

use super::api::Direction;
use crate::types::{Epoch, NveName, VnName};

/// What an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Exchanges with a peer keep failing; what SAs there are go on until their hard limit.
    Failing {
        /// The VN.
        vn: VnName,
        /// The peer.
        peer: NveName,
        /// How many in a row.
        failures: u32,
    },
    /// An SA reached its hard limit before it could be replaced.
    HardLimit {
        /// Its VN.
        vn: VnName,
        /// Its receiver.
        peer: NveName,
        /// Its worker.
        worker: u16,
        /// Its SPI.
        spi: u32,
    },
    /// SAs were as old as they may get: whoever should have replaced them could not.
    Aged {
        /// Their VN.
        vn: VnName,
        /// Their other end.
        peer: NveName,
        /// How many to the peer.
        outbound: usize,
        /// How many from the peer.
        inbound: usize,
    },
    /// There has been no session for long with a peer that SAs depend on: none of them is replaced,
    /// and they close at their greatest age.
    Unreached {
        /// Which.
        peer: NveName,
        /// For how long.
        since: Duration,
    },
    /// The data plane does not install what was agreed; it is tried again, and reported again only
    /// behind an install that was possible.
    NotInstalled {
        /// The VN.
        vn: VnName,
        /// The peer.
        peer: NveName,
        /// To the peer or from it.
        direction: Direction,
        /// The sender's worker.
        worker: u16,
        /// What the data plane says about it.
        why: String,
    },
    /// A peer asks for more SAs than one peer may have; reported again only behind one that it gave back.
    Crowding {
        /// Which.
        peer: NveName,
        /// How many it has.
        has: usize,
    },
    /// A peer was started anew; the SAs of its former run are gone.
    Restarted {
        /// Which.
        peer: NveName,
    },
}

/// What has been counted since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Exchanges completed, begun here.
    pub exchanges_begun: u64,
    /// Exchanges completed, begun by a peer.
    pub exchanges_answered: u64,
    /// Exchanges without an answer in time, or refused.
    pub exchanges_failed: u64,
    /// Of two at once, the one that was given up.
    pub ties: u64,
    /// Exchanges that waited for their turn, because enough with the peer were under way.
    pub exchanges_queued: u64,
    /// SAs closed because of their age.
    pub aged: u64,
    /// Times that a peer was reported as not reached.
    pub unreached: u64,
    /// Inbound SAs installed.
    pub inbound_installed: u64,
    /// Outbound SAs installed: times a worker switched.
    pub outbound_installed: u64,
    /// Installs that the data plane could not do.
    pub install_failures: u64,
    /// Workers that share another's SA because of a limit, here or at the peer's.
    pub shared: u64,
    /// Workers without an SA because of a limit, here or at the peer's.
    pub denied: u64,
    /// Of the latter, those of peers that have all one peer may have.
    pub denied_share: u64,
    /// SPIs that RSS does not bring to the owner, for want of one that it does.
    pub unsteered: u64,
    /// Needs for what is under way already.
    pub needs_coalesced: u64,
    /// Needs above the rate.
    pub needs_limited: u64,
    /// Needs for a VN or peer that there is not.
    pub needs_unknown: u64,
    /// Requests of who is no member.
    pub refused_membership: u64,
    /// Requests of another epoch.
    pub refused_epoch: u64,
    /// Requests above the rate.
    pub refused_busy: u64,
    /// Offers and answers that are no keys.
    pub refused_share: u64,
    /// Messages that are none, or not allowed at their place: the session was closed.
    pub violations: u64,
    /// Sealed messages that did not open.
    pub unauthentic: u64,
    /// Sealed messages of an exchange that is not (any more).
    pub stale: u64,
    /// What a member said about SAs that are not so.
    pub lies: u64,
    /// Peers that had been started anew.
    pub restarts: u64,
}

/// How far an SA is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SaState {
    /// At the data plane, not yet in use.
    Installing,
    /// Inbound: installed, the sender has not said that it switched.
    Ready,
    /// In use.
    Live,
    /// Inbound: former, still open until that time.
    Draining(Duration),
}

/// An SA, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaInfo {
    /// Its VN.
    pub vn: VnName,
    /// Its other end.
    pub peer: NveName,
    /// Its direction.
    pub direction: Direction,
    /// The sender's worker.
    pub worker: u16,
    /// Its SPI.
    pub spi: u32,
    /// The membership epoch of the exchange it comes from.
    pub epoch: Epoch,
    /// How far it is.
    pub state: SaState,
    /// When it is closed, unless it is replaced before.
    pub closes: Duration,
}

/// A worker without an SA of its own, because of a limit here or at the peer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareInfo {
    /// The VN.
    pub vn: VnName,
    /// The receiver.
    pub peer: NveName,
    /// The worker without.
    pub worker: u16,
    /// A worker that has one.
    pub with: u16,
}
