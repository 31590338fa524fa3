//! Tables, JSON and sentences.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::Subcommand;
use serde_json::{Value, json};
use vswitch_control::message::operator::{
    AddressLine, AuditLine, Change, DeclaredLine, EdgeLine, OperatorLine, VnLine,
};
use vswitch_control::message::overlay::{Ips, Mapping, Placement};
use vswitch_control::types::VnName;

use super::table::Table;
use crate::client::{Client, ClientError};

/// What can be shown.
#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// The server that answers: its store, and what it counts.
    Server,
    /// All networks.
    Vns,
    /// All edges: where they are, their leases, who is revoked.
    Edges,
    /// What is registered in a network, or in all.
    Mappings {
        /// Which network.
        vn: Option<VnName>,
    },
    /// What is placed in a network, or in all.
    Placements {
        /// Which network.
        vn: Option<VnName>,
    },
    /// What operators did, newest first.
    Audit,
    /// Which edge has which tunnel address, and whether that is declared.
    Addresses,
    /// Where edges may be, as far as it is declared.
    Declared,
    /// Operators without rights.
    Operators,
}

fn ips(ips: &Ips) -> Value {
    ips.iter().map(|ip| Value::String(ip.to_string())).collect()
}

fn vns(lines: &[VnLine]) -> Table {
    let rows = lines.iter().map(|line| {
        let settings = &line.settings;
        vec![
            json!(line.vn),
            json!(settings.vni.get()),
            json!(settings.protection.as_str()),
            json!(settings.lease_end.as_str()),
            json!(settings.admission.as_str()),
            json!(line.epoch.0),
            json!(line.version.0),
            json!(line.members),
            json!(line.joined),
            json!(line.placements),
            json!(line.mappings),
        ]
    });
    Table {
        heads: &[
            "network",
            "vni",
            "protection",
            "lease-end",
            "admission",
            "epoch",
            "version",
            "members",
            "joined",
            "placed",
            "mapped",
        ],
        rows: rows.collect(),
    }
}

fn edges(lines: &[EdgeLine]) -> Table {
    let rows = lines.iter().map(|line| {
        let endpoint = line.endpoint.as_ref();
        vec![
            json!(line.nve),
            json!(line.connected),
            json!(line.lease),
            json!(line.vns),
            endpoint.map_or(Value::Null, |endpoint| {
                endpoint
                    .tunnel_addresses
                    .iter()
                    .map(|ip| json!(ip))
                    .collect()
            }),
            endpoint.map_or(Value::Null, |endpoint| json!(endpoint.control_address)),
            line.revoked.as_ref().map_or(Value::Null, |why| {
                json!(if why.as_str().is_empty() {
                    "revoked"
                } else {
                    why.as_str()
                })
            }),
        ]
    });
    Table {
        heads: &[
            "edge",
            "connected",
            "lease",
            "networks",
            "tunnel",
            "control",
            "revoked",
        ],
        rows: rows.collect(),
    }
}

fn mappings(of: &[(VnName, Vec<Mapping>)]) -> Table {
    let rows = of.iter().flat_map(|(vn, mappings)| {
        mappings.iter().map(move |mapping| {
            let mac = json!(mapping.mac.to_string());
            let generation = json!(mapping.generation.0);
            vec![
                json!(vn),
                mac,
                ips(&mapping.ips),
                json!(mapping.nve),
                generation,
            ]
        })
    });
    Table {
        heads: &["network", "mac", "ips", "edge", "generation"],
        rows: rows.collect(),
    }
}

fn placements(of: &[(VnName, Vec<Placement>)]) -> Table {
    let rows = of.iter().flat_map(|(vn, placements)| {
        placements.iter().map(move |place| {
            let mac = json!(place.mac.to_string());
            vec![
                json!(vn),
                mac,
                ips(&place.ips),
                json!(place.nve),
                json!(place.port),
            ]
        })
    });
    Table {
        heads: &["network", "mac", "ips", "edge", "port"],
        rows: rows.collect(),
    }
}

fn audit(lines: &[AuditLine]) -> Table {
    let rows = lines.iter().map(|line| {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(line.id.at);
        let at = humantime::format_rfc3339_millis(at).to_string();
        vec![json!(at), json!(line.who), json!(sentence(&line.change))]
    });
    Table {
        heads: &["when", "who", "what"],
        rows: rows.collect(),
    }
}

fn addresses(lines: &[AddressLine]) -> Table {
    let rows = lines.iter().map(|line| {
        let by = match line.declared {
            true => "declared",
            false => "first claim",
        };
        vec![json!(line.address), json!(line.nve), json!(by)]
    });
    Table {
        heads: &["address", "edge", "by"],
        rows: rows.collect(),
    }
}

fn declared(lines: &[DeclaredLine]) -> Table {
    let rows = lines.iter().map(|line| {
        let tunnels = line.places.tunnel_addresses.iter();
        let control = line.places.control.iter();
        vec![
            json!(line.nve),
            tunnels.map(|ip| json!(ip)).collect(),
            control.map(|prefix| json!(prefix)).collect(),
        ]
    });
    Table {
        heads: &["edge", "tunnel", "control"],
        rows: rows.collect(),
    }
}

fn operators(lines: &[OperatorLine]) -> Table {
    let rows = lines
        .iter()
        .map(|line| vec![json!(line.name), json!(line.by), json!(line.reason)]);
    Table {
        heads: &["operator", "revoked-by", "why"],
        rows: rows.collect(),
    }
}

