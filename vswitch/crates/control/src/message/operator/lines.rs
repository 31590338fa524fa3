//! What operators are shown.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Change, MAX_PAGE, Places, Text};
use crate::message::Bounded;
use crate::message::overlay::{Endpoint, VnSettings};
use crate::types::{Epoch, NveName, OperatorName, Version, VnName};

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

/// What is declared of one edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredLine {
    /// Its name.
    pub nve: NveName,
    /// Where it may be.
    pub places: Places,
}

/// One tunnel address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressLine {
    /// The address.
    pub address: IpAddr,
    /// The edge that has it.
    pub nve: NveName,
    /// Whether an operator said so; else the edge was the first to say so.
    pub declared: bool,
}

/// One operator without rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorLine {
    /// Its name.
    pub name: OperatorName,
    /// Which operator said so.
    pub by: Text,
    /// Why.
    pub reason: Text,
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
