//! intel-ipsec-mb through DPDK's driver `crypto_aesni_gcm`, measured by DPDK's own
//! `dpdk-test-crypto-perf` in a process of its own, on the same core, between our rounds.
//!
//! Its figure has in it what an application pays: making the operations, enqueue, dequeue. All
//! its packets have one key, and sizes are what is enciphered, with an AAD of 12 bytes.

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use vswitch_aead::Algorithm;

use super::measure::{Case, Found, Heat, Operation, Span};

/// Its name among the contestants.
pub const NAME: &str = "ipsec-mb";

const PROGRAM: &str = "dpdk-test-crypto-perf";
const DEVICE: &str = "crypto_aesni_gcm";

/// One run: all its sizes and bursts.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// The cipher.
    pub algorithm: Algorithm,
    /// Seal or open.
    pub operation: Operation,
    /// Packets of a burst.
    pub bursts: &'a [usize],
    /// Bytes enciphered.
    pub sizes: &'a [usize],
    /// Packets of each size and burst.
    pub packets: usize,
}

/// The CPUs: one for its main thread, the measured one for its worker.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// Anyone's.
    pub main: usize,
    /// The measured one.
    pub worker: usize,
}

/// Keys of its packets in the name of its cases: there is one, where ours are mixed.
fn case(run: &Run<'_>, batch: usize, bytes: usize, keys: usize) -> Case {
    Case {
        algorithm: run.algorithm,
        heat: Heat::Hot,
        keys,
        batch,
        bytes,
    }
}

/// Why it cannot be compared with, if it cannot.
pub fn missing(cores: Cores) -> Option<String> {
    let run = Run {
        algorithm: Algorithm::Aes128Gcm,
        operation: Operation::Seal,
        bursts: &[32],
        sizes: &[64],
        packets: 1024,
    };
    let why = output(&run, cores).err()?;
    let text = format!("{why:#}");
    Some(text.lines().next().unwrap_or_default().to_owned())
}

/// Measures and adds what it found to cases with `keys` keys.
pub fn measure(run: &Run<'_>, cores: Cores, keys: usize, found: &mut Found) -> anyhow::Result<()> {
    let mut lines = 0;
    for (bytes, batch, ticks) in parse(&output(run, cores)?)? {
        let name = case(run, batch, bytes, keys).name(run.operation);
        found
            .entry((name, bytes, NAME, Span::All))
            .or_default()
            .push(ticks);
        lines += 1;
    }
    ensure!(
        lines == run.bursts.len() * run.sizes.len(),
        "{PROGRAM} reported {lines} figures"
    );
    Ok(())
}

fn output(run: &Run<'_>, cores: Cores) -> anyhow::Result<String> {
    let Cores { main, worker } = cores;
    let list = |values: &[usize]| {
        let text: Vec<String> = values.iter().map(ToString::to_string).collect();
        text.join(",")
    };
    let op = match run.operation {
        Operation::Seal => "encrypt",
        Operation::Open => "decrypt",
    };
    let mut command = Command::new(PROGRAM);
    command.args(["--no-huge", "-m", "512", "--no-pci", "--no-telemetry"]);
    command.arg(format!("--file-prefix=perf-{}-crypto", std::process::id()));
    command.arg(format!("--lcores=0@{main},1@{worker}"));
    command.arg(format!("--vdev={DEVICE}0"));
    command.args([
        "--",
        "--ptest=throughput",
        "--optype=aead",
        "--aead-algo=aes-gcm",
    ]);
    command.arg(format!("--aead-op={op}"));
    command.arg(format!("--aead-key-sz={}", run.algorithm.key_len()));
    command.args(["--aead-iv-sz=12", "--aead-aad-sz=12", "--digest-sz=16"]);
    command.arg(format!("--devtype={DEVICE}"));
    command.arg(format!("--burst-sz={}", list(run.bursts)));
    command.arg(format!("--buffer-sz={}", list(run.sizes)));
    command.arg(format!("--total-ops={}", run.packets));
    command.args(["--silent", "--csv-friendly"]);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{PROGRAM} is not installed (Debian's package dpdk-dev)"))?;
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr),
    );
    let last = errors.lines().rfind(|line| !line.is_empty());
    ensure!(
        output.status.success(),
        "{PROGRAM} with {DEVICE}: {}, {}",
        output.status,
        last.unwrap_or_default()
    );
    Ok(text)
}

/// Bytes, burst and ticks per packet of every line of figures.
fn parse(text: &str) -> anyhow::Result<Vec<(usize, usize, f64)>> {
    let mut columns = None;
    let mut figures = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        if line.starts_with('#') {
            let at = |name: &str| cells.iter().position(|cell| *cell == name);
            columns = at("Buffer Size(B)")
                .zip(at("Burst Size"))
                .zip(at("Cycles/Buf"));
            ensure!(columns.is_some(), "{PROGRAM} has other columns: {line}");
            continue;
        }
        let Some(((bytes, burst), cycles)) = columns else {
            continue;
        };
        if cells.len() <= cycles {
            continue;
        }
        let cell = |n: usize| cells.get(n).copied().context("a short line");
        figures.push((
            cell(bytes)?.parse()?,
            cell(burst)?.parse()?,
            cell(cycles)?.parse()?,
        ));
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_headings() {
        let text = "Allocated pool \"sess_mp_0\" on socket 0\n\
            #lcore id,Buffer Size(B),Burst Size,Enqueued,Dequeued,Failed Enq,Failed Deq,\
            Ops(Millions),Throughput(Gbps),Cycles/Buf\n\n\
            1,64,32,1000,1000,0,0,5.424,2.777,368.699\n1,256,4,1000,1000,0,0,4.3,8.8,463.5\n";
        let figures = parse(text).expect("figures");
        assert_eq!(figures, [(64, 32, 368.699), (256, 4, 463.5)]);
        assert!(parse("#other,columns\n1,2\n").is_err());
        assert!(parse("").expect("no figures").is_empty());
    }
}
