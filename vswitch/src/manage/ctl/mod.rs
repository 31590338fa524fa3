//! Commands of `vswitchctl` that do more than show: their arguments, and what they do.

pub mod capture;
pub mod change;
pub mod keys;
pub mod pki;
mod sink;

use std::io;
use std::path::PathBuf;

use crate::manage::api::ClientError;

/// Why a command did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// The switch gave no answer, or a refusal.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file that is there already.
    #[error(
        "{}: there is a file already, whose readers are not known; remove it, or name another",
        .0.display()
    )]
    Exists(PathBuf),
    /// A file that cannot be written.
    #[error("{}: {error}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Standard output.
    #[error(transparent)]
    Output(io::Error),
    /// This process could not be kept from leaving a core.
    #[error("this process could not be made non-dumpable, so it takes no keys: {0}")]
    Dumpable(io::Error),
}
