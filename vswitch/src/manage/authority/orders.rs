//! Both ways: what the state machines decide, as orders to the control thread; what that notices,
//! as their events.

use std::collections::{BTreeMap, BTreeSet};

use vswitch_control::client::{Addresses, Event};
use vswitch_control::identity::{Identity, Role};
use vswitch_control::keying::{self, Direction, OrderId};
use vswitch_control::message::Bounded;
use vswitch_control::message::ima::{Member, Wanted};
use vswitch_control::message::overlay::{Endpoint, Mapping, Protection};
use vswitch_control::message::peer::SaAlgorithm;
use vswitch_control::secret::Secret;
use vswitch_control::types::{Epoch, Mac, NveName, PortName, VnName};
use vswitch_sa::{Algorithm, SecretBytes, Spi};

use super::alarms;
use super::driver::Driver;
use super::members::addresses;
use crate::manage::config::{AllowedIps, Config, MacAddr, Source, Vni};
use crate::manage::edge::overlay::{AgreedKey, KeyName, Notice, Order, Remote, Unknown};

/// The transform of a network's packets; none needs no keys.
fn algorithm(protection: Protection) -> Option<SaAlgorithm> {
    match protection {
        Protection::Confidential => Some(SaAlgorithm::Aes256Gcm),
        Protection::Integrity => Some(SaAlgorithm::Aes256Gmac),
        Protection::None => None,
    }
}

fn remote(mapping: Mapping) -> Remote {
    Remote {
        mac: MacAddr(mapping.mac.0),
        ips: mapping.ips.into_inner(),
        peer: mapping.nve.into(),
    }
}

fn macs(macs: Vec<Mac>) -> Vec<MacAddr> {
    macs.into_iter().map(|mac| MacAddr(mac.0)).collect()
}

/// What ports want of the authority.
fn wishes(config: &Config) -> BTreeMap<VnName, Addresses> {
    let mut wishes: BTreeMap<VnName, Addresses> = BTreeMap::new();
    for port in &config.ports {
        let vn = config.vns.get(port.vn.index());
        let Some(vn) = vn.filter(|vn| vn.source != Source::File) else {
            continue;
        };
        let (Ok(name), Ok(port_name)) = (vn.name.parse(), port.name.parse::<PortName>()) else {
            tracing::error!(vn = vn.name, port = port.name, "a name that cannot be told");
            continue;
        };
        let addresses = wishes.entry(name).or_default();
        for address in &port.addresses {
            let ips = match &address.ips {
                AllowedIps::Any => Vec::new(),
                AllowedIps::Only(ips) => ips.clone(),
            };
            match Bounded::try_from(ips) {
                Ok(ips) => {
                    addresses.insert(Mac(address.mac.0), (port_name.clone(), ips));
                }
                Err(error) => tracing::error!(
                    port = port.name, mac = %address.mac, %error,
                    "more IP addresses than can be registered: the address is left out"
                ),
            }
        }
    }
    wishes
}

impl Driver {
    /// What follows for the edge from the authority's word.
    pub(super) fn client_event(&mut self, event: Event) {
        match event {
            Event::Joined {
                vn,
                vni,
                protection,
            } => {
                let Some(number) = Vni::new(vni.get()) else {
                    return;
                };
                tracing::info!(%vn, %vni, %protection, "on the network");
                self.protections.insert(vn.clone(), protection);
                self.orders.push(Order::Vn {
                    vn: vn.into(),
                    vni: number,
                    protection: match protection {
                        Protection::Confidential => vswitch_vn::Protection::Confidential,
                        Protection::Integrity => vswitch_vn::Protection::Integrity,
                        Protection::None => vswitch_vn::Protection::None,
                    },
                });
            }
            Event::Members { vn, epoch, members } => self.members_are(vn, epoch, &members),
            Event::Mappings {
                vn,
                full,
                upserts,
                withdrawals,
            } => self.orders.push(Order::Mappings {
                vn: vn.into(),
                full,
                upserts: upserts.into_iter().map(remote).collect(),
                withdrawals: macs(withdrawals),
            }),
            Event::Admitted { vn, macs: admitted } => self.orders.push(Order::Admitted {
                vn: vn.into(),
                macs: macs(admitted),
            }),
            Event::Left { vn, why } => {
                alarms::left(&vn, why);
                self.protections.remove(&vn);
                // Keys first: nothing is sealed for a network that is left.
                let now = self.now();
                self.keying
                    .handle(now, keying::Event::Left { vn: vn.clone() });
                let changes = self.members.leave(&vn);
                self.orders.push(Order::LeaveVn { vn: vn.into() });
                self.forget_peers(&changes.left, changes.gone);
            }
            Event::Revoked(nve) => {
                alarms::revoked(&nve);
                if let Some(identity) = self.identity_of(&nve) {
                    self.network.endpoint.sessions().deny(&identity);
                }
                let now = self.now();
                self.keying
                    .handle(now, keying::Event::Revoked { peer: nve });
            }
            Event::Alarm(alarm) => alarms::alarm(&alarm),
        }
    }

