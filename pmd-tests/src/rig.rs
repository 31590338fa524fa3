//! An edge in this process, its underlay port and its trunk made of rings: the test holds
//! the other ends, plays tenants and peers, and sees every packet that comes out.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vswitch::dpdk::eal::{Eal, EalConfig, Memory};
use vswitch::dpdk::mbuf::{BURST, Burst, Mbuf};
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::ring_port::{Wire, ring_port};
use vswitch::manage::edge::{Edge, Handle};
use vswitch::manage::observe::{Ask, Filter, Inject, InjectError, Trace, Watch, WatchError};
use vswitch::manage::status::{Port, Status};

use crate::changes::{Changes, check_books};
use crate::frames::{self, Mac};
use crate::setup::{Peer, Setup};
use crate::tenant::Tenant;
use crate::wire::{ESP_PORT, Outer};

/// Packets a ring holds.
const RING: u32 = 1024;
/// Bytes of a buffer: as the edge's own, so that jumbo frames are chains.
const DATA_ROOM: usize = 2048;
/// Free buffers below which no load is offered any more.
const RESERVE: usize = 1600;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The edge and the ends of its wires.
pub struct Rig {
    /// What it was started with.
    pub setup: Setup,
    // Before the edge: a card without its other end complains.
    tenants: Vec<Tenant>,
    edge: Edge,
    pool: Mempool,
    underlay: Wire,
    trunk: Wire,
    sent: u64,
    last: Status,
    _dir: Option<TempDir>,
}

/// A frame from the trunk: its VLAN, and the frame without tag.
pub type Tagged = (u16, Vec<u8>);

/// What came out, and what was counted, since the last look.
#[derive(Debug)]
pub struct Outcome {
    /// Frames from the underlay port, as they are.
    pub underlay: Vec<Vec<u8>>,
    /// Frames from the trunk: VLAN, and the frame without tag.
    pub trunk: Vec<Tagged>,
    /// Frames that virtual machines received: their port, and the frame.
    pub tenants: Vec<(&'static str, Vec<u8>)>,
    /// Counters.
    pub changes: Changes,
}

impl Rig {
    /// Starts an edge and waits until its tunnels have next hops.
    pub fn start(setup: Setup) -> Rig {
        let dir = tempfile::tempdir().expect("a directory");
        let mut rig = Rig::start_in(setup, dir.path());
        rig._dir = Some(dir);
        rig
    }

    /// As [`Self::start`], with keys and state in `dir`, which stay there.
    pub fn start_in(setup: Setup, dir: &Path) -> Rig {
        let _first_wins = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .try_init();
        let eal = Eal::init(&EalConfig {
            memory: Memory::NoHuge,
            memory_mb: 192,
            ..EalConfig::default()
        })
        .expect("EAL");
        let wire = |name: &str, queues| ring_port(name, queues, RING, None).expect("ring port");
        let (underlay_port, underlay) = wire("up0", setup.underlay_queues);
        let (trunk_port, trunk) = wire("trunk0", setup.trunk_queues);
        let given = BTreeMap::from([
            ("net_ring_up0".to_owned(), underlay_port),
            ("net_ring_trunk0".to_owned(), trunk_port),
        ]);
        let pool = Mempool::create("test", 4096, DATA_ROOM, None, true).expect("pool");
        let edge = Edge::start_on(eal, setup.config(dir), given).expect("edge");
        let mut rig = Rig {
            setup,
            edge,
            pool,
            underlay,
            trunk,
            tenants: Vec::new(),
            sent: 0,
            last: Status::default(),
            _dir: None,
        };
        rig.tenants = Tenant::all(&rig.setup, dir);
        rig.last = rig.wait("next hops", |s| {
            s.tunnels.iter().all(|tunnel| !tunnel.paths.is_empty())
                && s.ports.iter().all(|port| port.state == "up")
        });
        rig
    }

    /// For what the edge is told while it runs.
    pub fn handle(&self) -> Handle {
        self.edge.handle()
    }

