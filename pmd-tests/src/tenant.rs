//! A virtual machine's network card, played by the virtio-user driver of this process: the
//! other end of a vhost-user port, so that frames take the way of a guest's.

use std::path::Path;

use vswitch::dpdk::ethdev::{Port, PortConfig};
use vswitch::dpdk::mbuf::{BURST, Burst, Mbuf};
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::queue::{RxQueue, TxQueue};

use crate::setup::Setup;

/// Descriptors of each ring.
const RING: u16 = 256;
/// Bytes of a buffer.
const DATA_ROOM: usize = 2048;

/// The card of one virtual machine.
pub struct Tenant {
    name: &'static str,
    rx: RxQueue,
    tx: TxQueue,
    pool: Mempool,
    _port: Port,
}

impl Tenant {
    /// The cards of all vhost-user ports of a configuration, connected.
    pub fn all(setup: &Setup, dir: &Path) -> Vec<Tenant> {
        let ports = setup.vns.iter().flat_map(|vn| &vn.tenants);
        ports
            .enumerate()
            .map(|(i, port)| {
                let mac = crate::frames::text(crate::frames::mac(port.tenant));
                let socket = Setup::socket(dir, port);
                Tenant::connect(i, port.name, &socket, &mac)
            })
            .collect()
    }

    fn connect(i: usize, name: &'static str, socket: &str, mac: &str) -> Tenant {
        let device =
            format!("net_virtio_user{i},path={socket},queues=1,queue_size={RING},mac={mac}");
        let port = Port::open(&device).expect("a virtio-user device");
        let pool = Mempool::create(&format!("vm{i}"), 2048, DATA_ROOM, None, true).expect("pool");
        let mut queues = port
            .configure(&PortConfig {
                rx_queues: 1,
                tx_queues: 1,
                rx_desc: RING,
                tx_desc: RING,
                mtu: None,
                rss: false,
                promiscuous: true,
                pools: std::slice::from_ref(&pool),
            })
            .expect("a device that starts");
        Tenant {
            name,
            rx: queues.rx.pop().expect("a queue"),
            tx: queues.tx.pop().expect("a queue"),
            pool,
            _port: port,
        }
    }

    /// Its port.
    pub fn port(&self) -> &'static str {
        self.name
    }

    fn segment(&self, bytes: &[u8]) -> Mbuf {
        let mut segment = self.pool.alloc().expect("a buffer");
        let room = segment.append(bytes.len()).expect("room");
        room.copy_from_slice(bytes);
        segment
    }

    fn mbuf(&self, frame: &[u8]) -> Mbuf {
        let mut chunks = frame.chunks(DATA_ROOM - 128);
        let mut head = self.segment(chunks.next().unwrap_or_default());
        for chunk in chunks {
            let appended = head.append_segment(self.segment(chunk));
            appended.map_err(drop).expect("few segments");
        }
        head
    }

    /// Sends frames, waiting where the ring is full.
    pub fn send(&mut self, frames: &[Vec<u8>]) {
        for part in frames.chunks(BURST) {
            let mut burst: Burst = part.iter().map(|f| self.mbuf(f)).collect();
            while !burst.is_empty() {
                if self.tx.send(&mut burst) == 0 {
                    std::thread::yield_now();
                }
            }
        }
    }

    /// Takes what has arrived.
    pub fn receive(&mut self) -> Vec<(&'static str, Vec<u8>)> {
        let mut frames = Vec::new();
        let mut burst = Burst::new();
        while self.rx.receive(&mut burst) > 0 {
            for packet in burst.drain(..) {
                frames.push((self.name, packet.segments().flatten().copied().collect()));
            }
        }
        frames
    }
}
