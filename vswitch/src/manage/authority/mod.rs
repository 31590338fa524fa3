//! The thread between the network and the control thread: sessions with the mapping authority and
//! with other edges, driven by the state machines of `vswitch-control` (`client`, `keying`), whose
//! decisions become orders to the control thread and whose questions come from there.
//!
//! `driver` is the loop, `network` the tasks that read sessions, `sessions` what they bring, `members`
//! what is known of other edges, `orders` translates, `alarms` tells the security log, `report` is what
//! is shown.

mod alarms;
mod driver;
mod members;
mod network;
mod orders;
mod report;
mod sessions;
mod steering;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use vswitch_control::identity::{Clock, Files, Role, WatchError, Watcher};
use vswitch_control::session::{Endpoint, OpenError, Setup};
use vswitch_control::uptime::Uptime;

use super::config::Config;
use super::edge::overlay::Overlay;
use super::status::Report;
use driver::{Driver, Elapsed};

/// How long a listening address may take to appear: a tap's is set just before.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions that wait.
const QUESTIONS: usize = 16;

/// Why there is no authority's thread.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Who we are.
    #[error("authority: {0}")]
    Identity(#[from] WatchError),
    /// The certificate is somebody else's.
    #[error(
        "authority.certificate is of `{certificate}`, but nve.name is `{name}`: an edge's name is \
         its identity"
    )]
    Name {
        /// The name in the certificate.
        certificate: String,
        /// The configuration's.
        name: String,
    },
    /// The socket.
    #[error("authority.listen: {0}")]
    Listen(#[from] OpenError),
    /// A name that the protocol does not know.
    #[error("{0}")]
    Unspeakable(#[from] vswitch_control::types::NameError),
    /// More tunnel addresses than can be told.
    #[error("underlay.local: {0} addresses are more than an edge can be reached at")]
    Addresses(usize),
    /// Random numbers.
    #[error("the kernel gives no random numbers: {0}")]
    Random(#[source] std::io::Error),
    /// A thread of the system.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// The configuration has no such section.
    #[error("there is no authority in the configuration")]
    None,
}

/// The thread; dropping it leaves all networks and ends it.
pub struct Authority {
    stop: Option<oneshot::Sender<()>>,
    questions: mpsc::Sender<oneshot::Sender<Report>>,
    thread: Option<JoinHandle<()>>,
    /// Resolves when the thread has ended.
    ended: Option<oneshot::Receiver<Infallible>>,
}

/// Asks the thread; cloned freely.
#[derive(Debug, Clone)]
pub struct Questions(mpsc::Sender<oneshot::Sender<Report>>);

impl Questions {
    /// Everything it knows; `None` if it is gone or too busy.
    pub async fn report(&self) -> Option<Report> {
        let (ask, answer) = oneshot::channel();
        self.0.try_send(ask).ok()?;
        answer.await.ok()
    }
}

impl Authority {
    /// Loads the identity, opens the socket, and starts.
    ///
    /// # Errors
    /// If any of that is not to be had; the message names the key of the configuration.
    pub fn start(config: &Config, overlay: Overlay) -> Result<Authority, StartError> {
        let began = Uptime::begin();
        Self::start_by(config, overlay, Box::new(move || began.elapsed()))
    }

    /// The same by a given clock, which never goes back.
    fn start_by(
        config: &Config,
        overlay: Overlay,
        clock: Elapsed,
    ) -> Result<Authority, StartError> {
        let wanted = config.authority.as_ref().ok_or(StartError::None)?;
        let files = Files {
            chain: wanted.certificate.clone(),
            key: wanted.private_key.clone(),
            bundle: wanted.bundle.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        let entered = runtime.enter();
        let watcher = Watcher::start(files, Role::Nve, Clock::system())?;
        let identity = watcher.current().identity().clone();
        if identity.name() != config.name {
            return Err(StartError::Name {
                certificate: identity.name().to_owned(),
                name: config.name.clone(),
            });
        }
        let setup = || Setup::new(watcher.subscribe(), &[Role::Nve]);
        let begun = std::time::Instant::now();
        let endpoint = loop {
            match Endpoint::bind(wanted.listen, setup()) {
                Err(OpenError::Bind(..)) if begun.elapsed() < PATIENCE => {
                    std::thread::sleep(PATIENCE / 50);
                }
                bound => break bound?,
            }
        };
        drop(entered);
        let (stop, stopped) = oneshot::channel();
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let (alive, ended) = oneshot::channel();
        let driver = Driver::new(
            config,
            overlay,
            &identity,
            watcher,
            Arc::new(endpoint),
            clock,
        )?;
        let thread = std::thread::Builder::new()
            .name("vswitch-ima".into())
            .spawn(move || {
                let _alive = alive;
                runtime.block_on(driver.run(asked, stopped));
            })
            .map_err(StartError::Thread)?;
        Ok(Authority {
            stop: Some(stop),
            questions,
            thread: Some(thread),
            ended: Some(ended),
        })
    }

    /// Resolves when its thread ends by itself, which it must not: without it no lease ends and nobody
    /// is revoked, so the switch must not go on. Once.
    pub fn ended(&mut self) -> impl Future<Output = ()> + use<> {
        let ended = self.ended.take();
        async move {
            match ended {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        }
    }

    /// Whether it has.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Asks it.
    #[must_use]
    pub fn questions(&self) -> Questions {
        Questions(self.questions.clone())
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
