//! The real server as a process: killed at any instant and started again, and stopped as it should be.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Edge, Lab, Told, ips, mac, vn};
use vswitch_control::identity::Role;
use vswitch_control::message::ima::{FromIma, VnFromIma};

struct Process {
    child: Child,
    address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_vswitch-ima"))
}

/// Writes a configuration; the port is one that was free.
fn configure(lab: &Lab) -> (PathBuf, SocketAddr) {
    let free = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let files = lab.files(Role::Ima, "one");
    let directory = files.chain.parent().unwrap().display().to_string();
    let file = lab.directory.path().join("ima.yaml");
    let text = format!(
        "listen: {free}\ncredentials: {directory}\nstore: {{redb: ima.redb}}\n\
         limits: {{handshakes-per-source: 1000}}\n"
    );
    std::fs::write(&file, text).unwrap();
    (file, free)
}

fn start(file: &Path, address: SocketAddr) -> Process {
    let mut child = binary()
        .args(["run", "--config"])
        .arg(file)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = Vec::new();
    loop {
        let line = log.next().unwrap_or_else(|| panic!("{seen:?}")).unwrap();
        let ready = line.contains("ready");
        seen.push(line);
        if ready {
            break;
        }
    }
    // Whoever writes must be read.
    std::thread::spawn(move || log.for_each(drop));
    Process { child, address }
}

