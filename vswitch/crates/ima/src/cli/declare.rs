//! The declarative way: a file of what there is to be, and the changes that lead there. What is done
//! twice changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;
use vswitch_control::message::operator::{Change, Places, Text};
use vswitch_control::message::overlay::{
    Admission, Ips, LeaseEnd, Placement, Protection, VnSettings, Vni,
};
use vswitch_control::types::{Mac, NveName, PortName, VnName};

use crate::client::{Client, ClientError};

/// Why a file is no declaration.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// Not of its form.
    #[error(transparent)]
    Yaml(#[from] serde_yaml::Error),
    /// Two things that cannot be together.
    #[error("{0}")]
    Contradiction(String),
}

/// What there is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declaration {
    /// Networks by name.
    pub networks: BTreeMap<VnName, Network>,
    /// Where edges may be.
    pub edges: BTreeMap<NveName, Places>,
    /// Edges without rights, and why.
    pub revoked: BTreeMap<NveName, Text>,
}

/// One network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// What is the same for all members.
    pub settings: VnSettings,
    /// Edges that may join.
    pub members: BTreeSet<NveName>,
    /// What belongs where.
    pub placements: BTreeMap<Mac, Placement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    networks: BTreeMap<VnName, RawNetwork>,
    #[serde(default)]
    edges: BTreeMap<NveName, Places>,
    #[serde(default)]
    revoked: BTreeMap<NveName, Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawNetwork {
    vni: Vni,
    #[serde(default)]
    protection: Protection,
    #[serde(default)]
    lease_end: LeaseEnd,
    #[serde(default)]
    admission: Admission,
    #[serde(default)]
    members: BTreeSet<NveName>,
    #[serde(default)]
    placements: Vec<RawPlacement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlacement {
    mac: String,
    #[serde(default)]
    ips: Vec<IpAddr>,
    nve: NveName,
    port: PortName,
}

impl Declaration {
    /// Reads YAML.
    ///
    /// # Errors
    /// It is none, or contradicts itself.
    pub fn parse(text: &str) -> Result<Self, DeclareError> {
        let raw: Raw = serde_yaml::from_str(text)?;
        let wrong = |why: String| DeclareError::Contradiction(why);
        let mut networks = BTreeMap::new();
        for (name, raw) in raw.networks {
            let (mut placements, mut ips) = (BTreeMap::new(), BTreeSet::new());
            for place in raw.placements {
                let mac = super::mac(&place.mac).map_err(wrong)?;
                for ip in &place.ips {
                    if !ips.insert(*ip) {
                        return Err(wrong(format!("{name}: {ip} is placed twice")));
                    }
                }
                let placement = Placement {
                    mac,
                    ips: Ips::try_from(place.ips)
                        .map_err(|error| wrong(format!("{mac}: {error}")))?,
                    nve: place.nve,
                    port: place.port,
                };
                if placements.insert(mac, placement).is_some() {
                    return Err(wrong(format!("{name}: {mac} is placed twice")));
                }
            }
            let settings = VnSettings {
                vni: raw.vni,
                protection: raw.protection,
                lease_end: raw.lease_end,
                admission: raw.admission,
            };
            networks.insert(
                name,
                Network {
                    settings,
                    members: raw.members,
                    placements,
                },
            );
        }
        let mut owners = BTreeMap::new();
        for (nve, places) in &raw.edges {
            for ip in places.tunnel_addresses.iter() {
                if let Some(other) = owners.insert(*ip, nve) {
                    return Err(wrong(format!("{ip} is that of {other} and of {nve}")));
                }
            }
        }
        Ok(Self {
            networks,
            edges: raw.edges,
            revoked: raw.revoked,
        })
    }

    /// What there is, as far as `wanted` names it, or all of it.
    ///
    /// # Errors
    /// The authority did not say.
    pub async fn of(client: &mut Client, wanted: &Self, all: bool) -> Result<Self, ClientError> {
        let mut present = Self::default();
        for line in client.vns().await? {
            if !all && !wanted.networks.contains_key(&line.vn) {
                continue;
            }
            let members = client.members(&line.vn).await?;
            let placements = client.placements(&line.vn).await?;
            let network = Network {
                settings: line.settings,
                members: members.into_iter().map(|member| member.nve).collect(),
                placements: placements
                    .into_iter()
                    .map(|place| (place.mac, place))
                    .collect(),
            };
            present.networks.insert(line.vn, network);
        }
        let declared = client.declared().await?;
        present.edges = declared
            .into_iter()
            .map(|line| (line.nve, line.places))
            .collect();
        let edges = client.edges().await?;
        present.revoked = edges
            .into_iter()
            .filter_map(|edge| Some((edge.nve, edge.revoked?)))
            .collect();
        Ok(present)
    }
}

/// The changes from `present` to `wanted`, in an order in which each is possible. With `prune`, what
/// `wanted` does not name is removed.
#[must_use]
pub fn plan(present: &Declaration, wanted: &Declaration, prune: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    for (nve, reason) in &wanted.revoked {
        if !present.revoked.contains_key(nve) {
            changes.push(Change::Revoke {
                nve: nve.clone(),
                reason: reason.clone(),
            });
        }
    }
    edges(&mut changes, present, wanted, prune);
    if prune {
        for vn in present
            .networks
            .keys()
            .filter(|vn| !wanted.networks.contains_key(*vn))
        {
            changes.push(Change::VnRemove { vn: vn.clone() });
        }
    }
    for (vn, new) in &wanted.networks {
        network(&mut changes, vn, present.networks.get(vn), new);
    }
    if prune {
        for nve in present
            .revoked
            .keys()
            .filter(|nve| !wanted.revoked.contains_key(*nve))
        {
            changes.push(Change::Unrevoke { nve: nve.clone() });
        }
    }
    changes
}

fn edges(changes: &mut Vec<Change>, present: &Declaration, wanted: &Declaration, prune: bool) {
    // An address that goes from one edge to another is free before it is declared again.
    let unset = |nve: &NveName, old: &Places| {
        let passes = |ip| {
            let mut others = wanted.edges.iter().filter(|(other, _)| *other != nve);
            others.any(|(_, new)| new.tunnel_addresses.contains(ip))
        };
        let dropped = prune && !wanted.edges.contains_key(nve);
        dropped || old.tunnel_addresses.iter().any(passes)
    };
    for (nve, old) in &present.edges {
        if unset(nve, old) {
            changes.push(Change::EdgeUnset { nve: nve.clone() });
        }
    }
    for (nve, places) in &wanted.edges {
        let old = present.edges.get(nve);
        if old.is_none_or(|old| old != places || unset(nve, old)) {
            changes.push(Change::EdgeSet {
                nve: nve.clone(),
                places: places.clone(),
            });
        }
    }
}

fn network(changes: &mut Vec<Change>, vn: &VnName, old: Option<&Network>, new: &Network) {
    let vn = vn.clone();
    let Some(old) = old else {
        changes.push(Change::VnAdd {
            vn: vn.clone(),
            settings: new.settings,
        });
        let none = Network {
            settings: new.settings,
            members: BTreeSet::new(),
            placements: BTreeMap::new(),
        };
        return network(changes, &vn, Some(&none), new);
    };
    for nve in old.members.difference(&new.members) {
        changes.push(Change::MemberRemove {
            vn: vn.clone(),
            nve: nve.clone(),
        });
    }
    for nve in new.members.difference(&old.members) {
        changes.push(Change::MemberAdd {
            vn: vn.clone(),
            nve: nve.clone(),
        });
    }
    // An IP address that goes from one MAC address to another is free before it is placed again.
    let wanted: BTreeMap<IpAddr, Mac> = new
        .placements
        .values()
        .flat_map(|place| place.ips.iter().map(move |ip| (*ip, place.mac)))
        .collect();
    let mut removed = BTreeSet::new();
    for (mac, place) in &old.placements {
        let passes = place
            .ips
            .iter()
            .any(|ip| wanted.get(ip).is_some_and(|to| to != mac));
        if !new.placements.contains_key(mac) || passes {
            removed.insert(*mac);
            changes.push(Change::PlacementRemove {
                vn: vn.clone(),
                mac: *mac,
            });
        }
    }
    for (mac, place) in &new.placements {
        if removed.contains(mac) || old.placements.get(mac) != Some(place) {
            changes.push(Change::PlacementAdd {
                vn: vn.clone(),
                placement: place.clone(),
            });
        }
    }
    // Last: what becomes strict must have everything placed.
    if old.settings != new.settings {
        changes.push(Change::VnSet {
            vn,
            settings: new.settings,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
networks:
  red:
    vni: 1001
    members: [host-a, host-b]
    placements:
      - {mac: "52:54:00:00:00:01", ips: [10.0.0.1, "fd00::1"], nve: host-a, port: vm1}
      - {mac: "52:54:00:00:00:02", ips: [10.0.0.2], nve: host-b, port: vm2}
  lab: {vni: 1002, admission: first-claim, lease-end: keep, protection: integrity}
edges:
  host-a: {tunnel-addresses: [192.0.2.1], control: [10.1.0.0/16]}
  host-b: {tunnel-addresses: [192.0.2.2, "2001:db8::2"]}
revoked:
  host-x: stolen
"#;

    #[test]
    fn a_file_is_applied_once() {
        let wanted = Declaration::parse(FILE).unwrap();
        let changes = plan(&Declaration::default(), &wanted, false);
        assert_eq!(changes.len(), 9);
        assert!(plan(&wanted, &wanted, true).is_empty());
        assert!(
            plan(&wanted, &Declaration::default(), false).is_empty(),
            "nothing is pruned unasked"
        );
        assert_eq!(plan(&wanted, &Declaration::default(), true).len(), 5);
    }

    #[test]
    fn addresses_that_change_places_are_free_first() {
        let before = Declaration::parse(FILE).unwrap();
        let swapped = FILE
            .replace("10.0.0.1,", "10.0.0.9,")
            .replace("10.0.0.2]", "10.0.0.1]");
        let after = Declaration::parse(&swapped).unwrap();
        let changes = plan(&before, &after, false);
        let kinds: Vec<bool> = changes
            .iter()
            .map(|change| matches!(change, Change::PlacementRemove { .. }))
            .collect();
        assert_eq!(kinds, [true, false, false]);
    }

    #[test]
    fn tunnel_addresses_that_change_hands_are_free_first() {
        let before = Declaration::parse(FILE).unwrap();
        let swapped = FILE
            .replace("[192.0.2.1]", "[192.0.2.2]")
            .replace("[192.0.2.2, ", "[192.0.2.1, ");
        let changes = plan(&before, &Declaration::parse(&swapped).unwrap(), false);
        let unset: Vec<bool> = changes
            .iter()
            .map(|change| matches!(change, Change::EdgeUnset { .. }))
            .collect();
        assert_eq!(unset, [true, true, false, false]);
    }

    #[test]
    fn contradictions_and_unknown_words_are_refused() {
        for (from, to) in [
            ("00:00:02", "00:00:01"),
            ("10.0.0.2", "10.0.0.1"),
            ("vni: 1001", "vni: 16777216"),
            ("first-claim", "anyone"),
            ("members", "member"),
            ("192.0.2.2, ", "192.0.2.1, "),
            ("10.1.0.0/16", "10.1.0.1/16"),
            ("tunnel-addresses", "tunnels"),
            ("52:54:00:00:00:01", "52:54:00:00:00"),
            ("host-a, ", "host/a, "),
        ] {
            assert!(
                Declaration::parse(&FILE.replacen(from, to, 1)).is_err(),
                "{to}"
            );
        }
    }
}
