//! `GET /v1/capture`: a pcapng file that grows until it is ended by a limit, by
//! `DELETE /v1/captures/{id}`, by the switch's end, or by whoever reads it going away. Both ends.
//!
//! Each capture has a thread: it waits for its reader, and writing packets down must not keep
//! the API's other callers waiting.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Path as Segment, Query};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::{Bytes, Frame, Incoming};
use tokio::sync::mpsc;

use super::client::{self, ClientError};
use super::routes::error;
use super::source::{Source, Unavailable};
use crate::manage::capture::{self, Capture, Reader, Summary};
use crate::manage::keys::Asker;
use crate::manage::observe::WatchError;

/// Path of the route that captures.
pub const CAPTURE_ROUTE: &str = "/v1/capture";
/// Path of the route that ends a capture.
pub const CAPTURES_ROUTE: &str = "/v1/captures/{id}";
/// How it begins.
pub(super) const CAPTURES: &str = "/v1/captures/";

/// Header with the capture's number.
const ID: HeaderName = HeaderName::from_static("capture-id");
/// Trailers: packets in the file, and packets lost for lack of room.
const PACKETS: HeaderName = HeaderName::from_static("capture-packets");
const LOST: HeaderName = HeaderName::from_static("capture-lost");

/// Pieces of a file on their way to a reader at most.
const PIECES: usize = 4;

/// The captures under way: how each is told to end.
#[derive(Debug, Default)]
pub(super) struct Captures {
    ends: Mutex<BTreeMap<u64, Arc<AtomicBool>>>,
    last: AtomicU64,
}

impl Captures {
    fn add(&self) -> (u64, Arc<AtomicBool>) {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let end = Arc::new(AtomicBool::new(false));
        self.map().insert(id, Arc::clone(&end));
        (id, end)
    }

    fn end(&self, id: u64) -> bool {
        let map = self.map();
        let end = map.get(&id);
        end.inspect(|end| end.store(true, Ordering::Relaxed))
            .is_some()
    }

    /// Ends all: their readers get a whole file.
    pub(super) fn end_all(&self) {
        for end in self.map().values() {
            end.store(true, Ordering::Relaxed);
        }
    }

