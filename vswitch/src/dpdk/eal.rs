//! DPDK's environment: started once per process, gone when its last user is.
//!
//! EAL gets one lcore that floats over every CPU this process may use; workers are threads
//! of our own ([`crate::dpdk::thread`]). The caller's CPU affinity is as before afterwards.

use std::ffi::{CString, c_char};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dpdk_sys as sys;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

pub use super::hugepages::Memory;
pub use super::log::LogLevel;

use super::error::{Errno, NulByte, cstring, string_from};
use super::explain::explain;
use super::interrupts::park_interrupt_thread;
use super::{hugepages, log};

/// What EAL is started with.
#[derive(Debug, Clone)]
pub struct EalConfig {
    /// Hugepages or not.
    pub memory: Memory,
    /// Memory taken at start, in MiB.
    pub memory_mb: u32,
    /// Names this process's runtime files; unique per process on a host.
    pub file_prefix: String,
    /// PCI devices that may be used, `0000:01:00.0[,arguments]`; none: no PCI at all.
    pub pci: Vec<String>,
    /// How much DPDK logs.
    pub log_level: LogLevel,
    /// Further arguments of EAL, as they are.
    pub extra_args: Vec<String>,
}

impl Default for EalConfig {
    fn default() -> Self {
        EalConfig {
            memory: Memory::Auto,
            memory_mb: 1024,
            file_prefix: format!("vswitch-{}", std::process::id()),
            pci: Vec::new(),
            log_level: LogLevel::default(),
            extra_args: Vec::new(),
        }
    }
}

/// The version of DPDK that runs, such as `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: returns a static string.
    unsafe { super::error::string_from(sys::rte_version()) }
}

/// Why EAL did not start, or is not there.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// EAL can be started once in a process, also if that failed.
    #[error("DPDK was already started in this process, which is possible once only")]
    SecondStart,
    /// Something needs EAL, which is not running.
    #[error("DPDK is not running")]
    NotRunning,
    /// Hugepages were asked for.
    #[error(
        "no hugepages to use: {0}; reserve some (echo 1024 > /proc/sys/vm/nr_hugepages; \
         mount -t hugetlbfs nodev /dev/hugepages) or set the memory to `auto` or `no-huge`"
    )]
    Hugepages(String),
    /// An argument cannot be passed.
    #[error("argument of EAL: {0}")]
    Argument(#[from] NulByte),
    /// The CPUs of this process could not be read.
    #[error("CPU affinity of this process: {0}")]
    Affinity(#[source] io::Error),
    /// EAL itself said no.
    #[error("DPDK did not start: {errno}; {hint}; arguments: {args}")]
    Init {
        /// EAL's reason.
        errno: Errno,
        /// What to do.
        hint: &'static str,
        /// The arguments, by blanks.
        args: String,
    },
}

/// EAL while it runs. Devices, pools and rings keep it running; it stops with the last.
#[derive(Debug)]
pub struct Eal {
    hold: Hold,
    hugepages: bool,
    cpus: Vec<usize>,
}

/// Keeps EAL running; whoever owns memory or devices of DPDK has one.
#[derive(Debug, Clone)]
pub(in crate::dpdk) struct Hold(#[allow(dead_code)] Arc<Running>);

#[derive(Debug)]
struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: EAL runs; the string is copied at once.
        let runtime_dir = unsafe { string_from(sys::rte_eal_get_runtime_dir()) };
        if !park_interrupt_thread() {
            // Its memory goes with the process.
            tracing::warn!("DPDK's interrupt thread does not answer: DPDK is not stopped");
            return;
        }
        // SAFETY: EAL was started, and every object that uses it held this value.
        let result = unsafe { sys::rte_eal_cleanup() };
        if let Err(error) = Errno::check(result) {
            tracing::warn!(%error, "DPDK did not stop cleanly");
        }
        // EAL leaves it behind; one that is not empty is not ours alone.
        let _kept_if_not_empty = std::fs::remove_dir(runtime_dir);
    }
}

enum State {
    Fresh,
    Started(Weak<Running>),
}

static STATE: Mutex<State> = Mutex::new(State::Fresh);

/// A share in the running EAL.
pub(in crate::dpdk) fn hold() -> Result<Hold, EalError> {
    match &*STATE.lock().unwrap_or_else(PoisonError::into_inner) {
        State::Started(running) => running.upgrade().map(Hold).ok_or(EalError::NotRunning),
        State::Fresh => Err(EalError::NotRunning),
    }
}

