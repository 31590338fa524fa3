//! What can be asked for: one route for each part of the status. Every answer is JSON, errors
//! too.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::capture::{self, Captures};
use super::keys;
use super::source::{Source, StatusRequest};
use crate::manage::status::Status;

/// How long the control loop has for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A part of the status that has a route of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// Everything: [`Status`].
    Status,
    /// The edge itself.
    Nve,
    /// Ports.
    Ports,
    /// Virtual networks.
    Vns,
    /// Forwarding entries.
    Fdb,
    /// Tunnels.
    Tunnels,
    /// Security associations.
    Sas,
    /// Workers.
    Workers,
    /// Drops, those that never happened too.
    Drops,
    /// Peers.
    Peers,
    /// Time that packets take inside the switch.
    Latency,
    /// Memory.
    Memory,
    /// The mapping authority; `null` where there is none.
    Ima,
}

impl Section {
    /// All of them.
    pub const ALL: [Section; 13] = [
        Section::Status,
        Section::Nve,
        Section::Ports,
        Section::Vns,
        Section::Fdb,
        Section::Tunnels,
        Section::Sas,
        Section::Workers,
        Section::Drops,
        Section::Peers,
        Section::Latency,
        Section::Memory,
        Section::Ima,
    ];

    /// Path of its route.
    pub const fn route(self) -> &'static str {
        match self {
            Section::Status => "/v1/status",
            Section::Nve => "/v1/nve",
            Section::Ports => "/v1/ports",
            Section::Vns => "/v1/vns",
            Section::Fdb => "/v1/fdb",
            Section::Tunnels => "/v1/tunnels",
            Section::Sas => "/v1/sas",
            Section::Workers => "/v1/workers",
            Section::Drops => "/v1/drops",
            Section::Peers => "/v1/peers",
            Section::Latency => "/v1/latency",
            Section::Memory => "/v1/memory",
            Section::Ima => "/v1/ima",
        }
    }

    /// Its part of `status`, as JSON.
    fn json(self, status: &Status) -> Result<Vec<u8>, serde_json::Error> {
        match self {
            Section::Status => serde_json::to_vec(status),
            Section::Nve => serde_json::to_vec(&status.nve),
            Section::Ports => serde_json::to_vec(&status.ports),
            Section::Vns => serde_json::to_vec(&status.vns),
            Section::Fdb => serde_json::to_vec(&status.fdb),
            Section::Tunnels => serde_json::to_vec(&status.tunnels),
            Section::Sas => serde_json::to_vec(&status.sas),
            Section::Workers => serde_json::to_vec(&status.workers),
            Section::Drops => serde_json::to_vec(&status.drops),
            Section::Peers => serde_json::to_vec(&status.peers),
            Section::Latency => serde_json::to_vec(&status.latency),
            Section::Memory => serde_json::to_vec(&status.memory),
            Section::Ima => serde_json::to_vec(&status.ima),
        }
    }
}

/// What every answer that is not 200 says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// For people.
    pub error: String,
}

/// The API without its socket.
pub fn router<S: Source>(source: S) -> Router {
    router_with(source, Arc::default())
}

/// As [`router`], with the captures that are to end before it does.
pub(super) fn router_with<S: Source>(source: S, captures: Arc<Captures>) -> Router {
    let source = Arc::new(source);
    let mut router = Router::new();
    for section in Section::ALL {
        let source = Arc::clone(&source);
        let handler = move || {
            let source = Arc::clone(&source);
            async move { answer(&*source, section).await }
        };
        router = router.route(section.route(), get(handler));
    }
    router
        .merge(capture::routes(Arc::clone(&source), captures))
        .merge(keys::routes(Arc::clone(&source)))
        .merge(super::trace::routes(&source))
        .merge(crate::manage::metrics::router(source))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
}

async fn answer<S: Source>(source: &S, section: Section) -> Response {
    let (request, reply) = StatusRequest::new();
    if let Err(unavailable) = source.ask(request) {
        return error(StatusCode::SERVICE_UNAVAILABLE, unavailable.to_string());
    }
    let status = match tokio::time::timeout(PATIENCE, reply).await {
        Ok(Ok(status)) => status,
        Ok(Err(_)) => {
            return error(
                StatusCode::SERVICE_UNAVAILABLE,
                "the switch is stopping".to_owned(),
            );
        }
        Err(_) => {
            return error(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the switch did not answer in {} s", PATIENCE.as_secs()),
            );
        }
    };
    match section.json(&status) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(cause) => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the status cannot be written as JSON: {cause}"),
        ),
    }
}

async fn unknown_route(uri: Uri) -> Response {
    let mut routes = Section::ALL.map(Section::route).to_vec();
    routes.extend(["/metrics", super::TRACE, super::INJECT]);
    routes.extend([
        capture::CAPTURE_ROUTE,
        capture::CAPTURES_ROUTE,
        keys::KEYS_ROUTE,
    ]);
    let routes = routes.join(", ");
    error(
        StatusCode::NOT_FOUND,
        format!("no route {}; there are {routes}", uri.path()),
    )
}

async fn unknown_method(method: Method, uri: Uri) -> Response {
    let possible = match uri.path() {
        super::TRACE | super::INJECT | keys::KEYS_ROUTE => "POST",
        path if path.starts_with(capture::CAPTURES) => "DELETE",
        _ => "GET",
    };
    error(
        StatusCode::METHOD_NOT_ALLOWED,
        format!(
            "{method} is not possible on {}, only {possible} is",
            uri.path()
        ),
    )
}

pub(super) fn error(status: StatusCode, error: String) -> Response {
    (status, Json(ErrorBody { error })).into_response()
}
