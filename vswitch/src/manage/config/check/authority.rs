//! `authority`: where networks that the file does not describe come from.

use std::net::SocketAddr;

use super::super::defaults;
use super::super::findings::Once;
use super::super::model::{Authority, Underlay};
use super::super::problem::KeyPath;
use super::super::raw;
use super::{Context, absolute};

/// More servers of one authority than this nobody runs.
const MAX_SERVERS: usize = 16;

pub(super) fn check(
    cx: &mut Context<'_>,
    raw: Option<&raw::Authority>,
    underlay: &Underlay,
) -> Option<Authority> {
    let raw = raw?;
    let path = KeyPath::root().key("authority");
    let list = path.key("servers");
    let (mut servers, mut taken) = (Vec::new(), Once::new());
    for (i, text) in raw.servers.iter().enumerate() {
        let path = list.index(i);
        if let Some(server) = endpoint(cx, &path, text) {
            taken.claim(cx.f, &path, server, format_args!("{server}"));
            servers.push(server);
        }
    }
    match raw.servers.len() {
        0 => cx.f.error(&list, "no server: write where the authority is"),
        n if n > MAX_SERVERS => {
            let message = format!("{n} are too many: at most {MAX_SERVERS}");
            cx.f.error(&list, message);
        }
        _ => {}
    }
    let listen = endpoint(cx, &path.key("listen"), &raw.listen);
    if let Some(listen) = listen {
        let ports = underlay.ports.iter().flat_map(|port| &port.addresses);
        let local = underlay.local.contains(&listen.ip())
            || ports.into_iter().any(|address| address.addr == listen.ip());
        if !local && !listen.ip().is_loopback() {
            cx.f.warn(
                &path.key("listen"),
                format!(
                    "{} is no address of the underlay: other edges reach it by another network",
                    listen.ip()
                ),
            );
        }
        for server in servers.iter().filter(|s| s.is_ipv4() != listen.is_ipv4()) {
            cx.f.error(
                &list,
                format!("{server} cannot be reached from {listen}, an address of the other family"),
            );
        }
    }
    let mut file = |key, text: &str| match text.starts_with('/') {
        true => absolute(cx.f, &path.key(key), text),
        false => cx.base.join(text),
    };
    let certificate = file("certificate", &raw.certificate);
    let private_key = file("private-key", &raw.private_key);
    let bundle = file("bundle", &raw.bundle);
    let mut number = |key, value: Option<u64>, default, range, unit: &str| -> u32 {
        let value = value.unwrap_or(default);
        cx.f.within(&path.key(key), value, range, unit)
    };
    let queries = number(
        "queries",
        raw.queries,
        defaults::QUERIES,
        1..=100_000,
        "per second",
    );
    let port_queries = number(
        "port-queries",
        raw.port_queries,
        defaults::PORT_QUERIES,
        1..=100_000,
        "per second",
    );
    let max_sas = number(
        "max-sas",
        raw.max_sas,
        defaults::MAX_SAS,
        1..=1_000_000,
        "associations",
    );
    // A month: a key that is not replaced so long was not meant to be.
    let idle = number(
        "idle",
        raw.idle,
        defaults::IDLE_SA,
        1..=2_592_000,
        "seconds",
    );
    let rekey = number(
        "rekey",
        raw.rekey,
        defaults::REKEY,
        5..=2_592_000,
        "seconds",
    );
    // Below, an SA would be closed while its replacement is still on time.
    let rekey_limit = number(
        "rekey-limit",
        raw.rekey_limit,
        u64::from(rekey) * 2,
        u64::from(rekey) + 5..=5_184_000,
        "seconds",
    );
    let rekey_blocks = cx.f.within(
        &path.key("rekey-blocks"),
        raw.rekey_blocks.unwrap_or(defaults::SOFT_LIMIT),
        1..=defaults::SOFT_LIMIT,
        "AES blocks",
    );
    // A packet is a block at least.
    let rekey_packets = cx.f.within(
        &path.key("rekey-packets"),
        raw.rekey_packets.unwrap_or(defaults::SOFT_LIMIT),
        1..=defaults::SOFT_LIMIT,
        "packets",
    );
    Some(Authority {
        servers,
        certificate,
        private_key,
        bundle,
        // An error was reported if there is none.
        listen: listen.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
        lease_end: raw.lease_end.unwrap_or(defaults::LEASE_END),
        queries,
        port_queries,
        max_sas,
        idle,
        rekey,
        rekey_limit,
        rekey_blocks,
        rekey_packets,
    })
}

/// An address that somebody can be reached at, with its port.
fn endpoint(cx: &mut Context<'_>, path: &KeyPath, text: &str) -> Option<SocketAddr> {
    let Ok(at) = text.parse::<SocketAddr>() else {
        let message = format!(
            "{text:?} is no address and port, such as 192.0.2.1:4600 or [2001:db8::1]:4600"
        );
        cx.f.error(path, message);
        return None;
    };
    if at.port() == 0 {
        cx.f.error(path, format!("{text:?} has port 0: write which one it is"));
    }
    cx.f.ip(path, &at.ip().to_string())?;
    Some(at)
}
