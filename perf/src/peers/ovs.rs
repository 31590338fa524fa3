//! Open vSwitch with DPDK as Debian has it, in a network namespace of its own, with a database,
//! sockets and logs of its own: nothing of it touches one that the host runs.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::frames::{Tunnel, address};
use super::{Cores, Ticks, stop};
use crate::datapath::edge::Side;
use crate::datapath::frames::{FLOWS, TENANT_MAC, station_mac};

const DAEMON: &str = "lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";

/// A port of Open vSwitch: `type` and `options` of its interface.
#[derive(Debug, Clone)]
pub struct Port {
    /// `dpdk`, `dpdkvhostuserclient`.
    pub kind: &'static str,
    /// One option with its value.
    pub option: String,
}

impl Port {
    /// A DPDK device.
    pub fn device(devargs: &str) -> Port {
        Port {
            kind: "dpdk",
            option: format!("options:dpdk-devargs={devargs}"),
        }
    }

    /// A vhost queue whose socket the tenant makes.
    pub fn vhost(socket: &Path) -> Port {
        Port {
            kind: "dpdkvhostuserclient",
            option: format!("options:vhost-server-path={}", socket.display()),
        }
    }
}

/// What one run needs.
pub struct Setup<'a> {
    /// For its files.
    pub dir: &'a Path,
    /// CPUs.
    pub cores: Cores,
    /// Whether there are hugepages for it.
    pub hugepages: bool,
    /// The tunnel to the far side.
    pub tunnel: Tunnel,
    /// The network's identifier.
    pub vni: u32,
    /// Port of the tenant.
    pub tenant: Port,
    /// Port to the underlay.
    pub underlay: Port,
}

/// A running one. Dropping it ends it.
pub struct Ovs {
    usr: PathBuf,
    dir: PathBuf,
    namespace: Namespace,
}

/// A network namespace, gone with its owner.
struct Namespace(String);

