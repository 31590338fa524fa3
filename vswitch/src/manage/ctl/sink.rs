//! Where output goes: a file or standard output. What is in a file may be secret, be it keys or
//! tenants' packets, so it is its owner's alone from the moment it exists.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::CtlError;

/// A file that was made for this, or standard output.
pub(super) enum Sink {
    /// The file and its path.
    File(File, PathBuf),
    /// Asked for by name, as `-`.
    Stdout,
}

impl Sink {
    /// Opens `path`; `-` is standard output. A file is made with mode 0600 and must not be
    /// there yet: one that somebody else made, or has open, is not written to.
    pub(super) fn create(path: &Path) -> Result<Self, CtlError> {
        if path == Path::new("-") {
            return Ok(Sink::Stdout);
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match file {
            Ok(file) => Ok(Sink::File(file, path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(CtlError::Exists(path.to_owned()))
            }
            Err(error) => Err(CtlError::File {
                file: path.to_owned(),
                error,
            }),
        }
    }

    /// Writes all of `bytes`, at once: standard output may be a pipe that somebody watches.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), CtlError> {
        match self {
            Sink::File(file, path) => file.write_all(bytes).map_err(|error| CtlError::File {
                file: path.clone(),
                error,
            }),
            Sink::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)
                    .and_then(|()| out.flush())
                    .map_err(CtlError::Output)
            }
        }
    }

    /// Removes the file again, because what was to be in it did not come.
    pub(super) fn discard(self) {
        if let Sink::File(file, path) = self {
            drop(file);
            // It is empty or useless; what matters is the error that led here.
            let _ = std::fs::remove_file(path);
        }
    }
}
