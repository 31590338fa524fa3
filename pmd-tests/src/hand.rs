//! A worker driven by hand on the caller's thread, between rings of this process: the whole
//! pipeline at full speed and with the same outcome for the same input, for floods and fuzzing.
//!
//! Network blue (1001) is protected: tenants 1 and 3 here, tenant 2 at peer `b`, tenant 4 at
//! `c`, each with its IP addresses. Network red (2002) is in the clear: tenant 1 here, tenant 2
//! at `b`. The host kernel's tap is a ring as well, so that what the kernel would get is seen.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use vswitch::datapath::command::{Command, Event, InboundSetup, OutboundSetup, Path, PortSetup};
use vswitch::datapath::counters::Account;
use vswitch::datapath::handoff::Handoff;
use vswitch::datapath::outlet::{Outlet, Queue, Way};
use vswitch::datapath::probe::NoProbe;
use vswitch::datapath::verdict::Verdict;
use vswitch::datapath::worker::{Idle, Input, InputKind, Worker, WorkerSetup};
use vswitch::datapath::{Endpoints, source_port};
use vswitch::dpdk::eal::{Eal, EalConfig, LogLevel, Memory};
use vswitch::dpdk::ethdev::{Port, PortConfig};
use vswitch::dpdk::mbuf::{BURST, Burst, Mbuf};
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::queue::TxQueue;
use vswitch::dpdk::quiescence::Domain;
use vswitch::dpdk::ring::{self, Consumer, Producer};
use vswitch::dpdk::ring_port::ring_port;
use vswitch::dpdk::time::TscClock;
use vswitch_net::{Encapsulation, MacAddr, Vni};
use vswitch_policy::Bindings;
use vswitch_sa::{Algorithm, Inbound, InboundConfig, KeyMaterial, Outbound, OutboundConfig, Spi};
use vswitch_vn::{
    Change, Destination, Mapping, Peer, PeerId, PortId, PortKind, Protection, TunnelId, VnConfig,
    VnId,
};

use crate::frames::{ip4, ip6, mac};
use crate::wire::{self, ESP_PORT, Outer, Sa};

/// VNI of the protected network.
pub const BLUE: u32 = 1001;
/// VNI of the network in the clear.
pub const RED: u32 = 2002;
/// Blue's tenant 1, blue's tenant 3, red's tenant 1.
pub const PORTS: [PortId; 3] = [PortId(0), PortId(1), PortId(2)];

/// Our MAC on the underlay.
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Our address on the underlay.
pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// The address of a peer: `b` is 2, `c` is 3.
pub const fn peer(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))
}

const BUFFERS: u32 = 2048;
const DATA_ROOM: usize = 2048;
const RING: u32 = 512;
/// Broadcasts per second of a port: no test waits for them.
const BUM_RATE: u64 = 1 << 40;
const KERNEL_RATE: u64 = 200_000;

/// The worker, and the far ends of its ports.
pub struct Hand {
    /// The worker; its counters are asked for here.
    pub worker: Worker<NoProbe>,
    /// Buffers of both sides.
    pool: Mempool,
    buffers_before: usize,
    to_underlay: Producer,
    from_underlay: Consumer,
    to_kernel: Consumer,
    to_tenants: Vec<Consumer>,
    by_colleague: Consumer,
    commands: Sender<Command>,
    events: Receiver<Event>,
    _ports: Vec<Port>,
    _eal: Eal,
}

/// Where something came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The underlay port.
    Underlay,
    /// The tap.
    Kernel,
    /// A tenant, by its place in [`PORTS`].
    Tenant(usize),
    /// Worker 1, which is nobody: what it would be handed.
    Colleague,
}

/// The SA by which peer `n` sends to blue.
pub fn inbound(n: u8) -> Sa {
    Sa::new(0x2000 + u32::from(n), wire::Algorithm::Gcm128)
}

/// The SA by which peer `n` is sent blue's frames.
pub fn outbound(n: u8) -> Sa {
    Sa::new(0x1000 + u32::from(n), wire::Algorithm::Gcm128)
}

