//! What librte_vhost calls: from its event thread, its thread that connects, or from
//! `rte_vhost_driver_start` and `_unregister`. Which locks are held is in the parent's head.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::Arc;

use dpdk_sys as sys;

use super::device::{Device, Shared};
use super::guest_memory;
use super::message::{self, Message};
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
    post_msg_handle: Some(after_message),
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
        return Err((uid, Refusal::Busy));
    }
    // As a client it is librte_vhost that sets the pace: one try a second.
    if socket.config.mode == Mode::Server && !socket.admits() {
        return Err((uid, Refusal::TooOften));
    }
    Ok(())
}

fn insert(vid: c_int, socket: Arc<Socket>, link: Option<Link>) {
    guest_memory::forget(vid);
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
unsafe extern "C" fn before_message(vid: c_int, msg: *mut c_void) -> sys::rte_vhost_msg_result {
    guest_memory::handling(vid);
    let refused = {
        let registry = registry();
        registry.connections.get(&vid).and_then(|connection| {
            let link = connection.link.as_ref().filter(|link| !link.writable())?;
            // Answering would block the thread for a while, request after request.
            link.cut();
            Some((Arc::clone(&connection.socket), link.uid()))
        })
    };
    if let Some((socket, uid)) = refused {
        socket.charge_fault();
        socket.refused(uid, Refusal::NotReading);
    }
    // SAFETY: librte_vhost's message of this call.
    let mut message = unsafe { Message::new(msg) };
    match message.request() {
        message::RESET_OWNER => {
            guest_memory::clear_memory(vid);
            guest_memory::clear_log(vid);
        }
        message::SET_MEM_TABLE => guest_memory::clear_memory(vid),
        message::SET_LOG_BASE => {
            guest_memory::clear_log(vid);
            // 22.11 maps the file from the offset on and then adds the offset once more: it
            // would write where the frontend likes. QEMU's offset is zero.
            if message.log_offset() != 0 {
                message.spoil();
                cut(vid, Refusal::LogOffset);
            }
        }
        _ => {}
    }
    sys::RTE_VHOST_MSG_RESULT_NOT_HANDLED
}

/// After a request was acted upon with success; the locks are those of before.
unsafe extern "C" fn after_message(vid: c_int, msg: *mut c_void) -> sys::rte_vhost_msg_result {
    // SAFETY: librte_vhost's message of this call.
    let message = unsafe { Message::new(msg) };
    match message.request() {
        message::SET_MEM_TABLE => guest_memory::note_memory(vid),
        message::SET_LOG_BASE => guest_memory::note_log(vid),
        message::SET_VRING_CALL => {
            if let Some(vring) = message.vring_with_file()
                && !message::tame_doorbell(vid, vring)
            {
                cut(vid, Refusal::NotAnEventfd);
            }
        }
        _ => {}
    }
    sys::RTE_VHOST_MSG_RESULT_NOT_HANDLED
}

/// From the guard's thread: the memory of a device was truncated.
pub(super) fn memory_broken(vid: c_int) {
    cut(vid, Refusal::BrokenMemory);
    // Were the connection not known, the frontend stays; but its device is used no more.
    if let Some(device) = registry()
        .connections
        .get(&vid)
        .and_then(|c| c.device.as_ref())
    {
        device.publish_gone();
    }
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
        cut(vid, Refusal::Restarting);
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
    let (connection, in_service) = {
        let mut registry = registry();
        let connection = registry.connections.remove(&vid);
        let socket = connection.as_ref().map(|c| &c.socket);
        let in_service = socket.is_some_and(|s| registry.socket(&s.path).is_some());
        (connection, in_service)
    };
    guest_memory::forget(vid);
    let Some(Connection {
        socket,
        link,
        device,
        ..
    }) = connection
    else {
        return;
    };
    // The other side has not hung up, nor have we cut it off: librte_vhost gave up waiting
    // for the rest of a message, or refused one.
    if let Some(link) = link.filter(|link| in_service && link.connected()) {
        socket.charge_fault();
        socket.refused(link.uid(), Refusal::Garbled);
    }
    if let Some(device) = device {
        take_down(&socket, &device);
    }
}

fn too_many_queues(vid: c_int, socket: &Socket) {
    let allowed = socket.config.queues;
    cut(vid, Refusal::TooManyQueues { allowed });
}

/// Cuts a connection off and announces why.
pub(super) fn cut(vid: c_int, reason: Refusal) {
    let cut = {
        let registry = registry();
        registry.connections.get(&vid).map(|connection| {
            let link = connection.link.as_ref().inspect(|link| link.cut());
            (Arc::clone(&connection.socket), link.and_then(Link::uid))
        })
    };
    if let Some((socket, uid)) = cut {
        socket.charge_fault();
        socket.refused(uid, reason);
    }
}