impl Namespace {
    fn new() -> anyhow::Result<Namespace> {
        let name = format!("perf-{}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        Ok(Namespace(name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _gone = run(Command::new("ip").args(["netns", "delete", &self.0]));
    }
}

/// Where Open vSwitch is: unpacked by `scripts/ovs`, or installed; or what to do about it.
pub fn find() -> Result<PathBuf, String> {
    let mut places: Vec<PathBuf> = Vec::new();
    places.extend(std::env::var_os("VSWITCH_OVS").map(|root| PathBuf::from(root).join("usr")));
    // The benchmark lies in TARGET/release.
    if let Ok(program) = std::env::current_exe()
        && let Some(target) = program.ancestors().nth(2)
    {
        places.push(target.join("ovs/usr"));
    }
    places.push("/usr".into());
    let there = places.into_iter().find(|usr| usr.join(DAEMON).exists());
    there.ok_or_else(|| {
        "Open vSwitch with DPDK is not here: `scripts/ovs` unpacks Debian's without installing \
         it (or apt-get install openvswitch-switch-dpdk, which starts it too)"
            .to_owned()
    })
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Ovs {
    /// Starts it with its thread on the measured core: bridge `int` with the tenant and the
    /// tunnel, bridge `phy` with the underlay and the tunnel's address.
    pub fn start(usr: &Path, setup: &Setup<'_>) -> anyhow::Result<Ovs> {
        let ovs = Ovs {
            usr: usr.to_owned(),
            dir: setup.dir.to_owned(),
            namespace: Namespace::new().context(
                "Open vSwitch's bridges need a network namespace of their own, which needs root",
            )?,
        };
        let at = |name: &str| setup.dir.join(name).display().to_string();
        let (db, socket) = (at("conf.db"), at("db.sock"));
        let schema = usr.join("share/openvswitch/vswitch.ovsschema");
        let schema = schema.display().to_string();
        ovs.run("bin/ovsdb-tool", &["create", &db, &schema])?;
        let remote = format!("--remote=punix:{socket}");
        let pid = |name: &str| format!("--pidfile={}", at(name));
        let background = ["--no-chdir", "--detach", "--log-file"];
        let (ovsdb, vswitchd) = (pid("ovsdb.pid"), pid("ovs-vswitchd.pid"));
        let words = [&[&*db, &*remote, &*ovsdb][..], &background].concat();
        ovs.run("sbin/ovsdb-server", &words)?;
        ovs.vsctl("--no-wait init")?;
        let (main, worker) = (1u128 << setup.cores.main, 1u128 << setup.cores.worker);
        let memory = match setup.hugepages {
            // It would take what there is.
            true => "-m 512 --socket-limit=512",
            // Open vSwitch would add --in-memory, which excludes --no-huge.
            false => "--no-huge --legacy-mem -m 1024",
        };
        let prefix = crate::daemon::file_prefix("ovs");
        ovs.vsctl(&format!(
            "--no-wait set Open_vSwitch . other_config:dpdk-init=true \
             other_config:dpdk-lcore-mask={main:#x} other_config:pmd-cpu-mask={worker:#x}"
        ))?;
        ovs.run(
            "bin/ovs-vsctl",
            &[
                "--no-wait",
                "set",
                "Open_vSwitch",
                ".",
                &format!(
                    "other_config:dpdk-extra=\"{memory} --no-pci --no-telemetry \
                     --file-prefix={prefix}\""
                ),
            ],
        )?;
        let database = format!("unix:{socket}");
        let words = [&[&*database, &*vswitchd][..], &background].concat();
        ovs.run(DAEMON, &words)?;
        ovs.connect(setup)?;
        Ok(ovs)
    }

    fn connect(&self, setup: &Setup<'_>) -> anyhow::Result<()> {
        let (far, near) = (address(Side::Far)?, address(Side::Near)?);
        let (tunnel, vni) = (setup.tunnel.name(), setup.vni);
        self.vsctl(&format!(
            "add-br phy -- set bridge phy datapath_type=netdev other-config:hwaddr={}",
            Side::Near.mac()
        ))?;
        self.vsctl(&format!(
            "add-br int -- set bridge int datapath_type=netdev -- add-port int tun -- \
             set interface tun type={tunnel} options:remote_ip={far} options:key={vni}"
        ))?;
        let ip = |words: &[&str]| {
            let words = [&["-n", &*self.namespace.0], words].concat();
            run(Command::new("ip").args(words))
        };
        ip(&["address", "add", &format!("{near}/24"), "dev", "phy"])?;
        ip(&["link", "set", "phy", "up"])?;
        for (bridge, name, port) in [("phy", "up", &setup.underlay), ("int", "vm", &setup.tenant)] {
            let Port { kind, option } = port;
            self.vsctl(&format!(
                "add-port {bridge} {name} -- set interface {name} type={kind} {option}"
            ))?;
            let error = self.vsctl(&format!("get interface {name} error"))?;
            ensure!(error.trim() == "[]", "port {name}: {error}\n{}", self.log());
        }
        let neighbour = Side::Far.mac().to_string();
        self.ask("tnl/arp/set", &["phy", &far.to_string(), &neighbour])?;
        for flow in 0..FLOWS {
            self.ask(
                "fdb/add",
                &["int", "tun", "0", &station_mac(flow).to_string()],
            )?;
        }
        self.ask("fdb/add", &["int", "vm", "0", &TENANT_MAC.to_string()])?;
        // Flows of the time before all was known.
        self.ask("revalidator/purge", &[])?;
        Ok(())
    }

    /// A program of Open vSwitch, with our directory in place of the system's.
    fn run(&self, program: &str, words: &[&str]) -> anyhow::Result<String> {
        stop::check()?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace.0]);
        command.arg(self.usr.join(program)).args(words);
        for name in ["RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR"] {
            command.env(format!("OVS_{name}"), &self.dir);
        }
        run(&mut command).with_context(|| self.log())
    }

    /// `ovs-vsctl` with words that hold no spaces.
    fn vsctl(&self, words: &str) -> anyhow::Result<String> {
        let mut all = vec!["--timeout=30"];
        all.extend(words.split_whitespace());
        self.run("bin/ovs-vsctl", &all)
    }

    /// One command of its control socket (JSON-RPC, as `ovs-appctl` does it).
    pub fn ask(&self, method: &str, parameters: &[&str]) -> anyhow::Result<String> {
        stop::check()?;
        let socket = self
            .dir
            .join(format!("ovs-vswitchd-dpdk.{}.ctl", self.pid()?));
        let mut stream = UnixStream::connect(&socket).with_context(|| self.log())?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let request = json!({"id": 0, "method": method, "params": parameters});
        stream.write_all(request.to_string().as_bytes())?;
        let mut reply = Vec::new();
        let mut bytes = [0; 65536];
        loop {
            // The answer is one object and the connection stays open.
            if let Ok(answer) = serde_json::from_slice::<Value>(&reply) {
                let error = &answer["error"];
                ensure!(error.is_null(), "ovs-appctl {method}: {error}");
                return Ok(answer["result"].as_str().unwrap_or_default().to_owned());
            }
            match stream.read(&mut bytes)? {
                0 => bail!("Open vSwitch did not answer {method}:\n{}", self.log()),
                n => reply.extend(bytes.get(..n).unwrap_or_default()),
            }
        }
    }

