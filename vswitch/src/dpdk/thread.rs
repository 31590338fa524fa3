//! Worker threads: pinned to a core first, then made known to DPDK.

use std::io;
use std::sync::mpsc;
use std::thread::{self, Builder, JoinHandle};

use core_affinity::CoreId;
use dpdk_sys as sys;

use super::eal::{EalError, Hold, hold};
use super::error::{Errno, NulByte, cstring};

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// EAL is not there.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// The name cannot be passed.
    #[error("name of a worker: {0}")]
    Name(#[from] NulByte),
    /// No such core, or not one for this process.
    #[error("worker {name}: core {core} is not among those this process may use: {allowed:?}")]
    Core {
        /// The worker.
        name: String,
        /// What was asked for.
        core: usize,
        /// What there is.
        allowed: Vec<usize>,
    },
    /// The kernel refused.
    #[error("worker {name} could not be pinned to core {core}")]
    Pin {
        /// The worker.
        name: String,
        /// Its core.
        core: usize,
    },
    /// No thread to be had.
    #[error("worker {name}: no thread: {error}")]
    Thread {
        /// The worker.
        name: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// DPDK refused: more threads than it has lcores, as a rule.
    #[error("worker {name}: DPDK did not register the thread: {errno}")]
    Register {
        /// The worker.
        name: String,
        /// Why.
        errno: Errno,
    },
}

/// What a worker knows of where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lcore {
    /// DPDK's number of the thread, unique while it runs.
    pub id: u32,
    /// The core it is pinned to.
    pub core: usize,
}

/// Cores that this thread may use, and its workers with it.
pub fn allowed_cores() -> Vec<usize> {
    core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|c| c.id)
        .collect()
}

/// A running worker.
#[derive(Debug)]
pub struct Worker<T> {
    thread: JoinHandle<Option<T>>,
    lcore: Lcore,
}

impl<T> Worker<T> {
    /// Where it runs.
    pub fn lcore(&self) -> Lcore {
        self.lcore
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end. `Err` is what it panicked with.
    pub fn join(self) -> thread::Result<T> {
        self.thread
            .join()?
            .ok_or_else(|| Box::new("worker did not start") as _)
    }
}

/// Starts `f` on a thread pinned to `core` and registered with DPDK; both are settled when
/// this returns. The thread is unregistered when `f` ends, also by a panic.
pub fn spawn_worker<T: Send + 'static>(
    name: &str,
    core: usize,
    f: impl FnOnce(Lcore) -> T + Send + 'static,
) -> Result<Worker<T>, WorkerError> {
    let hold = hold()?;
    cstring(name)?;
    let allowed = allowed_cores();
    if !allowed.contains(&core) {
        return Err(WorkerError::Core {
            name: name.to_owned(),
            core,
            allowed,
        });
    }
    let (ready, settled) = mpsc::sync_channel(1);
    let worker = name.to_owned();
    let body = move || match Registered::new(worker, core, hold) {
        Ok(registered) => {
            // The receiver waits for exactly this message.
            let _received = ready.send(Ok(registered.lcore));
            Some(f(registered.lcore))
        }
        Err(error) => {
            let _received = ready.send(Err(error));
            None
        }
    };
    let no_thread = |error| WorkerError::Thread {
        name: name.to_owned(),
        error,
    };
    let thread = Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(no_thread)?;
    let lcore = settled
        .recv()
        .map_err(|e| no_thread(io::Error::other(e)))??;
    Ok(Worker { thread, lcore })
}

/// This thread's registration with DPDK, for as long as it lives.
struct Registered {
    lcore: Lcore,
    _hold: Hold,
}

impl Registered {
    fn new(name: String, core: usize, hold: Hold) -> Result<Self, WorkerError> {
        // First pin: DPDK reads the thread's CPUs and NUMA node when it registers.
        if !core_affinity::set_for_current(CoreId { id: core }) {
            return Err(WorkerError::Pin { name, core });
        }
        // SAFETY: EAL runs (`hold`), and this thread is new, so not registered yet.
        if unsafe { sys::rte_thread_register() } != 0 {
            return Err(WorkerError::Register {
                name,
                errno: Errno::last(),
            });
        }
        // SAFETY: reads a thread-local variable.
        let id = unsafe { sys::vs_lcore_id() };
        Ok(Registered {
            lcore: Lcore { id, core },
            _hold: hold,
        })
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // SAFETY: this thread registered itself, and EAL still runs.
        unsafe { sys::rte_thread_unregister() }
    }
}
