//! Records in a file, by `redb`: copy-on-write B-trees, each transaction on the disk when `commit`
//! returns. Only one process can have the file open.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use vswitch_control::message::operator::AuditId;

use super::{AUDIT, Commit, Committed, Store, StoreError, audit_record, audit_start, read_record};
use crate::model::{Audit, Key, Op, Record, Transaction};

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";

/// A file of records.
#[derive(Debug)]
pub struct Redb {
    database: Arc<Database>,
    revision: u64,
    /// What was passed over, being no record.
    skipped: u64,
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Unavailable(error.into().to_string())
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options
}

/// The file's name until it is whole.
fn fresh(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Makes an empty file of records, which has its name only when it is whole: the library does not open
/// one that was cut short while it was made.
fn make(path: &Path) -> Result<(), redb::Error> {
    let fresh = fresh(path);
    let file = options().open(&fresh)?;
    // The lock is the inode's, whatever its name: nobody's file is cut here while they use it.
    file.try_lock().map_err(io::Error::from)?;
    file.set_len(0)?;
    let database = Database::builder().create_file(file)?;
    let write = database.begin_write()?;
    write.open_table(RECORDS)?;
    write.open_table(META)?;
    write.commit()?;
    drop(database);
    match std::fs::hard_link(&fresh, path) {
        // Somebody else was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        linked => linked?,
    }
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

impl Redb {
    /// Opens the file, or makes it, readable for its owner alone. After a crash it is as its last
    /// transaction left it.
    ///
    /// # Errors
    /// It cannot be opened, another process has it, or it is something else.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let said = |error: &dyn core::fmt::Display| {
            StoreError::Unavailable(format!("{}: {error}", path.display()))
        };
        if !path.exists() {
            make(path).map_err(|error| said(&error))?;
        }
        // What a crash between the two names left.
        let _ = std::fs::remove_file(fresh(path));
        let file = options().open(path).map_err(|error| said(&error))?;
        let database = Database::builder()
            .create_file(file)
            .map_err(|error| said(&error))?;
        Self::begin(database)
    }

    /// On an open database.
    pub(super) fn begin(database: Database) -> Result<Self, StoreError> {
        let write = database.begin_write().map_err(failed)?;
        let revision = {
            write.open_table(RECORDS).map_err(failed)?;
            let meta = write.open_table(META).map_err(failed)?;
            let revision = meta.get(REVISION).map_err(failed)?;
            revision.map_or(0, |revision| revision.value())
        };
        write.commit().map_err(failed)?;
        Ok(Self {
            database: Arc::new(database),
            revision,
            skipped: 0,
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = self.database.clone();
        let done = tokio::task::spawn_blocking(move || work(&database)).await;
        done.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }
}

fn read(database: &Database) -> Result<(Vec<(Key, Record)>, u64), StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let table = match read.open_table(RECORDS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok((Vec::new(), 0)),
        Err(error) => return Err(failed(error)),
    };
    let (mut records, mut skipped) = (Vec::new(), 0);
    for entry in table.iter().map_err(failed)? {
        let (path, value) = entry.map_err(failed)?;
        if !path.value().starts_with(AUDIT.0) {
            records.extend(read_record(path.value(), value.value(), &mut skipped));
        }
    }
    Ok((records, skipped))
}

type Encoded = Vec<(String, Option<Vec<u8>>)>;

fn write(database: &Database, ops: &Encoded, revision: u64) -> Result<(), StoreError> {
    let write = database.begin_write().map_err(failed)?;
    {
        let mut table = write.open_table(RECORDS).map_err(failed)?;
        for (path, value) in ops {
            match value {
                Some(value) => drop(
                    table
                        .insert(path.as_str(), value.as_slice())
                        .map_err(failed)?,
                ),
                None => drop(table.remove(path.as_str()).map_err(failed)?),
            }
        }
        let mut meta = write.open_table(META).map_err(failed)?;
        meta.insert(REVISION, revision).map_err(failed)?;
    }
    // Durability::Immediate is what a transaction has unless told otherwise.
    write.commit().map_err(failed)
}

impl Store for Redb {
    async fn load(&mut self) -> Result<Vec<(Key, Record)>, StoreError> {
        let (records, skipped) = self.blocking(read).await?;
        self.skipped += skipped;
        Ok(records)
    }

    async fn commit(&mut self, transaction: &Transaction) -> Result<Committed, StoreError> {
        let mut ops = Vec::new();
        for (key, record) in transaction.ops() {
            let value = record.map(|record| record.encode(key)).transpose()?;
            ops.push((key.to_string(), value));
        }
        let revision = self.revision + 1;
        self.blocking(move |database| write(database, &ops, revision))
            .await?;
        self.revision = revision;
        Ok(Committed {
            commit: Commit::Done,
            others: Vec::new(),
        })
    }

    async fn changes(&mut self) -> Result<Vec<Op>, StoreError> {
        // Nobody else has the file.
        std::future::pending().await
    }

    async fn audit(
        &mut self,
        before: Option<AuditId>,
        limit: usize,
    ) -> Result<Vec<(AuditId, Audit)>, StoreError> {
        let start = audit_start(before);
        self.blocking(move |database| {
            let read = database.begin_read().map_err(failed)?;
            let table = read.open_table(RECORDS).map_err(failed)?;
            let (mut found, mut skipped) = (Vec::new(), 0);
            for entry in table
                .range(start.as_str()..AUDIT.1)
                .map_err(failed)?
                .take(limit)
            {
                let (path, value) = entry.map_err(failed)?;
                found.extend(audit_record(path.value(), value.value(), &mut skipped));
            }
            Ok(found)
        })
        .await
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn name(&self) -> &'static str {
        "redb"
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn max_weight(&self) -> usize {
        8192
    }
}