/// Outer headers of a packet from peer `n` to a UDP port of ours.
pub fn outer(n: u8, dport: u16) -> Outer {
    Outer {
        src_mac: [2, 0, 0, 0, 0, n],
        dst_mac: MAC,
        src: peer(n),
        dst: LOCAL,
        sport: 50_000,
        dport,
    }
}

impl Hand {
    /// Starts EAL, and a worker that knows its networks. Once in a process.
    pub fn start() -> Hand {
        let eal = Eal::init(&EalConfig {
            memory: Memory::NoHuge,
            memory_mb: 64,
            log_level: LogLevel::Error,
            ..EalConfig::default()
        })
        .expect("EAL");
        let pool = Mempool::create("hand", BUFFERS, DATA_ROOM, None, false).expect("pool");
        let mut ports = Vec::new();
        let mut wired = |name: &str| {
            let (port, mut wire) = ring_port(name, 1, RING, None).expect("a port");
            let mut queues = port
                .configure(&PortConfig {
                    rx_queues: 1,
                    tx_queues: 1,
                    rx_desc: 512,
                    tx_desc: 512,
                    mtu: None,
                    rss: false,
                    promiscuous: false,
                    pools: std::slice::from_ref(&pool),
                })
                .expect("a port that starts");
            ports.push(port);
            (
                queues.rx.pop().expect("a queue"),
                queues.tx.pop().expect("a queue"),
                wire.to_port.pop().expect("a ring"),
                wire.from_port.pop().expect("a ring"),
            )
        };
        let (queue, underlay_tx, to_underlay, from_underlay) = wired("hand-underlay");
        let (_, tap_tx, _, to_kernel) = wired("hand-tap");
        let mut tenants = Vec::new();
        for name in ["hand-blue-1", "hand-blue-3", "hand-red-1"] {
            let (_, tx, _, from) = wired(name);
            tenants.push((tx, from));
        }
        let (to_colleague, by_colleague) =
            ring::channel("hand-colleague", RING, None).expect("a ring");
        let (commands, mailbox) = bounded(16);
        let (events, event_rx) = bounded(64);
        let way = |queue: TxQueue, sent, full, account| {
            Way::Mine(Box::new(Outlet::new(
                Queue::Ethernet(queue),
                sent,
                full,
                account,
            )))
        };
        let setup = WorkerSetup {
            id: 0,
            idle: Idle::Poll,
            pool: pool.clone(),
            backend: crate::aead::backend(),
            seed: 0x5eed,
            inputs: vec![Input {
                kind: InputKind::Underlay(0),
                queue,
            }],
            underlays: vec![way(
                underlay_tx,
                Verdict::ToUnderlay,
                Verdict::UnderlayTxFull,
                Account::Underlay(0),
            )],
            taps: vec![way(
                tap_tx,
                Verdict::ToKernel,
                Verdict::KernelTxFull,
                Account::Tap(0),
            )],
            trunks: Vec::new(),
            trunk_mtus: Vec::new(),
            handoff: Handoff::new(vec![None, Some(to_colleague)], Vec::new()),
            endpoints: Endpoints {
                local: vec![LOCAL],
                esp_port: ESP_PORT,
                macs: vec![MacAddr(MAC)],
            },
            kernel_rate: KERNEL_RATE,
            clock: TscClock::new().expect("TSC"),
            mailbox,
            events,
            reader: Domain::new().reader("by hand"),
        };
        let mut worker = Worker::new(setup, NoProbe);
        commands
            .send(Command::Transaction(knowledge()))
            .map_err(drop)
            .expect("a worker");
        worker.pass();
        let mut to_tenants = Vec::new();
        for (port, (tx, from)) in PORTS.into_iter().zip(tenants) {
            worker
                .set_tenant_queue(port, tx)
                .map_err(drop)
                .expect("its port");
            to_tenants.push(from);
        }
        Hand {
            worker,
            buffers_before: pool.in_use(),
            pool,
            to_underlay,
            from_underlay,
            to_kernel,
            to_tenants,
            by_colleague,
            commands,
            events: event_rx,
            _ports: ports,
            _eal: eal,
        }
    }