    fn map(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<AtomicBool>>> {
        // What is in it is whole after each of these short uses, whatever panicked.
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The routes.
pub(super) fn routes<S: Source>(source: Arc<S>, captures: Arc<Captures>) -> Router {
    let under_way = Arc::clone(&captures);
    let begin = move |who: ConnectInfo<Asker>, wanted: Result<Query<Capture>, QueryRejection>| {
        let (source, captures) = (Arc::clone(&source), Arc::clone(&under_way));
        async move {
            match wanted {
                Ok(Query(wanted)) => begin(&*source, captures, who.0, wanted).await,
                Err(wrong) => error(StatusCode::BAD_REQUEST, wrong.body_text()),
            }
        }
    };
    let end = move |Segment(id): Segment<String>| {
        let captures = Arc::clone(&captures);
        async move {
            match id.parse().is_ok_and(|id| captures.end(id)) {
                true => axum::Json(serde_json::json!({})).into_response(),
                false => error(
                    StatusCode::NOT_FOUND,
                    format!("no capture {id} is under way"),
                ),
            }
        }
    };
    Router::new()
        .route(CAPTURE_ROUTE, get(begin))
        .route(CAPTURES_ROUTE, delete(end))
}

async fn begin<S: Source>(
    source: &S,
    captures: Arc<Captures>,
    who: Asker,
    wanted: Capture,
) -> Response {
    let ask = match wanted.ask() {
        Ok(ask) => ask,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong.to_string()),
    };
    let reply = match source.watch(ask) {
        Ok(reply) => reply,
        Err(unavailable) => return error(StatusCode::SERVICE_UNAVAILABLE, unavailable.to_string()),
    };
    let watch = match reply.await {
        Ok(Ok(watch)) => watch,
        Ok(Err(wrong @ WatchError::Filter(_))) => {
            return error(StatusCode::BAD_REQUEST, wrong.to_string());
        }
        Ok(Err(full @ WatchError::TooMany(_))) => {
            return error(StatusCode::SERVICE_UNAVAILABLE, full.to_string());
        }
        Err(_) => {
            let gone = Unavailable::Gone.to_string();
            return error(StatusCode::SERVICE_UNAVAILABLE, gone);
        }
    };
    let (id, stop) = captures.add();
    let (pieces, taken) = mpsc::channel(PIECES);
    let under_way = Arc::clone(&captures);
    let started = std::thread::Builder::new()
        .name(format!("vswitch-cap{id}"))
        .spawn(move || {
            tracing::info!(
                capture = id,
                uid = who.uid,
                pid = who.pid,
                ?wanted,
                "capture begins"
            );
            let mut stream = Stream(pieces);
            let ended = capture::run(&wanted, &watch, &stop, &mut stream);
            under_way.map().remove(&id);
            let lost = watch.lost();
            // The workers stop looking.
            drop(watch);
            match ended {
                Ok(summary) => {
                    tracing::info!(
                        capture = id,
                        packets = summary.packets,
                        lost,
                        "capture ends"
                    );
                    let _ = stream.0.blocking_send(Piece::End(summary));
                }
                Err(error) => tracing::info!(capture = id, lost, %error, "capture ends"),
            }
        });
    if let Err(cause) = started {
        captures.map().remove(&id);
        let cause = format!("no thread for the capture: {cause}");
        return error(StatusCode::INTERNAL_SERVER_ERROR, cause);
    }
    let frames = stream::unfold(taken, |mut taken| async move {
        let frame = match taken.recv().await? {
            Piece::Bytes(bytes) => Frame::data(Bytes::from(bytes)),
            Piece::End(summary) => Frame::trailers(HeaderMap::from_iter([
                (PACKETS, HeaderValue::from(summary.packets)),
                (LOST, HeaderValue::from(summary.lost)),
            ])),
        };
        Some((Ok::<_, Infallible>(frame), taken))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(PCAPNG)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::TRAILER,
            HeaderValue::from_static("capture-packets, capture-lost"),
        ),
        (ID, HeaderValue::from(id)),
    ];
    (headers, Body::new(StreamBody::new(frames))).into_response()
}

/// The file's media type; none is registered.
const PCAPNG: &str = "application/x-pcapng";

enum Piece {
    Bytes(Vec<u8>),
    End(Summary),
}

/// The thread's end of the way to the reader.
struct Stream(mpsc::Sender<Piece>);

impl Reader for Stream {
    fn take(&mut self, piece: Vec<u8>) -> io::Result<()> {
        self.0
            .blocking_send(Piece::Bytes(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// A capture under way, as its reader sees it.
pub struct Capturing {
    body: Incoming,
    id: String,
    summary: Option<Summary>,
}

impl Capturing {
    /// What to end it by: see [`stop_capture`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The next piece of the file; `None` at its end.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            match frame?.into_data() {
                Ok(data) => return Ok(Some(data)),
                Err(other) => {
                    if let Ok(trailers) = other.into_trailers() {
                        self.summary = summary(&trailers);
                    }
                }
            }
        }
        Ok(None)
    }

    /// How it ended; `None` if it did not come to its end.
    pub fn summary(&self) -> Option<Summary> {
        self.summary
    }
}

fn summary(trailers: &HeaderMap) -> Option<Summary> {
    let number = |name| trailers.get(name)?.to_str().ok()?.parse().ok();
    Some(Summary {
        packets: number(PACKETS)?,
        lost: number(LOST)?,
    })
}

/// Begins a capture at the switch at `socket`; `query` has the names and values of
/// [`Capture`]'s fields. Needs a tokio runtime with I/O.
///
/// # Errors
/// As for [`super::get`].
pub async fn capture(socket: &Path, fields: &[(&str, String)]) -> Result<Capturing, ClientError> {
    let mut query = client::Query::new(CAPTURE_ROUTE);
    for (name, value) in fields {
        query.add(name, value);
    }
    let answer = client::open(socket, Method::GET, &query.finish()).await?;
    let id = answer.response.headers().get(ID);
    let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    Ok(Capturing {
        id: id.to_owned(),
        body: answer.response.into_body(),
        summary: None,
    })
}

/// Ends a capture: what was seen until now is still written, then the statistics.
///
/// # Errors
/// As for [`super::get`]; also when it has ended already.
pub async fn stop_capture(socket: &Path, id: &str) -> Result<(), ClientError> {
    let path = format!("{CAPTURES}{id}");
    client::open(socket, Method::DELETE, &path).await?;
    Ok(())
}
