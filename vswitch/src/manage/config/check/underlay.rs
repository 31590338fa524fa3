//! `underlay`: the ports to the other edges, their addresses, static routes and neighbours.

use std::net::IpAddr;

use super::super::defaults;
use super::super::findings::{Findings, Once};
use super::super::model::{Neighbour, Route, Underlay, UnderlayPort};
use super::super::names::is_interface;
use super::super::problem::KeyPath;
use super::super::raw;
use super::super::scalars::Auto;
use super::super::types::IpPrefix;
use super::Context;
use super::devices::{device_string, mtu};

/// UDP ports of the overlay headers: RFC 8926, section 3.3; RFC 7348, section 5.
const OVERLAY_PORTS: [(u16, &str); 2] = [(6081, "Geneve"), (4789, "VXLAN")];

pub(super) fn check<'a>(
    cx: &mut Context<'a>,
    raw: Option<&'a raw::Underlay>,
    used: &mut Once<&'a str>,
) -> Underlay {
    let path = KeyPath::root().key("underlay");
    let list = path.key("ports");
    let mut addresses = Once::new();
    let mut taps = Once::new();
    let mut neighbours = Once::new();
    let mut ports = Vec::new();
    for (i, port) in raw.iter().flat_map(|u| &u.ports).enumerate() {
        let path = list.index(i);
        device_string(cx.f, &path.key("device"), &port.device, used);
        ports.push(UnderlayPort {
            name: port.name.clone(),
            device: port.device.clone(),
            mtu: mtu(cx.f, &path.key("mtu"), port.mtu),
            queues: queues(cx, &path.key("queues"), port.queues),
            addresses: port_addresses(cx.f, &path, port, &mut addresses),
            tap: tap(cx.f, &path.key("tap"), port, &mut taps),
            neighbours: port_neighbours(cx.f, &path, port, &mut neighbours),
        });
    }
    let esp_port = raw.and_then(|u| u.esp_port).unwrap_or(defaults::ESP_PORT);
    let esp_port = cx.f.within(&path.key("esp-port"), esp_port, 1..=65535, "");
    if let Some((_, name)) = OVERLAY_PORTS.iter().find(|(port, _)| *port == esp_port) {
        cx.f.error(
            &path.key("esp-port"),
            format!("{esp_port} is the port of {name} in the clear"),
        );
    }
    let kernel_rate = raw
        .and_then(|u| u.kernel_rate)
        .unwrap_or(defaults::KERNEL_RATE);
    Underlay {
        esp_port,
        kernel_rate: cx.f.within(
            &path.key("kernel-rate"),
            kernel_rate,
            300..=100_000_000,
            " packets per second",
        ),
        local: local(cx.f, &path.key("local"), raw, &ports),
        routes: routes(cx.f, &path.key("routes"), raw, &ports),
        ports,
    }
}

fn queues(cx: &mut Context<'_>, path: &KeyPath, written: Option<Auto>) -> Option<u16> {
    let Some(Auto::Number(queues)) = written else {
        return None;
    };
    let workers = cx.workers as u64;
    if queues > workers {
        // A queue without an owner would swallow what RSS puts into it.
        cx.f.error(
            path,
            format!("{queues} queues for {workers} workers: each needs a worker that owns it"),
        );
    }
    Some(cx.f.within(path, queues, 1..=1024, "queues"))
}

fn port_addresses(
    f: &mut Findings,
    path: &KeyPath,
    port: &raw::UnderlayPort,
    taken: &mut Once<IpAddr>,
) -> Vec<IpPrefix> {
    let mut addresses = Vec::new();
    for (i, text) in port.addresses.iter().enumerate() {
        let path = path.key("addresses").index(i);
        let Some(prefix) = prefix(f, &path, text) else {
            continue;
        };
        if f.ip(&path, &prefix.addr.to_string()).is_some() {
            taken.claim(f, &path, prefix.addr, prefix.addr);
            addresses.push(prefix);
        }
    }
    addresses
}

