//! Which sockets there are, and the connections and devices on them: what librte_vhost's
//! callbacks, which know a number only, look things up in. One lock, never held while
//! waiting for workers or calling back, and never taken by a worker.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int};
use std::mem::{self, Discriminant};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::admission::{Admission, CONNECTION, FAULT};
use super::device::Shared;
use super::peer::Link;
use super::vrings::Vrings;
use super::{EventSink, Refusal, VhostConfig, VhostEvent};
use crate::dpdk::quiescence::Domain;

/// Devices of one socket that may be held at once. More means that control lags behind a
/// frontend that restarts in a loop; this bounds the events that can pile up.
const MAX_DEVICES: usize = 16;

/// Between two events of one kind about refused peers on one socket.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Socket {
    pub(super) path: CString,
    pub(super) config: VhostConfig,
    pub(super) domain: Domain,
    events: EventSink,
    devices: AtomicUsize,
    last_refusals: Mutex<HashMap<Discriminant<Refusal>, Instant>>,
    admission: Mutex<Admission>,
}

impl Socket {
    pub(super) fn new(
        path: CString,
        config: VhostConfig,
        domain: Domain,
        events: EventSink,
    ) -> Self {
        Socket {
            path,
            config,
            domain,
            events,
            devices: AtomicUsize::new(0),
            last_refusals: Mutex::default(),
            admission: Mutex::new(Admission::new(Instant::now())),
        }
    }

    /// Whether one more connection may be made now.
    pub(super) fn admits(&self) -> bool {
        self.admission().take(Instant::now(), CONNECTION)
    }

    /// A connection that had to be ended by us: it may have held the event thread up.
    pub(super) fn charge_fault(&self) {
        self.admission().charge(Instant::now(), FAULT);
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn emit(&self, event: VhostEvent) {
        (self.events)(event);
    }

    pub(super) fn device_made(&self) {
        self.devices.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn device_dropped(&self) {
        self.devices.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn too_many_devices(&self) -> bool {
        self.devices.load(Ordering::Relaxed) >= MAX_DEVICES
    }

    /// Logs and announces that a connection was cut off, not more often than is useful.
    pub(super) fn refused(&self, uid: Option<u32>, reason: Refusal) {
        let now = Instant::now();
        let mut last = self
            .last_refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let last_of_kind = last.get(&mem::discriminant(&reason));
        if last_of_kind.is_some_and(|then| now.duration_since(*then) < REFUSAL_PAUSE) {
            return;
        }
        last.insert(mem::discriminant(&reason), now);
        drop(last);
        tracing::warn!(path = %self.config.path.display(), ?uid, %reason, "vhost peer refused");
        self.emit(VhostEvent::PeerRefused {
            tag: self.config.tag,
            uid,
            reason,
        });
    }
}

pub(super) struct Connection {
    pub(super) socket: Arc<Socket>,
    /// None if it could not be found.
    pub(super) link: Option<Link>,
    pub(super) vrings: Arc<Vrings>,
    pub(super) device: Option<Arc<Shared>>,
}

struct Entry {
    socket: Arc<Socket>,
    closing: bool,
}

#[derive(Default)]
pub(super) struct Registry {
    sockets: HashMap<CString, Entry>,
    pub(super) connections: HashMap<c_int, Connection>,
}

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

pub(super) fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// The socket in service at this path.
    pub(super) fn socket(&self, path: &CStr) -> Option<Arc<Socket>> {
        let entry = self.sockets.get(path).filter(|entry| !entry.closing)?;
        Some(Arc::clone(&entry.socket))
    }

    /// The connections on a socket.
    pub(super) fn on<'a>(
        &'a self,
        socket: &'a Arc<Socket>,
    ) -> impl Iterator<Item = (c_int, &'a Connection)> {
        let all = self
            .connections
            .iter()
            .map(|(&vid, connection)| (vid, connection));
        all.filter(move |(_, connection)| Arc::ptr_eq(&connection.socket, socket))
    }

    /// The descriptors of all connections known.
    pub(super) fn fds(&self) -> Vec<RawFd> {
        self.connections
            .values()
            .filter_map(|c| Some(c.link.as_ref()?.fds()))
            .flatten()
            .collect()
    }
}

/// Enters a new socket; false if its path is taken.
pub(super) fn claim(socket: &Arc<Socket>) -> bool {
    let mut registry = registry();
    if registry.sockets.contains_key(&socket.path) {
        return false;
    }
    let entry = Entry {
        socket: Arc::clone(socket),
        closing: false,
    };
    registry.sockets.insert(socket.path.clone(), entry);
    true
}

/// Lets no device come up on a socket any more, and takes out those that are.
pub(super) fn close(socket: &Arc<Socket>) -> Vec<Arc<Shared>> {
    let mut registry = registry();
    if let Some(entry) = registry.sockets.get_mut(&socket.path) {
        entry.closing = true;
    }
    let connections = registry.connections.values_mut();
    connections
        .filter(|connection| Arc::ptr_eq(&connection.socket, socket))
        .filter_map(|connection| connection.device.take())
        .collect()
}

/// Forgets a socket that librte_vhost does not have (any more).
pub(super) fn release(socket: &Arc<Socket>) {
    let mut registry = registry();
    registry.sockets.remove(&socket.path);
    registry
        .connections
        .retain(|_, connection| !Arc::ptr_eq(&connection.socket, socket));
}
