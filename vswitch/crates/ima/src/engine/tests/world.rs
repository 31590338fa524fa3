//! An engine, what it stored, and edges that keep what they are sent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use vswitch_control::message::ima::{
    Base, FromIma, Goodbye, LogId, Refusal, Resume, Update, VnFromEdge, VnFromIma,
};
use vswitch_control::message::operator::{AuditId, Change, Denied, Text};
use vswitch_control::message::overlay::{
    Admission, Endpoint, Ips, LeaseEnd, Mapping, Placement, Protection, VnSettings, Vni,
};
use vswitch_control::types::{BootId, Epoch, Mac, NveName, Version, VnName};

use crate::engine::{Decision, EdgeRequest, Engine, Excess, Limits, Push, Reply, SessionId, Stamp};
use crate::model::{Key, Plan, Record};

/// What an edge knows of a VN.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    pub log: Option<LogId>,
    pub version: Version,
    pub epoch: Epoch,
    pub members: BTreeMap<NveName, Endpoint>,
    pub mappings: BTreeMap<Mac, Mapping>,
    pub joined: bool,
    partial: Option<(BTreeMap<NveName, Endpoint>, BTreeMap<Mac, Mapping>)>,
    pub fulls: usize,
}

#[derive(Debug, Default)]
pub struct EdgeSim {
    pub session: Option<SessionId>,
    pub views: BTreeMap<VnName, View>,
    pub revoked: Vec<NveName>,
    pub goodbye: Option<Goodbye>,
    pub hints: usize,
}

pub struct World {
    pub engine: Engine,
    pub stored: BTreeMap<Key, Record>,
    pub edges: BTreeMap<NveName, EdgeSim>,
    pub now: Duration,
    /// The run of edges that connect.
    pub boot: BootId,
    /// Plans that changed something.
    pub commits: usize,
    next: u64,
}

pub fn nve(name: &str) -> NveName {
    name.parse().unwrap()
}

pub fn vn(name: &str) -> VnName {
    name.parse().unwrap()
}

pub fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

pub fn ips(last: &[u8]) -> Ips {
    let ips: Vec<_> = last.iter().map(|last| [10, 0, 0, *last].into()).collect();
    Ips::try_from(ips).unwrap()
}

pub fn settings(vni: u32, admission: Admission) -> VnSettings {
    VnSettings {
        vni: Vni::try_from(vni).unwrap(),
        protection: Protection::Confidential,
        lease_end: LeaseEnd::Stop,
        admission,
    }
}

pub fn placement(last: u8, on: &str, port: &str) -> Placement {
    Placement {
        mac: mac(last),
        ips: ips(&[last]),
        nve: nve(on),
        port: port.parse().unwrap(),
    }
}

/// The tunnel address of an edge: of its name's bytes.
pub fn endpoint(name: &NveName) -> Endpoint {
    let sum = name
        .as_str()
        .bytes()
        .fold(0_u8, |sum, b| sum.wrapping_mul(31).wrapping_add(b));
    let tunnel = vec![[192, 0, 2, sum].into()];
    Endpoint {
        tunnel_addresses: tunnel.try_into().unwrap(),
        control_address: ([192, 0, 2, sum], 4789).into(),
    }
}