    /// A buffer with these bytes, a chain if they do not fit into one.
    fn mbuf(&self, bytes: &[u8]) -> Mbuf {
        let segment = |bytes: &[u8]| {
            let mut segment = self.pool.alloc().expect("a buffer");
            let room = segment.append(bytes.len()).expect("room");
            room.copy_from_slice(bytes);
            segment
        };
        let mut chunks = bytes.chunks(DATA_ROOM);
        let mut head = segment(chunks.next().unwrap_or_default());
        for chunk in chunks {
            let appended = head.append_segment(segment(chunk));
            appended.map_err(drop).expect("few segments");
        }
        head
    }

    /// The underlay brings these frames as one burst ([`BURST`] at most), and the worker makes
    /// a pass.
    pub fn underlay<'a>(&mut self, frames: impl IntoIterator<Item = &'a [u8]>) {
        let mut burst: Burst = frames.into_iter().map(|f| self.mbuf(f)).collect();
        self.to_underlay.send(&mut burst);
        assert!(burst.is_empty(), "the ring takes all");
        self.worker.pass();
    }

    /// A tenant, by its place in [`PORTS`], sends these frames as one burst.
    pub fn tenant<'a>(&mut self, port: usize, frames: impl IntoIterator<Item = &'a [u8]>) {
        self.port(PORTS[port], frames);
    }

    /// As [`Hand::tenant`], of frames that each lie in as many buffers as they have pieces.
    pub fn tenant_pieces(&mut self, port: usize, frames: &[Vec<&[u8]>]) {
        let chain = |pieces: &Vec<&[u8]>| {
            let mut pieces = pieces.iter().map(|piece| self.mbuf(piece));
            let mut head = pieces.next().expect("a piece");
            for piece in pieces {
                let appended = head.append_segment(piece);
                appended.map_err(drop).expect("few segments");
            }
            head
        };
        let mut burst: Burst = frames.iter().map(chain).collect();
        self.worker.tenant_burst(PORTS[port], &mut burst);
        self.worker.pass();
    }

    /// As [`Hand::tenant`], of any port.
    pub fn port<'a>(&mut self, port: PortId, frames: impl IntoIterator<Item = &'a [u8]>) {
        let mut burst: Burst = frames.into_iter().map(|f| self.mbuf(f)).collect();
        self.worker.tenant_burst(port, &mut burst);
        self.worker.pass();
    }

    /// The worker applies these commands; what it reports.
    pub fn command(&mut self, commands: impl IntoIterator<Item = Command>) -> Vec<Event> {
        for command in commands {
            self.commands.send(command).expect("a worker");
            self.worker.pass();
        }
        self.worker.pass();
        self.events.try_iter().collect()
    }

    /// Shows everything that came out since the last time, and frees it.
    pub fn look(&mut self, mut at: impl FnMut(Exit, &[u8])) {
        let tenants = self.to_tenants.iter_mut().enumerate();
        let exits = tenants.map(|(i, ring)| (Exit::Tenant(i), ring));
        let exits = exits.chain([
            (Exit::Underlay, &mut self.from_underlay),
            (Exit::Kernel, &mut self.to_kernel),
            (Exit::Colleague, &mut self.by_colleague),
        ]);
        for (exit, ring) in exits {
            let mut burst = Burst::new();
            while ring.receive(&mut burst) > 0 {
                for packet in burst.drain(..) {
                    if packet.is_contiguous() {
                        at(exit, packet.head());
                    } else {
                        at(
                            exit,
                            &packet.segments().flatten().copied().collect::<Vec<_>>(),
                        );
                    }
                }
            }
        }
    }

    /// The books balance, nothing is held, and every buffer is back. To be called when all
    /// that came out was looked at.
    pub fn check(&self) {
        let books = self.worker.counters().books(self.worker.held());
        assert!(books.balance(), "{books:?}");
        assert_eq!(books.held, 0, "{books:?}");
        assert_eq!(self.pool.in_use(), self.buffers_before, "buffers");
    }

    /// Packets by verdict so far.
    pub fn verdicts(&self) -> Vec<(&'static str, u64)> {
        let all = self.worker.counters().verdicts.iter();
        all.filter(|(_, n)| *n > 0)
            .map(|(v, n)| (v.name(), n))
            .collect()
    }
}

