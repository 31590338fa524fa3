//! Several servers of the authority before one etcd of three members, all processes in the namespace
//! `ima`. Servers have ports of their own there: the first takes sessions where a lone one would.

use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::daemon::binary;
use crate::lab::{DIR, on_host, sh, wait_for};

/// Members of the store.
const MEMBERS: usize = 3;

/// etcd. Dropping it kills all members.
pub struct Etcd {
    members: [Option<Child>; MEMBERS],
    program: PathBuf,
    /// Not in the lab's own memory: each member begins with a log of 64 MB.
    place: TempDir,
}

fn port(n: usize) -> u16 {
    [2379, 2389, 2399][n]
}

fn client(n: usize) -> String {
    format!("http://127.0.0.1:{}", port(n))
}

fn peer(n: usize) -> String {
    format!("http://127.0.0.1:{}", port(n) + 1)
}

/// etcd's program: where `VSWITCH_ETCD` says that it is unpacked, or in the PATH.
fn program() -> Option<PathBuf> {
    let unpacked = env::var_os("VSWITCH_ETCD").map(|at| PathBuf::from(at).join("usr/bin/etcd"));
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|at| at.join("etcd"));
    unpacked
        .into_iter()
        .chain(in_path)
        .find(|program| program.is_file())
}

impl Etcd {
    /// Three members, a majority of which answers; `None` if there is no etcd here.
    pub fn start() -> Option<Etcd> {
        let mut etcd = Etcd {
            members: [const { None }; MEMBERS],
            program: program()?,
            place: tempfile::tempdir().expect("a directory"),
        };
        (0..MEMBERS).for_each(|n| etcd.run(n));
        etcd.answers();
        Some(etcd)
    }

    /// Starts a member, which may have been there before.
    pub fn run(&mut self, n: usize) {
        let all: Vec<String> = (0..MEMBERS).map(|n| format!("m{n}={}", peer(n))).collect();
        let place = self.place.path();
        let log = File::options()
            .create(true)
            .append(true)
            .open(place.join(format!("m{n}.log")))
            .expect("log");
        let child = Command::new("ip")
            .args(["netns", "exec", "ima"])
            .arg(&self.program)
            .args(["--name", &format!("m{n}"), "--data-dir"])
            .arg(place.join(format!("m{n}")))
            .args(["--listen-peer-urls", &peer(n)])
            .args(["--initial-advertise-peer-urls", &peer(n)])
            .args(["--listen-client-urls", &client(n)])
            .args(["--advertise-client-urls", &client(n)])
            .args(["--initial-cluster", &all.join(",")])
            .args(["--initial-cluster-token", "lab"])
            // Not faster than a busy machine can be.
            .args(["--heartbeat-interval", "200", "--election-timeout", "2000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd");
        self.members[n] = Some(child);
    }

    /// Waits until a majority does.
    #[track_caller]
    fn answers(&self) {
        let healthy = || -> std::io::Result<bool> {
            let mut to = TcpStream::connect(("127.0.0.1", port(0)))?;
            to.set_read_timeout(Some(Duration::from_secs(2)))?;
            to.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
            let mut said = String::new();
            to.read_to_string(&mut said)?;
            Ok(said.contains("\"health\":\"true\""))
        };
        wait_for("etcd has a leader", 60, || {
            on_host("ima", || healthy().unwrap_or(false)).then_some(())
        });
    }

    /// SIGKILL to one of them.
    pub fn kill(&mut self, n: usize) {
        let mut member = self.members[n].take().expect("a member that runs");
        member.kill().expect("kill");
        member.wait().expect("wait");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in self.members.iter_mut().flatten() {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

/// Where the `n`th server takes sessions.
pub fn address(n: usize) -> String {
    format!("192.0.2.250:{}", 4700 + n)
}

/// An edge's configuration with so many servers in place of one.
pub fn with_servers(config: &str, many: usize) -> String {
    let all: Vec<String> = (0..many).map(|n| format!("{:?}", address(n))).collect();
    let (one, all) = (
        format!("[{:?}]", address(0)),
        format!("[{}]", all.join(", ")),
    );
    assert!(config.contains(&one), "{config}");
    config.replace(&one, &all)
}

/// A server. Dropping it kills it.
pub struct Server {
    name: &'static str,
    child: Child,
}

impl Server {
    /// The `n`th, with the identity of this name; waits until it takes sessions.
    #[track_caller]
    pub fn start(n: usize, name: &'static str) -> Server {
        let endpoints: Vec<String> = (0..MEMBERS).map(|n| format!("{:?}", client(n))).collect();
        let config = format!(
            "listen: {}\ncredentials: pki/ima/{name}\nstore: {{etcd: {{endpoints: [{}], prefix: /lab/}}}}\n",
            address(n),
            endpoints.join(", ")
        );
        let file = format!("{DIR}/ima-{name}.yaml");
        fs::write(&file, config).expect("configuration");
        let before = Server::log(name).matches("ready").count();
        let log = File::options()
            .create(true)
            .append(true)
            .open(format!("{DIR}/ima-{name}.log"))
            .expect("log");
        let child = Command::new("ip")
            .args(["netns", "exec", "ima"])
            .arg(binary("vswitch-ima"))
            .args(["--config", &file, "run"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("vswitch-ima");
        let server = Server { name, child };
        wait_for(&format!("server {name} is ready"), 30, || {
            (Server::log(name).matches("ready").count() > before).then_some(())
        });
        server
    }

    fn log(name: &str) -> String {
        fs::read_to_string(format!("{DIR}/ima-{name}.log")).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- server {}:\n{}", self.name, Server::log(self.name));
        }
    }
}

/// What an operator orders of the `n`th server. What cannot be stored just now is ordered again.
#[track_caller]
pub fn order(n: usize, what: &str) -> String {
    let (ima, at) = (binary("vswitch-ima"), address(n));
    wait_for(&format!("{at} does it: {what}"), 30, || {
        let output = Command::new("ip")
            .args(["netns", "exec", "ima"])
            .arg(&ima)
            .args(["--log-format", "json", "ctl", "--server", &at])
            .args(["--credentials", &format!("{DIR}/pki/operator/op")])
            .args(what.split(' '))
            .output()
            .expect("vswitch-ima");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let again = ["unavailable", "does not answer", "quicker", "no session"];
        assert!(
            output.status.success() || again.iter().any(|why| said.contains(why)),
            "{what}: {said}"
        );
        let done = output.status.success();
        done.then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })
}

/// Revokes, by the CA's list, what was issued to a name; the list then lies beside every bundle of the lab.
#[track_caller]
pub fn revoke(who: &str) {
    let ctl = binary("vswitchctl");
    sh(&format!("{} pki revoke {DIR}/pki {who}", ctl.display()));
}
