//! Between an edge (client) and the mapping authority (server), on one ordered stream.
//!
//! An edge says [`FromEdge::Hello`] once, first, and gets [`FromIma::Welcome`]. For each VN it then
//! sends [`FromEdge::Join`] with a fresh hybrid offer, and gets [`FromIma::Joined`] or
//! [`FromIma::Refused`]. All else about a VN travels as `Sealed`, by the channel that this exchange
//! gave: [`VnFromEdge`] one way, [`VnFromIma`] the other.
//!
//! *Epochs.* When a VN's membership has changed, its members get [`FromIma::NewEpoch`] and join anew,
//! with a fresh offer. Until `Joined` comes, both directions go on under the former channel. What the
//! authority sends after `Joined` is sealed by the new one; it goes on opening the former until the
//! first message under the new one arrives. So the edge drops the former when `Joined` arrives.
//!
//! *The log.* Every change of a VN's members or mappings has its [`Version`]; a mapping's generation is
//! the version that made it. The authority pushes [`VnFromIma::Update`]s without being asked. An edge
//! that joins again says where it stands ([`Resume`]) and is told what is missing, or everything.
//!
//! *Losing an address.* A mapping of somebody else, or a withdrawal, with a generation above the one that
//! was registered: the registration is void. A new one is taken only if the placement says so.
//!
//! *Leases.* An edge counts its lease from the moment when it *sent* what `Welcome` or `Renewed` answers,
//! so that holding answers back prolongs nothing.

use core::fmt;
use std::net::IpAddr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::overlay::{Endpoint, Ips, LeaseEnd, Mapping, Protection, Vni};
use super::{BoundError, Bounded};
use crate::hybrid::{Answer, ExchangeId, Offer};
use crate::types::{BootId, Epoch, Generation, Mac, NveName, PortName, Version, VnName};

/// Version of this protocol, in `Hello`.
pub const PROTOCOL: u16 = 1;

/// Label under which both ends export, with an empty context, what binds the exchanges of `Join` to
/// their session (`Transcript::binding`). The initiator is the edge, the responder the authority.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-vswitch-ima-1";

/// Most bytes of a sealed message: what is left of a frame beside the longest header.
pub const MAX_SEALED: usize = 60 * 1024;

/// Most members or mappings in one part of an update.
pub const MAX_ENTRIES: usize = 1024;

/// A sealed message of a VN's channel: at most [`MAX_SEALED`] bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedBytes(Vec<u8>);

impl SealedBytes {
    /// As they travel.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for SealedBytes {
    type Error = BoundError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, BoundError> {
        if bytes.len() > MAX_SEALED {
            return Err(BoundError {
                len: bytes.len(),
                max: MAX_SEALED,
            });
        }
        Ok(Self(bytes))
    }
}

impl fmt::Debug for SealedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedBytes({})", self.0.len())
    }
}

impl Serialize for SealedBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for SealedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = SealedBytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX_SEALED} bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                SealedBytes::try_from(bytes.to_vec()).map_err(E::custom)
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// Which history of a VN a [`Version`] belongs to: drawn at random when the VN is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogId(pub u64);

/// Up to where an edge knows a VN's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Of which history.
    pub log: LogId,
    /// All changes up to this one are known.
    pub version: Version,
}

/// What an edge sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromEdge {
    /// First, and once.
    Hello {
        /// [`PROTOCOL`].
        version: u16,
        /// This run of the edge.
        boot: BootId,
        /// Where it is reached.
        endpoint: Endpoint,
    },
    /// Asks for a longer lease; answered by `Renewed` with the same number.
    Renew {
        /// Any number that the edge recognizes.
        sequence: u64,
    },
    /// Into a VN, or into its new epoch.
    Join {
        /// Which.
        vn: VnName,
        /// Drawn at random by the edge; part of the channel's transcript.
        exchange: ExchangeId,
        /// The edge's half of the exchange.
        offer: Offer,
        /// What it knows already.
        resume: Option<Resume>,
    },
    /// Out of a VN: its registrations are withdrawn, the channel is destroyed.
    Leave {
        /// Which.
        vn: VnName,
    },
    /// A [`VnFromEdge`].
    Sealed {
        /// Of which VN.
        vn: VnName,
        /// By the channel of which epoch.
        epoch: Epoch,
        /// The sealed message.
        bytes: SealedBytes,
    },
}

