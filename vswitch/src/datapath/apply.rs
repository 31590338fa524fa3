//! Commands take effect here, at a burst boundary, each as a whole.

use std::any::Any;

use vswitch_net::MacAddr;
use vswitch_sa::Algorithm;
use vswitch_vn::{Change, Destination, Learn, PeerId, PortId, Protection, Tables, TunnelId, VnId};

use super::attachment::Attachment;
use super::command::{Command, Event};
use super::counters::Account;
use super::outlet::{Outlet, Queue, Way};
use super::probe::Probe;
use super::tunnels::source_port;
use super::verdict::Verdict;
use super::vlan::VlanPort;
use super::worker::{Turn, Worker};
use crate::dpdk::vhost::VhostTx;

/// Slots of the forwarding table that housekeeping looks at in one boundary: some ten
/// microseconds.
const MAINTAINED_SLOTS: usize = 8_192;

impl<P: Probe> Worker<P> {
    /// Applies one command.
    pub(super) fn apply(&mut self, command: Command) {
        match command {
            Command::Transaction(commands) => {
                for command in commands {
                    self.apply(command);
                }
            }
            Command::Tables(changes) => self.change_tables(&changes),
            Command::Port(setup) => {
                let id = setup.id;
                if self.attachments.len() <= id.index() {
                    self.attachments.resize_with(id.index() + 1, || None);
                }
                self.counters.ports.reserve(id.index());
                let mut new = Box::new(Attachment::new(*setup, self.clock.hz(), self.now));
                self.leave_vlan(id);
                self.note_vlan(id, &new);
                if let Some(slot) = self.attachments.get_mut(id.index()) {
                    if let Some(old) = slot.take() {
                        new.take_over(*old, self.clock.hz(), self.now);
                    }
                    *slot = Some(new);
                }
            }
            Command::RemovePort(id) => {
                self.detach(id);
                for place in self.vlans.iter_mut().flatten() {
                    *place = place.filter(|port| *port != id);
                }
                if let Some(place) = self.vlan_ports.get_mut(id.index()) {
                    *place = None;
                }
                if let Some(slot) = self.attachments.get_mut(id.index()) {
                    *slot = None;
                }
                self.counters.ports.clear(id.index());
            }
            Command::Attach {
                port,
                rx,
                tx,
                via,
                receivers,
            } => {
                self.detach(port);
                let Some(Some(attachment)) = self.attachments.get_mut(port.index()) else {
                    self.retire((rx, tx));
                    return;
                };
                if !rx.is_empty() {
                    self.polled.push(port);
                }
                attachment.rx = rx;
                attachment.share_rate(receivers, self.clock.hz(), self.now);
                attachment.way = match tx {
                    Some(queue) => Way::Mine(tenant_outlet(port, queue)),
                    None if via == self.id => Way::Down,
                    None => Way::Via(via),
                };
            }
            Command::Detach(port) => self.detach(port),
            Command::Paths(peer, paths) => {
                self.tunnels.set_paths(peer, paths);
                self.refresh_peer(peer);
            }
            Command::InstallOutbound(setup) => {
                let tunnel = setup.tunnel;
                if !self.fits(tunnel, setup.sa.algorithm()) {
                    self.answer(Event::Refused(self.id, setup.sa.spi(), true));
                    return self.retire(setup);
                }
                self.remove_outbound(tunnel);
                let slot = self.sas.install_outbound(*setup);
                self.tunnels.entry(tunnel).sa = Some(slot);
                self.keyless.ready = true;
                self.limit(tunnel, false);
                self.refresh(tunnel);
            }
            Command::Limit(tunnel) => self.limit(tunnel, true),
            Command::RemoveOutbound(tunnel) => {
                self.remove_outbound(tunnel);
                self.refresh(tunnel);
            }
            Command::OutboundOwner(tunnel, owner) => {
                self.tunnels.entry(tunnel).owner = owner;
                self.keyless.ready = true;
            }
            Command::Terms(terms) => self.terms = terms,
            Command::OnDemand(tunnel) => {
                self.tunnels.entry(tunnel).demand.get_or_insert_default();
            }
            Command::Reserved { tunnel, key, until } => {
                let slot = self.tunnels.get(tunnel).and_then(|t| t.sa);
                if let Some(out) = slot.and_then(|slot| self.sas.outbound_mut(slot))
                    && out.sa.fingerprint() == key
                {
                    out.sa.extend_reservation(until);
                    out.asked = false;
                }
            }
            Command::InstallInbound(setup) => {
                if !self.fits(setup.tunnel, setup.sa.algorithm()) {
                    self.answer(Event::Refused(self.id, setup.sa.spi(), false));
                    return self.retire(setup);
                }
                if let Some(old) = self.sas.install_inbound(*setup) {
                    self.retire(old);
                }
            }
            Command::RemoveInbound(spi) => {
                if let Some(old) = self.sas.remove_inbound(spi) {
                    self.retire(old);
                }
            }
            Command::InboundOwner(spi, owner) => {
                if owner != Some(self.id) {
                    self.sas.set_owner(spi, owner);
                }
            }
            Command::Learned(vn, mac, destination) => {
                self.tables
                    .learn(vn, mac, destination, self.clock.seconds(self.now));
            }
            Command::Housekeeping => {
                let now = self.clock.seconds(self.now);
                self.tables.maintain(now, MAINTAINED_SLOTS);
                self.tell_sightings();
                self.look_for_idle();
            }
            Command::Observe(observation) => {
                if let Some(first) = self.counters.probe.observe(observation) {
                    self.turn = match std::mem::take(&mut self.turn) {
                        Turn::On => Turn::Observe(first),
                        turn => turn,
                    };
                }
            }
            Command::Rehearse(rehearsal) => {
                if let Turn::On = self.turn {
                    self.turn = Turn::Rehearse(rehearsal);
                }
            }
            Command::Unobserve(id) => {
                if let Some(old) = self.counters.probe.unobserve(id) {
                    self.retire(old);
                }
                if self.counters.probe.is_over() {
                    self.turn = Turn::Blind;
                }
            }
            Command::Snapshot(id) => {
                let snapshot = Box::new(self.snapshot());
                self.answer(Event::Snapshot(id, snapshot));
            }
            Command::Barrier(id) => {
                self.answer(Event::Done(self.id, id));
            }
            // Handled by the loop; inside a transaction it has no meaning.
            Command::Stop => {}
        }
    }

