//! The switch that benchmarks send a tenant's packets through: the real `vswitchd` with workers
//! that poll, one tenant, one peer with [`FLOWS`] stations, and associations with fresh keys.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use vswitch::manage::status::{Status, Worker};

use crate::daemon::{Daemon, api_socket, file_prefix};
use crate::datapath::edge::{Side, VNI};
use crate::datapath::frames::{FLOWS, TENANT_IP, TENANT_MAC, station_ip, station_mac};
use crate::e2e::edges::fresh_key;
use crate::peers::{Ticks, io};

/// The VLAN of the tenant's frames where it is on a device.
pub const VID: u16 = 100;

/// SPI of the first worker's packets; others count up from it.
pub const SPI: u32 = 0x1000;
/// SPI of packets for it.
const INBOUND_SPI: u32 = 0x2000;

/// Of the underlay: room for a tenant's 1500 bytes.
const MTU: u16 = 1600;

/// Megabytes of memory that one takes.
pub const MEMORY: u32 = 256;

/// How the tenant is attached.
#[derive(Debug, Clone, Copy)]
pub enum Attachment<'a> {
    /// By a device with a queue for each of these captures, that gives its frames, tagged with
    /// [`VID`]. The first queue is the first worker's, and so on.
    Captures(&'a [&'a Path]),
    /// By a vhost socket that the tenant makes.
    Vhost(&'a Path),
    /// By a vhost socket that the switch makes.
    VhostServer(&'a Path),
}

/// What is started.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// For all its files.
    pub dir: &'a Path,
    /// Its name; nobody else in this process has it.
    pub name: &'a str,
    /// Where its workers poll.
    pub cores: &'a [usize],
    /// Whether its memory is hugepages.
    pub hugepages: bool,
    /// AES-GCM, by name.
    pub aead: &'a str,
    /// The tenant.
    pub tenant: Attachment<'a>,
    /// The underlay's device.
    pub underlay: &'a str,
    /// Workers with an outbound association of their own; the others hand their packets to the
    /// first of these.
    pub senders: &'a [u16],
}

/// A running one.
pub struct Switch(Daemon);

/// Starts it.
pub fn start(setup: &Setup<'_>) -> anyhow::Result<Switch> {
    let yaml = configuration(setup)?;
    Daemon::start(setup.dir, setup.name, &yaml).map(Switch)
}

fn configuration(setup: &Setup<'_>) -> anyhow::Result<String> {
    let &Setup {
        dir, name, aead, ..
    } = setup;
    let (near, far) = (Side::Near, Side::Far);
    let memory = match setup.hugepages {
        true => "hugepages",
        false => "no-huge",
    };
    let cores: Vec<String> = setup.cores.iter().map(usize::to_string).collect();
    let mut yaml = format!(
        "nve: {{name: {name}}}\n\
         eal: {{memory: {memory}, memory-mb: {MEMORY}, file-prefix: {}}}\n\
         workers: {{cores: [{}], idle: poll, aead: {aead}}}\n\
         mempool: {{mbufs: 16384, data-room: 2048}}\n\
         state-dir: {}\n\
         api: {{socket: {}}}\n",
        file_prefix(name),
        cores.join(", "),
        dir.join(format!("state-{name}")).display(),
        api_socket(dir, name).display(),
    );
    write!(
        yaml,
        "underlay:\n  ports:\n    - name: up0\n      device: \"{}\"\n      mtu: {MTU}\n      \
         addresses: [{}/24]\n      neighbours: [{{address: {}, mac: \"{}\"}}]\n\
         peers: [{{name: far, addresses: [{}]}}]\n",
        setup.underlay,
        near.ip(),
        far.ip(),
        far.mac(),
        far.ip(),
    )?;
    let vhost = |socket: &Path, mode: &str| {
        let (socket, user) = (socket.display(), rustix::process::geteuid().as_raw());
        format!("vhost: {{socket: {socket}, mode: {mode}, peer-uid: {user}}}")
    };
    let port = match setup.tenant {
        Attachment::Captures(files) => {
            let device = io::source(0, files);
            writeln!(
                yaml,
                "devices: [{{name: trunk, device: \"{device}\", mtu: 1500}}]"
            )?;
            format!("vlan: {{device: trunk, vid: {VID}}}")
        }
        Attachment::Vhost(socket) => vhost(socket, "client"),
        Attachment::VhostServer(socket) => vhost(socket, "server"),
    };
    write!(
        yaml,
        "ports:\n  - name: vm\n    vn: blue\n    {port}\n    \
         addresses: [{{mac: \"{TENANT_MAC}\", ips: [{TENANT_IP}]}}]\n\
         vns:\n  - name: blue\n    vni: {VNI}\n    protection: confidential\n    edges: [far]\n    \
         mappings:\n"
    )?;
    for flow in 0..FLOWS {
        let (mac, ip) = (station_mac(flow), station_ip(flow));
        writeln!(yaml, "      - {{mac: \"{mac}\", ips: [{ip}], peer: far}}")?;
    }
    writeln!(yaml, "security-associations:")?;
    let outbound = setup.senders.iter().map(|worker| ("outbound", SPI, worker));
    for (direction, spi, worker) in outbound.chain([("inbound", INBOUND_SPI, &0)]) {
        let key = dir.join(format!("{name}-{direction}-{worker}.key"));
        fresh_key(&key)?;
        writeln!(
            yaml,
            "  - {{vn: blue, peer: far, direction: {direction}, worker: {worker}, spi: {}, \
             algorithm: aes-128-gcm, key-file: {}}}",
            spi + u32::from(*worker),
            key.display()
        )?;
    }
    Ok(yaml)
}

impl Switch {
    /// Waits until the tenant's port and the underlay's are up.
    pub fn connected(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let status = self.0.status()?;
            let mut own = status.ports.iter().filter(|port| port.kind != "tap");
            if own.all(|port| port.state == "up") {
                return Ok(());
            }
            ensure!(
                began.elapsed() < Duration::from_secs(30),
                "not connected: {:?}\n{}",
                status.ports,
                self.0.said()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What it shows of itself; an error if a worker's books do not balance.
    pub fn status(&self) -> anyhow::Result<Status> {
        let status = self.0.status()?;
        let balanced = status.workers.iter().all(|worker| worker.balanced);
        ensure!(balanced, "a worker's books do not balance");
        Ok(status)
    }

    /// How long its workers have had a CPU so far, in sum.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        self.0.thread_time("vswitch-w")
    }

    fn worker(&self) -> anyhow::Result<Worker> {
        let status = self.status()?;
        status.workers.into_iter().next().context("a worker")
    }

    /// Busy ticks and packets of its worker during a time, in which all must have been sent
    /// protected.
    pub fn measure(&self, time: Duration) -> anyhow::Result<Ticks> {
        let before = self.worker()?;
        std::thread::sleep(time);
        let after = self.worker()?;
        let more = |of: fn(&Worker) -> u64| of(&after).saturating_sub(of(&before));
        let dropped = more(|w| w.dropped);
        ensure!(
            dropped == 0,
            "{dropped} packets were dropped: {:?}\n{}",
            after.verdicts,
            self.0.said()
        );
        Ok(Ticks {
            ticks: more(|w| w.busy_ticks),
            packets: more(|w| w.received),
        })
    }

    /// Stops all its threads where they are, or lets them go on.
    pub fn pause(&self, pause: bool) -> anyhow::Result<()> {
        self.0.pause(pause)
    }

    /// Ends it in order.
    pub fn stop(self) -> anyhow::Result<()> {
        self.0.stop()
    }
}
