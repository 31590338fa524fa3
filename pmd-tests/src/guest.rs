//! QEMU guests, through the project's own scripts.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::lab::DIR;

/// A running guest. The laboratory's end is its end too.
pub struct Guest {
    name: String,
}

/// Where the project's scripts are.
pub fn scripts() -> PathBuf {
    env::var_os("VSWITCH_SCRIPTS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts"),
        PathBuf::from,
    )
}

fn script(name: &str) -> Command {
    let mut command = Command::new(scripts().join("guests").join(name));
    command.env("VSWITCH_LAB_DIR", DIR).stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> Result<String, String> {
    let output = command.output().expect("a script");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(out);
    }
    let err = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}\n{out}{err}", output.status))
}

/// Makes the guests' image if it is not there yet: outside the laboratory, which has no way
/// to Debian's mirrors.
pub fn image() {
    run(script("build")).unwrap_or_else(|error| panic!("{error}"));
}

impl Guest {
    /// Starts tenant `n` (1: of host `a`, 2: of `b`) on a vhost socket. `switch_is` is what
    /// the switch is: `client` or `server`.
    pub fn start(name: &str, n: u8, socket: &str, switch_is: &str, options: &[&str]) -> Guest {
        // In the scripts' words: who QEMU is.
        let qemu_is = match switch_is {
            "client" => "--server",
            _ => "--client",
        };
        let (mac, ip4) = (format!("52:54:00:00:00:0{n}"), format!("10.0.0.{n}/24"));
        let ip6 = format!("fd00::{n}/64");
        let mut words = vec![name, socket, &mac, &ip4, &ip6, qemu_is];
        words.extend(["--guest-mtu", "1380", "--iperf"]);
        words.extend(options);
        Guest::run(&words)
    }

    /// Starts a guest with these arguments of `scripts/guests/run`.
    pub fn run(words: &[&str]) -> Guest {
        let mut command = script("run");
        command.args(words);
        run(command).unwrap_or_else(|error| panic!("{error}"));
        Guest {
            name: words[0].to_owned(),
        }
    }

    fn exec(&self, seconds: u64, line: &str) -> Command {
        let mut command = script("exec");
        // Emulated guests boot slowly where the machine is busy.
        command.args([&self.name, "--boot-timeout", "120"]);
        command.args(["--timeout", &seconds.to_string(), "--", line]);
        command
    }

    /// Runs a shell line in the guest; it must succeed.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        run(self.exec(60, line)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a shell line and says whether it succeeded.
    pub fn succeeds(&self, line: &str) -> bool {
        run(self.exec(60, line)).is_ok()
    }

    /// Starts a shell line and does not wait.
    pub fn spawn(&self, seconds: u64, line: &str) -> Child {
        let mut command = self.exec(seconds, line);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a script")
    }

    /// SIGKILL to its QEMU.
    pub fn kill(self) {
        let pid = std::fs::read_to_string(format!("{DIR}/guests/{}/qemu.pid", self.name))
            .expect("pid file");
        crate::lab::sh(&format!("kill -KILL {}", pid.trim()));
        crate::lab::wait_for("QEMU is gone", 5, || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            stat.map_or(true, |stat| stat.contains(") Z "))
                .then_some(())
        });
    }
}
