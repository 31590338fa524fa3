//! Calls on EAL's interrupt thread. A driver that does its control work there (memif: connections
//! come and go by its callbacks) takes no lock against a port that is stopped or closed meanwhile
//! on another thread: DPDK 22.11 then reads a handle that was freed. There, nothing is meanwhile.

use std::ffi::c_void;
use std::sync::mpsc;

use dpdk_sys as sys;

type Work<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Makes a call on the interrupt thread and waits for it; on this one if it cannot be made there.
/// Not for that thread itself.
pub(in crate::dpdk) fn on_interrupt_thread<R: Send>(call: impl FnOnce() -> R + Send) -> R {
    let (done, wait) = mpsc::sync_channel(1);
    let work: Work<'_> = Box::new(move || {
        // The receiver waits below.
        let _ = done.send(call());
    });
    let work = Box::into_raw(Box::new(work));
    // SAFETY: EAL runs; it hands `work` to `run` once, which owns it then. What it borrows lives:
    // this function does not return before `work` was run, or dropped, which hangs up the channel.
    let set = unsafe { sys::rte_eal_alarm_set(1, Some(run), work.cast()) };
    if set != 0 {
        // SAFETY: EAL did not take it; it is the box made above.
        let work = unsafe { Box::from_raw(work) };
        work();
    }
    match wait.recv() {
        Ok(result) => result,
        // Its thread ended in the middle of it: nothing is known of the port any more.
        Err(mpsc::RecvError) => std::process::abort(),
    }
}

unsafe extern "C" fn run(work: *mut c_void) {
    // SAFETY: the box of `on_interrupt_thread`, given up to this call.
    let work = unsafe { Box::from_raw(work.cast::<Work<'static>>()) };
    work();
}
