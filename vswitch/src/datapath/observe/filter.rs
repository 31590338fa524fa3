//! Which packets an observation is about.

use std::net::IpAddr;

use vswitch_net::MacAddr;
use vswitch_vn::VnId;

use super::headers::Headers;
use super::record::{Place, Record};
use super::step::Step;
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
/// MAC, IP, protocol, layer 4 port and EtherType must hold together of one set of headers.
/// That is the tenants' frame, if it is known: of sealed packets that were refused it is not,
/// and of the kernel's there is none, so that of these it is the outer headers. Where only
/// addresses are asked for they may also be those of the outer headers, so that the packets
/// from and to an edge can be asked for. ESP is whatever has an SA, though the outer headers
/// say UDP.
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
            && self.headers_hold(record)
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
            && !(from_port
                && self.of_frames_only()
                && self.protocol != Some(ESP)
                && !record
                    .frame
                    .is_some_and(|frame| self.headers(&frame, false)))
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

    /// Asks for more than addresses.
    fn of_frames_only(&self) -> bool {
        self.protocol.is_some() || self.l4_port.is_some() || self.ethertype.is_some()
    }

    fn headers_hold(&self, record: &Record) -> bool {
        if self.of_frames_only() {
            let esp = self.protocol == Some(ESP) && passed_esp(record);
            let view = record.frame.or(record.outer);
            return view.is_some_and(|view| self.headers(&view, esp));
        }
        let mut views = [record.frame, record.outer, record.wrapped]
            .into_iter()
            .flatten();
        self.mac.is_none() && self.ip.is_none() || views.any(|view| self.headers(&view, false))
    }

    /// `esp`: the protocol is what it should be, whatever the headers say.
    fn headers(&self, view: &Headers, esp: bool) -> bool {
        let either =
            |ends: Option<(u16, u16)>, port| ends.is_some_and(|(a, b)| a == port || b == port);
        self.mac
            .is_none_or(|mac| view.src_mac == mac || view.dst_mac == mac)
            && self
                .ip
                .is_none_or(|ip| view.ips.is_some_and(|(a, b)| a == ip || b == ip))
            && self
                .protocol
                .is_none_or(|p| esp || view.protocol == Some(p))
            && self.l4_port.is_none_or(|port| either(view.ports, port))
            && self.ethertype.is_none_or(|kind| view.ethertype == kind)
    }
}

const ESP: u8 = 50;

fn passed_esp(record: &Record) -> bool {
    record.steps.iter().any(|mark| {
        matches!(
            mark.step,
            Step::Esp { .. } | Step::Encapsulated { sa: Some(_), .. }
        )
    })
}
