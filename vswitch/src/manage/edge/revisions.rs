//! The configurations that ran, kept for the way back: text and fingerprints of keys, never
//! keys. One file each in the state directory, mode 0600, on the disk before the change
//! takes effect.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::keys::KeyError;
use super::state::StateDir;
use crate::manage::change::{How, Revision, Who};
use crate::manage::config::{Config, ConfigError};

/// Revisions that are kept.
const KEPT: usize = 20;

/// A revision as it is in its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    revision: Revision,
    text: String,
    /// Fingerprint of the key in each key file.
    keys: BTreeMap<PathBuf, String>,
}

/// Why a revision cannot be gone back to.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    /// There is none before the running one.
    #[error("there is no revision before the one that runs")]
    None,
    /// There is no such.
    #[error("there is no revision {0}; `vswitchctl revisions` lists them")]
    NoSuch(u64),
    /// It cannot be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// Its file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// It is not valid any more: a key file is gone, or the switch is another version.
    #[error("revision {number} is not valid any more:\n{source}")]
    Invalid {
        /// Which.
        number: u64,
        /// What is wrong.
        source: ConfigError,
    },
    /// A key file has another key than then.
    #[error(
        "revision {number} used key {was} of {file}, which now holds {is}: put the former key \
         back there, or apply a file",
        file = file.display()
    )]
    OtherKey {
        /// Which.
        number: u64,
        /// The key file.
        file: PathBuf,
        /// The key it held.
        was: String,
        /// The key it holds.
        is: String,
    },
}

/// The revisions, oldest first. The last is the one that runs.
pub(super) struct History {
    dir: PathBuf,
    list: Vec<Revision>,
}

impl History {
    /// Reads what earlier processes left. The configuration that the switch starts with is a
    /// new revision, unless it is the one that ran last.
    pub(super) fn open(state: &StateDir, config: &Config) -> Result<History, KeyError> {
        let dir = config.state_dir.clone();
        let mut records: Vec<Record> = Vec::new();
        for path in files(&dir) {
            match read(&path) {
                Ok(record) => records.push(record),
                Err(error) => tracing::warn!(%error, "a former configuration is left out"),
            }
        }
        records.sort_by_key(|record| record.revision.number);
        let same = records
            .last()
            .is_some_and(|last| last.text == config.text() && last.keys == keys(config));
        let list = records.into_iter().map(|record| record.revision).collect();
        let mut history = History { dir, list };
        if !same {
            let revision = history.next(config, How::Start, None, None, 0);
            history.keep(state, revision, config)?;
        }
        Ok(history)
    }

    /// The next revision, not kept yet.
    pub(super) fn next(
        &self,
        config: &Config,
        how: How,
        of: Option<u64>,
        who: Option<Who>,
        changes: u64,
    ) -> Revision {
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        Revision {
            number: self.list.last().map_or(1, |last| last.number + 1),
            time: time.map_or(0, |time| time.as_secs()),
            how,
            of,
            who,
            file: config.file().to_owned(),
            changes,
        }
    }

    /// Makes a revision the last one; it is on the disk when this returns.
    pub(super) fn keep(
        &mut self,
        state: &StateDir,
        revision: Revision,
        config: &Config,
    ) -> Result<(), KeyError> {
        let path = file(&self.dir, revision.number);
        let record = Record {
            revision,
            text: config.text().to_owned(),
            keys: keys(config),
        };
        let text = serde_json::to_string_pretty(&record).map_err(|error| KeyError::Io {
            path: path.clone(),
            doing: "write the revision",
            source: error.into(),
        })?;
        state.write_durably(&path, &text)?;
        self.list.push(record.revision);
        Ok(())
    }

    /// Takes the last one back: the change was not carried out.
    pub(super) fn forget_last(&mut self) {
        if let Some(last) = self.list.pop() {
            // A file that stays is a change that can be rolled back to, which does no harm.
            let _ = fs::remove_file(file(&self.dir, last.number));
        }
    }

    /// Removes what is too old to be kept.
    pub(super) fn prune(&mut self) {
        while self.list.len() > KEPT {
            let oldest = self.list.remove(0);
            let _ = fs::remove_file(file(&self.dir, oldest.number));
        }
    }

    /// All of them, oldest first.
    pub(super) fn list(&self) -> &[Revision] {
        &self.list
    }
}

/// The configuration of a revision. Its key files must hold the keys that they held then.
pub(super) fn recorded(state_dir: &Path, number: u64) -> Result<Config, RecordedError> {
    let path = file(state_dir, number);
    if !path.exists() {
        return Err(RecordedError::NoSuch(number));
    }
    let Record {
        revision,
        text,
        keys: then,
    } = read(&path)?;
    let config = Config::parse_as(&text, &revision.file)
        .map_err(|source| RecordedError::Invalid { number, source })?;
    for (file, is) in keys(&config) {
        if let Some(was) = then.get(&file).filter(|was| **was != is) {
            let was = was.clone();
            return Err(RecordedError::OtherKey {
                number,
                file,
                was,
                is,
            });
        }
    }
    Ok(config)
}

fn keys(config: &Config) -> BTreeMap<PathBuf, String> {
    let sas = config.security_associations.iter();
    sas.map(|sa| (sa.key.file().to_owned(), sa.key.fingerprint().to_string()))
        .collect()
}

fn file(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("revision-{number:08}.json"))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("revision-") && name.ends_with(".json"))
        })
        .collect()
}

fn read(path: &Path) -> Result<Record, RecordedError> {
    let unreadable = |reason: String| RecordedError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let text =
        fs::read_to_string(path).map_err(|error: io::Error| unreadable(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| unreadable(format!("not a revision: {error}")))
}
