//! Asking a question whose answer comes line by line.

use std::collections::VecDeque;
use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::client::{ClientError, refusal};
use super::routes::ErrorBody;

/// The lines of an answer, as they come.
pub struct AnswerLines {
    body: Incoming,
    ready: VecDeque<Vec<u8>>,
    partial: Vec<u8>,
    /// Moves the bytes; ends with this value, so that the switch sees that nobody reads.
    connection: JoinHandle<()>,
}

impl Drop for AnswerLines {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Posts `question` as JSON to `route` of the switch at `socket`. Needs a tokio runtime.
///
/// # Errors
/// When there is no answer, or it is an error.
pub async fn post_lines<Q: Serialize>(
    socket: &Path,
    route: &'static str,
    question: &Q,
) -> Result<AnswerLines, ClientError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| refusal(socket, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(async move {
        // What breaks it is seen by whoever reads the answer.
        let _ = connection.await;
    });
    // Plain data: what cannot be written as JSON is not in it.
    let question = serde_json::to_vec(question).unwrap_or_default();
    let mut request = Request::new(Full::new(Bytes::from(question)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = hyper::Uri::from_static(route);
    let headers = request.headers_mut();
    headers.insert(header::HOST, header::HeaderValue::from_static("localhost"));
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    let response = sender.send_request(request).await?;
    let status = response.status();
    if status != StatusCode::OK {
        let body = response.into_body().collect().await?.to_bytes();
        let message = serde_json::from_slice::<ErrorBody>(&body)
            .map(|body| body.error)
            .unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned());
        return Err(ClientError::Status { status, message });
    }
    Ok(AnswerLines {
        body: response.into_body(),
        ready: VecDeque::new(),
        partial: Vec::new(),
        connection,
    })
}

impl AnswerLines {
    /// The next line without its end; `None` after the last.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            for part in data.split_inclusive(|byte| *byte == b'\n') {
                self.partial.extend(part);
                if self.partial.last() == Some(&b'\n') {
                    self.partial.pop();
                    self.ready.push_back(std::mem::take(&mut self.partial));
                }
            }
        }
    }
}
