//! A tenant that looks for machines that do not exist as fast as its port takes it: testpmd forwards to the
//! port what it reads from a capture that has no end, a pipe into which a thread writes.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::frames::{ethernet, internet_checksum};
use crate::lab::{DIR, sh};
use crate::overlay::Tenant;
use crate::pcap;
use crate::testpmd::Testpmd;

/// The first address that nobody has: 10.16.0.0.
const FIRST: u32 = 0x0a10_0000;
/// So many of them, each looked for once before any is again.
const MANY: u32 = 0xe0_0000;
/// Frames that are written at a time.
const PIECE: u32 = 512;

/// The tenant. Dropping it ends it.
pub struct Scanner {
    testpmd: Option<Testpmd>,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    unicast: AtomicBool,
}

impl Scanner {
    /// At the port of this tenant, whose socket its switch has made. Says nothing yet.
    pub fn plug(tenant: &Tenant) -> Scanner {
        let fifo = format!("{DIR}/scan.pcap");
        sh(&format!("mkfifo {fifo}"));
        let shared = Arc::new(Shared::default());
        let (of, at, n) = (shared.clone(), fifo.clone(), tenant.n);
        let writer = std::thread::spawn(move || {
            let mut into = File::options().write(true).open(at).expect("a pipe");
            into.write_all(&pcap::head()).expect("a reader");
            let mut next = 0;
            while !of.stop.load(Ordering::Relaxed) {
                let unicast = of.unicast.load(Ordering::Relaxed);
                let piece: Vec<u8> = (next..next + PIECE)
                    .flat_map(|i| pcap::record(0, &question(n, FIRST + i % MANY, unicast)))
                    .collect();
                next = (next + PIECE) % MANY;
                // Its reader has ended.
                if into.write_all(&piece).is_err() {
                    return;
                }
            }
        });
        let args = [
            "--vdev".to_owned(),
            format!("net_pcap0,rx_pcap={fifo}"),
            "--vdev".to_owned(),
            format!(
                "net_virtio_user0,path={DIR}/{}.sock,queues=1,queue_size=1024,mac=52:54:00:00:00:0{n}",
                tenant.name
            ),
            "--".to_owned(),
            "-i".to_owned(),
            "--forward-mode=io".to_owned(),
            "--port-topology=paired".to_owned(),
            "--total-num-mbufs=8192".to_owned(),
            "--no-mlockall".to_owned(),
            "--stats-period=0".to_owned(),
        ];
        Scanner {
            testpmd: Some(Testpmd::start("scanner", &args)),
            shared,
            writer: Some(writer),
        }
    }

    /// Begins, with ARP requests.
    pub fn begin(&mut self) {
        if let Some(testpmd) = &mut self.testpmd {
            testpmd.command("start");
        }
    }

    /// Frames that it has had for its port so far, whether or not there was room for them.
    pub fn offered(&mut self) -> u64 {
        self.testpmd
            .as_mut()
            .map_or(0, |testpmd| testpmd.stats(0).rx)
    }

    /// Goes on with packets to MAC addresses that nobody has.
    pub fn go_on_with_packets(&self) {
        self.shared.unicast.store(true, Ordering::Relaxed);
    }
}

/// Machine `n` looks for this address: by ARP (RFC 826), or by a packet to where it believes it.
fn question(n: u8, wanted: u32, unicast: bool) -> Vec<u8> {
    let mac = [0x52, 0x54, 0, 0, 0, n];
    let (own, wanted) = ([10, 0, 0, n], Ipv4Addr::from_bits(wanted).octets());
    let mut frame = if unicast {
        let mut header = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0].to_vec();
        header.extend([own, wanted].concat());
        let sum = internet_checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header.extend([0, 9, 0, 9, 0, 8, 0, 0]);
        let [b0, b1, b2, b3] = wanted;
        ethernet([2, 0x77, b0, b1, b2, b3], mac, 0x0800, &header)
    } else {
        let mut request = [0, 1, 8, 0, 6, 4, 0, 1].to_vec();
        request.extend(mac);
        request.extend(own);
        request.extend([0; 6]);
        request.extend(wanted);
        ethernet([0xff; 6], mac, 0x0806, &request)
    };
    frame.resize(60, 0);
    frame
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(testpmd) = self.testpmd.take() {
            testpmd.kill();
        }
        if let Some(writer) = self.writer.take() {
            let ended = writer.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the writer");
        }
    }
}
