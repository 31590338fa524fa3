//! The session of one edge: frames in and out, the channels of its VNs, its rate.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use vswitch_control::hybrid::{ExchangeId, Offer, Transcript, respond};
use vswitch_control::message::ima::{
    EXPORTER_LABEL, FromEdge, FromIma, Goodbye, PROTOCOL, Refusal, SealedBytes, VnFromIma,
};
use vswitch_control::message::{decode, encode};
use vswitch_control::session::{Bytes, Exported, Handle, Session};
use vswitch_control::types::{Epoch, NveName, VnName};
use vswitch_control::vnchannel::{Side, VnChannel};

use super::authority::LINE;
use super::{IN_FLIGHT, Input, LineTo, Out, PUSHES, Shared};
use crate::engine::{Bucket, EdgeRequest, Push, Reply, SessionId};

/// How long the peer has to take the last message.
const FAREWELL: Duration = Duration::from_secs(1);

/// With so much room it is worth the authority's while to send more.
const ROOM: usize = LINE - PUSHES / 2;

/// One VN's channels.
#[derive(Default)]
struct Channels {
    current: Option<(Epoch, VnChannel)>,
    /// Opens what was sent before the edge had the current one.
    former: Option<(Epoch, VnChannel)>,
    /// Of joins that are not answered yet, in order.
    offers: VecDeque<(ExchangeId, Offer)>,
}

impl Channels {
    /// Opens a message with the channel of its epoch.
    fn open(&mut self, epoch: Epoch, sealed: &[u8]) -> Option<Vec<u8>> {
        if let Some((own, channel)) = &mut self.current
            && *own == epoch
            && let Ok(opened) = channel.open(sealed)
        {
            // The edge has changed over.
            self.former = None;
            return Some(opened);
        }
        match &mut self.former {
            Some((own, channel)) if *own == epoch => channel.open(sealed).ok(),
            _ => None,
        }
    }
}

/// Why a session is to end.
enum End {
    /// The peer is told so.
    Say(Goodbye),
    /// It is over already.
    Over,
}

