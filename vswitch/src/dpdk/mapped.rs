//! Counters in a shared file mapping: a plain store survives `kill -9` of the process,
//! because the page cache belongs to the kernel. Used for replay floors, which change with
//! every burst and must not be written by a system call each time.
//!
//! What it does not survive is the machine's own death; so the file remembers the kernel's
//! boot id, and [`Recovered::same_boot`] says whether the values can be trusted.
//!
//! Layout, little-endian: magic 8 | version u32 | zero u32 | slots u64 | boot id 36 bytes,
//! zeros up to 4096, then the slots, 8 bytes each. Whoever truncates the file under us
//! kills the process (SIGBUS): its directory is the daemon's own.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};

const MAGIC: [u8; 8] = *b"VSWCNTR\0";
const VERSION: u32 = 1;
const HEADER: usize = 4096;
const BOOT_ID_AT: usize = 24;
const BOOT_ID_LEN: usize = 36;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why a counter file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MappedError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// Others than the owner may read or write it.
    #[error("{path} has mode {mode:o}; it must be 600")]
    Mode {
        /// The file concerned.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a counter file of this version, or with another number of slots.
    #[error("{path} is not a counter file of version {VERSION} with {slots} slots")]
    Format {
        /// The file concerned.
        path: PathBuf,
        /// The slots asked for.
        slots: usize,
    },
    /// More slots than a file can hold.
    #[error("{0} slots are too many")]
    TooMany(usize),
}

/// What [`MappedCounters::open`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// There was no file; all slots are zero.
    pub created: bool,
    /// The values were last adopted under the running kernel, so every store before the
    /// process died is there. If not, a power cut may have taken the newest ones.
    pub same_boot: bool,
}

/// An array of counters that outlives the process. Only one process has it open.
pub struct MappedCounters {
    file: File,
    path: PathBuf,
    boot_id: [u8; BOOT_ID_LEN],
    map: NonNull<u8>,
    bytes: usize,
    slots: usize,
}

// SAFETY: the mapping is reached through atomics only and lives as long as self.
unsafe impl Send for MappedCounters {}
// SAFETY: as above.
unsafe impl Sync for MappedCounters {}

impl MappedCounters {
    /// Opens the file, or makes it (mode 0600, all zeros, durably there on return). One that
    /// exists must have exactly this number of slots.
    pub fn open(path: &Path, slots: usize) -> Result<(Self, Recovered), MappedError> {
        let io_error = |source| MappedError::Io {
            path: path.to_owned(),
            source,
        };
        let bytes = slots
            .checked_mul(size_of::<AtomicU64>())
            .and_then(|n| n.checked_add(HEADER))
            .filter(|&n| i64::try_from(n).is_ok())
            .ok_or(MappedError::TooMany(slots))?;
        let boot_id = boot_id()?;

        let (file, created) = match open_existing(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                create(path, slots, bytes, &boot_id).map_err(io_error)?;
                (open_existing(path).map_err(io_error)?, true)
            }
            other => (other.map_err(io_error)?, false),
        };
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| {
            if e == rustix::io::Errno::WOULDBLOCK {
                MappedError::InUse(path.to_owned())
            } else {
                io_error(e.into())
            }
        })?;

        let meta = file.metadata().map_err(io_error)?;
        let mode = meta.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(MappedError::Mode {
                path: path.to_owned(),
                mode,
            });
        }
        let bad = || MappedError::Format {
            path: path.to_owned(),
            slots,
        };
        if !meta.is_file() || meta.len() != bytes as u64 {
            return Err(bad());
        }
        let mut found = [0; BOOT_ID_AT + BOOT_ID_LEN];
        file.read_exact_at(&mut found, 0).map_err(io_error)?;
        if found[..BOOT_ID_AT] != header(slots, &boot_id)[..BOOT_ID_AT] {
            return Err(bad());
        }
        let same_boot = found[BOOT_ID_AT..] == boot_id;

        let map = map(&file, bytes).map_err(io_error)?;
        let counters = MappedCounters {
            file,
            path: path.to_owned(),
            boot_id,
            map,
            bytes,
            slots,
        };
        Ok((counters, Recovered { created, same_boot }))
    }

    /// All slots.
    #[inline]
    pub fn slots(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is HEADER + 8 × slots bytes, page-aligned (so is HEADER), lives
        // as long as self, and the kernel's zeros or any bytes of the file are valid u64s.
        // The lock keeps other processes out; in this one all access is by these atomics.
        unsafe { slice::from_raw_parts(self.map.add(HEADER).cast().as_ptr(), self.slots) }
    }

    /// Stores `value` in slot `index`, relaxed; false if there is no such slot.
    #[inline]
    #[must_use]
    pub fn store(&self, index: usize, value: u64) -> bool {
        self.slots()
            .get(index)
            .map(|slot| slot.store(value, Ordering::Relaxed))
            .is_some()
    }

    /// The value of slot `index`.
    #[inline]
    pub fn load(&self, index: usize) -> Option<u64> {
        self.slots()
            .get(index)
            .map(|slot| slot.load(Ordering::Relaxed))
    }

    /// Declares the values good under the running kernel, durably. To be called after a
    /// recovery with `same_boot` false, once the slots hold what is safe: were this done by
    /// `open`, a crash before that would pass the doubtful values off as good ones.
    pub fn adopt(&self) -> Result<(), MappedError> {
        self.sync()?;
        self.file
            .write_all_at(&self.boot_id, BOOT_ID_AT as u64)
            .and_then(|()| self.file.sync_data())
            .map_err(|e| self.io_error(e))
    }

    /// Writes all slots to the disk and waits for it. For control threads.
    pub fn sync(&self) -> Result<(), MappedError> {
        // SAFETY: the range is exactly our live mapping.
        let done = unsafe { libc::msync(self.map.as_ptr().cast(), self.bytes, libc::MS_SYNC) };
        if done == 0 {
            Ok(())
        } else {
            Err(self.io_error(io::Error::last_os_error()))
        }
    }

    fn io_error(&self, source: io::Error) -> MappedError {
        MappedError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for MappedCounters {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and no borrow of it outlives self.
        unsafe { libc::munmap(self.map.as_ptr().cast(), self.bytes) };
    }
}

