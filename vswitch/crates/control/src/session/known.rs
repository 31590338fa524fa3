//! Which addresses are those of parties already known. A handshake from there has places kept for
//! it that no stranger takes, however many of them there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::identity::Identity;

/// Addresses that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Prefix(IpAddr);

impl Prefix {
    fn of(address: IpAddr, v4: u32, v6: u32) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - v4).unwrap_or(0);
                Self(Ipv4Addr::from(u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - v6).unwrap_or(0);
                Self(Ipv6Addr::from(u128::from(address) & mask).into())
            }
        }
    }

    /// Those of one host: an IPv4 address, an IPv6 /64 (RFC 4291, section 2.5.4).
    pub(super) fn source(address: IpAddr) -> Self {
        Self::of(address, 32, 64)
    }

    /// Those of one owner: an IPv4 /24, an IPv6 /48, which is what a site is given at most
    /// (RFC 6177, section 2).
    pub(super) fn network(address: IpAddr) -> Self {
        Self::of(address, 24, 48)
    }
}

/// So many of each.
#[derive(Debug, Default)]
struct Counted(HashMap<Prefix, usize>);

impl Counted {
    fn add(&mut self, prefix: Prefix) {
        *self.0.entry(prefix).or_default() += 1;
    }

    fn remove(&mut self, prefix: Prefix) {
        if let Entry::Occupied(mut entry) = self.0.entry(prefix) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    fn contains(&self, prefix: Prefix) -> bool {
        self.0.contains_key(&prefix)
    }
}

/// Where each of some identities had a session from last.
#[derive(Debug, Default)]
struct Seen {
    at: HashMap<Identity, Prefix>,
    places: Counted,
}

#[derive(Debug, Default)]
struct Table {
    named: Counted,
    /// Of the identities that came last, and of those before them.
    seen: [Seen; 2],
    most: usize,
}

/// Addresses of parties already known: those somebody vouches for ([`Known::add`]), and those from
/// which sessions were last. One identity counts with one address, so that who has a certificate
/// cannot push out the others. Clones are the same.
#[derive(Debug, Clone)]
pub struct Known(Arc<Mutex<Table>>);

impl Known {
    /// Remembers at least `most` identities.
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Table {
            most: most.max(1),
            ..Table::default()
        })))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Whole after every change; nothing that may panic runs in between.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are somebody's of whom it is known that they may come. Added twice, they are to be
    /// removed twice.
    pub fn add(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let mut table = self.table();
        for address in addresses {
            table.named.add(Prefix::source(address));
        }
    }

    /// They are not any more.
    pub fn remove(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let mut table = self.table();
        for address in addresses {
            table.named.remove(Prefix::source(address));
        }
    }

    /// There is a session with this identity there.
    pub(super) fn saw(&self, identity: &Identity, address: IpAddr) {
        let mut table = self.table();
        let (place, most) = (Prefix::source(address), table.most);
        let [last, before] = &mut table.seen;
        if let Some(former) = last.at.insert(identity.clone(), place) {
            last.places.remove(former);
        }
        last.places.add(place);
        if last.at.len() >= most {
            *before = std::mem::take(last);
        }
    }

    /// Whether somebody known is there.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let place = Prefix::source(address);
        let table = self.table();
        table.named.contains(place) || table.seen.iter().any(|seen| seen.places.contains(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;

    #[test]
    fn prefixes_are_of_a_host_and_of_its_network() {
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let same = |a, b| {
            let (a, b) = (at(a), at(b));
            (
                Prefix::source(a) == Prefix::source(b),
                Prefix::network(a) == Prefix::network(b),
            )
        };
        assert_eq!(same("192.0.2.1", "192.0.2.1"), (true, true));
        assert_eq!(same("192.0.2.1", "::ffff:192.0.2.1"), (true, true));
        assert_eq!(same("192.0.2.1", "192.0.2.2"), (false, true));
        assert_eq!(same("192.0.2.1", "192.0.3.1"), (false, false));
        assert_eq!(same("2001:db8:0:1::1", "2001:db8:0:1::2"), (true, true));
        assert_eq!(same("2001:db8:0:1::1", "2001:db8:0:2::1"), (false, true));
        assert_eq!(same("2001:db8:0:1::1", "2001:db8:1:1::1"), (false, false));
    }

    #[test]
    fn what_is_named_twice_is_forgotten_when_it_is_taken_back_twice() {
        let known = Known::new(4);
        let at: IpAddr = [192, 0, 2, 1].into();
        known.add([at, at]);
        known.remove([at]);
        assert!(known.contains(at));
        known.remove([at, at]);
        assert!(!known.contains(at));
    }

    #[test]
    fn one_identity_is_remembered_at_one_address_and_pushes_nobody_out() {
        let known = Known::new(4);
        let who = |n: u8| Identity::new(&"lab".parse().unwrap(), Role::Nve, &format!("e{n}"));
        let at = |n: u8| IpAddr::from([192, 0, n, 1]);
        known.saw(&who(1).unwrap(), at(1));
        for n in 100..200 {
            known.saw(&who(2).unwrap(), at(n));
        }
        assert!(known.contains(at(1)) && known.contains(at(199)));
        assert!(!known.contains(at(198)));
        // The four that came last are remembered whatever comes; no more than twice as many are.
        for n in 10..50 {
            known.saw(&who(n).unwrap(), at(n));
        }
        let remembered = (0..=255).filter(|n| known.contains(at(*n))).count();
        assert!((46..50).all(|n| known.contains(at(n))));
        assert!((4..=8).contains(&remembered), "{remembered}");
    }
}
