//! Peers: their sessions, which run of theirs answers, and messages as they come in.

use std::time::Duration;

use super::api::{Event, Output, SessionId};
use super::pair::{Pair, Step, Turn};
use super::report::Report;
use super::turns::Turns;
use super::{Keying, PairKey};
use crate::message::peer::{PeerMessage, VERSION};
use crate::message::{decode, encode};
use crate::types::{BootId, NveName};

/// How long to wait between two wishes for a session; whoever dials has a backoff of its own.
const WISH: Duration = Duration::from_millis(500);
/// The edge with the larger name leaves it to the other for so long to begin exchanges behind a
/// new session: both would otherwise, and one of each two would be given up.
const COURTESY: Duration = Duration::from_millis(100);

/// A session that is up.
pub struct Session {
    pub id: SessionId,
    pub binding: [u8; 32],
    /// The peer has said its boot id.
    pub greeted: bool,
}

/// Of what a peer admits at once, what is asked of it.
fn begun(burst: u32) -> u32 {
    burst - burst / 5
}

/// Another edge, while there is a session or any pair with it.
pub struct Peer {
    pub session: Option<Session>,
    /// The run of the peer with which its SAs were agreed.
    pub boot: Option<BootId>,
    /// Since when there has been none, though SAs depend on it.
    pub without: Option<Duration>,
    /// That was reported.
    pub unreached: bool,
    /// That it has all SAs that one peer may have was reported.
    pub crowding: bool,
    /// Exchanges with it that are begun here: those under way, and those that wait.
    pub turns: Turns,
}

impl Keying {
    /// How many exchanges a peer may begin each second, and how many at once.
    pub(super) fn rate(&self, name: &NveName) -> (u32, u32) {
        let shared = self.shared.get(name).copied().unwrap_or(0);
        let (rate, burst) = (
            self.config.requests_per_second,
            self.config.requests_at_once,
        );
        let burst = burst.max(shared.saturating_add(shared / 4));
        (rate.max(burst / 10), burst)
    }

    /// There are more VNs with a peer, or fewer: so may it begin exchanges.
    pub(super) fn in_common(&mut self, name: &NveName, one_more: bool) {
        let shared = self.shared.entry(name.clone()).or_default();
        *shared = match one_more {
            true => shared.saturating_add(1),
            false => shared.saturating_sub(1),
        };
        if *shared == 0 {
            self.shared.remove(name);
        }
        let (rate, burst) = self.rate(name);
        if let Some(peer) = self.peers.get_mut(name) {
            peer.turns.resize(rate, begun(burst));
        }
        if let Some(allowance) = self.allowances.get_mut(name) {
            allowance.resize(rate, burst);
        }
    }

    pub(super) fn peer(&mut self, name: &NveName) -> &mut Peer {
        let (rate, burst) = self.rate(name);
        self.peers.entry(name.clone()).or_insert_with(|| Peer {
            session: None,
            boot: None,
            without: None,
            unreached: false,
            crowding: false,
            turns: Turns::new(rate, begun(burst)),
        })
    }

    /// The session with a peer that has greeted.
    pub(super) fn session(&self, peer: &NveName) -> Option<&Session> {
        let session = self.peers.get(peer)?.session.as_ref()?;
        session.greeted.then_some(session)
    }

    pub(super) fn session_up(
        &mut self,
        now: Duration,
        peer: NveName,
        id: SessionId,
        binding: [u8; 32],
    ) {
        if peer == self.me {
            self.outputs.push_back(Output::Close { peer, session: id });
            return;
        }
        self.forget_exchanges(now, &peer);
        self.peer(&peer).session = Some(Session {
            id,
            binding,
            greeted: false,
        });
        self.peer_timers.set(&peer, None);
        let hello = PeerMessage::Hello {
            version: VERSION,
            boot: self.boot,
        };
        self.send(&peer, &hello);
    }

