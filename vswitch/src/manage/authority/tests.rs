//! The thread with a real authority and real sessions; the test plays the control thread, and an edge
//! that is a member and floods.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use vswitch_control::hybrid::{ExchangeId, Initiator, Transcript};
use vswitch_control::identity::{Clock, Credentials, Expect, Files, Identity, Role};
use vswitch_control::message::operator::{Change, Text};
use vswitch_control::message::overlay::VnSettings;
use vswitch_control::message::peer::{PeerMessage, VERSION, VnMessage};
use vswitch_control::message::{decode, encode};
use vswitch_control::pki::Ca;
use vswitch_control::session::{Bytes, Endpoint, Session, Setup};
use vswitch_control::types::{BootId, Epoch, NveName, VnName};
use vswitch_control::vnchannel::{Side, VnChannel};
use vswitch_ima::client::Client;
use vswitch_ima::engine::Limits;
use vswitch_ima::server::Server;
use vswitch_ima::store::redb::Redb;
use vswitch_sa::Spi;

use super::Authority;
use super::driver::ORDERS;
use crate::manage::config::Config;
use crate::manage::edge::overlay::{self, Notice, Order, Played};

const DAY: Duration = Duration::from_secs(86_400);
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn red() -> VnName {
    "red".parse().unwrap()
}

/// A CA and an authority, with the edges `a` and `m` in the network `red`.
struct Lab {
    directory: TempDir,
    ca: Ca,
    runtime: Runtime,
    server: Option<Server>,
    at: SocketAddr,
    operator: Client,
}

impl Lab {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("ca");
        let ca = Ca::init(&place, &"lab".parse().unwrap(), DAY, SystemTime::now()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (server, operator) = runtime.block_on(async {
            let store = Redb::open(&directory.path().join("ima.redb")).unwrap();
            let setup = setup(&ca, Role::Ima, "one");
            let server = Server::start(local(0), setup, store, Limits::default());
            let server = server.await.unwrap();
            let files = issue(&ca, Role::Operator, "root");
            let mut operator = Client::connect(&files, &[server.address()]).await.unwrap();
            let settings = VnSettings {
                vni: 500.try_into().unwrap(),
                protection: Default::default(),
                lease_end: Default::default(),
                admission: Default::default(),
            };
            let vn = red();
            let declare = [Change::VnAdd { vn, settings }];
            let members = ["a", "m"].map(|nve| Change::MemberAdd {
                vn: red(),
                nve: nve.parse().unwrap(),
            });
            for change in declare.into_iter().chain(members) {
                operator.change(change).await.unwrap();
            }
            (server, operator)
        });
        Lab {
            at: server.address(),
            directory,
            ca,
            runtime,
            server: Some(server),
            operator,
        }
    }

