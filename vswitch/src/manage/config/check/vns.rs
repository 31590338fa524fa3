//! `vns`: virtual networks, who is on them, and how large their tenants' packets may be.

use std::net::IpAddr;

use vswitch_net::IpVersion;
use vswitch_net::mtu::{self, Wrapping};

use super::super::defaults;
use super::super::findings::Once;
use super::super::model::{Attachment, Device, Mapping, Peer, Port, Source, Underlay, Vn};
use super::super::problem::KeyPath;
use super::super::raw;
use super::super::types::{MacAddr, PeerId, Protection, Vni};
use super::Context;

/// What IPv6 needs (RFC 8200, section 5).
const IPV6_MIN_MTU: u16 = 1280;
const MAX_VNS: usize = 1 << 16;

/// The addresses of one virtual network: each is at one place.
pub(super) struct Places {
    macs: Once<MacAddr>,
    ips: Once<IpAddr>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            macs: Once::new(),
            ips: Once::new(),
        }
    }
}

impl Context<'_> {
    /// A tenant's addresses, checked and placed in the network with index `vn` (if it is known).
    pub(super) fn place(
        &mut self,
        path: &KeyPath,
        vn: Option<usize>,
        mac: &str,
        ips: &[String],
    ) -> (Option<MacAddr>, Vec<IpAddr>) {
        let mut places = vn.and_then(|vn| self.places.get_mut(vn));
        let mac_path = path.key("mac");
        let mac = self.f.mac(&mac_path, mac);
        if let (Some(mac), Some(places)) = (mac, places.as_deref_mut()) {
            let what = format_args!("{mac}, in the same VN,");
            places.macs.claim(self.f, &mac_path, mac, what);
        }
        let mut usable = Vec::new();
        for (i, text) in ips.iter().enumerate() {
            let path = path.key("ips").index(i);
            let Some(ip) = self.f.ip(&path, text) else {
                continue;
            };
            if let Some(places) = places.as_deref_mut() {
                let what = format_args!("{ip}, in the same VN,");
                places.ips.claim(self.f, &path, ip, what);
            }
            usable.push(ip);
        }
        (mac, usable)
    }
}

pub(super) fn check(cx: &mut Context<'_>, raw: &[raw::Vn], authority: bool) -> Vec<Vn> {
    let list = KeyPath::root().key("vns");
    if raw.len() > MAX_VNS {
        cx.f.error(
            &list,
            format!("{} are too many: at most {MAX_VNS}", raw.len()),
        );
    }
    let mut vnis = Once::new();
    let mut vns = Vec::new();
    for (i, vn) in raw.iter().enumerate() {
        let path = list.index(i);
        let max = u64::from(Vni::MAX.get());
        let source = match vn.vni {
            Some(_) => Source::File,
            None => Source::Awaited,
        };
        if vn.vni.is_none() {
            without_vni(cx, &path, vn, authority);
        }
        let written = vn.vni.unwrap_or_default();
        let vni: u32 = cx.f.within(&path.key("vni"), written, 0..=max, "(24 bits)");
        if vn.vni == Some(vni.into()) {
            vnis.claim(cx.f, &path.key("vni"), vni, format_args!("the VNI {vni}"));
        }
        let edges = edges(cx, &path.key("edges"), i, &vn.edges);
        vns.push(Vn {
            name: vn.name.clone(),
            vni: Vni::new(vni).unwrap_or(Vni::MAX),
            protection: vn.protection.unwrap_or(defaults::PROTECTION),
            unknown_unicast: vn.unknown_unicast.unwrap_or(defaults::UNKNOWN_UNICAST),
            learning: vn.learning.unwrap_or(defaults::LEARNING),
            learning_age: cx.f.within(
                &path.key("learning-age"),
                vn.learning_age.unwrap_or(defaults::LEARNING_AGE),
                1..=u64::from(vswitch_vn::VnConfig::MAX_AGE),
                "seconds",
            ),
            mappings: mappings(cx, &path.key("mappings"), i, vn, &edges),
            edges,
            inner_mtu: 0,
            source,
            least: vn.protection.unwrap_or(defaults::LEAST_PROTECTION),
        });
    }
    vns
}

/// A network without a VNI is the authority's to describe, and nobody else's.
fn without_vni(cx: &mut Context<'_>, path: &KeyPath, vn: &raw::Vn, authority: bool) {
    if !authority {
        let message = "missing key `vni`: only a VN that an `authority` describes has none";
        return cx.f.error(path, message);
    }
    let described = [
        ("edges", !vn.edges.is_empty()),
        ("mappings", !vn.mappings.is_empty()),
    ];
    let described: Vec<&str> = described
        .iter()
        .filter(|(_, is)| *is)
        .map(|(key, _)| *key)
        .collect();
    if !described.is_empty() {
        let message = format!(
            "VN `{}` has no vni, so the authority describes it: remove {}, or give it a vni to \
             describe it here",
            vn.name,
            described.join(", ")
        );
        cx.f.error(path, message);
    }
}

