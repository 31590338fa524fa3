//! What librte_vhost calls: from its event thread, its thread that connects, or from
//! `rte_vhost_driver_start` and `_unregister`. Which locks are held is in the parent's head.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::Arc;

use dpdk_sys as sys;

use super::device::{Device, Shared};
use super::peer::Link;
use super::registry::{Connection, Socket, registry};
use super::vrings::Vrings;
use super::{Mode, Refusal, VhostEvent};

/// The callbacks; librte_vhost keeps a pointer to them.
pub(super) struct Ops(pub(super) sys::rte_vhost_device_ops);

// SAFETY: function pointers, and a reserved field that is null and nobody's.
unsafe impl Sync for Ops {}

pub(super) static OPS: Ops = Ops(sys::rte_vhost_device_ops {
    new_device: Some(new_device),
    destroy_device: Some(destroy_device),
    vring_state_changed: Some(vring_state_changed),
    features_changed: None,
    new_connection: Some(new_connection),
    destroy_connection: Some(destroy_connection),
    guest_notified: None,
    reserved: [std::ptr::null_mut()],
});

static MESSAGE_OPS: sys::rte_vhost_user_extern_ops = sys::rte_vhost_user_extern_ops {
    pre_msg_handle: Some(before_message),
    post_msg_handle: None,
};

const ACCEPT: c_int = 0;
const REFUSE: c_int = -1;

fn path_of(vid: c_int) -> Option<CString> {
    let mut buffer = [0u8; libc::PATH_MAX as usize];
    // SAFETY: librte_vhost called us for vid; the buffer is as long as said.
    let found = unsafe {
        sys::rte_vhost_get_ifname(vid, buffer.as_mut_ptr().cast::<c_char>(), buffer.len())
    };
    let path = CStr::from_bytes_until_nul(&buffer).ok()?;
    (found == 0).then(|| path.to_owned())
}

/// No queue lock is held.
unsafe extern "C" fn new_connection(vid: c_int) -> c_int {
    let Some(path) = path_of(vid) else {
        return REFUSE;
    };
    let (socket, known, busy) = {
        let registry = registry();
        let Some(socket) = registry.socket(&path) else {
            return REFUSE;
        };
        // One whose end was not noticed yet is no obstacle.
        let still_there =
            |(_, c): (c_int, &Connection)| c.link.as_ref().is_none_or(Link::connected);
        let busy = registry.on(&socket).any(still_there);
        (socket, registry.fds(), busy)
    };
    let link = Link::find(&socket.config.path, socket.config.mode, &known);
    if let Err((uid, reason)) = judge(&socket, link.as_ref(), busy) {
        socket.refused(uid, reason);
        match link {
            // Were it refused, librte_vhost would never connect again.
            Some(link) if socket.config.mode == Mode::Client => {
                if let Err(error) = link.park() {
                    tracing::error!(path = ?path, %error, "refused vhost peer not parked");
                    return REFUSE;
                }
                insert(vid, socket, Some(link));
                return ACCEPT;
            }
            _ => return REFUSE,
        }
    }
    match link.as_ref().map(Link::guard) {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            tracing::error!(path = ?path, %error, "no time limits on a vhost connection");
            return REFUSE;
        }
        None => tracing::warn!(path = ?path, "vhost connection not found: no time limits on it"),
    }
    // SAFETY: the device of the call; the operations are copied.
    unsafe { sys::rte_vhost_extern_callback_register(vid, &MESSAGE_OPS, std::ptr::null_mut()) };
    insert(vid, socket, link);
    ACCEPT
}

fn judge(socket: &Socket, link: Option<&Link>, busy: bool) -> Result<(), (Option<u32>, Refusal)> {
    let uid = link.and_then(Link::uid);
    if let Some(expected) = socket.config.peer_uid {
        match uid {
            Some(uid) if uid == expected => {}
            Some(uid) => return Err((Some(uid), Refusal::WrongUid { expected })),
            None => return Err((None, Refusal::Unidentified)),
        }
    }
    if busy {
        Err((uid, Refusal::Busy))
    } else {
        Ok(())
    }
}

fn insert(vid: c_int, socket: Arc<Socket>, link: Option<Link>) {
    let vrings = Arc::new(Vrings::new(socket.config.queues));
    let connection = Connection {
        socket,
        link,
        vrings,
        device: None,
    };
    registry().connections.insert(vid, connection);
}

/// Before every request is acted upon; no queue lock matters, all may be held.
unsafe extern "C" fn before_message(vid: c_int, _: *mut c_void) -> sys::rte_vhost_msg_result {
    let refused = {
        let registry = registry();
        registry.connections.get(&vid).and_then(|connection| {
            let link = connection.link.as_ref().filter(|link| !link.writable())?;
            // Answering would block the thread for a second, request after request.
            link.cut();
            Some((Arc::clone(&connection.socket), link.uid()))
        })
    };
    if let Some((socket, uid)) = refused {
        socket.refused(uid, Refusal::NotReading);
    }
    sys::RTE_VHOST_MSG_RESULT_NOT_HANDLED
}

