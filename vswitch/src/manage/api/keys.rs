//! `POST /v1/keys/export`: keys for Wireshark, to those who may see them. Both ends.

use std::path::Path;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Query, rejection::QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Router, serve::IncomingStream};
use http_body_util::BodyExt;
use hyper::body::Bytes;
use serde::Deserialize;
use tokio::net::UnixListener;
use zeroize::Zeroize;

use super::client::{self, ClientError};
use super::routes::error;
use super::source::{Source, Unavailable};
use crate::manage::keys::{Asker, ExportError, KeySelection};

/// Path of the route.
pub const KEYS_ROUTE: &str = "/v1/keys/export";

/// How the keys are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum KeyFormat {
    /// Wireshark's table `esp_sa`.
    #[default]
    Wireshark,
}

impl KeyFormat {
    const fn name(self) -> &'static str {
        match self {
            Self::Wireshark => "wireshark",
        }
    }
}

/// The route's query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    format: KeyFormat,
    vn: Option<String>,
    peer: Option<String>,
}

/// A caller whose identity could not be told is nobody who may do more than look.
impl axum::extract::connect_info::Connected<IncomingStream<'_, UnixListener>> for Asker {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        const NOBODY: u32 = u32::MAX;
        match stream.io().peer_cred() {
            Ok(peer) => Asker {
                uid: peer.uid(),
                gid: peer.gid(),
                pid: peer.pid(),
            },
            Err(_) => Asker {
                uid: NOBODY,
                gid: NOBODY,
                pid: None,
            },
        }
    }
}

/// The route.
pub(super) fn routes<S: Source>(source: Arc<S>) -> Router {
    let handler = move |who: ConnectInfo<Asker>, wanted: Result<Query<Wanted>, QueryRejection>| {
        let source = Arc::clone(&source);
        async move {
            match wanted {
                Ok(Query(wanted)) => export(&*source, who.0, wanted).await,
                Err(wrong) => error(StatusCode::BAD_REQUEST, wrong.body_text()),
            }
        }
    };
    Router::new().route(KEYS_ROUTE, post(handler))
}

async fn export<S: Source>(source: &S, who: Asker, wanted: Wanted) -> Response {
    let KeyFormat::Wireshark = wanted.format;
    let (vn, peer) = (wanted.vn, wanted.peer);
    let reply = match source.export_keys(who, KeySelection { vn, peer }) {
        Ok(reply) => reply,
        Err(unavailable) => return error(StatusCode::SERVICE_UNAVAILABLE, unavailable.to_string()),
    };
    // Waited for however long it takes: the keys are marked as given away by now.
    match reply.await {
        Ok(Ok(table)) => {
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            let no_store = HeaderValue::from_static("no-store");
            // Zeroized as soon as it is sent.
            let body = Bytes::from_owner(table);
            let headers = [
                (header::CONTENT_TYPE, text),
                (header::CACHE_CONTROL, no_store),
            ];
            (headers, body).into_response()
        }
        Ok(Err(refusal)) => error(status_of(&refusal), refusal.to_string()),
        Err(_) => error(
            StatusCode::SERVICE_UNAVAILABLE,
            Unavailable::Gone.to_string(),
        ),
    }
}

fn status_of(refusal: &ExportError) -> StatusCode {
    match refusal {
        ExportError::NotAllowed(_) | ExportError::NotYou { .. } => StatusCode::FORBIDDEN,
        ExportError::UnknownVn(_) | ExportError::UnknownPeer(_) | ExportError::Nothing(_) => {
            StatusCode::NOT_FOUND
        }
        ExportError::Mark(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Keys as they came from the switch. What can be zeroized is when it is dropped: the library
/// that received them may have kept a piece, so the process should be one that leaves no core.
pub struct SecretText(Vec<Bytes>);

impl SecretText {
    /// The text, in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(AsRef::as_ref)
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        for piece in self.0.drain(..) {
            if let Ok(mut bytes) = piece.try_into_mut() {
                bytes.zeroize();
            }
        }
    }
}

/// Keys of the switch at `socket`. Needs a tokio runtime with I/O.
///
/// # Errors
/// As for [`super::get`]; a refusal comes as the status with which the switch says why.
pub async fn export_keys(
    socket: &Path,
    format: KeyFormat,
    which: &KeySelection,
) -> Result<SecretText, ClientError> {
    let mut query = client::Query::new(KEYS_ROUTE);
    query.add("format", format.name());
    for (name, value) in [("vn", &which.vn), ("peer", &which.peer)] {
        if let Some(value) = value {
            query.add(name, value);
        }
    }
    let answer = client::open(socket, hyper::Method::POST, &query.finish()).await?;
    let mut body = answer.response.into_body();
    let mut pieces = SecretText(Vec::new());
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame?.into_data() {
            pieces.0.push(piece);
        }
    }
    // With it goes its buffer, and the pieces become the only owners of theirs.
    drop(body);
    answer.connection.abort();
    let _ = answer.connection.await;
    Ok(pieces)
}
