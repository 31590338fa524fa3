//! What workers and vhost sockets saw, with names put to it, for the security log.

use std::time::Instant;

use vswitch_vn::TunnelId;

use super::control::Control;
use crate::datapath::command::WorkerId;
use crate::datapath::sightings::{Kind, Seen, Sighting, Subject};
use crate::dpdk::vhost::Refusal;
use crate::manage::security::{PacketSummary, SecurityEvent};

impl Control {
    /// A worker's report.
    pub(super) fn seen(&mut self, worker: WorkerId, seen: Seen) {
        let now = Instant::now();
        for sighting in &seen.sightings {
            if let Some(event) = self.named(worker, sighting) {
                self.security.note(now, event);
            }
        }
        if seen.unplaced > 0 {
            let message = "packets that too many subjects were concerned by to tell each";
            let mut event = SecurityEvent::new("limit-reached", "unlisted-events", message);
            (event.worker, event.count) = (Some(worker), seen.unplaced);
            self.security.note(now, event);
        }
    }

    fn named(&self, worker: WorkerId, sighting: &Sighting) -> Option<SecurityEvent> {
        let verdict = sighting.verdict;
        let kind = Kind::of(verdict)?;
        let mut event = SecurityEvent::new(kind.name(), verdict.name(), verdict.help());
        (event.worker, event.count) = (Some(worker), sighting.count);
        let (head, len) = (sighting.head(), sighting.len);
        event.packet = Some(PacketSummary::new(head, len));
        let of_tunnel = |event: &mut SecurityEvent, tunnel: TunnelId| {
            let (vn, peer) = self.tunnel_names(tunnel);
            (event.vn, event.peer) = (Some(vn.to_owned()), Some(peer.to_owned()));
        };
        match sighting.subject {
            Subject::Port(port) => {
                event.port = Some(self.port_name(port).to_owned());
                let vn = self.config.ports.get(port.index()).map(|port| port.vn);
                let vn = vn.and_then(|vn| self.config.vns.get(vn.index()));
                event.vn = vn.map(|vn| vn.name.clone());
            }
            Subject::Tunnel(tunnel) => of_tunnel(&mut event, tunnel),
            Subject::Inbound { spi, tunnel } => {
                of_tunnel(&mut event, tunnel);
                event.spi = Some(spi);
            }
            Subject::Underlay(port) => {
                let port = self.config.underlay.ports.get(usize::from(port));
                event.underlay = port.map(|port| port.name.clone());
                event.spi = Some(kind)
                    .filter(|kind| *kind == Kind::UnknownSpi)
                    .and_then(|_| PacketSummary::spi(head, len));
            }
        }
        Some(event)
    }

    /// A frontend that was cut off or not let in.
    pub(super) fn refused(&mut self, port: String, uid: Option<u32>, reason: Refusal) {
        let message = format!("a frontend was cut off: {reason}");
        let mut event = SecurityEvent::new("hostile-frontend", reason.name(), message);
        (event.port, event.uid) = (Some(port), uid);
        self.security.note(Instant::now(), event);
    }
}
