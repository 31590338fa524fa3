//! One edge in memory: a worker as the daemon assembles it, but with rings of this process
//! where the underlay port and the tenant's queue would be, and driven by hand.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, ensure};
use crossbeam::channel::{Receiver, Sender};
use vswitch::datapath::command::{Command, Event, InboundSetup, OutboundSetup, Path, PortSetup};
use vswitch::datapath::observe::Observer;
use vswitch::datapath::probe::{NoProbe, Probe};
use vswitch::datapath::source_port;
use vswitch::datapath::worker::Worker;
use vswitch::dpdk::ethdev::{Port, Queues};
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::ring::{Consumer, Producer};
use vswitch::dpdk::ring_port::ring_port;
use vswitch_aead::Backend;
use vswitch_net::{Encapsulation, MacAddr, Vni};
use vswitch_policy::Bindings;
use vswitch_sa::{Algorithm, Inbound, InboundConfig, KeyMaterial, Outbound, OutboundConfig, Spi};
use vswitch_vn::{
    Change, Destination, Mapping, Peer, PeerId, PortId, PortKind, Protection, TunnelId, VnConfig,
    VnId,
};

use super::alone::{Alone, EdgeQueues, alone, one_queue};
use super::frames::{FLOWS, TENANT_IP, TENANT_MAC, station_ip, station_mac};

/// The tenant port of an edge in its first network; the others count up from it.
pub const PORT: PortId = PortId(0);
const PEER: PeerId = PeerId(0);
/// Of the underlay: what a frame of 9000 bytes needs.
pub(super) const MTU: u16 = 9216;

/// Identifier of the first network; the others count up from it.
pub const VNI: u32 = 0x1234;

/// Packets that fit into the rings.
pub const RING: u32 = 1024;

/// Which end of the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Has one tenant. This is the one measured.
    Near,
    /// Has all other stations.
    Far,
}

impl Side {
    const fn other(self) -> Side {
        match self {
            Side::Near => Side::Far,
            Side::Far => Side::Near,
        }
    }

    const fn number(self) -> u8 {
        match self {
            Side::Near => 1,
            Side::Far => 2,
        }
    }

    /// Its MAC address on the underlay.
    pub const fn mac(self) -> MacAddr {
        MacAddr([2, 0, 0, 9, 0, self.number()])
    }

    /// Its address there.
    pub const fn ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, self.number()))
    }

    /// Of the SA by which this side sends in a network.
    fn spi(self, vn: u16) -> anyhow::Result<Spi> {
        Ok(Spi::new(
            0x1000 + 2 * u32::from(vn) + u32::from(self.number()),
        )?)
    }

    /// Its key. Known to everyone, which is no harm: these packets never leave the process.
    fn key(
        self,
        backend: &dyn Backend,
        algorithm: Algorithm,
        vn: u16,
    ) -> anyhow::Result<KeyMaterial> {
        let [high, low] = vn.to_be_bytes();
        let mut bytes: Vec<u8> = (0..algorithm.key_len() + vswitch_sa::SALT_LEN)
            .map(|i| (i as u8).wrapping_mul(37) ^ self.number())
            .collect();
        for (byte, more) in bytes.iter_mut().zip([high, low]) {
            *byte ^= more;
        }
        Ok(KeyMaterial::from_bytes(backend, algorithm, &bytes)?)
    }
}

/// What both ends of a tunnel have in common.
#[derive(Clone)]
pub struct Common {
    /// Buffers.
    pub pool: Mempool,
    /// AES-GCM.
    pub backend: &'static dyn Backend,
    /// `None`: in the clear.
    pub algorithm: Option<Algorithm>,
    /// Networks, each with a tenant's port, a tunnel and SAs of its own. If there is more
    /// than one, ports are VLANs of one device: a process has 32 DPDK ports.
    pub vns: u16,
}

