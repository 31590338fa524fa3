//! The session of one edge: frames in and out, and its rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use vswitch_control::message::encode;
use vswitch_control::message::ima::{EXPORTER_LABEL, FromIma, Goodbye};
use vswitch_control::session::{Bytes, Handle, Session};
use vswitch_control::types::NveName;

use super::authority::LINE;
use super::line::{Follows, Line};
use super::{IN_FLIGHT, Input, LineTo, Out, PUSHES, Shared};
use crate::engine::{EdgeRequest, SessionId};

/// How long the peer has to take the last message.
const FAREWELL: Duration = Duration::from_secs(1);

/// With so much room it is worth the authority's while to send more.
const ROOM: usize = LINE - PUSHES / 2;

/// Why a session is to end.
enum End {
    /// The peer is told so.
    Say(Goodbye),
    /// It is over already.
    Over,
}

struct Edge<'a> {
    id: SessionId,
    nve: NveName,
    shared: &'a Arc<Shared>,
    handle: Handle,
    line: Line,
    in_flight: usize,
}

/// Serves an edge until its session ends.
pub(super) async fn run(mut session: Session, id: SessionId, nve: NveName, shared: &Arc<Shared>) {
    let handle = session.handle();
    let Some(binding) = handle.export_keying_material(EXPORTER_LABEL, b"") else {
        return;
    };
    let (to, mut outs) = mpsc::channel(LINE);
    let line = Arc::new(LineTo {
        outs: to,
        full: AtomicBool::new(false),
    });
    let open = Input::Open {
        id,
        nve: nve.clone(),
        source: session.remote_address().ip(),
        line: line.clone(),
    };
    if shared.inputs.send(open).await.is_err() {
        return;
    }
    let pace = shared
        .paces
        .of(&nve, &shared.limits.edge, shared.started.elapsed());
    let mut paused = Instant::now();
    let mut own = Edge {
        id,
        nve,
        shared,
        line: Line::new(
            handle.peer().to_string(),
            shared.identity.to_string(),
            binding,
        ),
        handle,
        in_flight: 0,
    };
    let end = loop {
        let pausing = paused > Instant::now();
        let step = tokio::select! {
            frame = session.recv(), if own.in_flight < IN_FLIGHT && !pausing => match frame {
                Some(frame) => {
                    let wait = pace.take(shared.started.elapsed());
                    if !wait.is_zero() {
                        shared.counters.slowed.add(1);
                        paused = Instant::now() + wait;
                    }
                    own.receive(&frame).await
                }
                None => Err(End::Over),
            },
            out = outs.recv() => match out {
                Some(out) => own.send(out).await,
                None => Err(End::Say(Goodbye::Stopping)),
            },
            () = tokio::time::sleep_until(paused), if pausing => Ok(()),
        };
        if outs.capacity() >= ROOM && line.full.swap(false, Ordering::SeqCst) {
            shared.room.notify_one();
        }
        if let Err(end) = step {
            break end;
        }
    };
    let _ = shared.inputs.send(Input::Close { id }).await;
    if let End::Say(why) = end {
        tracing::info!(peer = %own.handle.peer(), %why, "session closed");
        if why == Goodbye::Protocol {
            shared.counters.protocol.add(1);
        }
        let farewell = async {
            if own.put(&FromIma::Goodbye { why }).await.is_ok() {
                own.handle.finish(&why.to_string());
                own.handle.closed().await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}

impl Edge<'_> {
    async fn put(&self, message: &FromIma) -> Result<(), End> {
        let Ok(bytes) = encode(message) else {
            tracing::error!(nve = %self.nve, "a message that cannot be encoded");
            return Err(End::Over);
        };
        self.handle
            .send(Bytes::from(bytes))
            .await
            .map_err(|_| End::Over)
    }

    async fn ask(&mut self, request: EdgeRequest) -> Result<(), End> {
        self.in_flight += 1;
        let input = Input::Edge {
            id: self.id,
            request,
        };
        self.shared
            .inputs
            .send(input)
            .await
            .map_err(|_| End::Say(Goodbye::Stopping))
    }

    async fn receive(&mut self, frame: &[u8]) -> Result<(), End> {
        match self.line.receive(frame).map_err(End::Say)? {
            Some(request) => self.ask(request).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, out: Out) -> Result<(), End> {
        let follows = match out {
            Out::Reply(reply) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                let reply = reply.map(|reply| self.line.reply(reply));
                reply.transpose().map_err(End::Say)?.unwrap_or_default()
            }
            Out::Push(push) => Follows {
                message: self.line.push(push).map_err(End::Say)?,
                request: None,
            },
        };
        if let Some(message) = follows.message {
            self.put(&message).await?;
        }
        match follows.request {
            Some(request) => self.ask(request).await,
            None => Ok(()),
        }
    }
}