    fn pid(&self) -> anyhow::Result<i32> {
        let file = self.dir.join("ovs-vswitchd.pid");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(text.trim().parse()?)
    }

    /// Stops all its threads where they are, or lets them go on.
    pub fn pause(&self, pause: bool) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.pid()?).context("a process")?;
        let signal = if pause { Signal::STOP } else { Signal::CONT };
        Ok(kill_process(pid, signal)?)
    }

    /// Waits until a port's link is up.
    pub fn connected(&self, port: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let state = self.vsctl(&format!("get interface {port} link_state"))?;
            if state.trim() == "up" {
                return Ok(());
            }
            ensure!(
                began.elapsed() < Duration::from_secs(30),
                "port {port} is {state}:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Processing ticks and packets of its polling thread during a time.
    pub fn measure(&self, time: Duration) -> anyhow::Result<Ticks> {
        self.ask("dpif-netdev/pmd-stats-clear", &[])?;
        std::thread::sleep(time);
        let text = self.ask("dpif-netdev/pmd-stats-show", &[])?;
        ticks(&text).with_context(|| format!("{text}\n{}", self.log()))
    }

    /// Fails unless there is a flow for each station, which does what it should.
    pub fn prove(&self, action: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let flows = self.ask("dpctl/dump-flows", &[])?;
            let good = |line: &&str| {
                line.contains(action) && line.contains("02:00:00:01:") && !line.contains("drop")
            };
            let found = flows.lines().filter(good).count();
            if found >= usize::from(FLOWS) {
                return Ok(());
            }
            ensure!(
                began.elapsed() < Duration::from_secs(20),
                "Open vSwitch has {found} flows with {action}:\n{:.4000}",
                flows
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Its log so far.
    fn log(&self) -> String {
        let log = self.dir.join("ovs-vswitchd-dpdk.log");
        fs::read_to_string(log).unwrap_or_default()
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        for file in ["ovs-vswitchd.pid", "ovsdb.pid"] {
            let file = self.dir.join(file);
            let pid = fs::read_to_string(&file).ok();
            let pid = pid.and_then(|text| Pid::from_raw(text.trim().parse().ok()?));
            let Some(pid) = pid else {
                continue;
            };
            // In order, which takes its tap devices along; by force if it does not hear.
            let _may_be_paused = kill_process(pid, Signal::CONT);
            let _told = kill_process(pid, Signal::TERM);
            let began = Instant::now();
            while file.exists() && began.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(20));
            }
            if file.exists() {
                let _killed = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Of `pmd-stats-show`: what polling threads processed, and how long that took.
fn ticks(text: &str) -> anyhow::Result<Ticks> {
    let (_, ours) = text.split_once("pmd thread").context("no polling thread")?;
    let ours = ours.split("main thread").next().unwrap_or_default();
    let figure = |name: &str| -> anyhow::Result<u64> {
        let (_, rest) = ours.split_once(name).with_context(|| name.to_owned())?;
        let digits = rest.split_whitespace().next().context("no figure")?;
        Ok(digits.parse()?)
    };
    let upcalls = figure("miss with failed upcall:")?;
    ensure!(upcalls == 0, "{upcalls} packets had no flow");
    Ok(Ticks {
        ticks: figure("processing cycles:")?,
        packets: figure("packets received:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATS: &str = "pmd thread numa_id 0 core_id 1:\n  packets received: 1000\n  packet \
        recirculations: 0\n  miss with success upcall: 3\n  miss with failed upcall: 0\n  idle \
        cycles: 5 (0.00%)\n  processing cycles: 194000 (100.00%)\nmain thread:\n  packets \
        received: 0\n";

    #[test]
    fn figures_of_polling_threads() {
        let found = ticks(STATS).expect("figures");
        assert_eq!((found.ticks, found.packets), (194_000, 1000));
        assert!((found.per_packet().expect("packets") - 194.0).abs() < 1e-9);
        assert!(ticks("main thread:\n").is_err());
        let failed = STATS.replace("failed upcall: 0", "failed upcall: 9");
        assert!(ticks(&failed).is_err());
    }
}
