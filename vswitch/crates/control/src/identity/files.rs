//! The files an identity comes from. Who may read the key is checked on the open file, and errors
//! say which file it is and what to do about it.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

/// Far more than any chain, key or bundle in PEM.
const MAX_FILE: usize = 1 << 20;

/// Why a file of an identity cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Not there, or not for us.
    #[error("{0} cannot be read: {1}")]
    Unreadable(String, String),
    /// A directory, a pipe.
    #[error("{0} is not a regular file")]
    NotAFile(String),
    /// A key others know is no key; a bundle others write is no trust.
    #[error("{file} can be {what} by others (mode {mode:04o}): chmod {right} {file}")]
    Permissions {
        /// Which, as a shell takes it.
        file: String,
        /// Read or written.
        what: &'static str,
        /// Its mode now.
        mode: u32,
        /// What mode it needs.
        right: &'static str,
    },
    /// Its owner may change it at any time.
    #[error("{file} belongs to user {owner}, who may change it: chown {me} {file}")]
    Owner {
        /// Which.
        file: String,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        me: u32,
    },
    /// Something else.
    #[error("{0} is longer than any PEM file of an identity ({MAX_FILE} bytes)")]
    TooLong(String),
}

/// Where an identity's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and after it those between it and the CA, in PEM.
    pub chain: PathBuf,
    /// Its private key in PEM, readable by its owner alone.
    pub key: PathBuf,
    /// Certificates of the CAs that are trusted, in PEM.
    pub bundle: PathBuf,
}

/// The names under which SPIRE and its helper leave them (spiffe-helper's example
/// configuration; `spire-agent api fetch x509 -write`). The first is also the lab CA's.
const NAMES: [[&str; 3]; 3] = [
    ["svid.pem", "svid_key.pem", "bundle.pem"],
    ["svid.pem", "svid_key.pem", "svid_bundle.pem"],
    ["svid.0.pem", "svid.0.key", "bundle.0.pem"],
];

impl Files {
    /// Those in `directory`, under whichever of the usual names are there: `svid.pem`,
    /// `svid_key.pem` and `bundle.pem`, or SPIRE's other ones.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        let named = |[chain, key, bundle]: [&str; 3]| Self {
            chain: directory.join(chain),
            key: directory.join(key),
            bundle: directory.join(bundle),
        };
        let there = |files: &Self| files.chain.exists() && files.bundle.exists();
        let [usual, ..] = NAMES;
        let found = NAMES.into_iter().map(named).find(there);
        found.unwrap_or_else(|| named(usual))
    }

    /// All three.
    pub fn all(&self) -> [&Path; 3] {
        [&self.chain, &self.key, &self.bundle]
    }
}

/// What others must not be able to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Anything: a private key.
    Secret,
    /// Write: what we trust.
    Trusted,
    /// Nothing to guard: a certificate is public, and useless without its key.
    Public,
}

/// Reads a file of an identity. A symbolic link is followed: what counts is where it leads.
pub(crate) fn read(path: &Path, guard: Guard) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = quoted(path);
    let unreadable = |error: std::io::Error| FileError::Unreadable(file.clone(), error.to_string());
    // Without NONBLOCK a named pipe would hold us here for ever.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut handle: File = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| unreadable(error.into()))?
        .into();
    // Of the open file, not of the name: nobody can exchange it in between.
    let meta = handle.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(FileError::NotAFile(file));
    }
    if guard != Guard::Public {
        permissions(&meta, guard, &file)?;
    }
    // One buffer of fixed length: one that grows leaves copies behind. One byte beyond the size
    // tells that there is more.
    let size = usize::try_from(meta.len()).unwrap_or(usize::MAX);
    if size > MAX_FILE {
        return Err(FileError::TooLong(file));
    }
    let mut text = Zeroizing::new(vec![0; MAX_FILE.min(size * 2) + 1]);
    let mut len = 0;
    while let Some(rest) = text.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match handle.read(rest) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    if len == text.len() {
        return Err(FileError::TooLong(file));
    }
    text.truncate(len);
    Ok(text)
}

fn permissions(meta: &std::fs::Metadata, guard: Guard, file: &str) -> Result<(), FileError> {
    let mode = meta.mode() & 0o7777;
    let (forbidden, right) = match guard {
        Guard::Secret => (0o077, "0600"),
        _ => (0o022, "go-w"),
    };
    if mode & forbidden != 0 {
        let what = match mode & forbidden {
            open if open & 0o044 != 0 => "read",
            open if open & 0o022 != 0 => "written",
            _ => "used",
        };
        let file = file.to_owned();
        return Err(FileError::Permissions {
            file,
            what,
            mode,
            right,
        });
    }
    let me = rustix::process::geteuid().as_raw();
    let owner = meta.uid();
    if owner != 0 && owner != me {
        let file = file.to_owned();
        return Err(FileError::Owner { file, owner, me });
    }
    Ok(())
}

/// The path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@%".contains(&b);
    if text.bytes().all(harmless) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
