//! The routes below `/v1/config`: what runs, what ran, what would be different, and changes.
//! Whoever may connect may look; only root and the daemon's own user may change or propose,
//! since that has files read and sockets made with the daemon's rights.

use axum::extract::connect_info::ConnectInfo;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;

use super::desk::{Desk, DeskError, Proposal, Wanted};
use super::routes::ErrorBody;
use crate::manage::change::{How, Who};
use crate::manage::keys::Asker;

/// The configuration that runs.
pub const CONFIG: &str = "/v1/config";
/// The revisions that can be gone back to.
pub const REVISIONS: &str = "/v1/config/revisions";
/// What a change would be.
pub const DIFF: &str = "/v1/config/diff";
/// A change.
pub const APPLY: &str = "/v1/config/apply";

/// Twice the largest file, which grows when it is written as JSON.
const MAX_BODY: usize = 32 << 20;

/// Whoever it is, if they may change anything.
fn allowed(asker: Asker) -> Option<Who> {
    let us = rustix::process::geteuid().as_raw();
    (asker.uid == 0 || asker.uid == us).then_some(Who {
        uid: asker.uid,
        pid: asker.pid,
    })
}

/// The routes.
pub(super) fn router(desk: Desk) -> Router {
    Router::new()
        .route(CONFIG, get(running))
        .route(REVISIONS, get(revisions))
        .route(DIFF, post(diff))
        .route(APPLY, post(apply))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .method_not_allowed_fallback(unknown_method)
        .with_state(desk)
}

async fn running(State(desk): State<Desk>) -> Response {
    answer(desk.config().await)
}

async fn revisions(State(desk): State<Desk>) -> Response {
    answer(Ok(desk.running().history.clone()))
}

async fn diff(
    State(desk): State<Desk>,
    ConnectInfo(asker): ConnectInfo<Asker>,
    proposal: Result<Json<Proposal>, JsonRejection>,
) -> Response {
    let proposal = match (allowed(asker), proposal) {
        (None, _) => return forbidden(),
        (_, Err(wrong)) => return error(wrong.status(), wrong.body_text()),
        (Some(_), Ok(Json(proposal))) => proposal,
    };
    answer(desk.diff(proposal.wanted).await)
}

async fn apply(
    State(desk): State<Desk>,
    ConnectInfo(asker): ConnectInfo<Asker>,
    proposal: Result<Json<Proposal>, JsonRejection>,
) -> Response {
    let (who, proposal) = match (allowed(asker), proposal) {
        (None, _) => return forbidden(),
        (_, Err(wrong)) => return error(wrong.status(), wrong.body_text()),
        (Some(who), Ok(Json(proposal))) => (who, proposal),
    };
    let how = match proposal.wanted {
        Wanted::Text { .. } => How::Apply,
        Wanted::Startup => How::Reload,
        Wanted::Revision { .. } => How::Rollback,
    };
    answer(desk.apply(proposal, how, Some(who)).await)
}

fn forbidden() -> Response {
    error(
        StatusCode::FORBIDDEN,
        "only root and the daemon's own user may change the configuration: use sudo".to_owned(),
    )
}

async fn unknown_method(method: Method, uri: Uri) -> Response {
    let path = uri.path();
    error(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{method} is not possible on {path}"),
    )
}

fn answer<T: Serialize>(result: Result<T, DeskError>) -> Response {
    match result {
        Ok(answer) => Json(answer).into_response(),
        Err(refused) => error(refused.status(), refused.to_string()),
    }
}

fn error(status: StatusCode, error: String) -> Response {
    (status, Json(ErrorBody { error })).into_response()
}
