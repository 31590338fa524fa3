//! What a frontend can do to us by the memory it shares: a file that is truncated while we
//! have it mapped turns every access into SIGBUS. Here that costs the frontend its port and
//! not the process.
//!
//! The handler looks the address up among the mappings of all guests, puts zeros in place of
//! what is missing, notes the device as broken and wakes a thread that cuts it off. It is
//! async-signal-safe: atomics, `mmap`, `write`. A fault elsewhere goes where it went before.
//!
//! librte_vhost's event thread touches a guest's memory before it has told us of it (within
//! the message that maps it), so what it touches is also attributed to the frontend whose
//! message it handles. Known limit: while EAL takes more hugepages it has a SIGBUS handler of
//! its own (`eal_memalloc.c`).

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::thread;

use dpdk_sys as sys;
use rustix::event::{EventfdFlags, eventfd};

use super::callbacks;

/// Devices that librte_vhost has at most (`RTE_MAX_VHOST_DEVICE`).
const DEVICES: usize = 1024;
/// Memory regions of one (`VHOST_MEMORY_MAX_NREGIONS`).
const REGIONS: usize = 8;
/// The smallest page; others are multiples.
const PAGE: usize = 4096;
const HUGE_PAGES: [usize; 3] = [PAGE, 2 << 20, 1 << 30];

/// A mapping of a guest's file. `bytes` is zero while the others change.
struct Region {
    start: AtomicUsize,
    bytes: AtomicUsize,
    page: AtomicUsize,
}

impl Region {
    const fn none() -> Self {
        Region {
            start: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            page: AtomicUsize::new(PAGE),
        }
    }

    fn set(&self, start: usize, bytes: usize, page: usize) {
        self.start.store(start, Ordering::Relaxed);
        self.page.store(page, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Release);
    }

    /// From the page of `address` to the end, if it is within.
    fn rest(&self, address: usize) -> Option<(usize, usize)> {
        let bytes = self.bytes.load(Ordering::Acquire);
        let start = self.start.load(Ordering::Relaxed);
        if address.wrapping_sub(start) >= bytes {
            return None;
        }
        let page = self.page.load(Ordering::Relaxed);
        let from = (address & !(page - 1)).max(start);
        Some((from, start + bytes - from))
    }
}

struct Guest {
    memory: [Region; REGIONS],
    /// Dirty pages, for live migration.
    log: [Region; 1],
    broken: AtomicBool,
}

static GUESTS: [Guest; DEVICES] = [const {
    Guest {
        memory: [const { Region::none() }; REGIONS],
        log: [const { Region::none() }; 1],
        broken: AtomicBool::new(false),
    }
}; DEVICES];

/// Wakes the thread that cuts off; -1 before there is one.
static WAKE: AtomicI32 = AtomicI32::new(-1);

thread_local! {
    /// The device whose message this thread handles or handled last; -1 if none.
    static HANDLING: Cell<c_int> = const { Cell::new(-1) };
}

fn guest(vid: c_int) -> Option<&'static Guest> {
    GUESTS.get(usize::try_from(vid).ok()?)
}

/// This thread handles a message of the device from here on.
pub(super) fn handling(vid: c_int) {
    HANDLING.set(vid);
}

/// A connection begins or ends: nothing of its predecessor's is left.
pub(super) fn forget(vid: c_int) {
    clear_memory(vid);
    clear_log(vid);
    if let Some(guest) = guest(vid) {
        guest.broken.store(false, Ordering::Relaxed);
    }
    if HANDLING.get() == vid {
        HANDLING.set(-1);
    }
}

fn clear(regions: &[Region]) {
    for region in regions {
        region.bytes.store(0, Ordering::SeqCst);
    }
}

/// The device's memory is about to be mapped anew, or unmapped.
pub(super) fn clear_memory(vid: c_int) {
    clear(guest(vid).map_or(&[], |guest| &guest.memory));
}

/// The same of its log of dirty pages.
pub(super) fn clear_log(vid: c_int) {
    clear(guest(vid).map_or(&[], |guest| &guest.log));
}

/// Notes what of the guest's memory is mapped now. Only in the callback after a memory table
/// was taken: without one, librte_vhost (22.11) follows a null pointer.
pub(super) fn note_memory(vid: c_int) {
    clear_memory(vid);
    let Some(guest) = guest(vid) else { return };
    let mut table = ptr::null_mut();
    // SAFETY: the device of the call, which has a table; on success a copy is ours to free.
    if unsafe { sys::rte_vhost_get_mem_table(vid, &mut table) } != 0 || table.is_null() {
        return;
    }
    // SAFETY: as the library made it: as many regions as it says.
    unsafe {
        let count = (*table).nregions as usize;
        for (place, region) in guest.memory.iter().zip((*table).regions.as_slice(count)) {
            let page = page_of(region.fd);
            place.set(region.mmap_addr as usize, region.mmap_size as usize, page);
        }
        libc::free(table.cast());
    }
}

/// Notes the mapping of the log, which begins at its base (see `callbacks`: no offset).
pub(super) fn note_log(vid: c_int) {
    clear_log(vid);
    let Some(guest) = guest(vid) else { return };
    let (mut base, mut bytes) = (0, 0);
    // SAFETY: the device of the call; out-parameters.
    let known = unsafe { sys::rte_vhost_get_log_base(vid, &mut base, &mut bytes) } == 0;
    if let [place] = &guest.log
        && known
        && base != 0
    {
        place.set(base as usize, bytes as usize, PAGE);
    }
}

