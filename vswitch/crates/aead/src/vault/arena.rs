//! One stretch of memory for keys between two guard pages.

use core::ptr::NonNull;

use super::VaultError;

/// Bytes of a page. The kernel's may be larger, in which case the mappings below fail loudly:
/// x86-64 has no others.
pub(super) const PAGE: usize = 4096;

/// How the memory is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// `memfd_secret(2)`: only this process's own instructions reach it.
    Secret,
    /// Locked and not dumped; root reads it through `/proc/PID/mem`.
    Locked,
}

impl Memory {
    /// The name for logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secret => "memfd_secret",
            Self::Locked => "mlock",
        }
    }
}

/// The stretch. Unmapped on drop, whatever is in it: the slots wipe themselves.
pub(super) struct Arena {
    /// Where the usable part begins, page-aligned.
    base: NonNull<u8>,
    bytes: usize,
    memory: Memory,
}

// SAFETY: it owns its mapping, and hands out no more than addresses.
unsafe impl Send for Arena {}

impl Arena {
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn memory(&self) -> Memory {
        self.memory
    }

    pub(super) fn contains(&self, at: NonNull<u8>) -> bool {
        let offset = (at.as_ptr() as usize).wrapping_sub(self.base.as_ptr() as usize);
        offset < self.bytes
    }

    /// The best memory there is, `pages` of it, all zeros.
    pub(super) fn new(pages: usize) -> Result<Self, VaultError> {
        match Self::of(pages, Memory::Secret) {
            // A kernel without it, or a filter of system calls.
            Err(VaultError::System { .. }) => Self::of(pages, Memory::Locked),
            other => other,
        }
    }
}

#[cfg(not(miri))]
mod system {
    use core::ffi::c_int;
    use core::ptr::{self, NonNull};
    use std::io;

    use super::{Arena, Memory, PAGE, VaultError};

    impl Arena {
        /// `pages` of memory of one kind.
        pub(in crate::vault) fn of(pages: usize, memory: Memory) -> Result<Self, VaultError> {
            match Self::map(pages, memory) {
                Err(error @ VaultError::Limit { .. }) => {
                    if raise_limit() {
                        Self::map(pages, memory)
                    } else {
                        Err(error)
                    }
                }
                other => other,
            }
        }

        fn map(pages: usize, memory: Memory) -> Result<Self, VaultError> {
            let bytes = pages.saturating_mul(PAGE);
            let whole = bytes.saturating_add(2 * PAGE);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            // SAFETY: a new mapping at an address of the kernel's choice.
            let at = unsafe { libc::mmap(ptr::null_mut(), whole, libc::PROT_NONE, flags, -1, 0) };
            let reserved = Some(at).filter(|at| *at != libc::MAP_FAILED);
            let reserved = reserved.and_then(|at| NonNull::new(at.cast::<u8>()));
            let reserved = reserved.ok_or_else(|| system("reserving addresses"))?;
            // SAFETY: within the reservation, one guard page behind its start.
            let base = unsafe { reserved.add(PAGE) };
            // From here on dropping it takes the reservation back.
            let arena = Arena {
                base,
                bytes,
                memory,
            };
            match memory {
                Memory::Secret => arena.fill_with_secret()?,
                Memory::Locked => arena.fill_with_locked()?,
            }
            for (advice, doing) in [
                (libc::MADV_DONTFORK, "keeping it from children"),
                (libc::MADV_DONTDUMP, "keeping it out of core dumps"),
            ] {
                // SAFETY: our own mapping.
                let advised = unsafe { libc::madvise(base.as_ptr().cast(), bytes, advice) };
                done(advised, doing)?;
            }
            for page in 0..pages {
                // SAFETY: within our own fresh mapping, which nobody else knows. Touched now:
                // later there is nobody to tell that no page is left.
                unsafe { base.add(page * PAGE).write_volatile(0) };
            }
            Ok(arena)
        }

        fn fill_with_secret(&self) -> Result<(), VaultError> {
            // SAFETY: no pointers. The flag is O_CLOEXEC: memfd_secret(2) has FD_CLOEXEC, which
            // the kernel refuses (mm/secretmem.c).
            let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
            let fd = c_int::try_from(fd).unwrap_or(-1);
            done(fd.min(0), "memfd_secret")?;
            let mapped = (|| {
                // SAFETY: a descriptor of our own.
                let sized = unsafe { libc::ftruncate(fd, self.bytes as libc::off_t) };
                done(sized, "sizing it")?;
                self.put(libc::MAP_SHARED, fd)
            })();
            // SAFETY: a descriptor of our own, not used any more: the mapping stays.
            unsafe { libc::close(fd) };
            mapped
        }

        fn fill_with_locked(&self) -> Result<(), VaultError> {
            self.put(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
            // SAFETY: our own mapping.
            if unsafe { libc::mlock(self.base.as_ptr().cast(), self.bytes) } == 0 {
                return Ok(());
            }
            Err(limited("locking it"))
        }

        /// Maps over the reservation, guard pages excepted.
        fn put(&self, kind: c_int, fd: c_int) -> Result<(), VaultError> {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: replaces a part of our own reservation, which nobody uses yet.
            let at = unsafe {
                libc::mmap(
                    self.base.as_ptr().cast(),
                    self.bytes,
                    access,
                    kind | libc::MAP_FIXED,
                    fd,
                    0,
                )
            };
            if at == libc::MAP_FAILED {
                return Err(limited("mapping it"));
            }
            Ok(())
        }
    }

