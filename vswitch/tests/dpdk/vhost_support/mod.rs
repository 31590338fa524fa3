//! A tiny switch for the vhost tests (one worker that bridges two ports), and tenants made
//! of `dpdk-testpmd` with virtio-user.
#![allow(unreachable_pub)]

pub mod frontend;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, unbounded};
use vswitch::dpdk::eal::{Eal, EalConfig, Memory};
use vswitch::dpdk::mbuf::{Burst, free_burst};
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::quiescence::Domain;
use vswitch::dpdk::thread::{Worker, allowed_cores, spawn_worker};
use vswitch::dpdk::vhost::{
    Device, DeviceId, EventSink, Mode, Refusal, VhostConfig, VhostEvent, VhostRx, VhostSocket,
    VhostTx,
};

pub const SOON: Duration = Duration::from_secs(30);

/// One EAL for all tests of a process, and one test at a time on this machine's few cores.
pub fn eal() -> MutexGuard<'static, ()> {
    static EAL: OnceLock<Eal> = OnceLock::new();
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    EAL.get_or_init(|| {
        // Shown for tests that fail.
        tracing_subscriber::fmt().with_test_writer().init();
        let memory = Memory::NoHuge;
        Eal::init(&EalConfig {
            memory,
            memory_mb: 512,
            ..EalConfig::default()
        })
        .unwrap()
    });
    one
}

pub fn testpmd_is_missing() -> bool {
    let missing = Command::new("dpdk-testpmd")
        .arg("--version")
        .output()
        .is_err();
    if missing {
        eprintln!("SKIPPED: dpdk-testpmd is not installed");
    }
    missing
}

pub fn config(path: &Path, mode: Mode, tag: u64) -> VhostConfig {
    VhostConfig {
        path: path.to_owned(),
        mode,
        queues: 2,
        uid: None,
        gid: None,
        permissions: 0o600,
        peer_uid: None,
        tag,
    }
}

enum Order {
    Attach(usize, Vec<(VhostRx, VhostTx)>),
    Detach(usize, DeviceId),
}

#[derive(Default)]
pub struct Counters {
    pub received: [AtomicU64; 2],
    pub sent: [AtomicU64; 2],
    pub refused: [AtomicU64; 2],
    stop: AtomicBool,
}

/// Ports 0 and 1 joined by one worker. Tags are port numbers.
pub struct Bridge {
    pub domain: Domain,
    pub counters: Arc<Counters>,
    /// One for each port.
    pub pools: [Mempool; 2],
    pub ports: [Option<Device>; 2],
    /// Refusals are noted here, where a test expects some.
    pub refusals: Option<Vec<(u64, Refusal)>>,
    sink: EventSink,
    events: Receiver<VhostEvent>,
    orders: Sender<Order>,
    worker: Option<Worker<()>>,
}

impl Bridge {
    pub fn new(name: &str) -> Self {
        let pool = |port| {
            let name = format!("{name}-{port}");
            Mempool::create_small(&name, 2048, 2048, None, true, 1).unwrap()
        };
        let pools = [pool(0), pool(1)];
        let (events_in, events) = unbounded();
        let (orders, worker_orders) = unbounded();
        let (domain, counters) = (Domain::new(), Arc::new(Counters::default()));
        let core = *allowed_cores().last().unwrap();
        let worker = {
            let (domain, counters, pools) = (domain.clone(), Arc::clone(&counters), pools.clone());
            spawn_worker(name, core, move |_| {
                work(&domain, &counters, &pools, &worker_orders)
            })
        };
        Bridge {
            domain,
            counters,
            pools,
            ports: [None, None],
            refusals: None,
            sink: Arc::new(move |event| events_in.send(event).unwrap()),
            events,
            orders,
            worker: Some(worker.unwrap()),
        }
    }

    pub fn socket(&self, config: VhostConfig) -> VhostSocket {
        VhostSocket::register(config, &self.domain, Arc::clone(&self.sink)).unwrap()
    }

