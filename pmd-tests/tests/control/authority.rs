//! Nobody types keys: two edges, a mapping authority behind one of them, and tenants who notice
//! nothing of it. Real processes on one cable; the control plane uses the cable too.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pmd_tests::daemon::{Daemon, binary};
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{DIR, cable, sh, two_hosts, wait_for};
use pmd_tests::testpmd::Testpmd;
use serde_json::Value;

/// A machine in a namespace of its own, whose tap testpmd joins to a vhost socket of its host.
struct Tenant {
    name: &'static str,
    host: &'static str,
    n: u8,
}

const TENANTS: [Tenant; 4] = [
    Tenant {
        name: "t1",
        host: "a",
        n: 1,
    },
    Tenant {
        name: "t2",
        host: "b",
        n: 2,
    },
    // One machine that may be at either host; both have a place for it.
    Tenant {
        name: "t3b",
        host: "b",
        n: 3,
    },
    Tenant {
        name: "t3a",
        host: "a",
        n: 3,
    },
];

/// Plugs all of them in; the switches run already.
fn tenants() -> Testpmd {
    let mut args: Vec<String> = Vec::new();
    for (i, Tenant { name, n, .. }) in TENANTS.iter().enumerate() {
        args.extend([
            "--vdev".to_owned(),
            format!(
                "net_virtio_user{i},path={DIR}/{name}.sock,queues=1,server=1,\
                 mac=52:54:00:00:00:0{n}"
            ),
            "--vdev".to_owned(),
            format!("net_tap{i},iface={name}"),
        ]);
    }
    for option in [
        "--",
        "-i",
        "--forward-mode=io",
        "--port-topology=paired",
        "--total-num-mbufs=8192",
        "--no-mlockall",
        "--stats-period=0",
    ] {
        args.push(option.into());
    }
    let mut testpmd = Testpmd::start("tenants", &args);
    for Tenant { name, n, .. } in &TENANTS {
        sh(&format!(
            "ip netns add {name}
             ip netns exec {name} sysctl -qw net.ipv6.conf.all.disable_ipv6=1
             ip link set {name} netns {name}
             ip -n {name} link set lo up
             ip -n {name} link set {name} name eth0 mtu 1300 address 52:54:00:00:00:0{n} up
             ip -n {name} addr add 10.0.0.{n}/24 dev eth0"
        ));
    }
    testpmd.command("start");
    testpmd
}

fn pki() {
    let ctl = binary("vswitchctl");
    let ctl = ctl.display();
    sh(&format!("{ctl} pki init {DIR}/pki --domain lab.test"));
    for who in ["nve a", "nve b", "ima one", "operator op"] {
        sh(&format!("{ctl} pki issue {DIR}/pki {who}"));
    }
}

fn edge(name: &str, n: u8) -> String {
    let mut text = format!(
        r#"
nve: {{name: {name}}}
eal: {{memory: no-huge, memory-mb: 256, file-prefix: {name}}}
workers: {{cores: [{core}, {core}], idle: yield, aead: {aead}}}
mempool: {{mbufs: 8192, data-room: 2048}}
state-dir: {DIR}/state-{name}
api: {{socket: {DIR}/{name}.api}}
security-log: {{file: {DIR}/{name}.security}}
underlay:
  ports:
    - name: up0
      device: "net_af_packet0,iface=vh0"
      mtu: 1500
      addresses: [192.0.2.{n}/24]
      tap: vsw0
authority:
  servers: ["192.0.2.1:4700"]
  certificate: pki/nve/{name}/svid.pem
  private-key: pki/nve/{name}/svid_key.pem
  bundle: pki/nve/{name}/bundle.pem
  listen: "192.0.2.{n}:4600"
  rekey: 5
vns:
  - {{name: red}}
ports:
"#,
        core = n - 1,
        aead = pmd_tests::aead::name(),
    );
    for Tenant { name, n, .. } in TENANTS.iter().filter(|t| t.host == name) {
        text += &format!(
            "  - name: vm{n}\n    vn: red\n    vhost: {{socket: {DIR}/{name}.sock, peer-uid: 0}}\n    \
             addresses: [{{mac: \"52:54:00:00:00:0{n}\", ips: [10.0.0.{n}]}}]\n"
        );
    }
    text
}

/// The server of the authority, in the namespace of host `a`: host `b` reaches it by the switch's
/// exception port.
struct Ima(Child);

