//! Edges under a mapping authority, as processes: who is who, an authority, edges, and their tenants.
//! Hosts are namespaces on one wire ([`crate::bridge`]); the authority has one of its own.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::daemon::binary;
use crate::lab::{DIR, sh, wait_for};
use crate::testpmd::Testpmd;

/// Where the authority takes sessions, in the namespace `ima`, unless [`authority_at`] says otherwise.
pub const AUTHORITY: &str = "192.0.2.250:4700";
/// Control port of edges.
pub const CONTROL: u16 = 4600;

static PLACE: OnceLock<(&str, &str)> = OnceLock::new();

/// The authority of this process's laboratory is in this namespace, and takes sessions at this address.
pub fn authority_at(host: &'static str, address: &'static str) {
    PLACE
        .set((host, address))
        .expect("said before anybody asked");
}

/// Namespace and address of the authority.
fn place() -> (&'static str, &'static str) {
    *PLACE.get_or_init(|| ("ima", AUTHORITY))
}

/// A machine in a namespace of its own, at a vhost-user port of a host.
#[derive(Debug, Clone, Copy)]
pub struct Tenant {
    /// Its namespace; its socket is named after it.
    pub name: &'static str,
    /// The host it is on.
    pub host: &'static str,
    /// Its network.
    pub vn: &'static str,
    /// Its number: port `vmN`, MAC address 52:54:00:00:00:0N, 10.0.0.N and fd00::N.
    pub n: u8,
}

/// Who makes the sockets of tenants' ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Machines; switches come and go, and connect again within a second.
    Machines,
    /// Switches, which then must not be restarted.
    Switches,
}

/// A machine at each of two hosts, in one network.
pub const PAIR: [Tenant; 2] = [
    Tenant::new("t1", "a", "red", 1),
    Tenant::new("t2", "b", "red", 2),
];

/// The same in each of two networks.
pub const TWO_PAIRS: [Tenant; 4] = [
    PAIR[0],
    PAIR[1],
    Tenant::new("t3", "a", "blue", 3),
    Tenant::new("t4", "b", "blue", 4),
];

impl Tenant {
    /// Machine `n` in the namespace `name`, at this host and in this network.
    pub const fn new(name: &'static str, host: &'static str, vn: &'static str, n: u8) -> Self {
        Tenant { name, host, vn, n }
    }

    /// Its entry in `ports` of a configuration.
    pub fn port(&self, by: By) -> String {
        let Tenant { name, vn, n, .. } = self;
        let mode = match by {
            By::Machines => "client",
            By::Switches => "server",
        };
        format!(
            "  - {{name: vm{n}, vn: {vn}, vhost: {{socket: {DIR}/{name}.sock, mode: {mode}, peer-uid: 0}}, \
             addresses: [{{mac: \"52:54:00:00:00:0{n}\", ips: [10.0.0.{n}, \"fd00::{n}\"]}}]}}\n"
        )
    }

    /// Its placement in a declaration.
    pub fn placement(&self) -> String {
        let Tenant { host, n, .. } = self;
        format!(
            "      - {{mac: \"52:54:00:00:00:0{n}\", ips: [10.0.0.{n}, \"fd00::{n}\"], \
             nve: {host}, port: vm{n}}}\n"
        )
    }
}

/// Joins a tap in each tenant's namespace, `eth0`, to its port, all by one testpmd of this name. The
/// interfaces have no addresses yet, and nothing is forwarded before `start`.
pub fn taps(name: &str, by: By, tenants: &[Tenant]) -> Testpmd {
    let mut args: Vec<String> = Vec::new();
    let server = u8::from(by == By::Machines);
    for (i, Tenant { name, n, .. }) in tenants.iter().enumerate() {
        args.extend([
            "--vdev".to_owned(),
            format!(
                "net_virtio_user{i},path={DIR}/{name}.sock,queues=1,server={server},\
                 mac=52:54:00:00:00:0{n}"
            ),
            "--vdev".to_owned(),
            format!("net_tap{i},iface={name}"),
        ]);
    }
    let options = [
        "--",
        "-i",
        "--forward-mode=io",
        "--port-topology=paired",
        "--total-num-mbufs=8192",
        "--no-mlockall",
        "--stats-period=0",
    ];
    args.extend(options.map(str::to_owned));
    let testpmd = Testpmd::start(name, &args);
    for Tenant { name, n, .. } in tenants {
        sh(&format!(
            "ip netns add {name}
             ip link set {name} netns {name}
             ip -n {name} link set lo up
             ip -n {name} link set {name} name eth0 mtu 1300 address 52:54:00:00:00:0{n}"
        ));
    }
    testpmd
}

