//! Keys on demand: a frame for a tunnel that has no key yet waits here, in a queue that is short
//! in frames and in time, while the control side is asked for one. And what a key's life depends
//! on: that it is used, and that it does not reach its limit.

use std::collections::VecDeque;

use vswitch_sa::Spi;
use vswitch_vn::TunnelId;

use super::command::Event;
use super::probe::Probe;
use super::verdict::Verdict;
use super::worker::{Gathered, Worker};

/// Frames that wait for one tunnel's key at most.
pub const PER_TUNNEL: u16 = 64;
/// Frames that wait at one worker at most: fewer than a port has buffers, so that no tenant can
/// have all of its own here and be taken for one whose frontend hangs.
pub const IN_ALL: usize = 512;
/// A frame waits as long as this, in seconds.
pub const PATIENCE: u64 = 1;
/// The control side is asked again so often per second, as long as frames come.
const ASKED: u64 = 4;

/// What the control side decides where there is an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Seconds without a packet after which an outbound SA is reported as idle.
    pub idle: u32,
    /// UDP port of the control plane's own sessions: what comes for it goes to the kernel before
    /// what is less urgent.
    pub control_port: u16,
}

/// What is kept of a tunnel whose keys are made on demand.
#[derive(Debug, Default)]
pub struct Demand {
    /// When a key was asked for last, in TSC ticks.
    asked: Option<u64>,
    /// Frames that wait.
    waiting: u16,
    /// Packets that its SA had sealed a second ago, and the seconds since there was one more.
    packets: u64,
    quiet: u32,
}

/// Frames that wait for keys, in the order they came.
pub(super) struct Waiting {
    frames: VecDeque<(Gathered, u64)>,
    /// Something has come that some of them may wait for.
    pub ready: bool,
}

impl Default for Waiting {
    fn default() -> Self {
        Waiting {
            frames: VecDeque::with_capacity(IN_ALL),
            ready: false,
        }
    }
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

impl<P: Probe> Worker<P> {
    /// A frame for a tunnel without a key: a key is asked for, and the frame waits for it.
    #[cold]
    pub(super) fn await_key(&mut self, frame: Gathered) {
        let id = frame.tunnel;
        self.ask_for_key(id);
        let demand = self.tunnels.demand(id);
        let room = !P::DRY && self.keyless.len() < IN_ALL;
        match demand.filter(|demand| room && demand.waiting < PER_TUNNEL) {
            Some(demand) => {
                demand.waiting += 1;
                self.keyless.frames.push_back((frame, self.now));
            }
            None => self.tunnel_drop(id, Verdict::NoKey, frame.packet),
        }
    }

    /// Asks for a key of this worker's own, now and then.
    #[cold]
    pub(super) fn ask_for_key(&mut self, id: TunnelId) {
        let again = self.clock.hz() / ASKED;
        let now = self.now;
        let Some(demand) = self.tunnels.demand(id).filter(|_| !P::DRY) else {
            return;
        };
        let due = demand
            .asked
            .is_none_or(|asked| now.wrapping_sub(asked) >= again);
        if due {
            demand.asked = Some(now);
            if !self.tell(Event::NeedKey(self.id, id))
                && let Some(demand) = self.tunnels.demand(id)
            {
                demand.asked = None;
            }
        }
    }

    /// Sends on what has a key now, and ends what has waited too long. At the start of a pass.
    #[cold]
    pub(super) fn tend_waiting(&mut self) {
        let patience = self.clock.hz() * PATIENCE;
        while let Some((_, since)) = self.keyless.frames.front()
            && self.now.wrapping_sub(*since) >= patience
            && let Some((frame, _)) = self.keyless.frames.pop_front()
        {
            self.no_longer_waiting(frame.tunnel);
            self.tunnel_drop(frame.tunnel, Verdict::NoKey, frame.packet);
        }
        if !std::mem::take(&mut self.keyless.ready) {
            return;
        }
        for _ in 0..self.keyless.len() {
            let Some((frame, since)) = self.keyless.frames.pop_front() else {
                return;
            };
            let state = self.tunnels.get(frame.tunnel);
            let has_key = state.is_none_or(|state| match state.owner {
                _ if state.sa.is_some() => true,
                Some(owner) => owner != self.id && !frame.handed_in,
                None => false,
            });
            if has_key {
                self.no_longer_waiting(frame.tunnel);
                self.gather(frame.tunnel, frame.packet, frame.handed_in);
            } else {
                self.keyless.frames.push_back((frame, since));
            }
        }
    }

    fn no_longer_waiting(&mut self, id: TunnelId) {
        if let Some(demand) = self.tunnels.demand(id) {
            demand.waiting = demand.waiting.saturating_sub(1);
        }
    }

    /// Ends the frames that wait for a tunnel that is gone: its id may be another's soon.
    pub(super) fn forget_waiting(&mut self, gone: &[TunnelId]) {
        self.end_waiting(Verdict::NoKey, |id| gone.contains(&id));
    }

    /// Ends the frames that wait for any of these.
    pub(super) fn end_waiting(&mut self, verdict: Verdict, which: impl Fn(TunnelId) -> bool) {
        for _ in 0..self.keyless.len() {
            match self.keyless.frames.pop_front() {
                Some((frame, _)) if which(frame.tunnel) => {
                    self.no_longer_waiting(frame.tunnel);
                    self.tunnel_drop(frame.tunnel, verdict, frame.packet);
                }
                Some(waits) => self.keyless.frames.push_back(waits),
                None => return,
            }
        }
    }

    /// Once a second: reports SAs that have sealed nothing for as long as the terms say, and
    /// again each time that passes once more.
    pub(super) fn tell_idle(&mut self) {
        let Some(Terms { idle, .. }) = self.terms else {
            return;
        };
        let mut found: Vec<(TunnelId, Spi)> = Vec::new();
        for (id, state) in self.tunnels.iter_mut() {
            let out = state.sa.and_then(|slot| self.sas.outbound(slot));
            let (Some(demand), Some(out)) = (&mut state.demand, out) else {
                continue;
            };
            let packets = out.sa.counters().packets;
            if packets != demand.packets {
                (demand.packets, demand.quiet) = (packets, 0);
                continue;
            }
            demand.quiet += 1;
            if demand.quiet >= idle {
                demand.quiet = 0;
                found.push((id, out.sa.spi()));
            }
        }
        for (id, spi) in found {
            self.tell(Event::IdleSa(self.id, id, spi));
        }
    }
}
