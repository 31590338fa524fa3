//! What operators declare. Every change is kept with who made it and when, in the same transaction.

use std::net::IpAddr;

use vswitch_control::message::ima::LogId;
use vswitch_control::message::operator::{AuditId, Change, Denied, Text};
use vswitch_control::message::overlay::{Admission, Placement, VnSettings};
use vswitch_control::types::{Epoch, Mac, NveName, OperatorName, Version, VnName};

use super::Engine;
use super::register::within;
use crate::model::{Audit, Clock, Key, Placed, Plan, Record, Revoked, Vn, VnRecord};

/// What the caller contributes to a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The operator: the last part of its identity.
    pub who: Text,
    /// When, and which.
    pub id: AuditId,
    /// Drawn at random: the history of a VN that is new.
    pub log: LogId,
}

fn unknown(what: &str, name: impl core::fmt::Display) -> Denied {
    Denied::Unknown(Text::of(&format!("{what} {name}")))
}

pub(super) fn conflict(why: &str) -> Denied {
    Denied::Conflict(Text::of(why))
}

impl Engine {
    /// Decides on a change. An empty plan: it is so already.
    ///
    /// # Errors
    /// What it is about does not exist, or something is in the way.
    pub fn operator(&self, change: &Change, stamp: &Stamp) -> Result<Plan, Denied> {
        let mut plan = Plan::default();
        let revoked = |name: &OperatorName| name.as_str() == stamp.who.as_str();
        if self.state.operators.keys().any(revoked) {
            // It was under way.
            return Err(conflict("this operator is revoked"));
        }
        match change {
            Change::VnAdd { vn, settings } => self.vn_add(&mut plan, vn, *settings, stamp.log)?,
            Change::VnSet { vn, settings } => self.vn_set(&mut plan, vn, *settings)?,
            Change::VnRemove { vn } => {
                let found = self.declared(vn)?;
                plan.delete(&self.state, Key::Vn(vn.clone()));
                if let Some(declared) = &found.declared {
                    plan.delete(&self.state, Key::Vni(declared.settings.vni));
                }
            }
            Change::MemberAdd { vn, nve } => {
                let found = self.declared(vn)?;
                if !found.members.contains(nve) {
                    self.epoch(&mut plan, vn, found, 0);
                    let key = Key::Member(vn.clone(), nve.clone());
                    plan.put(&self.state, key, Record::Member);
                }
            }
            Change::MemberRemove { vn, nve } => {
                let found = self.declared(vn)?;
                if found.members.contains(nve) {
                    let joined = found.joined.contains_key(nve);
                    self.epoch(&mut plan, vn, found, u64::from(joined));
                    plan.delete(&self.state, Key::Member(vn.clone(), nve.clone()));
                    if joined {
                        plan.delete(&self.state, Key::Joined(vn.clone(), nve.clone()));
                    }
                }
            }
            Change::PlacementAdd { vn, placement } => {
                let found = self.declared(vn)?;
                self.place(&mut plan, vn, found, placement)?;
            }
            Change::PlacementRemove { vn, mac } => {
                let found = self.declared(vn)?;
                if found.placements.contains_key(mac) {
                    plan.delete(&self.state, Key::Placement(vn.clone(), *mac));
                    let registered = found.mappings.contains_key(mac);
                    if registered {
                        plan.delete(&self.state, Key::Mapping(vn.clone(), *mac));
                    }
                    self.placement_tick(&mut plan, vn, found, registered);
                }
            }
            Change::PlacementMove { vn, mac, nve, port } => {
                let found = self.declared(vn)?;
                let Some(placed) = found.placements.get(mac) else {
                    return Err(unknown("placement", format!("{mac} in {vn}")));
                };
                let placement = Placement {
                    mac: *mac,
                    ips: placed.ips.clone(),
                    nve: nve.clone(),
                    port: port.clone().unwrap_or_else(|| placed.port.clone()),
                };
                self.place(&mut plan, vn, found, &placement)?;
            }
            Change::Revoke { nve, reason } => {
                if !self.state.revoked.contains_key(nve) {
                    let record = Revoked {
                        by: stamp.who.clone(),
                        reason: reason.clone(),
                    };
                    plan.put(
                        &self.state,
                        Key::Revoked(nve.clone()),
                        Record::Revoked(record),
                    );
                }
            }
            Change::Unrevoke { nve } => {
                if self.state.revoked.contains_key(nve) {
                    // Else it would be back where it was, and nobody told.
                    if self.state.present(nve).next().is_some() {
                        let why = "is still being cleared away; try again";
                        return Err(conflict(&format!("{nve} {why}")));
                    }
                    plan.delete(&self.state, Key::Revoked(nve.clone()));
                }
            }
            Change::Release { nve } => self.release(&mut plan, nve)?,
            Change::EdgeSet { .. } | Change::EdgeUnset { .. } => self.declare(&mut plan, change)?,
            Change::OperatorRevoke { name, reason } => {
                if name.as_str() == stamp.who.as_str() {
                    return Err(conflict("an operator does not revoke itself"));
                }
                if !self.state.operators.contains_key(name) {
                    let record = Revoked {
                        by: stamp.who.clone(),
                        reason: reason.clone(),
                    };
                    let key = Key::Operator(name.clone());
                    plan.put(&self.state, key, Record::Operator(record));
                }
            }
            Change::OperatorUnrevoke { name } => {
                if self.state.operators.contains_key(name) {
                    plan.delete(&self.state, Key::Operator(name.clone()));
                }
            }
        }
        if !plan.is_empty() {
            // A revoked operator's last request may be under way.
            if let Ok(who) = stamp.who.as_str().parse::<OperatorName>() {
                plan.guard(&self.state, Key::Operator(who));
            }
            let audit = Audit {
                who: stamp.who.clone(),
                change: change.clone(),
            };
            plan.put(&self.state, Key::Audit(stamp.id), Record::Audit(audit));
        }
        Ok(plan)
    }

