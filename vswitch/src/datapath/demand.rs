//! Keys on demand: a frame for a tunnel that has no key yet waits here, in a queue that is short
//! in frames and in time, and in which no VN takes what another needs, while the control side is
//! asked for a key. And what a key's life depends on: that it is used.

use std::collections::VecDeque;

use arrayvec::ArrayVec;
use vswitch_sa::Spi;
use vswitch_vn::{TunnelId, VnId};

use super::command::Event;
use super::probe::Probe;
use super::sas::SaTable;
use super::tunnels::TunnelTable;
use super::verdict::Verdict;
use super::worker::{Gathered, Worker};

/// Frames that wait for one tunnel's key at most.
pub const PER_TUNNEL: u16 = 32;
/// Frames that wait at one worker at most, shared by VNs: when they are as many, a frame takes the
/// place of one of the VN with the most, if its own has fewer. Fewer than a port has buffers, so that no tenant can
/// have all of its own here and be taken for one whose frontend hangs.
pub const IN_ALL: usize = 512;
/// A frame waits as long as this, in seconds.
pub const PATIENCE: u64 = 1;
/// The control side is asked again so often per second, as long as frames come.
const ASKED: u64 = 4;
/// An inbound SA is idle so many seconds later than an outbound one, so that who sends lets go first
/// and no packet meets an SA that is gone.
const INBOUND_LONGER: u32 = 5;

/// What the control side decides where there is an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Seconds without a packet after which an SA is reported as idle.
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
    /// Its last SA came to a hard limit.
    limit: bool,
    /// Whether its SA is used.
    quiet: Quiet,
}

/// Whether an SA is used: looked at once a second.
#[derive(Debug, Default)]
pub struct Quiet {
    /// Packets that it had a second ago, and the seconds since there was one more.
    packets: u64,
    seconds: u32,
}

impl Quiet {
    /// A second later; whether it has had none for so many seconds, once in each such time.
    fn second(&mut self, packets: u64, idle: u32) -> bool {
        if packets != self.packets {
            (self.packets, self.seconds) = (packets, 0);
            return false;
        }
        self.seconds += 1;
        let over = self.seconds >= idle;
        if over {
            self.seconds = 0;
        }
        over
    }
}

/// A frame that waits.
struct Wait {
    frame: Gathered,
    vn: VnId,
    since: u64,
}

/// How many frames of each VN wait.
struct Crowd(Vec<(VnId, u16)>);

impl Crowd {
    fn of(&self, vn: VnId) -> u16 {
        let mut all = self.0.iter();
        all.find(|(of, _)| *of == vn).map_or(0, |(_, n)| *n)
    }

    fn enter(&mut self, vn: VnId) {
        match self.0.iter_mut().find(|(of, _)| *of == vn) {
            Some((_, n)) => *n += 1,
            None => self.0.push((vn, 1)),
        }
    }

    fn leave(&mut self, vn: VnId) {
        if let Some(at) = self.0.iter().position(|(of, _)| *of == vn)
            && let Some((_, n)) = self.0.get_mut(at)
        {
            *n -= 1;
            if *n == 0 {
                self.0.swap_remove(at);
            }
        }
    }

    /// The VN that has the most, if that is more than this one has.
    fn greatest_before(&self, vn: VnId) -> Option<VnId> {
        let (greatest, most) = *self.0.iter().max_by_key(|(_, n)| *n)?;
        (most > self.of(vn)).then_some(greatest)
    }
}

/// Frames that wait for keys, in the order they came.
pub(super) struct Waiting {
    frames: VecDeque<Wait>,
    crowd: Crowd,
    /// Something has come that some of them may wait for.
    pub ready: bool,
}

