//! What the authority's thread knows: sessions with other edges, mappings, agreed keys (which, not
//! their bytes). Empty where the configuration has no authority.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::routes::{PATIENCE, error};
use crate::manage::authority::Questions;
use crate::manage::status::Report;

/// Sessions with other edges.
pub const SESSIONS: &str = "/v1/sessions";
/// Who is where, at other edges.
pub const MAPPINGS: &str = "/v1/mappings";
/// Agreed keys.
pub const KEYS: &str = "/v1/keys";

/// The routes.
pub(super) fn router(questions: Option<Questions>) -> Router {
    Router::new()
        .route(SESSIONS, get(sessions))
        .route(MAPPINGS, get(mappings))
        .route(KEYS, get(keys))
        .with_state(questions)
}

async fn sessions(State(questions): State<Option<Questions>>) -> Response {
    answer(questions, |report| report.sessions).await
}

async fn mappings(State(questions): State<Option<Questions>>) -> Response {
    answer(questions, |report| report.mappings).await
}

async fn keys(State(questions): State<Option<Questions>>) -> Response {
    answer(questions, |report| report.keys).await
}

async fn answer<T: Serialize>(
    questions: Option<Questions>,
    part: impl FnOnce(Report) -> T,
) -> Response {
    let report = match &questions {
        None => Some(Report::default()),
        Some(questions) => tokio::time::timeout(PATIENCE, questions.report())
            .await
            .ok()
            .flatten(),
    };
    match report {
        Some(report) => Json(part(report)).into_response(),
        None => error(
            StatusCode::SERVICE_UNAVAILABLE,
            "the authority's thread does not answer".to_owned(),
        ),
    }
}
