//! What sessions are to be sent without asking. Nothing is queued here: what a session was told is
//! compared with the state when there is room to send. A slow edge falls behind by a number alone, and
//! gets the sum of what it missed, or everything.

use std::collections::BTreeMap;
use std::ops::Bound;

use vswitch_control::message::Bounded;
use vswitch_control::message::ima::{
    Base, FromIma, Goodbye, MAX_ENTRIES, Member, Update, VnFromIma, Withdrawal,
};
use vswitch_control::message::overlay::{Endpoint, Mapping};
use vswitch_control::types::{Epoch, Generation, Mac, NveName, Version, VnName};

use super::{Engine, SessionId};
use crate::model::{Revoked, Vn, What};

/// Edges without rights: nobody is told of them, whether or not the sweep has come by.
type Outcasts = BTreeMap<NveName, Revoked>;

/// Bytes of entries after which a part is full: below the longest sealed message by more than the
/// longest entry.
const PART: usize = 48 * 1024;

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Push {
    /// As it is.
    Clear(FromIma),
    /// Sealed by a VN's channel.
    Vn {
        /// Which VN.
        vn: VnName,
        /// What.
        message: VnFromIma,
    },
    /// The last message; then the session is closed.
    Close(Goodbye),
}

/// How far an edge was told everything.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    /// The state when it began. What changes while it goes on follows as a step from there.
    start: Version,
    first: bool,
    members: Option<NveName>,
    mappings: Option<Mac>,
    in_mappings: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    /// All up to here.
    Version(Version),
    /// Nothing yet.
    Nothing,
    /// Some of everything.
    Partly(Cursor),
}

/// An edge's place in a VN.
#[derive(Debug)]
pub(super) struct Seat {
    epoch: Epoch,
    told: Told,
    pub(super) placed: bool,
}

impl Seat {
    pub(super) const fn new(epoch: Epoch, told: Option<Version>) -> Self {
        let told = match told {
            Some(version) => Told::Version(version),
            None => Told::Nothing,
        };
        Self {
            epoch,
            told,
            placed: false,
        }
    }
}

impl Engine {
    /// A session for which there may be something to send, beginning after `after`.
    #[must_use]
    pub fn ready(&self, after: Option<SessionId>) -> Option<SessionId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.ready.range((from, Bound::Unbounded)).next().copied()
    }

    /// The next thing to send to a session. It counts as told.
    pub fn next(&mut self, id: SessionId) -> Option<Push> {
        let push = self.find(id);
        if push.is_none() {
            self.ready.remove(&id);
        }
        push
    }

    fn find(&mut self, id: SessionId) -> Option<Push> {
        let session = self.sessions.get_mut(&id)?;
        if let Some(why) = session.closing {
            return Some(Push::Close(why));
        }
        if let Some(nve) = session.revoked.pop_first() {
            return Some(Push::Clear(FromIma::Revoked { nve }));
        }
        while let Some(name) = session.dirty.first().cloned() {
            let Some(seat) = session.seats.get_mut(&name) else {
                session.dirty.remove(&name);
                continue;
            };
            if self.state.is_quarantined(&name) {
                session.dirty.remove(&name);
                continue;
            }
            let vn = self.state.vn(&name).filter(|vn| {
                self.state.admits(&name, &session.nve) && vn.joined.contains_key(&session.nve)
            });
            let Some(vn) = vn else {
                session.seats.remove(&name);
                session.dirty.remove(&name);
                self.unwatch(&name, id);
                return Some(Push::Clear(FromIma::Expelled { vn: name }));
            };
            if seat.epoch < vn.clock.epoch {
                seat.epoch = vn.clock.epoch;
                let epoch = seat.epoch;
                return Some(Push::Clear(FromIma::NewEpoch { vn: name, epoch }));
            }
            if std::mem::take(&mut seat.placed) {
                return Some(Push::Vn {
                    vn: name,
                    message: VnFromIma::Placed,
                });
            }
            if let Some(update) = tell(vn, &self.state.revoked, &mut seat.told) {
                return Some(Push::Vn {
                    vn: name,
                    message: VnFromIma::Update(update),
                });
            }
            session.dirty.remove(&name);
            self.marked.remove(&name);
        }
        None
    }
}

/// The next part of what is missing.
fn tell(vn: &Vn, outcasts: &Outcasts, told: &mut Told) -> Option<Update> {
    if let Told::Version(version) = *told {
        if version == vn.clock.version {
            return None;
        }
        if vn.reaches(version)
            && let Some(update) = step(vn, outcasts, version)
        {
            *told = Told::Version(update.to);
            return Some(update);
        }
        *told = Told::Nothing;
    }
    let mut cursor = match std::mem::replace(told, Told::Nothing) {
        // What ended since the beginning must still be known when it is done.
        Told::Partly(cursor) if vn.reaches(cursor.start) => cursor,
        _ => Cursor {
            start: vn.clock.version,
            first: true,
            members: None,
            mappings: None,
            in_mappings: false,
        },
    };
    let (update, last) = part(vn, outcasts, &mut cursor);
    *told = if last {
        Told::Version(cursor.start)
    } else {
        Told::Partly(cursor)
    };
    Some(update)
}

