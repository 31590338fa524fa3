//! API: any bytes on the socket, through the HTTP server to the routes. The server answers or
//! closes, never fails inside, and is there for the next one.

use std::io;
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use vswitch::manage::api::{Section, StatusRequest, router};
use vswitch::manage::status::Status;

use super::Eat;

/// Connections that a test makes, in place of a socket.
struct Connections(mpsc::Receiver<DuplexStream>);

impl Listener for Connections {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(stream) => (stream, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// No request takes longer, since the source answers at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves the API with a source that answers at once.
pub fn start() -> Eat {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (connect, connections) = mpsc::channel(1);
    runtime.spawn(async {
        let source = |request: StatusRequest| {
            request.answer(Status::default());
            Ok(())
        };
        axum::serve(Connections(connections), router(source)).await
    });
    Box::new(move |bytes| {
        let answer = runtime.block_on(async {
            let (mut ours, theirs) = duplex(1 << 16);
            connect.send(theirs).await.expect("a server");
            let mut answer = Vec::new();
            let talk = async {
                // The server may close at any moment, which is no failure.
                let _ = ours.write_all(bytes).await;
                let _ = ours.shutdown().await;
                let _ = ours.read_to_end(&mut answer).await;
            };
            let ended = tokio::time::timeout(PATIENCE, talk).await;
            assert!(ended.is_ok(), "it neither answers nor closes");
            answer
        });
        // Whoever begins as HTTP/2 does is answered so: a frame of settings (RFC 9113, section 3.4).
        let settings = bytes.starts_with(b"PRI * HTTP/2.0") && answer.get(3) == Some(&4);
        if !answer.is_empty() && !settings {
            assert!(answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
            let code: &[u8] = answer.get(9..12).unwrap_or_default();
            assert!(code < b"500".as_slice(), "{}", answer.escape_ascii());
        }
    })
}

/// Requests for everything, and some that are not.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = Section::ALL
        .iter()
        .map(|section| format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", section.route()).into_bytes())
        .collect();
    for text in [
        "GET /v1/status?a=b&c HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "GET /v1/%2e%2e/nve HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST /v1/nve HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n{\"a\"",
        "POST /v1/nve HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        "HEAD /v1/drops HTTP/1.1\r\nhost: x\r\n\r\nGET /v1/sas HTTP/1.1\r\nhost: x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n",
        "GET http://a/v1/nve HTTP/1.0\r\n\r\n",
        "GET /v1/nve HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nexpect: 100-continue\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        seeds.push(text.as_bytes().to_vec());
    }
    seeds
}
