//! From what runs to what shall run, as steps that are worked out before anything is touched:
//! changes of the tables, ports, sockets, paths and SAs. Pure; `change` carries them out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use vswitch_sa::{Algorithm, Limits, Spi};
use vswitch_vn::{Change, PeerId, PortId, TunnelId};

use super::plan::{Ids, Plan};
use super::view::View;
use crate::datapath::command::WorkerId;
use crate::manage::config::{
    Attachment, Config, Direction, ManualKey, Port, SecurityAssociation, Vhost,
};

/// Everything that is to be done. Numbers without a type are places in the new configuration.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Of the forwarding tables, in order.
    pub tables: Vec<Change>,
    /// Ids that are no longer in use.
    pub freed: Ids,
    /// Ports that the workers forget.
    pub removed_ports: Vec<PortId>,
    /// Ports that they are told anew.
    pub ports: Vec<usize>,
    /// Peers that are gone: so are their paths.
    pub removed_peers: Vec<PeerId>,
    /// Peers whose paths they are told anew.
    pub peers: Vec<usize>,
    /// Tenants that go with their sockets.
    pub closed: Vec<PortId>,
    /// Tenants that come.
    pub opened: Vec<usize>,
    /// Tenants whose sockets are made anew, since they are to be others.
    pub reopened: Vec<(PortId, usize)>,
    /// Tenants that stay connected under another id.
    pub moved: Vec<(PortId, PortId)>,
    /// Tenants whose queues go to other workers.
    pub redistributed: Vec<PortId>,
    /// Outbound SAs that go without another in their place.
    pub outbound_removed: Vec<(WorkerId, TunnelId)>,
    /// Outbound SAs that come, in place of another or not.
    pub outbound: Vec<usize>,
    /// Who sends for workers without an SA of their own, where that changes.
    pub owners: Vec<(TunnelId, Option<WorkerId>)>,
    /// Inbound SAs that go.
    pub inbound_removed: Vec<(WorkerId, Spi)>,
    /// Inbound SAs that come at once.
    pub inbound: Vec<usize>,
    /// Inbound SAs whose key is in use: they come when no worker has the former any more,
    /// with the replay floor that it leaves.
    pub inbound_later: Vec<usize>,
}

/// A configuration with its numbers.
#[derive(Clone, Copy)]
pub(super) struct Numbered<'a> {
    pub config: &'a Config,
    pub plan: &'a Plan,
}

/// An SA as it is installed; two that are equal need not be touched.
#[derive(PartialEq, Eq)]
struct Spec<'a> {
    tunnel: TunnelId,
    worker: WorkerId,
    spi: Spi,
    algorithm: Algorithm,
    key: &'a ManualKey,
    esn: bool,
    sending: Option<(Limits, Option<u16>)>,
    receiving: Option<(usize, bool)>,
}

impl Steps {
    /// What leads from `old` to `new`.
    pub(super) fn between(old: Numbered<'_>, new: Numbered<'_>, generation: u64) -> Steps {
        let before = View::of(old.config, old.plan);
        let after = View::of(new.config, new.plan);
        let mut freed = old.plan.ids();
        freed.remove(&new.plan.ids());
        let mut steps = Steps {
            tables: before.changes(&after, generation),
            removed_ports: freed.ports.iter().copied().collect(),
            removed_peers: freed.peers.iter().copied().collect(),
            freed,
            ..Steps::default()
        };
        for (i, id) in new.plan.peers.iter().enumerate() {
            let addresses = |view: &View| view.peers.get(id).map(|p| p.addresses.clone());
            if addresses(&before) != addresses(&after) {
                steps.peers.push(i);
            }
        }
        steps.between_ports(old, new);
        steps.between_outbound(old, new);
        steps.between_inbound(old, new);
        steps
    }

