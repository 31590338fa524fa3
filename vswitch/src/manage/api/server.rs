//! Serving the API, until told to stop.

use std::future::{self, Future, IntoFuture};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::authority_routes;
use super::capture::Captures;
use super::config_routes;
use super::desk::Desk;
use super::routes::router_with;
use super::socket::{self, Place};
use super::source::Source;
use crate::manage::authority::Questions;
use crate::manage::keys::Asker;

/// How long requests under way may take once the API is to stop.
const GRACE: Duration = Duration::from_secs(2);

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Another process answers on the socket.
    #[error("another process, probably a vswitchd, answers on {path}: find it by `ss -xlp src {path}`, or set `api.socket`", path = .0.display())]
    InUse(PathBuf),
    /// Something else is where the socket should be; it is left alone.
    #[error("{} is there, but is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The socket could not be put in place.
    #[error("no API socket at {}: {error}", path.display())]
    Socket {
        /// Where it should be.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// Accepting connections failed for good.
    #[error("the API ended: {0}")]
    Serve(io::Error),
}

/// The API with its socket in place: from here on, clients can connect.
#[derive(Debug)]
pub struct Api {
    listener: UnixListener,
    place: Place,
    desk: Option<Desk>,
    questions: Option<Questions>,
}

impl Api {
    /// Puts the socket at `path`: mode 0660, its directory made (0755) if there is none, what
    /// a killed process left behind replaced. Needs a tokio runtime.
    pub async fn bind(path: &Path) -> Result<Self, ApiError> {
        let (listener, place) = socket::listen(path).await?;
        Ok(Self {
            listener,
            place,
            desk: None,
            questions: None,
        })
    }

    /// Takes changes of the configuration too.
    pub fn with_desk(mut self, desk: Desk) -> Self {
        self.desk = Some(desk);
        self
    }

    /// Answers for the authority's thread too.
    pub fn with_questions(mut self, questions: Option<Questions>) -> Self {
        self.questions = questions;
        self
    }

    /// Answers until `shutdown` is ready, then lets requests under way finish for at most two
    /// seconds and removes the socket. It is removed too if this future is dropped.
    pub async fn serve<S: Source>(
        self,
        source: S,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ApiError> {
        let Self {
            listener,
            place,
            desk,
            questions,
        } = self;
        let _place = place;
        let (stopping, stopped) = oneshot::channel();
        let captures = Arc::<Captures>::default();
        let mut routes = router_with(source, Arc::clone(&captures));
        if let Some(desk) = desk {
            routes = routes.merge(config_routes::router(desk));
        }
        routes = routes.merge(authority_routes::router(questions));
        let service = routes.into_make_service_with_connect_info::<Asker>();
        let server = axum::serve(listener, service)
            .with_graceful_shutdown(async move {
                shutdown.await;
                captures.end_all();
                // Nobody listens only if the server has ended already.
                let _ = stopping.send(());
            })
            .into_future();
        // A client that keeps half a request to itself must not keep the switch from ending.
        let patience = async move {
            match stopped.await {
                Ok(()) => tokio::time::sleep(GRACE).await,
                Err(_) => future::pending().await,
            }
        };
        tokio::select! {
            ended = server => ended.map_err(ApiError::Serve),
            () = patience => Ok(()),
        }
    }
}

/// [`Api::bind`] and [`Api::serve`] in one.
pub async fn serve<S: Source>(
    socket: &Path,
    source: S,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ApiError> {
    Api::bind(socket).await?.serve(source, shutdown).await
}