/// The page size of a file: hugetlbfs tells it so.
fn page_of(fd: c_int) -> usize {
    // SAFETY: all zeros is a valid stat; the descriptor is librte_vhost's and stays open.
    let blksize = unsafe {
        let mut stat: libc::stat = mem::zeroed();
        if libc::fstat(fd, &mut stat) != 0 {
            return PAGE;
        }
        stat.st_blksize
    };
    let size = usize::try_from(blksize).unwrap_or(PAGE);
    if HUGE_PAGES.contains(&size) {
        size
    } else {
        PAGE
    }
}

/// Installs the handler and starts the thread, once.
pub(super) fn watch() -> io::Result<()> {
    static WATCHING: OnceLock<Result<OwnedFd, i32>> = OnceLock::new();
    let watching = WATCHING.get_or_init(|| begin().map_err(|e| e.raw_os_error().unwrap_or(0)));
    match watching {
        Ok(_) => Ok(()),
        Err(errno) => Err(io::Error::from_raw_os_error(*errno)),
    }
}

fn begin() -> io::Result<OwnedFd> {
    let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
    let wait = wake.try_clone()?;
    thread::Builder::new()
        .name("vhost-guard".into())
        .spawn(move || cut_off_broken(&wait))?;
    WAKE.store(wake.as_raw_fd(), Ordering::Release);
    // SAFETY: a valid handler of three arguments that only does what a handler may; the old
    // action is kept before the new one can be called.
    unsafe {
        let mut old: libc::sigaction = mem::zeroed();
        if libc::sigaction(libc::SIGBUS, ptr::null(), &mut old) != 0 {
            return Err(io::Error::last_os_error());
        }
        let _ = BEFORE.set(Before(old));
        let mut new: libc::sigaction = mem::zeroed();
        new.sa_sigaction = on_sigbus as extern "C" fn(_, _, _) as usize;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        if libc::sigaction(libc::SIGBUS, &new, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(wake)
}

struct Before(libc::sigaction);

/// What SIGBUS did before: the default, or the runtime's search for stack overflows.
static BEFORE: OnceLock<Before> = OnceLock::new();

extern "C" fn on_sigbus(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel gives a valid one with SA_SIGINFO; the address is set for faults.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // Positive: a fault, and not somebody's kill(2).
    if code > 0 && mend(address) {
        return;
    }
    // SAFETY: sigaction(2) and raise(3) are async-signal-safe. On return the faulting
    // instruction runs again, under the earlier action; a signal that was sent is sent again.
    unsafe {
        match BEFORE.get() {
            Some(before) => libc::sigaction(libc::SIGBUS, &before.0, ptr::null_mut()),
            None => 0,
        };
        if code <= 0 {
            libc::raise(libc::SIGBUS);
        }
    }
}

/// Puts zeros where a guest's memory is gone; false if the address is no guest's.
fn mend(address: usize) -> bool {
    let found = GUESTS.iter().enumerate().find_map(|(vid, guest)| {
        let mut regions = guest.memory.iter().chain(&guest.log);
        Some((vid, regions.find_map(|region| region.rest(address))?))
    });
    let (vid, mended) = match found {
        // What is behind a place that is gone is gone too: one fault is enough.
        Some((vid, (from, bytes))) => (vid, put_zeros(from, bytes)),
        None => {
            let Ok(vid) = usize::try_from(HANDLING.get()) else {
                return false;
            };
            // The mapping is not known, nor the size of its pages: a smaller one is refused.
            let mut sizes = HUGE_PAGES.iter();
            let mended = sizes.any(|page| put_zeros(address & !(page - 1), *page));
            (vid, mended)
        }
    };
    if mended {
        if let Some(guest) = GUESTS.get(vid) {
            guest.broken.store(true, Ordering::Release);
        }
        wake();
    }
    mended
}

fn put_zeros(from: usize, bytes: usize) -> bool {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: replaces a part of a mapping of a guest's memory, in which nothing of Rust's
    // lives and which librte_vhost unmaps by address and length, whatever is there.
    let at = unsafe { libc::mmap(from as *mut c_void, bytes, access, kind, -1, 0) };
    at != libc::MAP_FAILED
}

fn wake() {
    let one = 1_u64;
    let fd = WAKE.load(Ordering::Acquire);
    // SAFETY: eight bytes of our own; write(2) is async-signal-safe. It would block after
    // 2^64 faults that nobody read.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(fd, (&raw const one).cast(), size_of::<u64>());
        *libc::__errno_location() = errno;
    }
}

/// The thread's life.
fn cut_off_broken(wait: &OwnedFd) {
    let mut count = [0; 8];
    loop {
        match rustix::io::read(wait, &mut count) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "guests with broken memory are no longer cut off");
                return;
            }
        }
        for (vid, guest) in GUESTS.iter().enumerate() {
            if guest.broken.swap(false, Ordering::AcqRel) {
                callbacks::memory_broken(vid as c_int);
            }
        }
    }
}
