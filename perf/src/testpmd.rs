//! dpdk-testpmd, driven by its command line: somebody else's packets, and somebody else's way of
//! moving them.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

const PROMPT: &str = "testpmd> ";

/// A running one. Dropping it kills it.
pub struct Testpmd {
    child: Child,
    input: ChildStdin,
    output: Arc<Mutex<String>>,
    seen: usize,
}

impl Testpmd {
    /// Starts it with these arguments, EAL's and its own; nobody else has its `name` in this
    /// process. Its threads share `lcores`, the first of which is that of its command line.
    pub fn start(
        name: &str,
        lcores: &str,
        hugepages: bool,
        eal: &[String],
        own: &[String],
    ) -> anyhow::Result<Testpmd> {
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "dpdk-testpmd", "--no-pci"]);
        command.args(match hugepages {
            true => ["--in-memory", "-m", "128"],
            false => ["--no-huge", "-m", "256"],
        });
        command.arg(format!("--file-prefix=perf-{}-{name}", std::process::id()));
        command.arg(format!("--lcores={lcores}")).args(eal);
        command.args(["--", "-i", "--no-mlockall", "--stats-period=0"]);
        command.args(["--total-num-mbufs=16384"]).args(own);
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
        Ok(Testpmd {
            child,
            input,
            output,
            seen: 0,
        })
    }

    /// Waits for its prompt, which it has once those who use its sockets have connected.
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

impl Drop for Testpmd {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _killed = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}
