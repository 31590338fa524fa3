//! Frontends that attack the switch itself: memory that goes away, doorbells that block,
//! messages that are none, connections without end. Each costs its own port, while the
//! neighbour goes on being served.

use std::env;
use std::fs::{self, File};
use std::io::{PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::again;
use crate::vhost_support::frontend::{AVAILABLE, DATA, FEATURES, Frontend, GUEST, MEMORY, RING};
use crate::vhost_support::{Bridge, SOON, config, eal};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::MemfdFlags;
use vswitch::dpdk::mapped::MappedCounters;
use vswitch::dpdk::vhost::{Mode, Refusal, VhostSocket};

const PACKET: u32 = 12 + 60;
const BURST: usize = 32;
/// `VHOST_F_LOG_ALL`.
const LOG_ALL: u64 = 1 << 26;

/// Numbers that look random (Marsaglia's xorshift64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

fn offer_good_packets(guest: &mut Frontend, n: usize) {
    guest.descriptor(0, GUEST + DATA, PACKET, 0, 0);
    guest.offer(&vec![0; n]);
}

/// Port 0 is the attacker's, port 1 a neighbour's who sends all the time.
struct Scene {
    bridge: Bridge,
    neighbour: Frontend,
    _sockets: [VhostSocket; 2],
    dir: tempfile::TempDir,
}

impl Scene {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (bad, good) = (dir.path().join("bad"), dir.path().join("good"));
        let mut bridge = Bridge::new(name);
        bridge.refusals = Some(Vec::new());
        let sockets = [
            bridge.socket(config(&bad, Mode::Server, 0)),
            bridge.socket(config(&good, Mode::Server, 1)),
        ];
        let neighbour = Frontend::connect(&good, false);
        neighbour.start(false);
        bridge.up(1);
        Scene {
            bridge,
            neighbour,
            _sockets: sockets,
            dir,
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("bad")
    }

    /// Every packet that the neighbour sends now is taken up, exactly once.
    fn neighbour_is_served(&mut self, what: &str) {
        let before = self.bridge.counters.received[1].load(Relaxed);
        offer_good_packets(&mut self.neighbour, BURST + 1);
        let after = before + BURST as u64 + 1;
        self.bridge
            .run_until(what, |b| b.counters.received[1].load(Relaxed) >= after);
        assert_eq!(
            self.bridge.counters.received[1].load(Relaxed),
            after,
            "{what}"
        );
    }

    /// The port takes an honest guest again, at the latest when its socket's rate admits one.
    fn port_recovers(&mut self, what: &str) {
        let after = self.bridge.counters.received[0].load(Relaxed) + BURST as u64 + 1;
        let deadline = Instant::now() + SOON;
        loop {
            assert!(Instant::now() < deadline, "{what}: no guest is let in");
            self.bridge.refusals = Some(Vec::new());
            let mut honest = Frontend::connect(&self.path(), false);
            offer_good_packets(&mut honest, BURST + 1);
            honest.start(false);
            self.bridge
                .run_until(what, |b| b.ports[0].is_some() || honest.cut_off());
            if self.bridge.ports[0].is_some() {
                self.bridge
                    .run_until(what, |b| b.counters.received[0].load(Relaxed) == after);
                drop(honest);
                return self.bridge.down(0);
            }
            sleep(Duration::from_millis(500));
        }
    }

    fn finish(self) {
        let Scene {
            bridge,
            neighbour,
            _sockets: sockets,
            ..
        } = self;
        drop(neighbour);
        drop(sockets);
        bridge.finish();
    }
}

fn memory(flags: MemfdFlags) -> Option<File> {
    let file = File::from(rustix::fs::memfd_create("guest", flags).ok()?);
    file.set_len(MEMORY).ok()?;
    Some(file)
}

fn hugepages_free() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap();
    let line = info.lines().find_map(|l| l.strip_prefix("HugePages_Free:"));
    line.map_or(0, |n| n.trim().parse().unwrap())
}