/// Plugs tenants in, all by one testpmd of this name, behind which switches have ports for all. Each
/// tenant knows the others of its network among `all`: what is measured is not how long their kernels
/// ask for neighbours.
pub fn plug(name: &str, by: By, tenants: &[Tenant], all: &[Tenant]) -> Testpmd {
    plugged(name, by, tenants, all, |name, n| {
        format!(
            "ip netns exec {name} sysctl -qw net.ipv6.conf.all.accept_dad=0 \
                 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0 \
                 net.ipv6.conf.eth0.router_solicitations=0
             ip -n {name} link set eth0 up
             ip -n {name} addr add fd00::{n}/64 dev eth0 nodad"
        )
    })
}

/// As [`plug`], of machines that send nothing by themselves: without IPv6, which announces itself.
pub fn plug_quiet(name: &str, by: By, tenants: &[Tenant], all: &[Tenant]) -> Testpmd {
    plugged(name, by, tenants, all, |name, _| {
        format!(
            "ip netns exec {name} sysctl -qw net.ipv6.conf.all.disable_ipv6=1 \
                 net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.eth0.disable_ipv6=1
             ip -n {name} link set eth0 up"
        )
    })
}

fn plugged(
    name: &str,
    by: By,
    tenants: &[Tenant],
    all: &[Tenant],
    up: impl Fn(&str, u8) -> String,
) -> Testpmd {
    let mut testpmd = taps(name, by, tenants);
    for Tenant { name, vn, n, .. } in tenants {
        sh(&up(name, *n));
        sh(&format!("ip -n {name} addr add 10.0.0.{n}/24 dev eth0"));
        for other in all.iter().filter(|t| t.vn == *vn && t.n != *n) {
            let n = other.n;
            sh(&format!(
                "ip -n {name} neigh replace 10.0.0.{n} lladdr 52:54:00:00:00:0{n} dev eth0"
            ));
        }
    }
    testpmd.command("start");
    testpmd
}

/// Makes a CA of the domain `lab.test` in `pki`, and identities: `nve a`.
pub fn pki(who: &[&str]) {
    let ctl = binary("vswitchctl");
    let ctl = ctl.display();
    sh(&format!("{ctl} pki init {DIR}/pki --domain lab.test"));
    for who in who.iter().chain(&["ima one", "operator op"]) {
        sh(&format!("{ctl} pki issue {DIR}/pki {who}"));
    }
}

/// The configuration of edge `name`, at 192.0.2.`n`, with its tenants among these. `authority` is
/// what else its section `authority` has: `, rekey: 5`.
pub fn edge(
    name: &str,
    n: u8,
    workers: usize,
    authority: &str,
    (by, tenants): (By, &[Tenant]),
) -> String {
    let cores: Vec<String> = (0..workers)
        .map(|i| ((usize::from(n) - 1 + i) % 2).to_string())
        .collect();
    let mut text = format!(
        r#"
nve: {{name: {name}}}
eal: {{memory: no-huge, memory-mb: 256, file-prefix: {name}}}
workers: {{cores: [{cores}], idle: yield, aead: {aead}}}
mempool: {{mbufs: 8192, data-room: 2048}}
state-dir: {DIR}/state-{name}
api: {{socket: {DIR}/{name}.api}}
security-log: {{file: {DIR}/{name}.security}}
underlay:
  ports:
    - name: up0
      device: "net_af_packet0,iface=vh0,framecnt=4096"
      mtu: 1500
      addresses: [192.0.2.{n}/24]
      tap: vsw0
authority:
  servers: ["{server}"]
  certificate: pki/nve/{name}/svid.pem
  private-key: pki/nve/{name}/svid_key.pem
  bundle: pki/nve/{name}/bundle.pem
  listen: "192.0.2.{n}:{CONTROL}"
{authority}
vns:
"#,
        cores = cores.join(", "),
        server = place().1,
        aead = crate::aead::name(),
    );
    let mine = || tenants.iter().filter(|t| t.host == name);
    let mut vns: Vec<&str> = mine().map(|t| t.vn).collect();
    vns.sort_unstable();
    vns.dedup();
    for vn in vns {
        text += &format!("  - {{name: {vn}}}\n");
    }
    text += "ports:\n";
    for tenant in mine() {
        text += &tenant.port(by);
    }
    text
}

