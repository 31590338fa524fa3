//! `ports`: the attachments of tenants.

use std::path::{Path, PathBuf};

use super::super::defaults;
use super::super::findings::Once;
use super::super::model::{AllowedIps, Attachment, Port, TenantAddress, Vhost, Vlan};
use super::super::names;
use super::super::problem::KeyPath;
use super::super::raw;
use super::super::scalars::{Account, FileMode};
use super::super::types::{DeviceId, VnId};
use super::{Context, socket};

const MAX_PORTS: usize = 1 << 16;
/// Queue pairs librte_vhost has room for (`VHOST_MAX_QUEUE_PAIRS`).
const MAX_QUEUES: u64 = 128;

/// Sockets and VLANs that are attached already.
struct Taken {
    sockets: Once<PathBuf>,
    vlans: Once<(usize, u16)>,
}

pub(super) fn check(cx: &mut Context<'_>, raw: &[raw::Port], api_socket: &Path) -> Vec<Port> {
    let list = KeyPath::root().key("ports");
    if raw.len() > MAX_PORTS {
        cx.f.error(
            &list,
            format!("{} are too many: at most {MAX_PORTS}", raw.len()),
        );
    }
    let mut taken = Taken {
        sockets: Once::new(),
        vlans: Once::new(),
    };
    let api = KeyPath::root().key("api").key("socket");
    taken.sockets.claim(cx.f, &api, api_socket.to_owned(), "");
    let mut ports = Vec::new();
    for (i, port) in raw.iter().enumerate() {
        let path = list.index(i);
        let vn = cx.vns.resolve(cx.f, &path.key("vn"), &port.vn);
        let attachment = attachment(cx, &path, port, &mut taken);
        let learning = port.learning.unwrap_or(defaults::LEARNING);
        if learning && port.vhost.is_some() {
            cx.f.error(
                &path.key("learning"),
                "is for VLANs: a virtual machine's addresses are its `addresses`, or it could \
                 take any other's",
            );
        }
        let addresses = addresses(cx, &path.key("addresses"), vn, &port.addresses);
        if port.addresses.is_empty() && !learning {
            cx.f.warn(
                &path,
                format!(
                    "port `{}` has no addresses: whatever it sends is dropped",
                    port.name
                ),
            );
        }
        let rate = port.bum_rate.unwrap_or(defaults::BUM_RATE);
        let bum_rate = cx.f.within(
            &path.key("bum-rate"),
            rate,
            1..=100_000_000,
            "packets per second",
        );
        let worker = port
            .worker
            .map(|worker| cx.worker(&path.key("worker"), worker));
        if let (Some(vn), Some(attachment)) = (vn, attachment) {
            ports.push(Port {
                name: port.name.clone(),
                vn: VnId(u16::try_from(vn).unwrap_or(u16::MAX)),
                attachment,
                addresses,
                learning,
                bum_rate,
                worker,
            });
        }
    }
    ports
}

fn addresses(
    cx: &mut Context<'_>,
    list: &KeyPath,
    vn: Option<usize>,
    raw: &[raw::TenantAddress],
) -> Vec<TenantAddress> {
    let mut addresses = Vec::new();
    for (i, address) in raw.iter().enumerate() {
        let path = list.index(i);
        let written = address.ips.as_deref();
        let (mac, ips) = cx.place(&path, vn, &address.mac, written.unwrap_or_default());
        if written.is_some_and(<[String]>::is_empty) {
            cx.f.error(
                &path.key("ips"),
                "is empty: leave `ips` out to allow every address",
            );
        }
        if let Some(mac) = mac {
            addresses.push(TenantAddress {
                mac,
                ips: match written {
                    None => AllowedIps::Any,
                    Some(_) => AllowedIps::Only(ips),
                },
            });
        }
    }
    addresses
}

fn attachment(
    cx: &mut Context<'_>,
    path: &KeyPath,
    port: &raw::Port,
    taken: &mut Taken,
) -> Option<Attachment> {
    let name = &port.name;
    match (&port.vhost, &port.vlan) {
        (Some(_), Some(_)) => {
            cx.f.error(
                path,
                format!("port `{name}` has both `vhost` and `vlan`: one port, one attachment"),
            );
            None
        }
        (None, None) => {
            cx.f.error(
                path,
                format!("port `{name}` has neither `vhost` nor `vlan`"),
            );
            None
        }
        (Some(raw), None) => vhost(cx, &path.key("vhost"), raw, taken).map(Attachment::Vhost),
        (None, Some(raw)) => vlan(cx, &path.key("vlan"), raw, taken).map(Attachment::Vlan),
    }
}