    /// Begins to watch packets; in effect when this returns.
    pub fn watch(&self, filter: Filter, depth: usize) -> Result<Watch, WatchError> {
        let ask = Ask {
            filter,
            snaplen: 0,
            depth,
        };
        let watch = self.handle().watch_blocking(ask, PATIENCE).expect("answer");
        // Every worker has looked into its mailbox by then.
        self.status();
        watch
    }

    /// What has been seen so far.
    pub fn told(watch: &Watch) -> Vec<Trace> {
        let records = watch.records.try_iter();
        records
            .map(|record| Trace::new(&record, &watch.names, watch.clock))
            .collect()
    }

    /// What would happen to a frame.
    pub fn dry_run(&self, port: &str, frame: &[u8]) -> Result<Vec<Trace>, InjectError> {
        let inject = Inject {
            port: port.to_owned(),
            frame: frame.to_vec(),
        };
        let answer = self.handle().rehearse_blocking(inject, PATIENCE);
        let outcome = answer.expect("answer")?;
        let records = outcome.records.iter();
        Ok(records
            .map(|record| Trace::new(record, &outcome.names, outcome.clock))
            .collect())
    }

    /// Counts from here on: after a change, counters of what was removed are gone.
    pub fn rebase(&mut self) {
        self.last = self.status();
    }

    /// Waits until everything sent was taken up and takes what came out, whatever is counted.
    pub fn collect(&mut self) -> (Vec<Vec<u8>>, Vec<Tagged>) {
        let sum = |s: &Status, of: fn(&vswitch::manage::status::Worker) -> u64| -> u64 {
            s.workers.iter().map(of).sum()
        };
        let expected = sum(&self.last, |w| w.received) + std::mem::take(&mut self.sent);
        self.last = self.wait("everything taken up", |s| {
            sum(s, |w| w.received) >= expected
                && sum(s, |w| w.handed_in) == sum(s, |w| w.handed_out)
                && sum(s, |w| w.held) == 0
        });
        let trunk = drain(&mut self.trunk);
        let trunk = trunk.iter().map(|f| frames::untagged(f)).collect();
        (drain(&mut self.underlay), trunk)
    }

    /// A report.
    pub fn status(&self) -> Status {
        let status = self
            .edge
            .handle()
            .status_blocking(PATIENCE)
            .expect("status");
        check_books(&status);
        status
    }

