//! Files that are whole or not there, with their mode from the first moment on.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::PkiError;
use crate::identity::files::quoted;

fn failed(path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    move |error| PkiError::Write(quoted(path), error)
}

/// Makes a directory for its owner alone, unless there is one.
pub(super) fn directory(path: &Path) -> Result<(), PkiError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made.map_err(failed(path)),
    }
}

/// A new file; one that is there already is an error.
pub(super) fn create(path: &Path, contents: &[u8], mode: u32) -> Result<(), PkiError> {
    put(path, contents, mode, RenameFlags::NOREPLACE)
}

/// A file, whether or not there is one.
pub(super) fn replace(path: &Path, contents: &[u8], mode: u32) -> Result<(), PkiError> {
    put(path, contents, mode, RenameFlags::empty())
}

fn put(path: &Path, contents: &[u8], mode: u32, how: RenameFlags) -> Result<(), PkiError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{:016x}", fastrand::u64(..)));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(contents)?;
            file.sync_all()
        })
        .and_then(|()| Ok(renameat_with(CWD, &temporary, CWD, path, how)?))
        .and_then(|()| File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all());
    written.map_err(|error| {
        // It is there if the renaming failed; of a second failure there is nothing to say.
        let _ = fs::remove_file(&temporary);
        match error.kind() {
            io::ErrorKind::AlreadyExists => PkiError::Exists(quoted(path)),
            _ => failed(path)(error),
        }
    })
}

/// The directories in `path`, sorted; none if it is not there.
pub(super) fn list(path: &Path) -> Result<Vec<PathBuf>, PkiError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries,
    };
    let unreadable = |error: io::Error| {
        PkiError::File(crate::identity::FileError::Unreadable(
            quoted(path),
            error.to_string(),
        ))
    };
    let places: io::Result<Vec<_>> = entries
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut places = places.map_err(unreadable)?;
    places.retain(|place| place.is_dir());
    places.sort();
    Ok(places)
}