fn boot_id() -> Result<[u8; BOOT_ID_LEN], MappedError> {
    let io_error = |source| MappedError::Io {
        path: BOOT_ID.into(),
        source,
    };
    let text = fs::read(BOOT_ID).map_err(io_error)?;
    text.first_chunk()
        .copied()
        .ok_or_else(|| io_error(io::Error::from(io::ErrorKind::UnexpectedEof)))
}

fn header(slots: usize, boot_id: &[u8; BOOT_ID_LEN]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend((slots as u64).to_le_bytes());
    bytes.extend(boot_id);
    bytes
}

fn open_existing(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Makes the whole file beside its place and then links it there, so that no crash leaves
/// half a file under its name and no second process's file is replaced.
fn create(path: &Path, slots: usize, bytes: usize, boot_id: &[u8; BOOT_ID_LEN]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new.{}", std::process::id()));
    let new = directory.join(name);
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    let made = (|| {
        // Allocated, not sparse: a full disk must fail here and not as SIGBUS in a worker.
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes as u64)?;
        file.write_all_at(&header(slots, boot_id), 0)?;
        file.sync_all()?;
        match fs::hard_link(&new, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    })();
    let removed = fs::remove_file(&new);
    made.and(removed)?;
    File::open(directory)?.sync_all()
}

fn map(file: &File, bytes: usize) -> io::Result<NonNull<u8>> {
    use std::os::fd::AsRawFd;
    // SAFETY: a new mapping at an address of the kernel's choice, over a file of `bytes`
    // bytes that we hold locked; it aliases nothing of Rust's.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outlive_a_process_that_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floors");
        let (counters, first) = MappedCounters::open(&path, 100).unwrap();
        assert_eq!(
            first,
            Recovered {
                created: true,
                same_boot: true
            }
        );
        assert!(matches!(
            MappedCounters::open(&path, 100),
            Err(MappedError::InUse(_))
        ));
        // SAFETY: the child only stores to shared memory and kills itself.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let _ = counters.store(0, 7);
            let _ = counters.store(99, u64::MAX);
            // SAFETY: no destructor runs, nothing is flushed: the point of the test.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        let mut status = 0;
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert!(libc::WIFSIGNALED(status));
        drop(counters);

        let (counters, again) = MappedCounters::open(&path, 100).unwrap();
        assert_eq!(
            again,
            Recovered {
                created: false,
                same_boot: true
            }
        );
        assert_eq!(counters.load(0), Some(7));
        assert_eq!(counters.load(99), Some(u64::MAX));
        assert_eq!(counters.load(100), None);
        assert!(!counters.store(100, 1));
        counters.sync().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn another_boot_stays_doubtful_until_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floors");
        drop(MappedCounters::open(&path, 1).unwrap());
        let file = open_existing(&path).unwrap();
        file.write_all_at(&[b'0'; BOOT_ID_LEN], BOOT_ID_AT as u64)
            .unwrap();
        drop(file);
        for _ in 0..2 {
            assert!(!MappedCounters::open(&path, 1).unwrap().1.same_boot);
        }
        MappedCounters::open(&path, 1).unwrap().0.adopt().unwrap();
        assert!(MappedCounters::open(&path, 1).unwrap().1.same_boot);
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floors");
        drop(MappedCounters::open(&path, 4).unwrap());
        assert!(matches!(
            MappedCounters::open(&path, 5),
            Err(MappedError::Format { .. })
        ));
        assert!(matches!(
            MappedCounters::open(&path, usize::MAX),
            Err(MappedError::TooMany(_))
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            MappedCounters::open(&path, 4),
            Err(MappedError::Mode { .. })
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        open_existing(&path).unwrap().write_all_at(b"X", 0).unwrap();
        assert!(matches!(
            MappedCounters::open(&path, 4),
            Err(MappedError::Format { .. })
        ));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(
            MappedCounters::open(&link, 4),
            Err(MappedError::Io { .. })
        ));
    }
}
