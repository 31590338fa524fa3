//! Asking a running switch. The errors say what the operator can do.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

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
    /// The question cannot be written as an HTTP request.
    #[error("this cannot be asked: {0}")]
    Request(String),
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
    let question = exchange(socket, Method::GET, route, Bytes::new());
    match tokio::time::timeout(PATIENCE, question).await {
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
    let question = exchange(socket, Method::POST, route, body.into());
    match tokio::time::timeout(LONG_PATIENCE, question).await {
        Ok(answer) => answer,
        Err(_) => Err(ClientError::Timeout(LONG_PATIENCE)),
    }
}

async fn exchange(
    socket: &Path,
    method: Method,
    route: &str,
    body: Bytes,
) -> Result<Bytes, ClientError> {
    let answer = send(socket, method, route, body).await?;
    Ok(answer.response.into_body().collect().await?.to_bytes())
}

/// A path with a query, its values escaped.
pub(super) struct Query(String);

impl Query {
    pub(super) fn new(path: &str) -> Self {
        Query(path.to_owned())
    }

    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    self.0.push(char::from(byte));
                }
                // RFC 3986, 2.1.
                other => self.0.push_str(&format!("%{other:02X}")),
            }
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// An answer whose body has yet to come.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    /// Moves the bytes.
    pub(super) connection: JoinHandle<()>,
}

/// Sends a request and waits for the head of its answer; anything but 200 is an error.
pub(super) async fn open(
    socket: &Path,
    method: Method,
    path_and_query: &str,
) -> Result<Answer, ClientError> {
    send(socket, method, path_and_query, Bytes::new()).await
}

/// Likewise, with a body of JSON unless it is empty.
async fn send(
    socket: &Path,
    method: Method,
    path_and_query: &str,
    body: Bytes,
) -> Result<Answer, ClientError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| refusal(socket, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors come out of the body as well.
    let connection = tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut request = Request::builder()
        .method(method)
        .uri(path_and_query)
        .header(header::HOST, "localhost")
        .header(header::TE, "trailers");
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request
        .body(Full::new(body))
        .map_err(|error| ClientError::Request(error.to_string()))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(Answer {
            response,
            connection,
        });
    }
    let body = response.into_body().collect().await?.to_bytes();
    let message = serde_json::from_slice::<ErrorBody>(&body)
        .map(|body| body.error)
        .unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned());
    Err(ClientError::Status { status, message })
}

pub(super) fn refusal(socket: &Path, error: io::Error) -> ClientError {
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
    fn a_value_cannot_become_another_parameter() {
        let mut query = Query::new("/v1/x");
        query.add("vn", "blue");
        query.add("peer", "a&b=c d/ü");
        assert_eq!(query.finish(), "/v1/x?vn=blue&peer=a%26b%3Dc%20d%2F%C3%BC");
    }

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
