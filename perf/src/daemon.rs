//! A switch as an operator runs it: a configuration file, `vswitchd`, its API.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use vswitch::manage::api::{Section, get};
use vswitch::manage::doctor::start::prefix_lock;
use vswitch::manage::status::Status;

/// One switch. Dropping it kills it.
pub struct Daemon {
    name: String,
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    /// Its lock, which it leaves; nobody else has a prefix with this process's number.
    lock: PathBuf,
}

/// DPDK's file prefix for the switch of this name.
pub fn file_prefix(name: &str) -> String {
    format!("perf-{}-{name}", std::process::id())
}

/// Where the switch of this name must have its API.
pub fn api_socket(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.api"))
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

impl Daemon {
    /// Starts the switch `name` with this configuration, whose API is at [`api_socket`] and whose
    /// file prefix is [`file_prefix`], and waits until it answers.
    pub fn start(dir: &Path, name: &str, yaml: &str) -> anyhow::Result<Daemon> {
        let file = dir.join(format!("{name}.yaml"));
        fs::write(&file, yaml)?;
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
        let mut daemon = Daemon {
            name: name.to_owned(),
            child,
            socket: api_socket(dir, name),
            log,
            lock: prefix_lock(&file_prefix(name)).into(),
        };
        let began = Instant::now();
        while daemon.status().is_err() {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("{name} ended, {status}:\n{}", daemon.said());
            }
            ensure!(
                began.elapsed() < Duration::from_secs(60),
                "{name} does not answer:\n{}",
                daemon.said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }

    /// What it shows of itself.
    pub fn status(&self) -> anyhow::Result<Status> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let body = runtime.block_on(get(&self.socket, Section::Status))?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// How long its threads whose names begin so have had a CPU so far, in sum.
    pub fn thread_time(&self, name: &str) -> anyhow::Result<Duration> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut sum = None;
        for task in fs::read_dir(tasks)? {
            let task = task?.path();
            // Others may end meanwhile.
            let comm = fs::read_to_string(task.join("comm")).unwrap_or_default();
            if !comm.starts_with(name) {
                continue;
            }
            // Nanoseconds on a CPU, waiting for one, and turns (Linux, sched-stats).
            let text = fs::read_to_string(task.join("schedstat"))?;
            let ran = text.split_whitespace().next().context("schedstat")?;
            let ran = Duration::from_nanos(ran.parse()?);
            sum = Some(sum.unwrap_or(Duration::ZERO) + ran);
        }
        sum.with_context(|| format!("no thread {name}…"))
    }

    /// Stops all its threads where they are, or lets them go on.
    pub fn pause(&self, pause: bool) -> anyhow::Result<()> {
        let signal = if pause { Signal::STOP } else { Signal::CONT };
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
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

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _killed = self.child.kill();
            let _reaped = self.child.wait();
        }
        let _gone = fs::remove_file(&self.lock);
    }
}
