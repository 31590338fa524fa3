//! A configuration as a list of named things with plain fields, complete with defaults: what
//! two of them are compared by, and what an operator is shown. Keys appear by fingerprint.

use std::fmt::Display;

use crate::manage::config::{
    AllowedIps, Attachment, Authority, Config, Direction, Encapsulation, Idle, Memory, Model, Peer,
    Port, Protection, SecurityAssociation, Source, UnderlayPort, UnknownUnicast, VhostMode, Vn,
};

/// A field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// One thing.
    One(String),
    /// Several, in any order.
    Set(Vec<String>),
    /// Several, whose order matters.
    List(Vec<String>),
}

/// A thing that has a name among those of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// `port`, `vn` and so on.
    pub kind: &'static str,
    /// Unique in its kind; empty where there is one only.
    pub name: String,
    /// In a fixed order.
    pub fields: Vec<(&'static str, Value)>,
}

fn one(value: impl Display) -> Value {
    Value::One(value.to_string())
}

fn set<T: Display>(values: impl IntoIterator<Item = T>) -> Value {
    Value::Set(values.into_iter().map(|v| v.to_string()).collect())
}

fn list<T: Display>(values: impl IntoIterator<Item = T>) -> Value {
    Value::List(values.into_iter().map(|v| v.to_string()).collect())
}

fn or(value: Option<impl Display>, none: &str) -> Value {
    Value::One(value.map_or_else(|| none.to_owned(), |v| v.to_string()))
}

fn yes(value: bool) -> Value {
    one(if value { "yes" } else { "no" })
}

/// All things of a configuration.
pub(super) fn objects(config: &Config) -> Vec<Object> {
    let model: &Model = config;
    let mut objects = node(model);
    objects.extend(model.underlay.ports.iter().map(underlay_port));
    objects.extend(model.devices.iter().map(|device| Object {
        kind: "device",
        name: device.name.clone(),
        fields: vec![("device", one(&device.device)), ("mtu", one(device.mtu))],
    }));
    objects.extend(model.peers.iter().map(peer));
    objects.extend(model.vns.iter().map(|vn| network(model, vn)));
    objects.extend(model.ports.iter().map(|p| port(model, p)));
    let sas = model.security_associations.iter();
    objects.extend(sas.map(|sa| association(model, sa)));
    objects
}

fn node(model: &Model) -> Vec<Object> {
    let single = |kind, fields| Object {
        kind,
        name: String::new(),
        fields,
    };
    let memory = match model.eal.memory {
        Memory::Auto => "auto",
        Memory::Hugepages => "hugepages",
        Memory::NoHuge => "no-huge",
    };
    let idle = match model.workers.idle {
        Idle::Poll => "poll",
        Idle::Yield => "yield",
    };
    let routes = model.underlay.routes.iter();
    vec![
        single("nve", vec![("name", one(&model.name))]),
        single(
            "eal",
            vec![
                ("memory", one(memory)),
                ("memory-mb", one(model.eal.memory_mb)),
                ("file-prefix", one(&model.eal.file_prefix)),
                ("args", list(&model.eal.args)),
            ],
        ),
        single(
            "workers",
            vec![
                ("cores", list(&model.workers.cores)),
                ("idle", one(idle)),
                ("aead", one(model.workers.aead.name())),
            ],
        ),
        single(
            "mempool",
            vec![
                ("mbufs", one(model.mempool.mbufs)),
                ("data-room", one(model.mempool.data_room)),
                ("tenant-mbufs", one(model.mempool.tenant_mbufs)),
            ],
        ),
        single("state-dir", vec![("path", one(model.state_dir.display()))]),
        single("api", vec![("socket", one(model.api_socket.display()))]),
        single(
            "metrics",
            vec![("listen", or(model.metrics_listen, "none"))],
        ),
        single(
            "security-log",
            vec![(
                "file",
                or(model.security_log.as_ref().map(|f| f.display()), "stderr"),
            )],
        ),
        single(
            "keys",
            vec![("allow-key-export", yes(model.allow_key_export))],
        ),
        single("authority", authority(model.authority.as_ref())),
        single(
            "underlay",
            vec![
                ("esp-port", one(model.underlay.esp_port)),
                ("kernel-rate", one(model.underlay.kernel_rate)),
                ("local", list(&model.underlay.local)),
                (
                    "routes",
                    set(routes.map(|r| format!("{} via {}", r.to, r.via))),
                ),
                ("ports", list(model.underlay.ports.iter().map(|p| &p.name))),
            ],
        ),
        single(
            "devices",
            vec![("names", list(model.devices.iter().map(|d| &d.name)))],
        ),
    ]
}

fn authority(authority: Option<&Authority>) -> Vec<(&'static str, Value)> {
    let Some(authority) = authority else {
        return vec![("servers", list::<String>([]))];
    };
    vec![
        ("servers", list(&authority.servers)),
        ("certificate", one(authority.certificate.display())),
        ("private-key", one(authority.private_key.display())),
        ("bundle", one(authority.bundle.display())),
        ("listen", one(authority.listen)),
        ("lease-end", one(authority.lease_end.name())),
        ("queries", one(authority.queries)),
        ("port-queries", one(authority.port_queries)),
        ("max-sas", one(authority.max_sas)),
        ("idle", one(authority.idle)),
        ("rekey", one(authority.rekey)),
        ("rekey-limit", one(authority.rekey_limit)),
        ("rekey-blocks", one(authority.rekey_blocks)),
        ("rekey-packets", one(authority.rekey_packets)),
    ]
}

