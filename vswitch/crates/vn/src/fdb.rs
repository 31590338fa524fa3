//! The forwarding database: (virtual network, MAC address) → destination.
//!
//! One flat table with open addressing, linear probing and backward-shift deletion (no
//! tombstones, so it does not degrade with churn). Entries have 16 bytes, four to a cache
//! line; the table is a power of two and at most 0.7 full. Growing copies the whole table,
//! so it happens at change time only: learning, which runs while packets wait, never grows
//! it and never makes a chain longer than [`Fdb::LEARN_PROBES`].

use std::net::Ipv4Addr;

use vswitch_net::MacAddr;

use crate::hash::KeyedHash;
use crate::ids::{Destination, PortId, TunnelId, VnId};

/// A key of the table: the network in the upper 16 bits, the MAC address below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    /// Packs a key.
    #[inline]
    pub const fn new(vn: VnId, mac: MacAddr) -> Self {
        Self((vn.0 as u64) << 48 | mac.as_u64())
    }

    /// As [`Self::new`], of a MAC address as [`MacAddr::as_u64`] makes it.
    #[inline]
    pub const fn of(vn: VnId, mac: u64) -> Self {
        Self((vn.0 as u64) << 48 | mac)
    }

    /// The network.
    #[inline]
    pub const fn vn(self) -> VnId {
        VnId((self.0 >> 48) as u16)
    }

    /// Whether the MAC address is a group's.
    #[inline]
    pub const fn is_group(self) -> bool {
        self.0 & 1 << 40 != 0
    }

    /// Whether the MAC address is one that a station may have: no group's, not all zero.
    #[inline]
    pub const fn is_station(self) -> bool {
        !self.is_group() && self.0 << 16 != 0
    }

    /// The MAC address.
    #[inline]
    pub const fn mac(self) -> MacAddr {
        MacAddr::from_u64(self.0)
    }
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A mapping of the control side. Learning does not touch it.
    Static {
        /// The first IPv4 address of the mapping, so that the check of most sources needs
        /// nothing but the entry.
        ipv4: Option<Ipv4Addr>,
    },
    /// Learned from data; the time of last use in seconds modulo 2²⁹.
    Learned {
        /// Seconds modulo 2²⁹.
        seen: u32,
    },
}

/// What the table knows about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub destination: Destination,
    /// How that is known.
    pub origin: Origin,
}

/// What a frame says of its sender: the addresses, and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Network and source MAC address.
    pub key: Key,
    /// Where the frame came from.
    pub destination: Destination,
    /// Its IPv4 source address.
    pub ipv4: Ipv4Addr,
}

/// Nobody's: nothing vouches for it.
impl Default for Claim {
    fn default() -> Self {
        Self {
            key: Key::default(),
            destination: Destination::Port(PortId(0)),
            ipv4: Ipv4Addr::UNSPECIFIED,
        }
    }
}

/// What an insertion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insert {
    /// There was nothing under the key.
    New,
    /// This was there.
    Replaced(Entry),
}

const USED: u32 = 1 << 31;
const STATIC: u32 = 1 << 30;
const TUNNEL: u32 = 1 << 29;
const IPV4: u32 = 1 << 28;
const ID_MASK: u32 = IPV4 - 1;
/// Time stamps are kept modulo this.
pub(crate) const SEEN_MASK: u32 = (1 << 29) - 1;

/// `meta` holds `USED | STATIC | TUNNEL | IPV4 | id`, `data` the time of last use of a learned
/// entry and the IPv4 address of a static one; an empty slot is all zero.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Slot {
    key: u64,
    data: u32,
    meta: u32,
}

const _: () = assert!(size_of::<Slot>() == 16);
const _: () = assert!(TunnelId::LIMIT <= ID_MASK && PortId(u16::MAX).0 as u32 <= ID_MASK);

impl Slot {
    fn new(key: Key, entry: Entry) -> Self {
        let place = place(entry.destination);
        let (origin, data) = match entry.origin {
            Origin::Static { ipv4: Some(ipv4) } => (STATIC | IPV4, ipv4.to_bits()),
            Origin::Static { ipv4: None } => (STATIC, 0),
            Origin::Learned { seen } => (0, seen & SEEN_MASK),
        };
        Self {
            key: key.0,
            data,
            meta: USED | place | origin,
        }
    }

    #[inline]
    const fn is_empty(self) -> bool {
        self.meta & USED == 0
    }

    #[inline]
    const fn holds(self, key: Key) -> bool {
        self.key == key.0 && !self.is_empty()
    }

    #[inline]
    const fn destination(self) -> Destination {
        let id = self.meta & ID_MASK;
        if self.meta & TUNNEL == 0 {
            Destination::Port(PortId(id as u16))
        } else {
            Destination::Tunnel(TunnelId(id))
        }
    }

    #[inline]
    const fn vouches(self, claim: &Claim) -> bool {
        self.meta == USED | STATIC | IPV4 | place(claim.destination)
            && self.data == claim.ipv4.to_bits()
    }

