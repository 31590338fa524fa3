//! Manual keys and what must outlive the process: sequence numbers are reserved in blocks,
//! durably, before the first of them is used, and the replay floor survives a kill.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use vswitch_sa::reservation::{self, Direction as Kept, Record, RecordError, next_block};
use vswitch_sa::{Fingerprint, Inbound, InboundConfig, IvMode, Outbound, OutboundConfig, Spi};

use crate::dpdk::mapped::{MappedCounters, MappedError};
use crate::manage::config::{Peer, SecurityAssociation};

/// Sequence numbers reserved at once with ESN: at 10 Mpps a block lasts 0.4 s, a durable
/// write some milliseconds.
const BLOCK: u64 = 1 << 22;
/// Likewise of the 2³² without ESN: 4,096 restarts.
const SHORT_BLOCK: u64 = 1 << 20;

/// Why a key's state could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system refused.
    #[error("{path}: {doing}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the state.
    #[error("{0}: another vswitchd uses this state directory; give each its own `state-dir`")]
    InUse(PathBuf),
    /// The record cannot be trusted.
    #[error(
        "{path}: {source}. Its key may have sealed packets already, so it is not used again: \
         give the association a new key (and keep this file as evidence)"
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: RecordError,
    },
    /// All sequence numbers of the key are spent.
    #[error("{0}: all sequence numbers of this key are spent; give the association a new key")]
    Exhausted(PathBuf),
    /// The replay floor's file.
    #[error(transparent)]
    Floor(#[from] MappedError),
    /// The configuration asks for something impossible.
    #[error("association {spi}: {reason}")]
    Config {
        /// Which.
        spi: Spi,
        /// Why not.
        reason: String,
    },
}

/// The directory with the state; locked while this lives.
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the directory (0700) if it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        use std::os::unix::fs::DirBuilderExt;
        let io = |doing| {
            move |source| KeyError::Io {
                path: path.to_owned(),
                doing,
                source,
            }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io("create the state directory"))?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(io("open the lock file"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| KeyError::InUse(path.to_owned()))?;
        Ok(StateDir {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Reserves the next block of a key's sequence numbers. When this returns, the
    /// reservation is on the disk.
    pub fn reserve(
        &self,
        spi: Spi,
        key: Fingerprint,
        esn: bool,
    ) -> Result<reservation::Block, KeyError> {
        let file = self.path.join(Record::file_name(Kept::Outbound, key));
        let recorded = match fs::read_to_string(&file) {
            Ok(text) => Some(
                Record::decode_for(&text, Kept::Outbound, key)
                    .map_err(|source| KeyError::Record {
                        path: file.clone(),
                        source,
                    })?
                    .sequence,
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => {
                return Err(KeyError::Io {
                    path: file,
                    doing: "read the reservation",
                    source,
                });
            }
        };
        let size = if esn { BLOCK } else { SHORT_BLOCK };
        let block = next_block(recorded, size).map_err(|_| KeyError::Exhausted(file.clone()))?;
        if !esn && block.first > u64::from(u32::MAX) {
            return Err(KeyError::Exhausted(file));
        }
        let record = Record {
            direction: Kept::Outbound,
            spi,
            key,
            sequence: block.until,
        };
        self.write_durably(&file, &record.encode())?;
        Ok(block)
    }

    /// Write beside, sync, rename, sync the directory: after a crash either the old record
    /// or the new one is there, whole.
    fn write_durably(&self, file: &Path, text: &str) -> Result<(), KeyError> {
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
            .map_err(io("write the reservation"))?;
        out.write_all(text.as_bytes())
            .map_err(io("write the reservation"))?;
        out.sync_all().map_err(io("sync the reservation"))?;
        fs::rename(&beside, file).map_err(io("replace the reservation"))?;
        File::open(&self.path)
            .and_then(|dir| dir.sync_all())
            .map_err(io("sync the state directory"))
    }

    /// The place where the highest accepted number of a key is kept, and that number.
    fn floor(&self, key: Fingerprint) -> Result<(Arc<MappedCounters>, u64), KeyError> {
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
        Ok((Arc::new(table), floor))
    }
}

/// A manual outbound SA, its first block reserved.
pub fn outbound(state: &StateDir, config: &SecurityAssociation) -> Result<Box<Outbound>, KeyError> {
    let block = state.reserve(config.spi, config.key.fingerprint(), config.esn)?;
    let material = config.key.material().map_err(|e| invalid(config.spi, e))?;
    let mut setup = OutboundConfig::reserved(config.spi, block.first, block.until);
    setup.esn = config.esn;
    setup.limits = config.limits;
    Outbound::new(material, setup)
        .map(Box::new)
        .map_err(|e| invalid(config.spi, e))
}

/// A manual inbound SA, and where its floor is kept.
pub fn inbound(
    state: &StateDir,
    config: &SecurityAssociation,
    peer: &Peer,
) -> Result<(Box<Inbound>, Arc<MappedCounters>), KeyError> {
    let (table, floor) = state.floor(config.key.fingerprint())?;
    let material = config.key.material().map_err(|e| invalid(config.spi, e))?;
    let setup = InboundConfig {
        spi: config.spi,
        esn: config.esn,
        iv_mode: if peer.foreign {
            IvMode::Any
        } else {
            IvMode::EqualsEsn
        },
        window: config.replay_window,
        floor,
    };
    let inbound = Inbound::new(material, setup).map_err(|e| invalid(config.spi, e))?;
    Ok((Box::new(inbound), table))
}

fn invalid(spi: Spi, reason: impl std::fmt::Display) -> KeyError {
    KeyError::Config {
        spi,
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_sa::{Algorithm, KeyMaterial};

    fn key(byte: u8) -> Fingerprint {
        KeyMaterial::from_bytes(Algorithm::Aes128Gcm, &[byte; 20])
            .unwrap()
            .fingerprint()
    }

    #[test]
    fn blocks_follow_one_another_across_restarts_and_spis() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let spi = Spi::new(0x1000).unwrap();
        let first = StateDir::open(&path)
            .unwrap()
            .reserve(spi, key(1), true)
            .unwrap();
        assert_eq!(first.first, 1);
        let state = StateDir::open(&path).unwrap();
        let other_spi = Spi::new(0x2000).unwrap();
        let second = state.reserve(other_spi, key(1), true).unwrap();
        assert_eq!(second.first, first.until);
        assert_eq!(state.reserve(spi, key(2), true).unwrap().first, 1);
    }

    #[test]
    fn a_damaged_record_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let spi = Spi::new(0x1000).unwrap();
        state.reserve(spi, key(1), true).unwrap();
        let file = dir.path().join(Record::file_name(Kept::Outbound, key(1)));
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replacen('1', "2", 1)).unwrap();
        assert!(matches!(
            state.reserve(spi, key(1), true),
            Err(KeyError::Record { .. })
        ));
        fs::write(&file, "").unwrap();
        assert!(matches!(
            state.reserve(spi, key(1), true),
            Err(KeyError::Record { .. })
        ));
    }

    #[test]
    fn two_processes_do_not_share_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let held = StateDir::open(dir.path()).unwrap();
        assert!(matches!(
            StateDir::open(dir.path()),
            Err(KeyError::InUse(_))
        ));
        drop(held);
        StateDir::open(dir.path()).unwrap();
    }
}
