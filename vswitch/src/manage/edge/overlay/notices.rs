//! Notices on their way to the authority's thread: what an answer is waited for is never lost,
//! what a worker says again and again may be, and neither makes the control thread wait.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use vswitch_sa::Spi;
use vswitch_vn::{PortId, TunnelId, VnId};

use super::{KeyName, Notice, Unknown};
use crate::datapath::command::WorkerId;
use crate::manage::edge::control::Control;

/// What waits for room in the queue.
pub(in crate::manage::edge) struct Outbox {
    sender: mpsc::Sender<Notice>,
    /// Answers, in order: as many as there are orders at most.
    waiting: VecDeque<Notice>,
}

impl Outbox {
    pub(super) fn new(sender: mpsc::Sender<Notice>) -> Self {
        Outbox {
            sender,
            waiting: VecDeque::new(),
        }
    }

    /// Sends what must not be lost.
    pub(in crate::manage::edge) fn send(&mut self, notice: Notice) {
        self.waiting.push_back(notice);
        self.flush();
    }

    /// Sends what will be said again.
    fn mention(&mut self, notice: Notice) {
        if self.waiting.is_empty() {
            // A thread that is gone or behind is told again later.
            let _ = self.sender.try_send(notice);
        }
    }

    /// Tries again.
    pub(in crate::manage::edge) fn flush(&mut self) {
        while let Some(notice) = self.waiting.pop_front() {
            match self.sender.try_send(notice) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(notice)) => {
                    self.waiting.push_front(notice);
                    return;
                }
                // Nobody listens any more: nobody waits either.
                Err(mpsc::error::TrySendError::Closed(_)) => self.waiting.clear(),
            }
        }
    }
}

impl Control {
    fn mention(&mut self, notice: Option<Notice>) {
        if let (Some(ends), Some(notice)) = (&mut self.overlay, notice) {
            ends.outbox.mention(notice);
        }
    }

    /// A worker has frames for a tunnel and no key.
    pub(in crate::manage::edge) fn key_needed(&mut self, worker: WorkerId, tunnel: TunnelId) {
        let (vn, peer) = self.tunnel_names(tunnel);
        let notice = Notice::NeedKey {
            vn: vn.to_owned(),
            peer: peer.to_owned(),
            worker,
        };
        let known = self.plan.tunnels.contains_key(&tunnel);
        self.mention(known.then_some(notice));
    }

    /// Something about an agreed key; whether it is one.
    pub(in crate::manage::edge) fn of_agreed_key(
        &mut self,
        (worker, tunnel, spi): (WorkerId, TunnelId, Spi),
        notice: impl FnOnce(KeyName) -> Notice,
    ) -> bool {
        if self.agreed.outbound(tunnel, worker) != Some(spi) {
            return false;
        }
        let (vn, peer) = self.tunnel_names(tunnel);
        let notice = notice(KeyName {
            vn: vn.to_owned(),
            peer: peer.to_owned(),
            worker,
            spi,
        });
        match notice {
            Notice::Idle(_) => self.mention(Some(notice)),
            // A worker says this once of a key: lost, it would never be replaced in time.
            _ => {
                if let Some(ends) = &mut self.overlay {
                    ends.outbox.send(notice);
                }
            }
        }
        true
    }

    /// An inbound key that has opened nothing for a while.
    pub(in crate::manage::edge) fn idle_inbound(
        &mut self,
        worker: WorkerId,
        tunnel: TunnelId,
        spi: Spi,
    ) {
        let known = self.agreed.inbound(spi) == Some((tunnel, worker));
        let (vn, peer) = self.tunnel_names(tunnel);
        let notice = Notice::IdleInbound(KeyName {
            vn: vn.to_owned(),
            peer: peer.to_owned(),
            worker,
            spi,
        });
        self.mention(known.then_some(notice));
    }

    /// A tenant's frame for an address that nobody knows.
    pub(in crate::manage::edge) fn unknown_destination(
        &mut self,
        vn: VnId,
        port: PortId,
        what: Unknown,
    ) {
        let vn = self.plan.vn_place(vn);
        let name = vn.and_then(|vn| self.config.vns.get(vn));
        let notice = name.map(|vn| Notice::Unknown {
            vn: vn.name.clone(),
            port: self.port_name(port).to_owned(),
            what,
        });
        self.mention(notice);
    }

    /// Tells the authority's thread what the operator wants now.
    pub(in crate::manage::edge) fn tell_configuration(&mut self) {
        let local = Arc::clone(&self.local);
        if let Some(ends) = &mut self.overlay {
            ends.outbox.send(Notice::Configuration(local));
        }
    }
}
