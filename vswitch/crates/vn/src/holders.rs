//! Which IP addresses are somebody's: what a station without known addresses may not use.

use std::net::{IpAddr, Ipv6Addr};

use vswitch_net::MacAddr;

use crate::fdb::Key;
use crate::hash::KeyedHash;
use crate::ids::VnId;
use crate::model::Mapping;
use crate::tables::{Map, Tables};

/// Whose an IP address of a network is; nothing where no mapping lists it.
///
/// Counted and not owned: a virtual router's address may be listed for several stations.
#[derive(Clone, Debug)]
pub(crate) struct Holders(Map<(VnId, IpAddr), Holder>);

/// The stations whose mappings list an address.
#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    count: u32,
    /// Their MAC addresses, exclusive-or: of one, that one's, whoever came and went before.
    mixed: u64,
}

impl Holders {
    pub(crate) fn new(hash: KeyedHash) -> Self {
        Self(Map::with_hasher(hash))
    }

    pub(crate) fn add(&mut self, key: Key, mapping: &Mapping) {
        for &ip in mapping.ips.iter() {
            let holder = self.0.entry((key.vn(), ip)).or_default();
            holder.count += 1;
            holder.mixed ^= key.mac().as_u64();
        }
    }

    /// Takes back what was added for the same mapping.
    pub(crate) fn remove(&mut self, key: Key, mapping: &Mapping) {
        for &ip in mapping.ips.iter() {
            let place = (key.vn(), ip);
            if let Some(holder) = self.0.get_mut(&place) {
                holder.count -= 1;
                holder.mixed ^= key.mac().as_u64();
                if holder.count == 0 {
                    self.0.remove(&place);
                }
            }
        }
    }

    pub(crate) fn remove_vn(&mut self, id: VnId) {
        self.0.retain(|(vn, _), _| *vn != id);
    }
}

/// The MAC address that an EUI-64 link-local address was made of (RFC 4291, appendix A).
fn maker(address: Ipv6Addr) -> Option<MacAddr> {
    let bits = address.to_bits();
    let id = bits as u64;
    let made = bits >> 64 == 0xfe80 << 48 && id >> 24 & 0xffff == 0xfffe;
    made.then(|| MacAddr::from_u64((id ^ 1 << 57) >> 40 << 24 | id & 0xff_ffff))
}

impl Tables {
    /// Whether an IP address is another station's than `mac`: listed by mappings of the
    /// network but not by that of `mac`, or the EUI-64 link-local address of another mapped
    /// MAC address.
    #[inline]
    pub fn is_held_by_other(&self, vn: VnId, mac: MacAddr, ip: IpAddr) -> bool {
        if self.holders.0.contains_key(&(vn, ip)) {
            let own = self.mapping(vn, mac);
            return own.is_none_or(|mapping| !mapping.ips.contains(&ip));
        }
        match ip {
            IpAddr::V6(v6) => maker(v6).is_some_and(|maker| {
                maker != mac && self.mappings.contains_key(&Key::new(vn, maker))
            }),
            IpAddr::V4(_) => false,
        }
    }

    /// The one station whose mapping lists an IP address; `None` if none or several do.
    pub fn holder(&self, vn: VnId, ip: IpAddr) -> Option<MacAddr> {
        let holder = self.holders.0.get(&(vn, ip))?;
        (holder.count == 1).then(|| MacAddr::from_u64(holder.mixed))
    }

    /// The IP addresses that mappings list, each with how often, in no order.
    pub fn held_addresses(&self) -> impl Iterator<Item = (VnId, IpAddr, u32)> {
        self.holders
            .0
            .iter()
            .map(|(&(vn, ip), holder)| (vn, ip, holder.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makers_of_link_local_addresses() {
        let maker = |text: &str| maker(text.parse().expect("an IPv6 address"));
        // RFC 4291, appendix A.
        assert_eq!(
            maker("fe80::3656:78ff:fe9a:bcde"),
            Some(MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]))
        );
        for other in [
            "fe80::1",
            "fe80::3656:78ff:ff9a:bcde",
            "fe80::1:3656:78ff:fe9a:bcde",
            "fd00::3656:78ff:fe9a:bcde",
            "::",
        ] {
            assert_eq!(maker(other), None, "{other}");
        }
    }
}