    const fn entry(self) -> Entry {
        let origin = if self.meta & STATIC == 0 {
            Origin::Learned { seen: self.data }
        } else if self.meta & IPV4 == 0 {
            Origin::Static { ipv4: None }
        } else {
            Origin::Static {
                ipv4: Some(Ipv4Addr::from_bits(self.data)),
            }
        };
        Entry {
            destination: self.destination(),
            origin,
        }
    }
}

/// A destination as `meta` holds it.
#[inline]
const fn place(destination: Destination) -> u32 {
    match destination {
        Destination::Port(PortId(id)) => id as u32,
        Destination::Tunnel(TunnelId(id)) => TUNNEL | id & ID_MASK,
    }
}

/// The table. See the module's text.
#[derive(Clone, Debug)]
pub struct Fdb {
    hash: KeyedHash,
    /// A power of two, never full: every probe ends at an empty slot.
    slots: Vec<Slot>,
    len: usize,
}

/// The result of walking a chain.
enum Probe {
    Found(usize),
    Vacant { index: usize, steps: usize },
}

impl Fdb {
    /// The longest chain, in slots, at whose end learning adds an entry. At 0.7 load chains
    /// of this length do not occur unless somebody makes them.
    pub const LEARN_PROBES: usize = 128;
    const SMALLEST: usize = 64;

    /// An empty table. The seed is random and secret: MAC addresses are chosen by tenants.
    pub fn new(seed: u64) -> Self {
        Self {
            hash: KeyedHash::new(seed),
            slots: vec![Slot::default(); Self::SMALLEST],
            len: 0,
        }
    }

    /// The number of entries.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Size of the table in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    /// The most entries the table takes without growing.
    pub const fn capacity(&self) -> usize {
        Self::limit(self.slots.len())
    }

    const fn limit(slots: usize) -> usize {
        slots / 10 * 7
    }

    #[inline]
    fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    #[inline]
    fn home(&self, key: Key) -> usize {
        self.hash.hash(key.0) as usize & self.mask()
    }

    #[inline]
    fn slot(&self, index: usize) -> Slot {
        self.slots.get(index).copied().unwrap_or_default()
    }

    fn put(&mut self, index: usize, slot: Slot) {
        if let Some(to) = self.slots.get_mut(index) {
            *to = slot;
        }
    }

    fn probe(&self, key: Key) -> Probe {
        let mut index = self.home(key);
        let mut steps = 0;
        loop {
            let slot = self.slot(index);
            if slot.holds(key) {
                return Probe::Found(index);
            }
            if slot.is_empty() {
                return Probe::Vacant { index, steps };
            }
            index = (index + 1) & self.mask();
            steps += 1;
        }
    }

    /// Follows a chain from a slot that was read already.
    #[inline]
    fn follow(&self, key: Key, mut index: usize, mut slot: Slot) -> Option<Slot> {
        loop {
            if slot.holds(key) {
                return Some(slot);
            }
            if slot.is_empty() {
                return None;
            }
            index = (index + 1) & self.mask();
            slot = self.slot(index);
        }
    }

    /// The destination of a key.
    #[inline]
    pub fn lookup(&self, key: Key) -> Option<Destination> {
        let home = self.home(key);
        let slot = self.follow(key, home, self.slot(home))?;
        Some(slot.destination())
    }

    /// Where a lookup of this key will read first: for its address, so that who may can ask for that
    /// memory some time before.
    #[inline(always)]
    pub fn place(&self, key: Key) -> Option<&Slot> {
        self.slots.get(self.home(key))
    }

    /// Looks up many keys; `out` is as long as `keys` (what is beyond the shorter of the two
    /// is left alone).
    pub fn lookup_burst(&self, keys: &[Key], out: &mut [Option<Destination>]) {
        self.read_burst(keys, out, |key| *key, |_, slot| slot.map(Slot::destination));
    }

    /// Whether the control side has mapped the key of each claim to its destination and named
    /// its IPv4 address as the first. `false` decides nothing. Lengths as for
    /// [`Self::lookup_burst`].
    pub fn vouch_burst(&self, claims: &[Claim], out: &mut [bool]) {
        self.read_burst(
            claims,
            out,
            |claim| claim.key,
            |claim, slot| slot.is_some_and(|slot| slot.vouches(claim)),
        );
    }

    /// All hashes first, then one load from every home slot, then the comparisons: the loads
    /// do not depend on one another, so their cache misses overlap. (This stands in for
    /// prefetch instructions, which would need `unsafe`.)
    #[inline(always)]
    fn read_burst<T, R>(
        &self,
        asked: &[T],
        out: &mut [R],
        key: impl Fn(&T) -> Key,
        answer: impl Fn(&T, Option<Slot>) -> R,
    ) {
        const WIDTH: usize = 32;
        for (asked, out) in asked.chunks(WIDTH).zip(out.chunks_mut(WIDTH)) {
            let mut homes = [0; WIDTH];
            let mut slots = [Slot::default(); WIDTH];
            for (home, asked) in homes.iter_mut().zip(asked) {
                *home = self.home(key(asked));
            }
            for (slot, &home) in slots.iter_mut().zip(&homes).take(asked.len()) {
                *slot = self.slot(home);
            }
            let read = homes.iter().zip(&slots);
            for ((asked, (home, slot)), out) in asked.iter().zip(read).zip(out) {
                *out = answer(asked, self.follow(key(asked), *home, *slot));
            }
        }
    }

