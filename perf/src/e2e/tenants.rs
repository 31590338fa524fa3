//! The tenants: one dpdk-testpmd with a virtio-user port on each host, driven by its command
//! line.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::edges::{tenant_mac, tenant_socket};

const PROMPT: &str = "testpmd> ";

/// Packets of a tenant, as it counts them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    /// Received.
    pub rx: u64,
    /// Sent.
    pub tx: u64,
}

/// Both of them. Dropping it kills testpmd.
pub struct Tenants {
    child: Child,
    input: ChildStdin,
    output: Arc<Mutex<String>>,
    seen: usize,
}

impl Tenants {
    /// Starts them on `core`. Once told to start, each sends some bursts to the other and
    /// from then on sends back what it receives, with the addresses exchanged.
    pub fn start(dir: &Path, core: usize) -> anyhow::Result<Tenants> {
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "dpdk-testpmd", "--no-huge", "-m", "256", "--no-pci"]);
        command.arg(format!("--file-prefix=perf-{}-tenants", std::process::id()));
        command.arg(format!("--lcores=0@{core},1@{core}"));
        for host in [1, 2] {
            command.arg("--vdev").arg(format!(
                "net_virtio_user{host},path={},server=1,queue_size=1024,mac={}",
                tenant_socket(dir, host).display(),
                tenant_mac(host)
            ));
        }
        command.arg("--");
        for host in [1, 2] {
            command.arg(format!("--eth-peer={},{}", host - 1, tenant_mac(3 - host)));
        }
        command.args([
            "-i",
            "--forward-mode=macswap",
            "--total-num-mbufs=16384",
            "--no-mlockall",
        ]);
        command.args(["--stats-period=0", "--port-topology=loop"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("dpdk-testpmd (package dpdk-dev; scripts/setup installs it)")?;
        let output = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().context("a pipe")?),
            Box::new(child.stderr.take().context("a pipe")?),
        ];
        for mut stream in streams {
            let output = output.clone();
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut bytes) {
                    let text =
                        String::from_utf8_lossy(bytes.get(..n).unwrap_or_default()).into_owned();
                    output
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push_str(&text);
                }
            });
        }
        let input = child.stdin.take().context("a pipe")?;
        Ok(Tenants {
            child,
            input,
            output,
            seen: 0,
        })
    }

    /// Waits for its prompt, which it has once the switches have connected to its sockets.
    pub fn ready(&mut self) -> anyhow::Result<()> {
        self.prompt().map(drop)
    }

    fn prompt(&mut self) -> anyhow::Result<String> {
        let began = Instant::now();
        loop {
            let all = self
                .output
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let text = all.get(self.seen..).unwrap_or_default();
            if let Some(at) = text.find(PROMPT) {
                self.seen += at + PROMPT.len();
                return Ok(text.get(..at).unwrap_or_default().to_owned());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("testpmd ended, {status}:\n{text}");
            }
            ensure!(
                began.elapsed() < Duration::from_secs(60),
                "testpmd has no prompt:\n{text}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs one command.
    pub fn command(&mut self, command: &str) -> anyhow::Result<String> {
        writeln!(self.input, "{command}").context("testpmd reads no more")?;
        self.prompt()
    }

    /// What a host's tenant has counted.
    pub fn counted(&mut self, host: u8) -> anyhow::Result<Counted> {
        let text = self.command(&format!("show port stats {}", host - 1))?;
        let figure = |name: &str| -> anyhow::Result<u64> {
            let (_, rest) = text
                .split_once(name)
                .with_context(|| format!("no {name} in:\n{text}"))?;
            let digits = rest.split_whitespace().next().context("no figure")?;
            Ok(digits.parse()?)
        };
        Ok(Counted {
            rx: figure("RX-packets:")?,
            tx: figure("TX-packets:")?,
        })
    }

    /// Stops the traffic and returns what its queues did not take, for each tenant.
    pub fn stop_traffic(&mut self) -> anyhow::Result<[u64; 2]> {
        let text = self.command("stop")?;
        let mut refused = [0; 2];
        let mut parts = text.split("TX-dropped:").skip(1);
        for of in &mut refused {
            let digits = parts.next().and_then(|rest| rest.split_whitespace().next());
            *of = digits
                .context("testpmd did not say what it dropped")?
                .parse()?;
        }
        Ok(refused)
    }

    /// Ends it in order.
    pub fn quit(mut self) -> anyhow::Result<()> {
        writeln!(self.input, "quit")?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(
                began.elapsed() < Duration::from_secs(20),
                "testpmd does not end"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Tenants {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _killed = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}