struct Line<'a> {
    id: SessionId,
    nve: NveName,
    shared: &'a Arc<Shared>,
    handle: Handle,
    binding: Exported,
    channels: HashMap<VnName, Channels>,
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
    let limits = shared.limits.edge;
    let began = Instant::now();
    let mut bucket = Bucket::new(limits.messages_per_second, limits.burst, Duration::ZERO);
    let mut paused = began;
    let mut own = Line {
        id,
        nve,
        shared,
        handle,
        binding,
        channels: HashMap::new(),
        in_flight: 0,
    };
    let end = loop {
        let pausing = paused > Instant::now();
        let step = tokio::select! {
            frame = session.recv(), if own.in_flight < IN_FLIGHT && !pausing => match frame {
                Some(frame) => {
                    let wait = bucket.take(began.elapsed());
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

impl Line<'_> {
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
        let wrong = |_| End::Say(Goodbye::Protocol);
        let request = match decode(frame).map_err(wrong)? {
            FromEdge::Hello {
                version,
                boot,
                endpoint,
            } => {
                if version != PROTOCOL {
                    return Err(End::Say(Goodbye::Version));
                }
                EdgeRequest::Hello { boot, endpoint }
            }
            FromEdge::Renew { sequence } => EdgeRequest::Renew { sequence },
            FromEdge::Join {
                vn,
                exchange,
                offer,
                resume,
            } => {
                let channels = self.channels.entry(vn.clone()).or_default();
                channels.offers.push_back((exchange, offer));
                EdgeRequest::Join { vn, resume }
            }
            FromEdge::Leave { vn } => EdgeRequest::Leave { vn },
            FromEdge::Sealed { vn, epoch, bytes } => {
                // It was expelled, and does not know yet.
                let Some(channels) = self.channels.get_mut(&vn) else {
                    return Ok(());
                };
                let opened = channels.open(epoch, bytes.as_bytes());
                let Some(opened) = opened else {
                    return Err(End::Say(Goodbye::Protocol));
                };
                EdgeRequest::Vn {
                    vn,
                    message: decode(&opened).map_err(wrong)?,
                }
            }
        };
        self.ask(request).await
    }

    async fn send(&mut self, out: Out) -> Result<(), End> {
        match out {
            Out::Reply(reply) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                match reply {
                    Some(reply) => self.reply(reply).await,
                    None => Ok(()),
                }
            }
            Out::Push(Push::Clear(message)) => {
                if let FromIma::Expelled { vn } = &message {
                    self.forget(vn);
                }
                self.put(&message).await
            }
            Out::Push(Push::Vn { vn, message }) => self.seal(vn, &message).await,
            Out::Push(Push::Close(why)) => Err(End::Say(why)),
        }
    }

    /// Destroys a VN's keys. Joins that are under way go on.
    fn forget(&mut self, vn: &VnName) {
        if let Some(channels) = self.channels.get_mut(vn) {
            (channels.current, channels.former) = (None, None);
            if channels.offers.is_empty() {
                self.channels.remove(vn);
            }
        }
    }

    async fn reply(&mut self, reply: Reply) -> Result<(), End> {
        match reply {
            Reply::Welcome { lease, limits, .. } => {
                self.put(&FromIma::Welcome { lease, limits }).await
            }
            Reply::Renewed { sequence, lease } => {
                self.put(&FromIma::Renewed { sequence, lease }).await
            }
            Reply::Refused { vn, why } => {
                if let Some(channels) = self.channels.get_mut(&vn) {
                    channels.offers.pop_front();
                    if channels.current.is_none() && channels.offers.is_empty() {
                        self.channels.remove(&vn);
                    }
                }
                self.put(&FromIma::Refused { vn, why }).await
            }
            Reply::Left { vn } => {
                self.forget(&vn);
                Ok(())
            }
            Reply::Vn { vn, message } => self.seal(vn, &message).await,
            // The engine closes the session by a push.
            Reply::Goodbye(_) => Ok(()),
            joined @ Reply::Joined { .. } => self.joined(joined).await,
        }
    }

    async fn joined(&mut self, reply: Reply) -> Result<(), End> {
        let Reply::Joined {
            vn,
            epoch,
            log,
            settings,
            ..
        } = reply
        else {
            return Ok(());
        };
        let Some(channels) = self.channels.get_mut(&vn) else {
            return Ok(());
        };
        let Some((exchange, offer)) = channels.offers.pop_front() else {
            return Ok(());
        };
        let (initiator, responder) = (
            self.handle.peer().to_string(),
            self.shared.identity.to_string(),
        );
        let transcript = Transcript {
            initiator: &initiator,
            responder: &responder,
            vn: &vn,
            epoch,
            exchange,
            binding: self.binding.as_slice(),
        };
        let made = respond(&offer, &transcript)
            .ok()
            .and_then(|(answer, root)| {
                Some((
                    answer,
                    VnChannel::new(&root, &transcript, Side::Responder).ok()?,
                ))
            });
        let Some((answer, channel)) = made else {
            self.forget(&vn);
            self.put(&FromIma::Refused {
                vn: vn.clone(),
                why: Refusal::BadOffer,
            })
            .await?;
            return self.ask(EdgeRequest::Leave { vn }).await;
        };
        channels.former = channels.current.replace((epoch, channel));
        self.put(&FromIma::Joined {
            vn,
            exchange,
            epoch,
            answer,
            log,
            vni: settings.vni,
            protection: settings.protection,
            lease_end: settings.lease_end,
        })
        .await
    }

    async fn seal(&mut self, vn: VnName, message: &VnFromIma) -> Result<(), End> {
        let channel = self
            .channels
            .get_mut(&vn)
            .and_then(|channels| channels.current.as_mut());
        let Some((epoch, channel)) = channel else {
            return Ok(());
        };
        let sealed = encode(message).ok().and_then(|plain| {
            let sealed = channel.seal(&plain).ok()?;
            SealedBytes::try_from(sealed).ok()
        });
        let Some(bytes) = sealed else {
            tracing::error!(nve = %self.nve, %vn, "a message that cannot be sealed");
            return Err(End::Say(Goodbye::Protocol));
        };
        let epoch = *epoch;
        self.put(&FromIma::Sealed { vn, epoch, bytes }).await
    }
}
