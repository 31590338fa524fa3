//! What goes into and comes out of [`Keying`](super::Keying).

use std::collections::BTreeSet;
use std::time::Duration;

use super::report::Report;
pub use crate::message::peer::SaAlgorithm;
use crate::secret::Secret;
use crate::types::{Epoch, NveName, VnName};

/// Times and limits. The defaults are those of `docs/control-protocol.md`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Trust domain: with it a name becomes an identity.
    pub domain: String,
    /// How long a former inbound SA stays open behind its successor.
    pub drain: Duration,
    /// Age at which an exchange is replaced.
    pub rekey_after: Duration,
    /// It is replaced earlier by a random part of this.
    pub rekey_jitter: Duration,
    /// Age at which an exchange and all SAs of it are closed, whatever became of their replacement.
    /// Only an inbound SA stays open for `drain` longer, so that its sender closes first.
    pub hard_after: Duration,
    /// A peer that SAs depend on and that there has been no session with for so long is reported.
    pub unreached_after: Duration,
    /// After a change of a VN's members, its exchanges are replaced over this time.
    pub epoch_spread: Duration,
    /// How long requests of the epoch before the current one are still served.
    pub skew: Duration,
    /// A peer that does not answer for so long is asked anew.
    pub answer_timeout: Duration,
    /// Wait after the first failure; it doubles with each further one.
    pub retry_first: Duration,
    /// Longest wait.
    pub retry_max: Duration,
    /// A need that is not renewed for so long, and not met, is forgotten.
    pub need_lifetime: Duration,
    /// Workers that have an SA of their own, for each VN, peer and direction.
    pub workers_per_pair: usize,
    /// With so many SAs in a direction, further workers of a pair share its first.
    pub ample_sas: usize,
    /// No more than so many in a direction (those of a rekey not counted).
    pub max_sas: usize,
    /// Exchanges that one peer may begin each second, and that are begun with it; a tenth of those at once
    /// if that is more.
    pub requests_per_second: u32,
    /// At once so many of them; four fifths of it from here, so that who keeps to it is never refused. A
    /// peer with which there are more VNs may begin one for each, and a quarter more: what both lost to a
    /// restart comes back at once, and no peer costs more than the VNs that it is in.
    pub requests_at_once: u32,
    /// Exchanges with one peer that were begun here and are not answered; others wait in a queue.
    pub requests_under_way: usize,
    /// Pairs that the data plane's needs may begin each second.
    pub new_pairs_per_second: u32,
    /// Indexes tried until one's SPI is brought to the owner by RSS.
    pub steering_tries: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: "localdomain".into(),
            drain: Duration::from_secs(2),
            rekey_after: Duration::from_secs(3600),
            rekey_jitter: Duration::from_secs(360),
            hard_after: Duration::from_secs(7200),
            unreached_after: Duration::from_secs(10),
            epoch_spread: Duration::from_millis(500),
            skew: Duration::from_secs(10),
            answer_timeout: Duration::from_millis(500),
            retry_first: Duration::from_millis(50),
            retry_max: Duration::from_secs(1),
            need_lifetime: Duration::from_secs(10),
            workers_per_pair: 16,
            ample_sas: 16_384,
            max_sas: 65_536,
            requests_per_second: 100,
            requests_at_once: 500,
            requests_under_way: 32,
            new_pairs_per_second: 1000,
            steering_tries: 256,
        }
    }
}

/// Where the data plane's packets go, as far as choosing an SPI needs to know. A call must be quick.
pub trait Steering: Send {
    /// The local worker that is to own an inbound SA (if possible that of the VN's ports).
    fn owner(&self, vn: &VnName, peer: &NveName, sender_worker: u16) -> u16;

    /// Whether nobody else (a manual SA) uses this SPI.
    fn free(&self, spi: u32) -> bool;

    /// Whether RSS brings this peer's packets of this SPI to this worker, or the SPI makes no difference
    /// to that, or nobody knows.
    fn steers(&self, peer: &NveName, spi: u32, worker: u16) -> bool;
}

/// A session with a peer, numbered by whoever runs sessions; no number comes twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// An install, to be answered by [`Event::Installed`] or [`Event::Failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderId(pub u64);

/// Of an SA, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the peer.
    Inbound,
    /// To the peer.
    Outbound,
}

