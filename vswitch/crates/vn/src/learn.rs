//! Learning from data, ageing, and the check of what a remote edge may say.

use thiserror::Error;
use vswitch_net::MacAddr;

use crate::fdb::{Claim, Entry, Key, Origin, SEEN_MASK};
use crate::ids::{Destination, TunnelId, VnId};
use crate::tables::Tables;

/// What became of an observation "this address is there".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Learn {
    /// A new entry.
    New,
    /// The address was elsewhere before.
    Moved,
    /// Known already; its age starts anew.
    Refreshed {
        /// The second at which it was seen last, by the clock of `now`.
        before: u64,
    },
    /// A mapping says where the address is, here or elsewhere; it stands.
    RefusedStatic,
    /// The network's limit, the table or a chain of it is full.
    RefusedFull,
    /// Nothing is learned in this network from this side, or the ids do not exist or do not
    /// belong together.
    RefusedOff,
    /// Not the address of a station (a group address, or zero).
    RefusedAddress,
}

/// Why a decapsulated frame's source is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceVerdict {
    /// A mapping says that the address is at this peer.
    Mapped,
    /// The network learns, and no mapping contradicts: [`Tables::learn`] it.
    Learn,
}

/// Why a decapsulated frame's source is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum RemoteSpoof {
    /// The source is a group address or zero.
    #[error("the inner source is not the address of a station")]
    Address,
    /// A mapping says that the address is elsewhere.
    #[error("the inner source is mapped to another place")]
    MappedElsewhere,
    /// There is no mapping, and the network does not learn.
    #[error("the inner source is not mapped")]
    Unmapped,
    /// The tunnel does not exist or belongs to another network.
    #[error("the tunnel is not the network's")]
    Tunnel,
}

/// A unicast address that is not all zero.
pub(crate) fn is_station(mac: MacAddr) -> bool {
    Key::new(VnId(0), mac).is_station()
}

/// Seconds from `seen` to `now`, both modulo 2²⁹. A clock that went back gives an "age" near
/// 2²⁹, which is `None`: such an entry is young.
fn age_at(now: u32, seen: u32) -> Option<u32> {
    let age = now.wrapping_sub(seen) & SEEN_MASK;
    (age <= SEEN_MASK / 2).then_some(age)
}

impl Tables {
    /// Notes that `mac` was seen at `destination`. `now` in seconds of any clock that only
    /// grows, the same for all calls.
    ///
    /// Ports learn if the port says so, tunnels if the network says so. Never overrides a
    /// mapping and never grows the table ([`Tables::maintain`] does).
    pub fn learn(&mut self, vn: VnId, mac: MacAddr, destination: Destination, now: u64) -> Learn {
        if !is_station(mac) {
            return Learn::RefusedAddress;
        }
        if !self.learns_from(vn, destination) {
            return Learn::RefusedOff;
        }
        let seen = now as u32 & SEEN_MASK;
        let key = Key::new(vn, mac);
        let entry = Entry {
            destination,
            origin: Origin::Learned { seen },
        };
        let Some(old) = self.fdb.get(key) else {
            return self.learn_new(key, entry);
        };
        let Origin::Learned { seen: before } = old.origin else {
            return Learn::RefusedStatic;
        };
        // The common case writes nothing, so that the line stays clean.
        if old != entry {
            self.fdb.overwrite(key, entry);
        }
        if old.destination == destination {
            // A clock that went back gives no age.
            let age = age_at(seen, before).unwrap_or(0);
            Learn::Refreshed {
                before: now.saturating_sub(age.into()),
            }
        } else {
            Learn::Moved
        }
    }

    fn learn_new(&mut self, key: Key, entry: Entry) -> Learn {
        let Some(vn) = self.vns.get_mut(key.vn().index()).and_then(Option::as_mut) else {
            return Learn::RefusedOff;
        };
        if vn.learned >= vn.config.learning_limit || !self.fdb.try_insert_new(key, entry) {
            return Learn::RefusedFull;
        }
        vn.learned += 1;
        Learn::New
    }

