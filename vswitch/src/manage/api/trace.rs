//! `POST /v1/trace`: packets as they match, one JSON line each, until there are enough, time is
//! up or the client goes away. `POST /v1/inject`: a dry run, one JSON line for each packet
//! that it comes to.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use crossbeam::channel::TryRecvError;
use futures_util::stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::routes::{PATIENCE, error};
use super::source::Source;
use crate::manage::observe::{Ask, Inject, Trace, TraceEnd, TraceLine, TraceRequest, Watch};

/// Path of the trace.
pub const TRACE: &str = "/v1/trace";
/// Path of the dry run.
pub const INJECT: &str = "/v1/inject";

/// What the answers are made of.
const JSON_LINES: &str = "application/jsonl";
/// Packets that may wait to be told of.
const DEPTH: usize = 1024;
/// How often it is looked whether there is one: a worker wakes nobody.
const POLL: Duration = Duration::from_millis(5);
/// Packets at most.
const MAX_COUNT: u32 = 1_000_000;
/// Seconds at most.
const MAX_TIMEOUT: u32 = 86_400;
/// Bytes of a question at most: the longest packet in hexadecimal digits, and its name.
const MAX_QUESTION: usize = 160 * 1024;

/// The routes.
pub(super) fn routes<S: Source>(source: &Arc<S>) -> Router {
    let (traced, injected) = (Arc::clone(source), Arc::clone(source));
    let trace = move |body: Bytes| async move {
        match question::<TraceRequest>(&body) {
            Ok(request) => trace(&*traced, request).await,
            Err(refusal) => refusal,
        }
    };
    let inject = move |body: Bytes| async move {
        match question::<Inject>(&body) {
            Ok(request) => inject(&*injected, request).await,
            Err(refusal) => refusal,
        }
    };
    Router::new()
        .route(TRACE, post(trace))
        .route(INJECT, post(inject))
        .layer(DefaultBodyLimit::max(MAX_QUESTION))
}

/// Whatever content type it claims: curl says of JSON that it is a form.
#[allow(clippy::result_large_err)] // goes out as it is
fn question<Q: DeserializeOwned>(body: &[u8]) -> Result<Q, Response> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|cause| error(StatusCode::BAD_REQUEST, format!("not understood: {cause}")))
}

async fn trace<S: Source>(source: &S, request: TraceRequest) -> Response {
    let timeout = request.timeout.unwrap_or(1);
    if !(1..=MAX_COUNT).contains(&request.count) || !(1..=MAX_TIMEOUT).contains(&timeout) {
        let text = format!("count is 1 to {MAX_COUNT}, timeout 1 to {MAX_TIMEOUT} seconds");
        return error(StatusCode::BAD_REQUEST, text);
    }
    let ask = Ask {
        filter: request.filter,
        snaplen: 0,
        depth: DEPTH,
    };
    let answer = match source.watch(ask) {
        Ok(answer) => answer,
        Err(unavailable) => return error(StatusCode::SERVICE_UNAVAILABLE, unavailable.to_string()),
    };
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Ok(watch))) => {
            let lines = Lines {
                watch,
                told: 0,
                count: request.count,
                until: request
                    .timeout
                    .map(|s| Instant::now() + Duration::from_secs(s.into())),
                over: false,
            };
            let body = Body::from_stream(stream::unfold(lines, Lines::next));
            ([(header::CONTENT_TYPE, JSON_LINES)], body).into_response()
        }
        Ok(Ok(Err(refusal))) => error(StatusCode::BAD_REQUEST, refusal.to_string()),
        Ok(Err(_)) => gone(),
        Err(_) => slow(),
    }
}

/// A trace under way. It ends with this value: when the client goes away it is dropped.
struct Lines {
    watch: Watch,
    told: u32,
    count: u32,
    until: Option<Instant>,
    over: bool,
}

impl Lines {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.over {
            return None;
        }
        let reason = loop {
            if self.told == self.count {
                break "count";
            }
            match self.watch.records.try_recv() {
                Ok(record) => {
                    self.told += 1;
                    let trace = Trace::new(&record, &self.watch.names, self.watch.clock);
                    let line = line(&TraceLine::Packet(Box::new(trace)));
                    return Some((Ok(line), self));
                }
                Err(TryRecvError::Disconnected) => break "stopping",
                Err(TryRecvError::Empty) => {}
            }
            if self.until.is_some_and(|until| Instant::now() >= until) {
                break "timeout";
            }
            tokio::time::sleep(POLL).await;
        };
        self.over = true;
        let end = TraceLine::End(TraceEnd {
            packets: self.told,
            lost: self.watch.lost(),
            reason: reason.to_owned(),
        });
        Some((Ok(line(&end)), self))
    }
}

async fn inject<S: Source>(source: &S, inject: Inject) -> Response {
    let answer = match source.rehearse(inject) {
        Ok(answer) => answer,
        Err(unavailable) => return error(StatusCode::SERVICE_UNAVAILABLE, unavailable.to_string()),
    };
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Ok(outcome))) => {
            let mut body = Vec::new();
            for record in &outcome.records {
                let trace = Trace::new(record, &outcome.names, outcome.clock);
                body.extend(line(&trace));
            }
            ([(header::CONTENT_TYPE, JSON_LINES)], body).into_response()
        }
        Ok(Ok(Err(refusal))) => error(StatusCode::BAD_REQUEST, refusal.to_string()),
        Ok(Err(_)) => gone(),
        Err(_) => slow(),
    }
}

fn gone() -> Response {
    let text = "the switch is stopping, or a worker does not answer".to_owned();
    error(StatusCode::SERVICE_UNAVAILABLE, text)
}

fn slow() -> Response {
    let text = format!("the switch did not answer in {} s", PATIENCE.as_secs());
    error(StatusCode::SERVICE_UNAVAILABLE, text)
}

/// Strings and numbers: what cannot be written as JSON is not among them.
fn line<T: Serialize>(value: &T) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
