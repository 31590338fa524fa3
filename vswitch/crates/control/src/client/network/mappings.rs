//! Who is where at other edges, by MAC address, and which IP addresses there are among them: found
//! without a look at all of them, since tenants choose what is looked for.

use std::collections::btree_map::{BTreeMap, Values};
use std::collections::hash_map::{Entry, HashMap};
use std::net::IpAddr;

use crate::message::overlay::Mapping;
use crate::types::Mac;

#[derive(Debug, Default)]
pub(super) struct Mappings {
    by_mac: BTreeMap<Mac, Mapping>,
    /// In how many of them an IP address is; no entry for none.
    ips: HashMap<IpAddr, usize>,
}

impl Mappings {
    /// In the place of what was known of its MAC address.
    pub(super) fn insert(&mut self, mapping: Mapping) {
        self.remove(mapping.mac);
        for ip in mapping.ips.iter() {
            *self.ips.entry(*ip).or_default() += 1;
        }
        self.by_mac.insert(mapping.mac, mapping);
    }

    pub(super) fn remove(&mut self, mac: Mac) -> Option<Mapping> {
        let mapping = self.by_mac.remove(&mac)?;
        for ip in mapping.ips.iter() {
            if let Entry::Occupied(mut entry) = self.ips.entry(*ip) {
                *entry.get_mut() -= 1;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
        Some(mapping)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn get(&self, mac: Mac) -> Option<&Mapping> {
        self.by_mac.get(&mac)
    }

    pub(super) fn contains(&self, mac: Mac) -> bool {
        self.by_mac.contains_key(&mac)
    }

    /// Whether any of them has this IP address.
    pub(super) fn has_ip(&self, ip: IpAddr) -> bool {
        self.ips.contains_key(&ip)
    }

    pub(super) fn values(&self) -> Values<'_, Mac, Mapping> {
        self.by_mac.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_mac.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Bounded;
    use crate::types::Generation;

    fn mapping(mac: u8, ips: &[u8]) -> Mapping {
        let ips: Vec<IpAddr> = ips.iter().map(|ip| [10, 0, 0, *ip].into()).collect();
        Mapping {
            mac: Mac([2, 0, 0, 0, 0, mac]),
            generation: Generation(1),
            nve: "b".parse().unwrap(),
            ips: Bounded::try_from(ips).unwrap(),
        }
    }

    /// Against what is found by looking at all of them.
    #[test]
    fn the_index_is_what_the_mappings_say() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut mappings = Mappings::default();
        for step in 0..5000 {
            let mac = rng.u8(0..20);
            match rng.u8(0..10) {
                0..6 => {
                    let ips: Vec<u8> = (0..rng.u8(0..4)).map(|_| rng.u8(0..30)).collect();
                    mappings.insert(mapping(mac, &ips));
                }
                6..9 => {
                    let there = mappings.contains(Mac([2, 0, 0, 0, 0, mac]));
                    let removed = mappings.remove(Mac([2, 0, 0, 0, 0, mac]));
                    assert_eq!(removed.is_some(), there);
                }
                _ if step % 50 == 0 => mappings.clear(),
                _ => {}
            }
            let mut known = 0;
            for ip in (0..30).map(|ip| IpAddr::from([10, 0, 0, ip])) {
                let there = mappings.values().any(|it| it.ips.contains(&ip));
                assert_eq!(mappings.has_ip(ip), there, "{step}: {ip}");
                known += usize::from(there);
            }
            assert_eq!(mappings.ips.len(), known);
        }
    }
}
