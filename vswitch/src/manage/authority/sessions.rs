//! What sessions bring: messages to the state machine that they are for. Which of two sessions with
//! one edge stays, and when one is dialled, `vswitch_control::meetings` says.

use std::sync::atomic::Ordering;
use std::time::Duration;

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
                if self.known(&peer, number) {
                    let message = keying::Event::Message {
                        peer,
                        session: SessionId(number),
                        bytes: bytes.into(),
                    };
                    self.keying.handle(now, message);
                }
            }
            Heard::PeerGone(peer, number) => {
                self.handles.remove(&number);
                if self.meetings.gone(&peer, number) {
                    let session = SessionId(number);
                    let down = keying::Event::SessionDown { peer, session };
                    self.keying.handle(now, down);
                }
            }
            Heard::NoPeer(peer, number, why) => {
                self.dials.remove(&number);
                self.meetings.failed(&peer, number);
                // With a session it does not matter.
                let alone = self.meetings.known(&peer).is_none();
                if alone && self.troubles.get(&peer) != Some(&why) {
                    tracing::info!(%peer, %why, "no session with the edge");
                    self.troubles.insert(peer, why);
                }
            }
        }
    }

    fn known(&self, peer: &NveName, number: u64) -> bool {
        let known = self.meetings.known(peer);
        known.is_some_and(|known| known.number == number)
    }

    /// A session with another edge.
    fn peer_opened(
        &mut self,
        now: Duration,
        peer: NveName,
        number: u64,
        handle: Handle,
        dialled: bool,
    ) {
        self.dials.remove(&number);
        let Some(binding) = handle.export_keying_material(PEER_BINDING, b"") else {
            self.meetings.failed(&peer, number);
            return handle.close("no exporter value");
        };
        self.troubles.remove(&peer);
        let verdict = self.meetings.opened(now, &peer, number, dialled);
        if !verdict.stays {
            return handle.close("there is another session, which stays");
        }
        for ended in verdict.ends {
            self.dials.remove(&ended);
            if let Some(former) = self.handles.remove(&ended) {
                former.close("another session of the same edge");
            }
        }
        self.handles.insert(number, handle);
        let up = keying::Event::SessionUp {
            peer,
            session: SessionId(number),
            binding: *binding,
        };
        self.keying.handle(now, up);
    }

    /// A session with another edge is wished for.
    pub(super) fn connect(&mut self, peer: NveName) {
        let now = self.now();
        if !self.meetings.dials(now, &peer) {
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
        self.meetings.dialling(now, peer.clone(), number);
        let dial = self.network.dial_peer(peer, identity, at, number);
        self.dials.insert(number, dial);
    }

    /// Sends to another edge. One that takes nothing loses its session, and begins anew.
    pub(super) fn send(&mut self, peer: &NveName, session: SessionId, bytes: Vec<u8>) {
        let Some(handle) = self.handles.get(&session.0) else {
            return;
        };
        if let Err(error) = handle.try_send(bytes.into()) {
            tracing::debug!(%peer, %error, "session closed");
            handle.close("what is sent is not taken");
        }
    }

    /// Closes a session with another edge.
    pub(super) fn close(&mut self, session: SessionId) {
        if let Some(handle) = self.handles.get(&session.0) {
            handle.close("the protocol was not kept");
        }
    }
}
