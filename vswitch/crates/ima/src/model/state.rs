//! All records in memory, with indexes. Changed only by operations, so that a copy at another server,
//! fed by the store, is the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use vswitch_control::message::operator::{Places, Text};
use vswitch_control::message::overlay::Vni;
use vswitch_control::types::{Mac, NveName, OperatorName, VnName};

use super::record::{Claim, EdgeRecord, Key, Record, Revoked};
use super::transaction::{Op, one_life};
use super::vn::{Vn, What};

/// All records but the audit.
#[derive(Debug, Clone)]
pub struct State {
    /// VNs by name.
    pub vns: BTreeMap<VnName, Vn>,
    /// Edges with a lease.
    pub edges: BTreeMap<NveName, EdgeRecord>,
    /// Edges without rights.
    pub revoked: BTreeMap<NveName, Revoked>,
    /// Which VN has a VNI.
    pub vnis: BTreeMap<Vni, VnName>,
    /// Which edge with a lease is at a tunnel address.
    pub addresses: HashMap<IpAddr, NveName>,
    /// Where edges may be.
    pub declared: BTreeMap<NveName, Places>,
    /// Which edge a tunnel address belongs to, with a lease or without.
    pub claims: BTreeMap<IpAddr, Claim>,
    /// Operators without rights.
    pub operators: BTreeMap<OperatorName, Revoked>,
    /// Which tunnel addresses belong to an edge.
    claimed: HashMap<NveName, BTreeSet<IpAddr>>,
    /// Keys at which there is something, but no record.
    unreadable: BTreeSet<Key>,
    /// Which VNs an edge has joined, or has mappings in.
    present: HashMap<NveName, BTreeSet<VnName>>,
    /// How much that ended a VN remembers.
    log_limit: usize,
}

impl State {
    /// Without records. Each VN remembers `log_limit` members and mappings that ended.
    #[must_use]
    pub fn new(log_limit: usize) -> Self {
        Self {
            vns: BTreeMap::new(),
            edges: BTreeMap::new(),
            revoked: BTreeMap::new(),
            vnis: BTreeMap::new(),
            addresses: HashMap::new(),
            declared: BTreeMap::new(),
            claims: BTreeMap::new(),
            operators: BTreeMap::new(),
            claimed: HashMap::new(),
            unreadable: BTreeSet::new(),
            present: HashMap::new(),
            log_limit,
        }
    }

    /// Of what is stored.
    #[must_use]
    pub fn load(log_limit: usize, records: impl IntoIterator<Item = (Key, Record)>) -> Self {
        let mut state = Self::new(log_limit);
        for (key, record) in records {
            state.set(&key, Some(record));
        }
        for vn in state.vns.values_mut() {
            vn.forget();
        }
        state
    }