    /// Does what events ask for until `done` holds.
    pub fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Bridge) -> bool) {
        let deadline = Instant::now() + SOON;
        while !done(self) {
            assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
            match self.events.recv_timeout(Duration::from_millis(20)) {
                Ok(VhostEvent::Up { tag, device }) => {
                    let port = tag as usize;
                    assert!(device.enabled().len() == usize::from(device.queue_pairs()));
                    self.orders
                        .send(Order::Attach(port, device.queues()))
                        .unwrap();
                    self.ports[port] = Some(device);
                }
                Ok(VhostEvent::Down { tag, device }) => {
                    let port = tag as usize;
                    let gone = self.ports[port].take().expect("was up");
                    assert_eq!(gone.id(), device);
                    assert!(!gone.is_live());
                    self.orders.send(Order::Detach(port, device)).unwrap();
                }
                Ok(VhostEvent::QueueState { tag, .. }) => {
                    if let Some(device) = &self.ports[tag as usize] {
                        device.enabled();
                    }
                }
                Ok(VhostEvent::PeerRefused { tag, reason, .. }) if self.refusals.is_some() => {
                    self.refusals.get_or_insert_default().push((tag, reason));
                }
                Ok(other) => panic!("while waiting for {what}: {other:?}"),
                Err(_) => {}
            }
        }
    }

    pub fn up(&mut self, port: usize) {
        self.run_until("device up", |b| b.ports[port].is_some());
    }

    pub fn down(&mut self, port: usize) {
        self.run_until("device down", |b| b.ports[port].is_none());
    }

    /// Waits until `more` further packets went to the guest of a port.
    pub fn flows_to(&mut self, port: usize, more: u64) {
        let from = self.counters.sent[port].load(Relaxed);
        self.run_until("packets flow", |b| {
            b.counters.sent[port].load(Relaxed) >= from + more
        });
    }

    /// Waits for a refusal on a port.
    pub fn refused(&mut self, port: u64, reason: Refusal) {
        self.refusals.get_or_insert_default();
        let what = format!("refusal: {reason}");
        self.run_until(&what, |b| {
            let seen = b.refusals.get_or_insert_default();
            let found = seen.iter().position(|r| *r == (port, reason));
            found.map(|at| seen.remove(at)).is_some()
        });
    }

    /// The next refusal.
    pub fn refusal(&mut self) -> (Option<u32>, Refusal) {
        loop {
            match self.events.recv_timeout(SOON).expect("a refusal") {
                VhostEvent::PeerRefused { uid, reason, .. } => return (uid, reason),
                VhostEvent::Up { device, .. } => panic!("let in: {device:?}"),
                _ => {}
            }
        }
    }

    /// Stops the worker; every packet must have had one end, and every buffer be back.
    pub fn finish(mut self) {
        self.ports = [None, None];
        self.counters.stop.store(true, Relaxed);
        self.worker.take().unwrap().join().unwrap();
        let sum = |c: &[AtomicU64; 2]| c[0].load(Relaxed) + c[1].load(Relaxed);
        let c = &self.counters;
        assert_eq!(sum(&c.received), sum(&c.sent) + sum(&c.refused));
        assert_eq!(self.pools.each_ref().map(Mempool::in_use), [0, 0]);
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.counters.stop.store(true, Relaxed);
    }
}

fn work(domain: &Domain, counters: &Counters, pools: &[Mempool; 2], orders: &Receiver<Order>) {
    let mut reader = domain.reader("bridge");
    let mut ports: [Vec<(VhostRx, VhostTx)>; 2] = [Vec::new(), Vec::new()];
    let mut burst = Burst::new();
    while !counters.stop.load(Relaxed) {
        while let Ok(order) = orders.try_recv() {
            match order {
                Order::Attach(port, queues) => ports[port] = queues,
                Order::Detach(port, device) => ports[port].retain(|q| q.0.device() != device),
            }
        }
        let mut idle = true;
        for port in 0..2 {
            let other = 1 - port;
            for queue in 0..ports[port].len() {
                let n = ports[port][queue]
                    .0
                    .receive(&reader, &pools[port], &mut burst);
                if n == 0 {
                    continue;
                }
                idle = false;
                counters.received[port].fetch_add(n as u64, Relaxed);
                if let Some((_, tx)) = ports[other].get_mut(queue) {
                    let sent = tx.send(&reader, &mut burst);
                    counters.sent[other].fetch_add(sent as u64, Relaxed);
                }
                counters.refused[other].fetch_add(burst.len() as u64, Relaxed);
                free_burst(&mut burst);
                reader.quiesce();
            }
        }
        reader.quiesce();
        if idle {
            reader.offline(std::thread::yield_now);
        }
    }
}

/// A tenant: testpmd with one virtio-user port of two queues. Gone when dropped.
pub struct Tenant {
    child: Child,
    input: ChildStdin,
    log: PathBuf,
}

impl Tenant {
    /// `device`: what follows `path=SOCKET`; `wrap`: a command to run it under.
    pub fn start(dir: &Path, socket: &Path, device: &str, forward: &str, wrap: &[&str]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("t{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let log = dir.join(format!("{prefix}.log"));
        let out = File::create(&log).unwrap();
        let vdev = format!(
            "net_virtio_user0,path={},queues=2{device}",
            socket.display()
        );
        let mut line = wrap.to_vec();
        line.extend([
            "stdbuf",
            "-oL",
            "dpdk-testpmd",
            "--lcores",
            "0@0,1@0",
            "--no-pci",
        ]);
        line.extend(["--no-huge", "-m", "256", "--no-telemetry", "--no-shconf"]);
        line.extend([
            "--file-prefix",
            &prefix,
            "--vdev",
            &vdev,
            "--",
            "-i",
            "--rxq=2",
            "--txq=2",
        ]);
        line.extend(["--total-num-mbufs=8192", "--txpkts=64"]);
        let mut child = Command::new(line[0])
            .args(&line[1..])
            .arg(format!("--forward-mode={forward}"))
            .env("XDG_RUNTIME_DIR", dir)
            .stdin(Stdio::piped())
            .stderr(out.try_clone().unwrap())
            .stdout(out)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        Tenant { child, input, log }
    }

    pub fn say(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    pub fn heard(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Packets that arrived, by testpmd's own count.
    pub fn rx_packets(&mut self) -> u64 {
        let before = self.heard().matches("RX-packets:").count();
        self.say("show port stats 0");
        let deadline = Instant::now() + SOON;
        loop {
            let heard = self.heard();
            let mut counts = heard.match_indices("RX-packets:").skip(before);
            if let Some((at, label)) = counts.next() {
                let number = heard[at + label.len()..].split_whitespace().next();
                if let Some(Ok(number)) = number.map(str::parse) {
                    return number;
                }
            }
            assert!(Instant::now() < deadline, "no statistics: {heard}");
            sleep(Duration::from_millis(20));
        }
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("--- testpmd said:\n{}", self.heard());
        }
    }
}
