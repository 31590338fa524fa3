//! Reports: one snapshot of every worker, put together into what the operator sees.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vswitch_net::MacAddr;
use vswitch_vn::{Destination, Origin, Protection, UnknownUnicast, VnId};

use super::control::Control;
use super::devices::Device;
use crate::datapath::books::Verdicts;
use crate::datapath::command::Command;
use crate::datapath::counters;
use crate::datapath::snapshot::WorkerSnapshot;
use crate::datapath::verdict::{Class, Verdict};
use crate::manage::config::{self, Attachment, Encapsulation};
use crate::manage::status::{Drop, FdbEntry, Nve, Port, Sa, Status, Traffic, Tunnel, Vn, Worker};

/// A report that waits for the workers' snapshots.
pub(super) struct Gathering {
    id: u64,
    asked: Instant,
    snapshots: Vec<WorkerSnapshot>,
    answer: Box<dyn FnOnce(Status) + Send>,
}

impl Control {
    /// Asks every worker for a snapshot.
    pub(super) fn gather(&mut self, answer: Box<dyn FnOnce(Status) + Send>) {
        let id = self.next_id();
        let asked = Instant::now();
        self.gathering.push(Gathering {
            id,
            asked,
            snapshots: Vec::new(),
            answer,
        });
        self.tell_all(|_| Command::Snapshot(id));
    }

    /// A worker's snapshot has come.
    pub(super) fn gathered(&mut self, id: u64, snapshot: WorkerSnapshot) {
        let Some(at) = self.gathering.iter().position(|g| g.id == id) else {
            return;
        };
        let workers = self.members.len();
        let Some(gathering) = self.gathering.get_mut(at) else {
            return;
        };
        gathering.snapshots.push(snapshot);
        if gathering.snapshots.len() == workers {
            let Gathering {
                mut snapshots,
                answer,
                ..
            } = self.gathering.swap_remove(at);
            snapshots.sort_by_key(|s| s.worker);
            answer(self.report(&snapshots));
        }
    }

    /// Gives up on reports that a stuck worker holds up; whoever asked sees the channel close.
    pub(super) fn expire_reports(&mut self, patience: Duration) {
        self.gathering.retain(|g| g.asked.elapsed() < patience);
    }

    /// The report.
    pub(super) fn report(&self, snapshots: &[WorkerSnapshot]) -> Status {
        let sums = Sums::new(snapshots);
        let uptime = self.started.elapsed();
        let (tunnels, sas) = (self.tunnels(&sums, snapshots), self.sas(snapshots));
        Status {
            nve: Nve {
                name: self.config.name.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                dpdk: crate::dpdk::eal::version(),
                aead: self.backend.name().to_owned(),
                hugepages: self.hugepages,
                uptime: uptime.as_secs(),
                uptime_ns: u64::try_from(uptime.as_nanos()).unwrap_or(u64::MAX),
            },
            ports: self.ports(&sums),
            vns: self.vns(&sums),
            fdb: self.fdb(),
            peers: self.peers(&tunnels, &sas),
            tunnels,
            sas,
            workers: self.workers(snapshots),
            drops: drops(snapshots),
            latency: self.windows.borrow_mut().latency(snapshots, Instant::now()),
            memory: self.memory(snapshots),
            ima: self.overlay.as_ref().and_then(|ends| {
                let shown = ends.shown.borrow();
                shown.as_deref().cloned()
            }),
        }
    }

