//! A cluster of three real members of etcd on the loopback.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vswitch_ima::store::etcd::EtcdConfig;

pub struct Cluster {
    members: Vec<Option<Child>>,
    pub endpoints: Vec<String>,
    directory: TempDir,
    arguments: Vec<Vec<String>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in self.members.iter_mut().flatten() {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

/// etcd's program: where `VSWITCH_ETCD` says it is unpacked, or in the PATH.
fn program() -> Option<PathBuf> {
    let unpacked =
        std::env::var_os("VSWITCH_ETCD").map(|at| PathBuf::from(at).join("usr/bin/etcd"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|at| at.join("etcd"));
    unpacked
        .into_iter()
        .chain(in_path)
        .find(|program| program.is_file())
}

/// Says loudly that a test could not run.
pub fn skip(test: &str) {
    let why = format!("{test}: no etcd (scripts/etcd unpacks it)\n");
    eprint!("SKIPPED {why}");
    if let Some(file) = std::env::var_os("VSWITCH_SKIPPED") {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(file)
            .unwrap();
        file.write_all(why.as_bytes()).unwrap();
    }
}

fn free() -> String {
    // Another may take it before etcd does; then the test fails where it starts.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    format!("http://127.0.0.1:{port}")
}

impl Cluster {
    /// Three members that have elected a leader; `None` without etcd.
    pub fn start() -> Option<Self> {
        let program = program()?;
        let directory = tempfile::tempdir().unwrap();
        let urls: Vec<(String, String)> = (0..3).map(|_| (free(), free())).collect();
        let all: Vec<String> = urls
            .iter()
            .enumerate()
            .map(|(n, (peer, _))| format!("m{n}={peer}"))
            .collect();
        let arguments = urls.iter().enumerate().map(|(n, (peer, client))| {
            let data = directory.path().join(format!("m{n}")).display().to_string();
            [
                "--name",
                &format!("m{n}"),
                "--data-dir",
                &data,
                "--listen-peer-urls",
                peer,
                "--initial-advertise-peer-urls",
                peer,
                "--listen-client-urls",
                client,
                "--advertise-client-urls",
                client,
                "--initial-cluster",
                &all.join(","),
                "--initial-cluster-token",
                "test",
                // Not faster than a busy machine can be.
                "--heartbeat-interval",
                "200",
                "--election-timeout",
                "2000",
            ]
            .iter()
            .map(ToString::to_string)
            .collect()
        });
        let mut cluster = Self {
            members: vec![None, None, None],
            endpoints: urls.iter().map(|(_, client)| client.clone()).collect(),
            arguments: arguments.collect(),
            directory,
        };
        for n in 0..3 {
            cluster.run(&program, n);
        }
        cluster.wait();
        Some(cluster)
    }

    fn run(&mut self, program: &PathBuf, n: usize) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.path().join(format!("m{n}.log")))
            .unwrap();
        let child = Command::new(program)
            .args(&self.arguments[n])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.members[n] = Some(child);
    }

    /// Until a majority answers.
    fn wait(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let begin = Instant::now();
        let once = async || {
            let mut client = etcd_client::Client::connect(&self.endpoints, None).await?;
            client.put("started", "", None).await
        };
        runtime.block_on(async {
            while !matches!(
                tokio::time::timeout(Duration::from_secs(2), once()).await,
                Ok(Ok(_))
            ) {
                assert!(
                    begin.elapsed() < crate::support::PATIENCE,
                    "etcd does not start"
                );
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }

    /// Ends one member with SIGKILL.
    pub fn kill(&mut self, n: usize) {
        let mut member = self.members[n].take().expect("a member that runs");
        member.kill().unwrap();
        member.wait().unwrap();
    }

    /// Starts it again.
    pub fn restart(&mut self, n: usize) {
        self.run(&program().unwrap(), n);
    }

    pub fn config(&self) -> EtcdConfig {
        EtcdConfig {
            endpoints: self.endpoints.clone(),
            prefix: "/test/".to_owned(),
            tls: None,
        }
    }
}
