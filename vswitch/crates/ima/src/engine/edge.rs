//! What an edge asks for. Whatever it says, it speaks for itself alone: the edge in every record that
//! comes of it is the one whose session it is.

use std::net::IpAddr;
use std::time::Duration;

use vswitch_control::message::ima::{
    EdgeLimits, Goodbye, LogId, Refusal, Resume, VnFromEdge, VnFromIma, Wanted,
};
use vswitch_control::message::overlay::{Endpoint, VnSettings};
use vswitch_control::types::{BootId, Epoch, NveName, Version, VnName};

use super::{Engine, SessionId};
use crate::model::{Clock, Joined, Key, Plan, Record, State, Vn};

/// What an edge sent, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EdgeRequest {
    /// Who and where it is.
    Hello {
        /// This run of it.
        boot: BootId,
        /// Where it is reached.
        endpoint: Endpoint,
    },
    /// A longer lease.
    Renew {
        /// Comes back.
        sequence: u64,
    },
    /// Into a VN.
    Join {
        /// Which.
        vn: VnName,
        /// What it knows already.
        resume: Option<Resume>,
    },
    /// Out of a VN.
    Leave {
        /// Which.
        vn: VnName,
    },
    /// A message of a VN's channel.
    Vn {
        /// Which VN.
        vn: VnName,
        /// What.
        message: VnFromEdge,
    },
}

/// What an edge is answered, once everything is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To `Hello`.
    Welcome {
        /// This run of the edge.
        boot: BootId,
        /// Where it is reached.
        endpoint: Endpoint,
        /// Length of the lease, in seconds.
        lease: u32,
        /// What it may do.
        limits: EdgeLimits,
    },
    /// To `Renew`.
    Renewed {
        /// Of the request.
        sequence: u64,
        /// Length of the lease, in seconds.
        lease: u32,
    },
    /// To `Join`.
    Joined {
        /// Which VN.
        vn: VnName,
        /// Its epoch.
        epoch: Epoch,
        /// Its history.
        log: LogId,
        /// What is the same for all members.
        settings: VnSettings,
        /// What the edge knows already.
        resume: Option<Resume>,
    },
    /// To `Join`.
    Refused {
        /// Which VN.
        vn: VnName,
        /// Why.
        why: Refusal,
    },
    /// To `Leave`: nothing is sent, the channel goes.
    Left {
        /// Which VN.
        vn: VnName,
    },
    /// To a message of a VN's channel.
    Vn {
        /// Which VN.
        vn: VnName,
        /// What.
        message: VnFromIma,
    },
    /// To what an honest edge does not do.
    Goodbye(Goodbye),
}

/// What is to be stored, and what is answered then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// To be stored; may be nothing.
    pub plan: Plan,
    /// The answer, if there is one.
    pub reply: Option<Reply>,
}

impl From<Reply> for Decision {
    fn from(reply: Reply) -> Self {
        Self {
            plan: Plan::default(),
            reply: Some(reply),
        }
    }
}

