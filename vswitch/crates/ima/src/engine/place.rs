//! Where edges may say that they are. A tunnel address belongs to one edge: the one for which it is
//! declared, or else the first that says so, until it says otherwise or an operator releases it. An edge
//! that took another's would have that one's packets sent to itself.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use vswitch_control::message::ima::Goodbye;
use vswitch_control::message::operator::{Change, Denied, Places};
use vswitch_control::message::overlay::Endpoint;
use vswitch_control::types::{BootId, NveName};

use super::edge::is_station;
use super::operator::conflict;
use super::{Engine, Session};
use crate::model::{Claim, EdgeRecord, Key, Plan, Record};

/// A renewal changes nothing in the store unless this part of the lease has passed since the last.
const RENEWED: u32 = 16;

impl Engine {
    /// Whether an edge may be there, as a session from `source` says.
    pub(super) fn permits(
        &self,
        nve: &NveName,
        endpoint: &Endpoint,
        source: IpAddr,
    ) -> Result<(), Goodbye> {
        let tunnels = &endpoint.tunnel_addresses;
        if tunnels.is_empty() || !tunnels.iter().all(is_station) || twice(tunnels).is_some() {
            return Err(Goodbye::Protocol);
        }
        let state = &self.state;
        let unreadable = |key| state.is_unreadable(&key);
        if unreadable(Key::Declared(nve.clone()))
            || tunnels.iter().any(|ip| unreadable(Key::Claim(*ip)))
        {
            return Err(Goodbye::Unavailable);
        }
        let owners = |ip: &IpAddr| {
            let claim = state.claims.get(ip).map(|claim| &claim.nve);
            claim.into_iter().chain(state.addresses.get(ip))
        };
        if tunnels.iter().flat_map(owners).any(|owner| owner != nve) {
            return Err(Goodbye::AddressTaken);
        }
        let fits = match state.declared.get(nve) {
            Some(places) => fits(places, endpoint, Some(source)),
            None => !self.limits.declared_only && reaches(endpoint, source),
        };
        if fits {
            Ok(())
        } else {
            Err(Goodbye::Undeclared)
        }
    }

    /// Whether an edge's session may go on, where it said that it is.
    pub(super) fn stays(&self, session: &Session) -> Result<(), Goodbye> {
        match &session.hello {
            Some((_, endpoint)) => self.permits(&session.nve, endpoint, session.source),
            None => Ok(()),
        }
    }

    /// A lease that begins now, and the addresses with it.
    pub(super) fn renew(&self, plan: &mut Plan, nve: &NveName, boot: BootId, endpoint: &Endpoint) {
        let state = &self.state;
        let renewals = state.edges.get(nve).map_or(0, |edge| edge.renewals);
        let record = EdgeRecord {
            boot,
            endpoint: endpoint.clone(),
            renewals: renewals.saturating_add(1).max(self.wall),
        };
        plan.guard(state, Key::Revoked(nve.clone()));
        plan.guard(state, Key::Declared(nve.clone()));
        for ip in endpoint.tunnel_addresses.iter() {
            if state.claims.contains_key(ip) {
                plan.guard(state, Key::Claim(*ip));
            } else {
                let claim = Claim {
                    nve: nve.clone(),
                    declared: false,
                };
                plan.put(state, Key::Claim(*ip), Record::Claim(claim));
            }
        }
        // What it does not say any more is free: nobody collects addresses.
        for ip in state.claimed(nve) {
            let declared = state.claims.get(ip).is_some_and(|claim| claim.declared);
            if !declared && !endpoint.tunnel_addresses.contains(ip) {
                plan.delete(state, Key::Claim(*ip));
            }
        }
        plan.put(state, Key::Edge(nve.clone()), Record::Edge(record));
    }

    /// What is left of a lease that was renewed so short a time ago that it need not be stored again.
    pub(super) fn is_renewed(
        &self,
        nve: &NveName,
        boot: BootId,
        endpoint: &Endpoint,
        now: Duration,
    ) -> Option<u32> {
        let edge = self.state.edges.get(nve)?;
        let left = self.leases.get(nve)?.checked_sub(now)?;
        let claimed = |ip| self.state.claims.contains_key(ip);
        let same = edge.boot == boot
            && edge.endpoint == *endpoint
            && endpoint.tunnel_addresses.iter().all(claimed);
        let soon = left > self.limits.lease - self.limits.lease / RENEWED;
        u32::try_from(left.as_secs()).ok().filter(|_| same && soon)
    }