    fn ports(&self, sums: &Sums) -> Vec<Port> {
        let device_port = |name: &str, kind: &str, device: &str, d: &Device, traffic| Port {
            name: name.to_owned(),
            kind: kind.to_owned(),
            device: device.to_owned(),
            state: up(d.port.link().is_ok_and(|link| link.up)),
            macs: vec![d.mac.to_string()],
            mtu: d.mtu,
            queues: d.queues,
            workers: (0..d.queues).collect(),
            rss: d.rss(),
            traffic,
            ..Port::default()
        };
        let mut ports = Vec::new();
        for (i, config) in self.config.underlay.ports.iter().enumerate() {
            if let Some(device) = self.devices.underlays.get(i) {
                let traffic = sums.underlays.get(i).copied().unwrap_or_default();
                ports.push(device_port(
                    &config.name,
                    "underlay",
                    &config.device,
                    device,
                    traffic,
                ));
            }
            if let (Some(Some(tap)), Some(name)) = (self.devices.taps.get(i), &config.tap) {
                let traffic = sums.taps.get(i).copied().unwrap_or_default();
                ports.push(device_port(name, "tap", tap.port.name(), tap, traffic));
            }
        }
        for (i, config) in self.config.ports.iter().enumerate() {
            let vn = self.config.vns.get(config.vn.index());
            let mtu = vn.map_or(0, |vn| vn.inner_mtu);
            let mut port = Port {
                name: config.name.clone(),
                vn: vn.map(|vn| vn.name.clone()),
                macs: config.addresses.iter().map(|a| a.mac.to_string()).collect(),
                mtu,
                traffic: sums.of(&sums.ports, self.plan.ports.get(i).map(|id| id.index())),
                ..Port::default()
            };
            match &config.attachment {
                Attachment::Vlan(vlan) => {
                    let device = self.config.devices.get(usize::from(vlan.device.0));
                    let name = device.map_or("?", |d| d.name.as_str());
                    port.kind = "vlan".to_owned();
                    port.device = format!("{name}.{}", vlan.vid);
                    if let Some(trunk) = self.devices.trunks.get(usize::from(vlan.device.0)) {
                        port.state = up(trunk.port.link().is_ok_and(|link| link.up));
                        port.queues = trunk.queues;
                        port.workers = (0..trunk.queues).collect();
                    }
                }
                Attachment::Vhost(vhost) => {
                    port.kind = "vhost".to_owned();
                    port.device = vhost.socket.display().to_string();
                    let tenant = self.plan.ports.get(i).and_then(|id| self.tenants.get(id));
                    let device = tenant.and_then(|t| t.device.as_ref());
                    port.state = up(device.is_some_and(|d| d.is_live()));
                    port.queues = tenant.map_or(0, |t| t.queues);
                    port.workers = tenant.map(|t| t.workers.clone()).unwrap_or_default();
                    port.guest_mtu = device.and_then(|d| d.mtu());
                    // A guest that was not told uses Ethernet's.
                    let assumed = device.and(Some(port.guest_mtu.unwrap_or(1500)));
                    port.warning = assumed.filter(|guest| *guest > mtu).map(|guest| {
                        format!(
                            "the guest may use MTU {guest}, the overlay carries {mtu}: give \
                             QEMU's device host_mtu={mtu}"
                        )
                    });
                }
            }
            ports.push(port);
        }
        ports
    }

    fn vns(&self, sums: &Sums) -> Vec<Vn> {
        let ports_of = |id: config::VnId| {
            self.config
                .ports
                .iter()
                .filter(move |p| p.vn == id)
                .map(|p| p.name.clone())
        };
        let peer = |id: &vswitch_vn::PeerId| self.config.peers.get(id.index());
        self.config
            .vns
            .iter()
            .enumerate()
            .map(|(i, vn)| Vn {
                name: vn.name.clone(),
                vni: vn.vni.get(),
                protection: protection(vn.protection).to_owned(),
                unknown_unicast: match vn.unknown_unicast {
                    UnknownUnicast::Drop => "drop",
                    UnknownUnicast::Flood => "flood",
                }
                .to_owned(),
                learning: vn.learning,
                mtu: vn.inner_mtu,
                ports: ports_of(config::VnId(i as u16)).collect(),
                edges: vn
                    .edges
                    .iter()
                    .filter_map(peer)
                    .map(|p| p.name.clone())
                    .collect(),
                traffic: sums.of(&sums.vns, self.plan.vns.get(i).map(|id| id.index())),
            })
            .collect()
    }

