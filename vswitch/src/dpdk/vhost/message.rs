//! Messages of a frontend as librte_vhost shows them to its users, and what is mended in them
//! (vhost-user protocol: three 32-bit words, then the payload; native byte order).

use std::ffi::{c_int, c_void};
use std::fs;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use dpdk_sys as sys;
use rustix::event::{EventfdFlags, eventfd};

pub(super) const RESET_OWNER: u32 = 4;
pub(super) const SET_MEM_TABLE: u32 = 5;
pub(super) const SET_LOG_BASE: u32 = 6;
pub(super) const SET_VRING_CALL: u32 = 13;

/// In the payload of `SET_VRING_CALL`: the ring's index, and that there is no file.
const VRING_INDEX: u64 = 0xff;
const NO_FILE: u64 = 1 << 8;

/// A message during a callback.
pub(super) struct Message(Option<NonNull<u8>>);

impl Message {
    /// # Safety
    /// `message` is what librte_vhost gave to a callback that has not returned: null or a
    /// `struct VhostUserMsg`, of which at least 28 bytes are there.
    pub(super) unsafe fn new(message: *mut c_void) -> Self {
        Message(NonNull::new(message.cast()))
    }

    fn word<T: Copy + Default>(&self, at: usize) -> T {
        debug_assert!(at + size_of::<T>() <= 28);
        // SAFETY: as `new` was told; the structure is packed.
        self.0.map_or_else(T::default, |message| unsafe {
            message.add(at).cast::<T>().read_unaligned()
        })
    }

    pub(super) fn request(&self) -> u32 {
        self.word(0)
    }

    /// Of `SET_LOG_BASE`: its second word.
    pub(super) fn log_offset(&self) -> u64 {
        self.word(20)
    }

    /// Of `SET_VRING_CALL`: the ring, if there is a file for it.
    pub(super) fn vring_with_file(&self) -> Option<u16> {
        let payload: u64 = self.word(12);
        (payload & NO_FILE == 0).then_some((payload & VRING_INDEX) as u16)
    }

    /// Makes librte_vhost refuse the message and close its files: a payload of no bytes is of
    /// no request that has one.
    pub(super) fn spoil(&mut self) {
        if let Some(message) = self.0 {
            // SAFETY: the size field, as `new` was told.
            unsafe { message.add(8).cast::<u32>().write_unaligned(0) };
        }
    }
}

/// Sees that a worker which notifies a guest never waits: the file must be an eventfd, and
/// not block when its counter is full. One that is none is exchanged for a fresh eventfd that
/// nobody reads. False if that was so. Only in a callback, with the ring locked.
pub(super) fn tame_doorbell(vid: c_int, vring: u16) -> bool {
    // SAFETY: all zeros is a valid value, numbers and null pointers; it is an out-parameter,
    // and vid the device of the call.
    let fd = unsafe {
        let mut ring: sys::rte_vhost_vring = std::mem::zeroed();
        if sys::rte_vhost_get_vhost_vring(vid, vring, &mut ring) != 0 {
            return true;
        }
        ring.callfd
    };
    if fd < 0 {
        return true;
    }
    let is = fs::read_link(format!("/proc/self/fd/{fd}"));
    let tame = is.is_ok_and(|is| is.as_os_str() == "anon_inode:[eventfd]") && never_blocks(fd);
    if !tame {
        let Ok(nobodys) = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) else {
            return false;
        };
        // SAFETY: librte_vhost knows its descriptor by number only and keeps it open.
        unsafe { libc::dup3(nobodys.as_raw_fd(), fd, libc::O_CLOEXEC) };
    }
    tame
}

fn never_blocks(fd: c_int) -> bool {
    // SAFETY: librte_vhost keeps it open during the callback.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    let flags = rustix::fs::fcntl_getfl(fd);
    flags.is_ok_and(|flags| {
        rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK).is_ok()
    })
}
