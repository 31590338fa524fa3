//! `/metrics` over TCP, where the configuration asks for it.

use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::{CONTENT_TYPE, text};
use crate::manage::api::{Source, StatusRequest};

/// How long the control loop has for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// The address cannot be had.
    #[error(
        "metrics cannot be served on {address}: {error}: change metrics.listen, or end who has it"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// Accepting connections failed for good.
    #[error("the server of metrics ended: {0}")]
    Serve(io::Error),
}

/// The route `/metrics`, for the API's socket and for a listener of its own.
pub fn router<S: Source>(source: Arc<S>) -> Router {
    let handler = move || {
        let source = Arc::clone(&source);
        async move { answer(&*source).await }
    };
    Router::new().route("/metrics", get(handler))
}

async fn answer<S: Source>(source: &S) -> Response {
    let refused = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response();
    let (request, reply) = StatusRequest::new();
    if let Err(unavailable) = source.ask(request) {
        return refused(unavailable.to_string());
    }
    let status = match tokio::time::timeout(PATIENCE, reply).await {
        Ok(Ok(status)) => status,
        Ok(Err(_)) => return refused("the switch is stopping".to_owned()),
        Err(_) => {
            return refused(format!(
                "the switch did not answer in {} s",
                PATIENCE.as_secs()
            ));
        }
    };
    match text(status) {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// A listener: from here on, clients can connect.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Listens. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenerError> {
        let listener = TcpListener::bind(address).await;
        listener
            .map(Listener)
            .map_err(|error| ListenerError::Bind { address, error })
    }

    /// Where it listens, with the port that it got where 0 was asked for.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers until `shutdown` is ready; what is under way then is cut off.
    ///
    /// # Errors
    /// When accepting connections fails for good.
    pub async fn serve<S: Source>(
        self,
        source: S,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ListenerError> {
        let server = axum::serve(self.0, router(Arc::new(source)));
        tokio::select! {
            ended = server.into_future() => ended.map_err(ListenerError::Serve),
            () = shutdown => Ok(()),
        }
    }
}