/// An edge, and the far ends of its ports.
pub struct Edge<P: Probe> {
    /// The worker.
    pub worker: Worker<P>,
    /// What arrives on the underlay.
    pub to_underlay: Producer,
    /// What leaves by the underlay.
    pub from_underlay: Consumer,
    /// What the tenant is given.
    pub from_tenant_port: Consumer,
    // The worker stops if nobody can command it, and rings go with their ports.
    _commands: Sender<Command>,
    _events: Receiver<Event>,
    _ports: [Port; 2],
}

/// What the tunnel's other end sends by in the first network: a new association each time,
/// which has seen no packet.
pub fn inbound(side: Side, backend: &dyn Backend, algorithm: Algorithm) -> anyhow::Result<Command> {
    inbound_of(side, backend, algorithm, 0)
}

fn inbound_of(
    side: Side,
    backend: &dyn Backend,
    algorithm: Algorithm,
    vn: u16,
) -> anyhow::Result<Command> {
    let back = side.other().spi(vn)?;
    let sa = Inbound::new(
        side.other().key(backend, algorithm, vn)?,
        InboundConfig::new(back),
    )?;
    Ok(Command::InstallInbound(Box::new(InboundSetup {
        tunnel: TunnelId(vn.into()),
        sa: Box::new(sa),
        floor: None,
    })))
}

impl<P: Probe> Edge<P> {
    /// An edge that knows its tenants, its peer and the tunnel between them.
    pub fn new(side: Side, common: &Common, probe: P) -> anyhow::Result<Self> {
        let (underlay, mut underlay_queues, outside) = open("bench-underlay", &common.pool)?;
        let (tenant, mut tenant_queues, tenants) = open("bench-tenant", &common.pool)?;
        let (to_underlay, from_underlay) = outside;
        let (_, from_tenant_port) = tenants;
        let queues = EdgeQueues {
            from_underlay: underlay_queues.rx.pop().context("receive queue")?,
            to_underlay: underlay_queues.tx.pop().context("transmit queue")?,
            to_tenant: tenant_queues.tx.pop().context("transmit queue")?,
        };
        let Alone {
            worker,
            commands,
            events,
        } = alone(side, common, probe, queues)?;
        Ok(Edge {
            worker,
            to_underlay,
            from_underlay,
            from_tenant_port,
            _commands: commands,
            _events: events,
            _ports: [underlay, tenant],
        })
    }

    /// Whether all packets so far ended as sent; if not, the error says how they ended.
    pub fn check(&self) -> anyhow::Result<()> {
        let counters = self.worker.counters();
        let books = counters.books(self.worker.held());
        ensure!(
            books.balance(),
            "the worker's books do not balance: {books:?}"
        );
        let ends: Vec<_> = counters
            .verdicts
            .iter()
            .map(|(v, n)| (v.name(), n))
            .collect();
        ensure!(
            books.dropped == 0 && books.held == 0,
            "packets were lost: {ends:?}"
        );
        Ok(())
    }
}

impl Edge<Observer> {
    /// The same edge when nobody watches any more.
    pub fn unwatched(self) -> Edge<NoProbe> {
        Edge {
            worker: self.worker.unwatched(),
            to_underlay: self.to_underlay,
            from_underlay: self.from_underlay,
            from_tenant_port: self.from_tenant_port,
            _commands: self._commands,
            _events: self._events,
            _ports: self._ports,
        }
    }
}

/// A port over rings, started with one queue, and the rings' other ends.
fn open(name: &str, pool: &Mempool) -> anyhow::Result<(Port, Queues, (Producer, Consumer))> {
    // Names are unique in a process, and rings of one that is gone may linger.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("{name}{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let (port, mut wire) = ring_port(&name, 1, RING, None)?;
    let queues = one_queue(&port, pool)?;
    let ends = wire
        .to_port
        .pop()
        .zip(wire.from_port.pop())
        .context("ends of the rings")?;
    Ok((port, queues, ends))
}