#[test]
fn a_truncated_memory_file_costs_its_port_only() {
    let _one = eal();
    let mut scene = Scene::new("truncated");
    let path = scene.path();
    let small = MemfdFlags::CLOEXEC;
    let mut kinds = vec![("pages of 4 KiB", small)];
    // Two guests of 8 MiB, one after the other.
    if hugepages_free() >= MEMORY >> 21 {
        kinds.push(("hugepages", small | MemfdFlags::HUGETLB));
    } else {
        eprintln!("SKIPPED: hugepages, of which none are free");
    }
    for (kind, flags) in kinds {
        // Under the worker, while it looks into the ring.
        let memory = memory(flags).unwrap();
        let handle = memory.try_clone().unwrap();
        let guest = Frontend::with(&path, memory, FEATURES);
        guest.start(false);
        scene.bridge.up(0);
        scene.neighbour_is_served("beside an honest guest");
        handle.set_len(0).unwrap();
        scene.bridge.refused(0, Refusal::BrokenMemory);
        scene.bridge.down(0);
        scene.neighbour_is_served(kind);
        drop(guest);
        if flags == small {
            scene.port_recovers(kind);
        }
        // A refusal of one kind is told once a second.
        sleep(Duration::from_millis(1100));
    }

    // Under the event thread, which looks into the ring before it comes into service.
    let guest = Frontend::connect(&path, false);
    guest.memory.set_len(0).unwrap();
    guest.start(false);
    scene.bridge.refused(0, Refusal::BrokenMemory);
    scene.neighbour_is_served("event thread");
    drop(guest);
    scene
        .bridge
        .run_until("nobody is left", |b| b.ports[0].is_none());
    scene.port_recovers("event thread");
    sleep(Duration::from_millis(1100));

    // The log of dirty pages instead, under the worker that notes what it wrote.
    let log = memory(small).unwrap();
    let mut guest = Frontend::with(&path, memory(small).unwrap(), FEATURES | LOG_ALL);
    let words = [MEMORY, 0].map(u64::to_le_bytes).concat();
    guest.send(6, &words, Some(log.as_fd()));
    guest.logs = true;
    guest.start(false);
    scene.bridge.up(0);
    log.set_len(0).unwrap();
    offer_good_packets(&mut guest, 3);
    scene.bridge.refused(0, Refusal::BrokenMemory);
    scene.bridge.down(0);
    scene.neighbour_is_served("log");
    drop(guest);
    scene.port_recovers("log");
    scene.finish();
}

const FAULT: &str = "VSWITCH_TEST_FAULT";

