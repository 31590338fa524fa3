//! What the authority says of a VN under its channel: steps of its log, and what became of
//! registrations. Of two things said about one address the newer counts.

use core::time::Duration;
use std::collections::VecDeque;

use super::{Network, Reply, Staging, event};
use crate::client::admission::is_undecided;
use crate::client::{Alarm, Event, Output};
use crate::message::decode;
use crate::message::ima::{Base, Rejection, Resume, Update, VnFromIma};
use crate::message::overlay::Mapping;
use crate::types::{Epoch, Generation, Mac, NveName};

/// What a server could not decide is asked again after this.
const UNDECIDED: Duration = Duration::from_secs(2);

impl Network {
    /// Something that only a member may read.
    pub(in crate::client) fn sealed(
        &mut self,
        now: Duration,
        epoch: Epoch,
        bytes: &[u8],
        me: &NveName,
        outputs: &mut VecDeque<Output>,
    ) -> Result<Option<Reply>, &'static str> {
        let opened = match &mut self.channel {
            Some((of, channel)) if *of == epoch => channel.open(bytes).ok(),
            _ => None,
        };
        let Some(opened) = opened else {
            self.unopened(now, outputs);
            return Ok(None);
        };
        self.unopened = 0;
        match decode(&opened).map_err(|_| "a sealed message that is none")? {
            VnFromIma::Update(update) => self.update(now, update, me, outputs)?,
            VnFromIma::Registered { mac, generation } => {
                if self.admission.registered(mac, generation) {
                    let moved_here: Vec<Mac> = self
                        .mappings
                        .remove(mac)
                        .map(|m| m.mac)
                        .into_iter()
                        .collect();
                    self.tell_mappings(false, Vec::new(), moved_here, outputs);
                    self.tell_admitted(outputs);
                }
            }
            VnFromIma::Rejected { mac, why } => {
                if is_undecided(why)
                    && let Some(said) = self.withdrawn.get_mut(&mac)
                {
                    *said = false;
                    self.again = Some(now + UNDECIDED);
                }
                if let Some((port, changed)) = self.admission.rejected(mac, why) {
                    if changed {
                        self.tell_admitted(outputs);
                    }
                    match why {
                        Rejection::Unavailable | Rejection::Busy => {
                            self.again = Some(now + UNDECIDED)
                        }
                        _ => event(
                            outputs,
                            Event::Alarm(Alarm::Rejected {
                                vn: self.name.clone(),
                                port,
                                mac,
                                why,
                            }),
                        ),
                    }
                }
            }
            VnFromIma::Placed => {
                self.admission.ask_refused();
                self.register(outputs);
            }
            VnFromIma::Answer { id, mapping, ttl } => {
                return Ok(Some(Reply { id, mapping, ttl }));
            }
        }
        Ok(None)
    }

    fn update(
        &mut self,
        now: Duration,
        update: Update,
        me: &NveName,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), &'static str> {
        let log = self.terms.map(|terms| terms.log).ok_or("not joined")?;
        let to = Resume {
            log,
            version: update.to,
        };
        match update.base {
            Base::Version(base) => {
                // What is told from an earlier version on has all that is new as well: so it is when this
                // edge joined again while an update was under way.
                let known = self.resume.map(|resume| resume.version);
                if known.is_none_or(|known| known < base || to.version < known) {
                    // Something is missing: all of it is told when the VN is joined anew. If that is
                    // under way, it goes on from what is known.
                    if !self.is_joining() {
                        self.resume = None;
                        self.join_anew(now);
                    }
                    return Ok(());
                }
                self.resume = Some(to);
                self.apply(update, me, outputs);
            }
            Base::Full { first, last } => {
                if first {
                    self.staging = Some(Staging::default());
                }
                let staging = self.staging.as_mut().ok_or("a part without a beginning")?;
                let members = update.members.into_inner().into_iter();
                staging.members.extend(members.map(|m| (m.nve.clone(), m)));
                let mappings = update.mappings.into_inner().into_iter();
                staging.mappings.extend(mappings.map(|m| (m.mac, m)));
                if last && let Some(staging) = self.staging.take() {
                    self.resume = Some(to);
                    self.replace(staging, me, outputs);
                }
            }
        }
        Ok(())
    }

    /// A step from what is known.
    fn apply(&mut self, update: Update, me: &NveName, outputs: &mut VecDeque<Output>) {
        let mut members = false;
        for member in update.members.into_inner() {
            if member.nve != *me {
                let before = self.members.insert(member.nve.clone(), member.clone());
                members |= before != Some(member);
            }
        }
        for nve in update.gone.into_inner() {
            members |= self.members.remove(&nve).is_some();
        }
        if members {
            self.tell_members(outputs);
        }
        let admitted = self.admission.admitted();
        let (mut upserts, mut withdrawals) = (Vec::new(), Vec::new());
        for mapping in update.mappings.into_inner() {
            self.take(mapping, me, &mut upserts, &mut withdrawals, outputs);
        }
        for gone in update.withdrawn.into_inner() {
            self.withdrawn.remove(&gone.mac);
            self.supersede(gone.mac, gone.generation, outputs);
            let known = self.mappings.get(gone.mac);
            if known.is_some_and(|known| known.generation <= gone.generation) {
                self.mappings.remove(gone.mac);
                withdrawals.push(gone.mac);
            }
        }
        // Of one address in one step only the last counts.
        upserts.retain(|mapping: &Mapping| self.mappings.get(mapping.mac) == Some(mapping));
        withdrawals.retain(|mac| !self.mappings.contains(*mac));
        self.tell_mappings(false, upserts, withdrawals, outputs);
        if self.admission.admitted() != admitted {
            self.tell_admitted(outputs);
        }
    }

    /// Everything there is.
    fn replace(&mut self, staging: Staging, me: &NveName, outputs: &mut VecDeque<Output>) {
        let Staging {
            mut members,
            mappings,
        } = staging;
        members.remove(me);
        self.members = members;
        self.tell_members(outputs);
        let admitted = self.admission.admitted();
        let listed = |mac| mappings.get(&mac).is_some_and(|m: &Mapping| m.nve == *me);
        self.withdrawn.retain(|mac, _| listed(*mac));
        self.admission.ask_missing(listed);
        self.mappings.clear();
        let (mut upserts, mut withdrawals) = (Vec::new(), Vec::new());
        for mapping in mappings.into_values() {
            self.take(mapping, me, &mut upserts, &mut withdrawals, outputs);
        }
        self.tell_mappings(true, upserts, Vec::new(), outputs);
        if self.admission.admitted() != admitted {
            self.tell_admitted(outputs);
        }
        self.register(outputs);
    }

    /// A mapping, unless something newer is known.
    fn take(
        &mut self,
        mapping: Mapping,
        me: &NveName,
        upserts: &mut Vec<Mapping>,
        withdrawals: &mut Vec<Mac>,
        outputs: &mut VecDeque<Output>,
    ) {
        let mac = mapping.mac;
        if mapping.nve == *me {
            if self.mappings.remove(mac).is_some() {
                withdrawals.push(mac);
            }
            if !self.admission.is_wanted(mac) {
                // Of an earlier run of this edge, or what it gave up was not heard.
                self.give_up(mac);
                self.register(outputs);
            }
            return;
        }
        self.withdrawn.remove(&mac);
        self.supersede(mac, mapping.generation, outputs);
        let ours = self.admission.generation(mac);
        let known = self.mappings.get(mac).map(|known| known.generation);
        if ours
            .max(known)
            .is_some_and(|newer| newer >= mapping.generation)
        {
            return;
        }
        upserts.push(mapping.clone());
        self.mappings.insert(mapping);
    }

    /// An address of ours is somebody else's or nobody's by now.
    fn supersede(&mut self, mac: Mac, generation: Generation, outputs: &mut VecDeque<Output>) {
        if let Some(port) = self.admission.superseded(mac, generation) {
            let alarm = Alarm::Lost {
                vn: self.name.clone(),
                port,
                mac,
            };
            event(outputs, Event::Alarm(alarm));
        }
    }

    /// A mapping that answers a question.
    pub(in crate::client) fn found(
        &mut self,
        mapping: Mapping,
        me: &NveName,
        outputs: &mut VecDeque<Output>,
    ) {
        let (mut upserts, mut withdrawals) = (Vec::new(), Vec::new());
        let admitted = self.admission.admitted();
        self.take(mapping, me, &mut upserts, &mut withdrawals, outputs);
        self.tell_mappings(false, upserts, withdrawals, outputs);
        if self.admission.admitted() != admitted {
            self.tell_admitted(outputs);
        }
    }
}