    fn fdb(&self) -> Vec<FdbEntry> {
        let mut entries: Vec<FdbEntry> = self
            .tables
            .fdb()
            .iter()
            .map(|(key, entry)| {
                let ips = self
                    .tables
                    .mapping(key.vn(), key.mac())
                    .map(|m| m.ips.to_vec());
                let (place, destination) = match entry.destination {
                    Destination::Port(port) => ("local", self.port_name(port).to_owned()),
                    Destination::Tunnel(id) => ("remote", self.tunnel_names(id).1.to_owned()),
                };
                FdbEntry {
                    vn: self.vn_name(key.vn()),
                    mac: MacAddr::to_string(&key.mac()),
                    ips: ips.unwrap_or_default(),
                    destination,
                    place: place.to_owned(),
                    origin: match entry.origin {
                        Origin::Static { .. } => "static",
                        Origin::Learned { .. } => "learned",
                    }
                    .to_owned(),
                }
            })
            .collect();
        entries.sort_by(|a, b| (&a.vn, &a.mac).cmp(&(&b.vn, &b.mac)));
        entries
    }

    fn tunnels(&self, sums: &Sums, snapshots: &[WorkerSnapshot]) -> Vec<Tunnel> {
        self.tables
            .tunnels()
            .map(|(id, tunnel)| {
                let (vn, peer) = self.tunnel_names(id);
                let paths = self
                    .paths
                    .get(&tunnel.peer)
                    .map(AsRef::as_ref)
                    .unwrap_or_default();
                let has_sa = snapshots
                    .iter()
                    .any(|s| s.sas.iter().any(|sa| sa.outbound && sa.tunnel == id));
                let state = match (tunnel.protection, has_sa, paths.is_empty()) {
                    (_, _, true) => "no-neighbour",
                    (Protection::None, ..) | (_, true, _) => "up",
                    _ => "no-sa",
                };
                Tunnel {
                    vn: vn.to_owned(),
                    vni: tunnel.vni.get(),
                    peer: peer.to_owned(),
                    remote: paths.first().map(|p| p.dst),
                    local: paths.first().map(|p| p.src),
                    encapsulation: match tunnel.encapsulation {
                        Encapsulation::Geneve => "geneve",
                        Encapsulation::Vxlan => "vxlan",
                    }
                    .to_owned(),
                    protection: protection(tunnel.protection).to_owned(),
                    paths: paths
                        .iter()
                        .map(|p| {
                            let port = self.config.underlay.ports.get(usize::from(p.underlay));
                            format!(
                                "{} via {}",
                                port.map_or("?", |u| u.name.as_str()),
                                p.dst_mac
                            )
                        })
                        .collect(),
                    state: state.to_owned(),
                    traffic: sums.tunnels.get(id.index()).copied().unwrap_or_default(),
                }
            })
            .collect()
    }

    fn sas(&self, snapshots: &[WorkerSnapshot]) -> Vec<Sa> {
        let given_away = self.exported();
        let mut sas: Vec<Sa> = snapshots
            .iter()
            .flat_map(|s| &s.sas)
            .map(|sa| {
                let (vn, peer) = self.tunnel_names(sa.tunnel);
                let exported = given_away.get(&(sa.tunnel, sa.outbound, sa.spi));
                Sa {
                    direction: if sa.outbound { "outbound" } else { "inbound" }.to_owned(),
                    spi: sa.spi,
                    vn: vn.to_owned(),
                    peer: peer.to_owned(),
                    worker: sa.worker,
                    algorithm: sa.algorithm.to_owned(),
                    sequence: sa.sequence,
                    reserved_until: sa.reserved_until,
                    blocks: sa.blocks,
                    hard_limit: sa.hard_limit,
                    packets: sa.packets,
                    bytes: sa.bytes,
                    replayed: sa.replayed,
                    auth_failed: sa.auth_failed,
                    exported: exported.map(|at| humantime::format_rfc3339_seconds(*at).to_string()),
                    rekey_due: exported.is_some(),
                }
            })
            .collect();
        sas.sort_by(|a, b| {
            (&a.vn, &a.peer, &b.direction, a.spi).cmp(&(&b.vn, &b.peer, &a.direction, b.spi))
        });
        sas
    }

