//! `vswitchd` as an operator runs it: started with a file, asked with `vswitchctl`, stopped
//! with SIGTERM.

use std::env;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use vswitch::manage::status::Status;

use crate::changes::check_books;
use crate::lab::{DIR, wait_for};

/// A running daemon. Dropping it kills it.
pub struct Daemon {
    name: String,
    child: Child,
}

/// A binary of the workspace: from `VSWITCH_BIN`, or beside the test.
pub fn binary(name: &str) -> PathBuf {
    let dir = env::var_os("VSWITCH_BIN").map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| {
        let exe = env::current_exe().expect("path of the test binary");
        exe.ancestors()
            .nth(2)
            .expect("the target directory")
            .to_owned()
    });
    let path = dir.join(name);
    assert!(
        path.exists(),
        "{} is missing: cargo build --workspace --bins",
        path.display()
    );
    path
}

/// Has a running host follow another configuration, with which it also starts again.
#[track_caller]
pub fn apply(name: &str, yaml: &str) {
    let file = format!("{DIR}/{name}.yaml");
    fs::write(&file, yaml).expect("configuration");
    let output = Command::new(binary("vswitchctl"))
        .args(["--socket", &format!("{DIR}/{name}.api")])
        .args(["apply", &file, "--yes"])
        .output()
        .expect("vswitchctl");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

impl Daemon {
    /// Starts host `name` with this configuration, in the namespace of that name if there is
    /// one, and waits until it answers.
    pub fn start(name: &str, yaml: &str) -> Daemon {
        Daemon::start_with(name, yaml, &[])
    }

    /// The same with variables of the environment.
    pub fn start_with(name: &str, yaml: &str, environment: &[(&str, &str)]) -> Daemon {
        fs::write(format!("{DIR}/{name}.yaml"), yaml).expect("configuration");
        Daemon::spawn(name, environment).awaited()
    }

    /// Starts a host again with the configuration that it had, and waits until it answers.
    pub fn restart(name: &str) -> Daemon {
        Daemon::spawn(name, &[]).awaited()
    }

    /// The same, with variables of the environment, and without waiting.
    pub fn spawn(name: &str, environment: &[(&str, &str)]) -> Daemon {
        let log = File::options()
            .create(true)
            .append(true)
            .open(format!("{DIR}/{name}.log"))
            .expect("log");
        let daemon = binary("vswitchd");
        let mut command = match fs::exists(format!("/run/netns/{name}")) {
            Ok(true) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(daemon);
                command
            }
            _ => Command::new(daemon),
        };
        let child = command
            .args(["--config", &format!("{DIR}/{name}.yaml")])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("vswitchd");
        Daemon {
            name: name.to_owned(),
            child,
        }
    }

    /// Waits until it answers.
    #[track_caller]
    pub fn awaited(mut self) -> Daemon {
        let began = Instant::now();
        while self.ask().is_err() {
            let ended = self.child.try_wait().expect("wait");
            let name = &self.name;
            assert!(ended.is_none(), "{name} ended: {ended:?}\n{}", self.log());
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{name} does not answer\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(30));
        }
        self
    }

    fn ask(&self) -> Result<Status, String> {
        let output = Command::new(binary("vswitchctl"))
            .args(["--socket", &format!("{DIR}/{}.api", self.name)])
            .args(["--json", "show", "status"])
            .output()
            .expect("vswitchctl");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(serde_json::from_slice(&output.stdout).expect("vswitchctl prints JSON"))
    }

    /// What it shows of itself; its books must balance.
    #[track_caller]
    pub fn status(&self) -> Status {
        let began = Instant::now();
        let status = loop {
            match self.ask() {
                Ok(status) => break status,
                // Beside other work a worker may be late for a report.
                Err(error) if began.elapsed() > Duration::from_secs(10) => {
                    panic!("{}: {error}\n{}", self.name, self.log())
                }
                Err(_) => {}
            }
        };
        check_books(&status);
        status
    }

    /// The report in which something is so.
    #[track_caller]
    pub fn wait(&self, what: &str, so: impl Fn(&Status) -> bool) -> Status {
        wait_for(&format!("{}: {what}", self.name), 20, || {
            Some(self.status()).filter(&so)
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGABRT, as a failed assertion in a library would.
    pub fn abort(mut self) -> ExitStatus {
        self.signal(Signal::ABORT);
        self.child.wait().expect("wait")
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(format!("{DIR}/{}.log", self.name)).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a process of ours");
    }

    /// Asks it to stop: it must end by itself, with success, its books balanced to the last.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let name = self.name.clone();
        let status = wait_for(&format!("{name} ends"), 10, || {
            self.child.try_wait().expect("wait")
        });
        let log = self.log();
        assert!(status.success(), "{status}\n{log}");
        let ended: Vec<&str> = log.lines().filter(|l| l.contains("worker ended")).collect();
        assert!(!ended.is_empty(), "{log}");
        for line in ended {
            assert!(plain(line).contains("balanced=true"), "{line}");
        }
        for complaint in ["panicked", "does not stop", "takes no commands"] {
            assert!(!log.contains(complaint), "{log}");
        }
    }

    /// SIGKILL, as a crash or an impatient operator would.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Only when a test fails half-way.
            let _ = self.child.kill();
            let _ = self.child.wait();
            eprintln!("--- {}:\n{}", self.name, self.log());
        }
    }
}

/// A line without the colours of a terminal.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut escape = false;
    for c in line.chars() {
        match (escape, c) {
            (false, '\x1b') => escape = true,
            (false, c) => plain.push(c),
            (true, 'm') => escape = false,
            (true, _) => {}
        }
    }
    plain
}