impl Default for Waiting {
    fn default() -> Self {
        Waiting {
            frames: VecDeque::with_capacity(IN_ALL),
            crowd: Crowd(Vec::with_capacity(IN_ALL)),
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

    /// Takes out the newest frame of the VN that has the most, if that is more than this one has.
    fn displace(&mut self, vn: VnId) -> Option<Gathered> {
        let greatest = self.crowd.greatest_before(vn)?;
        let at = self.frames.iter().rposition(|wait| wait.vn == greatest)?;
        let wait = self.frames.remove(at)?;
        self.crowd.leave(greatest);
        Some(wait.frame)
    }
}

impl<P: Probe> Worker<P> {
    /// A frame for a tunnel without a key: a key is asked for, and the frame waits for it.
    #[cold]
    pub(super) fn await_key(&mut self, frame: Gathered) {
        let id = frame.tunnel;
        self.ask_for_key(id);
        let few = |demand: &&mut Demand| !P::DRY && demand.waiting < PER_TUNNEL;
        let vn = self.tables.tunnel(id).map(|tunnel| tunnel.vn);
        let admitted = self.tunnels.demand(id).filter(few).is_some();
        let Some(vn) = vn.filter(|vn| admitted && self.make_room(*vn)) else {
            return self.keyless_drop(frame);
        };
        if let Some(demand) = self.tunnels.demand(id) {
            demand.waiting += 1;
        }
        self.keyless.crowd.enter(vn);
        let since = self.now;
        self.keyless.frames.push_back(Wait { frame, vn, since });
    }

    /// Whether there is room for one more of a VN's frames, if need be in another's place.
    fn make_room(&mut self, vn: VnId) -> bool {
        if self.keyless.len() < IN_ALL {
            return true;
        }
        let Some(displaced) = self.keyless.displace(vn) else {
            return false;
        };
        if let Some(demand) = self.tunnels.demand(displaced.tunnel) {
            demand.waiting = demand.waiting.saturating_sub(1);
        }
        self.keyless_drop(displaced);
        true
    }

    /// Ends a frame for which no key came.
    fn keyless_drop(&mut self, frame: Gathered) {
        let limit = self.tunnels.demand(frame.tunnel).is_some_and(|d| d.limit);
        let verdict = match limit {
            true => Verdict::SaHardLimit,
            false => Verdict::NoKey,
        };
        self.tunnel_drop(frame.tunnel, verdict, frame.packet);
    }

    /// Notes why a tunnel is without a key.
    pub(super) fn limit(&mut self, id: TunnelId, limit: bool) {
        if let Some(demand) = self.tunnels.demand(id) {
            demand.limit = limit;
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
        while let Some(wait) = self.keyless.frames.front()
            && self.now.wrapping_sub(wait.since) >= patience
            && let Some(wait) = self.keyless.frames.pop_front()
        {
            let frame = self.no_longer_waiting(wait);
            self.keyless_drop(frame);
        }
        if !std::mem::take(&mut self.keyless.ready) {
            return;
        }
        for _ in 0..self.keyless.len() {
            let Some(wait) = self.keyless.frames.pop_front() else {
                return;
            };
            let state = self.tunnels.get(wait.frame.tunnel);
            let has_key = state.is_none_or(|state| match state.owner {
                _ if state.sa.is_some() => true,
                Some(owner) => owner != self.id && !wait.frame.handed_in,
                None => false,
            });
            if has_key {
                let frame = self.no_longer_waiting(wait);
                self.gather(frame.tunnel, frame.packet, frame.handed_in);
            } else {
                self.keyless.frames.push_back(wait);
            }
        }
    }

    fn no_longer_waiting(&mut self, wait: Wait) -> Gathered {
        if let Some(demand) = self.tunnels.demand(wait.frame.tunnel) {
            demand.waiting = demand.waiting.saturating_sub(1);
        }
        self.keyless.crowd.leave(wait.vn);
        wait.frame
    }

    /// Ends the frames that wait for a tunnel that is gone: its id may be another's soon.
    pub(super) fn forget_waiting(&mut self, gone: &[TunnelId]) {
        self.end_waiting(Verdict::NoKey, |id| gone.contains(&id));
    }

    /// Ends the frames that wait for any of these.
    pub(super) fn end_waiting(&mut self, verdict: Verdict, which: impl Fn(TunnelId) -> bool) {
        for _ in 0..self.keyless.len() {
            match self.keyless.frames.pop_front() {
                Some(wait) if which(wait.frame.tunnel) => {
                    let frame = self.no_longer_waiting(wait);
                    self.tunnel_drop(frame.tunnel, verdict, frame.packet);
                }
                Some(wait) => self.keyless.frames.push_back(wait),
                None => return,
            }
        }
    }

    /// Once a second: begins to look for SAs that have sealed or accepted nothing for as long as the
    /// terms say. They are reported, again each time that passes once more.
    pub(super) fn look_for_idle(&mut self) {
        if self.terms.is_some() && self.idle_sweep.is_none() {
            self.idle_sweep = Some(IdleSweep::default());
        }
    }

    /// Goes on with it: a few at a time, for each is somewhere else in memory.
    #[cold]
    pub(super) fn sweep_idle(&mut self) {
        let (Some(Terms { idle, .. }), Some(sweep)) = (self.terms, self.idle_sweep.as_mut()) else {
            self.idle_sweep = None;
            return;
        };
        let mut found: ArrayVec<Event, IDLE_SLICE> = ArrayVec::new();
        let (tunnels, inbound) = (self.tunnels.places(), self.sas.inbound_places());
        let end = (sweep.next + IDLE_SLICE).min(tunnels + inbound);
        for place in sweep.next..end {
            let event = match place.checked_sub(tunnels) {
                None => {
                    let id = TunnelId(place as u32);
                    idle_outbound(&mut self.tunnels, &self.sas, id, idle)
                        .map(|spi| Event::IdleSa(self.id, id, spi))
                }
                Some(slot) => {
                    let idle = idle.saturating_add(INBOUND_LONGER);
                    idle_inbound(&self.tunnels, &mut self.sas, slot, idle)
                        .map(|(id, spi)| Event::IdleInbound(self.id, id, spi))
                }
            };
            found.extend(event);
        }
        sweep.next = end;
        if end == tunnels + inbound {
            self.idle_sweep = None;
        }
        for event in found {
            self.tell(event);
        }
    }
}

/// Where the search for idle SAs is: first in the tunnels, then among the inbound SAs.
#[derive(Debug, Default)]
pub(super) struct IdleSweep {
    next: usize,
}

/// Places looked at in a pass: some microseconds if all are far away.
const IDLE_SLICE: usize = 64;

/// The SA that a tunnel seals with, if it is idle and came on demand.
fn idle_outbound(tunnels: &mut TunnelTable, sas: &SaTable, id: TunnelId, idle: u32) -> Option<Spi> {
    let out = sas.outbound(tunnels.get(id)?.sa?)?;
    let demand = tunnels.demand(id)?;
    let over = demand.quiet.second(out.sa.counters().packets, idle);
    over.then(|| out.sa.spi())
}

/// The inbound SA in a slot, if it is.
fn idle_inbound(
    tunnels: &TunnelTable,
    sas: &mut SaTable,
    slot: usize,
    idle: u32,
) -> Option<(TunnelId, Spi)> {
    let inbound = sas.inbound_mut(slot)?;
    tunnels.get(inbound.tunnel)?.demand.as_ref()?;
    let over = inbound.quiet.second(inbound.sa.counters().packets, idle);
    over.then(|| (inbound.tunnel, inbound.sa.spi()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_is_idle_once_in_each_such_time() {
        let mut quiet = Quiet::default();
        let idle: Vec<bool> = [1, 1, 1, 1, 2, 2, 2, 2, 2]
            .map(|packets| quiet.second(packets, 2))
            .to_vec();
        let expected = [false, false, true, false, false, false, true, false, true];
        assert_eq!(idle, expected);
    }

    #[test]
    fn the_greatest_crowd_gives_way_to_smaller_ones_only() {
        let mut crowd = Crowd(Vec::new());
        let (a, b, c) = (VnId(1), VnId(2), VnId(3));
        for vn in [a, a, a, b, b] {
            crowd.enter(vn);
        }
        assert_eq!(crowd.greatest_before(a), None);
        assert_eq!(crowd.greatest_before(b), Some(a));
        assert_eq!(crowd.greatest_before(c), Some(a));
        crowd.leave(a);
        assert_eq!(crowd.greatest_before(b), None, "as many as the other");
        for vn in [a, a, b, b] {
            crowd.leave(vn);
        }
        assert!(crowd.0.is_empty());
    }
}
