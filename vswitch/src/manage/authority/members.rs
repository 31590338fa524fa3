//! Other edges, as the authority names them: where they are, and on which networks.

use std::collections::{BTreeMap, BTreeSet};

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
}

/// Members of all networks.
#[derive(Debug, Default)]
pub(super) struct Members {
    networks: BTreeMap<VnName, BTreeSet<NveName>>,
    endpoints: BTreeMap<NveName, Endpoint>,
}

impl Members {
    /// All members of a network but ourselves.
    pub(super) fn set(&mut self, vn: &VnName, members: &[Member]) -> Changes {
        let mut changes = Changes::default();
        for member in members {
            let known = self.endpoints.get(&member.nve);
            if known != Some(&member.endpoint) {
                let (nve, endpoint) = (member.nve.clone(), member.endpoint.clone());
                self.endpoints.insert(nve.clone(), endpoint.clone());
                changes.moved.push((nve, endpoint));
            }
        }
        let names = members.iter().map(|member| member.nve.clone()).collect();
        self.networks.insert(vn.clone(), names);
        changes.gone = self.forget();
        changes
    }

    /// We are not on it any more.
    pub(super) fn leave(&mut self, vn: &VnName) -> Vec<NveName> {
        self.networks.remove(vn);
        self.forget()
    }

    /// Forgets those who are on no network.
    fn forget(&mut self) -> Vec<NveName> {
        let on_any = |nve: &NveName| self.networks.values().any(|names| names.contains(nve));
        let gone: Vec<NveName> = self
            .endpoints
            .keys()
            .filter(|nve| !on_any(nve))
            .cloned()
            .collect();
        for nve in &gone {
            self.endpoints.remove(nve);
        }
        gone
    }

    /// Where an edge is.
    pub(super) fn endpoint(&self, nve: &NveName) -> Option<&Endpoint> {
        self.endpoints.get(nve)
    }

    /// The networks that we share with an edge.
    pub(super) fn shared(&self, nve: &NveName) -> Vec<&VnName> {
        let networks = self.networks.iter();
        networks
            .filter(|(_, names)| names.contains(nve))
            .map(|(vn, _)| vn)
            .collect()
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&NveName, &Endpoint)> {
        self.endpoints.iter()
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
        assert_eq!(members.set(&red, &[]).gone, [c.nve]);
        assert_eq!(members.shared(&b.nve), [&blue]);
        let moved = member("b", 9);
        let changes = members.set(&blue, std::slice::from_ref(&moved));
        assert_eq!(changes.moved, [(b.nve.clone(), moved.endpoint)]);
        assert_eq!(members.leave(&blue), [b.nve]);
        assert_eq!(members.all().count(), 0);
    }
}
