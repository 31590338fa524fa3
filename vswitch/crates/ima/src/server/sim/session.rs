//! A session: what arrives at its server goes the way of the real ones, what is answered and told goes back.

use std::collections::VecDeque;
use std::time::Duration;

use vswitch_control::message::encode;
use vswitch_control::message::ima::{FromIma, Goodbye};

use super::super::waiting::unavailable;
use super::World;
use crate::engine::{EdgeRequest, Excess, Reply, SessionId};
use crate::server::line::Line;

/// A session, both ends of it. What is on its way arrives in order.
pub(super) struct Session {
    pub(super) edge: usize,
    pub(super) server: usize,
    pub(super) id: SessionId,
    pub(super) line: Line,
    pub(super) to_server: VecDeque<(Duration, Vec<u8>)>,
    pub(super) to_edge: VecDeque<(Duration, Vec<u8>)>,
    /// The edge has given it up, or cannot be reached: the server notices then.
    pub(super) dead: Option<Duration>,
    /// The server has given it up, and the edge has not noticed.
    pub(super) server_gone: bool,
    /// Since when nothing gets through to the server, and to the edge.
    pub(super) silent: [Option<Duration>; 2],
    /// The server has said its last word.
    pub(super) finished: bool,
}

impl World {
    /// What a session's edge sent, at its server.
    fn serve(&mut self, session: &mut Session, frame: &[u8]) {
        let request = match session.line.receive(frame) {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(why) => return self.farewell(session, why),
        };
        self.request(session, request);
    }

    fn request(&mut self, session: &mut Session, request: EdgeRequest) {
        let (at, id) = (session.server, session.id);
        let now = self.now;
        let excess = self.servers[at].engine.excess(id, &request, now);
        let reply = match excess {
            None => {
                let stored = self.commit(at, |engine, now| {
                    let decision = engine.edge(id, &request, now);
                    (decision.plan, decision.reply)
                });
                stored.unwrap_or_else(|| {
                    self.seen.unserved += 1;
                    unavailable(&request)
                })
            }
            Some(Excess::Registration(reply) | Excess::Join(reply) | Excess::Hello(reply)) => {
                Some(reply)
            }
            Some(Excess::Query) => None,
        };
        let Some(reply) = reply else { return };
        self.servers[at].engine.confirm(id, &reply);
        self.reply(session, reply);
    }

    fn reply(&mut self, session: &mut Session, reply: Reply) {
        match session.line.reply(reply) {
            Ok(follows) => {
                if let Some(message) = follows.message {
                    self.post(session, &message);
                }
                if let Some(request) = follows.request {
                    self.request(session, request);
                }
            }
            Err(why) => self.farewell(session, why),
        }
    }

    fn post(&mut self, session: &mut Session, message: &FromIma) {
        let at = self.arrival(session.to_edge.back().map(|(at, _)| *at));
        session.to_edge.push_back((at, encode(message).unwrap()));
    }

    fn farewell(&mut self, session: &mut Session, why: Goodbye) {
        assert!(
            why != Goodbye::Protocol,
            "an honest edge is said not to keep the protocol"
        );
        self.post(session, &FromIma::Goodbye { why });
        session.finished = true;
        self.servers[session.server].engine.close(session.id);
    }

    /// Some of what there is to tell, as there is room.
    pub fn push(&mut self, session: &mut Session) {
        let room = self.rng.usize(..6);
        while session.to_edge.len() < room && !session.finished {
            let engine = &mut self.servers[session.server].engine;
            let Some(push) = engine.next(session.id) else {
                return;
            };
            match session.line.push(push) {
                Ok(Some(message)) => self.post(session, &message),
                Ok(None) => {}
                Err(why) => self.farewell(session, why),
            }
        }
    }

    /// What has arrived at the server.
    pub fn arrivals(&mut self, session: &mut Session) {
        while !session.finished
            && let Some((_, frame)) = session.to_server.pop_front_if(|(at, _)| *at <= self.now)
        {
            self.serve(session, &frame);
        }
    }
}