fn ctl(lab: &Lab, server: SocketAddr, arguments: &[&str]) -> (bool, String) {
    let files = lab.files(Role::Operator, "root");
    let output = binary()
        .arg("ctl")
        .args(arguments)
        .arg("--server")
        .arg(server.to_string())
        .arg("--credentials")
        .arg(files.chain.parent().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

fn done(lab: &Lab, server: SocketAddr, arguments: &[&str]) -> String {
    let (done, text) = ctl(lab, server, arguments);
    assert!(done, "{arguments:?}: {text}");
    text
}

#[test]
fn what_was_registered_survives_kill_9_of_the_server() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let lab = Lab::new();
    let (file, address) = configure(&lab);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut acknowledged = Vec::new();
    let mut next = 0_u16;
    for round in 0..8 {
        let mut process = start(&file, address);
        if round == 0 {
            let member = [
                "vn",
                "add",
                "red",
                "--vni",
                "1",
                "--admission",
                "first-claim",
            ];
            done(&lab, address, &member);
            done(&lab, address, &["member", "add", "red", "a"]);
        }
        // At the handshake, at Hello, at Join, or while it registers.
        let phase = if round < 3 { round } else { 3 };
        runtime.block_on(async {
            let (endpoint, session) = lab.dial(Role::Nve, "a", process.address).await.unwrap();
            let mut edge = Edge::new("a", endpoint, session);
            if phase >= 1 {
                edge.hello(1).await;
            }
            if phase >= 2 {
                assert!(matches!(
                    edge.next().await,
                    Some(Told::Clear(FromIma::Welcome { .. }))
                ));
                edge.offer("red").await;
            }
            if phase >= 3 {
                edge.until(|edge| edge.channels.contains_key(&vn("red")))
                    .await;
                let stop = tokio::time::Instant::now() + Duration::from_millis(random.u64(20..400));
                while tokio::time::Instant::now() < stop {
                    let answer = edge.register("red", next).await;
                    assert!(matches!(answer, VnFromIma::Registered { .. }), "{answer:?}");
                    acknowledged.push(next);
                    next += 1;
                }
                // One more is under way.
                let port = "p".parse().unwrap();
                let register = vswitch_control::message::ima::VnFromEdge::Register {
                    port,
                    mac: mac(next),
                    ips: ips(next),
                };
                edge.seal("red", &register).await;
                next += 1;
            }
            process.child.kill().unwrap();
            process.child.wait().unwrap();
        });
    }
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    let process = start(&file, address);
    let text = done(&lab, process.address, &["show", "mappings", "red"]);
    for n in &acknowledged {
        let [high, low] = n.to_be_bytes();
        let line = format!("02:00:00:00:{high:02x}:{low:02x}");
        assert!(text.contains(&line), "{line} was acknowledged");
    }
    // And a new edge is told them.
    runtime.block_on(async {
        let mut edge = lab.edge("a", 1, process.address).await;
        edge.join("red").await.unwrap();
        edge.until(|edge| edge.mappings("red").len() >= acknowledged.len())
            .await;
    });
}

#[test]
fn it_stops_when_told_and_says_what_is_wrong() {
    let lab = Lab::new();
    let (file, address) = configure(&lab);
    let mut process = start(&file, address);
    // A second one cannot have the file.
    let second = binary()
        .args(["run", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("ima.redb"),
        "{second:?}"
    );
    let id = process.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    assert!(process.child.wait().unwrap().success());
    let checked = binary()
        .args(["check", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(checked.status.success());
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(text.contains("spiffe://lab/ima/one"), "{text}");
    // An edge's certificate is none of the authority's.
    let edge = lab.files(Role::Nve, "a");
    let wrong = std::fs::read_to_string(&file).unwrap().replace(
        &lab.files(Role::Ima, "one")
            .chain
            .parent()
            .unwrap()
            .display()
            .to_string(),
        &edge.chain.parent().unwrap().display().to_string(),
    );
    std::fs::write(&file, wrong).unwrap();
    for command in ["check", "run"] {
        let refused = binary()
            .args([command, "--config"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(!refused.status.success(), "{command}");
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("nve"),
            "{refused:?}"
        );
    }
    for (wrong, why) in [
        ("listen: x", "listen"),
        ("leese: 5", "leese"),
        ("lease: 1", "lease"),
    ] {
        std::fs::write(&file, format!("{wrong}\n")).unwrap();
        let refused = binary()
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(2), "{why}");
    }
}

#[test]
fn a_declaration_is_applied_once_and_shown() {
    let lab = Lab::new();
    let (file, address) = configure(&lab);
    let process = start(&file, address);
    let declared = lab.directory.path().join("overlay.yaml");
    let text = r#"
networks:
  red:
    vni: 1001
    members: [host-a, host-b]
    placements:
      - {mac: "52:54:00:00:00:01", ips: [10.0.0.1], nve: host-a, port: vm1}
"#;
    std::fs::write(&declared, text).unwrap();
    let name = declared.to_str().unwrap();
    let at = process.address;
    let plan = done(&lab, at, &["apply", name, "--dry-run"]);
    assert!(
        done(&lab, at, &["show", "vns"]).lines().count() == 1,
        "a dry run changes nothing"
    );
    let applied = done(&lab, at, &["apply", name]);
    assert_eq!(plan, applied);
    assert_eq!(applied.lines().count(), 4, "{applied}");
    assert_eq!(done(&lab, at, &["apply", name]), "nothing to do\n");
    let shown = done(&lab, at, &["vn", "show", "red"]);
    for part in ["1001", "host-b", "52:54:00:00:00:01", "10.0.0.1"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let audit = done(&lab, at, &["show", "audit"]);
    assert!(
        audit.contains("root") && audit.contains("add network red"),
        "{audit}"
    );
    std::fs::write(&declared, "networks: {}\n").unwrap();
    assert_eq!(done(&lab, at, &["apply", name]), "nothing to do\n");
    assert_eq!(
        done(&lab, at, &["apply", name, "--prune"]),
        "remove network red\n"
    );
    assert_eq!(
        done(&lab, at, &["apply", name, "--prune"]),
        "nothing to do\n"
    );
    let (denied, why) = ctl(&lab, at, &["member", "add", "red", "a"]);
    assert!(!denied && why.contains("no network red"), "{why}");
}

/// As proc(5) shows it: no core dumps, no gain of rights, files for its owner alone. (That it is not
/// dumpable shows there only to those who are not root: `hardening`'s own test asks the process.)
#[test]
fn the_server_hardens_itself() {
    let lab = Lab::new();
    let (file, address) = configure(&lab);
    let process = start(&file, address);
    let proc = PathBuf::from(format!("/proc/{}", process.child.id()));
    let status = std::fs::read_to_string(proc.join("status")).unwrap();
    for line in ["NoNewPrivs:\t1", "Umask:\t0077"] {
        assert!(status.lines().any(|of| of == line), "{line}: {status}");
    }
    for task in std::fs::read_dir(proc.join("task")).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "every thread");
    }
    let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{core:?}");
}