impl Engine {
    /// Decides on what the edge of a session asks for.
    #[must_use]
    pub fn edge(&self, id: SessionId, request: &EdgeRequest, now: Duration) -> Decision {
        let nothing = Decision {
            plan: Plan::default(),
            reply: None,
        };
        let Some(session) = self.sessions.get(&id) else {
            return nothing;
        };
        // It is told why, and nothing else.
        if session.closing.is_some() {
            return nothing;
        }
        let nve = &session.nve;
        if self.state.revoked.contains_key(nve) {
            return Reply::Goodbye(Goodbye::Revoked).into();
        }
        match (request, &session.hello) {
            (EdgeRequest::Hello { boot, endpoint }, None) => {
                match self.permits(nve, endpoint, session.source) {
                    Ok(()) => self.hello(nve, *boot, endpoint, now),
                    Err(why) => Reply::Goodbye(why).into(),
                }
            }
            // It may have been said at another server meanwhile that it is elsewhere; what was its
            // address then can be somebody else's now.
            (EdgeRequest::Renew { .. } | EdgeRequest::Join { .. }, Some(_))
                if let Err(why) = self.stays(session) =>
            {
                Reply::Goodbye(why).into()
            }
            (EdgeRequest::Renew { sequence }, Some((boot, endpoint))) => {
                let mut plan = Plan::default();
                let left = self.is_renewed(nve, *boot, endpoint, now);
                let lease = left.unwrap_or_else(|| {
                    let run = self.end_former_run(&mut plan, session, *boot);
                    self.renew(&mut plan, nve, run, endpoint);
                    self.lease_seconds()
                });
                let reply = Reply::Renewed {
                    sequence: *sequence,
                    lease,
                };
                Decision {
                    plan,
                    reply: Some(reply),
                }
            }
            (EdgeRequest::Join { vn, resume }, Some((boot, endpoint))) => {
                let full = session.seats.len() >= self.limits.edge.vns as usize;
                if full && !session.seats.contains_key(vn) {
                    return refused(vn, Refusal::TooMany);
                }
                self.join(nve, *boot, endpoint, vn, *resume)
            }
            (EdgeRequest::Leave { vn }, Some(_)) => self.leave(nve, vn),
            (EdgeRequest::Vn { vn, message }, Some(_)) if session.seats.contains_key(vn) => {
                self.about(nve, vn, message)
            }
            // It left, or was expelled, before this arrived.
            (EdgeRequest::Vn { .. }, Some(_)) => nothing,
            (EdgeRequest::Hello { .. }, Some(_)) | (_, None) => {
                Reply::Goodbye(Goodbye::Protocol).into()
            }
        }
    }

    fn lease_seconds(&self) -> u32 {
        u32::try_from(self.limits.lease.as_secs()).unwrap_or(u32::MAX)
    }

    fn hello(&self, nve: &NveName, boot: BootId, endpoint: &Endpoint, now: Duration) -> Decision {
        let mut plan = Plan::default();
        // Said again a short time later, it is a renewal like others.
        let left = self.is_renewed(nve, boot, endpoint, now);
        let lease = left.unwrap_or_else(|| {
            let run = self.run_at_hello(nve, boot);
            self.renew(&mut plan, nve, run, endpoint);
            self.lease_seconds()
        });
        let limits = self.limits.edge;
        let endpoint = endpoint.clone();
        Decision {
            plan,
            reply: Some(Reply::Welcome {
                boot,
                endpoint,
                lease,
                limits,
            }),
        }
    }

    fn join(
        &self,
        nve: &NveName,
        boot: BootId,
        endpoint: &Endpoint,
        name: &VnName,
        resume: Option<Resume>,
    ) -> Decision {
        let state = &self.state;
        if state.is_quarantined(name) {
            return refused(name, Refusal::Unavailable);
        }
        let found = state.vn(name).filter(|_| state.admits(name, nve));
        let Some((vn, declared)) = found.and_then(|vn| Some((vn, vn.declared.as_ref()?))) else {
            return refused(name, Refusal::NotMember);
        };
        let mut plan = Plan::default();
        if vn
            .joined
            .get(nve)
            .is_none_or(|joined| joined.endpoint != *endpoint)
        {
            // The lease may have ended under the open session.
            if !state.edges.contains_key(nve) {
                self.renew(&mut plan, nve, boot, endpoint);
            }
            // With it goes the right to be there.
            plan.guard(state, Key::Edge(nve.clone()));
            guard_member(&mut plan, state, name, nve);
            let since = tick(&mut plan, state, name, vn, 1);
            let joined = Joined {
                endpoint: endpoint.clone(),
                since,
            };
            plan.put(
                state,
                Key::Joined(name.clone(), nve.clone()),
                Record::Joined(joined),
            );
        }
        let reply = Reply::Joined {
            vn: name.clone(),
            epoch: vn.clock.epoch,
            log: declared.log,
            settings: declared.settings,
            resume,
        };
        Decision {
            plan,
            reply: Some(reply),
        }
    }