    fn workers(&self, snapshots: &[WorkerSnapshot]) -> Vec<Worker> {
        snapshots
            .iter()
            .map(|s| {
                let books = s.counters.books(s.held);
                let ticks = s.counters.busy_ticks + s.counters.idle_ticks;
                Worker {
                    id: s.worker,
                    core: self
                        .members
                        .get(usize::from(s.worker))
                        .map_or(0, |m| m.core),
                    busy: s.counters.busy_ticks as f64 / ticks.max(1) as f64,
                    busy_ticks: s.counters.busy_ticks,
                    idle_ticks: s.counters.idle_ticks,
                    received: books.received,
                    generated: books.generated,
                    copied: books.copied,
                    handed_in: books.handed_in,
                    sent: books.sent,
                    dropped: books.dropped,
                    consumed: books.consumed,
                    handed_out: books.handed_out,
                    held: books.held,
                    balanced: books.balance(),
                    verdicts: s
                        .counters
                        .verdicts
                        .iter()
                        .map(|(verdict, n)| (verdict.name().to_owned(), n))
                        .collect(),
                }
            })
            .collect()
    }

    fn vn_name(&self, id: VnId) -> String {
        self.plan
            .vn_place(id)
            .and_then(|place| self.config.vns.get(place))
            .map_or_else(|| "?".to_owned(), |vn| vn.name.clone())
    }
}

/// Traffic of all workers, by id.
struct Sums {
    ports: Vec<Traffic>,
    vns: Vec<Traffic>,
    tunnels: Vec<Traffic>,
    underlays: Vec<Traffic>,
    taps: Vec<Traffic>,
}

impl Sums {
    fn new(snapshots: &[WorkerSnapshot]) -> Self {
        let sum = |of: fn(&counters::Counters) -> &counters::TrafficTable| {
            let mut sums: Vec<Traffic> = Vec::new();
            for snapshot in snapshots {
                for (i, entry) in of(&snapshot.counters).entries().iter().enumerate() {
                    if sums.len() <= i {
                        sums.resize(i + 1, Traffic::default());
                    }
                    if let Some(sum) = sums.get_mut(i) {
                        add(sum, entry);
                    }
                }
            }
            sums
        };
        Sums {
            ports: sum(|c| &c.ports),
            vns: sum(|c| &c.vns),
            tunnels: sum(|c| &c.tunnels),
            underlays: sum(|c| &c.underlays),
            taps: sum(|c| &c.taps),
        }
    }
}

impl Sums {
    /// The entry of an id; nothing was counted where there is none.
    fn of(&self, table: &[Traffic], id: Option<usize>) -> Traffic {
        id.and_then(|id| table.get(id)).copied().unwrap_or_default()
    }
}

fn add(sum: &mut Traffic, entry: &counters::Traffic) {
    sum.rx_packets += entry.rx_packets;
    sum.rx_bytes += entry.rx_bytes;
    sum.rx_dropped += entry.rx_dropped;
    sum.tx_packets += entry.tx_packets;
    sum.tx_bytes += entry.tx_bytes;
    sum.tx_dropped += entry.tx_dropped;
}

/// Every reason, also those that are zero.
fn drops(snapshots: &[WorkerSnapshot]) -> Vec<Drop> {
    let by_worker: BTreeMap<u16, &Verdicts> = snapshots
        .iter()
        .map(|s| (s.worker, &s.counters.verdicts))
        .collect();
    Verdict::ALL
        .iter()
        .filter(|verdict| verdict.class() == Class::Dropped)
        .map(|verdict| {
            let workers: Vec<u64> = by_worker.values().map(|v| v.get(*verdict)).collect();
            Drop {
                reason: verdict.name().to_owned(),
                help: verdict.help().to_owned(),
                packets: workers.iter().sum(),
                workers,
            }
        })
        .collect()
}

fn up(up: bool) -> String {
    if up { "up" } else { "down" }.to_owned()
}

fn protection(protection: Protection) -> &'static str {
    match protection {
        Protection::Confidential => "confidential",
        Protection::Integrity => "integrity",
        Protection::None => "none",
    }
}
