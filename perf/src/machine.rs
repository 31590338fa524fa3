//! Where figures were measured. Without it they mean nothing.

use std::fmt;
use std::fs;

use serde::Serialize;
use vswitch::dpdk::eal::{self, Eal, EalConfig, LogLevel, Memory};
use vswitch::dpdk::time::TscClock;

/// A machine and the build on it.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The CPU's name, family, model and stepping.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// The CPU that the measurement was pinned to; 0 if it was not.
    pub core: usize,
    /// Frequency of the time-stamp counter: what one tick is; 0 if nothing was measured by it.
    pub tsc_mhz: u64,
    /// Processes that wanted a CPU when the measurement began (average of a minute).
    pub load: f64,
    /// DPDK's version.
    pub dpdk: String,
    /// Whether packet buffers lie in hugepages.
    pub hugepages: bool,
    /// The AES-GCM implementation; empty if no packets were measured.
    pub aead: &'static str,
    /// `release`, or `debug`, whose figures are for nobody.
    pub build: &'static str,
}

impl Machine {
    /// This one.
    pub fn here(
        core: usize,
        cpus: usize,
        tsc_hz: u64,
        hugepages: bool,
        aead: &'static str,
    ) -> Self {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Machine {
            cpu: cpu_name(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cpus,
            core,
            tsc_mhz: tsc_hz / 1_000_000,
            load: load
                .split_whitespace()
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0.0),
            dpdk: eal::version(),
            hugepages,
            aead,
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
        }
    }

    /// This one, where neither packets nor ticks were measured: by the clock, on all of its CPUs.
    pub fn without_dpdk(cpus: usize) -> Self {
        Self::here(0, cpus, 0, false, "")
    }
}

/// Starts DPDK just so far that the machine can be described as by benchmarks that use it;
/// `cpus` may be used, `core` is the measured one. Once in a process.
pub fn describe(core: usize, cpus: usize) -> anyhow::Result<Machine> {
    let eal = Eal::init(&EalConfig {
        memory: Memory::NoHuge,
        memory_mb: 64,
        log_level: LogLevel::Error,
        ..EalConfig::default()
    })?;
    let hz = TscClock::new()?.hz();
    let aead = vswitch_aead::select(None)?.name();
    Ok(Machine::here(core, cpus, hz, eal.hugepages(), aead))
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            cpu,
            cpus,
            core,
            tsc_mhz,
            load,
            dpdk,
            hugepages,
            aead,
            build,
        } = self;
        if aead.is_empty() {
            return write!(f, "{cpu}; {cpus} CPUs, load {load}; {build} build");
        }
        let pages = if *hugepages {
            "hugepages"
        } else {
            "4 KiB pages, no hugepages"
        };
        write!(
            f,
            "{cpu}; core {core} of {cpus}, TSC {tsc_mhz} MHz, load {load}; {dpdk}, {pages}; \
             AES-GCM backend `{aead}`; {build} build"
        )
    }
}

/// Of the text of `/proc/cpuinfo`: the first CPU, as hypervisors often hide its name.
fn cpu_name(cpuinfo: &str) -> String {
    let field = |name: &str| {
        let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
    };
    match (
        field("model name"),
        field("cpu family"),
        field("model"),
        field("stepping"),
    ) {
        (Some(name), Some(family), Some(model), Some(stepping)) => {
            format!("{name} (family {family}, model {model}, stepping {stepping})")
        }
        (Some(name), ..) => name.to_owned(),
        _ => std::env::consts::ARCH.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_is_not_named() {
        let words = Machine::without_dpdk(3).to_string();
        assert!(words.contains("; 3 CPUs, load "), "{words}");
        assert!(
            !words.contains("TSC") && !words.contains("AES-GCM"),
            "{words}"
        );
    }

    #[test]
    fn names_of_cpus() {
        let text = "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Some CPU\n\
                    stepping\t: 8\n\nprocessor\t: 1\nmodel\t\t: 1\n";
        assert_eq!(cpu_name(text), "Some CPU (family 6, model 143, stepping 8)");
        assert_eq!(cpu_name("model name : Other\n"), "Other");
        assert_eq!(cpu_name(""), std::env::consts::ARCH);
    }
}