impl Eal {
    /// Starts EAL and logs which memory it uses and why.
    pub fn init(config: &EalConfig) -> Result<Eal, EalError> {
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Started(_)) {
            return Err(EalError::SecondStart);
        }
        let affinity = sched_getaffinity(None).map_err(|e| EalError::Affinity(e.into()))?;
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|&cpu| affinity.is_set(cpu))
            .collect();
        let choice = hugepages::choose(config.memory, config.memory_mb, &hugepages::survey())
            .map_err(EalError::Hugepages)?;
        let args = arguments(config, choice.hugepages, &cpus);
        let c_args = args
            .iter()
            .map(|a| cstring(a))
            .collect::<Result<Vec<CString>, NulByte>>()?;
        if choice.hugepages {
            tracing::info!(reason = %choice.reason, memory_mb = config.memory_mb, "memory: hugepages");
        } else {
            tracing::info!(reason = %choice.reason, memory_mb = config.memory_mb, "memory: no hugepages");
        }

        // From here on nothing can be tried twice: EAL keeps what it parsed.
        *state = State::Started(Weak::new());
        log::forward();
        let _of_others = log::complaints();
        let result = start(c_args);
        // EAL pins its caller; undo that whatever came of the start.
        let restored = sched_setaffinity(None, &affinity);
        result.map_err(|errno| EalError::Init {
            errno,
            hint: explain(&log::complaints()).unwrap_or_else(|| hint(errno, choice.hugepages)),
            args: args.join(" "),
        })?;
        let running = Arc::new(Running);
        restored.map_err(|e| EalError::Affinity(e.into()))?;
        *state = State::Started(Arc::downgrade(&running));
        Ok(Eal {
            hold: Hold(running),
            hugepages: choice.hugepages,
            cpus,
        })
    }

    /// Whether its memory is hugepages.
    pub fn hugepages(&self) -> bool {
        self.hugepages
    }

    /// The CPUs that workers may be put on.
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// Another handle that keeps EAL running.
    pub fn share(&self) -> Eal {
        Eal {
            hold: self.hold.clone(),
            hugepages: self.hugepages,
            cpus: self.cpus.clone(),
        }
    }
}

fn start(args: Vec<CString>) -> Result<(), Errno> {
    let argc = args.len() as i32;
    // EAL keeps pointers into its arguments and permutes them: they live on, once.
    let mut argv: Vec<*mut c_char> = args.into_iter().map(CString::into_raw).collect();
    argv.push(std::ptr::null_mut());
    let argv = argv.leak();
    // SAFETY: argv holds argc C strings and a null pointer, and is never freed.
    if unsafe { sys::rte_eal_init(argc, argv.as_mut_ptr()) } < 0 {
        return Err(Errno::last());
    }
    Ok(())
}

/// EAL's command line.
fn arguments(config: &EalConfig, hugepages: bool, cpus: &[usize]) -> Vec<String> {
    let cpus = cpus
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let mut args = vec![
        "vswitch".to_owned(),
        format!("--lcores=0@({cpus})"),
        format!("--file-prefix={}", config.file_prefix),
        format!("--log-level=*:{}", config.log_level.name()),
        "--no-telemetry".to_owned(),
        "-m".to_owned(),
        config.memory_mb.to_string(),
    ];
    if hugepages {
        args.push("--in-memory".to_owned());
    } else {
        // No files shared with other processes either; EAL forbids --in-memory here.
        args.extend(["--no-huge", "--no-shconf"].map(str::to_owned));
    }
    if config.pci.is_empty() {
        args.push("--no-pci".to_owned());
    }
    for device in &config.pci {
        args.extend(["-a".to_owned(), device.clone()]);
    }
    args.extend(config.extra_args.iter().cloned());
    args
}

fn hint(errno: Errno, hugepages: bool) -> &'static str {
    match errno.0 {
        libc::EACCES | libc::EPERM => "run it as root or with the capabilities of the systemd unit",
        libc::EINVAL => "an argument is wrong: look at the extra arguments and PCI addresses",
        libc::ENOMEM if hugepages => "reserve more hugepages or lower the memory",
        libc::ENOMEM => "lower the memory",
        libc::EAGAIN => "another process may use the same file prefix",
        libc::ENODEV | libc::ENOENT => "look at the PCI addresses",
        _ => "the log lines of DPDK before this one say more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_follow_the_choice_of_memory() {
        let config = EalConfig {
            file_prefix: "a".into(),
            memory_mb: 64,
            ..EalConfig::default()
        };
        let huge = arguments(&config, true, &[1, 3]);
        assert!(huge.contains(&"--lcores=0@(1,3)".to_owned()));
        assert!(huge.contains(&"--in-memory".to_owned()));
        assert!(huge.contains(&"--no-pci".to_owned()));
        let none = arguments(&config, false, &[0]);
        assert!(none.contains(&"--no-huge".to_owned()));
        assert!(!none.contains(&"--in-memory".to_owned()));
    }

    #[test]
    fn pci_is_on_only_for_named_devices() {
        let config = EalConfig {
            pci: vec!["0000:01:00.0".into()],
            ..EalConfig::default()
        };
        let args = arguments(&config, true, &[0]);
        assert!(!args.contains(&"--no-pci".to_owned()));
        assert!(args.windows(2).any(|w| w == ["-a", "0000:01:00.0"]));
    }

    #[test]
    fn nothing_holds_an_eal_that_was_not_started() {
        assert!(matches!(hold(), Err(EalError::NotRunning)));
    }
}