/// What happens to an edge.
#[derive(Debug)]
pub enum Event {
    /// A mutually authenticated session with this peer is there. It replaces any other.
    SessionUp {
        /// Whom its certificate names.
        peer: NveName,
        /// Its number.
        session: SessionId,
        /// Its exporter value (RFC 8446, section 7.5), the same on both sides.
        binding: [u8; 32],
    },
    /// It is gone.
    SessionDown {
        /// With whom it was.
        peer: NveName,
        /// Its number.
        session: SessionId,
    },
    /// A frame's body, in the order of the session.
    Message {
        /// With whom the session is.
        peer: NveName,
        /// Its number.
        session: SessionId,
        /// A [`PeerMessage`](crate::message::peer::PeerMessage).
        bytes: Vec<u8>,
    },
    /// The authority's word about a VN that this edge is in.
    Members {
        /// The VN.
        vn: VnName,
        /// Which membership.
        epoch: Epoch,
        /// The VN's protection.
        algorithm: SaAlgorithm,
        /// All members, this edge among them (else it is as [`Event::Left`]).
        members: BTreeSet<NveName>,
    },
    /// This edge is not in the VN any more: it left, was expelled, or its lease has ended.
    Left {
        /// The VN.
        vn: VnName,
    },
    /// The authority's word that an identity is not to be trusted any more.
    Revoked {
        /// Whose.
        peer: NveName,
    },
    /// A worker has a packet and no SA.
    Need {
        /// Of which VN.
        vn: VnName,
        /// To whom.
        peer: NveName,
        /// Which worker.
        worker: u16,
    },
    /// An outbound SA has carried so much that it should be replaced.
    SoftLimit {
        /// Its VN.
        vn: VnName,
        /// Its receiver.
        peer: NveName,
        /// Its worker.
        worker: u16,
        /// Its SPI.
        spi: u32,
    },
    /// An outbound SA has carried all it may and is closed.
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
    /// An SA has carried nothing for long. (Inbound ones should be given longer than outbound ones.)
    Idle {
        /// Its VN.
        vn: VnName,
        /// Its other end.
        peer: NveName,
        /// Its direction.
        direction: Direction,
        /// Its SPI.
        spi: u32,
    },
    /// An install is done: the worker in charge uses the SA from now on.
    Installed {
        /// The order's.
        id: OrderId,
    },
    /// An install is not possible; nothing has changed.
    Failed {
        /// The order's.
        id: OrderId,
        /// What the data plane says about it.
        why: String,
    },
}

/// What is to be done for an edge.
#[derive(Debug)]
pub enum Output {
    /// A message for the peer, behind those before it.
    Send {
        /// To whom.
        peer: NveName,
        /// On which session; dropped if that is gone.
        session: SessionId,
        /// The frame's body.
        bytes: Vec<u8>,
    },
    /// A session with this peer is wished for; said again for as long as there is none.
    Connect {
        /// With whom.
        peer: NveName,
    },
    /// The session is not to go on, behind what was sent before: the peer broke the protocol, or is
    /// revoked.
    Close {
        /// With whom it is.
        peer: NveName,
        /// Its number.
        session: SessionId,
    },
    /// A new inbound SA, beside all others.
    InstallInbound {
        /// To be answered.
        id: OrderId,
        /// Its VN.
        vn: VnName,
        /// Its sender.
        peer: NveName,
        /// The sender's worker.
        sender_worker: u16,
        /// The local worker that owns it.
        owner: u16,
        /// Its SPI.
        spi: u32,
        /// Its cipher.
        algorithm: SaAlgorithm,
        /// AES key (32 bytes), then salt (4; RFC 4106, section 8.1).
        secret: Secret<36>,
    },
    /// A new outbound SA, in the place of the worker's former one, which is gone thereby.
    InstallOutbound {
        /// To be answered.
        id: OrderId,
        /// Its VN.
        vn: VnName,
        /// Its receiver.
        peer: NveName,
        /// The local worker that sends.
        worker: u16,
        /// Its SPI.
        spi: u32,
        /// Its cipher.
        algorithm: SaAlgorithm,
        /// AES key (32 bytes), then salt (4).
        secret: Secret<36>,
    },
    /// Close this SA, destroy its key.
    RemoveInbound {
        /// Its VN.
        vn: VnName,
        /// Its sender.
        peer: NveName,
        /// Its SPI.
        spi: u32,
    },
    /// Close this SA, destroy its key, if the worker still has it.
    RemoveOutbound {
        /// Its VN.
        vn: VnName,
        /// Its receiver.
        peer: NveName,
        /// Its worker.
        worker: u16,
        /// Its SPI.
        spi: u32,
        /// Because of a hard limit: packets that find no other are dropped for that.
        limit: bool,
    },
    /// There are SAs enough: this worker hands its packets to another.
    Share {
        /// Of which VN.
        vn: VnName,
        /// To whom.
        peer: NveName,
        /// Which worker.
        worker: u16,
        /// The worker with an SA.
        with: u16,
    },
    /// The operator should know.
    Report(Report),
}
