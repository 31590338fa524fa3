//! The words in which a change is asked for and answered.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vswitch_vn::ChangeError;

use super::diff::Diff;
use crate::dpdk::mempool::MempoolError;
use crate::dpdk::vhost::VhostError;
use crate::manage::config::Config;
use crate::manage::edge::{KeyError, TooMany};

/// What made a configuration the running one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// The switch started with it.
    Start,
    /// `vswitchctl apply`.
    Apply,
    /// `vswitchctl reload`.
    Reload,
    /// SIGHUP.
    Signal,
    /// `vswitchctl rollback`.
    Rollback,
}

/// Who asked (SO_PEERCRED, unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The user.
    pub uid: u32,
    /// The process, which may have ended since.
    pub pid: Option<i32>,
}

/// A configuration that was or is the running one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Counts up, also across restarts.
    pub number: u64,
    /// Seconds since 1970.
    pub time: u64,
    /// What made it the running one.
    pub how: How,
    /// Of a rollback: the revision that it took up again.
    pub of: Option<u64>,
    /// Who asked; absent for a start and a signal.
    pub who: Option<Who>,
    /// The file that its text came from.
    pub file: PathBuf,
    /// Things added, removed and changed since the revision before.
    pub changes: u64,
}

/// What runs.
#[derive(Debug, Clone)]
pub struct Running {
    /// Its revision.
    pub revision: Revision,
    /// The configuration.
    pub config: Arc<Config>,
    /// Revisions that can be gone back to, oldest first; the running one is the last.
    pub history: Vec<Revision>,
}

/// A change that is asked for.
#[derive(Debug, Clone)]
pub struct Order {
    /// What shall run.
    pub config: Config,
    /// The revision that what was shown was a difference to; a change of another is refused.
    pub revision: Option<u64>,
    /// What was shown; if anything else were done, it is refused.
    pub diff: Option<Diff>,
    /// Only say whether it could be done.
    pub dry_run: bool,
    /// What asks.
    pub how: How,
    /// The revision that is taken up again.
    pub of: Option<u64>,
    /// Who asks.
    pub who: Option<Who>,
}

/// A change that took effect on all workers, or of a dry run: could.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The revision that runs now.
    pub revision: u64,
    /// What changed; empty if the configuration means what ran already.
    pub diff: Diff,
    /// Whether nothing was done.
    pub dry_run: bool,
}

/// A change that was refused. The switch is as before.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Somebody was faster.
    #[error(
        "the difference was to revision {shown}, but revision {running} runs: look at the \
         difference again"
    )]
    Stale {
        /// The one that was shown.
        shown: u64,
        /// The one that runs.
        running: u64,
    },
    /// Something else would be done.
    #[error(
        "this would not be the change that was shown: a key file was written meanwhile. Look at \
         the difference again"
    )]
    Differs,
    /// Parts of it need a restart.
    #[error("{}", restart_text(.0))]
    Restart(Diff),
    /// Too many things.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The forwarding tables.
    #[error("forwarding tables: {0}")]
    Tables(#[from] ChangeError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A port's buffers.
    #[error("port `{port}`: {source}")]
    Buffers {
        /// The port.
        port: String,
        /// Why not.
        source: MempoolError,
    },
    /// A port's socket.
    #[error("port `{port}`: {source}")]
    Socket {
        /// The port.
        port: String,
        /// Why not.
        source: VhostError,
    },
    /// The revision could not be kept.
    #[error("the revision could not be kept, so there would be no way back: {0}")]
    History(#[source] KeyError),
    /// A socket that had to be closed for another could not be made again.
    #[error(
        "{refused}\nThe socket of port `{port}` was closed for it and could not be made again: \
         {source}. All else is as before; apply a configuration without the port, then one with it"
    )]
    NotUndone {
        /// Why it was refused.
        refused: Box<Refused>,
        /// The port without its socket.
        port: String,
        /// Why not.
        source: VhostError,
    },
    /// Too many changes wait.
    #[error("changes wait already: try again")]
    Busy,
    /// The switch stops.
    #[error("the switch is stopping")]
    Stopping,
}

fn restart_text(diff: &Diff) -> String {
    let mut text = String::from(
        "nothing was changed, for parts of it need a restart of vswitchd (with the file in its \
         place):",
    );
    for entry in diff.restarts() {
        text.push_str(&format!("\n{entry}"));
    }
    text.trim_end().to_owned()
}
