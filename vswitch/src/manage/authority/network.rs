//! Tasks that dial and that read sessions: what they hear comes to the loop on two bounded queues,
//! one for the authority alone, so that nothing other edges do keeps its word waiting. A session whose
//! frames are not taken is not read further, which its peer feels; nor is one for a while whose edge
//! says more than its share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use vswitch_control::identity::{Expect, Identity, Role};
use vswitch_control::session::{Endpoint, Handle, Session};
use vswitch_control::types::NveName;

/// What of the authority waits for the loop at most.
pub(super) const IMA_HEARD: usize = 256;
/// What of all other edges does.
pub(super) const PEERS_HEARD: usize = 256;
/// Messages of one edge a second: what its exchanges come to if each moves the SAs of ten workers.
const PEER_MESSAGES: u32 = 4000;
/// Edges whose rates are remembered before those are forgotten that have all of it.
const IDLE: usize = 1024;
/// So many at once: as many as it takes to come to new keys in the most networks that two edges can have in
/// common (4096), some eight of each edge for a network.
const PEER_BURST: u32 = 32_768;

/// Which session with the authority, counted from the first.
pub(super) type Attempt = u64;

/// What sessions bring.
#[derive(Debug)]
pub(super) enum Heard {
    /// A session with the authority is open.
    Ima(Attempt, Handle),
    /// A message of the authority.
    ImaMessage(Attempt, Bytes),
    /// No session with the authority, or no more; why.
    ImaGone(Attempt, String),
    /// A session with another edge: its number, and whether it was dialled here.
    Peer(NveName, u64, Handle, bool),
    /// A message of another edge.
    PeerMessage(NveName, u64, Bytes),
    /// The session is gone.
    PeerGone(NveName, u64),
    /// No session came of the dial of this number; why.
    NoPeer(NveName, u64, String),
}

/// A dial under way: it is given up when this is dropped before it has led to a session.
#[derive(Debug)]
pub(super) struct GiveUp {
    _dropped: oneshot::Sender<()>,
}

/// Who opens and reads sessions.
#[derive(Clone)]
pub(super) struct Network {
    pub endpoint: Arc<Endpoint>,
    pub ima: mpsc::Sender<Heard>,
    pub peers: mpsc::Sender<Heard>,
    pub paces: Arc<Mutex<Paces>>,
}

/// Waits until a message of this edge is due.
async fn keep(paces: &Mutex<Paces>, name: &NveName) {
    let due = {
        // Times, whole after every change.
        let mut paces = paces.lock().unwrap_or_else(PoisonError::into_inner);
        paces.due(name, Instant::now())
    };
    // Returns at once if that is over.
    tokio::time::sleep_until(due).await;
}

/// The rates of all edges' messages, by name and not by session: coming anew gives nobody more.
#[derive(Debug, Default)]
pub(super) struct Paces {
    /// When the next message of each would be due if none had come beforehand.
    next: HashMap<NveName, Instant>,
    /// With more than this it is looked whom to forget.
    room: usize,
}

impl Paces {
    /// A message of this edge has come: when it is due.
    fn due(&mut self, name: &NveName, now: Instant) -> Instant {
        if self.next.len() >= self.room.max(IDLE) {
            // Who has said nothing for so long may say as much as one who is new.
            self.next.retain(|_, next| *next > now);
            self.room = 2 * self.next.len();
        }
        let interval = Duration::from_secs(1) / PEER_MESSAGES;
        let next = self.next.entry(name.clone()).or_insert(now);
        *next = (*next).max(now) + interval;
        next.checked_sub(interval * PEER_BURST).unwrap_or(now)
    }
}

impl Network {
    /// Opens a session with the authority, and reads it.
    pub(super) fn dial_ima(&self, attempt: Attempt, at: SocketAddr) {
        let Network {
            endpoint,
            ima: heard,
            ..
        } = self.clone();
        tokio::spawn(async move {
            let expect = Expect::Roles(vec![Role::Ima]);
            let gone = match endpoint.dial(at, expect).await {
                Ok(mut session) => {
                    // The loop is gone only when everything ends.
                    let _ = heard.send(Heard::Ima(attempt, session.handle())).await;
                    while let Some(frame) = session.recv().await {
                        if heard.send(Heard::ImaMessage(attempt, frame)).await.is_err() {
                            return;
                        }
                    }
                    session.closed().await.to_string()
                }
                Err(error) => format!("{at}: {error}"),
            };
            let _ = heard.send(Heard::ImaGone(attempt, gone)).await;
        });
    }

    /// Opens a session with another edge, and reads it.
    pub(super) fn dial_peer(
        &self,
        name: NveName,
        identity: Identity,
        at: SocketAddr,
        number: u64,
    ) -> GiveUp {
        let network = self.clone();
        let (dropped, given_up) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let dialled = tokio::select! {
                dialled = network.endpoint.dial(at, Expect::Identity(identity)) => dialled,
                // Whoever gives it up knows.
                _ = given_up => return,
            };
            match dialled {
                Ok(session) => network.read_peer(name, session, number, true).await,
                Err(error) => {
                    let why = format!("{at}: {error}");
                    let gone = Heard::NoPeer(name, number, why);
                    let _ = network.peers.send(gone).await;
                }
            }
        });
        GiveUp { _dropped: dropped }
    }

    /// Reads a session that another edge opened.
    pub(super) fn take_peer(&self, session: Session, number: u64) {
        let Some(name) = session.peer().nve() else {
            // The endpoint takes edges only.
            return;
        };
        let network = self.clone();
        tokio::spawn(async move { network.read_peer(name, session, number, false).await });
    }

    async fn read_peer(&self, name: NveName, mut session: Session, number: u64, dialled: bool) {
        let opened = Heard::Peer(name.clone(), number, session.handle(), dialled);
        if self.peers.send(opened).await.is_err() {
            return;
        }
        while let Some(frame) = session.recv().await {
            keep(&self.paces, &name).await;
            let message = Heard::PeerMessage(name.clone(), number, frame);
            if self.peers.send(message).await.is_err() {
                return;
            }
        }
        let _ = self.peers.send(Heard::PeerGone(name, number)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_has_one_rate_whatever_sessions_it_has() {
        let mut paces = Paces::default();
        let (now, edge) = (Instant::now(), "a".parse().unwrap());
        for _ in 0..PEER_BURST {
            assert!(paces.due(&edge, now) <= now);
        }
        // Of whichever session the next one is.
        assert!(paces.due(&edge, now) > now);
        let other = "b".parse().unwrap();
        assert!(paces.due(&other, now) <= now);
        // It has all of it again when it would have been due without a burst.
        let later = now + Duration::from_secs(9);
        let ready = (0..2 * PEER_BURST).take_while(|_| paces.due(&edge, later) <= later);
        assert_eq!(ready.count(), PEER_BURST as usize);
    }

    #[test]
    fn who_says_nothing_is_forgotten() {
        let mut paces = Paces::default();
        let mut now = Instant::now();
        let edge: NveName = "a".parse().unwrap();
        for n in 0..10_000 {
            now += Duration::from_millis(1);
            paces.due(&format!("e{n}").parse().unwrap(), now);
            for _ in 0..10 {
                paces.due(&edge, now);
            }
        }
        assert!(paces.next.len() <= 2 * IDLE, "{}", paces.next.len());
        // Six a millisecond more than it may.
        assert!(paces.next[&edge] > now + Duration::from_secs(10));
    }
}