impl World {
    pub fn new(limits: Limits) -> Self {
        Self {
            engine: Engine::new(limits, [], Duration::ZERO),
            stored: BTreeMap::new(),
            edges: BTreeMap::new(),
            now: Duration::ZERO,
            boot: BootId([1; 16]),
            commits: 0,
            next: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Stores a plan as a store would, then clears up behind it.
    pub fn store(&mut self, plan: &Plan) {
        self.commits += usize::from(!plan.is_empty());
        self.engine.apply(plan.ops());
        let mut transaction = crate::model::Transaction::default();
        transaction.absorb(plan);
        for (key, exists) in transaction.guards() {
            assert_eq!(self.stored.contains_key(key), exists, "{key:?}");
        }
        for (key, record) in transaction.ops() {
            match record {
                Some(record) => self.stored.insert(key.clone(), record.clone()),
                None => self.stored.remove(key),
            };
        }
        self.engine.committed(plan.ops(), self.now);
    }

    pub fn sweep(&mut self) {
        for _ in 0..10_000 {
            let Some(plan) = self.engine.sweep(self.now, 120) else {
                return;
            };
            assert!(plan.weight() <= 120, "{}", plan.weight());
            self.store(&plan);
        }
        panic!("the sweep does not end");
    }

    pub fn change(&mut self, change: Change) -> Result<bool, Denied> {
        let stamp = Stamp {
            who: Text::of("root"),
            id: AuditId {
                at: self.number(),
                tie: 0,
            },
            log: LogId(self.number()),
        };
        let plan = self.engine.operator(&change, &stamp)?;
        self.store(&plan);
        self.sweep();
        self.deliver();
        Ok(!plan.is_empty())
    }

    pub fn declare(&mut self, name: &str, vni: u32, admission: Admission, members: &[&str]) {
        let settings = settings(vni, admission);
        self.change(Change::VnAdd {
            vn: vn(name),
            settings,
        })
        .unwrap();
        for member in members {
            self.change(Change::MemberAdd {
                vn: vn(name),
                nve: nve(member),
            })
            .unwrap();
        }
    }

    pub fn ask(&mut self, name: &NveName, request: &EdgeRequest) -> Option<Reply> {
        let id = self.edges.get(name)?.session?;
        let decision = match self.engine.excess(id, request, self.now) {
            None => self.engine.edge(id, request, self.now),
            Some(excess) => Decision {
                plan: Plan::default(),
                reply: match excess {
                    Excess::Registration(reply) | Excess::Join(reply) | Excess::Hello(reply) => {
                        Some(reply)
                    }
                    Excess::Query => None,
                },
            },
        };
        self.store(&decision.plan);
        if let Some(reply) = &decision.reply {
            self.engine.confirm(id, reply);
        }
        if let (Some(Reply::Joined { vn, epoch, log, .. }), Some(edge)) =
            (&decision.reply, self.edges.get_mut(name))
        {
            let view = edge.views.entry(vn.clone()).or_default();
            (view.log, view.epoch, view.joined) = (Some(*log), *epoch, true);
        }
        if let (Some(Reply::Left { vn }), Some(edge)) = (&decision.reply, self.edges.get_mut(name))
        {
            edge.views.remove(vn);
        }
        self.sweep();
        self.deliver();
        decision.reply
    }

    pub fn connect(&mut self, name: &str) -> Option<Reply> {
        self.connect_at(name, endpoint(&nve(name)))
    }

    pub fn connect_at(&mut self, name: &str, endpoint: Endpoint) -> Option<Reply> {
        // From where it says that it is.
        self.connect_from(name, endpoint.clone(), endpoint.control_address.ip())
    }

    pub fn connect_from(
        &mut self,
        name: &str,
        endpoint: Endpoint,
        source: IpAddr,
    ) -> Option<Reply> {
        let id = SessionId(self.number());
        let edge = self.edges.entry(nve(name)).or_default();
        let former = edge.session.replace(id);
        (edge.goodbye, edge.hints) = (None, 0);
        for view in edge.views.values_mut() {
            view.joined = false;
        }
        if let Some(former) = former {
            self.engine.close(former);
        }
        self.engine.open(id, nve(name), source);
        let request = EdgeRequest::Hello {
            boot: self.boot,
            endpoint,
        };
        self.ask(&nve(name), &request)
    }

    pub fn disconnect(&mut self, name: &str) {
        let edge = self.edges.get_mut(&nve(name)).unwrap();
        if let Some(id) = edge.session.take() {
            self.engine.close(id);
        }
    }

    pub fn join(&mut self, name: &str, net: &str) -> Result<(), Refusal> {
        let edge = self.edges.entry(nve(name)).or_default();
        let view = edge.views.get(&vn(net));
        let resume = view.and_then(|view| {
            Some(Resume {
                log: view.log?,
                version: view.version,
            })
        });
        match self.ask(
            &nve(name),
            &EdgeRequest::Join {
                vn: vn(net),
                resume,
            },
        ) {
            Some(Reply::Joined { .. }) => Ok(()),
            Some(Reply::Refused { why, .. }) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    pub fn say(&mut self, name: &str, net: &str, message: VnFromEdge) -> Option<VnFromIma> {
        match self.ask(
            &nve(name),
            &EdgeRequest::Vn {
                vn: vn(net),
                message,
            },
        ) {
            Some(Reply::Vn { message, .. }) => Some(message),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    pub fn register(&mut self, name: &str, net: &str, port: &str, last: u8) -> Option<VnFromIma> {
        let port = port.parse().unwrap();
        self.say(
            name,
            net,
            VnFromEdge::Register {
                port,
                mac: mac(last),
                ips: ips(&[last]),
            },
        )
    }

    pub fn view(&self, name: &str, net: &str) -> &View {
        &self.edges[&nve(name)].views[&vn(net)]
    }

    /// Everything that is to be sent arrives.
    pub fn deliver(&mut self) {
        while let Some(id) = self.engine.ready(None) {
            while let Some(push) = self.engine.next(id) {
                let found = self
                    .edges
                    .values_mut()
                    .find(|edge| edge.session == Some(id));
                let Some(edge) = found else {
                    self.engine.close(id);
                    break;
                };
                if let Push::Close(why) = push {
                    edge.goodbye = Some(why);
                    edge.session = None;
                    self.engine.close(id);
                    break;
                }
                edge.receive(push);
            }
        }
    }
}

impl EdgeSim {
    fn receive(&mut self, push: Push) {
        match push {
            Push::Clear(FromIma::Revoked { nve }) => self.revoked.push(nve),
            Push::Clear(FromIma::Expelled { vn }) => {
                assert!(self.views.remove(&vn).is_some(), "expelled from {vn} twice");
            }
            Push::Clear(FromIma::NewEpoch { vn, epoch }) => {
                let view = self.views.get_mut(&vn).unwrap();
                assert!(epoch > view.epoch, "the epoch only grows");
                view.epoch = epoch;
            }
            Push::Vn { vn, message } => {
                let view = self
                    .views
                    .get_mut(&vn)
                    .expect("nothing of a VN that is not joined");
                assert!(view.joined, "nothing before Joined");
                match message {
                    VnFromIma::Update(update) => view.update(update),
                    VnFromIma::Placed => self.hints += 1,
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

impl View {
    fn update(&mut self, update: Update) {
        let encoded = vswitch_control::message::encode(&VnFromIma::Update(update.clone())).unwrap();
        assert!(encoded.len() <= vswitch_control::message::ima::MAX_SEALED - 16);
        match update.base {
            Base::Version(from) => {
                assert!(self.partial.is_none(), "nothing between the parts");
                assert_eq!(from, self.version);
                assert!(update.to > from, "the version only grows");
                let (members, mappings) = (&mut self.members, &mut self.mappings);
                merge(members, mappings, &update);
                self.version = update.to;
            }
            Base::Full { first, last } => {
                if first {
                    self.partial = Some(Default::default());
                }
                let (mut members, mut mappings) = self.partial.take().expect("a first part");
                assert!(update.gone.is_empty() && update.withdrawn.is_empty());
                merge(&mut members, &mut mappings, &update);
                if last {
                    (self.members, self.mappings) = (members, mappings);
                    self.version = update.to;
                    self.fulls += 1;
                } else {
                    self.partial = Some((members, mappings));
                }
            }
        }
    }
}

fn merge(
    members: &mut BTreeMap<NveName, Endpoint>,
    mappings: &mut BTreeMap<Mac, Mapping>,
    update: &Update,
) {
    for member in update.members.iter() {
        members.insert(member.nve.clone(), member.endpoint.clone());
    }
    for nve in update.gone.iter() {
        members.remove(nve);
    }
    for withdrawal in update.withdrawn.iter() {
        if let Some(old) = mappings.remove(&withdrawal.mac) {
            assert!(old.generation < withdrawal.generation);
        }
    }
    for mapping in update.mappings.iter() {
        let old = mappings.insert(mapping.mac, mapping.clone());
        assert!(old.is_none_or(|old| old.generation <= mapping.generation));
    }
}
