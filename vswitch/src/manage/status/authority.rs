//! What is shown of the mapping authority, of sessions with other edges, of mappings and of agreed
//! keys; never a byte of a key.

use serde::{Deserialize, Serialize};

/// What the authority's thread knows beside [`Ima`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Other edges on them.
    pub sessions: Vec<Session>,
    /// Who is where, at other edges.
    pub mappings: Vec<Mapping>,
    /// Agreed keys.
    pub keys: Vec<Key>,
}

/// `show ima`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ima {
    /// This edge's identity.
    pub identity: String,
    /// When its certificate ends, RFC 3339.
    pub expires: String,
    /// The server in use or tried.
    pub server: Option<String>,
    /// Its identity.
    pub server_identity: Option<String>,
    /// `connected` or `away`.
    pub state: String,
    /// Why there is no session.
    pub trouble: Option<String>,
    /// Seconds until the membership lease ends; absent if it has.
    pub lease_left: Option<u64>,
    /// Sessions tried since the last that worked.
    pub attempts: u32,
    /// Questions asked about unknown destinations.
    pub asked: u64,
    /// Of those not asked: asked already, or known not to exist.
    pub known: u64,
    /// Of those not asked: above a limit.
    pub limited: u64,
    /// Orders of the authority's thread that wait for room at the control thread.
    #[serde(default)]
    pub orders: usize,
    /// How often other edges were not read because of these.
    #[serde(default)]
    pub held: u64,
    /// How many agreed keys there are, and what the limit has done.
    #[serde(default)]
    pub keys: AgreedKeys,
    /// Networks.
    pub vns: Vec<ImaVn>,
}

/// Agreed keys of `show ima`, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedKeys {
    /// Workers that may send with one of their own, by network and edge.
    pub outbound: usize,
    /// Workers of other edges that may.
    pub inbound: usize,
    /// `authority.max-sas`: so many each way. From three quarters on, further workers share.
    pub limit: usize,
    /// Workers here that send with another's now.
    pub shared: usize,
    /// Times that a worker, here or of another edge, got none: its frames are dropped as `no-key`.
    pub denied: u64,
    /// Keys to receive with whose SPI RSS does not bring to the worker that has them, because none of
    /// those tried did.
    #[serde(default)]
    pub unsteered: u64,
}

/// A network of `show ima`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImaVn {
    /// Its name.
    pub vn: String,
    /// `joined`, `joined before` (no session now), `kept` (beyond the lease), `joining`, `refused`
    /// or `waiting`.
    pub state: String,
    /// Why it was refused.
    pub refusal: Option<String>,
    /// Membership epoch.
    pub epoch: Option<u64>,
    /// How far its log is known.
    pub version: u64,
    /// `stop` or `keep`.
    pub lease_end: Option<String>,
    /// Other edges.
    pub members: usize,
    /// Mappings at other edges.
    pub mappings: usize,
    /// This edge's addresses: MAC, port, and how they stand.
    pub addresses: Vec<(String, String, String)>,
}

/// Another edge.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its name.
    pub peer: String,
    /// Where it takes sessions.
    pub control: String,
    /// Its tunnel endpoints.
    pub addresses: Vec<String>,
    /// Networks that we share.
    pub vns: Vec<String>,
    /// Seconds since its session began; absent if there is none.
    pub session: Option<u64>,
    /// Who opened it: `here` or `there`.
    pub dialled: Option<String>,
    /// Why there is none, if one is needed.
    #[serde(default)]
    pub trouble: Option<String>,
}

/// `show mappings`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mapping {
    /// The network.
    pub vn: String,
    /// The MAC address.
    pub mac: String,
    /// Its IP addresses.
    pub ips: Vec<String>,
    /// The edge.
    pub peer: String,
    /// How new it is.
    pub generation: u64,
}

/// `show keys`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// The network.
    pub vn: String,
    /// The edge at the other end.
    pub peer: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// The sender's worker.
    pub worker: u16,
    /// Its SPI.
    pub spi: u32,
    /// Membership epoch of its exchange.
    pub epoch: u64,
    /// `installing`, `ready`, `live` or `draining`; `shares worker N's` of a worker without a key of
    /// its own.
    pub state: String,
    /// Seconds until it is closed, unless it is replaced before.
    #[serde(default)]
    pub closes: u64,
}
