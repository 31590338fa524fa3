//! What an operator asks for, by name, and what the workers look at, by number.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use vswitch_net::MacAddr;

use super::names::Names;
use crate::datapath::observe::{Came, Match, Side, Wanted};
use crate::datapath::verdict::{Class, Verdict};

/// From where packets came into the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// Tenants' ports and VLANs.
    Tenant,
    /// The underlay.
    Underlay,
    /// The host kernel.
    Kernel,
}

impl From {
    /// As the API has it.
    pub const fn name(self) -> &'static str {
        match self {
            From::Tenant => "tenant",
            From::Underlay => "underlay",
            From::Kernel => "kernel",
        }
    }
}

/// Conditions on packets, all of which must hold; see [`Match`] for what they mean.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Name of a port that it comes from or goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Whether it must come from or go to the underlay.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub underlay: bool,
    /// From where it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<From>,
    /// Name of its virtual network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vn: Option<String>,
    /// Source or destination MAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Source or destination IP address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `esp`, `arp`, or a number: an IP protocol up to 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto: Option<String>,
    /// Source or destination port of TCP or UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l4_port: Option<u16>,
    /// EtherType.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ethertype: Option<u16>,
    /// A verdict's name, such as `spoofed-mac`; `any` for every drop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<String>,
}

/// Why a filter is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No port has this name.
    #[error("there is no port `{name}`; there are {there}")]
    Port {
        /// The name.
        name: String,
        /// Those that exist.
        there: String,
    },
    /// No virtual network has this name.
    #[error("there is no VN `{name}`; there are {there}")]
    Vn {
        /// The name.
        name: String,
        /// Those that exist.
        there: String,
    },
    /// Not a protocol.
    #[error("`{0}` is no protocol: tcp, udp, icmp, icmpv6, esp, arp or a number up to 255")]
    Protocol(String),
    /// Two conditions on the EtherType.
    #[error("`arp` is an EtherType: give only one of protocol and EtherType")]
    TwoTypes,
    /// Not a verdict.
    #[error("`{0}` is no reason for a drop: `any`, or one of `vswitchctl show drops --all`")]
    Drop(String),
}

impl FilterError {
    /// Names the ports that exist.
    pub(crate) fn no_port(name: String, names: &Names) -> Self {
        let there = list(names.ports.iter().chain(&names.underlays));
        FilterError::Port { name, there }
    }
}

/// What `arp` means as an EtherType.
const ARP: u16 = 0x0806;

/// A protocol's number by its name, as [`Filter::proto`] takes it; `arp` has none.
pub fn protocol(text: &str) -> Option<u8> {
    match text {
        "icmp" => Some(1),
        "tcp" => Some(6),
        "udp" => Some(17),
        "esp" => Some(50),
        "icmpv6" => Some(58),
        _ => text.parse().ok(),
    }
}

impl Filter {
    /// With numbers for names.
    ///
    /// # Errors
    /// When it names what is not there.
    pub fn resolve(&self, names: &Names) -> Result<Match, FilterError> {
        let port = self.port.as_ref().map(|name| {
            names
                .find_port(name)
                .ok_or_else(|| FilterError::no_port(name.clone(), names))
        });
        let vn = self.vn.as_ref().map(|name| {
            names.find_vn(name).ok_or_else(|| FilterError::Vn {
                name: name.clone(),
                there: list(names.vns.iter()),
            })
        });
        let (mut protocol_number, mut ethertype) = (None, self.ethertype);
        match self.proto.as_deref() {
            Some("arp") if self.ethertype.is_some_and(|kind| kind != ARP) => {
                return Err(FilterError::TwoTypes);
            }
            Some("arp") => ethertype = Some(ARP),
            Some(text) => {
                let number = protocol(text);
                protocol_number =
                    Some(number.ok_or_else(|| FilterError::Protocol(text.to_owned()))?);
            }
            None => {}
        }
        let verdict = self.drop.as_ref().map(|name| match name.as_str() {
            "any" => Ok(Wanted::AnyDrop),
            _ => Verdict::ALL
                .iter()
                .find(|v| v.class() == Class::Dropped && v.name() == name)
                .map(|v| Wanted::Only(*v))
                .ok_or_else(|| FilterError::Drop(name.clone())),
        });
        Ok(Match {
            port: port.transpose()?,
            side: Side::Either,
            underlay: self.underlay,
            came: self.from.map(|from| match from {
                From::Tenant => Came::Tenant,
                From::Underlay => Came::Underlay,
                From::Kernel => Came::Kernel,
            }),
            vn: vn.transpose()?,
            mac: self.mac,
            ip: self.ip,
            protocol: protocol_number,
            l4_port: self.l4_port,
            ethertype,
            verdict: verdict.transpose()?,
        })
    }
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    match names[..] {
        [] => "none".to_owned(),
        _ => names.join(", "),
    }
}