fn underlay_port(port: &UnderlayPort) -> Object {
    let neighbours = port.neighbours.iter();
    Object {
        kind: "underlay-port",
        name: port.name.clone(),
        fields: vec![
            ("device", one(&port.device)),
            ("mtu", one(port.mtu)),
            ("queues", or(port.queues, "auto")),
            ("addresses", set(&port.addresses)),
            ("tap", or(port.tap.as_ref(), "none")),
            (
                "neighbours",
                set(neighbours.map(|n| format!("{} at {}", n.address, n.mac))),
            ),
        ],
    }
}

fn peer(peer: &Peer) -> Object {
    let encapsulation = match peer.encapsulation {
        Encapsulation::Geneve => "geneve",
        Encapsulation::Vxlan => "vxlan",
    };
    Object {
        kind: "peer",
        name: peer.name.clone(),
        fields: vec![
            ("addresses", list(&peer.addresses)),
            ("encapsulation", one(encapsulation)),
            ("esp-source-port", or(peer.esp_source_port, "auto")),
            ("foreign", yes(peer.foreign)),
        ],
    }
}

/// A MAC address and what may be behind it.
fn placed(mac: impl Display, ips: &[impl Display]) -> String {
    let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
    match ips.is_empty() {
        true => mac.to_string(),
        false => format!("{mac} ({})", ips.join(" ")),
    }
}

fn network(model: &Model, vn: &Vn) -> Object {
    let peer = |id: &crate::manage::config::PeerId| {
        model.peers.get(id.index()).map_or("?", |p| p.name.as_str())
    };
    let mappings = vn.mappings.iter();
    Object {
        kind: "vn",
        name: vn.name.clone(),
        fields: vec![
            (
                "vni",
                match vn.source {
                    Source::File => one(vn.vni.get()),
                    Source::Awaited | Source::Authority => one("the authority's"),
                },
            ),
            (
                "protection",
                one(match vn.protection {
                    Protection::Confidential => "confidential",
                    Protection::Integrity => "integrity",
                    Protection::None => "none",
                }),
            ),
            (
                "unknown-unicast",
                one(match vn.unknown_unicast {
                    UnknownUnicast::Drop => "drop",
                    UnknownUnicast::Flood => "flood",
                }),
            ),
            ("learning", yes(vn.learning)),
            ("learning-age", one(vn.learning_age)),
            ("edges", set(vn.edges.iter().map(peer))),
            (
                "mappings",
                set(mappings.map(|m| format!("{} at {}", placed(m.mac, &m.ips), peer(&m.peer)))),
            ),
        ],
    }
}

fn port(model: &Model, port: &Port) -> Object {
    let vn = model.vns.get(port.vn.index());
    let mut fields = vec![("vn", one(vn.map_or("?", |vn| vn.name.as_str())))];
    match &port.attachment {
        Attachment::Vhost(vhost) => fields.extend([
            ("socket", one(vhost.socket.display())),
            (
                "mode",
                one(match vhost.mode {
                    VhostMode::Client => "client",
                    VhostMode::Server => "server",
                }),
            ),
            ("queues", one(vhost.queues)),
            ("owner", or(vhost.owner, "unchanged")),
            ("group", or(vhost.group, "unchanged")),
            ("permissions", one(format!("{:04o}", vhost.permissions))),
            ("peer-uid", or(vhost.peer_uid, "any")),
        ]),
        Attachment::Vlan(vlan) => {
            let device = model.devices.get(usize::from(vlan.device.0));
            let device = device.map_or("?", |device| device.name.as_str());
            fields.push(("vlan", one(format!("{device}.{}", vlan.vid))));
        }
    }
    let addresses = port.addresses.iter().map(|address| match &address.ips {
        AllowedIps::Any => address.mac.to_string(),
        AllowedIps::Only(ips) => placed(address.mac, ips),
    });
    fields.extend([
        ("addresses", set(addresses)),
        ("learning", yes(port.learning)),
        ("bum-rate", one(port.bum_rate)),
        ("worker", or(port.worker, "any")),
    ]);
    Object {
        kind: "port",
        name: port.name.clone(),
        fields,
    }
}

fn association(model: &Model, sa: &SecurityAssociation) -> Object {
    let vn = model.vns.get(sa.vn.index()).map_or("?", |v| &*v.name);
    let peer = model.peers.get(sa.peer.index()).map_or("?", |p| &*p.name);
    let spi = format!("{:#010x}", sa.spi.get());
    let mut fields = Vec::new();
    let (kind, name) = match sa.direction {
        // One of each worker to each peer: a new SPI and key are a change of it.
        Direction::Outbound => {
            fields.push(("spi", one(spi)));
            ("sa", format!("outbound {vn}/{peer} worker {}", sa.worker))
        }
        // Several may be open at a time, told apart by SPI.
        Direction::Inbound => {
            fields.push(("worker", one(sa.worker)));
            ("sa", format!("inbound {vn}/{peer} spi {spi}"))
        }
    };
    fields.extend([
        ("algorithm", one(sa.algorithm.name())),
        ("key", one(sa.key.fingerprint())),
        ("esn", yes(sa.esn)),
    ]);
    match sa.direction {
        Direction::Outbound => fields.extend([
            ("soft-limit", one(sa.limits.soft)),
            ("hard-limit", one(sa.limits.hard)),
        ]),
        Direction::Inbound => fields.push(("replay-window", one(sa.replay_window))),
    }
    Object { kind, name, fields }
}