    fn learns_from(&self, vn: VnId, destination: Destination) -> bool {
        match destination {
            Destination::Port(id) => self
                .port(id)
                .is_some_and(|port| port.vn == vn && port.learning),
            Destination::Tunnel(id) => {
                self.tunnel(id).is_some_and(|tunnel| tunnel.vn == vn)
                    && self.vn(vn).is_some_and(|vn| vn.config.learning)
            }
        }
    }

    /// Whether a frame that came through `tunnel` may have the source `mac`: a member edge
    /// cannot speak for another's tenant.
    ///
    /// # Errors
    /// The reason to drop the frame.
    pub fn check_remote_source(
        &self,
        vn: VnId,
        mac: MacAddr,
        tunnel: TunnelId,
    ) -> Result<SourceVerdict, RemoteSpoof> {
        if !is_station(mac) {
            return Err(RemoteSpoof::Address);
        }
        if self.tunnel(tunnel).is_none_or(|tunnel| tunnel.vn != vn) {
            return Err(RemoteSpoof::Tunnel);
        }
        match self.fdb.get(Key::new(vn, mac)) {
            Some(Entry {
                destination,
                origin: Origin::Static { .. },
            }) => {
                if destination == Destination::Tunnel(tunnel) {
                    Ok(SourceVerdict::Mapped)
                } else {
                    Err(RemoteSpoof::MappedElsewhere)
                }
            }
            Some(_) | None => {
                if self.vn(vn).is_some_and(|vn| vn.config.learning) {
                    Ok(SourceVerdict::Learn)
                } else {
                    Err(RemoteSpoof::Unmapped)
                }
            }
        }
    }

    /// Whether whole, untagged IPv4 packets from tunnels pass both
    /// [`Self::check_remote_source`] and the check of their source addresses, because mappings
    /// name the peers and, first of all, these addresses. `false` decides nothing.
    pub fn vouch_burst(&self, claims: &[Claim], out: &mut [bool]) {
        // A tunnel's id is of one network for as long as it exists, and mappings to it are of
        // that network: no further question.
        self.fdb.vouch_burst(claims, out);
        for (claim, out) in claims.iter().zip(out) {
            *out &= claim.key.is_station();
        }
    }

    /// Forgets every learned entry whose age is above its network's limit. Returns how many.
    pub fn expire(&mut self, now: u64) -> usize {
        self.expire_from(0, usize::MAX, now).1
    }

    /// Housekeeping between bursts, about once a second: forgets what is too old in the next
    /// `slots` slots of the table, and grows the table where learning leaves it little room.
    /// Returns how many entries went.
    ///
    /// Everything is looked at once in `table slots / slots` calls, and that much later an
    /// entry may go than its age says.
    pub fn maintain(&mut self, now: u64, slots: usize) -> usize {
        let (next, removed) = self.expire_from(self.expire_cursor, slots, now);
        self.expire_cursor = next;
        self.make_room();
        removed
    }

    /// Learning needs free slots at hand; a quarter of the table is plenty.
    pub(crate) fn make_room(&mut self) {
        if self.fdb.len() > self.fdb.capacity() / 4 * 3 {
            self.fdb.reserve(self.fdb.len());
        }
    }

    fn expire_from(&mut self, start: usize, slots: usize, now: u64) -> (usize, usize) {
        let vns = &mut self.vns;
        let mut removed = 0;
        let next = self.fdb.retain_from(start, slots, |key, entry| {
            let Origin::Learned { seen } = entry.origin else {
                return true;
            };
            let Some(vn) = vns.get_mut(key.vn().index()).and_then(Option::as_mut) else {
                removed += 1;
                return false;
            };
            let keep = age_at(now as u32, seen).is_none_or(|age| age <= vn.config.learning_age);
            if !keep {
                vn.learned = vn.learned.saturating_sub(1);
                removed += 1;
            }
            keep
        });
        (next, removed)
    }
}