#[test]
fn a_fault_of_our_own_still_ends_the_process() {
    if let Some(dir) = env::var_os(FAULT) {
        let _one = eal();
        let bridge = Bridge::new("fault");
        let socket = bridge.socket(config(&Path::new(&dir).join("s"), Mode::Server, 0));
        let file = Path::new(&dir).join("counters");
        let (counters, _) = MappedCounters::open(&file, 4).unwrap();
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(0)
            .unwrap();
        let value = counters.load(3);
        unreachable!("read {value:?} beside {socket:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let output = again().env(FAULT, dir.path()).output().unwrap();
    // SIGBUS.
    assert_eq!(output.status.signal(), Some(7), "{output:?}");
}

fn pipe_that_is_full() -> (PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[0; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

#[test]
fn a_doorbell_that_blocks_stops_no_worker() {
    let _one = eal();
    let mut scene = Scene::new("doorbell");
    let path = scene.path();
    let (_reader, writer) = pipe_that_is_full();
    let mut guest = Frontend::connect(&path, false);
    offer_good_packets(&mut guest, 3);
    guest.start_with(false, Some(writer.as_fd()));
    scene.bridge.refused(0, Refusal::NotAnEventfd);
    scene.neighbour_is_served("a pipe");
    drop(guest);
    scene
        .bridge
        .run_until("nobody is left", |b| b.ports[0].is_none());

    // An eventfd that blocks when its counter is full, and is.
    let bell = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    let before = scene.bridge.counters.received[0].load(Relaxed);
    let mut guest = Frontend::connect(&path, false);
    offer_good_packets(&mut guest, 3);
    guest.start_with(false, Some(bell.as_fd()));
    scene
        .bridge
        .run_until("its packets are taken all the same", |b| {
            b.counters.received[0].load(Relaxed) == before + 3
        });
    scene.neighbour_is_served("a full eventfd");
    drop(guest);
    scene.bridge.down(0);
    scene.port_recovers("doorbells");
    scene.finish();
}

#[test]
fn a_log_with_an_offset_is_refused() {
    let _one = eal();
    let mut scene = Scene::new("offset");
    let path = scene.path();
    let log = memory(MemfdFlags::CLOEXEC).unwrap();
    let fds = open_files();
    let mut guest = Frontend::with(
        &path,
        memory(MemfdFlags::CLOEXEC).unwrap(),
        FEATURES | LOG_ALL,
    );
    let words = [MEMORY / 2, 4096].map(u64::to_le_bytes).concat();
    guest.send(6, &words, Some(log.as_fd()));
    scene.bridge.refused(0, Refusal::LogOffset);
    scene.bridge.run_until("cut off", |_| guest.cut_off());
    drop(guest);
    scene
        .bridge
        .run_until("its files are closed", |_| open_files() == fds);
    scene.neighbour_is_served("log with an offset");
    scene.port_recovers("log with an offset");
    scene.finish();
}

#[test]
fn rings_rewritten_while_in_use_lose_nothing() {
    let _one = eal();
    let mut scene = Scene::new("rewritten");
    let path = scene.path();
    for packed in [false, true] {
        let mut noise = Noise(0x5eed);
        let mut guest = Frontend::connect(&path, packed);
        guest.start(packed);
        scene.bridge.up(0);
        let end = Instant::now() + Duration::from_millis(700);
        while Instant::now() < end {
            for _ in 0..64 {
                let index = noise.next() as u16 % RING;
                let addr = GUEST + noise.next() % (MEMORY + MEMORY / 4);
                let len = noise.next() as u32 >> (noise.next() % 32);
                let (flags, next) = (
                    noise.next() as u16 & 0x8087,
                    noise.next() as u16 % (RING + 8),
                );
                if packed {
                    guest.descriptor(index, addr, len, index, flags | AVAILABLE);
                } else {
                    guest.descriptor(index, addr, len, flags, next);
                }
            }
            if !packed {
                guest.offer(&[noise.next() as u16 % (RING + 8)]);
            }
        }
        scene.neighbour_is_served("rings rewritten");
        drop(guest);
        scene.bridge.down(0);
        let deadline = Instant::now() + SOON;
        while scene.bridge.pools[0].in_use() != 0 {
            assert!(Instant::now() < deadline, "buffers lost");
            sleep(Duration::from_millis(1));
        }
        scene.port_recovers("rings rewritten");
    }
    scene.finish();
}

#[test]
fn nonsense_messages_cost_their_sender_only() {
    let _one = eal();
    let mut scene = Scene::new("nonsense");
    let path = scene.path();
    let mut noise = Noise(0xbad);
    let mut sent = 0;
    for round in 0..24 {
        let guest = if round % 2 == 0 {
            Frontend::connect(&path, round % 4 == 0)
        } else {
            Frontend::with(&path, memory(MemfdFlags::CLOEXEC).unwrap(), noise.next())
        };
        for _ in 0..50 {
            let request = noise.next() as u32 % 44;
            let n = noise.next() as usize % 80;
            let payload = noise.bytes(n);
            let file = noise.next().is_multiple_of(4).then(|| guest.memory.as_fd());
            guest.send(request, &payload, file);
            sent += 1;
        }
        drop(guest);
        scene.bridge.run_until("its end", |b| b.ports[0].is_none());
    }
    assert_eq!(sent, 24 * 50);
    scene.neighbour_is_served("nonsense");
    scene.port_recovers("nonsense");
    scene.finish();
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Resident memory in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_connections_leave_nothing_behind() {
    let _one = eal();
    let mut scene = Scene::new("storm");
    let path = scene.path();
    // The first few of each kind may be kept by allocators.
    for _ in 0..50 {
        drop(UnixStream::connect(&path).unwrap());
    }
    scene
        .bridge
        .run_until("all are gone", |b| b.ports[0].is_none());
    let (fds, memory) = (open_files(), resident());
    let began = Instant::now();
    for i in 0..10_000 {
        let mut stream = UnixStream::connect(&path).unwrap();
        if i % 3 == 0 {
            // GET_FEATURES; whoever is refused is hung up on.
            let _ = stream.write_all(&[1_u32, 1, 0].map(u32::to_le_bytes).concat());
        }
        drop(stream);
        if i % 1000 == 0 {
            scene.neighbour_is_served("storm");
        }
    }
    eprintln!("10,000 connections in {:?}", began.elapsed());
    scene
        .bridge
        .run_until("descriptors are closed", |_| open_files() <= fds);
    let grown = resident().saturating_sub(memory);
    assert!(grown < 4096, "{grown} KiB more");
    let refusals = scene.bridge.refusals.take().unwrap();
    assert!(refusals.contains(&(0, Refusal::TooOften)), "{refusals:?}");
    scene.port_recovers("storm");
    scene.finish();
}

#[test]
fn half_messages_again_and_again_hold_nobody_up() {
    let _one = eal();
    let mut scene = Scene::new("halves");
    let path = scene.path();
    // The neighbour's neighbour talks to the event thread, which is what the attack is on.
    let other = scene.dir.path().join("other");
    let third = scene.bridge.socket(config(&other, Mode::Server, 1));
    let mut waits = Vec::new();
    let end = Instant::now() + Duration::from_secs(4);
    let mut attempts = 0;
    let mut witness = UnixStream::connect(&other).unwrap();
    witness
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    while Instant::now() < end {
        let mut stream = UnixStream::connect(&path).unwrap();
        let _ = stream.write_all(&[2_u32, 1, 8].map(u32::to_le_bytes).concat());
        attempts += 1;
        let asked = Instant::now();
        witness
            .write_all(&[1_u32, 1, 0].map(u32::to_le_bytes).concat())
            .unwrap();
        witness.read_exact(&mut [0; 20]).unwrap();
        waits.push(asked.elapsed());
        drop(stream);
    }
    let longest = waits.iter().max().unwrap();
    let held_up: Duration = waits
        .iter()
        .filter(|w| **w > Duration::from_millis(30))
        .sum();
    eprintln!("{attempts} halves: longest wait {longest:?}, {held_up:?} in all");
    // One tenth of a second each on a machine this busy, and no more than the rate admits.
    assert!(*longest < Duration::from_millis(500), "{longest:?}");
    assert!(held_up < Duration::from_millis(2500), "{held_up:?}");
    scene.neighbour_is_served("halves");
    drop((witness, third));
    scene.finish();
}
