//! What goes into and comes out of [`Client`](super::Client), and how it looks from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::message::ima::{FromEdge, Goodbye, Member, Refusal, Rejection};
use crate::message::overlay::{Endpoint, Ips, Mapping, Protection, Vni};
use crate::types::{BootId, Epoch, Mac, NveName, PortName, VnName};

/// Who this edge is to the authority, and what is bounded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name.
    pub name: NveName,
    /// Its identity: the SPIFFE URI of its certificate.
    pub identity: String,
    /// This run of it.
    pub boot: BootId,
    /// Where it is reached.
    pub endpoint: Endpoint,
    /// Servers of the authority, at least one.
    pub servers: Vec<SocketAddr>,
    /// Leave VNs at the end of the lease, whatever the authority said of them.
    pub always_stop: bool,
    /// Questions per second, of the edge.
    pub queries: u32,
    /// Questions per second, of one port.
    pub port_queries: u32,
    /// Spreads times of different edges apart.
    pub seed: u64,
}

/// What ports of this edge have in one VN.
pub type Addresses = BTreeMap<Mac, (PortName, Ips)>;

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Open a session; then [`Client::connected`](super::Client::connected) or [`Client::disconnected`](super::Client::disconnected).
    Connect(SocketAddr),
    /// Send on the session.
    Send(Box<FromEdge>),
    /// Close the session; [`Client::disconnected`](super::Client::disconnected) need not be said.
    Close(&'static str),
    /// Something follows for the edge.
    Event(Event),
}

/// What follows for the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// On a VN, or in its new epoch, or it is described otherwise now.
    Joined {
        /// Which.
        vn: VnName,
        /// Its identifier on the wire.
        vni: Vni,
        /// Its protection.
        protection: Protection,
    },
    /// Who else is on a VN, all of them: nobody else may be keyed with.
    Members {
        /// Which.
        vn: VnName,
        /// Of which epoch.
        epoch: Epoch,
        /// The other edges.
        members: Vec<Member>,
    },
    /// Who is where, at other edges.
    Mappings {
        /// In which VN.
        vn: VnName,
        /// Whether these are all; else they change what was said before.
        full: bool,
        /// New ones.
        upserts: Vec<Mapping>,
        /// Those that are no more.
        withdrawals: Vec<Mac>,
    },
    /// The addresses that this edge's ports may use on a VN, all of them.
    Admitted {
        /// Which.
        vn: VnName,
        /// The addresses.
        macs: Vec<Mac>,
    },
    /// On a VN no more: its mappings and keys must go.
    Left {
        /// Which.
        vn: VnName,
        /// Why.
        why: Gone,
    },
    /// An edge lost every right: sessions, keys and mappings of it must go.
    Revoked(NveName),
    /// Somebody should know.
    Alarm(Alarm),
}

/// Why a VN is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// No port wants it.
    #[error("no port is on it any more")]
    Unwanted,
    /// The authority says so.
    #[error("the authority expelled this edge from it")]
    Expelled,
    /// The authority has not been heard of for as long as the lease.
    #[error("the membership lease has ended")]
    LeaseEnded,
    /// The authority revoked this edge.
    #[error("this edge is revoked")]
    Revoked,
    /// The authority does not let this edge in again.
    #[error("the authority refuses: {0}")]
    Refused(Refusal),
}

/// What somebody should know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// An edge is not let into a VN.
    #[error("VN {vn}: refused: {why}")]
    Refused {
        /// Which VN.
        vn: VnName,
        /// Why.
        why: Refusal,
    },
    /// An address of a port is not admitted.
    #[error("VN {vn}: {mac} of port {port} is not admitted: {why}")]
    Rejected {
        /// Which VN.
        vn: VnName,
        /// Whose address.
        port: PortName,
        /// The address.
        mac: Mac,
        /// Why.
        why: Rejection,
    },
    /// An address of a port is another edge's now.
    #[error("VN {vn}: {mac} of port {port} is at another edge now")]
    Lost {
        /// Which VN.
        vn: VnName,
        /// Whose address it was.
        port: PortName,
        /// The address.
        mac: Mac,
    },
    /// The lease has ended and the VN is kept: a revoked edge may still be on it.
    #[error("VN {vn}: the membership lease has ended; forwarding goes on, as the authority said")]
    LeaseKept {
        /// Which VN.
        vn: VnName,
    },
    /// What came about a VN did not open; it is joined anew.
    #[error("VN {vn}: a message that does not open; it is joined anew")]
    Unopened {
        /// Which.
        vn: VnName,
    },
    /// The authority closed the session.
    #[error("the authority ended the session: {0}")]
    Goodbye(Goodbye),
    /// What came was not what the protocol allows.
    #[error("the authority's server does not keep to the protocol: {0}")]
    Protocol(&'static str),
}

/// The client as seen from outside.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Status {
    /// The server in use or tried.
    pub server: Option<SocketAddr>,
    /// Its identity.
    pub identity: Option<String>,
    /// Whether it has welcomed this edge.
    pub connected: bool,
    /// Seconds until the lease ends; `None`: there is none, or no more.
    pub lease_left: Option<u64>,
    /// Sessions tried since the last that worked.
    pub attempts: u32,
    /// Questions about unknown destinations.
    pub questions: QuestionCounts,
    /// VNs.
    pub networks: Vec<NetworkStatus>,
}

/// What became of questions about unknown destinations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct QuestionCounts {
    /// Asked of the authority.
    pub asked: u64,
    /// Asked already, or known not to exist.
    pub known: u64,
    /// Above the edge's or a port's rate.
    pub limited: u64,
}

/// A VN as this edge knows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct NetworkStatus {
    /// Its name.
    pub vn: VnName,
    /// `joined`, `joining`, `waiting` or `refused`.
    pub state: &'static str,
    /// Why it was refused.
    pub refusal: Option<String>,
    /// Its membership epoch.
    pub epoch: Option<Epoch>,
    /// How far its log is known.
    pub version: u64,
    /// What happens when the lease ends.
    pub lease_end: Option<&'static str>,
    /// Other edges.
    pub members: usize,
    /// Mappings at other edges.
    pub mappings: usize,
    /// This edge's own addresses, and how they stand.
    pub addresses: Vec<(Mac, PortName, String)>,
}
