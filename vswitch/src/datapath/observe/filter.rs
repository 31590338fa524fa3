//! Which packets an observation is about.

use std::net::IpAddr;

use vswitch_net::MacAddr;
use vswitch_vn::VnId;

use super::headers::Headers;
use super::record::{Place, Record};
use crate::datapath::verdict::{Class, Verdict};

/// From where a packet came into the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// A tenant or a VLAN.
    Tenant,
    /// The underlay.
    Underlay,
    /// The host kernel, by a tap.
    Kernel,
}

/// Which end of its way [`Match::port`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Side {
    /// Either.
    #[default]
    Either,
    /// The packet arrives by the port.
    Arrives,
    /// The packet leaves by the port, or was on its way out by it when it was dropped.
    Leaves,
}

/// How a packet must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Dropped, for whatever reason.
    AnyDrop,
    /// With this verdict.
    Only(Verdict),
}

/// Conditions, all of which must hold; those that are absent hold for every packet.
///
/// MAC, IP, protocol, layer 4 port and EtherType must hold together of one set of headers: of
/// the tenants' frame, or of the outer headers of what came from or left by an underlay port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Match {
    /// The port it came from or goes to.
    pub port: Option<Place>,
    /// Which of these.
    pub side: Side,
    /// Whether it must have come from an underlay port, or leave by one.
    pub underlay: bool,
    /// From where it came.
    pub came: Option<Came>,
    /// Its virtual network.
    pub vn: Option<VnId>,
    /// Source or destination MAC.
    pub mac: Option<MacAddr>,
    /// Source or destination IP address; sender or target of ARP.
    pub ip: Option<IpAddr>,
    /// Protocol of the IP payload.
    pub protocol: Option<u8>,
    /// Source or destination port of TCP or UDP.
    pub l4_port: Option<u16>,
    /// EtherType.
    pub ethertype: Option<u16>,
    /// How it ended.
    pub verdict: Option<Wanted>,
}

impl Match {
    /// Whether a packet that has ended is one of those.
    pub fn holds(&self, record: &Record) -> bool {
        self.came_from(record.from)
            && self.vn.is_none_or(|vn| record.vn == Some(vn))
            && self.passed(record)
            && self.verdict.is_none_or(|wanted| match wanted {
                Wanted::AnyDrop => record.verdict.class() == Class::Dropped,
                Wanted::Only(verdict) => record.verdict == verdict,
            })
            && self.any_headers([record.frame, record.outer, record.wrapped])
    }

    /// Whether a packet may still be one of those, as far as is known when it arrives. What
    /// tenants send is forwarded as it is, so that of their frames more is known than of what
    /// comes sealed.
    pub fn possible(&self, record: &Record) -> bool {
        let from_port = matches!(record.from, Place::Port(_));
        self.came_from(record.from)
            && (self.side != Side::Arrives || self.port.is_none_or(|port| port == record.from))
            && !(from_port
                && self
                    .vn
                    .is_some_and(|vn| record.vn.is_some_and(|is| is != vn)))
            && !(from_port && self.inner_only() && !self.any_headers([record.frame]))
    }

    fn came_from(&self, from: Place) -> bool {
        self.came.is_none_or(|came| match came {
            Came::Tenant => matches!(from, Place::Port(_) | Place::Trunk(_)),
            Came::Underlay => matches!(from, Place::Underlay(_)),
            Came::Kernel => matches!(from, Place::Tap(_)),
        })
    }

    fn passed(&self, record: &Record) -> bool {
        let outside = |place| matches!(place, Place::Underlay(_));
        if self.underlay && !outside(record.from) && !record.to.is_some_and(outside) {
            return false;
        }
        let Some(port) = self.port else { return true };
        let arrived = record.from == port;
        let leaves = record.to == Some(port);
        match self.side {
            Side::Either => arrived || leaves,
            Side::Arrives => arrived,
            Side::Leaves => leaves,
        }
    }

    /// Conditions that no outer header can meet: an outer one is between edges, so a MAC may
    /// be a next hop's and an address an edge's, but a tenant's frame is what it is.
    fn inner_only(&self) -> bool {
        self.ethertype.is_some_and(|kind| !is_ip(kind))
            || self.protocol.is_some_and(|protocol| protocol != UDP)
    }

    fn any_headers(&self, views: impl IntoIterator<Item = Option<Headers>>) -> bool {
        let asks = self.mac.is_some()
            || self.ip.is_some()
            || self.protocol.is_some()
            || self.l4_port.is_some()
            || self.ethertype.is_some();
        !asks || views.into_iter().flatten().any(|view| self.headers(&view))
    }

    fn headers(&self, view: &Headers) -> bool {
        let either =
            |ends: Option<(u16, u16)>, port| ends.is_some_and(|(a, b)| a == port || b == port);
        self.mac
            .is_none_or(|mac| view.src_mac == mac || view.dst_mac == mac)
            && self
                .ip
                .is_none_or(|ip| view.ips.is_some_and(|(a, b)| a == ip || b == ip))
            && self.protocol.is_none_or(|p| view.protocol == Some(p))
            && self.l4_port.is_none_or(|port| either(view.ports, port))
            && self.ethertype.is_none_or(|kind| view.ethertype == kind)
    }
}

const UDP: u8 = 17;

fn is_ip(ethertype: u16) -> bool {
    matches!(ethertype, 0x0800 | 0x86dd)
}
