//! What must outlive the process: sequence numbers are reserved in blocks, durably, before
//! the first of them is used, and the replay floor survives a kill.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use rustix::fs::{FlockOperation, flock};
use vswitch_sa::reservation::{self, Direction as Kept, Record, next_block};
use vswitch_sa::{Fingerprint, Spi};

use super::keys::KeyError;
use crate::dpdk::mapped::MappedCounters;

/// Sequence numbers reserved at once with ESN: at 10 Mpps a block lasts 0.4 s, a durable
/// write some milliseconds.
const BLOCK: u64 = 1 << 22;
/// Likewise of the 2³² without ESN: 4,096 restarts.
const SHORT_BLOCK: u64 = 1 << 20;

/// Where the locks of keys lie, for all daemons of the host whatever their state directory.
const LOCKS: &str = "/run/lock";

/// The directory with the state; it and the keys in use are locked while this lives.
pub struct StateDir {
    path: PathBuf,
    locks: PathBuf,
    /// On a file system in memory.
    volatile: bool,
    held: BTreeMap<Fingerprint, Held>,
    /// Floors that somebody still has: the file of one is opened once.
    floors: BTreeMap<Fingerprint, Weak<MappedCounters>>,
    _lock: File,
}

/// An outbound key of this process.
struct Held {
    known: Option<Known>,
    _lock: Option<File>,
}

/// What this process has reserved of a key.
#[derive(Clone, Copy)]
struct Known {
    /// Exclusive end of what was handed out.
    until: u64,
    /// Exclusive end of the last attempt; one that failed may have reached the disk.
    tried: u64,
}

impl StateDir {
    /// Makes the directory (0700) if it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        Self::open_with(path, Path::new(LOCKS))
    }

    /// As [`Self::open`], with the keys' locks in another directory.
    fn open_with(path: &Path, locks: &Path) -> Result<Self, KeyError> {
        let io = |doing| {
            move |source| KeyError::Io {
                path: path.to_owned(),
                doing,
                source,
            }
        };
        create_durably(path).map_err(io("create the state directory"))?;
        let meta = fs::metadata(path).map_err(io("look at the state directory"))?;
        let us = rustix::process::geteuid().as_raw();
        if (meta.uid() != us && meta.uid() != 0) || meta.mode() & 0o022 != 0 {
            return Err(KeyError::Unsafe {
                path: path.to_owned(),
                owner: meta.uid(),
                mode: meta.mode() & 0o7777,
                us,
            });
        }
        let lock = lock_file(&path.join("lock")).map_err(io("open the lock file"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| KeyError::InUse(path.to_owned()))?;
        Ok(StateDir {
            path: path.to_owned(),
            locks: locks.to_owned(),
            volatile: in_memory(path),
            held: BTreeMap::new(),
            floors: BTreeMap::new(),
            _lock: lock,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a key this process's own: two daemons with different state directories would
    /// each reserve the same numbers.
    fn claim(&mut self, key: Fingerprint) -> Result<(), KeyError> {
        if self.held.contains_key(&key) {
            return Ok(());
        }
        if self.volatile && self.held.is_empty() {
            tracing::warn!(
                path = %self.path.display(),
                "the state directory is in memory: reservations of sequence numbers are lost \
                 when the host restarts, and EVERY manual outbound key must be replaced then, or \
                 nonces repeat"
            );
        }
        let path = self.locks.join(format!("vswitch-key-{key}.lock"));
        let lock = match lock_file(&path) {
            Ok(file) => {
                flock(&file, FlockOperation::NonBlockingLockExclusive)
                    .map_err(|_| KeyError::KeyInUse(path))?;
                Some(file)
            }
            // A service without this directory is not kept from working, only less guarded.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                tracing::warn!(
                    path = %path.display(), %error,
                    "no lock for the key: nothing notices a second daemon that sends under it"
                );
                None
            }
            Err(source) => {
                let doing = "open the key's lock";
                return Err(KeyError::Io {
                    path,
                    doing,
                    source,
                });
            }
        };
        let held = Held {
            known: None,
            _lock: lock,
        };
        self.held.insert(key, held);
        Ok(())
    }

    /// Reserves the next block of a key's sequence numbers. When this returns, the
    /// reservation is on the disk. If it fails it can be tried again.
    pub fn reserve(
        &mut self,
        spi: Spi,
        key: Fingerprint,
        esn: bool,
    ) -> Result<reservation::Block, KeyError> {
        self.refuse_if_recorded(Kept::Inbound, key)?;
        self.claim(key)?;
        let file = self.path.join(Record::file_name(Kept::Outbound, key));
        let recorded = read_record(&file, key)?;
        let known = self.held.get(&key).and_then(|held| held.known);
        let base = match known {
            Some(known) => Some(known.reconcile(recorded, &file)?),
            None => recorded,
        };
        let size = if esn { BLOCK } else { SHORT_BLOCK };
        let block = next_block(base, size).map_err(|_| KeyError::Exhausted(file.clone()))?;
        if !esn && block.first > u64::from(u32::MAX) {
            return Err(KeyError::Exhausted(file));
        }
        self.note(key, known.map_or(block.first, |k| k.until), block.until);
        let record = Record {
            direction: Kept::Outbound,
            spi,
            key,
            sequence: block.until,
        };
        self.write_durably(&file, &record.encode())?;
        self.note(key, block.until, block.until);
        Ok(block)
    }

    fn note(&mut self, key: Fingerprint, until: u64, tried: u64) {
        if let Some(held) = self.held.get_mut(&key) {
            held.known = Some(Known { until, tried });
        }
    }

    /// A key that the other end sealed under must not be one that this end seals under, also
    /// after the association is gone, and the other way round.
    fn refuse_if_recorded(&self, direction: Kept, key: Fingerprint) -> Result<(), KeyError> {
        let file = self.path.join(Record::file_name(direction, key));
        match file.exists() {
            true => Err(KeyError::OtherDirection(file)),
            false => Ok(()),
        }
    }

    /// Write beside, sync, rename, sync the directory: after a crash either the old record
    /// or the new one is there, whole.
    pub(super) fn write_durably(&self, file: &Path, text: &str) -> Result<(), KeyError> {
        let io = |doing| {
            move |source| KeyError::Io {
                path: file.to_owned(),
                doing,
                source,
            }
        };
        let beside = file.with_extension("new");
        let mut out = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)
            .map_err(io("write the record"))?;
        out.write_all(text.as_bytes())
            .map_err(io("write the record"))?;
        out.sync_all().map_err(io("sync the record"))?;
        fs::rename(&beside, file).map_err(io("replace the record"))?;
        File::open(&self.path)
            .and_then(|dir| dir.sync_all())
            .map_err(io("sync the state directory"))
    }

    /// The place where the highest accepted number of a key is kept, and that number.
    pub(super) fn floor(
        &mut self,
        key: Fingerprint,
    ) -> Result<(Arc<MappedCounters>, u64), KeyError> {
        if let Some(table) = self.floors.get(&key).and_then(Weak::upgrade) {
            let floor = table.load(0).unwrap_or(0);
            return Ok((table, floor));
        }
        self.refuse_if_recorded(Kept::Outbound, key)?;
        let name = Record::file_name(Kept::Inbound, key);
        let (table, recovered) = MappedCounters::open(&self.path.join(name), 1)?;
        let floor = table.load(0).unwrap_or(0);
        if !recovered.same_boot {
            if !recovered.created {
                tracing::warn!(
                    floor,
                    "the host restarted: packets received in the last second before may be \
                     replayed once (manual keys only)"
                );
            }
            table.adopt()?;
        }
        let table = Arc::new(table);
        self.floors.retain(|_, known| known.strong_count() > 0);
        self.floors.insert(key, Arc::downgrade(&table));
        Ok((table, floor))
    }
}