    /// An edge with one port; the last number of its address.
    fn edge(&self, name: &str, number: u8) -> Edge {
        let files = issue(&self.ca, Role::Nve, name);
        // Free now; nobody else asks for one on this address.
        let listen = UdpSocket::bind(local(0)).unwrap().local_addr().unwrap();
        let text = format!(
            r#"
nve: {{name: {name}}}
underlay:
  ports: [{{name: up0, device: net_ring_up0, addresses: ["192.0.2.{number}/24"], tap: up0}}]
authority:
  servers: ["{}"]
  certificate: {}
  private-key: {}
  bundle: {}
  listen: {listen}
vns: [{{name: red}}]
ports:
  - name: one
    vn: red
    vhost: {{socket: /run/1.sock}}
    addresses: [{{mac: "52:54:00:00:00:0{number}", ips: [10.0.0.{number}]}}]
"#,
            self.at,
            files.chain.display(),
            files.key.display(),
            files.bundle.display(),
        );
        let config = Config::parse(&text, Path::new("/")).unwrap();
        let (overlay, control) = overlay::played(2);
        let Played {
            orders,
            notices,
            shown,
        } = control;
        let authority = Authority::start(&config, overlay).unwrap();
        notices
            .try_send(Notice::Configuration(Arc::new(config)))
            .unwrap();
        let plane = Arc::new(Plane::default());
        let (shared, answers) = (Arc::clone(&plane), notices.clone());
        let thread = std::thread::spawn(move || shared.run(&orders, &answers));
        Edge {
            name: name.parse().unwrap(),
            listen,
            authority: Some(authority),
            plane,
            shown,
            _notices: notices,
            thread: Some(thread),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let _ = self.runtime.block_on(server.stop());
        }
        let _ = self.directory.path();
    }
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn issue(ca: &Ca, role: Role, name: &str) -> Files {
    ca.issue(role, name, DAY, SystemTime::now()).unwrap()
}

fn setup(ca: &Ca, role: Role, name: &str) -> Setup {
    let credentials = Credentials::load(&issue(ca, role, name), role, Clock::system().now());
    let mut setup = Setup::new(credentials.unwrap().fixed(), &[]);
    setup.limits.per_source.per_second = 1000.0;
    setup.limits.per_source.burst = 1000.0;
    setup
}

/// A control thread and its workers, which can stand still.
#[derive(Default)]
struct Plane {
    stalled: AtomicBool,
    installed: AtomicU64,
    open: std::sync::Mutex<BTreeSet<Spi>>,
    /// Other edges on the network.
    edges: std::sync::Mutex<Vec<String>>,
}

impl Plane {
    fn run(
        &self,
        orders: &crossbeam::channel::Receiver<Vec<Order>>,
        answers: &mpsc::Sender<Notice>,
    ) {
        loop {
            if self.stalled.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let Ok(batch) = orders.recv_timeout(Duration::from_millis(5)) else {
                if answers.is_closed() {
                    return;
                }
                continue;
            };
            for order in batch {
                let mut open = self.open.lock().unwrap();
                match order {
                    Order::InstallInbound(id, key) => {
                        assert!(open.insert(key.spi), "an SPI twice");
                        self.installed.fetch_add(1, Ordering::Relaxed);
                        let _ = answers.blocking_send(Notice::Done(id));
                    }
                    Order::RemoveInbound { spi } => {
                        open.remove(&spi);
                    }
                    Order::Edges { peers, .. } => *self.edges.lock().unwrap() = peers,
                    _ => {}
                }
            }
        }
    }
}

struct Edge {
    name: NveName,
    listen: SocketAddr,
    authority: Option<Authority>,
    plane: Arc<Plane>,
    shown: tokio::sync::watch::Receiver<Option<Arc<crate::manage::status::Ima>>>,
    _notices: mpsc::Sender<Notice>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Edge {
    fn shown(&self) -> Arc<crate::manage::status::Ima> {
        self.shown.borrow().clone().unwrap_or_default()
    }

    fn epoch(&self) -> Option<Epoch> {
        let shown = self.shown();
        let vn = shown.vns.iter().find(|vn| vn.vn == "red")?;
        vn.epoch.map(Epoch)
    }

    /// Has joined, and knows of another edge.
    fn knows(&self, other: &str) {
        until("a member is known", || {
            let edges = self.plane.edges.lock().unwrap();
            edges.iter().any(|edge| edge == other) && self.epoch().is_some()
        });
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.plane.stalled.store(false, Ordering::Relaxed);
        drop(self.authority.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A member that speaks the protocol itself, and makes as much of it as it can.
struct Flooder {
    session: Session,
    binding: [u8; 32],
    exchanges: u128,
    epoch: Epoch,
}

impl Flooder {
    async fn dial(ca: &Ca, victim: &Edge) -> (Endpoint, Flooder) {
        let endpoint = Endpoint::bind(local(0), setup(ca, Role::Nve, "m")).unwrap();
        let identity = Identity::new(&"lab".parse().unwrap(), Role::Nve, victim.name.as_str());
        let expect = Expect::Identity(identity.unwrap());
        let session = endpoint.dial(victim.listen, expect).await.unwrap();
        let label = b"EXPORTER-vswitch-peer";
        let exported = session.export_keying_material(label, b"").unwrap();
        let flooder = Flooder {
            session,
            binding: *exported,
            exchanges: 0,
            epoch: victim.epoch().unwrap(),
        };
        let boot = BootId([7; 16]);
        let version = VERSION;
        flooder.say(&PeerMessage::Hello { version, boot }).await;
        (endpoint, flooder)
    }

    async fn say(&self, message: &PeerMessage) {
        // Its end is seen elsewhere.
        let _ = self
            .session
            .send(Bytes::from(encode(message).unwrap()))
            .await;
    }

    /// Exchange upon exchange, and under each an SA for each of 16 workers, until the session ends.
    async fn flood(&mut self) {
        let own = "spiffe://lab/nve/m";
        while let Ok(initiator) = Initiator::new() {
            self.exchanges += 1;
            let exchange = ExchangeId(self.exchanges.to_be_bytes());
            let offer = initiator.offer().clone();
            self.say(&PeerMessage::KeyRequest {
                vn: red(),
                epoch: self.epoch,
                exchange,
                offer,
            })
            .await;
            let answer = loop {
                let Some(frame) = self.session.recv().await else {
                    return;
                };
                match decode(&frame) {
                    Ok(PeerMessage::KeyResponse {
                        exchange: of,
                        answer,
                        ..
                    }) if of == exchange => {
                        break Some(answer);
                    }
                    Ok(PeerMessage::Refuse { exchange: of, .. }) if of == exchange => break None,
                    _ => {}
                }
            };
            let Some(answer) = answer else { continue };
            let vn = red();
            let transcript = Transcript {
                initiator: own,
                responder: "spiffe://lab/nve/a",
                vn: &vn,
                epoch: self.epoch,
                exchange,
                binding: &self.binding,
            };
            let root = initiator.finish(&answer, &transcript).unwrap();
            let mut channel = VnChannel::new(&root, &transcript, Side::Initiator).unwrap();
            for worker in 0..16 {
                let want = encode(&VnMessage::Want { worker }).unwrap();
                let bytes = channel.seal(&want).unwrap().try_into().unwrap();
                self.say(&PeerMessage::Sealed {
                    vn: red(),
                    exchange,
                    bytes,
                })
                .await;
            }
        }
    }
}

/// A member makes as many exchanges as it is allowed, with 16 SAs each, while the control thread does
/// not get to them. What piles up is bounded, and the authority's word that the member is revoked gets
/// through at once: its session ends, and everything of it is gone within a second.
#[test]
fn a_revocation_takes_effect_within_a_second_whatever_a_member_does() {
    let mut lab = Lab::start();
    let (a, m) = (lab.edge("a", 1), lab.edge("m", 2));
    a.knows("m");
    m.knows("a");
    // As somebody who has stolen its key would: beside the real one.
    let (_endpoint, mut flooder) = lab.runtime.block_on(Flooder::dial(&lab.ca, &a));
    let flood = lab.runtime.spawn(async move { flooder.flood().await });
    until("keys are installed", || {
        a.plane.installed.load(Ordering::Relaxed) > 100
    });
    a.plane.stalled.store(true, Ordering::Relaxed);
    until("the flood is held back", || a.shown().held > 0);
    // No more comes of it than of the messages that were taken up before that was seen.
    let most = ORDERS + 1000;
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(50));
        let orders = a.shown().orders;
        assert!(orders < most, "{orders} orders wait");
    }
    let revoke = Change::Revoke {
        nve: "m".parse().unwrap(),
        reason: Text::of("stolen"),
    };
    lab.runtime.block_on(lab.operator.change(revoke)).unwrap();
    let begin = Instant::now();
    // Though nobody takes orders.
    lab.runtime
        .block_on(async { tokio::time::timeout(PATIENCE, flood).await })
        .expect("in time")
        .unwrap();
    let closed = begin.elapsed();
    a.plane.stalled.store(false, Ordering::Relaxed);
    until("everything is gone", || {
        a.plane.open.lock().unwrap().is_empty() && a.plane.edges.lock().unwrap().is_empty()
    });
    let gone = begin.elapsed();
    println!("session closed after {closed:?}, all SAs gone after {gone:?}");
    assert!(closed < Duration::from_secs(1), "{closed:?}");
    assert!(gone < Duration::from_secs(1), "{gone:?}");
}

/// What other edges say fills their queue; the authority's word does not wait behind it.
#[test]
fn the_authority_has_a_queue_of_its_own() {
    let lab = Lab::start();
    let a = lab.edge("a", 1);
    until("a session with the authority", || a.epoch().is_some());
    drop(a);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let endpoint = Arc::new(Endpoint::bind(local(0), setup(&lab.ca, Role::Nve, "a")).unwrap());
        let (ima, mut ima_heard) = mpsc::channel(super::network::IMA_HEARD);
        let (peers, _peers_heard) = mpsc::channel(super::network::PEERS_HEARD);
        let network = super::network::Network {
            endpoint,
            ima,
            peers,
        };
        while network
            .peers
            .try_send(super::network::Heard::NoPeer(
                "m".parse().unwrap(),
                String::new(),
            ))
            .is_ok()
        {}
        network.dial_ima(1, lab.at);
        let heard = tokio::time::timeout(PATIENCE, ima_heard.recv()).await;
        let heard = heard.expect("in time").expect("something");
        assert!(
            matches!(heard, super::network::Heard::Ima(1, _)),
            "{heard:?}"
        );
    });
}
