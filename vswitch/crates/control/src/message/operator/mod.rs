//! Between an operator (client) and the mapping authority (server). An operator says
//! [`FromOperator::Hello`] once, first; then each [`FromOperator::Request`] is answered by one
//! [`ToOperator::Response`] of the same number, in order. Lists come in pages: a request names the last
//! item that is known, an answer says whether there is more.

mod lines;

use core::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::BoundError;
use super::overlay::{Mapping, Placement, Prefixes, TunnelAddresses, VnSettings};
use crate::types::{Mac, NveName, OperatorName, VnName};

pub use lines::{
    AddressLine, AuditId, AuditLine, DeclaredLine, EdgeLine, MemberLine, OperatorLine, Page,
    Server, VnLine,
};

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
    /// What is declared of edges.
    Declared {
        /// The last one known.
        after: Option<NveName>,
    },
    /// Which edge has which tunnel address.
    Addresses {
        /// The last one known.
        after: Option<IpAddr>,
    },
    /// Operators without rights.
    Operators {
        /// The last one known.
        after: Option<OperatorName>,
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
    /// What an edge may say of where it is; replaces what was declared before. Addresses that other
    /// edges have claimed without a declaration are taken from them.
    EdgeSet {
        /// Which.
        nve: NveName,
        /// Where it may be.
        places: Places,
    },
    /// Nothing is declared of an edge any more; its addresses are free.
    EdgeUnset {
        /// Which.
        nve: NveName,
    },
    /// An operator loses every right at once.
    OperatorRevoke {
        /// Which: the last part of its identity.
        name: OperatorName,
        /// Why.
        reason: Text,
    },
    /// It gets them back.
    OperatorUnrevoke {
        /// Which.
        name: OperatorName,
    },
}

/// Where an edge may be, as an operator says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Places {
    /// Its tunnel addresses: all it may have, and nobody else any.
    pub tunnel_addresses: TunnelAddresses,
    /// Where its control address may be, beside those.
    #[serde(default)]
    pub control: Prefixes,
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
    /// What is declared of edges.
    Declared(Page<DeclaredLine>),
    /// Tunnel addresses.
    Addresses(Page<AddressLine>),
    /// Operators without rights.
    Operators(Page<OperatorLine>),
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
