//! dpdk-testpmd, driven by its command line: tenants on virtio-user ports, or whatever its
//! arguments make of it.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::lab::wait_for;

/// A testpmd at its prompt. Dropping it ends it.
pub struct Testpmd {
    child: Child,
    input: ChildStdin,
    output: Arc<Mutex<String>>,
    /// What it logs: apart, for it would come in the middle of a prompt.
    errors: Arc<Mutex<String>>,
    seen: usize,
}

/// Packets of a port, as testpmd counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Received.
    pub rx: u64,
    /// Sent.
    pub tx: u64,
}

const PROMPT: &str = "testpmd> ";
/// Packets in one of testpmd's bursts.
pub const BURST: u64 = 32;

impl Testpmd {
    /// Tenants on these vhost sockets, one port each in this order. `server`: testpmd makes
    /// the sockets. The MAC addresses are the tenants' of hosts `a` and `b` in turn, and
    /// each sends to the other.
    pub fn tenants(sockets: &[String], server: bool, queues: u16) -> Testpmd {
        let mut args: Vec<String> = Vec::new();
        let server = u8::from(server);
        for (i, socket) in sockets.iter().enumerate() {
            if server == 1 {
                // Of a predecessor that was killed; virtio-user does not bind over it.
                let _ = std::fs::remove_file(socket);
            }
            let own = i % 2 + 1;
            args.push("--vdev".into());
            args.push(format!(
                "net_virtio_user{i},path={socket},queues={queues},server={server},\
                 mac=52:54:00:00:00:0{own}"
            ));
        }
        args.push("--".into());
        for i in 0..sockets.len() {
            args.push(format!("--eth-peer={i},52:54:00:00:00:0{}", 2 - i % 2));
        }
        for option in [
            "-i",
            "--forward-mode=rxonly",
            "--total-num-mbufs=8192",
            "--no-mlockall",
            "--burst=32",
            "--stats-period=0",
        ] {
            args.push(option.into());
        }
        args.push(format!("--rxq={queues}"));
        args.push(format!("--txq={queues}"));
        let mut testpmd = Testpmd::start("tenants", &args);
        let ports = testpmd.command("show port summary all");
        assert!(
            ports.contains(&format!("available ports: {}", sockets.len())),
            "{ports}"
        );
        testpmd
    }

    /// Starts testpmd with these arguments and waits for its prompt.
    pub fn start(prefix: &str, args: &[String]) -> Testpmd {
        let mut command = Command::new("stdbuf");
        command.args([
            "-oL",
            "nice",
            "-n",
            "5",
            "dpdk-testpmd",
            "--no-huge",
            "-m",
            "256",
        ]);
        command.args([
            "--no-pci",
            "--file-prefix",
            prefix,
            "--lcores",
            "0@(0-1),1@(0-1)",
        ]);
        let mut child = command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("dpdk-testpmd (package dpdk-dev)");
        let output = gather(child.stdout.take().expect("a pipe"));
        let errors = gather(child.stderr.take().expect("a pipe"));
        let input = child.stdin.take().expect("a pipe");
        let mut testpmd = Testpmd {
            child,
            input,
            output,
            errors,
            seen: 0,
        };
        testpmd.prompt(60);
        testpmd
    }

    fn prompt(&mut self, seconds: u64) -> String {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let text = self.output.lock().expect("no panic")[self.seen..].to_owned();
            // Not at the end: what a driver logs may come behind it.
            if let Some(at) = text.find(PROMPT) {
                let end = at + PROMPT.len();
                self.seen += end;
                return text[..end].to_owned();
            }
            let ended = self.child.try_wait().expect("wait");
            assert!(ended.is_none(), "testpmd ended: {ended:?}\n{text}");
            assert!(Instant::now() < deadline, "testpmd has no prompt:\n{text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs one command.
    pub fn command(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").expect("testpmd reads");
        // readline echoes the command behind the prompt, so the answer ends with a new one.
        self.prompt(30)
    }

    /// What a port has counted.
    pub fn stats(&mut self, port: usize) -> PortStats {
        let text = self.command(&format!("show port stats {port}"));
        let figure = |name: &str| {
            let (_, rest) = text
                .split_once(name)
                .unwrap_or_else(|| panic!("{name}: {text}"));
            let digits = rest.split_whitespace().next().expect("a figure");
            digits.parse().unwrap_or_else(|_| panic!("{name}: {text}"))
        };
        PortStats {
            rx: figure("RX-packets:"),
            tx: figure("TX-packets:"),
        }
    }

    /// Every port sends `bursts` bursts to its peer, then all receive, until no more comes
    /// for a while. Returns what each port counted meanwhile.
    pub fn exchange(&mut self, ports: &[usize], bursts: u64) -> Vec<PortStats> {
        let before: Vec<_> = ports.iter().map(|p| self.stats(*p)).collect();
        self.command(&format!("start tx_first {bursts}"));
        let mut last: Vec<_> = ports.iter().map(|p| self.stats(*p)).collect();
        let mut quiet = 0;
        wait_for("nothing more arrives", 30, || {
            std::thread::sleep(Duration::from_millis(20));
            let now: Vec<_> = ports.iter().map(|p| self.stats(*p)).collect();
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
            (quiet >= 8).then_some(())
        });
        self.command("stop");
        last.iter()
            .zip(before)
            .map(|(now, before)| PortStats {
                rx: now.rx - before.rx,
                tx: now.tx - before.tx,
            })
            .collect()
    }

    /// Ends it as its operator would.
    pub fn quit(mut self) {
        writeln!(self.input, "quit").expect("testpmd reads");
        wait_for("testpmd ends", 20, || self.child.try_wait().expect("wait"));
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

/// Collects what a stream has to say.
fn gather(mut stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let all = Arc::new(Mutex::new(String::new()));
    let into = all.clone();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..n]);
            into.lock().expect("no panic").push_str(&text);
        }
    });
    all
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            if std::thread::panicking() {
                for (name, text) in [("output", &self.output), ("errors", &self.errors)] {
                    let text = text.lock().expect("no panic");
                    let lines: Vec<&str> = text.lines().collect();
                    let last = lines[lines.len().saturating_sub(60)..].join("\n");
                    eprintln!("--- testpmd, {name}:\n{last}");
                }
            }
        }
    }
}
