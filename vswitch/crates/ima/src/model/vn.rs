//! One VN in memory: what is declared, who has joined, what is registered, and its log.
//!
//! The log needs no entries for what exists: every mapping and every member carries the version at which
//! it last changed. Only what ended is kept apart, the latest of it. Who knows an older version than that
//! reaches is told everything.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

use vswitch_control::message::overlay::Mapping;
use vswitch_control::types::{Mac, NveName, Version};

use super::record::{Clock, Joined, MappingRecord, Placed, VnRecord};

/// What a version of the log is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// A mapping came, changed or went.
    Mapping(Mac),
    /// A member did.
    Member(NveName),
}

/// One VN.
#[derive(Debug, Clone, Default)]
pub struct Vn {
    /// As declared; none while what is left of a removed one is cleared away.
    pub declared: Option<VnRecord>,
    /// Counters.
    pub clock: Clock,
    /// Who may join.
    pub members: BTreeSet<NveName>,
    /// Who has.
    pub joined: BTreeMap<NveName, Joined>,
    /// What belongs where.
    pub placements: BTreeMap<Mac, Placed>,
    /// Which MAC address an IP address is placed with.
    pub placed_ips: HashMap<IpAddr, Mac>,
    /// What is where.
    pub mappings: BTreeMap<Mac, MappingRecord>,
    /// Which MAC address has an IP address.
    pub ips: HashMap<IpAddr, Mac>,
    /// What each edge has registered.
    pub held: HashMap<NveName, BTreeSet<Mac>>,
    /// What exists, by the version of its last change.
    changed: BTreeSet<(Version, What)>,
    /// What ended, by version, oldest first.
    ended: VecDeque<(Version, What)>,
    /// Below this version, what ended is forgotten.
    floor: Version,
}

impl Vn {
    /// Whether nothing of it is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.declared.is_none()
            && self.members.is_empty()
            && self.joined.is_empty()
            && self.placements.is_empty()
            && self.mappings.is_empty()
    }

    /// Whether somebody who knows all up to `version` can be told the rest alone.
    #[must_use]
    pub fn reaches(&self, version: Version) -> bool {
        (self.floor..=self.clock.version).contains(&version)
    }

    /// What has changed after `version`, oldest first; what ended meanwhile included.
    pub fn since(&self, version: Version) -> impl Iterator<Item = (Version, &What)> {
        let from = Version(version.0.saturating_add(1));
        let start = self.ended.partition_point(|(at, _)| *at < from);
        // Nothing sorts before this mapping: `What` has mappings first.
        let mut live = self
            .changed
            .range((from, What::Mapping(Mac([0; 6])))..)
            .map(|(at, what)| (*at, what))
            .peekable();
        let mut ended = self
            .ended
            .range(start..)
            .map(|(at, what)| (*at, what))
            .peekable();
        std::iter::from_fn(move || match (live.peek(), ended.peek()) {
            (Some((a, _)), Some((b, _))) if a <= b => live.next(),
            (Some(_), None) => live.next(),
            _ => ended.next(),
        })
    }

    /// Puts a mapping in the place of the former one.
    pub(super) fn map(&mut self, mac: Mac, new: Option<MappingRecord>) -> Option<MappingRecord> {
        let old = self.mappings.remove(&mac);
        if let Some(old) = &old {
            self.changed
                .remove(&(Version(old.generation.0), What::Mapping(mac)));
            for ip in old.ips.iter() {
                if self.ips.get(ip) == Some(&mac) {
                    self.ips.remove(ip);
                }
            }
            if let Some(held) = self.held.get_mut(&old.nve) {
                held.remove(&mac);
                if held.is_empty() {
                    self.held.remove(&old.nve);
                }
            }
        }
        if let Some(new) = new {
            self.changed
                .insert((Version(new.generation.0), What::Mapping(mac)));
            self.ips.extend(new.ips.iter().map(|ip| (*ip, mac)));
            self.held.entry(new.nve.clone()).or_default().insert(mac);
            self.mappings.insert(mac, new);
        }
        old
    }

    /// Puts what is placed in the place of what was.
    pub(super) fn place(&mut self, mac: Mac, new: Option<Placed>) -> Option<Placed> {
        let old = self.placements.remove(&mac);
        for ip in old.iter().flat_map(|old| old.ips.iter()) {
            if self.placed_ips.get(ip) == Some(&mac) {
                self.placed_ips.remove(ip);
            }
        }
        if let Some(new) = new {
            self.placed_ips.extend(new.ips.iter().map(|ip| (*ip, mac)));
            self.placements.insert(mac, new);
        }
        old
    }

    /// Puts who has joined in the place of its former self.
    pub(super) fn join(&mut self, nve: &NveName, new: Option<Joined>) -> Option<Joined> {
        let old = self.joined.remove(nve);
        if let Some(old) = &old {
            self.changed.remove(&(old.since, What::Member(nve.clone())));
        }
        if let Some(new) = new {
            self.changed.insert((new.since, What::Member(nve.clone())));
            self.joined.insert(nve.clone(), new);
        }
        old
    }

    /// Remembers that something ended at the present version.
    pub(super) fn end(&mut self, what: What, limit: usize) {
        self.ended.push_back((self.clock.version, what));
        while self.ended.len() > limit {
            if let Some((version, _)) = self.ended.pop_front() {
                self.floor = self.floor.max(version);
            }
        }
    }

    /// Forgets what ended after the present version: that was taken back.
    pub(super) fn rewind(&mut self) {
        while self
            .ended
            .back()
            .is_some_and(|(at, _)| *at > self.clock.version)
        {
            self.ended.pop_back();
        }
    }

    /// What ended before now is unknown.
    pub(super) fn forget(&mut self) {
        self.ended.clear();
        self.floor = self.clock.version;
    }

    /// A mapping as it is told.
    #[must_use]
    pub fn mapping(&self, mac: Mac) -> Option<Mapping> {
        let record = self.mappings.get(&mac)?;
        Some(Mapping {
            mac,
            generation: record.generation,
            nve: record.nve.clone(),
            ips: record.ips.clone(),
        })
    }
}