    fn identity_of(&self, nve: &NveName) -> Option<Identity> {
        Identity::new(self.identity.domain(), Role::Nve, nve.as_str()).ok()
    }

    fn members_are(&mut self, vn: VnName, epoch: Epoch, members: &[Member]) {
        let changes = self.members.set(&vn, members);
        for (name, endpoint) in changes.moved {
            // Whatever strangers do, other edges' handshakes have their places.
            self.network.endpoint.known().add(addresses(&endpoint));
            // Who is named a member again may come again.
            if let Some(identity) = self.identity_of(&name) {
                self.network.endpoint.sessions().denied().allow(&identity);
            }
            let addresses = endpoint.tunnel_addresses.into_inner();
            self.steering.peer_at(name.clone(), addresses.clone());
            self.orders.push(Order::Peer {
                name: name.into(),
                addresses,
            });
        }
        self.orders.push(Order::Edges {
            vn: vn.to_string(),
            peers: members.iter().map(|m| m.nve.to_string()).collect(),
        });
        self.forget_peers(&changes.left, changes.gone);
        let protection = self.protections.get(&vn).copied().unwrap_or_default();
        let now = self.now();
        if let Some(algorithm) = algorithm(protection) {
            let names = members.iter().map(|member| member.nve.clone());
            let members: BTreeSet<NveName> = names.chain([self.me.clone()]).collect();
            let event = keying::Event::Members {
                vn,
                epoch,
                algorithm,
                members,
            };
            self.keying.handle(now, event);
        } else {
            self.keying.handle(now, keying::Event::Left { vn });
        }
    }

    fn forget_peers(&mut self, left: &[Endpoint], gone: Vec<NveName>) {
        let left = left.iter().flat_map(addresses);
        self.network.endpoint.known().remove(left);
        for name in gone {
            self.troubles.remove(&name);
            self.steering.forget(&name);
            self.orders.push(Order::RemovePeer { name: name.into() });
        }
    }

    /// What key agreement wants.
    pub(super) fn keying_wants(&mut self, output: keying::Output) {
        match output {
            keying::Output::Send {
                peer,
                session,
                bytes,
            } => self.send(&peer, session, bytes),
            keying::Output::Connect { peer } => self.connect(peer),
            keying::Output::Close { session, .. } => self.close(session),
            keying::Output::InstallInbound {
                id,
                vn,
                peer,
                sender_worker: _,
                owner,
                spi,
                algorithm,
                secret,
            } => match agreed(vn, peer, owner, spi, algorithm, &secret) {
                Some(key) => self.orders.push(Order::InstallInbound(id.0, key)),
                None => self.failed(id, "no such SPI, or no memory for a key"),
            },
            keying::Output::InstallOutbound {
                id,
                vn,
                peer,
                worker,
                spi,
                algorithm,
                secret,
            } => match agreed(vn, peer, worker, spi, algorithm, &secret) {
                Some(key) => self.orders.push(Order::InstallOutbound(id.0, key)),
                None => self.failed(id, "no such SPI, or no memory for a key"),
            },
            keying::Output::RemoveInbound { spi, .. } => {
                if let Ok(spi) = Spi::new(spi) {
                    self.orders.push(Order::RemoveInbound { spi });
                }
            }
            keying::Output::RemoveOutbound {
                vn,
                peer,
                worker,
                spi,
                limit,
            } => {
                if let Ok(spi) = Spi::new(spi) {
                    self.orders.push(Order::RemoveOutbound {
                        vn: vn.into(),
                        peer: peer.into(),
                        worker,
                        spi,
                        limit,
                    });
                }
            }
            // Nothing to order: every worker knows who has a key for a tunnel (`OutboundOwner`, told
            // with each install), and hands over to it as long as it has none of its own.
            keying::Output::Share {
                vn,
                peer,
                worker,
                with,
            } => {
                tracing::info!(%vn, %peer, worker, with, "limit of keys: a worker uses another's");
            }
            keying::Output::Report(report) => alarms::keying(&report),
        }
    }