    fn between_ports(&mut self, old: Numbered<'_>, new: Numbered<'_>) {
        // A tenant's socket is known by its path, whatever the name of its port.
        let mut sockets: BTreeMap<&Path, (PortId, &Vhost)> = BTreeMap::new();
        for (port, id) in old.config.ports.iter().zip(&old.plan.ports) {
            if let Attachment::Vhost(vhost) = &port.attachment {
                sockets.insert(&vhost.socket, (*id, vhost));
            }
        }
        for (i, (port, id)) in new.config.ports.iter().zip(&new.plan.ports).enumerate() {
            let was = old
                .plan
                .port_place(*id)
                .and_then(|at| old.config.ports.get(at));
            if was.is_none_or(|was| !same_setup(was, port)) {
                self.ports.push(i);
            }
            let Attachment::Vhost(vhost) = &port.attachment else {
                continue;
            };
            match sockets.remove(&*vhost.socket) {
                None => self.opened.push(i),
                Some((had, same)) if same == vhost => {
                    if had != *id {
                        self.moved.push((had, *id));
                    } else if was.is_some_and(|was| was.worker != port.worker) {
                        self.redistributed.push(*id);
                    }
                }
                Some((had, _)) => self.reopened.push((had, i)),
            }
        }
        self.closed = sockets.into_values().map(|(id, _)| id).collect();
    }

    fn between_outbound(&mut self, old: Numbered<'_>, new: Numbered<'_>) {
        let before: BTreeMap<_, _> = specs(old, Direction::Outbound)
            .map(|(_, spec)| ((spec.worker, spec.tunnel), spec))
            .collect();
        let mut left: BTreeSet<_> = before.keys().copied().collect();
        for (i, spec) in specs(new, Direction::Outbound) {
            let place = (spec.worker, spec.tunnel);
            left.remove(&place);
            if before.get(&place) != Some(&spec) {
                self.outbound.push(i);
            }
        }
        self.outbound_removed = left.into_iter().collect();
        let (was, is) = (owners(old), owners(new));
        for tunnel in new.plan.tunnels.keys() {
            let (was, is) = (was.get(tunnel), is.get(tunnel));
            if was != is {
                self.owners.push((*tunnel, is.copied()));
            }
        }
    }

    fn between_inbound(&mut self, old: Numbered<'_>, new: Numbered<'_>) {
        let before: BTreeMap<Spi, Spec<'_>> = specs(old, Direction::Inbound)
            .map(|(_, spec)| (spec.spi, spec))
            .collect();
        let keys: BTreeSet<_> = before.values().map(|spec| spec.key.fingerprint()).collect();
        let mut kept = BTreeSet::new();
        for (i, spec) in specs(new, Direction::Inbound) {
            if before.get(&spec.spi) == Some(&spec) {
                kept.insert(spec.spi);
            } else if keys.contains(&spec.key.fingerprint()) {
                self.inbound_later.push(i);
            } else {
                self.inbound.push(i);
            }
        }
        self.inbound_removed = before
            .values()
            .filter(|spec| !kept.contains(&spec.spi))
            .map(|spec| (spec.worker, spec.spi))
            .collect();
    }
}

/// Whether workers would notice no difference between two ports of one id.
fn same_setup(a: &Port, b: &Port) -> bool {
    let vlan = |port: &Port| match port.attachment {
        Attachment::Vhost(_) => None,
        Attachment::Vlan(vlan) => Some(vlan),
    };
    a.addresses == b.addresses && a.bum_rate == b.bum_rate && vlan(a) == vlan(b)
}

fn specs<'a>(
    of: Numbered<'a>,
    direction: Direction,
) -> impl Iterator<Item = (usize, Spec<'a>)> + 'a {
    let sas = of.config.security_associations.iter().enumerate();
    sas.filter(move |(_, sa)| sa.direction == direction)
        .filter_map(move |(i, sa)| Some((i, spec(of, sa)?)))
}

fn spec<'a>(of: Numbered<'a>, sa: &'a SecurityAssociation) -> Option<Spec<'a>> {
    let peer = of.config.peers.get(sa.peer.index())?;
    let outbound = sa.direction == Direction::Outbound;
    Some(Spec {
        tunnel: of.plan.tunnel(sa.vn, sa.peer)?,
        worker: sa.worker,
        spi: sa.spi,
        algorithm: sa.algorithm,
        key: &sa.key,
        esn: sa.esn,
        sending: outbound.then_some((sa.limits, peer.esp_source_port)),
        receiving: (!outbound).then_some((sa.replay_window, peer.foreign)),
    })
}

/// The worker that sends for those without an SA of their own: the first in the file.
fn owners(of: Numbered<'_>) -> BTreeMap<TunnelId, WorkerId> {
    let mut owners = BTreeMap::new();
    for (_, spec) in specs(of, Direction::Outbound) {
        owners.entry(spec.tunnel).or_insert(spec.worker);
    }
    owners
}
