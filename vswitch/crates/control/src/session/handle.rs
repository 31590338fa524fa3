//! One session: what is sent waits in a bounded queue, what is received is read frame by frame and
//! otherwise left where the peer's flow control counts it.

use core::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use rustls_pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

use super::error::{Closed, Code, SendError};
use super::frame::{Assembler, HEADER, MAX_FRAME};
use super::registry::Sessions;
use crate::identity::{Certificate, Identity};

/// What a frame counts in the queue beside its bytes, so that many small ones are bounded as well.
pub const FRAME_COST: usize = 64;

/// A secret that both ends of a session derive from it, and nobody else can.
pub type Exported = Zeroizing<[u8; 32]>;

pub(super) struct Shared {
    connection: Connection,
    pub(super) certificate: Certificate,
    pub(super) remote: SocketAddr,
    ended_here: AtomicBool,
}

impl Shared {
    pub(super) fn new(connection: Connection, certificate: Certificate) -> Arc<Self> {
        let remote = connection.remote_address();
        let ended_here = AtomicBool::new(false);
        Arc::new(Self {
            connection,
            certificate,
            remote,
            ended_here,
        })
    }

    /// The certificates that the peer has shown, its own first.
    pub(super) fn chain(&self) -> Option<Vec<CertificateDer<'static>>> {
        let shown = self.connection.peer_identity()?;
        shown.downcast().ok().map(|chain| *chain)
    }

    /// Ends it, unless that has happened: who was first is what `closed` says.
    pub(super) fn close(&self, code: Code, why: &str) {
        if self.connection.close_reason().is_some() {
            return;
        }
        self.ended_here.store(true, Ordering::Release);
        self.connection.close(code.number(), why.as_bytes());
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.certificate.identity)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

enum Item {
    Frame {
        body: Bytes,
        since: Instant,
        _room: OwnedSemaphorePermit,
    },
    Finish(String),
}

/// The sending side of a session, which can be cloned and given away. It does not keep the
/// session open.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    queue: mpsc::UnboundedSender<Item>,
    room: Arc<Semaphore>,
}

impl Handle {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Identity {
        &self.shared.certificate.identity
    }

    /// The certificate that says so.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.shared.certificate
    }

    /// Where they are.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.shared.remote
    }

    fn cost(body: &Bytes) -> Result<u32, SendError> {
        if body.is_empty() || body.len() > MAX_FRAME {
            return Err(SendError::Size);
        }
        u32::try_from(body.len() + FRAME_COST).map_err(|_| SendError::Size)
    }

    fn put(&self, body: Bytes, room: OwnedSemaphorePermit) -> Result<(), SendError> {
        let (since, _room) = (Instant::now(), room);
        let frame = Item::Frame { body, since, _room };
        self.queue.send(frame).map_err(|_| SendError::Closed)
    }

    /// Queues a frame of 1 to 65536 bytes; does not wait.
    ///
    /// # Errors
    /// `Full` when there is no room. A queue whose oldest frame waits longer than `Limits::stall` ends
    /// the session.
    pub fn try_send(&self, body: Bytes) -> Result<(), SendError> {
        let cost = Self::cost(&body)?;
        let room = self
            .room
            .clone()
            .try_acquire_many_owned(cost)
            .map_err(|error| match error {
                TryAcquireError::NoPermits => SendError::Full,
                TryAcquireError::Closed => SendError::Closed,
            })?;
        self.put(body, room)
    }

    /// Queues a frame, waiting for room; not longer than the session lasts, which a peer that takes
    /// nothing ends. Dropping the future queues nothing.
    ///
    /// # Errors
    /// When the session ends, or the frame's size is wrong.
    pub async fn send(&self, body: Bytes) -> Result<(), SendError> {
        let cost = Self::cost(&body)?;
        let room = self.room.clone().acquire_many_owned(cost).await;
        self.put(body, room.map_err(|_| SendError::Closed)?)
    }

    /// Ends the session now; what waits is not sent. The peer is told `why`.
    pub fn close(&self, why: &str) {
        self.shared.close(Code::Done, why);
    }

    /// Sends what waits, and when the peer has it (or does not take it), ends the session.
    pub fn finish(&self, why: &str) {
        // If it has ended already there is nothing to do.
        let _ = self.queue.send(Item::Finish(why.to_owned()));
    }

    /// Until it has ended.
    pub async fn closed(&self) -> Closed {
        self.shared.connection.closed().await.into()
    }

    /// A secret bound to this session, `label` and `context` (RFC 8446, section 7.5): the
    /// same at both ends, and useless for finding any other. `None` if the session cannot give one.
    #[must_use]
    pub fn export_keying_material(&self, label: &[u8], context: &[u8]) -> Option<Exported> {
        let mut secret = Exported::default();
        let connection = &self.shared.connection;
        connection
            .export_keying_material(secret.as_mut_slice(), label, context)
            .ok()?;
        Some(secret)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

/// A session with a peer that has proved who it is. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    handle: Handle,
    reader: Reader,
    sessions: Sessions,
}

