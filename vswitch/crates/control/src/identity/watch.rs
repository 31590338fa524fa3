//! Renewal: when the files change, new sessions begin with what they say now. What cannot be used
//! is reported and left alone, and the old credentials stay.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use rustls_pki_types::UnixTime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::certificate::Serial;
use super::clock::Clock;
use super::credentials::{Credentials, CredentialsError};
use super::files::Files;
use super::name::{Identity, Role};

/// Certificate, key and bundle are renewed one after the other: wait until it is quiet.
const QUIET: Duration = Duration::from_millis(200);

/// Not for ever, though.
const LONGEST: u32 = 10;

/// Looked at even if nobody tells of a change: network file systems do not.
const LOOK: Duration = Duration::from_secs(30);

/// Why renewal cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// There is nothing to begin with.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The directory.
    #[error("the directory {0} cannot be watched: {1}")]
    Notify(PathBuf, notify::Error),
}

/// Why new files were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenewalError {
    /// What is wrong with them.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// They would make us somebody else.
    #[error(
        "the renewed certificate is {found}'s, but this runs as {ours}; restart to change who it is"
    )]
    Changed {
        /// Whose it is now.
        found: Identity,
        /// Who we are.
        ours: Identity,
    },
}

/// How renewal goes.
#[derive(Debug, Clone)]
pub struct Status {
    /// Until when the certificate in use counts.
    pub not_after: UnixTime,
    /// How often new credentials were taken.
    pub renewals: u64,
    /// Why what the files say now is not in use; `None` if it is.
    pub problem: Option<RenewalError>,
}

/// Holds credentials and follows their files. Dropping it ends that, not the credentials' use.
pub struct Watcher {
    current: watch::Receiver<Arc<Credentials>>,
    status: Arc<Mutex<Status>>,
    task: JoinHandle<()>,
    _notify: RecommendedWatcher,
}

impl Watcher {
    /// Loads the credentials and begins to follow them. Needs a tokio runtime with timers.
    ///
    /// # Errors
    /// When they cannot be loaded now, or their directories not watched.
    pub fn start(files: Files, role: Role, clock: Clock) -> Result<Self, WatchError> {
        // One is enough: it says that something changed, not what.
        let (changed, changes) = mpsc::channel(1);
        let tell = move |event: notify::Result<notify::Event>| {
            // Our own reading is none of the changes.
            if !matches!(event, Ok(event) if matches!(event.kind, EventKind::Access(_))) {
                // Full: it is known already.
                let _ = changed.try_send(());
            }
        };
        let mut notify = notify::recommended_watcher(tell)
            .map_err(|error| WatchError::Notify(PathBuf::new(), error))?;
        // The directories, not the files: those are replaced by renaming.
        let directories: BTreeSet<&Path> = files.all().into_iter().map(directory).collect();
        for directory in directories {
            notify
                .watch(directory, RecursiveMode::NonRecursive)
                .map_err(|error| WatchError::Notify(directory.to_owned(), error))?;
        }
        // After the watch has begun, so that no change falls between.
        let first = Credentials::load(&files, role, clock.now())?;
        let status = Arc::new(Mutex::new(Status {
            not_after: first.certificate().not_after,
            renewals: 0,
            problem: None,
        }));
        let (publish, current) = watch::channel(Arc::new(first));
        let follower = Follower {
            files,
            role,
            clock,
            publish,
            status: status.clone(),
        };
        let task = tokio::spawn(follower.follow(changes));
        Ok(Self {
            current,
            status,
            task,
            _notify: notify,
        })
    }

    /// What new sessions are to use.
    #[must_use]
    pub fn current(&self) -> Arc<Credentials> {
        self.current.borrow().clone()
    }

    /// The credentials as they are renewed.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Credentials>> {
        self.current.clone()
    }

    /// How renewal goes.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl core::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Watcher")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// Where `file` is: its parent, which for a bare name is the working directory.
fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Renewal is late when less than this part of a certificate's time is left.
const LATE: u64 = 5;

struct Follower {
    files: Files,
    role: Role,
    clock: Clock,
    publish: watch::Sender<Arc<Credentials>>,
    status: Arc<Mutex<Status>>,
}

impl Follower {
    async fn follow(self, mut changes: mpsc::Receiver<()>) {
        let mut warned = None;
        loop {
            self.warn_if_late(&mut warned);
            // Told or not, look.
            if let Ok(Some(())) = timeout(LOOK, changes.recv()).await {
                for _ in 0..LONGEST {
                    sleep(QUIET).await;
                    if changes.try_recv().is_err() {
                        break;
                    }
                }
            }
            let (files, role, now) = (self.files.clone(), self.role, self.clock.now());
            let load = move || Credentials::load(&files, role, now);
            // The loader does not panic; if it was cancelled, the runtime is going down.
            if let Ok(loaded) = tokio::task::spawn_blocking(load).await {
                self.take(loaded);
            }
        }
    }

    /// Says once of each certificate that it should have been renewed.
    fn warn_if_late(&self, warned: &mut Option<Serial>) {
        let credentials = self.publish.borrow().clone();
        let it = credentials.certificate();
        let whole = it
            .not_after
            .as_secs()
            .saturating_sub(it.not_before.as_secs());
        let left = it.remaining(self.clock.now()).as_secs();
        if left <= whole / LATE && warned.as_ref() != Some(&it.serial) {
            tracing::warn!(identity = %it.identity, seconds = left, "the certificate is not renewed");
            *warned = Some(it.serial.clone());
        }
    }

    fn take(&self, loaded: Result<Credentials, CredentialsError>) {
        let ours = self.publish.borrow().clone();
        let outcome = loaded.map_err(RenewalError::from).and_then(|new| {
            if new.identity() == ours.identity() {
                return Ok(new);
            }
            let (found, ours) = (new.identity().clone(), ours.identity().clone());
            Err(RenewalError::Changed { found, ours })
        });
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(new) => {
                status.problem = None;
                if !new.same(&ours) {
                    let certificate = new.certificate();
                    tracing::info!(
                        identity = %certificate.identity,
                        serial = %certificate.serial,
                        seconds = certificate.remaining(self.clock.now()).as_secs(),
                        "credentials renewed"
                    );
                    status.not_after = certificate.not_after;
                    status.renewals += 1;
                    self.publish.send_replace(Arc::new(new));
                }
            }
            // Said once, however often it is found again.
            Err(problem) if status.problem.as_ref() == Some(&problem) => {}
            Err(problem) => {
                tracing::error!(%problem, "renewed credentials are not used; the old ones stay");
                status.problem = Some(problem);
            }
        }
    }
}
