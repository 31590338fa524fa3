//! A CA, servers, and edges that speak the protocol over real sessions and keep what they are told.

pub mod etcd;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use vswitch_control::hybrid::{ExchangeId, Initiator, Transcript};
use vswitch_control::identity::{Clock, Credentials, Expect, Files, Role};
use vswitch_control::message::ima::{
    Base, EXPORTER_LABEL, FromEdge, FromIma, Goodbye, LogId, PROTOCOL, Refusal, Resume,
    SealedBytes, Update, VnFromEdge, VnFromIma,
};
use vswitch_control::message::operator::Change;
use vswitch_control::message::overlay::{
    Admission, Endpoint as Place, Ips, Mapping, Placement, VnSettings, Vni,
};
use vswitch_control::message::{decode, encode};
use vswitch_control::pki::Ca;
use vswitch_control::session::{Bytes, Endpoint, Session, Setup};
use vswitch_control::types::{BootId, Epoch, Mac, NveName, Version, VnName};
use vswitch_control::vnchannel::{Side, VnChannel};
use vswitch_ima::client::Client;
use vswitch_ima::engine::Limits;
use vswitch_ima::server::Server;
use vswitch_ima::store::Store;
use vswitch_ima::store::redb::Redb;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

const DAY: Duration = Duration::from_secs(86_400);

pub fn vn(name: &str) -> VnName {
    name.parse().unwrap()
}

pub fn nve(name: &str) -> NveName {
    name.parse().unwrap()
}

pub fn mac(n: u16) -> Mac {
    let [high, low] = n.to_be_bytes();
    Mac([2, 0, 0, 0, high, low])
}

pub fn ips(n: u16) -> Ips {
    let [high, low] = n.to_be_bytes();
    vec![[10, 0, high, low].into()].try_into().unwrap()
}

/// Declares a network and its members.
pub async fn declare(
    operator: &mut Client,
    net: &str,
    vni: u32,
    admission: Admission,
    members: &[&str],
) {
    let settings = VnSettings {
        vni: Vni::try_from(vni).unwrap(),
        protection: Default::default(),
        lease_end: Default::default(),
        admission,
    };
    let vn_add = Change::VnAdd {
        vn: vn(net),
        settings,
    };
    operator.change(vn_add).await.unwrap();
    for member in members {
        let add = Change::MemberAdd {
            vn: vn(net),
            nve: nve(member),
        };
        operator.change(add).await.unwrap();
    }
}

/// Declares that machine `n` of a network belongs at port `vmN` of an edge.
pub async fn place(operator: &mut Client, net: &str, n: u16, on: &str) {
    let placement = Placement {
        mac: mac(n),
        ips: ips(n),
        nve: nve(on),
        port: format!("vm{n}").parse().unwrap(),
    };
    let vn = vn(net);
    let add = Change::PlacementAdd { vn, placement };
    operator.change(add).await.unwrap();
}

/// What runs the sessions of a test.
pub fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Runs `test` with one server of these limits, which it is given the address of, and with an
/// operator. Both end as they should, or the test fails.
pub fn with_server(limits: Limits, test: impl AsyncFnOnce(&Lab, SocketAddr, &mut Client)) {
    runtime().block_on(async {
        let lab = Lab::new();
        let server = lab.redb(limits).await;
        let mut operator = lab.operator(server.address()).await;
        test(&lab, server.address(), &mut operator).await;
        operator.close().await;
        server.stop().await.unwrap();
    });
}

pub struct Lab {
    pub directory: TempDir,
    pub ca: Ca,
}

impl Lab {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let domain = "lab".parse().unwrap();
        let ca = Ca::init(
            &directory.path().join("ca"),
            &domain,
            DAY,
            SystemTime::now(),
        )
        .unwrap();
        Self { directory, ca }
    }

    pub fn files(&self, role: Role, name: &str) -> Files {
        self.ca.issue(role, name, DAY, SystemTime::now()).unwrap()
    }

    fn setup(&self, role: Role, name: &str) -> Setup {
        let files = self.files(role, name);
        let credentials = Credentials::load(&files, role, Clock::system().now()).unwrap();
        let mut setup = Setup::new(credentials.fixed(), &[]);
        // All tests' edges come from one address.
        setup.limits.per_source.per_second = 1000.0;
        setup.limits.per_source.burst = 1000.0;
        setup.limits.half_open_per_source = 1000;
        setup
    }

    pub async fn server(&self, name: &str, store: impl Store, limits: Limits) -> Server {
        let setup = self.setup(Role::Ima, name);
        Server::start("127.0.0.1:0".parse().unwrap(), setup, store, limits)
            .await
            .unwrap()
    }

    pub async fn redb(&self, limits: Limits) -> Server {
        let store = Redb::open(&self.directory.path().join("ima.redb")).unwrap();
        self.server("one", store, limits).await
    }

    pub async fn operator(&self, server: SocketAddr) -> Client {
        Client::connect(&self.files(Role::Operator, "root"), &[server])
            .await
            .unwrap()
    }

    pub async fn dial(
        &self,
        role: Role,
        name: &str,
        server: SocketAddr,
    ) -> Option<(Endpoint, Session)> {
        let setup = self.setup(role, name);
        let endpoint = Endpoint::bind("127.0.0.1:0".parse().unwrap(), setup).unwrap();
        let session = endpoint
            .dial(server, Expect::Roles(vec![Role::Ima]))
            .await
            .ok()?;
        Some((endpoint, session))
    }

    /// An edge that has been welcomed. `number` is the last byte of its tunnel address.
    pub async fn edge(&self, name: &str, number: u8, server: SocketAddr) -> Edge {
        let (endpoint, session) = self.dial(Role::Nve, name, server).await.unwrap();
        let mut edge = Edge::new(name, endpoint, session);
        edge.hello(number).await;
        match edge.next().await {
            Some(Told::Clear(FromIma::Welcome { .. })) => edge,
            other => panic!("{other:?}"),
        }
    }
}