    /// Whether an algorithm gives what the tunnel's VN asks for. Whoever installs it has seen
    /// to that; a mistake there must not send a confidential VN's frames readable.
    fn fits(&self, tunnel: TunnelId, algorithm: Algorithm) -> bool {
        let fits = match self.tables.tunnel(tunnel).map(|t| t.protection) {
            Some(Protection::Confidential) => algorithm.is_confidential(),
            Some(Protection::Integrity) => !algorithm.is_confidential(),
            Some(Protection::None) | None => false,
        };
        if !fits {
            tracing::error!(tunnel = tunnel.0, %algorithm, "an SA that does not fit its VN is refused");
        }
        fits
    }

    /// Forgets which VLAN a port was, unless that is another port's by now.
    fn leave_vlan(&mut self, id: PortId) {
        let was = self.attachments.get(id.index()).and_then(Option::as_ref);
        if let Some((device, vid)) = was.and_then(|was| Some((was.trunk?, was.vid)))
            && let Some(place) = self
                .vlans
                .get_mut(usize::from(device))
                .and_then(|vids| vids.get_mut(usize::from(vid)))
        {
            *place = place.filter(|port| *port != id);
        }
    }

    /// Notes which port a VLAN of a device is.
    fn note_vlan(&mut self, id: PortId, attachment: &Attachment) {
        let vid = attachment.vid;
        if self.vlan_ports.len() <= id.index() {
            self.vlan_ports.resize(id.index() + 1, None);
        }
        if let Some(place) = self.vlan_ports.get_mut(id.index()) {
            *place = attachment.trunk.map(|device| VlanPort { device, vid });
        }
        let Some(device) = attachment.trunk.map(usize::from) else {
            return;
        };
        if self.vlans.len() <= device {
            self.vlans.resize_with(device + 1, || vec![None; 4096]);
        }
        if let Some(place) = self
            .vlans
            .get_mut(device)
            .and_then(|vids| vids.get_mut(usize::from(attachment.vid)))
        {
            *place = Some(id);
        }
    }

