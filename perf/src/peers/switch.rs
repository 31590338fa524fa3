//! Ours for packets from tenants: the real `vswitchd` with one worker that polls, and an
//! association with fresh keys.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use vswitch::manage::status::Worker;

use super::{Cores, Ticks, io};
use crate::daemon::{Daemon, api_socket, file_prefix};
use crate::datapath::edge::{Side, VNI};
use crate::datapath::frames::{FLOWS, TENANT_IP, TENANT_MAC, station_ip, station_mac};
use crate::e2e::edges::fresh_key;

const NAME: &str = "ours";

/// The VLAN of the tenant's frames where it is on a device.
pub const VID: u16 = 100;

/// Of the underlay: room for a tenant's 1500 bytes.
const MTU: u16 = 1600;

/// How the tenant is attached.
#[derive(Debug, Clone, Copy)]
pub enum Attachment<'a> {
    /// By a device that gives this capture's frames, tagged with [`VID`].
    Capture(&'a Path),
    /// By a vhost socket.
    Vhost(&'a Path),
}

/// A running one.
pub struct Switch(Daemon);

/// Starts it.
pub fn start(
    dir: &Path,
    cores: Cores,
    hugepages: bool,
    aead: &str,
    attachment: Attachment<'_>,
) -> anyhow::Result<Switch> {
    let yaml = configuration(dir, cores, hugepages, aead, attachment)?;
    Daemon::start(dir, NAME, &yaml).map(Switch)
}

fn configuration(
    dir: &Path,
    cores: Cores,
    hugepages: bool,
    aead: &str,
    attachment: Attachment<'_>,
) -> anyhow::Result<String> {
    let (near, far) = (Side::Near, Side::Far);
    let memory = if hugepages { "hugepages" } else { "no-huge" };
    let mut yaml = format!(
        "nve: {{name: {NAME}}}\n\
         eal: {{memory: {memory}, memory-mb: 256, file-prefix: {}}}\n\
         workers: {{cores: [{}], idle: poll, aead: {aead}}}\n\
         mempool: {{mbufs: 16384, data-room: 2048}}\n\
         state-dir: {}\n\
         api: {{socket: {}}}\n",
        file_prefix(NAME),
        cores.worker,
        dir.join("state").display(),
        api_socket(dir, NAME).display(),
    );
    write!(
        yaml,
        "underlay:\n  ports:\n    - name: up0\n      device: \"{}\"\n      mtu: {MTU}\n      \
         addresses: [{}/24]\n      neighbours: [{{address: {}, mac: \"{}\"}}]\n\
         peers: [{{name: far, addresses: [{}]}}]\n",
        io::sink(0),
        near.ip(),
        far.ip(),
        far.mac(),
        far.ip(),
    )?;
    let port = match attachment {
        Attachment::Capture(file) => {
            let device = io::source(0, file);
            writeln!(
                yaml,
                "devices: [{{name: trunk, device: \"{device}\", mtu: 1500}}]"
            )?;
            format!("vlan: {{device: trunk, vid: {VID}}}")
        }
        Attachment::Vhost(socket) => format!(
            "vhost: {{socket: {}, mode: client, peer-uid: {}}}",
            socket.display(),
            rustix::process::geteuid().as_raw()
        ),
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
    for (direction, spi) in [("outbound", 0x1000), ("inbound", 0x1001)] {
        let key = dir.join(format!("{direction}.key"));
        fresh_key(&key)?;
        writeln!(
            yaml,
            "  - {{vn: blue, peer: far, direction: {direction}, spi: {spi}, algorithm: \
             aes-128-gcm, key-file: {}}}",
            key.display()
        )?;
    }
    Ok(yaml)
}

impl Switch {
    /// Waits until the tenant's port is up.
    pub fn connected(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let status = self.0.status()?;
            if status
                .ports
                .iter()
                .any(|p| p.name == "vm" && p.state == "up")
            {
                return Ok(());
            }
            ensure!(
                began.elapsed() < Duration::from_secs(30),
                "the tenant is not connected:\n{}",
                self.0.said()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn worker(&self) -> anyhow::Result<Worker> {
        let status = self.0.status()?;
        let worker = status.workers.into_iter().next().context("a worker")?;
        ensure!(worker.balanced, "the worker's books do not balance");
        Ok(worker)
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