/// What an edge may do, so that it need not be slowed down by force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeLimits {
    /// Messages a second, in the long run. Above it the authority reads no further.
    pub messages_per_second: u32,
    /// Messages at once.
    pub burst: u32,
    /// VNs that the edge may be in at once.
    pub vns: u32,
    /// Registrations that the edge may hold in one VN.
    pub registrations: u32,
}

/// What the authority sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromIma {
    /// Answers `Hello`.
    Welcome {
        /// Length of the membership lease, in seconds.
        lease: u32,
        /// What the edge may do.
        limits: EdgeLimits,
    },
    /// Answers `Renew`.
    Renewed {
        /// The number of the request.
        sequence: u64,
        /// Length of the lease, in seconds.
        lease: u32,
    },
    /// Answers `Join`. What follows about this VN is sealed by the new channel.
    Joined {
        /// Which VN.
        vn: VnName,
        /// The edge's number of the exchange.
        exchange: ExchangeId,
        /// The epoch, part of the channel's transcript.
        epoch: Epoch,
        /// The authority's half of the exchange.
        answer: Answer,
        /// Which history the versions of its updates belong to.
        log: LogId,
        /// Identifier in tunnel packets.
        vni: Vni,
        /// How frames are protected.
        protection: Protection,
        /// What to do when the lease has run out.
        lease_end: LeaseEnd,
    },
    /// Answers `Join`.
    Refused {
        /// Which VN.
        vn: VnName,
        /// Why.
        why: Refusal,
    },
    /// The membership has changed: join anew.
    NewEpoch {
        /// Of which VN.
        vn: VnName,
        /// The epoch there is now.
        epoch: Epoch,
    },
    /// No member any more, or the VN is gone: its keys and mappings must go.
    Expelled {
        /// From which VN.
        vn: VnName,
    },
    /// An edge with which the receiver shares a VN lost every right: sessions, keys and mappings of it
    /// must go, in every VN.
    Revoked {
        /// Which edge.
        nve: NveName,
    },
    /// A [`VnFromIma`].
    Sealed {
        /// Of which VN.
        vn: VnName,
        /// By the channel of which epoch.
        epoch: Epoch,
        /// The sealed message.
        bytes: SealedBytes,
    },
    /// The last message: the session is about to be closed.
    Goodbye {
        /// Why.
        why: Goodbye,
    },
}

/// Why an edge may not join a VN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No member of it, or there is no such VN: an edge is not told which.
    #[error("no member of such a network")]
    NotMember,
    /// The offer is no valid key.
    #[error("the offer is no valid key")]
    BadOffer,
    /// In as many VNs as it may be.
    #[error("in as many networks as one edge may be")]
    TooMany,
    /// The store does not answer; try again.
    #[error("the authority's store does not answer")]
    Unavailable,
    /// This edge has asked for whole networks too often; try again.
    #[error("this edge asks for networks too often")]
    Busy,
}

/// Why the authority closes a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Goodbye {
    /// Another version of the protocol.
    #[error("the versions of the protocol differ")]
    Version,
    /// The edge is revoked.
    #[error("this edge is revoked")]
    Revoked,
    /// Another session of the same edge took its place.
    #[error("a newer session of the same edge took over")]
    Replaced,
    /// A tunnel address is another edge's.
    #[error("a tunnel address belongs to another edge")]
    AddressTaken,
    /// What the edge sent was no message, out of order, or did not open.
    #[error("the protocol was not kept")]
    Protocol,
    /// The store does not answer; try another server.
    #[error("the authority's store does not answer")]
    Unavailable,
    /// The server stops.
    #[error("the server stops")]
    Stopping,
    /// An address that the edge gives as its own is not declared as its own, and has to be.
    #[error("an address of this edge is not declared for it at the authority")]
    Undeclared,
}

