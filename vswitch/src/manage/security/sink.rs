//! Where the lines go: standard error, which a service manager keeps, or a file.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "security log {path}: {source}; its directory must exist and be writable for the daemon \
     (`security-log.file`)"
)]
pub struct SecurityLogError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

enum Target {
    Stderr,
    File(PathBuf, File),
    #[cfg(test)]
    Memory(Arc<Mutex<String>>),
}

/// A handle on the log; clones are the same one.
#[derive(Clone)]
pub struct SecurityLog(Arc<Mutex<Target>>);

impl fmt::Debug for SecurityLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.target() {
            Target::File(..) => "SecurityLog(file)",
            _ => "SecurityLog",
        })
    }
}

impl Default for SecurityLog {
    fn default() -> Self {
        SecurityLog(Arc::new(Mutex::new(Target::Stderr)))
    }
}

impl SecurityLog {
    /// Writes to `file` from now on, at its end; to standard error if it is `None`. A file is
    /// made with mode 0640 and is never a symbolic link.
    ///
    /// # Errors
    /// When the file cannot be opened; the log then stays where it was.
    pub fn direct_to(&self, file: Option<&Path>) -> Result<(), SecurityLogError> {
        let target = match file {
            None => Target::Stderr,
            Some(path) => Target::File(path.to_owned(), open(path)?),
        };
        *self.target() = target;
        Ok(())
    }

    /// Opens the file by its name again: whoever rotates logs has moved the old one away.
    ///
    /// # Errors
    /// When that fails; the log then goes on in the old file.
    pub fn reopen(&self) -> Result<(), SecurityLogError> {
        let mut target = self.target();
        if let Target::File(path, file) = &mut *target {
            *file = open(path)?;
        }
        Ok(())
    }

    /// Appends a line, whole. One that cannot be written goes to standard error instead.
    pub(super) fn write_line(&self, mut line: String) {
        line.push('\n');
        let mut target = self.target();
        let written = match &mut *target {
            Target::Stderr => return drop(io::stderr().write_all(line.as_bytes())),
            Target::File(_, file) => file.write_all(line.as_bytes()),
            #[cfg(test)]
            Target::Memory(lines) => {
                lines.lock().unwrap().push_str(&line);
                Ok(())
            }
        };
        if written.is_err() {
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    #[cfg(test)]
    pub(super) fn in_memory() -> (Self, Arc<Mutex<String>>) {
        let lines = Arc::default();
        let target = Target::Memory(Arc::clone(&lines));
        (SecurityLog(Arc::new(Mutex::new(target))), lines)
    }

    fn target(&self) -> MutexGuard<'_, Target> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> Result<File, SecurityLogError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path)
        .map_err(|source| SecurityLogError {
            path: path.to_owned(),
            source,
        })
}
