//! Other edges, as the authority names them: where they are, and on which networks. What a change of
//! one network's members costs depends on that network alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vswitch_control::message::ima::Member;
use vswitch_control::message::overlay::Endpoint;
use vswitch_control::types::{NveName, VnName};

/// What changes at the edge when members do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// New, or elsewhere than before.
    pub moved: Vec<(NveName, Endpoint)>,
    /// On no network of ours any more.
    pub gone: Vec<NveName>,
    /// Where those were that moved or are gone.
    pub left: Vec<Endpoint>,
}

/// One of them.
#[derive(Debug)]
struct Edge {
    endpoint: Endpoint,
    /// Those that it shares with us.
    networks: BTreeSet<VnName>,
}

/// Members of all networks.
#[derive(Debug, Default)]
pub(super) struct Members {
    networks: BTreeMap<VnName, BTreeSet<NveName>>,
    edges: BTreeMap<NveName, Edge>,
}

/// All addresses from which an edge may come.
pub(super) fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    let control = endpoint.control_address.ip();
    endpoint.tunnel_addresses.iter().copied().chain([control])
}

impl Members {
    /// All members of a network but ourselves.
    pub(super) fn set(&mut self, vn: &VnName, members: &[Member]) -> Changes {
        let mut changes = Changes::default();
        let mut names = BTreeSet::new();
        for Member { nve, endpoint } in members {
            names.insert(nve.clone());
            let is_at = |it: &Edge| it.endpoint == *endpoint;
            if !self.edges.get(nve).is_some_and(is_at) {
                changes.moved.push((nve.clone(), endpoint.clone()));
            }
            let edge = self.edges.entry(nve.clone()).or_insert_with(|| Edge {
                endpoint: endpoint.clone(),
                networks: BTreeSet::new(),
            });
            edge.networks.insert(vn.clone());
            if edge.endpoint != *endpoint {
                let former = std::mem::replace(&mut edge.endpoint, endpoint.clone());
                changes.left.push(former);
            }
        }
        let former = self.networks.insert(vn.clone(), names);
        let names = self.networks.get(vn);
        let outside = |nve: &NveName| names.is_none_or(|names| !names.contains(nve));
        let former: Vec<NveName> = former.into_iter().flatten().filter(outside).collect();
        self.part(vn, former, &mut changes);
        changes
    }

    /// We are not on it any more.
    pub(super) fn leave(&mut self, vn: &VnName) -> Changes {
        let mut changes = Changes::default();
        let former = self.networks.remove(vn).unwrap_or_default();
        self.part(vn, former, &mut changes);
        changes
    }

    /// They share this network with us no more.
    fn part(
        &mut self,
        vn: &VnName,
        edges: impl IntoIterator<Item = NveName>,
        changes: &mut Changes,
    ) {
        for nve in edges {
            let Some(edge) = self.edges.get_mut(&nve) else {
                continue;
            };
            edge.networks.remove(vn);
            if edge.networks.is_empty()
                && let Some(edge) = self.edges.remove(&nve)
            {
                changes.left.push(edge.endpoint);
                changes.gone.push(nve);
            }
        }
    }

    /// Where an edge is.
    pub(super) fn endpoint(&self, nve: &NveName) -> Option<&Endpoint> {
        self.edges.get(nve).map(|edge| &edge.endpoint)
    }

    /// The networks that we share with an edge.
    pub(super) fn shared(&self, nve: &NveName) -> impl Iterator<Item = &VnName> {
        self.edges
            .get(nve)
            .into_iter()
            .flat_map(|edge| &edge.networks)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&NveName, &Endpoint)> {
        self.edges.iter().map(|(nve, edge)| (nve, &edge.endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_control::message::Bounded;

    fn member(name: &str, n: u8) -> Member {
        Member {
            nve: name.parse().unwrap(),
            endpoint: Endpoint {
                tunnel_addresses: Bounded::try_from(vec![[192, 0, 2, n].into()]).unwrap(),
                control_address: ([192, 0, 2, n], 4600).into(),
            },
        }
    }

    #[test]
    fn an_edge_is_known_as_long_as_it_shares_a_network() {
        let mut members = Members::default();
        let (red, blue): (VnName, VnName) = ("red".parse().unwrap(), "blue".parse().unwrap());
        let (b, c) = (member("b", 2), member("c", 3));
        let changes = members.set(&red, &[b.clone(), c.clone()]);
        assert_eq!((changes.moved.len(), changes.gone.len()), (2, 0));
        assert_eq!(
            members.set(&blue, std::slice::from_ref(&b)),
            Changes::default()
        );
        let changes = members.set(&red, &[]);
        assert_eq!(
            (changes.gone, changes.left),
            (vec![c.nve], vec![c.endpoint])
        );
        assert!(members.shared(&b.nve).eq([&blue]));
        let moved = member("b", 9);
        let changes = members.set(&blue, std::slice::from_ref(&moved));
        assert_eq!(changes.moved, [(b.nve.clone(), moved.endpoint.clone())]);
        assert_eq!(changes.left, [b.endpoint]);
        let changes = members.leave(&blue);
        assert_eq!(
            (changes.gone, changes.left),
            (vec![b.nve], vec![moved.endpoint])
        );
        assert_eq!(members.all().count(), 0);
        assert_eq!(members.leave(&blue), Changes::default());
    }

    /// Against what is found by looking at everything.
    #[test]
    fn whatever_comes_those_are_known_who_share_a_network() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut members = Members::default();
            let mut truth: BTreeMap<VnName, Vec<Member>> = BTreeMap::new();
            let mut known: BTreeMap<NveName, Endpoint> = BTreeMap::new();
            for _ in 0..60 {
                let vn: VnName = format!("v{}", rng.u8(0..4)).parse().unwrap();
                let changes = if rng.u8(0..4) == 0 {
                    truth.remove(&vn);
                    members.leave(&vn)
                } else {
                    let all = (0..5).filter(|_| rng.bool()).collect::<Vec<u8>>();
                    let list: Vec<_> = all
                        .into_iter()
                        .map(|n| member(&format!("e{n}"), n * 10 + rng.u8(0..2)))
                        .collect();
                    truth.insert(vn.clone(), list.clone());
                    members.set(&vn, &list)
                };
                // As many places are left as were taken and are not held.
                assert_eq!(
                    known.len() + changes.moved.len(),
                    members.all().count() + changes.left.len()
                );
                known.extend(changes.moved);
                known.retain(|nve, _| !changes.gone.contains(nve));
                let names: BTreeSet<_> = truth.values().flatten().map(|it| &it.nve).collect();
                assert!(members.all().map(|(nve, _)| nve).eq(names), "seed {seed}");
                assert!(members.all().eq(known.iter()), "seed {seed}");
            }
        }
    }
}
