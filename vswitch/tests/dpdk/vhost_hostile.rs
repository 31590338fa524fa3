//! Guests whose rings hold nonsense: each costs its own port only, and no buffer is lost.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::vhost_support::frontend::{
    AVAILABLE, DATA, Frontend, GUEST, INDIRECT, MEMORY, NEXT, RING, descriptor,
};
use crate::vhost_support::{Bridge, SOON, config, eal};
use vswitch::dpdk::vhost::Mode;

/// Virtio's header of a packet, and a small frame.
const PACKET: u32 = 12 + 60;
/// Bytes that are nobody's.
const NOWHERE: u64 = GUEST + MEMORY + (1 << 30);
const BURST: usize = 32;
/// How long a guest goes on; a burst lost each time would empty a pool at once.
const ATTACK: Duration = Duration::from_millis(300);

fn good_packets(guest: &mut Frontend, n: usize) {
    guest.descriptor(0, GUEST + DATA, PACKET, 0, 0);
    guest.offer(&vec![0; n]);
}

/// Connects, lets `attack` write the rings, then again and again what `again` says.
fn assault(
    bridge: &mut Bridge,
    path: &Path,
    what: &str,
    packed: bool,
    attack: impl Fn(&mut Frontend),
) {
    let before = bridge.counters.received[0].load(Relaxed);
    let mut guest = Frontend::connect(path, packed);
    attack(&mut guest);
    guest.start(packed);
    bridge.up(0);
    let end = Instant::now() + ATTACK;
    while Instant::now() < end {
        // No more than the ring holds at once.
        if !packed && guest.offered().wrapping_sub(guest.used()) < RING - 2 * BURST as u16 {
            attack(&mut guest);
        }
        sleep(Duration::from_millis(1));
    }
    let given_back = guest.used();
    drop(guest);
    bridge.down(0);
    let received = bridge.counters.received[0].load(Relaxed) - before;
    eprintln!("{what}: {received} packets received, {given_back} chains given back");
    // The worker is done with a burst soon after.
    let deadline = Instant::now() + SOON;
    while bridge.pools[0].in_use() != 0 {
        assert!(
            Instant::now() < deadline,
            "{what}: {} buffers lost",
            bridge.pools[0].in_use()
        );
        sleep(Duration::from_millis(1));
    }
    assert_eq!(bridge.pools[1].in_use(), 0, "{what}: not the neighbour's");

    // The next guest of the port finds it as it should be.
    let before = bridge.counters.received[0].load(Relaxed);
    let mut honest = Frontend::connect(path, false);
    good_packets(&mut honest, BURST + 1);
    honest.start(false);
    bridge.run_until(what, |b| {
        b.counters.received[0].load(Relaxed) == before + BURST as u64 + 1
    });
    drop(honest);
    bridge.down(0);
}

/// A name and what a frontend does.
type Attack<'a> = (&'a str, &'a dyn Fn(&mut Frontend));

#[test]
fn nonsense_in_the_rings_loses_no_buffers() {
    let _one = eal();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("evil");
    let mut bridge = Bridge::new("evil");
    let socket = bridge.socket(config(&path, Mode::Server, 0));
    let split: [Attack<'_>; 8] = [
        ("a head outside of the ring", &|guest| {
            guest.offer(&[0xffff; BURST]);
        }),
        ("good packets, then a head outside of the ring", &|guest| {
            good_packets(guest, 3);
            guest.offer(&[RING; BURST]);
        }),
        ("a buffer outside of the memory", &|guest| {
            guest.descriptor(0, NOWHERE, PACKET, 0, 0);
            guest.offer(&[0; BURST]);
        }),
        ("a buffer that runs out of the memory", &|guest| {
            guest.descriptor(0, GUEST + MEMORY - 100, 200, 0, 0);
            guest.offer(&[0; BURST]);
        }),
        ("a chain that is a ring", &|guest| {
            guest.descriptor(0, GUEST + DATA, PACKET, NEXT, 0);
            guest.offer(&[0; BURST]);
        }),
        ("packets shorter than their header", &|guest| {
            guest.descriptor(0, GUEST + DATA, 4, 0, 0);
            guest.offer(&[0; BURST]);
        }),
        ("an indirect table outside of the memory", &|guest| {
            guest.descriptor(0, NOWHERE, 64, INDIRECT, 0);
            guest.write(DATA, &descriptor(NOWHERE, PACKET, 0, 0));
            guest.descriptor(1, GUEST + DATA, 16, INDIRECT, 0);
            guest.offer(&[1; BURST]);
            guest.offer(&[0; BURST]);
        }),
        ("chains longer than the pool", &|guest| {
            for i in 0..RING / 2 {
                let flags = if i + 1 < RING / 2 { NEXT } else { 0 };
                guest.descriptor(i, GUEST + DATA, (MEMORY - DATA) as u32, flags, i + 1);
            }
            guest.offer(&[0; BURST]);
        }),
    ];
    for (what, attack) in split {
        assault(&mut bridge, &path, what, false, attack);
    }
    let packed: [(&str, u64, u32); 3] = [
        ("packed: a buffer outside of the memory", NOWHERE, PACKET),
        ("packed: packets shorter than their header", GUEST + DATA, 4),
        (
            "packed: packets longer than the pool",
            GUEST + DATA,
            7 << 20,
        ),
    ];
    for (what, addr, len) in packed {
        assault(&mut bridge, &path, what, true, |guest| {
            for i in 0..RING {
                // A packed ring has the id before the flags.
                guest.descriptor(i, addr, len, i, AVAILABLE);
            }
        });
    }
    drop(socket);
    bridge.finish();
}