async fn chosen(client: &mut Client, vn: Option<VnName>) -> Result<Vec<VnName>, ClientError> {
    match vn {
        Some(vn) => Ok(vec![vn]),
        None => Ok(client
            .vns()
            .await?
            .into_iter()
            .map(|line| line.vn)
            .collect()),
    }
}

/// Shows what was asked for.
pub(super) async fn show(client: &mut Client, what: What, json: bool) -> anyhow::Result<()> {
    let table = match what {
        What::Server => return server(client, json).await,
        What::Vns => vns(&client.vns().await?),
        What::Edges => edges(&client.edges().await?),
        What::Mappings { vn } => {
            let mut all = Vec::new();
            for vn in chosen(client, vn).await? {
                let own = client.mappings(&vn).await?;
                all.push((vn, own));
            }
            mappings(&all)
        }
        What::Placements { vn } => {
            let mut all = Vec::new();
            for vn in chosen(client, vn).await? {
                let own = client.placements(&vn).await?;
                all.push((vn, own));
            }
            placements(&all)
        }
        What::Audit => audit(&client.audit().await?),
        What::Addresses => addresses(&client.addresses().await?),
        What::Declared => declared(&client.declared().await?),
        What::Operators => operators(&client.operators().await?),
    };
    Ok(table.print(json)?)
}

async fn server(client: &mut Client, as_json: bool) -> anyhow::Result<()> {
    let server = client.server().await?;
    let mut lines = vec![
        ("identity", json!(server.name)),
        ("store", json!(server.store)),
        ("revision", json!(server.revision)),
        ("uptime", json!(server.uptime)),
    ];
    lines.extend(
        server
            .counters
            .iter()
            .map(|(name, value)| (name.as_str(), json!(value))),
    );
    if as_json {
        let object = lines
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        writeln!(io::stdout(), "{}", Value::Object(object))?;
        return Ok(());
    }
    for (name, value) in lines {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        writeln!(io::stdout(), "{name:26}{value}")?;
    }
    Ok(())
}

/// Shows one network.
pub(super) async fn network(client: &mut Client, vn: &VnName, json: bool) -> anyhow::Result<()> {
    let line = client.vns().await?.into_iter().find(|line| line.vn == *vn);
    let Some(line) = line else {
        anyhow::bail!("there is no network {vn}")
    };
    let members = client.members(vn).await?;
    let rows = members
        .iter()
        .map(|member| vec![json!(member.nve), json!(member.joined)]);
    let members = Table {
        heads: &["member", "joined"],
        rows: rows.collect(),
    };
    let placed = placements(&[(vn.clone(), client.placements(vn).await?)]);
    let mapped = mappings(&[(vn.clone(), client.mappings(vn).await?)]);
    let all = [vns(&[line]), members, placed, mapped];
    if json {
        let [settings, members, placements, mappings] = all.map(|table| table.json());
        let whole = json!({"network": settings, "members": members, "placements": placements, "mappings": mappings});
        writeln!(io::stdout(), "{whole}")?;
        return Ok(());
    }
    let text = all.map(|table| table.text()).join("\n");
    writeln!(io::stdout(), "{}", text.trim_end())?;
    Ok(())
}

/// What a change does, in words.
pub(super) fn sentence(change: &Change) -> String {
    let list = |ips: &Ips| {
        ips.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    match change {
        Change::VnAdd { vn, settings } => format!("add network {vn}, VNI {}", settings.vni),
        Change::VnSet { vn, settings } => format!(
            "set network {vn}: {}, {} without lease, {}",
            settings.protection, settings.lease_end, settings.admission
        ),
        Change::VnRemove { vn } => format!("remove network {vn}"),
        Change::MemberAdd { vn, nve } => format!("add member {nve} to {vn}"),
        Change::MemberRemove { vn, nve } => format!("remove member {nve} from {vn}"),
        Change::PlacementAdd { vn, placement } => {
            let Placement {
                mac,
                ips,
                nve,
                port,
            } = placement;
            format!("place {mac} [{}] of {vn} on {nve} port {port}", list(ips))
        }
        Change::PlacementRemove { vn, mac } => format!("remove placement of {mac} in {vn}"),
        Change::PlacementMove { vn, mac, nve, .. } => format!("move {mac} of {vn} to {nve}"),
        Change::Revoke { nve, reason } if reason.as_str().is_empty() => format!("revoke {nve}"),
        Change::Revoke { nve, reason } => format!("revoke {nve}: {reason}"),
        Change::Unrevoke { nve } => format!("unrevoke {nve}"),
        Change::Release { nve } => format!("release {nve}"),
        Change::EdgeSet { nve, places } => {
            let tunnels: Vec<_> = places
                .tunnel_addresses
                .iter()
                .map(ToString::to_string)
                .collect();
            let control: Vec<_> = places.control.iter().map(ToString::to_string).collect();
            let mut text = format!("declare edge {nve} at {}", tunnels.join(" "));
            if !control.is_empty() {
                let _ = write!(text, ", control {}", control.join(" "));
            }
            text
        }
        Change::EdgeUnset { nve } => format!("declare edge {nve} no more"),
        Change::OperatorRevoke { name, reason } if reason.as_str().is_empty() => {
            format!("revoke operator {name}")
        }
        Change::OperatorRevoke { name, reason } => format!("revoke operator {name}: {reason}"),
        Change::OperatorUnrevoke { name } => format!("unrevoke operator {name}"),
    }
}
