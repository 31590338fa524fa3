//! The client against an authority of a few lines, in simulated time.

mod away;
mod life;
mod unknown;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Addresses, Client, Event, Output, Settings};
use crate::hybrid::{Transcript, respond};
use crate::message::ima::{
    Base, EdgeLimits, FromEdge, FromIma, LogId, Member, Refusal, Resume, SealedBytes, Update,
    VnFromEdge, VnFromIma, Withdrawal,
};
use crate::message::overlay::{Endpoint, Ips, LeaseEnd, Mapping, Protection, Vni};
use crate::message::{Bounded, decode, encode};
use crate::types::{BootId, Epoch, Generation, Mac, NveName, PortName, Version, VnName};
use crate::vnchannel::{Side, VnChannel};

const EDGE: &str = "spiffe://lab/nve/a";
const SERVER: &str = "spiffe://lab/ima/one";
const LEASE: u32 = 100;

fn vn(name: &str) -> VnName {
    name.parse().unwrap()
}

fn nve(name: &str) -> NveName {
    name.parse().unwrap()
}

fn port(name: &str) -> PortName {
    name.parse().unwrap()
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn ips(n: u8) -> Ips {
    Bounded::try_from(vec![[10, 0, 0, n].into()]).unwrap()
}

fn endpoint(n: u8) -> Endpoint {
    Endpoint {
        tunnel_addresses: Bounded::try_from(vec![[192, 0, 2, n].into()]).unwrap(),
        control_address: ([192, 0, 2, n], 4600).into(),
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn wanted(networks: &[(&str, &[u8])]) -> BTreeMap<VnName, Addresses> {
    let networks = networks.iter().map(|(name, macs)| {
        let addresses = macs.iter().map(|n| (mac(*n), (port("p"), ips(*n))));
        (vn(name), addresses.collect())
    });
    networks.collect()
}

/// One VN at the authority.
struct Net {
    epoch: u64,
    log: LogId,
    version: u64,
    lease_end: LeaseEnd,
    members: BTreeMap<NveName, Member>,
    mappings: BTreeMap<Mac, Mapping>,
    /// Whom the addresses of this edge are placed on; absent ones are anybody's.
    elsewhere: BTreeSet<Mac>,
    /// As told since a version: enough to resume from.
    steps: BTreeMap<u64, Update>,
    channel: Option<VnChannel>,
}

/// The authority: honest, and without a store.
struct Ima {
    binding: Vec<u8>,
    nets: BTreeMap<VnName, Net>,
    lease: u32,
    refuse: Option<Refusal>,
    /// Queries seen.
    asked: Vec<VnFromEdge>,
    joins: Vec<(VnName, Option<Resume>)>,
    renewals: Vec<u64>,
    left: Vec<VnName>,
    answers_renewals: bool,
    replies: VecDeque<FromIma>,
}

impl Ima {
    fn new(names: &[(&str, LeaseEnd)]) -> Self {
        let nets = names.iter().enumerate().map(|(i, (name, lease_end))| {
            let net = Net {
                epoch: 1,
                log: LogId(i as u64 + 1),
                version: 0,
                lease_end: *lease_end,
                members: BTreeMap::new(),
                mappings: BTreeMap::new(),
                elsewhere: BTreeSet::new(),
                steps: BTreeMap::new(),
                channel: None,
            };
            (vn(name), net)
        });
        Self {
            binding: vec![1],
            nets: nets.collect(),
            lease: LEASE,
            refuse: None,
            asked: Vec::new(),
            joins: Vec::new(),
            renewals: Vec::new(),
            left: Vec::new(),
            answers_renewals: true,
            replies: VecDeque::new(),
        }
    }

    fn net(&mut self, name: &str) -> &mut Net {
        self.nets.get_mut(&vn(name)).unwrap()
    }

    fn seal(&mut self, name: &VnName, message: &VnFromIma) {
        let net = self.nets.get_mut(name).unwrap();
        if let Some(channel) = &mut net.channel {
            let bytes = channel.seal(&encode(message).unwrap()).unwrap();
            self.replies.push_back(FromIma::Sealed {
                vn: name.clone(),
                epoch: Epoch(net.epoch),
                bytes: SealedBytes::try_from(bytes).unwrap(),
            });
        }
    }

    /// Changes a VN and tells its member.
    fn change(&mut self, name: &VnName, change: impl FnOnce(&mut Net, u64, &mut Update)) {
        let net = self.nets.get_mut(name).unwrap();
        let base = Version(net.version);
        net.version += 1;
        let mut update = Update {
            base: Base::Version(base),
            to: Version(net.version),
            members: Bounded::default(),
            gone: Bounded::default(),
            mappings: Bounded::default(),
            withdrawn: Bounded::default(),
        };
        change(net, net.version, &mut update);
        net.steps.insert(base.0, update.clone());
        self.seal(name, &VnFromIma::Update(update));
    }

    fn add_member(&mut self, name: &str, n: u8, who: &str) {
        let member = Member {
            nve: nve(who),
            endpoint: endpoint(n),
        };
        self.change(&vn(name), |net, _, update| {
            net.members.insert(member.nve.clone(), member.clone());
            update.members = Bounded::try_from(vec![member]).unwrap();
        });
    }

    fn map(&mut self, name: &str, n: u8, who: &str) -> Generation {
        let mut made = Generation(0);
        self.change(&vn(name), |net, version, update| {
            made = Generation(version);
            let mapping = Mapping {
                mac: mac(n),
                generation: made,
                nve: nve(who),
                ips: ips(n),
            };
            net.mappings.insert(mapping.mac, mapping.clone());
            update.mappings = Bounded::try_from(vec![mapping]).unwrap();
        });
        made
    }

    fn unmap(&mut self, name: &str, n: u8) {
        self.change(&vn(name), |net, version, update| {
            net.mappings.remove(&mac(n));
            let gone = Withdrawal {
                mac: mac(n),
                generation: Generation(version),
            };
            update.withdrawn = Bounded::try_from(vec![gone]).unwrap();
        });
    }

    fn full(net: &Net) -> Update {
        Update {
            base: Base::Full {
                first: true,
                last: true,
            },
            to: Version(net.version),
            members: Bounded::try_from(net.members.values().cloned().collect::<Vec<_>>()).unwrap(),
            gone: Bounded::default(),
            mappings: Bounded::try_from(net.mappings.values().cloned().collect::<Vec<_>>())
                .unwrap(),
            withdrawn: Bounded::default(),
        }
    }

    fn receive(&mut self, message: FromEdge) {
        match message {
            FromEdge::Hello { .. } => self.replies.push_back(FromIma::Welcome {
                lease: self.lease,
                limits: EdgeLimits {
                    messages_per_second: 1000,
                    burst: 1000,
                    vns: 16,
                    registrations: 16,
                },
            }),
            FromEdge::Renew { sequence } => {
                self.renewals.push(sequence);
                if self.answers_renewals {
                    let lease = self.lease;
                    self.replies.push_back(FromIma::Renewed { sequence, lease });
                }
            }
            FromEdge::Join {
                vn: name,
                exchange,
                offer,
                resume,
            } => {
                self.joins.push((name.clone(), resume));
                if let Some(why) = self.refuse {
                    self.replies.push_back(FromIma::Refused { vn: name, why });
                    return;
                }
                let net = self.nets.get_mut(&name).unwrap();
                let transcript = Transcript {
                    initiator: EDGE,
                    responder: SERVER,
                    vn: &name,
                    epoch: Epoch(net.epoch),
                    exchange,
                    binding: &self.binding,
                };
                let (answer, root) = respond(&offer, &transcript).unwrap();
                net.channel = VnChannel::new(&root, &transcript, Side::Responder).ok();
                self.replies.push_back(FromIma::Joined {
                    vn: name.clone(),
                    exchange,
                    epoch: Epoch(net.epoch),
                    answer,
                    log: net.log,
                    vni: Vni::try_from(100).unwrap(),
                    protection: Protection::Confidential,
                    lease_end: net.lease_end,
                });
                let known = resume.filter(|resume| resume.log == net.log);
                let updates = match known {
                    Some(resume) => net
                        .steps
                        .range(resume.version.0..)
                        .map(|s| s.1.clone())
                        .collect(),
                    None => vec![Self::full(net)],
                };
                for update in updates {
                    self.seal(&name, &VnFromIma::Update(update));
                }
            }
            FromEdge::Leave { vn } => {
                self.nets.get_mut(&vn).unwrap().channel = None;
                self.left.push(vn);
            }
            FromEdge::Sealed {
                vn: name,
                epoch,
                bytes,
            } => {
                let net = self.nets.get_mut(&name).unwrap();
                assert_eq!(epoch, Epoch(net.epoch));
                let opened = net
                    .channel
                    .as_mut()
                    .unwrap()
                    .open(bytes.as_bytes())
                    .unwrap();
                match decode(&opened).unwrap() {
                    VnFromEdge::Register { mac: address, .. } => {
                        if net.elsewhere.contains(&address) {
                            let why = crate::message::ima::Rejection::NotPlaced;
                            let rejected = VnFromIma::Rejected { mac: address, why };
                            return self.seal(&name, &rejected);
                        }
                        let generation = self.map(name.as_str(), address.0[5], "a");
                        let registered = VnFromIma::Registered {
                            mac: address,
                            generation,
                        };
                        self.seal(&name, &registered);
                    }
                    VnFromEdge::Withdraw { mac: address } => {
                        self.unmap(name.as_str(), address.0[5])
                    }
                    query @ VnFromEdge::Query { .. } => self.asked.push(query),
                }
            }
        }
    }
}

/// A client, an authority, and a network between them that can be cut.
struct World {
    now: Duration,
    client: Client,
    ima: Ima,
    events: Vec<Event>,
    /// Sessions can be opened, and messages arrive.
    reachable: bool,
    dials: Vec<Duration>,
    closed: Vec<&'static str>,
}

impl World {
    fn new(ima: Ima) -> Self {
        let settings = Settings {
            name: nve("a"),
            identity: EDGE.to_owned(),
            boot: BootId([1; 16]),
            endpoint: endpoint(1),
            servers: vec![
                ([192, 0, 2, 250], 4600).into(),
                ([192, 0, 2, 251], 4600).into(),
            ],
            always_stop: false,
            queries: 10,
            port_queries: 4,
            seed: 7,
        };
        Self {
            now: Duration::ZERO,
            client: Client::new(settings, Duration::ZERO),
            ima,
            events: Vec::new(),
            reachable: true,
            dials: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// One that has joined these VNs.
    fn joined(names: &[(&str, LeaseEnd)], networks: &[(&str, &[u8])]) -> Self {
        let mut world = Self::new(Ima::new(names));
        world.client.want(world.now, wanted(networks));
        world.run(seconds(2));
        for (name, _) in networks {
            assert!(world.is_joined(name), "{:?}", world.events);
        }
        world
    }

    fn is_joined(&self, name: &str) -> bool {
        let status = self.client.status(self.now);
        let mut networks = status.networks.into_iter();
        networks.any(|network| network.vn == vn(name) && network.state == "joined")
    }

    /// Everything that follows now, without time passing.
    fn settle(&mut self) {
        loop {
            let outputs: Vec<Output> = self.client.outputs().collect();
            let client = &self.client;
            assert!(client.agenda.is_true(client.networks.values()));
            let replies: Vec<FromIma> = self.ima.replies.drain(..).collect();
            if outputs.is_empty() && replies.is_empty() {
                return;
            }
            for output in outputs {
                match output {
                    Output::Connect(_) => {
                        self.dials.push(self.now);
                        if self.reachable {
                            // Another session, another binding, and no channel survives.
                            let n = self.ima.binding[0].wrapping_add(1);
                            self.ima.binding = vec![n];
                            for net in self.ima.nets.values_mut() {
                                net.channel = None;
                            }
                            let binding = self.ima.binding.clone();
                            self.client.connected(self.now, SERVER, &binding);
                        } else {
                            self.client.disconnected(self.now);
                        }
                    }
                    Output::Send(message) if self.reachable => self.ima.receive(*message),
                    Output::Send(_) => {}
                    Output::Close(why) => {
                        self.closed.push(why);
                        self.ima.replies.clear();
                    }
                    Output::Event(event) => self.events.push(event),
                }
            }
            for reply in replies {
                if self.reachable {
                    self.client.received(self.now, reply);
                }
            }
        }
    }

    /// Lets time pass, from one deadline to the next.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while let Some(next) = self.client.deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.client.poll(self.now);
            self.settle();
        }
        self.now = end;
    }

    /// The network breaks; both ends notice.
    fn cut(&mut self) {
        self.reachable = false;
        self.client.disconnected(self.now);
        self.ima.replies.clear();
    }

    fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// What the events so far leave of a VN: members and mappings.
    fn told(&self, name: &str) -> (BTreeSet<NveName>, BTreeMap<Mac, NveName>) {
        let (mut members, mut mappings) = (BTreeSet::new(), BTreeMap::new());
        for event in &self.events {
            match event {
                Event::Members {
                    vn: of, members: m, ..
                } if *of == vn(name) => members = m.iter().map(|m| m.nve.clone()).collect(),
                Event::Mappings {
                    vn: of,
                    full,
                    upserts,
                    withdrawals,
                } if *of == vn(name) => {
                    if *full {
                        mappings.clear();
                    }
                    for mac in withdrawals {
                        mappings.remove(mac);
                    }
                    mappings.extend(upserts.iter().map(|m| (m.mac, m.nve.clone())));
                }
                Event::Left { vn: of, .. } if *of == vn(name) => {
                    members.clear();
                    mappings.clear();
                }
                _ => {}
            }
        }
        (members, mappings)
    }

    /// The same as the authority has it.
    fn truth(&self, name: &str) -> (BTreeSet<NveName>, BTreeMap<Mac, NveName>) {
        let net = &self.ima.nets[&vn(name)];
        let others = net.mappings.values().filter(|m| m.nve != nve("a"));
        (
            net.members
                .keys()
                .filter(|m| **m != nve("a"))
                .cloned()
                .collect(),
            others.map(|m| (m.mac, m.nve.clone())).collect(),
        )
    }

    /// The addresses that ports may use, as the last event says.
    fn admitted(&self, name: &str) -> Vec<Mac> {
        let admitted = self.events.iter().rev().find_map(|event| match event {
            Event::Admitted { vn: of, macs } if *of == vn(name) => Some(macs.clone()),
            Event::Left { vn: of, .. } if *of == vn(name) => Some(Vec::new()),
            _ => None,
        });
        admitted.unwrap_or_default()
    }
}