#[derive(Debug)]
struct Reader {
    stream: RecvStream,
    assembler: Assembler,
}

impl core::ops::Deref for Session {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

/// Both halves of a session's stream.
pub(super) type Streams = (SendStream, RecvStream);

impl Session {
    /// Of a connection both have accepted and that is in the table.
    pub(super) fn start(
        shared: Arc<Shared>,
        (send, stream): Streams,
        sessions: Sessions,
        (bytes, stall): (usize, Duration),
    ) -> Self {
        let (queue, items) = mpsc::unbounded_channel();
        // A frame must fit.
        let room = Arc::new(Semaphore::new(bytes.max(MAX_FRAME + FRAME_COST)));
        let writer = Writer {
            shared: shared.clone(),
            room: room.clone(),
            sessions: sessions.clone(),
            stall,
        };
        tokio::spawn(writer.run(send, items));
        let handle = Handle {
            shared,
            queue,
            room,
        };
        let reader = Reader {
            stream,
            assembler: Assembler::default(),
        };
        Self {
            handle,
            reader,
            sessions,
        }
    }

    /// The sending side, to give away.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The next frame; `None` when the session has ended (`closed` says how). Dropping the future
    /// loses nothing. What is not taken is not read: the peer's flow control holds it back.
    pub async fn recv(&mut self) -> Option<Bytes> {
        let shared = &self.handle.shared;
        loop {
            // Whoever was revoked is not heard any more, not even with what has arrived.
            if shared.ended_here.load(Ordering::Acquire) {
                return None;
            }
            match self.reader.assembler.frame() {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(bad) => {
                    self.sessions.counters.closed_protocol.add();
                    tracing::warn!(peer = %self.handle.peer(), %bad, "session closed");
                    shared.close(Code::Protocol, &bad.to_string());
                    return None;
                }
            }
            let most = self.reader.assembler.missing();
            match self.reader.stream.read_chunk(most, true).await {
                Ok(Some(chunk)) => self.reader.assembler.push(&chunk.bytes),
                // The peer has sent all and waits for us to end it.
                Ok(None) => {
                    shared.close(Code::Done, "finished");
                    return None;
                }
                Err(_) => {
                    shared.close(Code::Protocol, "the stream was ended");
                    return None;
                }
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.handle.shared.close(Code::Done, "dropped");
    }
}

struct Writer {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    sessions: Sessions,
    stall: Duration,
}

impl Writer {
    async fn run(self, mut stream: SendStream, mut items: mpsc::UnboundedReceiver<Item>) {
        let closed = self.shared.connection.closed();
        tokio::select! {
            biased;
            _ = closed => {}
            () = self.write(&mut stream, &mut items) => {}
        }
        // Whoever waits for room waits no longer.
        self.room.close();
        self.sessions.remove(&self.shared);
    }

    async fn write(&self, stream: &mut SendStream, items: &mut mpsc::UnboundedReceiver<Item>) {
        while let Some(item) = items.recv().await {
            match item {
                Item::Frame { body, since, _room } => {
                    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
                    let mut pieces = [Bytes::copy_from_slice(&length.to_be_bytes()), body];
                    debug_assert_eq!(pieces[0].len(), HEADER);
                    let written = stream.write_all_chunks(&mut pieces);
                    match timeout_at(since + self.stall, written).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => {
                            self.shared.close(Code::Protocol, "the stream was stopped");
                            return;
                        }
                        Err(_) => {
                            self.sessions.counters.closed_slow.add();
                            tracing::warn!(
                                peer = %self.shared.certificate.identity,
                                "session closed: the peer does not take what is sent"
                            );
                            self.shared.close(Code::Slow, "too slow");
                            return;
                        }
                    }
                }
                Item::Finish(why) => {
                    // Stopped or acknowledged, and if neither, then not in time: ended all the same.
                    if stream.finish().is_ok() {
                        let _ = timeout(self.stall, stream.stopped()).await;
                    }
                    self.shared.close(Code::Done, &why);
                    return;
                }
            }
        }
    }
}
