//! What goes through a session and through its network: messages and how often they are tried, silence,
//! and what an end says that knows of no session.

use std::time::Duration;

use super::links::State;
use super::{Item, World, ms};
use crate::keying::{Event, SessionId};
use crate::session::Liveness;

/// How often an end looks at its clock: a part of the time in which it says something.
pub const BEAT: Duration = ms(50);

impl World {
    /// Until something is said again that was not acknowledged (RFC 9002, section 6.2).
    fn again(&self, tries: u32) -> Duration {
        ms((25 + 2 * self.conduct.slowest) << tries.min(10))
    }

    pub fn wire(&mut self) -> Duration {
        self.between(1, self.conduct.slowest)
    }

    pub fn transmit(&mut self, from: usize, session: SessionId, bytes: Vec<u8>) {
        let link = session.0 as usize;
        let side = self.side(link, from);
        if self.links[link].ends[side].state != State::Up {
            return;
        }
        if self.rng.u64(0..1000) < self.conduct.repeated {
            let after = self.between(0, 500);
            let to = self.links[link].ends[1 - side].edge;
            self.at(after, Item::Arrive(usize::MAX, to, bytes.clone()));
        }
        let end = &mut self.links[link].ends[side];
        end.queue.push_back(bytes);
        if end.tries.is_none() {
            end.tries = Some(0);
            self.at(Duration::ZERO, Item::Flush(link, side));
        } else if self.passes(link, side) && self.passes(link, 1 - side) {
            // What is new goes out at once, and its acknowledgement tells that what was before is lost.
            let after = self.wire() + self.wire();
            self.at(after, Item::Flush(link, side));
        }
    }

    /// What waits goes out, or is tried again.
    pub fn flush(&mut self, link: usize, side: usize) {
        let (passes, now) = (self.passes(link, side), self.now);
        let end = &mut self.links[link].ends[side];
        if end.state != State::Up {
            return;
        }
        let Some(tries) = end.tries else {
            return;
        };
        if !passes {
            end.said.get_or_insert(now);
            end.tries = Some(tries + 1);
            let after = self.again(tries);
            self.at(after, Item::Flush(link, side));
            return;
        }
        end.tries = None;
        let messages = core::mem::take(&mut end.queue);
        self.seen.late += u64::from(tries > 0);
        for bytes in messages {
            let after = self.wire();
            let other = &mut self.links[link].ends[1 - side];
            other.last = other.last.max(now + after);
            let (at, to) = (other.last, other.edge);
            self.at(at - now, Item::Arrive(link, to, bytes));
        }
    }

    pub fn arrive(&mut self, link: usize, edge: usize, bytes: Vec<u8>) {
        // Played again: in the latest session that this edge has.
        let latest = || {
            self.links.iter().rposition(|it| {
                let mut ends = it.ends.iter();
                ends.any(|end| end.edge == edge && end.state == State::Up)
            })
        };
        let link = match link {
            usize::MAX => latest(),
            link => Some(link),
        };
        let Some(link) = link else {
            return;
        };
        let side = self.side(link, edge);
        let end = &mut self.links[link].ends[side];
        if end.state == State::New {
            end.early.push(bytes);
        } else if self.hear(link, side) {
            let peer = self.links[link].ends[1 - side].edge;
            let event = Event::Message {
                peer: self.edges[peer].name.clone(),
                session: SessionId(link as u64),
                bytes,
            };
            self.give(edge, event);
        }
    }

    /// A packet of the session reaches an end, and is answered. Whether there is one.
    fn hear(&mut self, link: usize, side: usize) -> bool {
        let (end, other) = (&self.links[link].ends[side], 1 - side);
        let run = &self.edges[end.edge];
        let (up, same) = (end.state == State::Up, end.run == run.run);
        let after = self.wire();
        if up {
            let now = self.now;
            self.links[link].ends[side].hears(now);
            if self.passes(link, side) {
                self.at(after, Item::Pong(link, other));
            }
        } else if same && self.links[link].ends[side].state == State::Dead {
            // A stateless reset (RFC 9000, section 10.3), which a new process cannot make.
            if self.passes(link, side) && self.links[link].ends[other].state == State::Up {
                self.seen.unknown += 1;
                let edge = self.links[link].ends[other].edge;
                self.at(after, Item::Down(link, edge));
            }
        }
        up
    }

    pub fn ping(&mut self, link: usize, side: usize) {
        self.hear(link, side);
    }

    pub fn pong(&mut self, link: usize, side: usize) {
        let now = self.now;
        self.links[link].ends[side].hears(now);
    }

    /// An end says that it is there, and gives up one that is not.
    pub fn beat(&mut self, link: usize, side: usize) {
        let now = self.now;
        let end = &self.links[link].ends[side];
        if end.state != State::Up || end.run != self.edges[end.edge].run {
            return;
        }
        // From what was first said in vain (RFC 9000, section 10.1).
        let since = end.said.unwrap_or(end.heard);
        if now >= since + Liveness::SHORT.idle_timeout {
            self.seen.silent += 1;
            let other = &self.links[link].ends[1 - side];
            self.seen.half_open += u64::from(other.state == State::Up);
            let edge = self.links[link].ends[side].edge;
            self.link_down(link, edge);
            return;
        }
        if now >= end.next_ping {
            let after = self.again(end.pings);
            let end = &mut self.links[link].ends[side];
            end.said.get_or_insert(now);
            end.pings += 1;
            end.next_ping = now + after;
            let after = self.wire();
            if self.passes(link, side) {
                self.at(after, Item::Ping(link, 1 - side));
            }
        }
        self.at(BEAT, Item::Beat(link, side));
    }
}
