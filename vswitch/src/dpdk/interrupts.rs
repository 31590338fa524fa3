//! The end of EAL's interrupt thread. DPDK 22.11 lets it run on while `rte_eal_cleanup` unmaps EAL's
//! memory, and some drivers leave handles there that the thread still watches (memif: the listening
//! socket of a closed server): whatever it wakes up for next, it reads unmapped memory.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use dpdk_sys as sys;
use rustix::event::{EventfdFlags, eventfd};

use super::error::Errno;

/// For the thread to finish what it is doing; a driver's callback takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the parked thread keeps: its event is watched as long as it runs.
struct Parking {
    parked: Sender<()>,
    _event: OwnedFd,
}

/// Has the interrupt thread do nothing from now on, until the process ends. Gives false if it could
/// not be had.
pub(in crate::dpdk) fn park_interrupt_thread() -> bool {
    // An event that has happened already.
    let Ok(event) = eventfd(1, EventfdFlags::CLOEXEC) else {
        return false;
    };
    let fd = event.as_raw_fd();
    let (parked, wait) = mpsc::channel::<()>();
    let parking = Box::into_raw(Box::new(Parking {
        parked,
        _event: event,
    }));
    // SAFETY: EAL runs. The handle is the process's own memory, not EAL's (no flag asks for that),
    // and is never freed once the thread has it; calls on a null handle are refused. `park` gets
    // `parking` once, since it never returns.
    let registered = unsafe {
        let handle = sys::rte_intr_instance_alloc(0);
        Errno::check(sys::rte_intr_fd_set(handle, fd))
            .and_then(|_| Errno::check(sys::rte_intr_type_set(handle, sys::RTE_INTR_HANDLE_EXT)))
            .and_then(|_| {
                let park = Some(park as unsafe extern "C" fn(*mut c_void));
                Errno::check(sys::rte_intr_callback_register(
                    handle,
                    park,
                    parking.cast(),
                ))
            })
    };
    // `parking` is kept after an error too: one of them is told when the callback is in place.
    registered.is_ok() && wait.recv_timeout(PATIENCE).is_ok()
}

unsafe extern "C" fn park(parking: *mut c_void) {
    // SAFETY: the box of `park_interrupt_thread`, given up to this call.
    let parking = unsafe { Box::from_raw(parking.cast::<Parking>()) };
    // Whoever waited may have lost patience.
    let _ = parking.parked.send(());
    // None of EAL's locks is held while callbacks run.
    loop {
        std::thread::park();
    }
}