fn edges(cx: &mut Context<'_>, list: &KeyPath, vn: usize, names: &[String]) -> Vec<PeerId> {
    let mut taken = Once::new();
    let mut edges = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let path = list.index(i);
        if let Some(peer) = cx.peers.resolve(cx.f, &path, name) {
            taken.claim(cx.f, &path, peer, format_args!("`{name}`"));
            edges.push(PeerId(u32::try_from(peer).unwrap_or(u32::MAX)));
        } else {
            cx.unsure_edges.insert(vn);
        }
    }
    edges
}

fn mappings(
    cx: &mut Context<'_>,
    list: &KeyPath,
    index: usize,
    vn: &raw::Vn,
    edges: &[PeerId],
) -> Vec<Mapping> {
    let mut mappings = Vec::new();
    for (i, mapping) in vn.mappings.iter().enumerate() {
        let path = list.index(i);
        let (mac, ips) = cx.place(&path, Some(index), &mapping.mac, &mapping.ips);
        let Some(peer) = cx.peers.resolve(cx.f, &path.key("peer"), &mapping.peer) else {
            continue;
        };
        let peer = PeerId(u32::try_from(peer).unwrap_or(u32::MAX));
        if !edges.contains(&peer) && !cx.unsure_edges.contains(&index) {
            let (peer, vn) = (&mapping.peer, &vn.name);
            cx.f.error(
                &path.key("peer"),
                format!("`{peer}` is not an edge of VN `{vn}`: add it to the VN's edges"),
            );
        }
        if let Some(mac) = mac {
            mappings.push(Mapping { mac, ips, peer });
        }
    }
    mappings
}

/// Fills in what the underlay leaves: over the smallest port and the longest outer header
/// that packets of the network can have.
pub(super) fn inner_mtus(
    cx: &mut Context<'_>,
    vns: &mut [Vn],
    peers: &[Peer],
    underlay: &Underlay,
) {
    let list = KeyPath::root().key("vns");
    let mtu = underlay.ports.iter().map(|port| port.mtu).min();
    for (i, vn) in vns.iter_mut().enumerate() {
        let edges = vn.edges.iter().filter_map(|peer| peers.get(peer.index()));
        let ipv6 = match vn.edges.is_empty() {
            // Edges may come later; tenants' MTUs do not change under them.
            true => underlay.local.iter().any(|ip| ip.is_ipv6()),
            false => edges
                .flat_map(|peer| &peer.addresses)
                .any(|ip| ip.is_ipv6()),
        };
        let mtu = mtu.unwrap_or(defaults::MTU as u16);
        vn.inner_mtu = inner_mtu(mtu, ipv6, vn.protection);
        if vn.inner_mtu < IPV6_MIN_MTU {
            cx.f.warn(
                &list.index(i),
                format!(
                    "an underlay of {mtu} bytes leaves tenants of VN `{}` {}: less than the \
                     {IPV6_MIN_MTU} that IPv6 needs",
                    vn.name, vn.inner_mtu
                ),
            );
        }
    }
}

/// The largest tenant packet whose tunnel packet is no larger than `mtu`.
fn inner_mtu(mtu: u16, ipv6: bool, protection: Protection) -> u16 {
    let wrapping = Wrapping {
        ip: if ipv6 { IpVersion::V6 } else { IpVersion::V4 },
        // VXLAN's header is as long.
        encapsulation: vswitch_net::Encapsulation::Geneve,
        protection: match protection {
            Protection::None => mtu::Protection::None,
            Protection::Confidential | Protection::Integrity => mtu::Protection::Esp,
        },
    };
    u16::try_from(wrapping.inner_mtu(mtu.into())).unwrap_or(u16::MAX)
}

/// Lowers the MTU of networks to that of the VLANs attached to them.
pub(super) fn attached_mtus(
    cx: &mut Context<'_>,
    vns: &mut [Vn],
    ports: &[Port],
    devices: &[Device],
) {
    for port in ports {
        let Attachment::Vlan(vlan) = &port.attachment else {
            continue;
        };
        let device = devices.get(usize::from(vlan.device.0));
        let vn = vns.get_mut(port.vn.index());
        if let (Some(device), Some(vn)) = (device, vn) {
            vn.inner_mtu = vn.inner_mtu.min(device.mtu);
        }
    }
    for (i, vn) in vns.iter().enumerate() {
        let path = KeyPath::root().key("vns").index(i);
        if vn.protection == Protection::None && !vn.edges.is_empty() {
            cx.f.warn(
                &path.key("protection"),
                format!("VN `{}` is not protected: anybody on the underlay reads and forges its packets", vn.name),
            );
        }
    }
}