/// What an edge was sent, opened.
#[derive(Debug)]
pub enum Told {
    Clear(FromIma),
    Vn(
        #[expect(dead_code, reason = "shown by tests that fail")] VnName,
        VnFromIma,
    ),
}

#[derive(Debug, Default, Clone)]
pub struct View {
    pub log: Option<LogId>,
    pub version: Version,
    pub members: BTreeMap<NveName, Place>,
    pub mappings: BTreeMap<Mac, Mapping>,
    pub fulls: usize,
    /// Mappings it was told, in all.
    pub heard: usize,
    partial: Option<(BTreeMap<NveName, Place>, BTreeMap<Mac, Mapping>)>,
}

pub struct Edge {
    /// It lives as long as its session.
    _endpoint: Endpoint,
    pub session: Session,
    pub channels: BTreeMap<VnName, (Epoch, VnChannel)>,
    pub views: BTreeMap<VnName, View>,
    offers: BTreeMap<VnName, (ExchangeId, Initiator)>,
    identity: String,
    binding: Vec<u8>,
    exchanges: u8,
}

impl Edge {
    pub fn new(name: &str, endpoint: Endpoint, session: Session) -> Self {
        let binding = session
            .export_keying_material(EXPORTER_LABEL, b"")
            .unwrap()
            .to_vec();
        Self {
            _endpoint: endpoint,
            session,
            channels: BTreeMap::new(),
            views: BTreeMap::new(),
            offers: BTreeMap::new(),
            identity: format!("spiffe://lab/nve/{name}"),
            binding,
            exchanges: 0,
        }
    }

    pub async fn send(&self, message: &FromEdge) {
        // The session may be over: whoever expects an answer will see.
        let _ = self
            .session
            .send(Bytes::from(encode(message).unwrap()))
            .await;
    }

    pub async fn hello(&self, number: u8) {
        let endpoint = Place {
            tunnel_addresses: vec![[192, 0, 2, number].into()].try_into().unwrap(),
            control_address: ([192, 0, 2, number], 4790).into(),
        };
        let boot = BootId([number; 16]);
        self.send(&FromEdge::Hello {
            version: PROTOCOL,
            boot,
            endpoint,
        })
        .await;
    }

    pub async fn seal(&mut self, net: &str, message: &VnFromEdge) {
        let (epoch, channel) = self.channels.get_mut(&vn(net)).unwrap();
        let sealed = channel.seal(&encode(message).unwrap()).unwrap();
        let bytes = SealedBytes::try_from(sealed).unwrap();
        let message = FromEdge::Sealed {
            vn: vn(net),
            epoch: *epoch,
            bytes,
        };
        self.send(&message).await;
    }

    pub async fn offer(&mut self, net: &str) {
        self.exchanges += 1;
        let exchange = ExchangeId([self.exchanges; 16]);
        let initiator = Initiator::new().unwrap();
        let view = self.views.get(&vn(net));
        let resume = view.and_then(|view| {
            Some(Resume {
                log: view.log?,
                version: view.version,
            })
        });
        let offer = initiator.offer().clone();
        self.offers.insert(vn(net), (exchange, initiator));
        self.send(&FromEdge::Join {
            vn: vn(net),
            exchange,
            offer,
            resume,
        })
        .await;
    }

    pub async fn join(&mut self, net: &str) -> Result<(), Refusal> {
        self.offer(net).await;
        loop {
            match self.next().await.expect("an answer") {
                Told::Clear(FromIma::Joined { vn: joined, .. }) if joined == vn(net) => {
                    return Ok(());
                }
                Told::Clear(FromIma::Refused { why, .. }) => return Err(why),
                _ => {}
            }
        }
    }