    /// Declares where an edge may be, or that nothing is declared.
    pub(super) fn declare(&self, plan: &mut Plan, change: &Change) -> Result<(), Denied> {
        match change {
            Change::EdgeSet { nve, places } => self.edge_set(plan, nve, places),
            Change::EdgeUnset { nve } => {
                if self.state.contains(&Key::Declared(nve.clone())) {
                    plan.delete(&self.state, Key::Declared(nve.clone()));
                    self.edge_unset(plan, nve);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn edge_set(&self, plan: &mut Plan, nve: &NveName, places: &Places) -> Result<(), Denied> {
        let state = &self.state;
        if let Some(ip) = places.tunnel_addresses.iter().find(|ip| !is_station(ip)) {
            return Err(conflict(&format!("{ip} is not the address of one host")));
        }
        if let Some(ip) = twice(&places.tunnel_addresses) {
            return Err(conflict(&format!("{ip} is there twice")));
        }
        if places.tunnel_addresses.is_empty() {
            return Err(conflict(&format!("{nve} needs a tunnel address")));
        }
        if state.declared.get(nve) == Some(places) {
            return Ok(());
        }
        let mut moved = vec![nve];
        for ip in places.tunnel_addresses.iter() {
            match state.claims.get(ip) {
                Some(claim) if claim.nve == *nve && claim.declared => continue,
                Some(claim) if claim.nve != *nve && claim.declared => {
                    let other = &claim.nve;
                    return Err(conflict(&format!("{ip} is declared for {other}")));
                }
                // Whoever was first has it no more.
                Some(claim) => moved.push(&claim.nve),
                None => {}
            }
            let claim = Claim {
                nve: nve.clone(),
                declared: true,
            };
            plan.put(state, Key::Claim(*ip), Record::Claim(claim));
        }
        for ip in state.claimed(nve) {
            if !places.tunnel_addresses.contains(ip) {
                plan.delete(state, Key::Claim(*ip));
            }
        }
        moved.sort_unstable();
        moved.dedup();
        for edge in moved {
            let Some(record) = state.edges.get(edge) else {
                continue;
            };
            let mut tunnels = record.endpoint.tunnel_addresses.iter();
            // Where it has its sessions from is not known here; it is looked at when it renews.
            let stays = match edge == nve {
                true => fits(places, &record.endpoint, None),
                false => !tunnels.any(|ip| places.tunnel_addresses.contains(ip)),
            };
            if !stays {
                plan.delete(state, Key::Edge(edge.clone()));
            }
        }
        plan.put(
            state,
            Key::Declared(nve.clone()),
            Record::Declared(places.clone()),
        );
        Ok(())
    }

    /// Its addresses are free, but for those it is at: of these it was the first.
    fn edge_unset(&self, plan: &mut Plan, nve: &NveName) {
        let state = &self.state;
        for ip in state.claimed(nve) {
            match state.addresses.get(ip) == Some(nve) {
                true => {
                    let claim = Claim {
                        nve: nve.clone(),
                        declared: false,
                    };
                    plan.put(state, Key::Claim(*ip), Record::Claim(claim));
                }
                false => plan.delete(state, Key::Claim(*ip)),
            }
        }
    }

    /// An edge is gone: what it was the first to claim is free.
    pub(super) fn release(&self, plan: &mut Plan, nve: &NveName) -> Result<(), Denied> {
        let state = &self.state;
        if self.current.contains_key(nve) {
            return Err(conflict(&format!("{nve} is connected; revoke it instead")));
        }
        if state.edges.contains_key(nve) {
            plan.delete(state, Key::Edge(nve.clone()));
        }
        for ip in state.claimed(nve) {
            if state.claims.get(ip).is_some_and(|claim| !claim.declared) {
                plan.delete(state, Key::Claim(*ip));
            }
        }
        Ok(())
    }
}

/// An address that is there more than once: no edge's tables take such a peer.
fn twice(addresses: &[IpAddr]) -> Option<&IpAddr> {
    let mut seen = BTreeSet::new();
    addresses.iter().find(|ip| !seen.insert(**ip))
}

/// Whether an edge for which `places` is declared may be at `endpoint`. A session's source that is not
/// known is not in the way.
fn fits(places: &Places, endpoint: &Endpoint, source: Option<IpAddr>) -> bool {
    let declared = |ip: &IpAddr| places.tunnel_addresses.contains(ip);
    let control = endpoint.control_address.ip();
    let tunnels = endpoint.tunnel_addresses.iter().all(declared);
    let in_prefix = places.control.iter().any(|of| of.contains(control));
    let at = endpoint.tunnel_addresses.contains(&control)
        || declared(&control)
        || match (places.control.is_empty(), source) {
            (true, Some(source)) => source == control,
            (true, None) => true,
            (false, _) => in_prefix,
        };
    tunnels && at
}

/// Whether other edges that go to the control address of an edge come to that one and no other: it is one
/// of its tunnel addresses, which are nobody else's, or the session comes from there, which it could not
/// if answers did not get there.
fn reaches(endpoint: &Endpoint, source: IpAddr) -> bool {
    let control = endpoint.control_address.ip();
    control == source || endpoint.tunnel_addresses.contains(&control)
}