    /// Whether there is such a record. The audit's are not held here and always new.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        let vn = |vn: &VnName| self.vns.get(vn);
        if self.is_unreadable(key) {
            return true;
        }
        match key {
            Key::Vn(name) => vn(name).is_some_and(|vn| vn.declared.is_some()),
            Key::Vni(vni) => self.vnis.contains_key(vni),
            // A VN in memory always has its clock in the store: it is written first and deleted last.
            Key::Clock(name) => vn(name).is_some(),
            Key::Member(name, nve) => vn(name).is_some_and(|vn| vn.members.contains(nve)),
            Key::Joined(name, nve) => vn(name).is_some_and(|vn| vn.joined.contains_key(nve)),
            Key::Placement(name, mac) => vn(name).is_some_and(|vn| vn.placements.contains_key(mac)),
            Key::Mapping(name, mac) => vn(name).is_some_and(|vn| vn.mappings.contains_key(mac)),
            Key::Edge(nve) => self.edges.contains_key(nve),
            Key::Revoked(nve) => self.revoked.contains_key(nve),
            Key::Audit(_) => false,
            Key::Declared(nve) => self.declared.contains_key(nve),
            Key::Claim(address) => self.claims.contains_key(address),
            Key::Operator(name) => self.operators.contains_key(name),
        }
    }

    /// Whether something is stored at `key` that is no record.
    #[must_use]
    pub fn is_unreadable(&self, key: &Key) -> bool {
        !self.unreadable.is_empty() && self.unreadable.contains(key)
    }

    /// Keys at which there is something, but no record.
    #[must_use]
    pub fn unreadable(&self) -> usize {
        self.unreadable.len()
    }

    /// Whether what a VN is cannot be read: nothing is to be done with it, above all not to clear it away.
    #[must_use]
    pub fn is_quarantined(&self, name: &VnName) -> bool {
        let bad = |key| self.unreadable.contains(&key);
        !self.unreadable.is_empty() && (bad(Key::Vn(name.clone())) || bad(Key::Clock(name.clone())))
    }

    /// The VN of that name, if it is declared.
    #[must_use]
    pub fn vn(&self, name: &VnName) -> Option<&Vn> {
        let vn = self.vns.get(name).filter(|vn| vn.declared.is_some());
        vn.filter(|_| !self.is_quarantined(name))
    }

    /// Tunnel addresses that belong to `nve`.
    pub fn claimed(&self, nve: &NveName) -> impl Iterator<Item = &IpAddr> {
        self.claimed.get(nve).into_iter().flatten()
    }

    /// Whether `nve` may be in `vn`: declared, a member, not revoked.
    #[must_use]
    pub fn admits(&self, vn: &VnName, nve: &NveName) -> bool {
        !self.revoked.contains_key(nve) && self.vn(vn).is_some_and(|vn| vn.members.contains(nve))
    }

    /// VNs that `nve` has joined or has mappings in.
    pub fn present(&self, nve: &NveName) -> impl Iterator<Item = &VnName> {
        self.present.get(nve).into_iter().flatten()
    }

    /// Applies what was decided, one transaction or several in their order. Gives what takes it back.
    pub fn apply(&mut self, ops: &[Op]) -> Vec<Op> {
        let (mut undo, mut rest) = (Vec::new(), ops);
        while !rest.is_empty() {
            let (part, more) = rest.split_at(one_life(rest));
            self.apply_part(part, &mut undo);
            rest = more;
        }
        undo.reverse();
        undo
    }

    fn apply_part(&mut self, ops: &[Op], undo: &mut Vec<Op>) {
        // Counters first: what ends, ends at the version that this makes. A VN's go last.
        let mut ordered: Vec<&Op> = ops.iter().collect();
        ordered.sort_by_key(|op| match op {
            Op::Put(Key::Clock(_), _) => 0,
            Op::Delete(Key::Clock(_)) => 2,
            _ => 1,
        });
        for op in ordered {
            let (key, record) = match op {
                Op::Put(key, record) => (key, Some(record.clone())),
                Op::Delete(key) => (key, None),
            };
            let ends = record.is_none();
            let old = self.set(key, record);
            if ends && old.is_some() {
                self.end(key);
            }
            undo.push(match old {
                Some(old) => Op::Put(key.clone(), old),
                None => Op::Delete(key.clone()),
            });
        }
    }

    /// Takes back what [`apply`](Self::apply) did last.
    pub fn revert(&mut self, undo: &[Op]) {
        for op in undo {
            match op {
                Op::Put(key, record) => self.set(key, Some(record.clone())),
                Op::Delete(key) => self.set(key, None),
            };
        }
        for op in undo {
            if let Key::Clock(name) = op.key()
                && let Some(vn) = self.vns.get_mut(name)
            {
                vn.rewind();
            }
        }
    }

    fn end(&mut self, key: &Key) {
        let (name, what) = match key {
            Key::Joined(name, nve) => (name, What::Member(nve.clone())),
            Key::Mapping(name, mac) => (name, What::Mapping(*mac)),
            _ => return,
        };
        if let Some(vn) = self.vns.get_mut(name) {
            vn.end(what, self.log_limit);
        }
    }

    /// Writes one record with its indexes, gives the former.
    fn set(&mut self, key: &Key, record: Option<Record>) -> Option<Record> {
        if matches!(record, Some(Record::Unreadable)) {
            self.unreadable.insert(key.clone());
            return self.suspect(key);
        }
        let unreadable = !self.unreadable.is_empty() && self.unreadable.remove(key);
        let old = self.set_readable(key, record);
        match unreadable {
            true => Some(Record::Unreadable),
            false => old,
        }
    }

    /// Of who may be revoked the worst is believed. Everything else is as if it were not there, or, of a
    /// VN, not touched.
    fn suspect(&mut self, key: &Key) -> Option<Record> {
        let revoked = Revoked {
            by: Text::default(),
            reason: Text::of("the record of a revocation is unreadable"),
        };
        match key {
            Key::Revoked(nve) => drop(self.revoked.insert(nve.clone(), revoked)),
            Key::Operator(name) => drop(self.operators.insert(name.clone(), revoked)),
            _ => {}
        }
        None
    }

    fn set_readable(&mut self, key: &Key, record: Option<Record>) -> Option<Record> {
        match key {
            Key::Vn(name) => {
                let vn = self.vns.entry(name.clone()).or_default();
                let new = if let Some(Record::Vn(new)) = record {
                    Some(new)
                } else {
                    None
                };
                std::mem::replace(&mut vn.declared, new).map(Record::Vn)
            }
            Key::Vni(vni) => match record {
                Some(Record::Vni(name)) => self.vnis.insert(*vni, name),
                _ => self.vnis.remove(vni),
            }
            .map(Record::Vni),
            Key::Clock(name) => match record {
                Some(Record::Clock(clock)) => {
                    let new = !self.vns.contains_key(name);
                    let vn = self.vns.entry(name.clone()).or_default();
                    let old = std::mem::replace(&mut vn.clock, clock);
                    (!new).then_some(Record::Clock(old))
                }
                // Deleted last, when nothing is left of the VN.
                _ => self.vns.remove(name).map(|vn| Record::Clock(vn.clock)),
            },
            Key::Member(name, nve) => {
                let vn = self.vns.entry(name.clone()).or_default();
                let had = if record.is_some() {
                    !vn.members.insert(nve.clone())
                } else {
                    vn.members.remove(nve)
                };
                had.then_some(Record::Member)
            }
            Key::Joined(name, nve) => {
                let new = if let Some(Record::Joined(new)) = record {
                    Some(new)
                } else {
                    None
                };
                let old = self.vns.entry(name.clone()).or_default().join(nve, new);
                self.note(name, nve.clone());
                old.map(Record::Joined)
            }
            Key::Placement(name, mac) => {
                let new = if let Some(Record::Placed(new)) = record {
                    Some(new)
                } else {
                    None
                };
                let old = self.vns.entry(name.clone()).or_default().place(*mac, new);
                old.map(Record::Placed)
            }
            Key::Mapping(name, mac) => self.map(name, *mac, record),
            Key::Edge(nve) => self.edge(nve, record),
            Key::Revoked(nve) => match record {
                Some(Record::Revoked(new)) => self.revoked.insert(nve.clone(), new),
                _ => self.revoked.remove(nve),
            }
            .map(Record::Revoked),
            Key::Audit(_) => None,
            Key::Declared(nve) => match record {
                Some(Record::Declared(new)) => self.declared.insert(nve.clone(), new),
                _ => self.declared.remove(nve),
            }
            .map(Record::Declared),
            Key::Claim(address) => self.claim(*address, record),
            Key::Operator(name) => match record {
                Some(Record::Operator(new)) => self.operators.insert(name.clone(), new),
                _ => self.operators.remove(name),
            }
            .map(Record::Operator),
        }
    }

    fn claim(&mut self, address: IpAddr, record: Option<Record>) -> Option<Record> {
        let old = self.claims.remove(&address);
        if let Some(old) = &old
            && let Some(claimed) = self.claimed.get_mut(&old.nve)
        {
            claimed.remove(&address);
            if claimed.is_empty() {
                self.claimed.remove(&old.nve);
            }
        }
        if let Some(Record::Claim(new)) = record {
            let claimed = self.claimed.entry(new.nve.clone()).or_default();
            claimed.insert(address);
            self.claims.insert(address, new);
        }
        old.map(Record::Claim)
    }

    fn map(&mut self, name: &VnName, mac: Mac, record: Option<Record>) -> Option<Record> {
        let new = if let Some(Record::Mapping(new)) = record {
            Some(new)
        } else {
            None
        };
        let nve = new.as_ref().map(|new| new.nve.clone());
        let old = self.vns.entry(name.clone()).or_default().map(mac, new);
        for nve in [nve, old.as_ref().map(|old| old.nve.clone())]
            .into_iter()
            .flatten()
        {
            self.note(name, nve);
        }
        old.map(Record::Mapping)
    }

    fn edge(&mut self, nve: &NveName, record: Option<Record>) -> Option<Record> {
        let old = self.edges.remove(nve);
        for address in old
            .iter()
            .flat_map(|old| old.endpoint.tunnel_addresses.iter())
        {
            if self.addresses.get(address) == Some(nve) {
                self.addresses.remove(address);
            }
        }
        if let Some(Record::Edge(new)) = record {
            let addresses = new.endpoint.tunnel_addresses.iter();
            self.addresses
                .extend(addresses.map(|address| (*address, nve.clone())));
            self.edges.insert(nve.clone(), new);
        }
        old.map(Record::Edge)
    }

    /// Brings up to date whether anything of `nve` is in the VN.
    fn note(&mut self, name: &VnName, nve: NveName) {
        let vn = self.vns.get(name);
        let there = vn.is_some_and(|vn| vn.joined.contains_key(&nve) || vn.held.contains_key(&nve));
        if there {
            self.present.entry(nve).or_default().insert(name.clone());
        } else if let Some(present) = self.present.get_mut(&nve) {
            present.remove(name);
            if present.is_empty() {
                self.present.remove(&nve);
            }
        }
    }
}
