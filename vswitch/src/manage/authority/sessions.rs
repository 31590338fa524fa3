//! What sessions bring: messages to the state machine that they are for, and, of two sessions with
//! one edge, which stays.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vswitch_control::identity::{Identity, Role};
use vswitch_control::keying::{self, SessionId};
use vswitch_control::message::ima::EXPORTER_LABEL;
use vswitch_control::session::Handle;
use vswitch_control::types::NveName;

use super::driver::Driver;
use super::network::Heard;

/// Label of the exporter value (RFC 8446, section 7.5) that binds key exchanges between edges to
/// their session.
const PEER_BINDING: &[u8] = b"EXPORTER-vswitch-peer";
/// Two sessions that begin within this were dialled by both at once; otherwise the newer one is
/// that of an edge that came back.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A session with another edge.
pub(super) struct PeerSession {
    pub number: u64,
    pub handle: Handle,
    pub dialled: bool,
    pub since: Instant,
}

impl Driver {
    pub(super) fn hear(&mut self, heard: Heard) {
        let now = self.now();
        match heard {
            Heard::Ima(attempt, handle) if attempt == self.attempt => {
                let server = handle.peer().to_string();
                match handle.export_keying_material(EXPORTER_LABEL, b"") {
                    Some(binding) => {
                        tracing::info!(%server, at = %handle.remote_address(), "authority connected");
                        self.ima_trouble = None;
                        self.outgoing.clear();
                        self.ima = Some(handle);
                        self.client.connected(now, &server, binding.as_slice());
                    }
                    None => handle.close("no exporter value"),
                }
            }
            Heard::Ima(_, handle) => handle.close("given up"),
            Heard::ImaMessage(attempt, bytes) if attempt == self.attempt => {
                match vswitch_control::message::decode(&bytes) {
                    Ok(message) => self.client.received(now, message),
                    Err(error) => {
                        tracing::warn!(%error, "the authority's message cannot be read");
                        if let Some(handle) = self.ima.take() {
                            handle.close("a message that is none");
                        }
                    }
                }
            }
            Heard::ImaMessage(..) => {}
            Heard::ImaGone(attempt, why) if attempt == self.attempt => {
                if self.ima_trouble.as_deref() != Some(&why) {
                    tracing::warn!(%why, "no session with the authority");
                }
                self.ima_trouble = Some(why);
                self.ima = None;
                self.outgoing.clear();
                self.client.disconnected(now);
            }
            Heard::ImaGone(..) => {}
            Heard::Peer(name, number, handle, dialled) => {
                self.peer_opened(now, name, number, handle, dialled);
            }
            Heard::PeerMessage(peer, number, bytes) => {
                if self.peers.get(&peer).is_some_and(|s| s.number == number) {
                    let message = keying::Event::Message {
                        peer,
                        session: SessionId(number),
                        bytes: bytes.into(),
                    };
                    self.keying.handle(now, message);
                }
            }
            Heard::PeerGone(peer, number) => {
                if self.peers.get(&peer).is_some_and(|s| s.number == number) {
                    self.peers.remove(&peer);
                    let session = SessionId(number);
                    let down = keying::Event::SessionDown { peer, session };
                    self.keying.handle(now, down);
                }
            }
            Heard::NoPeer(peer, why) => {
                self.dialling.remove(&peer);
                if self.troubles.get(&peer) != Some(&why) {
                    tracing::info!(%peer, %why, "no session with the edge");
                    self.troubles.insert(peer, why);
                }
            }
        }
    }

    /// A session with another edge. Of two that both dialled at once, both keep the one that the
    /// smaller name dialled; else the newer stays.
    fn peer_opened(
        &mut self,
        now: Duration,
        peer: NveName,
        number: u64,
        handle: Handle,
        dialled: bool,
    ) {
        if dialled {
            self.dialling.remove(&peer);
        }
        self.troubles.remove(&peer);
        let by_smaller = |dialled: bool| dialled == (self.me < peer);
        if let Some(known) = self.peers.get(&peer) {
            let at_once = known.since.elapsed() < AT_ONCE && known.dialled != dialled;
            if at_once && by_smaller(known.dialled) {
                return handle.close("both dialled, the other stays");
            }
            known.handle.close("another session of the same edge");
        }
        let Some(binding) = handle.export_keying_material(PEER_BINDING, b"") else {
            return handle.close("no exporter value");
        };
        let session = PeerSession {
            number,
            handle,
            dialled,
            since: Instant::now(),
        };
        self.peers.insert(peer.clone(), session);
        let up = keying::Event::SessionUp {
            peer,
            session: SessionId(number),
            binding: *binding,
        };
        self.keying.handle(now, up);
    }

    /// A session with another edge is wished for.
    pub(super) fn connect(&mut self, peer: NveName) {
        if self.peers.contains_key(&peer) || self.dialling.contains(&peer) {
            return;
        }
        let Some(endpoint) = self.members.endpoint(&peer) else {
            return;
        };
        let Ok(identity) = Identity::new(self.identity.domain(), Role::Nve, peer.as_str()) else {
            return;
        };
        let at = endpoint.control_address;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.dialling.insert(peer.clone());
        self.network.dial_peer(peer, identity, at, number);
    }

    /// Sends to another edge. One that takes nothing loses its session, and begins anew.
    pub(super) fn send(&mut self, peer: &NveName, session: SessionId, bytes: Vec<u8>) {
        let Some(known) = self.peers.get(peer).filter(|s| s.number == session.0) else {
            return;
        };
        if let Err(error) = known.handle.try_send(bytes.into()) {
            tracing::debug!(%peer, %error, "session closed");
            known.handle.close("what is sent is not taken");
        }
    }

    /// Closes a session with another edge.
    pub(super) fn close(&mut self, peer: &NveName, session: SessionId) {
        if let Some(known) = self.peers.get(peer).filter(|s| s.number == session.0) {
            known.handle.close("the protocol was not kept");
        }
    }
}