    fn declared(&self, vn: &VnName) -> Result<&Vn, Denied> {
        if self.state.is_quarantined(vn) {
            return Err(Denied::Unavailable(Text::of(&format!(
                "the record of {vn} is unreadable"
            ))));
        }
        self.state.vn(vn).ok_or_else(|| unknown("network", vn))
    }

    fn vn_add(
        &self,
        plan: &mut Plan,
        name: &VnName,
        settings: VnSettings,
        log: LogId,
    ) -> Result<(), Denied> {
        if self.state.is_quarantined(name) {
            self.declared(name)?;
        }
        if let Some(vn) = self.state.vns.get(name) {
            return match &vn.declared {
                Some(declared) if declared.settings == settings => Ok(()),
                Some(_) => Err(conflict(&format!("{name} is there, with other settings"))),
                None => Err(conflict(&format!(
                    "{name} is still being cleared away; try again"
                ))),
            };
        }
        if let Some(other) = self.state.vnis.get(&settings.vni) {
            return Err(conflict(&format!(
                "VNI {} is that of {other}",
                settings.vni
            )));
        }
        let clock = Clock {
            version: Version(0),
            epoch: Epoch(1),
        };
        plan.put(&self.state, Key::Clock(name.clone()), Record::Clock(clock));
        plan.put(
            &self.state,
            Key::Vni(settings.vni),
            Record::Vni(name.clone()),
        );
        plan.put(
            &self.state,
            Key::Vn(name.clone()),
            Record::Vn(VnRecord { settings, log }),
        );
        Ok(())
    }

