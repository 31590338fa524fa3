//! `nve`, `eal`, `workers`, `mempool`, `state-dir`, `api`, `metrics`, `security-log`,
//! `allow-key-export`: the edge itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::super::defaults;
use super::super::findings::Findings;
use super::super::model::{Device, Eal, Mempool, Underlay, Workers};
use super::super::problem::KeyPath;
use super::super::raw;
use super::super::scalars::Auto;
use super::super::types::Idle;
use super::{absolute, socket};

/// More than any machine has.
const MAX_WORKERS: usize = 256;
const MAX_CORE: u64 = 4095;
/// A tagged Ethernet header: what a buffer holds beside the IP packet.
const ETHERNET: u16 = 18;
/// Drivers want at least this much, or they split every frame (`RTE_MBUF_DEFAULT_DATAROOM`).
const SMALLEST_ROOM: u16 = 2048;
/// Larger frames are chained: buffers for the rare jumbo frame would waste memory on all.
const LARGEST_AUTO_ROOM: u16 = 9216;

/// EAL arguments that other keys decide.
const OURS: &[(&str, &str)] = &[
    ("-m", "eal.memory-mb"),
    ("--no-huge", "eal.memory"),
    ("--in-memory", "eal.memory"),
    ("--file-prefix", "eal.file-prefix"),
    ("-l", "workers.cores"),
    ("-c", "workers.cores"),
    ("--lcores", "workers.cores"),
    ("--main-lcore", "workers.cores"),
    ("--proc-type", "nothing: it is always primary"),
];

pub(super) fn workers(raw: &raw::File, f: &mut Findings) -> Workers {
    let path = KeyPath::root().key("workers");
    let section = raw.workers.clone().unwrap_or_default();
    let list = path.key("cores");
    let written = section.cores.as_deref().unwrap_or(defaults::CORES);
    let idle = section.idle.unwrap_or(defaults::IDLE);
    if written.is_empty() {
        f.error(&list, "is empty: at least one worker is needed");
    }
    if written.len() > MAX_WORKERS {
        f.error(
            &list,
            format!(
                "{} workers are too many: at most {MAX_WORKERS}",
                written.len()
            ),
        );
    }
    let mut cores: Vec<u16> = Vec::new();
    for (i, core) in written.iter().enumerate() {
        let core = f.within(&list.index(i), *core, 0..=MAX_CORE, "");
        if cores.contains(&core) && idle == Idle::Poll {
            f.warn(
                &list.index(i),
                format!(
                    "core {core} has more than one worker; with `idle: poll` they take turns \
                         only when the kernel makes them: set `idle: yield`"
                ),
            );
        }
        cores.push(core);
    }
    if cores.is_empty() {
        // Reported above; the checks that follow count on one.
        cores.push(0);
    }
    let aead = section.aead.unwrap_or(defaults::AEAD);
    Workers { cores, idle, aead }
}

pub(super) fn eal(raw: &raw::File, f: &mut Findings) -> Eal {
    let path = KeyPath::root().key("eal");
    let section = raw.eal.clone().unwrap_or_default();
    f.plain(&KeyPath::root().key("nve").key("name"), &raw.nve.name);
    let file_prefix = match section.file_prefix {
        Some(prefix) => {
            f.plain(&path.key("file-prefix"), &prefix);
            prefix
        }
        None => format!("{}{}", defaults::FILE_PREFIX, raw.nve.name),
    };
    for (i, arg) in section.args.iter().enumerate() {
        let path = path.key("args").index(i);
        let name = arg.split('=').next().unwrap_or(arg);
        if let Some((_, key)) = OURS.iter().find(|(ours, _)| *ours == name) {
            f.error(&path, format!("{name} is decided by {key}"));
        }
        if arg.is_empty() || arg.contains('\0') {
            f.error(&path, format!("{arg:?} is not an argument"));
        }
    }
    Eal {
        memory: section.memory.unwrap_or(defaults::MEMORY),
        memory_mb: f.within(
            &path.key("memory-mb"),
            section.memory_mb.unwrap_or(defaults::MEMORY_MB),
            64..=1 << 20,
            "MiB",
        ),
        file_prefix,
        args: section.args,
    }
}

pub(super) fn mempool(
    raw: &raw::File,
    f: &mut Findings,
    underlay: &Underlay,
    devices: &[Device],
) -> Mempool {
    let path = KeyPath::root().key("mempool");
    let section = raw.mempool.clone().unwrap_or_default();
    let mtus = underlay.ports.iter().map(|port| port.mtu);
    let largest = mtus.chain(devices.iter().map(|device| device.mtu)).max();
    Mempool {
        mbufs: f.within(
            &path.key("mbufs"),
            section.mbufs.unwrap_or(defaults::MBUFS),
            1024..=1 << 24,
            "buffers",
        ),
        data_room: match section.data_room.unwrap_or(Auto::Auto) {
            Auto::Number(bytes) => f.within(&path.key("data-room"), bytes, 2048..=32768, "bytes"),
            Auto::Auto => largest
                .unwrap_or_default()
                .saturating_add(ETHERNET)
                .clamp(SMALLEST_ROOM, LARGEST_AUTO_ROOM),
        },
        // Fewer than 65536: a chain of all of them still fits the counter of segments.
        tenant_mbufs: f.within(
            &path.key("tenant-mbufs"),
            section.tenant_mbufs.unwrap_or(defaults::TENANT_MBUFS),
            256..=65535,
            "buffers",
        ),
    }
}

pub(super) fn state_dir(raw: &raw::File, f: &mut Findings) -> PathBuf {
    let text = raw.state_dir.as_deref().unwrap_or(defaults::STATE_DIR);
    absolute(f, &KeyPath::root().key("state-dir"), text)
}

pub(super) fn allow_key_export(raw: &raw::File, f: &mut Findings) -> bool {
    let allowed = raw.allow_key_export.unwrap_or(defaults::ALLOW_KEY_EXPORT);
    if allowed {
        f.warn(
            &KeyPath::root().key("allow-key-export"),
            "root and the daemon's user may take this edge's keys with `vswitchctl keys export`: \
             set it to false when the laboratory work is done",
        );
    }
    allowed
}

pub(super) fn api_socket(raw: &raw::File, f: &mut Findings) -> PathBuf {
    let text = raw.api.as_ref().and_then(|api| api.socket.as_deref());
    let path = KeyPath::root().key("api").key("socket");
    socket(f, &path, text.unwrap_or(defaults::API_SOCKET))
}

pub(super) fn metrics_listen(raw: &raw::File, f: &mut Findings) -> Option<SocketAddr> {
    let text = raw.metrics.as_ref()?.listen.as_deref()?;
    let path = KeyPath::root().key("metrics").key("listen");
    let Ok(address) = text.parse::<SocketAddr>() else {
        f.error(
            &path,
            format!("`{text}` is no address and port, such as 127.0.0.1:9474 or [::1]:9474"),
        );
        return None;
    };
    if !address.ip().is_loopback() {
        f.warn(
            &path,
            "whoever reaches this address can read the metrics: names of ports, networks and \
             peers, and how much they send",
        );
    }
    Some(address)
}

pub(super) fn security_log(raw: &raw::File, f: &mut Findings) -> Option<PathBuf> {
    let text = raw.security_log.as_ref()?.file.as_deref()?;
    let path = KeyPath::root().key("security-log").key("file");
    Some(absolute(f, &path, text))
}
