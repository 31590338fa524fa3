//! An authority, an edge whose control thread the test plays, and what both need.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use vswitch_control::identity::{Clock, Credentials, Files, Role};
use vswitch_control::message::operator::Change;
use vswitch_control::message::overlay::VnSettings;
use vswitch_control::pki::Ca;
use vswitch_control::session::Setup;
use vswitch_control::types::{Epoch, NveName};
use vswitch_control::uptime::Uptime;
use vswitch_ima::client::Client;
use vswitch_ima::engine::Limits;
use vswitch_ima::server::Server;
use vswitch_ima::store::redb::Redb;
use vswitch_net::rss::Spread;
use vswitch_sa::Spi;

use super::{PATIENCE, red};
use crate::manage::authority::Authority;
use crate::manage::config::Config;
use crate::manage::edge::overlay::{self, Notice, Order, Played};

const DAY: Duration = Duration::from_secs(86_400);

/// A CA and an authority, with the edges `a` and `m` in the network `red`.
pub struct Lab {
    directory: TempDir,
    pub ca: Ca,
    pub runtime: Runtime,
    server: Option<Server>,
    pub at: SocketAddr,
    pub operator: Client,
}

impl Lab {
    pub fn start() -> Self {
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

    /// An edge with one port and two workers; the last number of its address.
    pub fn edge(&self, name: &str, number: u8) -> Edge {
        self.edge_with(name, number, 2, None)
    }

    /// The same with so many workers, and what is known of how its underlay port spreads packets.
    pub fn edge_with(&self, name: &str, number: u8, workers: u16, spread: Option<Spread>) -> Edge {
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
        let (overlay, control) = overlay::played(workers, vec![spread]);
        let Played {
            orders,
            notices,
            shown,
        } = control;
        let slept = Arc::new(AtomicU64::new(0));
        let (began, skipped) = (Uptime::begin(), Arc::clone(&slept));
        let clock = move || began.elapsed() + Duration::from_secs(skipped.load(Ordering::Relaxed));
        let authority = Authority::start_by(&config, overlay, Box::new(clock)).unwrap();
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
            slept,
            shown,
            _notices: notices,
            thread: Some(thread),
        }
    }
}

impl Lab {
    /// The authority is gone.
    pub fn stop_server(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop()).unwrap();
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

pub fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn issue(ca: &Ca, role: Role, name: &str) -> Files {
    ca.issue(role, name, DAY, SystemTime::now()).unwrap()
}

pub fn setup(ca: &Ca, role: Role, name: &str) -> Setup {
    let credentials = Credentials::load(&issue(ca, role, name), role, Clock::system().now());
    let mut setup = Setup::new(credentials.unwrap().fixed(), &[]);
    setup.limits.per_source.per_second = 1000.0;
    setup.limits.per_source.burst = 1000.0;
    setup.limits.half_open_per_source = 1000;
    setup
}

/// A control thread and its workers, which can stand still.
#[derive(Default)]
pub struct Plane {
    pub stalled: AtomicBool,
    pub installed: AtomicU64,
    /// Inbound SAs with the worker that owns them.
    pub open: std::sync::Mutex<BTreeMap<Spi, u16>>,
    /// Other edges on the network.
    pub edges: std::sync::Mutex<Vec<String>>,
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
                        assert_eq!(open.insert(key.spi, key.worker), None, "an SPI twice");
                        self.installed.fetch_add(1, Ordering::Relaxed);
                        let _ = answers.blocking_send(Notice::Done(id));
                    }
                    Order::RemoveInbound { spi } => {
                        open.remove(&spi);
                    }
                    Order::Edges { peers, .. } => *self.edges.lock().unwrap() = peers,
                    Order::LeaveVn { .. } => self.edges.lock().unwrap().clear(),
                    _ => {}
                }
            }
        }
    }
}

pub struct Edge {
    pub name: NveName,
    pub listen: SocketAddr,
    authority: Option<Authority>,
    pub plane: Arc<Plane>,
    slept: Arc<AtomicU64>,
    shown: tokio::sync::watch::Receiver<Option<Arc<crate::manage::status::Ima>>>,
    _notices: mpsc::Sender<Notice>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Edge {
    /// As if the host had been suspended for so many seconds: its clock has gone on, timers have not.
    pub fn wake_behind(&self, seconds: u64) {
        self.slept.fetch_add(seconds, Ordering::Relaxed);
    }

    pub fn shown(&self) -> Arc<crate::manage::status::Ima> {
        self.shown.borrow().clone().unwrap_or_default()
    }

    pub fn epoch(&self) -> Option<Epoch> {
        let shown = self.shown();
        let vn = shown.vns.iter().find(|vn| vn.vn == "red")?;
        vn.epoch.map(Epoch)
    }

    /// Has joined, and knows of another edge.
    pub fn knows(&self, other: &str) {
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

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}