/// Queue locks may be held: nothing waits here.
unsafe extern "C" fn vring_state_changed(vid: c_int, index: u16, enable: c_int) -> c_int {
    let on = enable != 0;
    let (socket, event) = {
        let registry = registry();
        let Some(connection) = registry.connections.get(&vid) else {
            return 0;
        };
        let socket = Arc::clone(&connection.socket);
        if on && usize::from(index) >= connection.vrings.len() {
            drop(registry);
            too_many_queues(vid, &socket);
            return 0;
        }
        let announce = connection.vrings.set(index, on);
        let device = connection
            .device
            .as_ref()
            .filter(|_| announce)
            .map(|d| d.id());
        let tag = socket.config.tag;
        (
            socket,
            device.map(|device| VhostEvent::QueueState { tag, device }),
        )
    };
    if let Some(event) = event {
        socket.emit(event);
    }
    0
}

/// No queue lock is held.
unsafe extern "C" fn new_device(vid: c_int) -> c_int {
    // Another connection's device on this socket is one whose end was not noticed yet.
    let (socket, vrings, earlier) = {
        let mut registry = registry();
        let Some(connection) = registry.connections.get(&vid) else {
            return REFUSE;
        };
        let (socket, vrings) = (
            Arc::clone(&connection.socket),
            Arc::clone(&connection.vrings),
        );
        let others: Vec<c_int> = registry
            .on(&socket)
            .map(|(other, _)| other)
            .filter(|&other| other != vid)
            .collect();
        let earlier: Vec<Arc<Shared>> = others
            .iter()
            .filter_map(|other| registry.connections.get_mut(other)?.device.take())
            .collect();
        (socket, vrings, earlier)
    };
    for device in earlier {
        take_down(&socket, &device);
    }
    // SAFETY: the device of the call.
    if usize::from(unsafe { sys::rte_vhost_get_vring_num(vid) }) > vrings.len() {
        too_many_queues(vid, &socket);
        return REFUSE;
    }
    if socket.too_many_devices() {
        cut(vid, &socket, Refusal::Restarting);
        return REFUSE;
    }
    let device = Arc::new(Shared::new(vid, vrings, Arc::clone(&socket)));
    {
        let mut registry = registry();
        let in_service = registry
            .socket(&socket.path)
            .is_some_and(|s| Arc::ptr_eq(&s, &socket));
        match registry.connections.get_mut(&vid) {
            Some(connection) if in_service => connection.device = Some(Arc::clone(&device)),
            _ => return REFUSE,
        }
    }
    let device = Device::new(device);
    tracing::info!(path = %socket.config.path.display(), ?device, "vhost device up");
    socket.emit(VhostEvent::Up {
        tag: socket.config.tag,
        device,
    });
    ACCEPT
}

/// No queue lock is held; `rte_vhost_driver_unregister` may hold its own, but then
/// `VhostSocket`'s drop has taken the device out already and nothing waits.
unsafe extern "C" fn destroy_device(vid: c_int) {
    let gone = {
        let mut registry = registry();
        registry.connections.get_mut(&vid).and_then(|connection| {
            Some((Arc::clone(&connection.socket), connection.device.take()?))
        })
    };
    if let Some((socket, device)) = gone {
        take_down(&socket, &device);
    }
}

/// When it returns, no worker is inside the device, and guest memory may go.
fn take_down(socket: &Socket, device: &Shared) {
    device.publish_gone();
    socket.domain.synchronize();
    tracing::info!(path = %socket.config.path.display(), device = ?device.id(), "vhost device down");
    socket.emit(VhostEvent::Down {
        tag: socket.config.tag,
        device: device.id(),
    });
}

/// No queue lock is held; librte_vhost has closed its descriptor.
unsafe extern "C" fn destroy_connection(vid: c_int) {
    let connection = registry().connections.remove(&vid);
    if let Some(Connection {
        socket,
        device: Some(device),
        ..
    }) = connection
    {
        take_down(&socket, &device);
    }
}

fn too_many_queues(vid: c_int, socket: &Socket) {
    cut(
        vid,
        socket,
        Refusal::TooManyQueues {
            allowed: socket.config.queues,
        },
    );
}

fn cut(vid: c_int, socket: &Socket, reason: Refusal) {
    let uid = {
        let registry = registry();
        let link = registry.connections.get(&vid).and_then(|c| c.link.as_ref());
        link.inspect(|link| link.cut()).and_then(Link::uid)
    };
    socket.refused(uid, reason);
}