    fn change_tables(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::AddVn { id, .. } => {
                    self.counters.vns.reserve(id.index());
                    self.counters.vns.clear(id.index());
                }
                Change::AddTunnel { id, .. } => {
                    self.counters.tunnels.reserve(id.index());
                    self.counters.tunnels.clear(id.index());
                }
                _ => {}
            }
        }
        self.tables.apply_all(changes);
        // Removal takes dependent things along: drop what no longer has a tunnel.
        let gone: Vec<TunnelId> = self
            .tunnels
            .ids()
            .filter(|id| self.tables.tunnel(*id).is_none())
            .collect();
        if !self.keyless.is_empty() {
            self.forget_waiting(&gone);
        }
        for id in gone {
            self.remove_outbound(id);
            self.tunnels.remove(id);
        }
        for change in changes {
            match change {
                Change::AddTunnel { id, .. } => self.refresh(*id),
                Change::UpdatePeer { id, .. } => self.refresh_peer(*id),
                Change::UpdateVn { id, .. } => {
                    let of_vn: Vec<TunnelId> = tunnels_where(&self.tables, |t| t.vn == *id);
                    for tunnel in of_vn {
                        self.refresh(tunnel);
                    }
                }
                _ => {}
            }
        }
    }

    /// Builds the outer headers of a tunnel anew.
    fn refresh(&mut self, id: TunnelId) {
        let Some(tunnel) = self.tables.tunnel(id) else {
            return;
        };
        let out = self
            .tunnels
            .get(id)
            .and_then(|t| t.sa)
            .and_then(|slot| self.sas.outbound(slot));
        let (key, ports) = match out {
            Some(out) => (
                out.sa.spi().get(),
                (out.source_port, self.endpoints.esp_port),
            ),
            None => (id.0, (source_port(id.0), tunnel.encapsulation.port())),
        };
        self.tunnels.refresh(id, tunnel, key, ports);
    }

    fn refresh_peer(&mut self, peer: PeerId) {
        for tunnel in tunnels_where(&self.tables, |t| t.peer == peer) {
            self.refresh(tunnel);
        }
    }

    fn remove_outbound(&mut self, tunnel: TunnelId) {
        let slot = if self.tunnels.get(tunnel).is_some() {
            self.tunnels.entry(tunnel).sa.take()
        } else {
            None
        };
        if let Some(old) = slot.and_then(|slot| self.sas.remove_outbound(slot)) {
            self.retire(old);
        }
    }

    /// Gives a port's queues back.
    fn detach(&mut self, port: PortId) {
        self.polled.retain(|polled| *polled != port);
        let Some(Some(attachment)) = self.attachments.get_mut(port.index()) else {
            return;
        };
        let rx = std::mem::take(&mut attachment.rx);
        let way = std::mem::replace(&mut attachment.way, Way::Down);
        let tx = match way {
            Way::Mine(outlet) => match outlet.retire(&mut self.counters) {
                Queue::Vhost(queue) => Some(queue),
                Queue::Ethernet(_) => None,
            },
            Way::Via(_) | Way::Down => None,
        };
        self.retire((rx, tx));
    }

    /// Sends something to the control side, where it is freed.
    fn retire<T: Any + Send>(&self, old: T) {
        // If the queue is full the value is freed here after all.
        self.tell(Event::Retired(Box::new(old)));
    }

    /// A source behind a learning tunnel or VLAN: noted here and told to the others, when it
    /// is new and again before it would age at those who do not see it.
    #[inline]
    pub(super) fn learn(&mut self, vn: VnId, mac: MacAddr, destination: Destination) {
        let now = self.clock.seconds(self.now);
        let age = self
            .tables
            .vn(vn)
            .map_or(1, |vn| u64::from(vn.config.learning_age));
        let period = (age / 4).max(1);
        if P::DRY {
            return;
        }
        let tell = match self.tables.learn(vn, mac, destination, now) {
            Learn::New | Learn::Moved => true,
            Learn::Refreshed { before } => now / period != before / period,
            _ => false,
        };
        if tell && self.learned_reports.take(self.now) {
            self.tell(Event::Learned(self.id, vn, mac, destination));
        }
    }

    /// Reports drops that somebody should know of; if there is no room, the next time.
    fn tell_sightings(&mut self) {
        let capacity = self.events.capacity().unwrap_or(usize::MAX);
        if self.events.len() >= capacity / 4 * 3 {
            return;
        }
        let Some(seen) = self.sightings.take() else {
            return;
        };
        if let Err(error) = self.events.try_send(Event::Seen(self.id, seen))
            && let Event::Seen(_, seen) = error.into_inner()
        {
            self.sightings.restore(*seen);
        }
    }

    /// Answers a command: never lost, and never waited for.
    pub(super) fn answer(&mut self, event: Event) {
        self.answers.push_back(event);
    }

    /// Reports something that may be lost: a quarter of the queue stays free for answers
    /// that may not, so that a worker never waits for the control side.
    pub(super) fn tell(&self, event: Event) -> bool {
        let capacity = self.events.capacity().unwrap_or(usize::MAX);
        self.events.len() < capacity / 4 * 3 && self.events.try_send(event).is_ok()
    }
}

fn tenant_outlet(port: PortId, queue: VhostTx) -> Box<Outlet> {
    let queue = Queue::Vhost(queue);
    let account = Account::Port(port);
    Box::new(Outlet::new(
        queue,
        Verdict::ToTenant,
        Verdict::TenantTxFull,
        account,
    ))
}

fn tunnels_where(tables: &Tables, matches: impl Fn(&vswitch_vn::Tunnel) -> bool) -> Vec<TunnelId> {
    tables
        .tunnels()
        .filter(|(_, tunnel)| matches(tunnel))
        .map(|(id, _)| id)
        .collect()
}