/// What the control side would tell the worker.
pub(super) fn knowledge(side: Side, common: &Common) -> anyhow::Result<Vec<Command>> {
    let one = common.vns == 1;
    let mut commands = vec![Command::Tables(tables(side, common)?.into())];
    for vn in 0..common.vns {
        let bindings = match side {
            Side::Near => Some(Bindings::new([(TENANT_MAC, vec![IpAddr::V4(TENANT_IP)])])),
            // Not measured, and no port has a thousand addresses.
            Side::Far => None,
        };
        commands.push(Command::Port(Box::new(PortSetup {
            id: PortId(vn),
            bindings,
            bum_rate: 1000,
            trunk: (!one).then_some(0),
            vid: if one { 0 } else { vid(vn) },
        })));
    }
    commands.push(Command::Paths(
        PEER,
        Arc::from([Path {
            underlay: 0,
            src_mac: side.mac(),
            dst_mac: side.other().mac(),
            src: side.ip(),
            dst: side.other().ip(),
            mtu: MTU,
        }]),
    ));
    let Some(algorithm) = common.algorithm else {
        return Ok(commands);
    };
    for vn in 0..common.vns {
        let tunnel = TunnelId(vn.into());
        let out = side.spi(vn)?;
        let sa = Outbound::new(
            side.key(common.backend, algorithm, vn)?,
            OutboundConfig::ephemeral(out),
        )?;
        commands.push(Command::InstallOutbound(Box::new(OutboundSetup {
            tunnel,
            sa: Box::new(sa),
            source_port: source_port(out.get()),
            low_water: 0,
        })));
        commands.push(inbound_of(side, common.backend, algorithm, vn)?);
    }
    Ok(commands)
}

/// The VLAN of a network; used again where there are more networks than VLANs, which only
/// matters to a receiver of tagged frames.
fn vid(vn: u16) -> u16 {
    1 + vn % 4094
}

/// Stations of each network: [`FLOWS`] in all, and at least one.
pub fn stations(vns: u16) -> u16 {
    (FLOWS / vns.max(1)).max(1)
}

/// Networks with all their addresses mapped.
fn tables(side: Side, common: &Common) -> anyhow::Result<Vec<Change>> {
    let peer = Peer {
        addresses: Arc::from([side.other().ip()]),
        encapsulation: Encapsulation::Geneve,
    };
    let mut changes = vec![Change::AddPeer { id: PEER, peer }];
    for vn in 0..common.vns {
        let id = VnId(vn);
        let (port, tunnel) = (PortId(vn), TunnelId(vn.into()));
        let vni = Vni::new(VNI + u32::from(vn)).context("VNI")?;
        let mut config = VnConfig::new(vni, u32::from(MTU));
        if common.algorithm.is_none() {
            config.protection = Protection::None;
        }
        let kind = match common.vns {
            1 => PortKind::Tenant,
            _ => PortKind::Vlan { vid: vid(vn) },
        };
        let mapping = |mac, ip: Ipv4Addr, at: Side| Change::AddMapping {
            vn: id,
            mac,
            mapping: Mapping {
                ips: Arc::from([IpAddr::V4(ip)]),
                destination: if at == side {
                    Destination::Port(port)
                } else {
                    Destination::Tunnel(tunnel)
                },
                generation: 1,
            },
        };
        changes.extend([
            Change::AddVn { id, config },
            Change::AddPort {
                id: port,
                port: vswitch_vn::Port {
                    vn: id,
                    kind,
                    learning: false,
                },
            },
            Change::AddTunnel {
                id: tunnel,
                vn: id,
                peer: PEER,
                flood: true,
            },
            mapping(TENANT_MAC, TENANT_IP, Side::Near),
        ]);
        let flows = 0..stations(common.vns);
        changes.extend(flows.map(|flow| mapping(station_mac(flow), station_ip(flow), Side::Far)));
    }
    Ok(changes)
}