    pub async fn register(&mut self, net: &str, n: u16) -> VnFromIma {
        let port = format!("vm{n}").parse().unwrap();
        self.seal(
            net,
            &VnFromEdge::Register {
                port,
                mac: mac(n),
                ips: ips(n),
            },
        )
        .await;
        loop {
            if let Told::Vn(
                _,
                answer @ (VnFromIma::Registered { .. } | VnFromIma::Rejected { .. }),
            ) = self.next().await.expect("an answer")
            {
                return answer;
            }
        }
    }

    /// The next message, taken in. `None` if the session is over.
    pub async fn next(&mut self) -> Option<Told> {
        let frame = timeout(PATIENCE, self.session.recv())
            .await
            .expect("in time")?;
        let message: FromIma = decode(&frame).unwrap();
        Some(match message {
            FromIma::Sealed { vn, epoch, bytes } => {
                let (own, channel) = self.channels.get_mut(&vn).expect("a channel");
                assert_eq!(*own, epoch);
                let opened = channel.open(bytes.as_bytes()).expect("sealed for us");
                let message = decode(&opened).unwrap();
                if let VnFromIma::Update(update) = &message {
                    self.views.entry(vn.clone()).or_default().update(update);
                }
                Told::Vn(vn, message)
            }
            FromIma::Joined {
                vn,
                exchange,
                epoch,
                answer,
                log,
                vni,
                protection,
                lease_end,
            } => {
                let (own, initiator) = self.offers.remove(&vn).expect("an offer");
                assert_eq!(own, exchange);
                let transcript = Transcript {
                    initiator: &self.identity,
                    responder: &self.session.peer().to_string(),
                    vn: &vn,
                    epoch,
                    exchange,
                    binding: &self.binding,
                };
                let root = initiator.finish(&answer, &transcript).unwrap();
                let channel = VnChannel::new(&root, &transcript, Side::Initiator).unwrap();
                self.channels.insert(vn.clone(), (epoch, channel));
                let view = self.views.entry(vn.clone()).or_default();
                view.log = Some(log);
                Told::Clear(FromIma::Joined {
                    vn,
                    exchange,
                    epoch,
                    answer,
                    log,
                    vni,
                    protection,
                    lease_end,
                })
            }
            FromIma::Expelled { vn } => {
                self.channels.remove(&vn);
                self.views.remove(&vn);
                Told::Clear(FromIma::Expelled { vn })
            }
            FromIma::NewEpoch { vn, epoch } => {
                self.offer(vn.as_str()).await;
                Told::Clear(FromIma::NewEpoch { vn, epoch })
            }
            other => Told::Clear(other),
        })
    }

    /// Takes messages in until `enough` says so.
    pub async fn until(&mut self, mut enough: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !enough(self) {
            assert!(begin.elapsed() < PATIENCE, "in time");
            self.next().await.expect("a message");
        }
    }

    /// Why the authority ended the session.
    pub async fn goodbye(&mut self) -> Option<Goodbye> {
        while let Some(told) = self.next().await {
            if let Told::Clear(FromIma::Goodbye { why }) = told {
                return Some(why);
            }
        }
        None
    }

    pub fn mappings(&self, net: &str) -> BTreeMap<Mac, NveName> {
        let view = self.views.get(&vn(net));
        let mappings = view.into_iter().flat_map(|view| view.mappings.values());
        mappings
            .map(|mapping| (mapping.mac, mapping.nve.clone()))
            .collect()
    }
}

impl View {
    fn update(&mut self, update: &Update) {
        self.heard += update.mappings.len();
        let (members, mappings) = match update.base {
            Base::Version(from) => {
                // Earlier: it joined again while an update was under way.
                assert!(from <= self.version && self.version <= update.to);
                (&mut self.members, &mut self.mappings)
            }
            Base::Full { first, .. } => {
                if first {
                    self.partial = Some(Default::default());
                }
                let (members, mappings) = self.partial.as_mut().expect("a first part");
                (members, mappings)
            }
        };
        for member in update.members.iter() {
            members.insert(member.nve.clone(), member.endpoint.clone());
        }
        for nve in update.gone.iter() {
            members.remove(nve);
        }
        for withdrawal in update.withdrawn.iter() {
            mappings.remove(&withdrawal.mac);
        }
        for mapping in update.mappings.iter() {
            mappings.insert(mapping.mac, mapping.clone());
        }
        match update.base {
            Base::Version(_) => self.version = update.to,
            Base::Full { last: true, .. } => {
                (self.members, self.mappings) = self.partial.take().expect("parts");
                (self.version, self.fulls) = (update.to, self.fulls + 1);
            }
            Base::Full { .. } => {}
        }
    }
}