fn vlan(cx: &mut Context<'_>, path: &KeyPath, raw: &raw::Vlan, taken: &mut Taken) -> Option<Vlan> {
    // IEEE 802.1Q, table 9-2: 0 is no VLAN, 4095 is reserved.
    let vid = cx.f.within(&path.key("vid"), raw.vid, 1..=4094, "");
    let device = cx.devices.resolve(cx.f, &path.key("device"), &raw.device)?;
    let what = format_args!("VLAN {vid} of `{}`", raw.device);
    taken.vlans.claim(cx.f, path, (device, vid), what);
    Some(Vlan {
        device: DeviceId(u16::try_from(device).unwrap_or(u16::MAX)),
        vid,
    })
}

fn vhost(
    cx: &mut Context<'_>,
    path: &KeyPath,
    raw: &raw::Vhost,
    taken: &mut Taken,
) -> Option<Vhost> {
    let socket_path = path.key("socket");
    if !raw.socket.starts_with('/') && is_remote(&raw.socket) {
        cx.f.error(
            &socket_path,
            format!(
                "{:?} is not a path: a vhost socket is local, since only tenants of this host are \
                 attached; between a tenant elsewhere and this edge nothing would protect its \
                 packets (NVO3 security requirements, section 5.1)",
                raw.socket
            ),
        );
        return None;
    }
    let file = socket(cx.f, &socket_path, &raw.socket);
    let what = format!("the socket {}", file.display());
    taken.sockets.claim(cx.f, &socket_path, file.clone(), what);
    let queues = raw.queues.unwrap_or(defaults::VHOST_QUEUES);
    let max = u64::from(u32::MAX - 1);
    Some(Vhost {
        socket: file,
        mode: raw.mode.unwrap_or(defaults::VHOST_MODE),
        queues: cx
            .f
            .within(&path.key("queues"), queues, 1..=MAX_QUEUES, "queue pairs"),
        owner: account(cx, &path.key("owner"), raw.owner.as_ref(), Kind::User),
        group: account(cx, &path.key("group"), raw.group.as_ref(), Kind::Group),
        permissions: permissions(cx, &path.key("permissions"), raw.permissions.as_ref()),
        peer_uid: raw
            .peer_uid
            .map(|uid| cx.f.within(&path.key("peer-uid"), uid, 0..=max, "")),
    })
}

/// `tcp:host:port`, `vsock://…`, `host:port`: what is meant to lead to another machine.
fn is_remote(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        let port = rest.rsplit(':').next().unwrap_or(rest);
        let known = ["tcp", "udp", "vsock", "tls", "ssh", "inet"];
        known.contains(&scheme.to_lowercase().as_str())
            || rest.starts_with("//")
            || (!port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
    })
}

#[derive(Clone, Copy)]
enum Kind {
    User,
    Group,
}

fn account(
    cx: &mut Context<'_>,
    path: &KeyPath,
    written: Option<&Account>,
    kind: Kind,
) -> Option<u32> {
    match written? {
        Account::Number(number) => {
            // chown(2) takes the largest as "leave it".
            Some(cx.f.within(path, *number, 0..=u64::from(u32::MAX - 1), ""))
        }
        Account::Name(name) => {
            let (found, label, known) = match kind {
                Kind::User => (cx.accounts.user(name), "user", cx.accounts.user_names()),
                Kind::Group => (cx.accounts.group(name), "group", cx.accounts.group_names()),
            };
            if found.is_none() {
                let hint = match names::nearest(name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "a number is taken as well".to_owned(),
                };
                cx.f.error(
                    path,
                    format!("no {label} of this host is called `{name}`: {hint}"),
                );
            }
            found
        }
    }
}

fn permissions(cx: &mut Context<'_>, path: &KeyPath, written: Option<&FileMode>) -> u32 {
    let Some(FileMode(text)) = written else {
        return defaults::VHOST_PERMISSIONS;
    };
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o777 => {
            if mode & 0o002 != 0 {
                cx.f.warn(
                    path,
                    format!("{text}: every user of this host may attach to the port"),
                );
            }
            mode
        }
        _ => {
            cx.f.error(
                path,
                format!("{text:?} is not an octal mode such as \"0660\""),
            );
            defaults::VHOST_PERMISSIONS
        }
    }
}
