//! The authority in a process of its own, so that its memory and CPU time are its alone: this program,
//! started once more with a hidden subcommand, runs `vswitch_ima::server` as the daemon does.

use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use tokio::sync::oneshot;
use vswitch_control::identity::{Clock, Credentials, Files, Role};
use vswitch_control::session::{Liveness, Setup};
use vswitch_ima::config::LimitConfig;
use vswitch_ima::engine::Limits;
use vswitch_ima::server::Server;
use vswitch_ima::store::redb::Redb;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "control-authority";

/// Something is said as often as usual; but on a machine that has no time for either side nobody is taken for
/// dead, which would end the measurement.
pub const PATIENT: Liveness = Liveness {
    idle_timeout: Duration::from_secs(120),
    keepalive: Liveness::LONG.keepalive,
};

/// What the authority's process is told.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// Directory of its certificate, key and bundle.
    #[arg(long)]
    credentials: PathBuf,
    /// Its store.
    #[arg(long)]
    store: PathBuf,
}

/// Serves until standard input ends; answers each line of it with the bytes allocated.
pub fn serve(options: &Serve, allocated: fn() -> usize) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let files = Files::in_directory(&options.credentials);
        let credentials = Credentials::load(&files, Role::Ima, Clock::system().now())?;
        let mut setup = Setup::new(credentials.fixed(), &[]);
        // As the daemon's are, unless it is told otherwise.
        setup.limits = LimitConfig::default().session_limits();
        setup.limits.accepted = PATIENT;
        let begun = Instant::now();
        let store = Redb::open(&options.store)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::start(any, setup, store, Limits::default()).await?;
        say(&format!(
            "{} {}",
            server.address(),
            begun.elapsed().as_nanos()
        ))?;
        let (over, ended) = oneshot::channel();
        std::thread::spawn(move || {
            for line in stdin().lines() {
                if line.is_err() || say(&allocated().to_string()).is_err() {
                    break;
                }
            }
            // Whoever waits for it is gone only when the process is.
            let _ = over.send(());
        });
        let _ = ended.await;
        Ok(server.stop().await?)
    })
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// The authority's process. Dropping it ends it.
pub struct Authority {
    child: Child,
    asked: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Where it takes sessions.
    pub address: SocketAddr,
    /// How long it took to read what is stored and to open its socket.
    pub start: Duration,
}

/// What the authority has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Seconds of CPU time.
    pub cpu: f64,
    /// Bytes allocated now.
    pub bytes: usize,
}

impl Authority {
    /// Starts it on a store that may be there already, and waits until it takes sessions.
    pub fn start(credentials: &Path, store: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(SUBCOMMAND)
            .arg("--credentials")
            .arg(credentials)
            .arg("--store")
            .arg(store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the authority's process")?;
        let asked = child.stdin.take();
        let stdout = child.stdout.take().context("no output")?;
        let mut authority = Authority {
            child,
            asked,
            answers: BufReader::new(stdout),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            start: Duration::ZERO,
        };
        let line = authority.line()?;
        let (address, nanoseconds) = line.split_once(' ').context("no address")?;
        authority.address = address.parse()?;
        authority.start = Duration::from_nanos(nanoseconds.parse()?);
        Ok(authority)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line)?;
        anyhow::ensure!(read > 0, "the authority's process has ended");
        Ok(line.trim().to_owned())
    }

    /// What it has used so far. Blocks for as long as the answer takes: a line through a pipe.
    pub fn usage(&mut self) -> anyhow::Result<Usage> {
        let asked = self.asked.as_mut().context("it was stopped")?;
        writeln!(asked)?;
        let bytes = self.line()?.parse()?;
        let cpu = cpu_seconds(&self.child.id().to_string())?;
        Ok(Usage { cpu, bytes })
    }

    /// Ends it in order: what it has answered is stored.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.asked = None;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "the authority's process: {status}");
        Ok(())
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // It may have ended already; what is left of it is collected in either case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a process (`self` is this one), all threads, in seconds.
pub fn cpu_seconds(process: &str) -> anyhow::Result<f64> {
    // proc_pid_stat(5): utime and stime are fields 14 and 15, and the name before them, in
    // parentheses, may contain spaces. Linux counts in hundredths of a second towards users.
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("no process")?;
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = times.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::cpu_seconds;

    #[test]
    fn a_process_that_works_uses_time() {
        let before = cpu_seconds("self").expect("a process");
        let mut n = 1_u64;
        while cpu_seconds("self").expect("a process") < before + 0.02 {
            n = std::hint::black_box(n.wrapping_mul(3));
        }
        assert!(cpu_seconds("no such").is_err());
    }
}