    /// Everything known about a key.
    pub fn get(&self, key: Key) -> Option<Entry> {
        match self.probe(key) {
            Probe::Found(index) => Some(self.slot(index).entry()),
            Probe::Vacant { .. } => None,
        }
    }

    /// Sets an entry, growing the table if need be. Not for the packet path.
    pub fn insert(&mut self, key: Key, entry: Entry) -> Insert {
        if let Probe::Found(index) = self.probe(key) {
            let old = self.slot(index).entry();
            self.put(index, Slot::new(key, entry));
            return Insert::Replaced(old);
        }
        self.reserve(1);
        if let Probe::Vacant { index, .. } = self.probe(key) {
            self.put(index, Slot::new(key, entry));
            self.len += 1;
        }
        Insert::New
    }

    /// Adds an entry under a key that has none, unless the table is at its load limit or the
    /// chain is too long. Never grows. Returns whether it was added.
    pub(crate) fn try_insert_new(&mut self, key: Key, entry: Entry) -> bool {
        if self.len >= self.capacity() {
            return false;
        }
        match self.probe(key) {
            Probe::Vacant { index, steps } if steps < Self::LEARN_PROBES => {
                self.put(index, Slot::new(key, entry));
                self.len += 1;
                true
            }
            _ => false,
        }
    }

    /// Overwrites the entry of a key; nothing happens if there is none.
    pub(crate) fn overwrite(&mut self, key: Key, entry: Entry) {
        if let Probe::Found(index) = self.probe(key) {
            self.put(index, Slot::new(key, entry));
        }
    }

    /// Removes an entry.
    pub fn remove(&mut self, key: Key) -> Option<Entry> {
        match self.probe(key) {
            Probe::Found(index) => {
                let old = self.slot(index).entry();
                self.vacate(index);
                Some(old)
            }
            Probe::Vacant { .. } => None,
        }
    }

    /// Empties a slot and closes the gap: later entries of the run move back towards their
    /// home slots.
    fn vacate(&mut self, mut gap: usize) {
        let mask = self.mask();
        let mut index = (gap + 1) & mask;
        loop {
            let slot = self.slot(index);
            if slot.is_empty() {
                break;
            }
            // May move if its home is not cyclically within (gap, index].
            let from_home = index.wrapping_sub(self.home(Key(slot.key))) & mask;
            let from_gap = index.wrapping_sub(gap) & mask;
            if from_home >= from_gap {
                self.put(gap, slot);
                gap = index;
            }
            index = (index + 1) & mask;
        }
        self.put(gap, Slot::default());
        self.len -= 1;
    }

    /// Makes room for so many more entries. Not for the packet path.
    pub fn reserve(&mut self, additional: usize) {
        let wanted = self.len.saturating_add(additional);
        let mut size = self.slots.len();
        while Self::limit(size) < wanted {
            size = size.saturating_mul(2);
        }
        if size == self.slots.len() {
            return;
        }
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); size]);
        for slot in old.into_iter().filter(|slot| !slot.is_empty()) {
            if let Probe::Vacant { index, .. } = self.probe(Key(slot.key)) {
                self.put(index, slot);
            }
        }
    }

    /// Looks at `count` slots from `start` on and removes the entries that `keep` does not
    /// want. Returns where to go on.
    pub(crate) fn retain_from(
        &mut self,
        start: usize,
        count: usize,
        mut keep: impl FnMut(Key, Entry) -> bool,
    ) -> usize {
        let mask = self.mask();
        let mut index = start & mask;
        for _ in 0..count.min(self.slots.len()) {
            loop {
                let slot = self.slot(index);
                if slot.is_empty() || keep(Key(slot.key), slot.entry()) {
                    break;
                }
                // Something else may have moved in: look again.
                self.vacate(index);
            }
            index = (index + 1) & mask;
        }
        index
    }

    /// Removes all entries that `keep` does not want.
    pub(crate) fn retain(&mut self, keep: impl FnMut(Key, Entry) -> bool) {
        self.retain_from(0, self.slots.len(), keep);
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, Entry)> + '_ {
        self.slots
            .iter()
            .filter(|slot| !slot.is_empty())
            .map(|slot| (Key(slot.key), slot.entry()))
    }
}

/// Equal entries; seed, size and order do not matter.
impl PartialEq for Fdb {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && self
                .iter()
                .all(|(key, entry)| other.get(key) == Some(entry))
    }
}

#[cfg(test)]
mod tests;