    impl Drop for Arena {
        fn drop(&mut self) {
            // SAFETY: our own mapping and its guard pages; no slot of it is in use.
            unsafe { libc::munmap(self.base.as_ptr().sub(PAGE).cast(), self.bytes + 2 * PAGE) };
        }
    }

    fn done(result: c_int, doing: &'static str) -> Result<(), VaultError> {
        if result < 0 {
            Err(system(doing))
        } else {
            Ok(())
        }
    }

    fn system(doing: &'static str) -> VaultError {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        VaultError::System { doing, errno }
    }

    /// What refuses locked memory says so by three numbers (mlock(2), mmap(2)).
    fn limited(doing: &'static str) -> VaultError {
        match system(doing) {
            VaultError::System {
                errno: libc::EAGAIN | libc::ENOMEM | libc::EPERM,
                ..
            } => VaultError::Limit {
                limit: limits().map_or(0, |l| l.rlim_cur),
            },
            other => other,
        }
    }

    fn limits() -> Option<libc::rlimit> {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: room for the answer.
        let got = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
        (got == 0).then_some(limit)
    }

    /// Raises the soft limit to the hard one; false if that changes nothing.
    fn raise_limit() -> bool {
        let Some(mut limit) = limits().filter(|l| l.rlim_cur < l.rlim_max) else {
            return false;
        };
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: only read by the callee.
        unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) == 0 }
    }
}

/// Under Miri, which knows neither system call: the same slots on the heap.
#[cfg(miri)]
mod system {
    use core::ptr::NonNull;
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    use super::{Arena, Memory, PAGE, VaultError};

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, PAGE).unwrap_or(Layout::new::<[u8; PAGE]>())
    }

    impl Arena {
        pub(in crate::vault) fn of(pages: usize, memory: Memory) -> Result<Self, VaultError> {
            let bytes = pages * PAGE;
            // SAFETY: of at least a page.
            let base = NonNull::new(unsafe { alloc_zeroed(layout(bytes)) });
            let base = base.ok_or(VaultError::Limit { limit: 0 })?;
            Ok(Arena {
                base,
                bytes,
                memory,
            })
        }
    }

    impl Drop for Arena {
        fn drop(&mut self) {
            // SAFETY: allocated above with this layout.
            unsafe { dealloc(self.base.as_ptr(), layout(self.bytes)) };
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    /// The flags of the mapping that begins at an address, as the kernel tells them.
    fn flags_of(at: NonNull<u8>) -> String {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let head = format!("{:x}-", at.as_ptr() as usize);
        let mut lines = maps.lines().skip_while(|line| !line.starts_with(&head));
        lines
            .find(|line| line.starts_with("VmFlags:"))
            .unwrap()
            .to_owned()
    }

    /// What another process would read of us.
    fn read(at: NonNull<u8>, offset: isize) -> Option<u8> {
        let memory = File::open("/proc/self/mem").unwrap();
        let mut byte = [0];
        let at = (at.as_ptr() as usize).wrapping_add_signed(offset);
        memory.read_exact_at(&mut byte, at as u64).ok()?;
        Some(byte[0])
    }

    #[test]
    fn both_kinds_are_locked_not_dumped_and_not_inherited() {
        for memory in [Memory::Secret, Memory::Locked] {
            let arena = match Arena::of(3, memory) {
                Ok(arena) => arena,
                // An older kernel, or one that was started without it.
                Err(VaultError::System {
                    errno: libc::ENOSYS,
                    ..
                }) if memory == Memory::Secret => continue,
                Err(error) => panic!("{error}"),
            };
            // SAFETY: the arena's own memory.
            unsafe { arena.base().add(2 * PAGE + 9).write_volatile(0x5a) };
            let flags = flags_of(arena.base());
            for flag in ["lo", "dd", "dc"] {
                assert!(flags.split(' ').any(|f| f == flag), "{memory:?}: {flags}");
            }
            let seen = read(arena.base(), 2 * PAGE as isize + 9);
            assert_eq!(
                seen,
                match memory {
                    Memory::Secret => None,
                    Memory::Locked => Some(0x5a),
                }
            );
            // The guard pages: no access, on either side.
            let maps = fs::read_to_string("/proc/self/maps").unwrap();
            let (from, to) = (
                arena.base().as_ptr() as usize,
                arena.base().as_ptr() as usize + 3 * PAGE,
            );
            let guards = [format!("{:x} ---p", from), format!("{:x}-", to)];
            assert!(
                maps.lines().any(|l| l.contains(&format!("-{}", guards[0]))),
                "{maps}"
            );
            let behind = maps.lines().find(|l| l.starts_with(&guards[1])).unwrap();
            assert!(behind.contains(" ---p "), "{behind}");
        }
    }

    #[test]
    fn the_kinds_have_names() {
        assert_eq!(Memory::Secret.name(), "memfd_secret");
        assert_eq!(Memory::Locked.name(), "mlock");
    }
}
