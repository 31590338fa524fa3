//! Key files: who may read them is checked on the open file, and what is wrong with the
//! contents is said without showing them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use vswitch_sa::{KeyMaterialError, decode_hex};
use zeroize::Zeroizing;

use super::model::ManualKey;
use super::types::Algorithm;

/// Far more than any key in hex.
const MAX_FILE: u64 = 4096;

/// Why a key file was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyFileError {
    #[error("{0} cannot be read: {1}")]
    Unreadable(String, std::io::Error),
    #[error("{0} is not a regular file")]
    NotAFile(String),
    #[error("{file} can be {what} by others (mode {mode:04o}): chmod 0600 {file}", what = what(*mode))]
    Permissions { file: String, mode: u32 },
    #[error("{file} belongs to user {owner}, who may change it: chown {me} {file}")]
    Owner { file: String, owner: u32, me: u32 },
    #[error("{0} is longer than any key in hex ({MAX_FILE} bytes)")]
    TooLong(String),
    #[error("{0} is not text: the key is written in hex")]
    NotText(String),
    #[error("{file}: {error}")]
    Contents {
        file: String,
        error: KeyMaterialError,
    },
}

const fn what(mode: u32) -> &'static str {
    match mode {
        _ if mode & 0o044 != 0 => "read",
        _ if mode & 0o022 != 0 => "written",
        _ => "used",
    }
}

/// Reads the key at `path`. A symbolic link is followed: what counts is the file it leads to.
pub(super) fn read(path: &Path, algorithm: Algorithm) -> Result<ManualKey, KeyFileError> {
    let file = quoted(path);
    // Without NONBLOCK a named pipe would hold the daemon here for ever.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut handle: File = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| KeyFileError::Unreadable(file.clone(), error.into()))?
        .into();
    // Of the open file, not of the name: nobody can exchange it in between.
    let meta = handle
        .metadata()
        .map_err(|error| KeyFileError::Unreadable(file.clone(), error))?;
    if !meta.is_file() {
        return Err(KeyFileError::NotAFile(file));
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Permissions { file, mode });
    }
    let me = rustix::process::geteuid().as_raw();
    let owner = meta.uid();
    if owner != 0 && owner != me {
        return Err(KeyFileError::Owner { file, owner, me });
    }
    // One byte beyond the limit tells that there is more. Read straight into one buffer of
    // fixed length: one that grows leaves copies behind, and so do helpers that probe the end.
    let mut text = Zeroizing::new(vec![0; MAX_FILE as usize + 1]);
    let mut len = 0;
    while let Some(rest) = text.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match handle.read(rest) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(KeyFileError::Unreadable(file, error)),
        }
    }
    match text.get(..len) {
        Some(text) if len as u64 <= MAX_FILE => parse(text, algorithm, path, file),
        _ => Err(KeyFileError::TooLong(file)),
    }
}

/// The path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@%".contains(&b);
    if text.bytes().all(harmless) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn parse(
    text: &[u8],
    algorithm: Algorithm,
    path: &Path,
    file: String,
) -> Result<ManualKey, KeyFileError> {
    let Ok(text) = str::from_utf8(text) else {
        return Err(KeyFileError::NotText(file));
    };
    let contents = |error| KeyFileError::Contents {
        file: file.clone(),
        error,
    };
    let bytes = decode_hex(algorithm, text).map_err(contents)?;
    ManualKey::new(algorithm, bytes, path).map_err(contents)
}
