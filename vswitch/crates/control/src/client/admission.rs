//! The addresses of this edge's ports in one VN: asked for, admitted, refused, and lost to others.

use std::collections::BTreeMap;

use super::Addresses;
use crate::message::ima::{Rejection, VnFromEdge};
use crate::message::overlay::Ips;
use crate::types::{Generation, Mac, PortName};

/// How an address stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// To be asked for.
    Due,
    /// Asked for.
    Asked,
    /// Nothing is to be done: admitted.
    Settled,
    /// Not admitted; asked for again when the authority says that something has changed.
    Refused(Rejection),
    /// Another edge has it now; likewise.
    Lost,
}

#[derive(Debug)]
struct Address {
    port: PortName,
    ips: Ips,
    standing: Standing,
    /// Of the registration, as long as it is good.
    admitted: Option<Generation>,
}

#[derive(Debug, Default)]
pub(super) struct Admission {
    addresses: BTreeMap<Mac, Address>,
}

/// Whether nothing was decided: the store is away, or this edge has asked too much.
pub(super) fn is_undecided(why: Rejection) -> bool {
    matches!(why, Rejection::Unavailable | Rejection::Busy)
}

impl Admission {
    /// What ports have now; what is to be withdrawn.
    pub(super) fn want(&mut self, wanted: Addresses) -> Vec<Mac> {
        let mut withdrawn = Vec::new();
        self.addresses.retain(|mac, address| {
            let stays = wanted.contains_key(mac);
            let told = address.admitted.is_some() || address.standing == Standing::Asked;
            if !stays && told {
                withdrawn.push(*mac);
            }
            stays
        });
        for (mac, (port, ips)) in wanted {
            match self.addresses.get_mut(&mac) {
                Some(known) if (&known.port, &known.ips) == (&port, &ips) => {}
                Some(known) => {
                    (known.port, known.ips) = (port, ips);
                    known.standing = Standing::Due;
                }
                None => {
                    let address = Address {
                        port,
                        ips,
                        standing: Standing::Due,
                        admitted: None,
                    };
                    self.addresses.insert(mac, address);
                }
            }
        }
        withdrawn
    }

    /// What is to be asked for now; it counts as asked.
    pub(super) fn ask(&mut self) -> Vec<VnFromEdge> {
        let due = self.addresses.iter_mut();
        due.filter(|(_, address)| address.standing == Standing::Due)
            .map(|(mac, address)| {
                address.standing = Standing::Asked;
                VnFromEdge::Register {
                    port: address.port.clone(),
                    mac: *mac,
                    ips: address.ips.clone(),
                }
            })
            .collect()
    }

    /// A new session knows of nothing that was asked for in the one before.
    pub(super) fn ask_all(&mut self) {
        for address in self.addresses.values_mut() {
            address.standing = Standing::Due;
        }
    }

    /// What was asked for may have been answered, and the answer not understood.
    pub(super) fn ask_unanswered(&mut self) {
        for address in self.addresses.values_mut() {
            if address.standing == Standing::Asked {
                address.standing = Standing::Due;
            }
        }
    }

    /// What is placed here has changed.
    pub(super) fn ask_refused(&mut self) {
        for address in self.addresses.values_mut() {
            if matches!(address.standing, Standing::Refused(_) | Standing::Lost) {
                address.standing = Standing::Due;
            }
        }
    }

    /// What a server could not decide.
    pub(super) fn ask_undecided(&mut self) {
        for address in self.addresses.values_mut() {
            if matches!(address.standing, Standing::Refused(why) if is_undecided(why)) {
                address.standing = Standing::Due;
            }
        }
    }

    /// Returns whether what is admitted has changed.
    pub(super) fn registered(&mut self, mac: Mac, generation: Generation) -> bool {
        let Some(address) = self.addresses.get_mut(&mac) else {
            return false;
        };
        if address.standing == Standing::Asked {
            address.standing = Standing::Settled;
        }
        address.admitted.replace(generation).is_none()
    }

    /// Returns the port, and whether what is admitted has changed.
    pub(super) fn rejected(&mut self, mac: Mac, why: Rejection) -> Option<(PortName, bool)> {
        let address = self.addresses.get_mut(&mac)?;
        address.standing = Standing::Refused(why);
        let withdrawn = !is_undecided(why) && address.admitted.take().is_some();
        Some((address.port.clone(), withdrawn))
    }

    /// Somebody else has an address since `generation`, or nobody. The port that loses it by that.
    pub(super) fn superseded(&mut self, mac: Mac, generation: Generation) -> Option<PortName> {
        let address = self.addresses.get_mut(&mac)?;
        if address.admitted.is_none_or(|own| own >= generation) {
            return None;
        }
        address.admitted = None;
        address.standing = Standing::Lost;
        Some(address.port.clone())
    }

    /// The generation under which an address is ours.
    pub(super) fn generation(&self, mac: Mac) -> Option<Generation> {
        self.addresses.get(&mac)?.admitted
    }

    /// The authority says that this edge has an address. Whether a port wants it.
    pub(super) fn is_wanted(&self, mac: Mac) -> bool {
        self.addresses.contains_key(&mac)
    }

    /// A complete list of what is registered does not have these: they are asked for anew.
    pub(super) fn ask_missing(&mut self, listed: impl Fn(Mac) -> bool) {
        for (mac, address) in &mut self.addresses {
            if address.standing == Standing::Settled && !listed(*mac) {
                address.standing = Standing::Due;
            }
        }
    }

    /// Nothing is admitted any more.
    pub(super) fn clear(&mut self) {
        for address in self.addresses.values_mut() {
            address.admitted = None;
            address.standing = Standing::Due;
        }
    }

    /// All that ports may use.
    pub(super) fn admitted(&self) -> Vec<Mac> {
        let addresses = self.addresses.iter();
        addresses
            .filter(|(_, address)| address.admitted.is_some())
            .map(|(mac, _)| *mac)
            .collect()
    }

    pub(super) fn status(&self) -> Vec<(Mac, PortName, String)> {
        let addresses = self.addresses.iter();
        addresses
            .map(|(mac, address)| {
                let standing = match (address.standing, address.admitted) {
                    (Standing::Refused(why), None) => why.to_string(),
                    (Standing::Lost, _) => "at another edge".to_owned(),
                    (_, Some(_)) => "admitted".to_owned(),
                    (Standing::Due | Standing::Asked | Standing::Settled, None) => {
                        "waiting".to_owned()
                    }
                };
                (*mac, address.port.clone(), standing)
            })
            .collect()
    }
}
