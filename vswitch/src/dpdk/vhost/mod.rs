//! Ports of tenant VMs: vhost-user sockets on librte_vhost.
//!
//! librte_vhost has one event thread for all sockets (and one more that connects). What
//! they call back is in `callbacks`; what workers hold is in `device`. A device that
//! goes is torn down in three steps: it is published as gone, [`Domain::synchronize`] waits
//! until no worker is inside it, and only then may librte_vhost unmap the guest's memory.
//!
//! Lock order, checked against DPDK 22.11's `vhost_user.c`, `vhost.c`, `socket.c`: a worker
//! takes only a virtqueue's `access_lock`. The event thread holds those while it calls
//! `vring_state_changed`, so nothing here waits then. It holds none of them while it calls
//! `destroy_device`, which waits for workers. `rte_vhost_driver_unregister` calls it too,
//! under a mutex that the event thread wants while holding queue locks; so
//! [`VhostSocket`]'s drop does the waiting before it calls that.

mod admission;
mod callbacks;
mod device;
mod guest_memory;
mod message;
mod peer;
mod place;
mod registry;
mod vrings;

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use dpdk_sys as sys;

pub use device::{Device, DeviceId, VhostRx, VhostTx};

use super::eal::{EalError, Hold, hold};
use super::quiescence::Domain;
use registry::Socket;

/// Queue pairs of one device at most (`VHOST_MAX_QUEUE_PAIRS`).
pub const MAX_QUEUE_PAIRS: u16 = 128;

/// `sun_path` holds 108 bytes with its NUL.
const MAX_PATH: usize = 107;

/// Which side makes the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The frontend (QEMU with `server=on`); we connect, and again whenever it went away.
    Client,
    /// We; the frontend connects.
    Server,
}

/// One vhost-user port.
#[derive(Debug, Clone)]
pub struct VhostConfig {
    /// Where the socket is. At most 107 bytes. In client mode the name that the frontend
    /// bound must end in the same file name.
    pub path: PathBuf,
    /// Which side makes it.
    pub mode: Mode,
    /// Queue pairs served, 1 to [`MAX_QUEUE_PAIRS`]; a frontend that wants more is told.
    pub queues: u16,
    /// Owner of the socket file; server mode.
    pub uid: Option<u32>,
    /// Group of the socket file; server mode.
    pub gid: Option<u32>,
    /// Permission bits of the socket file; server mode. It has no others at any time.
    pub permissions: u32,
    /// The uid that the frontend must run under (client mode: must have had when it began
    /// to listen), if one is named. Whoever else is there gets nothing.
    pub peer_uid: Option<u32>,
    /// Comes back in every event.
    pub tag: u64,
}

/// What happens on a port. Comes from librte_vhost's threads.
#[derive(Debug)]
pub enum VhostEvent {
    /// A frontend is ready: its queues may be handed to workers.
    Up {
        /// The port.
        tag: u64,
        /// The device.
        device: Device,
    },
    /// The device is gone. No worker is inside it any more; its handles do nothing.
    Down {
        /// The port.
        tag: u64,
        /// The device, as [`Device::id`] gave it.
        device: DeviceId,
    },
    /// Queues were enabled or disabled: [`Device::enabled`] tells which. Further changes
    /// are not announced before that is asked.
    QueueState {
        /// The port.
        tag: u64,
        /// The device.
        device: DeviceId,
    },
    /// A connection was cut off. At most one such event a second, port and kind of reason.
    PeerRefused {
        /// The port.
        tag: u64,
        /// The uid on the other side, as far as known.
        uid: Option<u32>,
        /// Why.
        reason: Refusal,
    },
}

/// Why a connection was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not the uid that is configured.
    #[error("the peer's uid is not {expected}")]
    WrongUid {
        /// What is configured.
        expected: u32,
    },
    /// A uid is configured, and the peer's could not be found out.
    #[error("the peer's uid could not be found out")]
    Unidentified,
    /// Another frontend is connected to this socket.
    #[error("another frontend is connected")]
    Busy,
    /// It uses more queues than this port has, though it was told.
    #[error("it uses more than the {allowed} queue pairs of this port")]
    TooManyQueues {
        /// Queue pairs of the port.
        allowed: u16,
    },
    /// It sends requests and does not read the answers.
    #[error("it does not read answers to its requests")]
    NotReading,
    /// It restarts its device faster than control takes notice.
    #[error("it restarts too fast")]
    Restarting,
    /// It connects more often than its socket's rate, which faults lower.
    #[error("it connects too often")]
    TooOften,
    /// It did not send the rest of a message, or one that has no meaning here.
    #[error("it sent half a message, or an invalid one")]
    Garbled,
    /// Memory that it shares with us is gone: its file was truncated.
    #[error("the memory it shares was truncated")]
    BrokenMemory,
    /// What it wants to be notified by is no eventfd, and could make a worker wait.
    #[error("it wants to be notified by something that is no eventfd")]
    NotAnEventfd,
    /// Its log of dirty pages has an offset in its file, which librte_vhost gets wrong.
    #[error("its log of dirty pages has an offset")]
    LogOffset,
    /// All packet buffers of its port are in use and none comes back.
    #[error("all packet buffers of its port are in use")]
    Drained,
}

