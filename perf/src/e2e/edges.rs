//! Two switches as an operator runs them: configuration files, `vswitchd`, its API.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use vswitch::manage::api::{Section, get};
use vswitch::manage::doctor::start::prefix_lock;
use vswitch::manage::status::Status;

/// Protection of the network, by name: that of the VN, and the SAs' algorithm.
pub const PROTECTIONS: [(&str, &str); 2] = [("none", "none"), ("aes-128-gcm", "confidential")];

/// MTU of the underlay: what a tenant's 1500 bytes need.
const UNDERLAY_MTU: u16 = 1600;

/// One switch. Dropping it kills it.
pub struct Edge {
    name: &'static str,
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    /// Its lock, which it leaves; nobody else has a prefix with this process's number.
    lock: PathBuf,
}

/// Host 1 is `a`, 2 is `b`.
pub const fn name(host: u8) -> &'static str {
    match host {
        1 => "a",
        _ => "b",
    }
}

/// MAC address of a host's tenant.
pub fn tenant_mac(host: u8) -> String {
    format!("52:54:00:00:00:0{host}")
}

/// The vhost socket of a host's tenant; the tenant makes it.
pub fn tenant_socket(dir: &Path, host: u8) -> PathBuf {
    dir.join(format!("tenant-{}.sock", name(host)))
}

fn configuration(
    dir: &Path,
    host: u8,
    core: usize,
    protection: (&str, &str),
) -> anyhow::Result<String> {
    let d = dir.display();
    let (us, other, peer) = (name(host), name(3 - host), 3 - host);
    let role = if host == 1 { "server" } else { "client" };
    let (algorithm, of_vn) = protection;
    let prefix = file_prefix(us);
    let mut yaml = format!(
        "nve: {{name: {us}}}\n\
         eal: {{memory: no-huge, memory-mb: 256, file-prefix: {prefix}}}\n\
         workers: {{cores: [{core}], idle: yield}}\n\
         mempool: {{mbufs: 16384, data-room: 2048}}\n\
         state-dir: {d}/state-{us}\n\
         api: {{socket: {d}/{us}.api}}\n\
         underlay:\n  ports:\n    - name: up0\n      \
         device: \"net_memif0,role={role},id=0,socket={d}/memif.sock,socket-abstract=no,mac=02:00:00:00:00:0{host}\"\n      \
         mtu: {UNDERLAY_MTU}\n      addresses: [192.0.2.{host}/24]\n      \
         neighbours: [{{address: 192.0.2.{peer}, mac: \"02:00:00:00:00:0{peer}\"}}]\n\
         peers: [{{name: {other}, addresses: [192.0.2.{peer}]}}]\n\
         vns:\n  - name: blue\n    vni: 1001\n    protection: {of_vn}\n    edges: [{other}]\n    \
         mappings: [{{mac: \"{}\", peer: {other}}}]\n\
         ports:\n  - name: vm\n    vn: blue\n    vhost: {{socket: {}, mode: client, peer-uid: {}}}\n    \
         addresses: [{{mac: \"{}\"}}]\n",
        tenant_mac(peer),
        tenant_socket(dir, host).display(),
        rustix::process::geteuid().as_raw(),
        tenant_mac(host),
    );
    if of_vn != "none" {
        yaml.push_str("security-associations:\n");
        for (direction, from) in [("outbound", host), ("inbound", peer)] {
            let file = dir.join(format!("{from}.key"));
            if !file.exists() {
                // Fresh ones: a key is used in one life of a switch only.
                let mut key = [0; 20];
                rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
                let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                fs::write(&file, digits)?;
                fs::set_permissions(&file, Permissions::from_mode(0o600))?;
            }
            yaml.push_str(&format!(
                "  - {{vn: blue, peer: {other}, direction: {direction}, spi: {}, \
                 algorithm: {algorithm}, key-file: {}}}\n",
                0x1000 + u32::from(from),
                file.display()
            ));
        }
    }
    Ok(yaml)
}

fn file_prefix(name: &str) -> String {
    format!("perf-{}-{name}", std::process::id())
}

/// `vswitchd` beside this program, or where `VSWITCH_BIN` says.
fn program() -> anyhow::Result<PathBuf> {
    let directory = match std::env::var_os("VSWITCH_BIN") {
        Some(directory) => PathBuf::from(directory),
        None => {
            let own = std::env::current_exe()?;
            own.parent().context("no directory")?.to_owned()
        }
    };
    let program = directory.join("vswitchd");
    ensure!(
        program.exists(),
        "{} is missing: cargo build --release --package vswitch --bins",
        program.display()
    );
    Ok(program)
}

impl Edge {
    /// Starts host 1 or 2 with its worker on `core`, and waits until it answers.
    pub fn start(
        dir: &Path,
        host: u8,
        core: usize,
        protection: (&str, &str),
    ) -> anyhow::Result<Edge> {
        let name = name(host);
        let file = dir.join(format!("{name}.yaml"));
        fs::write(&file, configuration(dir, host, core, protection)?)?;
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let child = Command::new(program()?)
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("vswitchd")?;
        let mut edge = Edge {
            name,
            child,
            socket: dir.join(format!("{name}.api")),
            log,
            lock: prefix_lock(&file_prefix(name)).into(),
        };
        let began = Instant::now();
        while edge.status().is_err() {
            if let Some(status) = edge.child.try_wait()? {
                bail!("{name} ended, {status}:\n{}", edge.said());
            }
            ensure!(
                began.elapsed() < Duration::from_secs(60),
                "{name} does not answer:\n{}",
                edge.said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(edge)
    }

    /// What it shows of itself.
    pub fn status(&self) -> anyhow::Result<Status> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let body = runtime.block_on(get(&self.socket, Section::Status))?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Its log.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it in order.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(
                    status.success(),
                    "{} ended, {status}:\n{}",
                    self.name,
                    self.said()
                );
                return Ok(());
            }
            ensure!(
                began.elapsed() < Duration::from_secs(20),
                "{} does not end",
                self.name
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _killed = self.child.kill();
            let _reaped = self.child.wait();
        }
        let _gone = fs::remove_file(&self.lock);
    }
}
