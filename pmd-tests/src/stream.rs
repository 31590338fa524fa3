//! A steady stream of datagrams between two tenants, each numbered and timed at both ends, so that
//! what was lost, and for how long nothing came through, can be said of any moment.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::lab::{on_host, wait_for};
use crate::overlay::Tenant;

/// What every datagram says, and nobody on the underlay may read.
pub const SECRET: &[u8] = b"a tenant's secret that nobody on the way may read";
/// Bytes of a datagram.
const LENGTH: usize = 200;

/// One datagram.
#[derive(Debug, Clone, Copy)]
struct Datagram {
    sent: Instant,
    arrived: Option<Instant>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    datagrams: Mutex<Vec<Datagram>>,
}

/// A stream. Dropping it ends it.
#[derive(Debug)]
pub struct Stream {
    name: String,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    /// From a tenant's namespace to another's, which has the address 10.0.0.`n`: so many a second.
    pub fn start(from: &'static str, to: &'static str, n: u8, per_second: u32) -> Stream {
        let shared = Arc::new(Shared::default());
        let bound = on_host(to, || UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        let port = bound.local_addr().expect("an address").port();
        let socket = on_host(from, || UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        let at = SocketAddr::from(([10, 0, 0, n], port));
        let (sending, receiving) = (shared.clone(), shared.clone());
        let threads = vec![
            thread::spawn(move || send(&socket, at, per_second, &sending)),
            thread::spawn(move || receive(&bound, &receiving)),
        ];
        Stream {
            name: format!("{from} to {to}"),
            shared,
            threads,
        }
    }

    /// From each of these tenants to each other one.
    pub fn mesh(tenants: &[Tenant], per_second: u32) -> Vec<(Tenant, Tenant, Stream)> {
        let pairs = tenants.iter().flat_map(|from| {
            let others = tenants.iter().filter(|to| to.n != from.n);
            others.map(move |to| (*from, *to))
        });
        pairs
            .map(|(from, to)| {
                let stream = Stream::start(from.name, to.name, to.n, per_second);
                (from, to, stream)
            })
            .collect()
    }

    fn datagrams(&self) -> Vec<Datagram> {
        self.shared.datagrams.lock().expect("no panic").clone()
    }

    /// Of those sent in this time, how many, and how many never arrived. What is under way now has
    /// a moment left.
    pub fn lost(&self, from: Instant, to: Instant) -> (usize, usize) {
        let of = |datagrams: &[Datagram]| {
            let of = || datagrams.iter().filter(|d| d.sent >= from && d.sent <= to);
            (of().count(), of().filter(|d| d.arrived.is_none()).count())
        };
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let counted = of(&self.datagrams());
            if counted.1 == 0 || Instant::now() >= deadline {
                return counted;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything that was sent from then on until now arrived, and something was.
    #[track_caller]
    pub fn whole(&self, since: Instant) {
        let (sent, lost) = self.lost(since, Instant::now());
        assert!(sent > 0, "{}: nothing was sent", self.name);
        assert_eq!(lost, 0, "{}: {lost} of {sent} lost", self.name);
    }

    /// When the first of those sent after `moment` arrived, waiting for it.
    #[track_caller]
    pub fn first_after(&self, moment: Instant, seconds: u64) -> Instant {
        wait_for(&format!("{} flows", self.name), seconds, || {
            let datagrams = self.datagrams();
            let after = datagrams.iter().filter(|d| d.sent >= moment);
            after.filter_map(|d| d.arrived).min()
        })
    }

    /// When the last of all arrived.
    pub fn last(&self) -> Option<Instant> {
        self.datagrams().iter().filter_map(|d| d.arrived).max()
    }

    /// Whether any that was sent after `moment` has arrived.
    pub fn any_after(&self, moment: Instant) -> bool {
        let datagrams = self.datagrams();
        datagrams
            .iter()
            .any(|d| d.sent >= moment && d.arrived.is_some())
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, per_second: u32, shared: &Shared) {
    let began = Instant::now();
    let pause = Duration::from_secs(1) / per_second;
    let mut bytes = [0; LENGTH];
    bytes[8..8 + SECRET.len()].copy_from_slice(SECRET);
    let mut number = 0_u64;
    while !shared.stop.load(Ordering::Relaxed) {
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let sent = Instant::now();
        // Before it leaves, so that whoever receives it finds it.
        let datagram = Datagram {
            sent,
            arrived: None,
        };
        shared.datagrams.lock().expect("no panic").push(datagram);
        socket.send_to(&bytes, to).expect("a datagram");
        number += 1;
        // What a busy machine kept from being sent in time is not made up for all at once.
        let due = began + pause * u32::try_from(number).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_duration_since(Instant::now()).max(pause / 2));
    }
}

fn receive(socket: &UdpSocket, shared: &Shared) {
    let moment = Some(Duration::from_millis(50));
    socket.set_read_timeout(moment).expect("a timeout");
    let mut bytes = [0; LENGTH + 1];
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut bytes) else {
            continue;
        };
        let arrived = Instant::now();
        assert_eq!(length, LENGTH);
        assert_eq!(&bytes[8..8 + SECRET.len()], SECRET);
        let number = u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"));
        let mut datagrams = shared.datagrams.lock().expect("no panic");
        let place = usize::try_from(number).expect("few");
        let before = datagrams[place].arrived.replace(arrived);
        assert!(before.is_none(), "{number} arrived twice");
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "{} failed", self.name);
        }
    }
}