/// What the operator declares: networks with their further settings (`lease-end: keep`), all of
/// `members` on each, and these tenants' places.
pub fn declaration(networks: &[(&str, &str)], members: &[&str], tenants: &[Tenant]) -> String {
    let members = members.join(", ");
    let mut text = "networks:\n".to_owned();
    for (i, (vn, settings)) in networks.iter().enumerate() {
        let vni = 1001 + i;
        text += &format!("  {vn}:\n    vni: {vni}\n");
        if !settings.is_empty() {
            text += &format!("    {settings}\n");
        }
        text += &format!("    members: [{members}]\n    placements:\n");
        for tenant in tenants.iter().filter(|t| t.vn == *vn) {
            text += &tenant.placement();
        }
    }
    text
}

/// The server of the authority. Dropping it kills it.
pub struct Ima(Child);

impl Ima {
    /// With a new store. `settings` are further lines of its file.
    pub fn start(settings: &str) -> Ima {
        Ima::start_with(settings, &[])
    }

    /// The same with variables of the environment.
    pub fn start_with(settings: &str, environment: &[(&str, &str)]) -> Ima {
        let (_, listen) = place();
        let config = format!(
            "listen: {listen}\ncredentials: pki/ima/one\nstore: {{redb: {DIR}/ima.redb}}\n{settings}"
        );
        fs::write(format!("{DIR}/ima.yaml"), config).expect("configuration");
        let ima = Ima::again_with(environment);
        Ima::ready(1);
        ima
    }

    /// With the store and file that are there; does not wait.
    pub fn again() -> Ima {
        Ima::again_with(&[])
    }

    /// The same with variables of the environment.
    pub fn again_with(environment: &[(&str, &str)]) -> Ima {
        let log = File::options()
            .create(true)
            .append(true)
            .open(format!("{DIR}/ima.log"))
            .expect("log");
        let child = Command::new("ip")
            .args(["netns", "exec", place().0])
            .arg(binary("vswitch-ima"))
            .args(["--config", &format!("{DIR}/ima.yaml"), "run"])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("vswitch-ima");
        Ima(child)
    }

    /// Waits until it has been ready so many times.
    #[track_caller]
    pub fn ready(times: usize) {
        wait_for("the authority is ready", 30, || {
            (Ima::log().matches("ready").count() >= times).then_some(())
        });
    }

    /// Its log so far.
    pub fn log() -> String {
        fs::read_to_string(format!("{DIR}/ima.log")).unwrap_or_default()
    }

    /// Makes it so as this declaration says.
    #[track_caller]
    pub fn declare(text: &str) {
        fs::write(format!("{DIR}/networks.yaml"), text).expect("networks");
        Ima::ctl(&format!("apply {DIR}/networks.yaml"));
    }

    /// What an operator orders, and what he is told.
    #[track_caller]
    pub fn ctl(what: &str) -> String {
        let ima = binary("vswitch-ima");
        let ima = ima.display();
        let (host, server) = place();
        sh(&format!(
            "ip netns exec {host} {ima} --log-format json ctl --server {server} \
             --credentials {DIR}/pki/operator/op {what}"
        ))
    }

    /// One of its counters.
    #[track_caller]
    pub fn count(name: &str) -> u64 {
        let shown: Value = serde_json::from_str(&Ima::ctl("show server")).expect("JSON");
        let found = figure(&shown, name);
        found.unwrap_or_else(|| panic!("{name}: {shown}"))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

/// A number somewhere in a report.
fn figure(value: &Value, name: &str) -> Option<u64> {
    match value {
        Value::Object(fields) => fields
            .get(name)
            .and_then(Value::as_u64)
            .or_else(|| fields.values().find_map(|value| figure(value, name))),
        Value::Array(values) => values.iter().find_map(|value| figure(value, name)),
        _ => None,
    }
}

impl Drop for Ima {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        if std::thread::panicking() {
            eprintln!("--- authority:\n{}", Ima::log());
        }
    }
}

/// Stops a process where it is, or lets it go on.
pub fn pause(pid: u32, paused: bool) {
    let signal = if paused { Signal::STOP } else { Signal::CONT };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process"), signal).expect("a process of ours");
}