const _: () = assert!(BURST <= RING as usize);

fn material(sa: &Sa) -> KeyMaterial {
    KeyMaterial::from_bytes(
        crate::aead::backend(),
        Algorithm::Aes128Gcm,
        &sa.key_and_salt,
    )
    .expect("a key")
}

fn knowledge() -> Vec<Command> {
    let mut commands = vec![Command::Tables(tables().into())];
    for (id, n) in PORTS.into_iter().zip([1, 3, 1]) {
        let ips = vec![IpAddr::V4(ip4(n)), IpAddr::V6(ip6(n))];
        commands.push(Command::Port(Box::new(PortSetup {
            id,
            bindings: Some(Bindings::new([(MacAddr(mac(n)), ips)])),
            bum_rate: BUM_RATE,
            trunk: None,
            vid: 0,
        })));
    }
    for (i, n) in [(0, 2), (1, 3)] {
        commands.push(Command::Paths(
            PeerId(i),
            Arc::from([Path {
                underlay: 0,
                src_mac: MacAddr(MAC),
                dst_mac: MacAddr([2, 0, 0, 0, 0, n]),
                src: LOCAL,
                dst: peer(n),
                mtu: 1500,
            }]),
        ));
        let tunnel = TunnelId(i);
        let (out, back) = (outbound(n), inbound(n));
        let spi = |sa: &Sa| Spi::new(sa.spi).expect("an SPI");
        let config = OutboundConfig::ephemeral(spi(&out));
        commands.push(Command::InstallOutbound(Box::new(OutboundSetup {
            tunnel,
            sa: Box::new(Outbound::new(material(&out), config).expect("an SA")),
            source_port: source_port(out.spi),
            low_water: 0,
        })));
        let config = InboundConfig::new(spi(&back));
        commands.push(Command::InstallInbound(Box::new(InboundSetup {
            tunnel,
            sa: Box::new(Inbound::new(material(&back), config).expect("an SA")),
            floor: None,
        })));
    }
    commands
}

fn tables() -> Vec<Change> {
    let config = |vni, protection| {
        let mut config = VnConfig::new(Vni::new(vni).expect("a VNI"), 1422);
        config.protection = protection;
        config
    };
    let blue = config(BLUE, Protection::Confidential);
    let red = config(RED, Protection::None);
    let vns = [blue, red].into_iter().zip(0..);
    let mut changes: Vec<Change> = vns
        .map(|(config, id)| Change::AddVn {
            id: VnId(id),
            config,
        })
        .collect();
    for (id, vn) in PORTS.into_iter().zip([0, 0, 1]) {
        let port = vswitch_vn::Port {
            vn: VnId(vn),
            kind: PortKind::Tenant,
            learning: false,
        };
        changes.push(Change::AddPort { id, port });
    }
    for (i, n) in [(0, 2), (1, 3)] {
        changes.push(Change::AddPeer {
            id: PeerId(i),
            peer: Peer {
                addresses: Arc::from([peer(n)]),
                encapsulation: Encapsulation::Geneve,
            },
        });
    }
    for (id, vn, peer) in [(0, 0, 0), (1, 0, 1), (2, 1, 0)] {
        changes.push(Change::AddTunnel {
            id: TunnelId(id),
            vn: VnId(vn),
            peer: PeerId(peer),
            flood: true,
        });
    }
    for (vn, n, destination) in [
        (0, 1, Destination::Port(PORTS[0])),
        (0, 3, Destination::Port(PORTS[1])),
        (0, 2, Destination::Tunnel(TunnelId(0))),
        (0, 4, Destination::Tunnel(TunnelId(1))),
        (1, 1, Destination::Port(PORTS[2])),
        (1, 2, Destination::Tunnel(TunnelId(2))),
    ] {
        changes.push(Change::AddMapping {
            vn: VnId(vn),
            mac: MacAddr(mac(n)),
            mapping: Mapping {
                ips: Arc::from([IpAddr::V4(ip4(n)), IpAddr::V6(ip6(n))]),
                destination,
                generation: 1,
            },
        });
    }
    changes
}