impl Ima {
    fn start() -> Ima {
        let config = format!(
            "listen: 192.0.2.1:4700\ncredentials: pki/ima/one\nstore: {{redb: {DIR}/ima.redb}}\n\
             lease: 40\n"
        );
        fs::write(format!("{DIR}/ima.yaml"), config).expect("configuration");
        Ima::again()
    }

    fn again() -> Ima {
        let log = File::options()
            .create(true)
            .append(true)
            .open(format!("{DIR}/ima.log"))
            .expect("log");
        let child = Command::new("ip")
            .args(["netns", "exec", "a"])
            .arg(binary("vswitch-ima"))
            .args(["--config", &format!("{DIR}/ima.yaml"), "run"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("vswitch-ima");
        Ima(child)
    }

    fn declare(place_of_3: &str) {
        let text = format!(
            r#"
networks:
  red:
    vni: 1001
    members: [a, b]
    placements:
      - {{mac: "52:54:00:00:00:01", ips: [10.0.0.1], nve: a, port: vm1}}
      - {{mac: "52:54:00:00:00:02", ips: [10.0.0.2], nve: b, port: vm2}}
      - {{mac: "52:54:00:00:00:03", ips: [10.0.0.3], nve: {place_of_3}, port: vm3}}
"#
        );
        fs::write(format!("{DIR}/networks.yaml"), text).expect("networks");
        Ima::ctl(&format!("apply {DIR}/networks.yaml"));
    }

    fn ctl(what: &str) {
        let ima = binary("vswitch-ima");
        let ima = ima.display();
        sh(&format!(
            "ip netns exec a {ima} ctl --server 192.0.2.1:4700 \
             --credentials {DIR}/pki/operator/op {what}"
        ));
    }

    fn kill(mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

impl Drop for Ima {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(format!("{DIR}/ima.log")).unwrap_or_default();
            eprintln!("--- authority:\n{log}");
        }
    }
}

fn show(host: &str, what: &str) -> Value {
    let output = Command::new(binary("vswitchctl"))
        .args(["--socket", &format!("{DIR}/{host}.api")])
        .args(["--json", "show", what])
        .output()
        .expect("vswitchctl");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{host} {what}: {error}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Waits until an edge's addresses stand so: `vm1: admitted`.
#[track_caller]
fn stands(host: &str, wanted: &[&str]) {
    wait_for(&format!("{host} has {wanted:?}"), 30, || {
        let ima = show(host, "ima");
        let vns = ima["vns"].as_array()?;
        let red = vns.iter().find(|vn| vn["vn"] == "red")?;
        let addresses = red["addresses"].as_array()?.iter();
        let mut standing: Vec<String> = addresses
            .filter_map(|a| Some(format!("{}: {}", a[1].as_str()?, a[2].as_str()?)))
            .collect();
        standing.sort();
        (standing == wanted).then_some(())
    });
}

/// Where a host has the address of machine `n`.
fn place(host: &str, n: u8) -> Option<String> {
    let mac = format!("52:54:00:00:00:0{n}");
    let fdb = show(host, "fdb");
    let entry = fdb.as_array()?.iter().find(|e| e["mac"] == *mac)?;
    Some(entry["destination"].as_str()?.to_owned())
}

/// Pings and returns how many were sent and how many answered.
fn ping(from: &str, to: u8, count: u32, interval: &str) -> (u32, u32) {
    let output = Command::new("ip")
        .args(["netns", "exec", from, "ping", "-n", "-q", "-W", "2"])
        .args(["-c", &count.to_string(), "-i", interval])
        .arg(format!("10.0.0.{to}"))
        .output()
        .expect("ping");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|l| l.contains("packets transmitted"));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    let mut numbers = line.split(' ').filter_map(|word| word.parse().ok());
    let (Some(sent), Some(received)) = (numbers.next(), numbers.next()) else {
        panic!("{line}");
    };
    (sent, received)
}

/// SPIs that a host seals with.
fn sealing(host: &str) -> Vec<u64> {
    let sas = show(host, "sas");
    let outbound = sas.as_array().expect("SAs").iter();
    let mut spis: Vec<u64> = outbound
        .filter(|sa| sa["direction"] == "outbound")
        .filter_map(|sa| sa["spi"].as_u64())
        .collect();
    spis.sort_unstable();
    spis
}

/// Packets that a host dropped, whatever the reason.
fn dropped(host: &str) -> u64 {
    let drops = show(host, "drops");
    let drops = drops.as_array().expect("drops").iter();
    drops.filter_map(|drop| drop["packets"].as_u64()).sum()
}

fn security(host: &str) -> String {
    fs::read_to_string(format!("{DIR}/{host}.security")).unwrap_or_default()
}

#[test]
fn two_edges_and_an_authority_without_a_key_in_any_file() {
    isolated_in_lab(|| {
        two_hosts();
        cable(0);
        pki();
        let a = Daemon::start("a", &edge("a", 1));
        let ima = Ima::start();
        let b = Daemon::start("b", &edge("b", 2));
        wait_for("the authority answers", 20, || {
            let log = fs::read_to_string(format!("{DIR}/ima.log")).ok()?;
            log.contains("ready").then_some(())
        });
        let _tenants = tenants();
        Ima::declare("b");
        stands(
            "a",
            &[
                "vm1: admitted",
                "vm3: the address is not placed on this edge",
            ],
        );
        stands("b", &["vm2: admitted", "vm3: admitted"]);
        wait_for("both know where the others are", 10, || {
            let known = place("a", 2)? == "b" && place("a", 3)? == "b";
            (known && place("b", 1)? == "a").then_some(())
        });

        // No keys until somebody needs them; the first packet waits for them and is not lost.
        assert_eq!(show("a", "keys"), Value::Array(vec![]));
        assert_eq!(ping("t1", 2, 3, "0.2"), (3, 3));
        assert!(!sealing("a").is_empty() && !sealing("b").is_empty());
        assert!(show("a", "keys").as_array().is_some_and(|k| k.len() >= 2));

        // Rekeyed under traffic, without a loss.
        let before = (sealing("a"), sealing("b"));
        assert_eq!(ping("t1", 2, 1500, "0.008"), (1500, 1500));
        let after = (sealing("a"), sealing("b"));
        let renewed = |old: &[u64], new: &[u64]| new.iter().all(|spi| !old.contains(spi));
        assert!(renewed(&before.0, &after.0) && renewed(&before.1, &after.1));

        // A machine moves with its placement, and stays there.
        assert_eq!(ping("t1", 3, 2, "0.2"), (2, 2));
        Ima::declare("a");
        stands("a", &["vm1: admitted", "vm3: admitted"]);
        wait_for("b follows", 5, || (place("b", 3)? == "a").then_some(()));
        assert_eq!(place("a", 3).as_deref(), Some("vm3"));
        sh("ip -n t3b link set eth0 down");
        assert_eq!(ping("t2", 3, 5, "0.2"), (5, 5));
        assert_eq!(place("b", 3).as_deref(), Some("a"));

        // The authority is away: traffic and rekeying go on.
        ima.kill();
        let before = sealing("a");
        assert_eq!(ping("t1", 2, 1000, "0.008"), (1000, 1000));
        assert!(renewed(&before, &sealing("a")));
        let ima = Ima::again();
        // The lease is as long as at the beginning again, which it is only after that.
        for host in ["a", "b"] {
            wait_for(&format!("{host} is back"), 25, || {
                let left = show(host, "ima")["lease_left"].as_u64()?;
                (left >= 37).then_some(())
            });
        }

        // Revoked: nothing passes within seconds, and nothing of it stays.
        Ima::ctl("revoke b --reason stolen");
        let began = Instant::now();
        wait_for("nothing passes", 5, || {
            (ping("t1", 2, 1, "0.2").1 == 0).then_some(())
        });
        assert!(began.elapsed() < Duration::from_secs(5));
        wait_for("no key with b is left", 5, || {
            (sealing("a").is_empty() && show("a", "keys") == Value::Array(vec![])).then_some(())
        });
        assert_eq!(place("a", 2), None);
        wait_for("b has left", 5, || {
            (sealing("b").is_empty() && place("b", 1).is_none()).then_some(())
        });
        assert!(
            security("a").contains("\"peer-revoked\""),
            "{}",
            security("a")
        );
        // What is sent there is counted as dropped, at the edge that it comes from.
        let before = dropped("a");
        assert_eq!(ping("t1", 2, 2, "0.2").1, 0);
        assert!(dropped("a") >= before + 2, "{}", show("a", "drops"));
        // What is here goes on.
        assert_eq!(ping("t1", 3, 2, "0.2"), (2, 2));
        drop(ima);
        a.stop();
        b.stop();
    });
}
