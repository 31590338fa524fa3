//! Who may say that it has an address: the edge on which it is placed, or, where a VN says so, whoever
//! claims it first.

use std::net::IpAddr;

use vswitch_control::message::ima::Rejection;
use vswitch_control::message::overlay::{Admission, Ips};
use vswitch_control::types::{Generation, Mac, NveName, PortName, Version, VnName};

use super::Engine;
use super::edge::{guard_member, is_station, tick};
use crate::model::{Key, MappingRecord, Plan, Record, Vn};

/// Whether an edge may say that an address has these IP addresses where those are placed: one of them
/// or more. To say none is to say any that nobody else has, so that is only for where none is placed.
pub(super) fn within(said: &Ips, placed: &Ips) -> bool {
    said.is_empty() == placed.is_empty() && said.iter().all(|ip| placed.contains(ip))
}

impl Engine {
    /// Decides on a registration: what to store, and the generation of the mapping.
    pub(super) fn register(
        &self,
        nve: &NveName,
        name: &VnName,
        vn: &Vn,
        port: &PortName,
        mac: Mac,
        ips: &Ips,
    ) -> Result<(Plan, Generation), Rejection> {
        if mac.0[0] & 1 != 0 || mac.0 == [0; 6] || !ips.iter().all(is_station) {
            return Err(Rejection::Unusable);
        }
        if self.state.is_unreadable(&Key::Placement(name.clone(), mac)) {
            return Err(Rejection::Unavailable);
        }
        let present = vn.mappings.get(&mac);
        let placed = vn.placements.get(&mac);
        if let Some(placed) = placed {
            if placed.nve != *nve {
                return Err(Rejection::NotPlaced);
            }
            if placed.port != *port {
                return Err(Rejection::OtherPort);
            }
            if !within(ips, &placed.ips) {
                return Err(Rejection::OtherIps);
            }
        } else {
            match vn
                .declared
                .as_ref()
                .map(|declared| declared.settings.admission)
            {
                Some(Admission::FirstClaim) => {}
                Some(Admission::Strict) | None => return Err(Rejection::NotPlaced),
            }
            if present.is_some_and(|present| present.nve != *nve) {
                return Err(Rejection::Taken);
            }
            let others = |ip: &IpAddr| {
                vn.placed_ips.contains_key(ip) || vn.ips.get(ip).is_some_and(|other| *other != mac)
            };
            if ips.iter().any(others) {
                return Err(Rejection::Taken);
            }
        }
        if let Some(present) = present
            && (&present.nve, &present.port, &present.ips) == (nve, port, ips)
        {
            return Ok((Plan::default(), present.generation));
        }
        let held = vn.held.get(nve);
        let new = held.is_none_or(|held| !held.contains(&mac));
        if new && held.map_or(0, |held| held.len()) >= self.limits.edge.registrations as usize {
            return Err(Rejection::TooMany);
        }
        let mut plan = Plan::default();
        guard_member(&mut plan, &self.state, name, nve);
        plan.guard(&self.state, Key::Joined(name.clone(), nve.clone()));
        plan.guard(&self.state, Key::Placement(name.clone(), mac));
        // Whoever has an address that is placed here has it from a first claim.
        let mut evicted: Vec<Mac> = ips
            .iter()
            .filter_map(|ip| vn.ips.get(ip).copied())
            .collect();
        evicted.sort_unstable();
        evicted.dedup();
        evicted.retain(|other| *other != mac);
        for other in &evicted {
            plan.delete(&self.state, Key::Mapping(name.clone(), *other));
        }
        let Version(version) = tick(&mut plan, &self.state, name, vn, 1);
        let generation = Generation(version);
        let mapping = MappingRecord {
            ips: ips.clone(),
            nve: nve.clone(),
            port: port.clone(),
            generation,
        };
        plan.put(
            &self.state,
            Key::Mapping(name.clone(), mac),
            Record::Mapping(mapping),
        );
        Ok((plan, generation))
    }
}