    /// The report in which something is so.
    pub fn wait(&self, what: &str, so: impl Fn(&Status) -> bool) -> Status {
        let began = Instant::now();
        loop {
            let status = self.status();
            if so(&status) {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {status:#?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The underlay port.
    pub fn underlay_port(&self) -> &Port {
        self.last
            .ports
            .iter()
            .find(|p| p.kind == "underlay")
            .expect("up0")
    }

    /// MAC of the edge on the underlay.
    pub fn mac(&self) -> Mac {
        let text = self
            .underlay_port()
            .macs
            .first()
            .expect("a MAC")
            .replace(':', "");
        hex::decode(text).expect("hex").try_into().expect("6 bytes")
    }

    /// Headers of a packet from `peer` to the edge's ESP port.
    pub fn from(&self, peer: &str) -> Outer {
        let Peer { mac, address, .. } = *self.setup.peer_named(peer);
        Outer {
            src_mac: mac,
            dst_mac: self.mac(),
            src: address,
            dst: self.setup.local,
            sport: 55_555,
            dport: ESP_PORT,
        }
    }

    /// What `peer` protects around a frame of a VN: UDP (with checksum over IPv6), tunnel
    /// header, frame.
    pub fn overlay(&self, vn: &str, peer: &str, frame: &[u8]) -> Vec<u8> {
        let vni = self.setup.vn(vn).vni;
        let Peer {
            address,
            encapsulation,
            ..
        } = *self.setup.peer_named(peer);
        let port = encapsulation.port();
        match address.is_ipv4() {
            true => encapsulation.datagram(vni, frame),
            false => frames::udp(
                address,
                self.setup.local,
                port,
                port,
                &encapsulation.wrap(vni, frame),
            ),
        }
    }

    /// A frame of a VN as `peer` sends it, sealed with its SA.
    pub fn sealed(&self, vn: &str, peer: &str, seq: u64, frame: &[u8]) -> Vec<u8> {
        let sa = self.setup.inbound(vn, peer);
        self.from(peer)
            .packet(&sa.seal(seq, &self.overlay(vn, peer, frame)))
    }

    /// Takes a packet to `peer` apart: every header byte checked; returns its sequence
    /// number and the tenant's frame.
    pub fn opened(&self, vn: &str, peer: &str, packet: &[u8]) -> (u64, Vec<u8>) {
        let (outer, esp) = Outer::parse(packet);
        let expected = self.from(peer);
        assert_eq!(
            (outer.src_mac, outer.dst_mac),
            (expected.dst_mac, expected.src_mac)
        );
        assert_eq!((outer.src, outer.dst), (expected.dst, expected.src));
        assert_eq!(outer.dport, ESP_PORT);
        let (seq, payload) = self.setup.outbound(vn, peer).open(&esp);
        (seq, self.unwrapped(vn, peer, &payload))
    }

    /// The frame in a tunnel packet to `peer`, after the same check of every byte.
    pub fn unwrapped(&self, vn: &str, peer: &str, payload: &[u8]) -> Vec<u8> {
        let frame = payload.get(16..).expect("UDP and tunnel header").to_vec();
        let Peer {
            address,
            encapsulation,
            ..
        } = *self.setup.peer_named(peer);
        let vni = self.setup.vn(vn).vni;
        let port = encapsulation.port();
        let expected = match address.is_ipv4() {
            true => encapsulation.datagram(vni, &frame),
            false => frames::udp(
                self.setup.local,
                address,
                port,
                port,
                &encapsulation.wrap(vni, &frame),
            ),
        };
        assert_eq!(hex::encode(payload), hex::encode(expected), "tunnel packet");
        frame
    }

    /// The frame as a buffer, a chain if it is long.
    fn mbuf(&self, frame: &[u8]) -> Mbuf {
        let mut chunks = frame.chunks(DATA_ROOM);
        let mut head = self.segment(chunks.next().unwrap_or_default());
        for chunk in chunks {
            head.append_segment(self.segment(chunk))
                .map_err(drop)
                .expect("few segments");
        }
        head
    }

    fn segment(&self, bytes: &[u8]) -> Mbuf {
        let mut segment = self.pool.alloc().expect("a buffer");
        segment
            .append(bytes.len())
            .expect("room")
            .copy_from_slice(bytes);
        segment
    }

    /// The underlay brings these frames at once, on queue 0.
    pub fn from_underlay(&mut self, frames: &[Vec<u8>]) {
        self.from_underlay_on(0, frames);
    }

    /// The same on a queue of choice.
    pub fn from_underlay_on(&mut self, queue: usize, frames: &[Vec<u8>]) {
        for part in frames.chunks(BURST) {
            let mut burst: Burst = part.iter().map(|f| self.mbuf(f)).collect();
            let sent = self.underlay.to_port[queue].send(&mut burst);
            assert_eq!(sent, part.len(), "the ring takes all");
            self.sent += sent as u64;
        }
    }

    /// Tenants behind a VLAN send these frames at once, on queue 0 of the trunk.
    pub fn from_vlan(&mut self, vid: u16, frames: &[Vec<u8>]) {
        let tagged: Vec<Vec<u8>> = frames.iter().map(|f| frames::tagged(vid, f)).collect();
        self.from_trunk(&tagged);
    }

    /// The trunk brings these frames as they are.
    pub fn from_trunk(&mut self, frames: &[Vec<u8>]) {
        for part in frames.chunks(BURST) {
            let mut burst: Burst = part.iter().map(|f| self.mbuf(f)).collect();
            let sent = self.trunk.to_port[0].send(&mut burst);
            assert_eq!(sent, part.len(), "the ring takes all");
            self.sent += sent as u64;
        }
    }

    /// The virtual machine at a port sends these frames, chained where they are long.
    pub fn from_tenant(&mut self, port: &str, frames: &[Vec<u8>]) {
        let tenant = self.tenants.iter_mut().find(|t| t.port() == port);
        tenant.expect("a virtual machine").send(frames);
        self.sent += frames.len() as u64;
    }

    /// The underlay brings of these frames what fits into queue 0, in order.
    pub fn offer_underlay(&mut self, frames: &[Vec<u8>]) -> usize {
        self.offer(frames, |rig| &mut rig.underlay)
    }

    /// The trunk brings of these frames what fits into its queue 0, in order.
    pub fn offer_trunk(&mut self, frames: &[Vec<u8>]) -> usize {
        self.offer(frames, |rig| &mut rig.trunk)
    }

    fn offer(&mut self, frames: &[Vec<u8>], wire: impl Fn(&mut Rig) -> &mut Wire) -> usize {
        let mut taken = 0;
        for part in frames.chunks(BURST) {
            // Of the free ones some rest in the workers' caches, where the test cannot get them.
            if self.pool.available() < RESERVE {
                break;
            }
            let mut burst: Burst = part.iter().map(|f| self.mbuf(f)).collect();
            let Some(queue) = wire(self).to_port.first_mut() else {
                break;
            };
            let sent = queue.send(&mut burst);
            taken += sent;
            if sent < part.len() {
                break;
            }
        }
        self.sent += taken as u64;
        taken
    }

    /// Takes what came out of the underlay port, and looks at nothing of it.
    pub fn discard_underlay(&mut self) -> usize {
        drain(&mut self.underlay).len()
    }

    /// The same of the trunk.
    pub fn discard_trunk(&mut self) -> usize {
        drain(&mut self.trunk).len()
    }

    /// Waits until everything sent has its verdict, and takes what came out. All buffers are
    /// back then, the edge's and the test's.
    pub fn settle(&mut self) -> Outcome {
        let outcome = self.settle_beside_others();
        assert_eq!(self.edge.pool().in_use(), 0, "buffers of the edge");
        outcome
    }

    /// As [`Self::settle`], while others make the edge use buffers.
    pub fn settle_beside_others(&mut self) -> Outcome {
        let sum = |s: &Status, of: fn(&vswitch::manage::status::Worker) -> u64| -> u64 {
            s.workers.iter().map(of).sum()
        };
        let expected = sum(&self.last, |w| w.received) + self.sent;
        self.sent = 0;
        let status = self.wait("everything taken up", |s| {
            sum(s, |w| w.received) >= expected
                && sum(s, |w| w.handed_in) == sum(s, |w| w.handed_out)
                && sum(s, |w| w.held) == 0
        });
        let outcome = Outcome {
            underlay: drain(&mut self.underlay),
            trunk: drain(&mut self.trunk)
                .iter()
                .map(|f| frames::untagged(f))
                .collect(),
            tenants: self.tenants.iter_mut().flat_map(Tenant::receive).collect(),
            changes: Changes::between(&self.last, &status),
        };
        assert_eq!(
            outcome.changes.received + sum(&self.last, |w| w.received),
            expected
        );
        assert_eq!(self.pool.in_use(), 0, "buffers of the test");
        self.last = status;
        outcome
    }

    /// Stops the edge; nothing may be left over.
    pub fn stop(self) -> Status {
        let Rig {
            edge,
            pool,
            underlay,
            trunk,
            tenants,
            ..
        } = self;
        // Before the socket goes: a device without its other end fails its last requests.
        drop(tenants);
        let edges = edge.pool().clone();
        let last = edge.stop().expect("the last report");
        check_books(&last);
        // What the rings still hold goes with them.
        drop((underlay, trunk));
        assert_eq!((edges.in_use(), pool.in_use()), (0, 0), "buffers");
        last
    }
}

fn drain(wire: &mut Wire) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for queue in &mut wire.from_port {
        let mut burst = Burst::new();
        while queue.receive(&mut burst) > 0 {
            frames.extend(
                burst
                    .drain(..)
                    .map(|m| m.segments().flatten().copied().collect()),
            );
        }
    }
    frames
}
