//! Asking a running switch. The errors say what the operator can do.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixStream;

use super::routes::{ErrorBody, Section};

/// How long an answer may take; the server itself gives up after two seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Likewise for a change, for which the server takes half a minute.
const LONG_PATIENCE: Duration = Duration::from_secs(40);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket.
    #[error(
        "no socket at {}: is vswitchd running? (if its socket is elsewhere: --socket, or \
         VSWITCH_SOCKET)",
        .0.display()
    )]
    Absent(PathBuf),
    /// There is a socket, but nobody listens on it.
    #[error(
        "nobody answers at {}: is vswitchd running? (what is there was left behind)",
        .0.display()
    )]
    Refused(PathBuf),
    /// The caller may not connect.
    #[error("no permission to connect to {}: {}", socket.display(), remedy(group.as_deref()))]
    Denied {
        /// The socket.
        socket: PathBuf,
        /// Name or number of the group that may, where the caller may know it.
        group: Option<String>,
    },
    /// Connecting failed otherwise.
    #[error("cannot connect to {}: {error}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// No answer in time.
    #[error(
        "vswitchd took the question and did not answer it in {} s: its log may say why",
        .0.as_secs()
    )]
    Timeout(Duration),
    /// What was to be handed in is no JSON.
    #[error("the request cannot be written as JSON: {0}")]
    Body(#[source] serde_json::Error),
    /// The connection broke, or the other end does not speak HTTP.
    #[error("the connection to vswitchd broke: {0}")]
    Http(#[from] hyper::Error),
    /// The switch answered with an error.
    #[error("vswitchd answered {status}: {message}")]
    Status {
        /// The HTTP status.
        status: StatusCode,
        /// What it says.
        message: String,
    },
}

fn remedy(group: Option<&str>) -> String {
    match group {
        Some(group) if group != "root" => {
            format!("join the group `{group}`, which may, or use sudo")
        }
        _ => "only root may; use sudo".to_owned(),
    }
}

/// `section` from the switch at `socket`, as JSON. Needs a tokio runtime with time and I/O.
pub async fn get(socket: &Path, section: Section) -> Result<Bytes, ClientError> {
    get_route(socket, section.route()).await
}

/// What a route has, as JSON.
pub async fn get_route(socket: &Path, route: &'static str) -> Result<Bytes, ClientError> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = hyper::Uri::from_static(route);
    match tokio::time::timeout(PATIENCE, exchange(socket, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(ClientError::Timeout(PATIENCE)),
    }
}

/// Hands `body` in at a route, as JSON, and returns the answer.
pub async fn post(
    socket: &Path,
    route: &'static str,
    body: &impl Serialize,
) -> Result<Bytes, ClientError> {
    let body = serde_json::to_vec(body).map_err(ClientError::Body)?;
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = hyper::Uri::from_static(route);
    let json = header::HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    match tokio::time::timeout(LONG_PATIENCE, exchange(socket, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(ClientError::Timeout(LONG_PATIENCE)),
    }
}

async fn exchange(socket: &Path, mut request: Request<Full<Bytes>>) -> Result<Bytes, ClientError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| refusal(socket, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    request
        .headers_mut()
        .insert(header::HOST, header::HeaderValue::from_static("localhost"));
    let question = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok::<_, ClientError>((status, body))
    };
    // The connection moves the bytes: it runs beside the question, until that has its answer.
    let mut question = std::pin::pin!(question);
    let (status, body) = tokio::select! {
        answer = &mut question => answer?,
        ended = connection => {
            ended?;
            question.await?
        }
    };
    if status == StatusCode::OK {
        return Ok(body);
    }
    let message = serde_json::from_slice::<ErrorBody>(&body)
        .map(|body| body.error)
        .unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned());
    Err(ClientError::Status { status, message })
}

fn refusal(socket: &Path, error: io::Error) -> ClientError {
    let path = socket.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => ClientError::Absent(path),
        io::ErrorKind::ConnectionRefused => ClientError::Refused(path),
        io::ErrorKind::PermissionDenied => ClientError::Denied {
            group: fs::metadata(socket)
                .ok()
                .map(|found| group_name(found.gid())),
            socket: path,
        },
        _ => ClientError::Connect {
            socket: path,
            error,
        },
    }
}

/// As `/etc/group` has it, else the number.
fn group_name(gid: u32) -> String {
    let text = fs::read("/etc/group").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    name_in(&text, gid).unwrap_or_else(|| gid.to_string())
}

fn name_in(groups: &str, gid: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        (number == gid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_has_its_name() {
        let groups = "root:x:0:\nbroken\nvswitch:x:990:alice,bob\n";
        assert_eq!(name_in(groups, 990).as_deref(), Some("vswitch"));
        assert_eq!(name_in(groups, 991), None);
    }

    #[test]
    fn a_refused_caller_is_told_what_to_do() {
        let denied = |group: Option<&str>| {
            ClientError::Denied {
                socket: PathBuf::from("/run/x"),
                group: group.map(str::to_owned),
            }
            .to_string()
        };
        assert!(denied(Some("vswitch")).contains("join the group `vswitch`"));
        assert!(!denied(Some("root")).contains("join"));
        assert!(denied(None).contains("sudo"));
    }
}