fn tap<'a>(
    f: &mut Findings,
    path: &KeyPath,
    port: &'a raw::UnderlayPort,
    taken: &mut Once<&'a str>,
) -> Option<String> {
    let name = port.tap.as_deref()?;
    if !is_interface(name) {
        f.error(
            path,
            format!(
                "{name:?} cannot be the name of an interface: at most 15 letters, \
                               digits, `.`, `_` or `-`"
            ),
        );
    }
    taken.claim(f, path, name, format_args!("the interface {name}"));
    Some(name.to_owned())
}

fn port_neighbours(
    f: &mut Findings,
    path: &KeyPath,
    port: &raw::UnderlayPort,
    taken: &mut Once<IpAddr>,
) -> Vec<Neighbour> {
    let mut neighbours = Vec::new();
    for (i, neighbour) in port.neighbours.iter().enumerate() {
        let path = path.key("neighbours").index(i);
        let address = f.ip(&path.key("address"), &neighbour.address);
        let mac = f.mac(&path.key("mac"), &neighbour.mac);
        if let Some(address) = address {
            taken.claim(
                f,
                &path.key("address"),
                address,
                format_args!("the neighbour {address}"),
            );
        }
        if let (Some(address), Some(mac)) = (address, mac) {
            neighbours.push(Neighbour { address, mac });
        }
    }
    neighbours
}

fn prefix(f: &mut Findings, path: &KeyPath, text: &str) -> Option<IpPrefix> {
    match text.parse() {
        Ok(prefix) => Some(prefix),
        Err(_) => {
            f.error(
                path,
                format!("{text:?} is not an address with a prefix length, such as 192.0.2.1/24"),
            );
            None
        }
    }
}

fn local(
    f: &mut Findings,
    path: &KeyPath,
    raw: Option<&raw::Underlay>,
    ports: &[UnderlayPort],
) -> Vec<IpAddr> {
    let on_ports = || {
        ports
            .iter()
            .flat_map(|port| &port.addresses)
            .map(|a| a.addr)
    };
    let Some(written) = raw.and_then(|u| u.local.as_deref()) else {
        let v4 = on_ports().find(IpAddr::is_ipv4);
        let v6 = on_ports().find(IpAddr::is_ipv6);
        return v4.into_iter().chain(v6).collect();
    };
    let mut taken = Once::new();
    let mut local = Vec::new();
    for (i, text) in written.iter().enumerate() {
        let path = path.index(i);
        let Some(ip) = f.ip(&path, text) else {
            continue;
        };
        taken.claim(f, &path, ip, ip);
        if !on_ports().any(|on| on == ip) {
            f.warn(
                &path,
                format!("{ip} is on no port of the underlay: the network must route it here"),
            );
        }
        local.push(ip);
    }
    local
}

fn routes(
    f: &mut Findings,
    list: &KeyPath,
    raw: Option<&raw::Underlay>,
    ports: &[UnderlayPort],
) -> Vec<Route> {
    let mut taken = Once::new();
    let mut routes = Vec::new();
    for (i, route) in raw.iter().flat_map(|u| &u.routes).enumerate() {
        let path = list.index(i);
        let to = prefix(f, &path.key("to"), &route.to);
        let via = f.ip(&path.key("via"), &route.via);
        if let Some(to) = to {
            if to.network() != to {
                f.error(
                    &path.key("to"),
                    format!(
                        "{to} has bits beyond its prefix: did you mean {}?",
                        to.network()
                    ),
                );
            }
            taken.claim(
                f,
                &path.key("to"),
                to.network(),
                format_args!("a route to {to}"),
            );
        }
        if let (Some(to), Some(via)) = (to, via) {
            if to.addr.is_ipv4() != via.is_ipv4() {
                f.error(
                    &path.key("via"),
                    format!("{via} is not of the family of {to}"),
                );
            }
            routes.push(Route { to, via });
        }
    }
    if !routes.is_empty() && !ports.iter().any(|port| port.tap.is_none()) {
        f.warn(
            list,
            "are not used: every port has a tap, so the kernel's routes are",
        );
    }
    routes
}
