//! What is shown of the authority, of other edges, of mappings and of keys, put together.

use vswitch_control::keying::{Direction, SaState};

use super::driver::Driver;
use crate::manage::status::{AgreedKeys, Ima, ImaVn, Key, Mapping, Report, Session};

impl Driver {
    /// The authority and this edge's networks.
    pub(super) fn ima(&self) -> Ima {
        let now = self.now();
        let status = self.client.status(now);
        let credentials = self.watcher.current();
        let not_after = credentials.certificate().not_after.as_secs();
        let expires = std::time::UNIX_EPOCH + std::time::Duration::from_secs(not_after);
        let vns = status.networks.into_iter().map(|network| ImaVn {
            vn: network.vn.into(),
            state: network.state.to_owned(),
            refusal: network.refusal,
            epoch: network.epoch.map(|epoch| epoch.0),
            version: network.version,
            lease_end: network.lease_end.map(str::to_owned),
            members: network.members,
            mappings: network.mappings,
            addresses: network
                .addresses
                .into_iter()
                .map(|(mac, port, state)| (mac.to_string(), port.into(), state))
                .collect(),
        });
        Ima {
            identity: self.identity.to_string(),
            expires: humantime::format_rfc3339_seconds(expires).to_string(),
            server: status.server.map(|server| server.to_string()),
            server_identity: status.identity,
            state: if status.connected {
                "connected"
            } else {
                "away"
            }
            .to_owned(),
            trouble: self.ima_trouble.clone(),
            lease_left: status.lease_left,
            attempts: status.attempts,
            asked: status.questions.asked,
            known: status.questions.known,
            limited: status.questions.limited,
            orders: self.orders.len(),
            held: self.held_times,
            keys: AgreedKeys {
                outbound: self.keying.count(Direction::Outbound),
                inbound: self.keying.count(Direction::Inbound),
                limit: self.max_sas,
                shared: self.keying.shares().count(),
                denied: self.keying.counters().denied,
                unsteered: self.keying.counters().unsteered,
            },
            vns: vns.collect(),
        }
    }

    /// Other edges, mappings and keys.
    pub(super) fn report(&self) -> Report {
        let now = self.now();
        let sessions = self.members.all().map(|(nve, endpoint)| {
            let session = self.meetings.known(nve);
            let trouble = self.troubles.get(nve).filter(|_| session.is_none());
            let addresses = endpoint.tunnel_addresses.iter();
            let vns = self.members.shared(nve);
            Session {
                peer: nve.to_string(),
                control: endpoint.control_address.to_string(),
                addresses: addresses.map(ToString::to_string).collect(),
                vns: vns.map(ToString::to_string).collect(),
                session: session.map(|session| now.saturating_sub(session.since).as_secs()),
                dialled: session
                    .map(|session| if session.dialled { "here" } else { "there" }.to_owned()),
                trouble: trouble.cloned(),
            }
        });
        let mappings = self.client.mappings().map(|(vn, mapping)| Mapping {
            vn: vn.to_string(),
            mac: mapping.mac.to_string(),
            ips: mapping.ips.iter().map(ToString::to_string).collect(),
            peer: mapping.nve.to_string(),
            generation: mapping.generation.0,
        });
        let keys = self.keying.sas().map(|sa| Key {
            vn: sa.vn.into(),
            peer: sa.peer.into(),
            direction: match sa.direction {
                Direction::Inbound => "inbound",
                Direction::Outbound => "outbound",
            }
            .to_owned(),
            worker: sa.worker,
            spi: sa.spi,
            epoch: sa.epoch.0,
            state: match sa.state {
                SaState::Installing => "installing",
                SaState::Ready => "ready",
                SaState::Live => "live",
                SaState::Draining(_) => "draining",
            }
            .to_owned(),
            closes: sa.closes.saturating_sub(now).as_secs(),
        });
        let mut keys: Vec<Key> = keys.collect();
        let shares = self.keying.shares().filter_map(|share| {
            let of = |key: &&Key| {
                key.direction == "outbound"
                    && key.worker == share.with
                    && key.vn == share.vn.as_str()
                    && key.peer == share.peer.as_str()
            };
            let shared = keys.iter().find(of)?;
            Some(Key {
                worker: share.worker,
                state: format!("shares worker {}'s", share.with),
                ..shared.clone()
            })
        });
        let shares: Vec<Key> = shares.collect();
        keys.extend(shares);
        Report {
            sessions: sessions.collect(),
            mappings: mappings.collect(),
            keys,
        }
    }
}