impl Refusal {
    /// A stable name for logs.
    pub const fn name(self) -> &'static str {
        match self {
            Refusal::WrongUid { .. } => "wrong-uid",
            Refusal::Unidentified => "unidentified",
            Refusal::Busy => "busy",
            Refusal::TooManyQueues { .. } => "too-many-queues",
            Refusal::NotReading => "not-reading",
            Refusal::Restarting => "restarting",
            Refusal::TooOften => "too-often",
            Refusal::Garbled => "garbled",
            Refusal::BrokenMemory => "broken-memory",
            Refusal::NotAnEventfd => "not-an-eventfd",
            Refusal::LogOffset => "log-offset",
            Refusal::Drained => "drained",
        }
    }
}

/// Where events go. It is called with librte_vhost's locks held: it must not block, nor take
/// a lock that anybody holds while waiting for workers or dropping a [`VhostSocket`]. An
/// unbounded channel does; what can be in it is bounded by this module.
pub type EventSink = Arc<dyn Fn(VhostEvent) + Send + Sync>;

/// Why a port was not made.
#[derive(Debug, thiserror::Error)]
pub enum VhostError {
    /// EAL is not there.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// The path is empty, too long, or has a NUL byte.
    #[error("{0}: a socket's path has 1 to {MAX_PATH} bytes and no NUL")]
    Path(PathBuf),
    /// The number of queues.
    #[error("{queues} queue pairs: a port has 1 to {MAX_QUEUE_PAIRS}")]
    Queues {
        /// What was asked for.
        queues: u16,
    },
    /// Bits beyond 0777.
    #[error("{0:o} are no permission bits")]
    Permissions(u32),
    /// A port of this process has the path (or a start on it failed half-way before).
    #[error("{0} is a port of this switch already")]
    Registered(PathBuf),
    /// Somebody listens on it.
    #[error(
        "another process listens on {0}, and two switches must not share a socket: find it by `ss -xlp src {0}`"
    )]
    InUse(PathBuf),
    /// There is a file that is not a socket.
    #[error("{0} exists and is not a socket: remove it, or choose another path")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("{path}: {doing}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// librte_vhost refused; its log lines say why.
    #[error("{path}: DPDK's vhost library refused to {doing}")]
    Library {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
    },
}

/// What is offered neither to guest nor host: we do not segment, and a checksum that we
/// were to leave open for the guest would leave the host open as well.
const NOT_OFFERED: u64 = bit(sys::VIRTIO_NET_F_GSO)
    | bit(sys::VIRTIO_NET_F_HOST_TSO4)
    | bit(sys::VIRTIO_NET_F_HOST_TSO6)
    | bit(sys::VIRTIO_NET_F_HOST_ECN)
    | bit(sys::VIRTIO_NET_F_HOST_UFO)
    | bit(sys::VIRTIO_NET_F_GUEST_CSUM)
    | bit(sys::VIRTIO_NET_F_GUEST_TSO4)
    | bit(sys::VIRTIO_NET_F_GUEST_TSO6)
    | bit(sys::VIRTIO_NET_F_GUEST_ECN)
    | bit(sys::VIRTIO_NET_F_GUEST_UFO);

/// The protocol's extensions that a network port needs; no crypto, post-copy, doorbells.
const PROTOCOL: u64 = bit(sys::VHOST_USER_PROTOCOL_F_MQ)
    | bit(sys::VHOST_USER_PROTOCOL_F_LOG_SHMFD)
    | bit(sys::VHOST_USER_PROTOCOL_F_RARP)
    | bit(sys::VHOST_USER_PROTOCOL_F_REPLY_ACK)
    | bit(sys::VHOST_USER_PROTOCOL_F_NET_MTU)
    | bit(sys::VHOST_USER_PROTOCOL_F_STATUS);

const fn bit(n: u32) -> u64 {
    1 << n
}

/// A vhost-user socket in service. Dropping it disconnects the frontend, waits until no
/// worker is inside its device, and removes the socket file. So it must not be dropped by a
/// thread that is an online reader of the domain. An event under way may still arrive.
pub struct VhostSocket {
    socket: Arc<Socket>,
    _eal: Hold,
}

