//! `peers`: the other edges.

use std::net::IpAddr;

use super::super::defaults;
use super::super::findings::Once;
use super::super::model::{Peer, Underlay};
use super::super::problem::KeyPath;
use super::super::raw;
use super::super::scalars::Auto;
use super::Context;

pub(super) fn check(cx: &mut Context<'_>, raw: &[raw::Peer], underlay: &Underlay) -> Vec<Peer> {
    let list = KeyPath::root().key("peers");
    let mut taken = Once::new();
    let mut peers = Vec::new();
    for (i, peer) in raw.iter().enumerate() {
        let path = list.index(i);
        let foreign = peer.foreign.unwrap_or(defaults::FOREIGN);
        if peer.addresses.is_empty() {
            cx.f.error(&path.key("addresses"), "is empty: where is the peer?");
        }
        let mut addresses = Vec::new();
        for (j, text) in peer.addresses.iter().enumerate() {
            let path = path.key("addresses").index(j);
            if let Some(ip) = cx.f.ip(&path, text) {
                taken.claim(cx.f, &path, ip, ip);
                endpoint(cx, &path, ip, underlay);
                addresses.push(ip);
            }
        }
        peers.push(Peer {
            name: peer.name.clone(),
            addresses,
            encapsulation: peer.encapsulation.unwrap_or(defaults::ENCAPSULATION),
            esp_source_port: source_port(cx, &path.key("esp-source-port"), peer, foreign),
            foreign,
        });
    }
    peers
}

/// An address packets can be sent to from here.
fn endpoint(cx: &mut Context<'_>, path: &KeyPath, ip: IpAddr, underlay: &Underlay) {
    let own = underlay.ports.iter().flat_map(|port| &port.addresses);
    if underlay.local.contains(&ip) || own.map(|a| a.addr).any(|a| a == ip) {
        cx.f.error(path, format!("{ip} is this edge's own address"));
    } else if !underlay.local.iter().any(|a| a.is_ipv4() == ip.is_ipv4()) {
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        cx.f.error(
            path,
            format!("this edge has no {family} address to reach {ip} from: see underlay.local"),
        );
    }
}

fn source_port(
    cx: &mut Context<'_>,
    path: &KeyPath,
    peer: &raw::Peer,
    foreign: bool,
) -> Option<u16> {
    let Some(Auto::Number(port)) = peer.esp_source_port else {
        return None;
    };
    if !foreign {
        cx.f.error(
            path,
            "a fixed port is for foreign peers (`foreign: true`): with `auto` the network \
             spreads associations over paths and queues",
        );
    }
    Some(cx.f.within(path, port, 1..=65535, ""))
}