    fn failed(&mut self, id: OrderId, why: &str) {
        let now = self.now();
        let why = why.to_owned();
        self.keying.handle(now, keying::Event::Failed { id, why });
    }

    /// What the control thread says.
    pub(super) fn noticed(&mut self, notice: Notice) {
        let now = self.now();
        let event = match notice {
            Notice::Done(id) => keying::Event::Installed { id: OrderId(id) },
            Notice::Failed(id, why) => return self.failed(OrderId(id), &why),
            Notice::NeedKey { vn, peer, worker } => {
                let (Ok(vn), Ok(peer)) = (vn.parse(), peer.parse()) else {
                    return;
                };
                keying::Event::Need { vn, peer, worker }
            }
            Notice::SoftLimit(key) => {
                let Some((vn, peer)) = names(&key) else {
                    return;
                };
                keying::Event::SoftLimit {
                    vn,
                    peer,
                    worker: key.worker,
                    spi: key.spi.get(),
                }
            }
            Notice::HardLimit(key) => {
                let Some((vn, peer)) = names(&key) else {
                    return;
                };
                keying::Event::HardLimit {
                    vn,
                    peer,
                    worker: key.worker,
                    spi: key.spi.get(),
                }
            }
            Notice::Idle(key) => match idle(&key, Direction::Outbound) {
                Some(event) => event,
                None => return,
            },
            Notice::IdleInbound(key) => match idle(&key, Direction::Inbound) {
                Some(event) => event,
                None => return,
            },
            Notice::Unknown { vn, port, what } => {
                let what = match what {
                    Unknown::Mac(mac) => Wanted::Mac(Mac(mac.0)),
                    Unknown::Ip(ip) => Wanted::Ip(ip),
                };
                if let (Ok(vn), Ok(port)) = (vn.parse(), port.parse()) {
                    self.client.unknown(now, &vn, &port, what);
                }
                return;
            }
            Notice::Configuration(config) => {
                self.steering.follow(&config, self.workers());
                return self.client.want(now, wishes(&config));
            }
        };
        self.keying.handle(now, event);
    }
}

fn names(key: &KeyName) -> Option<(VnName, NveName)> {
    Some((key.vn.parse().ok()?, key.peer.parse().ok()?))
}

fn idle(key: &KeyName, direction: Direction) -> Option<keying::Event> {
    let (vn, peer) = names(key)?;
    let spi = key.spi.get();
    Some(keying::Event::Idle {
        vn,
        peer,
        direction,
        spi,
    })
}

fn agreed(
    vn: VnName,
    peer: NveName,
    worker: u16,
    spi: u32,
    algorithm: SaAlgorithm,
    secret: &Secret<36>,
) -> Option<AgreedKey> {
    let bytes = secret.expose();
    Some(AgreedKey {
        vn: vn.into(),
        peer: peer.into(),
        worker,
        spi: Spi::new(spi).ok()?,
        algorithm: match algorithm {
            SaAlgorithm::Aes256Gcm => Algorithm::Aes256Gcm,
            SaAlgorithm::Aes256Gmac => Algorithm::Aes256Gmac,
        },
        secret: SecretBytes::new(bytes.len(), |place| place.copy_from_slice(bytes)).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn ports_wish_for_what_the_file_does_not_describe() {
        let text = r#"
nve: {name: a}
authority:
  {servers: [192.0.2.250:4600], certificate: c, private-key: k, bundle: b, listen: 192.0.2.1:4600}
vns:
  - {name: lab, vni: 7}
  - {name: red}
  - {name: blue}
  - {name: empty}
ports:
  - {name: one, vn: red, vhost: {socket: /1}, addresses: [{mac: "52:54:00:00:00:01", ips: [10.0.0.1]}]}
  - {name: two, vn: red, vhost: {socket: /2}, addresses: [{mac: "52:54:00:00:00:02"}]}
  - {name: three, vn: lab, vhost: {socket: /3}, addresses: [{mac: "52:54:00:00:00:03"}]}
  - {name: four, vn: blue, vhost: {socket: /4}}
"#;
        let config = Config::parse(text, Path::new("/")).unwrap();
        let wishes = wishes(&config);
        let names: Vec<&str> = wishes.keys().map(VnName::as_str).collect();
        assert_eq!(names, ["blue", "red"]);
        let red = &wishes[&"red".parse().unwrap()];
        let (port, ips) = &red[&Mac([0x52, 0x54, 0, 0, 0, 1])];
        assert_eq!((port.as_str(), ips.len()), ("one", 1));
        assert_eq!(red[&Mac([0x52, 0x54, 0, 0, 0, 2])].1.len(), 0);
    }
}