    pub(super) fn session_down(&mut self, now: Duration, name: &NveName, id: SessionId) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        if peer.session.as_ref().is_none_or(|session| session.id != id) {
            return;
        }
        peer.session = None;
        self.forget_exchanges(now, name);
        self.wish(now, name);
    }

    /// An exchange ends with its session. The SAs go on.
    fn forget_exchanges(&mut self, now: Duration, peer: &NveName) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.turns.forget();
        }
        for key in self.vns_with(peer) {
            self.with_pair(now, &key, |_, pair| pair.forget_exchange());
        }
    }

    /// Says that a session is wished for, if there is none and any SA depends on it; forgets a peer
    /// with whom there is nothing.
    pub(super) fn wish(&mut self, now: Duration, name: &NveName) {
        let without = self
            .peers
            .get(name)
            .is_none_or(|peer| peer.session.is_none());
        if !without || self.peer_timers.is_set(name) {
            return;
        }
        let pairs = self.pairs.get(name);
        if pairs.is_some_and(|pairs| pairs.values().any(Pair::is_used)) {
            self.without(now, name);
            self.outputs
                .push_back(Output::Connect { peer: name.clone() });
            self.peer_timers.set(name, Some(now + WISH));
        } else if pairs.is_none() {
            self.peers.remove(name);
        } else if let Some(peer) = self.peers.get_mut(name) {
            (peer.without, peer.unreached) = (None, false);
        }
    }

    /// To a peer, if there is a session.
    pub(super) fn send(&mut self, peer: &NveName, message: &PeerMessage) {
        let session = self.peers.get(peer).and_then(|peer| peer.session.as_ref());
        let Some(session) = session.map(|session| session.id) else {
            return;
        };
        // Every message fits (`MAX_VN_MESSAGE`); one that did not would be lost like a session.
        if let Ok(bytes) = encode(message) {
            self.outputs.push_back(Output::Send {
                peer: peer.clone(),
                session,
                bytes,
            });
        }
    }

    /// Ends the session of a peer that broke the protocol.
    pub(super) fn violation(&mut self, now: Duration, peer: &NveName) {
        self.counters.violations += 1;
        self.close(now, peer);
    }

    pub(super) fn close(&mut self, now: Duration, peer: &NveName) {
        let session = self.peers.get(peer).and_then(|peer| peer.session.as_ref());
        let Some(session) = session.map(|session| session.id) else {
            return;
        };
        self.outputs.push_back(Output::Close {
            peer: peer.clone(),
            session,
        });
        self.handle(
            now,
            Event::SessionDown {
                peer: peer.clone(),
                session,
            },
        );
    }

    pub(super) fn message(&mut self, now: Duration, name: &NveName, id: SessionId, bytes: &[u8]) {
        let session = self.peers.get(name).and_then(|peer| peer.session.as_ref());
        let Some(greeted) = session
            .filter(|session| session.id == id)
            .map(|session| session.greeted)
        else {
            return; // Of a session that another has replaced.
        };
        let message = match (decode(bytes), greeted) {
            (Ok(PeerMessage::Hello { version, boot }), false) if version == VERSION => {
                self.greeted(now, name, boot);
                return;
            }
            (Ok(message), true) => message,
            _ => {
                self.violation(now, name);
                return;
            }
        };
        let key = |vn| PairKey {
            peer: name.clone(),
            vn,
        };
        match message {
            PeerMessage::Hello { .. } => self.violation(now, name),
            PeerMessage::KeyRequest {
                vn,
                epoch,
                exchange,
                offer,
            } => self.requested(now, &key(vn), epoch, exchange, &offer),
            PeerMessage::KeyResponse {
                vn,
                exchange,
                answer,
            } => self.answered(now, &key(vn), exchange, &answer),
            PeerMessage::Refuse { vn, exchange, why } => {
                self.refused(now, &key(vn), exchange, why);
            }
            PeerMessage::Sealed {
                vn,
                exchange,
                bytes,
            } => self.sealed(now, &key(vn), exchange, &bytes),
            PeerMessage::Bye { vn } => {
                let key = key(vn);
                self.with_pair(now, &key, |this, pair| this.purge(&key, pair));
            }
        }
    }

    /// The peer has said which run of its own it is.
    fn greeted(&mut self, now: Duration, name: &NveName, boot: BootId) {
        let peer = self.peer(name);
        let restarted = peer.boot.replace(boot).is_some_and(|former| former != boot);
        (peer.without, peer.unreached) = (None, false);
        if let Some(session) = &mut peer.session {
            session.greeted = true;
        }
        let keys = self.vns_with(name);
        if restarted {
            self.counters.restarts += 1;
            self.outputs
                .push_back(Output::Report(Report::Restarted { peer: name.clone() }));
        }
        let begin = if self.me < *name { now } else { now + COURTESY };
        for key in keys {
            self.with_pair(now, &key, |this, pair| {
                if restarted {
                    this.purge_sas(&key, pair);
                }
                pair.failures = 0;
                if pair.is_used() {
                    pair.due_by(begin);
                }
            });
        }
    }
}

impl Pair {
    /// Without exchange, and without a message on its way.
    pub fn forget_exchange(&mut self) {
        self.pending = None;
        self.due = None;
        self.asked = false;
        self.turn = Turn::None;
        self.forget_root();
    }

    /// Without an exchange, though another may be on its way.
    pub fn forget_root(&mut self) {
        self.exchange = None;
        for sender in self.senders.values_mut() {
            match sender.step {
                Step::Rest | Step::Waiting | Step::Installing { .. } => {}
                Step::Wanted { .. } | Step::Offered { .. } | Step::Retry { .. } => {
                    sender.step = Step::Waiting;
                }
            }
        }
    }
}