/// What an edge sends about a VN, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VnFromEdge {
    /// A port of the edge has this address. Answered by `Registered` or `Rejected`.
    Register {
        /// The port.
        port: PortName,
        /// The address.
        mac: Mac,
        /// Its IP addresses: replaces those registered before.
        ips: Ips,
    },
    /// It no longer has. An update tells everyone; answered only if it is not so yet (`Rejected`,
    /// `Unavailable`), and to be said again then.
    Withdraw {
        /// The address.
        mac: Mac,
    },
    /// Who has an address? Answered by `Answer`.
    Query {
        /// Any number that the edge recognizes.
        id: u32,
        /// The address.
        what: Wanted,
    },
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Wanted {
    /// The edge behind which this address is.
    Mac(Mac),
    /// The MAC address that has this one.
    Ip(IpAddr),
}

/// What the authority sends about a VN, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VnFromIma {
    /// Changes of the VN.
    Update(Update),
    /// Answers `Register`: everyone is told.
    Registered {
        /// The address.
        mac: Mac,
        /// How new the mapping is.
        generation: Generation,
    },
    /// Answers `Register`: nothing changed.
    Rejected {
        /// The address.
        mac: Mac,
        /// Why.
        why: Rejection,
    },
    /// What is placed on the receiver in this VN has changed: what was rejected may be tried again.
    Placed,
    /// Answers `Query`.
    Answer {
        /// The number of the query.
        id: u32,
        /// Who has it, if anybody.
        mapping: Option<Mapping>,
        /// How long the answer may be kept, in seconds, where there is no mapping.
        ttl: u32,
    },
}

/// A step of a VN's log. Large ones come in parts, nothing else of this VN's log between them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// What it stands on.
    pub base: Base,
    /// Where its receiver then is. Parts before the last may have the `to` of the part before.
    pub to: Version,
    /// Members that came, or whose endpoint changed.
    pub members: Bounded<Member, MAX_ENTRIES>,
    /// Members that are none any more.
    pub gone: Bounded<NveName, MAX_ENTRIES>,
    /// Mappings that came or changed; each replaces an older one of its MAC address.
    pub mappings: Bounded<Mapping, MAX_ENTRIES>,
    /// Mappings that are no more.
    pub withdrawn: Bounded<Withdrawal, MAX_ENTRIES>,
}

/// What an update stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Base {
    /// The receiver's state at this version; takes effect at once.
    Version(Version),
    /// Nothing: all parts together, from the first to the last, replace what the receiver has when
    /// the last arrives.
    Full {
        /// What came before in parts is void.
        first: bool,
        /// Complete with this one.
        last: bool,
    },
}

/// An edge that has joined the VN. Nobody else may be believed about it, or keyed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub nve: NveName,
    /// Where it is reached.
    pub endpoint: Endpoint,
}

/// A MAC address that is nowhere any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// The address.
    pub mac: Mac,
    /// Above that of the mapping which ended.
    pub generation: Generation,
}

/// Why a registration was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// The address is not placed on this edge.
    #[error("the address is not placed on this edge")]
    NotPlaced,
    /// It is placed on another port of this edge.
    #[error("the address is placed on another port")]
    OtherPort,
    /// An IP address that is not placed with this MAC address.
    #[error("an IP address is not placed with this MAC address")]
    OtherIps,
    /// Somebody else has the MAC address or one of the IP addresses.
    #[error("somebody else has the address")]
    Taken,
    /// Not an address that a station may have: a group's, or none.
    #[error("not the address of a station")]
    Unusable,
    /// As many registrations as one edge may hold in a VN.
    #[error("too many registrations")]
    TooMany,
    /// The store does not answer; try again.
    #[error("the authority's store does not answer")]
    Unavailable,
    /// This edge registers too often; try again.
    #[error("this edge registers too often")]
    Busy,
}