/// Entries of a part, and about how many bytes they take.
#[derive(Default)]
struct Part {
    bytes: usize,
    count: usize,
    members: Vec<Member>,
    gone: Vec<NveName>,
    mappings: Vec<Mapping>,
    withdrawn: Vec<Withdrawal>,
}

impl Part {
    fn is_full(&self) -> bool {
        self.bytes >= PART || self.count >= MAX_ENTRIES
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.count += 1;
    }

    fn member(&mut self, nve: &NveName, endpoint: &Endpoint) {
        self.count(nve.as_str().len() + 17 * endpoint.tunnel_addresses.len() + 24);
        self.members.push(Member {
            nve: nve.clone(),
            endpoint: endpoint.clone(),
        });
    }

    fn mapping(&mut self, mapping: Mapping) {
        self.count(mapping.nve.as_str().len() + 17 * mapping.ips.len() + 18);
        self.mappings.push(mapping);
    }

    fn update(self, base: Base, to: Version) -> Option<Update> {
        // No list is longer than all together may be.
        Some(Update {
            base,
            to,
            members: Bounded::try_from(self.members).ok()?,
            gone: Bounded::try_from(self.gone).ok()?,
            mappings: Bounded::try_from(self.mappings).ok()?,
            withdrawn: Bounded::try_from(self.withdrawn).ok()?,
        })
    }
}

/// What has changed after `from`, as far as it fits. `None` if not even one version does.
fn step(vn: &Vn, outcasts: &Outcasts, from: Version) -> Option<Update> {
    let mut part = Part::default();
    // All of `whole` is in the part, and what there was of `current` so far.
    let (mut whole, mut current) = (from, from);
    let mut to = vn.clock.version;
    for (version, what) in vn.since(from) {
        if version != current {
            (whole, current) = (current, version);
            if part.is_full() {
                to = whole;
                break;
            }
        } else if part.count >= MAX_ENTRIES {
            to = whole;
            break;
        }
        match what {
            What::Member(nve) => match vn.joined.get(nve).filter(|_| !outcasts.contains_key(nve)) {
                Some(joined) => part.member(nve, &joined.endpoint),
                None => {
                    part.count(nve.as_str().len() + 1);
                    part.gone.push(nve.clone());
                }
            },
            What::Mapping(mac) => match vn
                .mapping(*mac)
                .filter(|it| !outcasts.contains_key(&it.nve))
            {
                Some(mapping) => part.mapping(mapping),
                None => {
                    part.count(16);
                    let generation = Generation(version.0);
                    part.withdrawn.push(Withdrawal {
                        mac: *mac,
                        generation,
                    });
                }
            },
        }
        if part.bytes > PART + 8 * 1024 {
            return None;
        }
    }
    if to == from {
        return None;
    }
    part.update(Base::Version(from), to)
}

/// The next part of everything, and whether it is the last.
fn part(vn: &Vn, outcasts: &Outcasts, cursor: &mut Cursor) -> (Update, bool) {
    let mut part = Part::default();
    if !cursor.in_mappings {
        let from = cursor
            .members
            .as_ref()
            .map_or(Bound::Unbounded, Bound::Excluded);
        for (nve, joined) in vn.joined.range::<NveName, _>((from, Bound::Unbounded)) {
            if part.is_full() {
                break;
            }
            if !outcasts.contains_key(nve) {
                part.member(nve, &joined.endpoint);
            }
            cursor.members = Some(nve.clone());
        }
        cursor.in_mappings = !part.is_full();
    }
    let mut last = cursor.in_mappings;
    if cursor.in_mappings {
        let from = cursor.mappings.map_or(Bound::Unbounded, Bound::Excluded);
        for (mac, _) in vn.mappings.range((from, Bound::Unbounded)) {
            if part.is_full() {
                last = false;
                break;
            }
            let mapping = vn.mapping(*mac);
            if let Some(mapping) = mapping.filter(|it| !outcasts.contains_key(&it.nve)) {
                part.mapping(mapping);
            }
            cursor.mappings = Some(*mac);
        }
    }
    let base = Base::Full {
        first: std::mem::take(&mut cursor.first),
        last,
    };
    let update = part.update(base, cursor.start).unwrap_or_else(|| Update {
        base,
        to: cursor.start,
        members: Bounded::default(),
        gone: Bounded::default(),
        mappings: Bounded::default(),
        withdrawn: Bounded::default(),
    });
    (update, last)
}
