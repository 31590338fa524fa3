//! Between an operator (client) and the mapping authority (server). An operator says
//! [`FromOperator::Hello`] once, first; then each [`FromOperator::Request`] is answered by one
//! [`ToOperator::Response`] of the same number, in order. Lists come in pages: a request names the last
//! item that is known, an answer says whether there is more.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::overlay::{Endpoint, Mapping, Placement, VnSettings};
use super::{BoundError, Bounded};
use crate::types::{Epoch, Mac, NveName, Version, VnName};

/// Version of this protocol, in `Hello`.
pub const PROTOCOL: u16 = 1;

/// Most items of a page.
pub const MAX_PAGE: usize = 128;

/// Longest text, in bytes.
pub const MAX_TEXT: usize = 255;

/// A text of at most [`MAX_TEXT`] bytes, without control characters.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text(String);

impl Text {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The beginning of `text`, with everything replaced that may not be in one.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut own = String::new();
        for c in text.chars() {
            if own.len() + c.len_utf8() > MAX_TEXT {
                break;
            }
            own.push(if c.is_control() { ' ' } else { c });
        }
        Self(own)
    }
}

impl TryFrom<String> for Text {
    type Error = BoundError;

    fn try_from(text: String) -> Result<Self, BoundError> {
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            return Err(BoundError {
                len: text.len(),
                max: MAX_TEXT,
            });
        }
        Ok(Self(text))
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What an operator sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromOperator {
    /// First, and once.
    Hello {
        /// [`PROTOCOL`].
        version: u16,
    },
    /// Something to be done or shown.
    Request {
        /// Any number that the operator recognizes.
        id: u32,
        /// What.
        request: Request,
    },
}

/// What an operator gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToOperator {
    /// Answers `Hello`.
    Welcome,
    /// Answers a request.
    Response {
        /// Its number.
        id: u32,
        /// What came of it.
        result: Result<Response, Denied>,
    },
    /// The last message: the session is about to be closed.
    Goodbye {
        /// Why.
        why: Text,
    },
}

/// Something to be done or shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Something that changes what is declared; kept with who and when.
    Change(Change),
    /// The server itself.
    Server,
    /// VNs by name.
    Vns {
        /// The last one known.
        after: Option<VnName>,
    },
    /// Who may join a VN.
    Members {
        /// Which VN.
        vn: VnName,
        /// The last one known.
        after: Option<NveName>,
    },
    /// What is placed where.
    Placements {
        /// In which VN.
        vn: VnName,
        /// The last one known.
        after: Option<Mac>,
    },
    /// What is registered where.
    Mappings {
        /// In which VN.
        vn: VnName,
        /// The last one known.
        after: Option<Mac>,
    },
    /// Edges that ever said who they are, or are revoked.
    Edges {
        /// The last one known.
        after: Option<NveName>,
    },
    /// What operators did, newest first.
    Audit {
        /// The last one known.
        before: Option<AuditId>,
    },
}

/// A change of what is declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A new VN.
    VnAdd {
        /// Its name.
        vn: VnName,
        /// What is the same for all its members.
        settings: VnSettings,
    },
    /// Other settings of a VN; its VNI stays.
    VnSet {
        /// Which.
        vn: VnName,
        /// All of them.
        settings: VnSettings,
    },
    /// A VN and all that is in it.
    VnRemove {
        /// Which.
        vn: VnName,
    },
    /// An edge may join a VN.
    MemberAdd {
        /// Which VN.
        vn: VnName,
        /// Which edge.
        nve: NveName,
    },
    /// It no longer may.
    MemberRemove {
        /// Which VN.
        vn: VnName,
        /// Which edge.
        nve: NveName,
    },
    /// An address belongs on an edge's port; replaces what was placed for this MAC address.
    PlacementAdd {
        /// In which VN.
        vn: VnName,
        /// What, and where.
        placement: Placement,
    },
    /// It no longer does.
    PlacementRemove {
        /// In which VN.
        vn: VnName,
        /// Which.
        mac: Mac,
    },
    /// It belongs on another edge from now on.
    PlacementMove {
        /// In which VN.
        vn: VnName,
        /// Which.
        mac: Mac,
        /// To which edge.
        nve: NveName,
        /// To which port there; one of the same name if none is given.
        port: Option<crate::types::PortName>,
    },
    /// An edge loses every right at once.
    Revoke {
        /// Which.
        nve: NveName,
        /// Why.
        reason: Text,
    },
    /// It gets them back.
    Unrevoke {
        /// Which.
        nve: NveName,
    },
    /// An edge that is not connected is gone: its lease ends now, its addresses are free.
    Release {
        /// Which.
        nve: NveName,
    },
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The change is stored.
    Done {
        /// Whether anything had to be changed.
        changed: bool,
    },
    /// The server itself.
    Server(Server),
    /// VNs.
    Vns(Page<VnLine>),
    /// Members.
    Members(Page<MemberLine>),
    /// Placements.
    Placements(Page<Placement>),
    /// Mappings.
    Mappings(Page<Mapping>),
    /// Edges.
    Edges(Page<EdgeLine>),
    /// What operators did.
    Audit(Page<AuditLine>),
}

/// Why a request was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Denied {
    /// There is no such thing.
    #[error("there is no {0}")]
    Unknown(Text),
    /// Something is in the way.
    #[error("{0}")]
    Conflict(Text),
    /// The store does not answer, or another server was quicker again and again.
    #[error("the authority's store did not take it: {0}")]
    Unavailable(Text),
}

/// Some items of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub struct Page<T> {
    /// In order.
    pub items: Bounded<T, MAX_PAGE>,
    /// Whether there are others after them.
    pub more: bool,
}

/// One VN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VnLine {
    /// Its name.
    pub vn: VnName,
    /// What is the same for all its members.
    pub settings: VnSettings,
    /// Its membership epoch.
    pub epoch: Epoch,
    /// How far its log is.
    pub version: Version,
    /// Edges that may join.
    pub members: u64,
    /// Edges that have joined.
    pub joined: u64,
    /// Addresses that are placed.
    pub placements: u64,
    /// Addresses that are registered.
    pub mappings: u64,
}

/// One edge that may join a VN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberLine {
    /// Its name.
    pub nve: NveName,
    /// Whether it has.
    pub joined: bool,
}

/// One edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeLine {
    /// Its name.
    pub nve: NveName,
    /// Whether it has a session with this server.
    pub connected: bool,
    /// Where it is reached, if it ever said so.
    pub endpoint: Option<Endpoint>,
    /// Seconds until its lease ends, as this server counts; none if it has ended.
    pub lease: Option<u32>,
    /// VNs it has joined.
    pub vns: u32,
    /// Why it is revoked, if it is.
    pub revoked: Option<Text>,
}

/// Which record of the audit: in order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AuditId {
    /// Milliseconds since 1970, by the server's clock.
    pub at: u64,
    /// Tells records of the same time apart: drawn at random by each run of a server, then counted.
    pub tie: u64,
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// When, and which.
    pub id: AuditId,
    /// The operator: the last part of its identity.
    pub who: Text,
    /// What.
    pub change: Change,
}

/// The server itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its identity.
    pub name: Text,
    /// Its store: `redb` or `etcd`.
    pub store: Text,
    /// How far its copy of the store is.
    pub revision: u64,
    /// Seconds since it started.
    pub uptime: u64,
    /// Counters and gauges, by name.
    pub counters: Bounded<(Text, u64), MAX_PAGE>,
}