    fn leave(&self, nve: &NveName, name: &VnName) -> Decision {
        let mut plan = Plan::default();
        // Its registrations are withdrawn by the sweep that follows.
        if let Some(vn) = self
            .state
            .vns
            .get(name)
            .filter(|vn| vn.joined.contains_key(nve) && !self.state.is_quarantined(name))
        {
            tick(&mut plan, &self.state, name, vn, 1);
            plan.delete(&self.state, Key::Joined(name.clone(), nve.clone()));
        }
        Decision {
            plan,
            reply: Some(Reply::Left { vn: name.clone() }),
        }
    }

    fn about(&self, nve: &NveName, name: &VnName, message: &VnFromEdge) -> Decision {
        let nothing = Decision {
            plan: Plan::default(),
            reply: None,
        };
        let Some(vn) = self.state.vn(name) else {
            return nothing;
        };
        if !self.state.admits(name, nve) || !vn.joined.contains_key(nve) {
            return nothing;
        }
        let reply = |message| Reply::Vn {
            vn: name.clone(),
            message,
        };
        match message {
            VnFromEdge::Register { port, mac, ips } => {
                match self.register(nve, name, vn, port, *mac, ips) {
                    Ok((plan, generation)) => {
                        let message = VnFromIma::Registered {
                            mac: *mac,
                            generation,
                        };
                        Decision {
                            plan,
                            reply: Some(reply(message)),
                        }
                    }
                    Err(why) => reply(VnFromIma::Rejected { mac: *mac, why }).into(),
                }
            }
            VnFromEdge::Withdraw { mac } => {
                let mut plan = Plan::default();
                if vn
                    .mappings
                    .get(mac)
                    .is_some_and(|mapping| mapping.nve == *nve)
                {
                    tick(&mut plan, &self.state, name, vn, 1);
                    plan.delete(&self.state, Key::Mapping(name.clone(), *mac));
                }
                Decision { plan, reply: None }
            }
            VnFromEdge::Query { id, what } => {
                let mac = match what {
                    Wanted::Mac(mac) => Some(*mac),
                    Wanted::Ip(ip) => vn.ips.get(ip).copied(),
                };
                let mapping = mac.and_then(|mac| vn.mapping(mac));
                let mapping = mapping.filter(|it| !self.state.revoked.contains_key(&it.nve));
                let ttl = u32::try_from(self.limits.negative.as_secs()).unwrap_or(u32::MAX);
                reply(VnFromIma::Answer {
                    id: *id,
                    mapping,
                    ttl,
                })
                .into()
            }
        }
    }
}

fn refused(vn: &VnName, why: Refusal) -> Decision {
    let vn = vn.clone();
    Reply::Refused { vn, why }.into()
}

/// The decision holds only as long as the edge may be in the VN.
pub(super) fn guard_member(plan: &mut Plan, state: &State, vn: &VnName, nve: &NveName) {
    plan.guard(state, Key::Vn(vn.clone()));
    plan.guard(state, Key::Member(vn.clone(), nve.clone()));
    plan.guard(state, Key::Revoked(nve.clone()));
}

/// Advances a VN's log by `steps`; gives the version it then has.
pub(super) fn tick(plan: &mut Plan, state: &State, name: &VnName, vn: &Vn, steps: u64) -> Version {
    let version = Version(vn.clock.version.0.saturating_add(steps));
    let clock = Clock {
        version,
        epoch: vn.clock.epoch,
    };
    plan.put(state, Key::Clock(name.clone()), Record::Clock(clock));
    version
}

/// Whether one host may have this address.
pub(super) fn is_station(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    // An IPv4 address in IPv6 clothes (RFC 4291, section 2.5.5.2) would be another's under a second name.
    let mapped = ip.to_canonical() != *ip;
    !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || broadcast || mapped)
}
