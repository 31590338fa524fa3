//! Where changes of the configuration are handed in: it reads what is proposed, says what is
//! different, and passes it on to the control loop. Files are read beside the API's thread.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::source::Unavailable;
use crate::manage::change::{Applied, Diff, How, Order, Refused, Revision, Running, Who};
use crate::manage::config::{Config, ConfigError};
use crate::manage::edge::{Handle, NoAnswer, RecordedError};

/// How long the workers have to follow a change.
const PATIENCE: Duration = Duration::from_secs(30);

/// The control loop as changes need it.
pub trait Configurator: Send + Sync + 'static {
    /// What runs, and what ran.
    fn running(&self) -> Arc<Running>;
    /// The configuration of a revision; of the one before the running one if none is named.
    fn recorded(&self, number: Option<u64>) -> Result<(u64, Config), RecordedError>;
    /// Passes an order on without blocking.
    fn change(&self, order: Order, answer: Answer) -> Result<(), Unavailable>;
}

/// Called with what became of an order.
pub type Answer = Box<dyn FnOnce(Result<Applied, Refused>) + Send>;

impl Configurator for Handle {
    fn running(&self) -> Arc<Running> {
        Handle::running(self)
    }

    fn recorded(&self, number: Option<u64>) -> Result<(u64, Config), RecordedError> {
        Handle::recorded(self, number)
    }

    fn change(&self, order: Order, answer: Answer) -> Result<(), Unavailable> {
        Handle::change(self, order, answer).map_err(|error| match error {
            NoAnswer::Gone => Unavailable::Gone,
            NoAnswer::Busy => Unavailable::Busy,
        })
    }
}

/// What shall run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "lowercase", deny_unknown_fields)]
pub enum Wanted {
    /// A text. Key files are found from the directory of `file`.
    Text {
        /// The configuration.
        text: String,
        /// Where it comes from, absolute.
        file: PathBuf,
    },
    /// The file that the daemon starts with, as it is now.
    Startup,
    /// What ran before.
    Revision {
        /// Its number; absent: the one before the running one.
        number: Option<u64>,
    },
}

/// A change that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// What shall run.
    pub wanted: Wanted,
    /// The revision that the difference was shown to; another is refused.
    #[serde(default)]
    pub revision: Option<u64>,
    /// The difference that was shown; another is refused.
    #[serde(default)]
    pub diff: Option<Diff>,
    /// Only say whether it could be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a change would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The revision that runs.
    pub revision: u64,
    /// Where what is wanted comes from.
    pub file: PathBuf,
    /// The revision that would be taken up again.
    pub of: Option<u64>,
    /// The difference.
    pub diff: Diff,
}

/// The configuration that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningConfig {
    /// Its revision.
    pub revision: Revision,
    /// Its text.
    pub text: String,
    /// The file that the daemon starts with.
    pub startup: PathBuf,
    /// Whether that file, as it is now, means something else; absent if it is not valid.
    pub startup_differs: Option<bool>,
}

/// Why there is no answer but an error.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The revision cannot be had.
    #[error(transparent)]
    Recorded(#[from] RecordedError),
    /// The change was refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The control loop takes no orders.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Not in time.
    #[error(
        "not all workers have confirmed the change in {} s: `vswitchctl revisions` shows \
         whether it runs",
        PATIENCE.as_secs()
    )]
    Late,
    /// A thread of the system.
    #[error("a thread that reads the configuration ended by itself")]
    Thread,
}

impl DeskError {
    /// The status for the answer.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            DeskError::Config(_) => StatusCode::UNPROCESSABLE_ENTITY,
            DeskError::Recorded(RecordedError::NoSuch(_)) => StatusCode::NOT_FOUND,
            DeskError::Refused(Refused::Busy | Refused::Stopping)
            | DeskError::Unavailable(_)
            | DeskError::Late => StatusCode::SERVICE_UNAVAILABLE,
            DeskError::Recorded(_) | DeskError::Refused(_) => StatusCode::CONFLICT,
            DeskError::Thread => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The desk. Cloned freely.
#[derive(Clone)]
pub struct Desk {
    control: Arc<dyn Configurator>,
    startup: PathBuf,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("startup", &self.startup)
            .finish_non_exhaustive()
    }
}

impl Desk {
    /// One that passes on to `control`; `startup` is the file that the daemon starts with.
    pub fn new(control: impl Configurator, startup: &Path) -> Self {
        Desk {
            control: Arc::new(control),
            startup: startup.to_owned(),
        }
    }

    /// What runs, and what ran.
    pub fn running(&self) -> Arc<Running> {
        self.control.running()
    }

    /// The configuration that runs, and whether the file means the same.
    pub(super) async fn config(&self) -> Result<RunningConfig, DeskError> {
        let running = self.running();
        let startup = match self.read(Wanted::Startup).await {
            Ok((_, config)) => Some(config),
            Err(DeskError::Config(_)) => None,
            Err(error) => return Err(error),
        };
        let differs = |other: &Config| !Diff::between(&running.config, other).is_empty();
        Ok(RunningConfig {
            revision: running.revision.clone(),
            text: running.config.text().to_owned(),
            startup: self.startup.clone(),
            startup_differs: startup.as_ref().map(differs),
        })
    }

    /// What a change would be.
    pub(super) async fn diff(&self, wanted: Wanted) -> Result<Difference, DeskError> {
        let (of, config) = self.read(wanted).await?;
        let running = self.running();
        Ok(Difference {
            revision: running.revision.number,
            file: config.file().to_owned(),
            of,
            diff: Diff::between(&running.config, &config),
        })
    }

    /// Has a change carried out, and waits until all workers follow it.
    pub async fn apply(
        &self,
        proposal: Proposal,
        how: How,
        who: Option<Who>,
    ) -> Result<Applied, DeskError> {
        let (of, config) = self.read(proposal.wanted).await?;
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        let order = Order {
            config,
            revision: proposal.revision,
            diff: proposal.diff,
            dry_run: proposal.dry_run,
            how,
            of,
            who,
        };
        let (tx, rx) = oneshot::channel();
        let answer = Box::new(move |result| {
            // Whoever asked may have stopped waiting.
            let _ = tx.send(result);
        });
        self.control.change(order, answer)?;
        match tokio::time::timeout(PATIENCE, rx).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(_)) => Err(Refused::Stopping.into()),
            Err(_) => Err(DeskError::Late),
        }
    }

    /// What is proposed, and the number if it is a revision.
    async fn read(&self, wanted: Wanted) -> Result<(Option<u64>, Config), DeskError> {
        let desk = self.clone();
        let read = move || -> Result<(Option<u64>, Config), DeskError> {
            Ok(match wanted {
                Wanted::Text { text, file } => (None, Config::parse_as(&text, &file)?),
                Wanted::Startup => (None, Config::load(&desk.startup)?),
                Wanted::Revision { number } => {
                    let (number, config) = desk.control.recorded(number)?;
                    (Some(number), config)
                }
            })
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| DeskError::Thread)?
    }
}
