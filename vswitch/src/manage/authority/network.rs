//! Tasks that dial and that read sessions: what they hear comes to the loop on one bounded queue.
//! A session whose frames are not taken is not read further, which its peer feels.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use vswitch_control::identity::{Expect, Identity, Role};
use vswitch_control::session::{Endpoint, Handle, Session};
use vswitch_control::types::NveName;

/// What waits for the loop at most.
pub(super) const HEARD: usize = 1024;

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
    /// No session came of a dial; why.
    NoPeer(NveName, String),
}

/// Who opens and reads sessions.
#[derive(Clone)]
pub(super) struct Network {
    pub endpoint: Arc<Endpoint>,
    pub heard: mpsc::Sender<Heard>,
}

impl Network {
    /// Opens a session with the authority, and reads it.
    pub(super) fn dial_ima(&self, attempt: Attempt, at: SocketAddr) {
        let Network { endpoint, heard } = self.clone();
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
    pub(super) fn dial_peer(&self, name: NveName, identity: Identity, at: SocketAddr, number: u64) {
        let network = self.clone();
        tokio::spawn(async move {
            match network.endpoint.dial(at, Expect::Identity(identity)).await {
                Ok(session) => network.read_peer(name, session, number, true).await,
                Err(error) => {
                    let why = format!("{at}: {error}");
                    let _ = network.heard.send(Heard::NoPeer(name, why)).await;
                }
            }
        });
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
        if self.heard.send(opened).await.is_err() {
            return;
        }
        while let Some(frame) = session.recv().await {
            let message = Heard::PeerMessage(name.clone(), number, frame);
            if self.heard.send(message).await.is_err() {
                return;
            }
        }
        let _ = self.heard.send(Heard::PeerGone(name, number)).await;
    }
}