impl fmt::Debug for VhostSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VhostSocket")
            .field("config", &self.socket.config)
            .finish()
    }
}

/// The umask is the process's: one socket at a time is made.
static MAKING: Mutex<()> = Mutex::new(());

impl VhostSocket {
    /// Puts a socket into service. Workers that will use its queues are readers of `domain`.
    pub fn register(
        config: VhostConfig,
        domain: &Domain,
        events: EventSink,
    ) -> Result<VhostSocket, VhostError> {
        let eal = hold()?;
        let path = checked_path(&config)?;
        guest_memory::watch().map_err(|source| VhostError::Io {
            path: config.path.clone(),
            doing: "guarding against guests that truncate their memory",
            source,
        })?;
        let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = Arc::new(Socket::new(path, config, domain.clone(), events));
        if !registry::claim(&socket) {
            return Err(VhostError::Registered(socket.config.path.clone()));
        }
        if let Err(error) = prepare(&socket) {
            registry::release(&socket);
            return Err(error);
        }
        start(&socket)?;
        // From here on dropping it undoes everything.
        let made = VhostSocket { socket, _eal: eal };
        if made.config().mode == Mode::Server {
            place::hand_over(made.config())?;
        }
        Ok(made)
    }

    /// What it was made with.
    pub fn config(&self) -> &VhostConfig {
        &self.socket.config
    }
}

impl Drop for VhostSocket {
    fn drop(&mut self) {
        let devices = registry::close(&self.socket);
        for device in &devices {
            device.publish_gone();
        }
        if !devices.is_empty() {
            self.socket.domain.synchronize();
        }
        // SAFETY: the path is a registered one and a C string. No lock is held, and no
        // device of it is left whose teardown would wait (see the head of this module).
        if unsafe { sys::rte_vhost_driver_unregister(self.socket.path.as_ptr()) } != 0 {
            tracing::error!(path = %self.config().path.display(), "vhost socket not unregistered");
        }
        registry::release(&self.socket);
    }
}

fn checked_path(config: &VhostConfig) -> Result<CString, VhostError> {
    if config.queues == 0 || config.queues > MAX_QUEUE_PAIRS {
        return Err(VhostError::Queues {
            queues: config.queues,
        });
    }
    if config.permissions & !0o777 != 0 {
        return Err(VhostError::Permissions(config.permissions));
    }
    let bytes = config.path.as_os_str().as_bytes();
    match CString::new(bytes) {
        Ok(path) if !bytes.is_empty() && bytes.len() <= MAX_PATH => Ok(path),
        _ => Err(VhostError::Path(config.path.clone())),
    }
}

/// Everything before frontends can connect.
fn prepare(socket: &Socket) -> Result<(), VhostError> {
    let config = &socket.config;
    let failed = |doing| VhostError::Library {
        path: config.path.clone(),
        doing,
    };
    let mut flags = u64::from(sys::RTE_VHOST_USER_NET_COMPLIANT_OL_FLAGS);
    match config.mode {
        Mode::Server => place::clear(&config.path)?,
        // Reconnecting is what librte_vhost does by itself unless told not to.
        Mode::Client => flags |= u64::from(sys::RTE_VHOST_USER_CLIENT),
    }
    let mut not_offered = NOT_OFFERED;
    if config.queues == 1 {
        not_offered |= bit(sys::VIRTIO_NET_F_MQ);
    }
    let path = socket.path.as_ptr();
    // SAFETY: EAL runs; the path is a C string, copied by the callee.
    if unsafe { sys::rte_vhost_driver_register(path, flags) } != 0 {
        return Err(failed("register it"));
    }
    // SAFETY: as above; OPS is static.
    let set = unsafe {
        sys::rte_vhost_driver_disable_features(path, not_offered) == 0
            && sys::rte_vhost_driver_set_protocol_features(path, PROTOCOL) == 0
            && sys::rte_vhost_driver_callback_register(path, &callbacks::OPS.0) == 0
    };
    if !set {
        // SAFETY: registered above and not started.
        unsafe { sys::rte_vhost_driver_unregister(path) };
        return Err(failed("set its features"));
    }
    Ok(())
}

/// After a failure here the path stays claimed: 22.11 has closed the socket but keeps it in
/// its table, and unregistering would close that file descriptor a second time.
fn start(socket: &Socket) -> Result<(), VhostError> {
    // Nobody but us between bind and `hand_over`.
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    // SAFETY: registered in `prepare`, with callbacks.
    let started = unsafe { sys::rte_vhost_driver_start(socket.path.as_ptr()) };
    rustix::process::umask(umask);
    if started != 0 {
        let path = socket.config.path.clone();
        return Err(VhostError::Library {
            path,
            doing: "start it",
        });
    }
    Ok(())
}