    fn vn_set(&self, plan: &mut Plan, name: &VnName, settings: VnSettings) -> Result<(), Denied> {
        let vn = self.declared(name)?;
        let Some(declared) = &vn.declared else {
            return Ok(());
        };
        if declared.settings == settings {
            return Ok(());
        }
        if declared.settings.vni != settings.vni {
            return Err(conflict(&format!("the VNI of {name} cannot change")));
        }
        if settings.admission == Admission::Strict {
            let misplaced = vn.mappings.iter().filter(|(mac, mapping)| {
                let placed = vn.placements.get(mac);
                placed.is_none_or(|placed| !agrees(placed, mapping))
            });
            let count = misplaced.count();
            if count != 0 {
                let why = format!("{count} registered addresses are not placed; place them first");
                return Err(conflict(&why));
            }
        }
        // Members learn it when they join anew.
        self.epoch(plan, name, vn, 0);
        let record = VnRecord {
            settings,
            log: declared.log,
        };
        plan.put(&self.state, Key::Vn(name.clone()), Record::Vn(record));
        Ok(())
    }

    /// A new membership epoch, and `steps` of the log.
    fn epoch(&self, plan: &mut Plan, name: &VnName, vn: &Vn, steps: u64) {
        let clock = Clock {
            version: Version(vn.clock.version.0.saturating_add(steps)),
            epoch: Epoch(vn.clock.epoch.0.saturating_add(1)),
        };
        plan.guard(&self.state, Key::Vn(name.clone()));
        plan.put(&self.state, Key::Clock(name.clone()), Record::Clock(clock));
    }

    fn place(
        &self,
        plan: &mut Plan,
        name: &VnName,
        vn: &Vn,
        placement: &Placement,
    ) -> Result<(), Denied> {
        let mac = placement.mac;
        if mac.0[0] & 1 != 0 || mac.0 == [0; 6] {
            return Err(conflict(&format!("{mac} is not the address of a station")));
        }
        let other = |ip: &&IpAddr| vn.placed_ips.get(*ip).is_some_and(|other| *other != mac);
        if let Some(ip) = placement.ips.iter().find(other) {
            return Err(conflict(&format!(
                "{ip} is placed with another MAC address in {name}"
            )));
        }
        let placed = Placed {
            ips: placement.ips.clone(),
            nve: placement.nve.clone(),
            port: placement.port.clone(),
        };
        if vn.placements.get(&mac) == Some(&placed) {
            return Ok(());
        }
        plan.guard(&self.state, Key::Vn(name.clone()));
        // What contradicts it ends now, not when somebody registers.
        let mut ended: Vec<Mac> = placed
            .ips
            .iter()
            .filter_map(|ip| vn.ips.get(ip).copied())
            .collect();
        ended.retain(|other| *other != mac);
        if vn
            .mappings
            .get(&mac)
            .is_some_and(|mapping| !agrees(&placed, mapping))
        {
            ended.push(mac);
        }
        ended.sort_unstable();
        ended.dedup();
        for mac in &ended {
            plan.delete(&self.state, Key::Mapping(name.clone(), *mac));
        }
        self.placement_tick(plan, name, vn, !ended.is_empty());
        plan.put(
            &self.state,
            Key::Placement(name.clone(), mac),
            Record::Placed(placed),
        );
        Ok(())
    }

    /// Every registration and every placement writes the VN's counters, so that of two that contradict
    /// each other at two servers only one takes effect. They advance with what members are told, or where
    /// a first claim made at another server meanwhile might have been.
    fn placement_tick(&self, plan: &mut Plan, name: &VnName, vn: &Vn, ends: bool) {
        let settings = vn.declared.as_ref().map(|declared| declared.settings);
        let open = settings.is_some_and(|settings| settings.admission == Admission::FirstClaim);
        super::edge::tick(plan, &self.state, name, vn, u64::from(ends || open));
    }

    /// Whether an edge has a session with this server.
    #[must_use]
    pub fn is_connected(&self, nve: &NveName) -> bool {
        self.current.contains_key(nve)
    }
}

/// Whether what is registered is what is placed.
fn agrees(placed: &Placed, mapping: &crate::model::MappingRecord) -> bool {
    placed.nve == mapping.nve && placed.port == mapping.port && within(&mapping.ips, &placed.ips)
}