impl Known {
    /// Where this process goes on: after what it has handed out, whatever became of the file.
    fn reconcile(self, recorded: Option<u64>, file: &Path) -> Result<u64, KeyError> {
        match recorded {
            // As left, or by an attempt of ours that failed late: nobody has those numbers.
            Some(recorded) if (self.until..=self.tried).contains(&recorded) => {}
            // Below is somebody's, and the SA would go on right through it.
            Some(recorded) if recorded > self.tried => {
                return Err(KeyError::Foreign {
                    path: file.to_owned(),
                    recorded,
                    known: self.tried,
                });
            }
            // A first attempt of ours that failed wrote nothing.
            None if self.until == 1 => {}
            lost => tracing::error!(
                path = %file.display(), recorded = lost, known = self.until,
                "the record of used sequence numbers was REMOVED OR SET BACK while the switch \
                 runs; it is written anew from memory. Find out who did it: had the switch been \
                 restarted, nonces would have repeated"
            ),
        }
        Ok(self.until)
    }
}

/// The recorded end of what is reserved; `None` if there is no record.
fn read_record(file: &Path, key: Fingerprint) -> Result<Option<u64>, KeyError> {
    match fs::read_to_string(file) {
        Ok(text) => Record::decode_for(&text, Kept::Outbound, key)
            .map(|record| Some(record.sequence))
            .map_err(|source| KeyError::Record {
                path: file.to_owned(),
                source,
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyError::Io {
            path: file.to_owned(),
            doing: "read the reservation",
            source,
        }),
    }
}

/// Makes the directory and those above it, and their names durable: a record is not safe in
/// a directory that a power cut takes away.
fn create_durably(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|at| !at.exists()).collect();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    // The directory's own name always: whoever made it may have died before this.
    for made in missing.iter().copied().chain([path]) {
        if let Some(parent) = made.parent().filter(|at| !at.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Whether a directory lies on tmpfs or ramfs (statfs(2)); false where it cannot be told.
fn in_memory(path: &Path) -> bool {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    const RAMFS_MAGIC: u64 = 0x8584_58f6;
    rustix::fs::statfs(path).is_ok_and(|fs| {
        let kind = fs.f_type as u64 & 0xffff_ffff;
        kind == TMPFS_MAGIC || kind == RAMFS_MAGIC
    })
}

#[cfg(test)]
mod tests;
