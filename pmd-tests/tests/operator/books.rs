//! The books balance whenever they are asked for, under load too, and what is counted of ports,
//! networks, tunnels, peers and SAs agrees with the verdicts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pmd_tests::changes::check_books;
use pmd_tests::frames::{BROADCAST, Mac, ethernet, mac, pattern, tagged};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};
use pmd_tests::wire::Sa;
use vswitch::datapath::counters::Counters;
use vswitch::datapath::handoff::{Handoff, Work};
use vswitch::datapath::ledger::Ledger;
use vswitch::datapath::outlet::Note;
use vswitch::datapath::probe::NoProbe;
use vswitch::datapath::verdict::Verdict;
use vswitch::dpdk::eal::{Eal, EalConfig, Memory};
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::ring;
use vswitch::manage::status::{Status, Traffic};
use vswitch_vn::{PortId, TunnelId};

/// At least so long, and until every kind of drop has been seen.
const LOAD: Duration = Duration::from_secs(3);
/// At most so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Drops that must be among those that were seen.
const KINDS: [&str; 17] = [
    "spoofed-mac",
    "unknown-unicast",
    "same-port",
    "link-local-group",
    "bum-rate",
    "too-big",
    "malformed",
    "unexpected-vlan",
    "unknown-spi",
    "wrong-peer",
    "replayed",
    "auth-failed",
    "wrong-vni",
    "spoofed-remote",
    "not-for-us",
    "underlay-tx-full",
    "vlan-tx-full",
];

/// Drops of ESP packets whose SA is known: charged to the underlay port and to the tunnel.
const OF_SA: [&str; 5] = [
    "replayed",
    "too-old",
    "auth-failed",
    "wrong-vni",
    "wrong-peer",
];

fn count(status: &Status, verdict: &str) -> u64 {
    let workers = status.workers.iter();
    workers.filter_map(|w| w.verdicts.get(verdict)).sum()
}

fn sum<'a>(of: impl Iterator<Item = &'a Traffic>) -> Traffic {
    let mut sum = Traffic::default();
    of.for_each(|traffic| sum.add(traffic));
    sum
}

/// What must be so in every report, packets under way or not: each line compares counters
/// that one worker moves between the same two burst boundaries.
fn agree(status: &Status) {
    check_books(status);
    let all = sum(status.ports.iter().map(|p| &p.traffic));
    let of = |kind: &str| {
        let ports = status.ports.iter().filter(|p| p.kind == kind);
        sum(ports.map(|p| &p.traffic))
    };
    let (vlans, underlays) = (of("vlan"), of("underlay"));
    let vns = sum(status.vns.iter().map(|v| &v.traffic));
    let tunnels = sum(status.tunnels.iter().map(|t| &t.traffic));
    let received: u64 = status.workers.iter().map(|w| w.received).sum();
    let n = |verdict| count(status, verdict);

    // A tag that nobody attached belongs to no port.
    assert_eq!(received, all.rx_packets + n("unexpected-vlan"), "received");
    assert_eq!(n("to-vlan"), vlans.tx_packets, "to VLANs");
    assert_eq!(n("to-underlay"), underlays.tx_packets, "to the underlay");
    assert_eq!(n("to-underlay"), tunnels.tx_packets, "into tunnels");
    assert_eq!(
        tunnels.rx_packets,
        vns.tx_packets + n("spoofed-remote"),
        "out of tunnels"
    );

    let inbound = || status.sas.iter().filter(|sa| sa.direction == "inbound");
    let accepted: u64 = inbound().map(|sa| sa.packets).sum();
    assert_eq!(
        accepted,
        tunnels.rx_packets + n("wrong-vni"),
        "accepted by SAs"
    );
    let replayed: u64 = inbound().map(|sa| sa.replayed).sum();
    assert_eq!(replayed, n("replayed") + n("too-old"), "replayed");
    let forged: u64 = inbound().map(|sa| sa.auth_failed).sum();
    assert_eq!(forged, n("auth-failed"), "forged");

    // Every drop is charged once; to the tunnel as well if the underlay port is charged for it.
    let handed: u64 = status
        .workers
        .iter()
        .filter(|w| w.id == 1)
        .filter_map(|w| w.verdicts.get("handoff-full"))
        .sum();
    let twice: u64 = OF_SA.map(n).iter().sum::<u64>() + n("underlay-tx-full") + handed;
    let dropped: u64 = status.workers.iter().map(|w| w.dropped).sum();
    let charged = all.rx_dropped + all.tx_dropped + tunnels.rx_dropped + tunnels.tx_dropped;
    assert_eq!(
        charged,
        dropped + twice - n("unexpected-vlan"),
        "drops: {status:#?}"
    );

    for peer in &status.peers {
        let own = status.tunnels.iter().filter(|t| t.peer == peer.name);
        assert_eq!(peer.traffic, sum(own.map(|t| &t.traffic)), "{}", peer.name);
        let sas = status.sas.iter().filter(|sa| sa.peer == peer.name);
        assert_eq!(peer.replayed, sas.map(|sa| sa.replayed).sum::<u64>());
    }
    for latency in &status.latency {
        let all = latency.buckets.last().expect("buckets").samples;
        assert_eq!(all, latency.total.samples, "{latency:?}");
        assert!(
            latency.recent.samples <= latency.total.samples,
            "{latency:?}"
        );
    }
}

/// Everything that tenants may do wrong, and some that is right.
fn from_vlans() -> Vec<Vec<u8>> {
    let group: Mac = [0x01, 0x80, 0xc2, 0, 0, 0];
    let mut frames = Vec::new();
    for i in 0..20 {
        frames.extend([
            tagged(101, &pattern(mac(2), mac(1), i, 200)),
            tagged(103, &pattern(mac(2), mac(3), i, 300)),
            tagged(101, &pattern(mac(3), mac(1), i, 120)),
            tagged(103, &pattern(mac(1), mac(3), i, 90)),
        ]);
    }
    frames.extend([
        tagged(101, &pattern(mac(3), mac(2), 0, 100)),
        tagged(101, &pattern(mac(9), mac(1), 0, 100)),
        tagged(101, &pattern(mac(1), mac(1), 0, 100)),
        tagged(101, &pattern(group, mac(1), 0, 100)),
        tagged(101, &pattern(mac(2), mac(1), 0, 1510)),
        // An IPv4 header that does not fit.
        tagged(101, &ethernet(mac(2), mac(1), 0x0800, &[0x45, 0, 1])),
        tagged(999, &pattern(mac(2), mac(1), 0, 100)),
        tagged(101, &pattern(BROADCAST, mac(1), 0, 150)),
        tagged(103, &pattern(BROADCAST, mac(3), 0, 150)),
    ]);
    frames
}

/// Good packets of `b`, in order of their numbers, with all that may be wrong in between.
fn from_peers(rig: &Rig) -> Vec<Vec<u8>> {
    let good = |seq: u64| rig.sealed("blue", "b", seq, &pattern(mac(1), mac(2), seq as u8, 160));
    let sa = rig.setup.inbound("blue", "b");
    let overlay = rig.overlay("blue", "b", &pattern(mac(3), mac(2), 0, 100));
    let esp = |seq, payload: &[u8]| rig.from("b").packet(&sa.seal(seq, payload));
    let mut packets = Vec::new();
    for seq in (1..2000).step_by(4) {
        packets.extend([good(seq), good(seq + 1)]);
        let broken = match seq % 28 {
            1 => good(seq),
            5 => {
                let mut packet = good(seq + 2);
                let last = packet.len() - 1;
                packet[last] ^= 1;
                packet
            }
            9 => {
                let vni = rig.setup.vn("blue").vni + 1;
                let peer = rig.setup.peer_named("b");
                let frame = pattern(mac(1), mac(2), 0, 80);
                esp(seq + 2, &peer.encapsulation.datagram(vni, &frame))
            }
            13 => {
                let unknown = Sa {
                    spi: 0x7777,
                    ..sa.clone()
                };
                rig.from("b").packet(&unknown.seal(1, &overlay))
            }
            17 => rig.sealed("blue", "b", seq + 2, &pattern(mac(1), mac(4), 0, 80)),
            21 => rig.from("c").packet(&sa.seal(seq + 2, &overlay)),
            _ => {
                let mut packet = good(seq + 2);
                packet[5] ^= 0x40;
                packet
            }
        };
        packets.push(broken);
    }
    packets
}

/// Lets the one who asks end, also if the test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_books_balance_whenever_they_are_asked_for() {
    isolated(|| {
        let mut blue = Vn::blue();
        blue.ports[0].bum_rate = 50;
        let setup = Setup::with_c();
        let setup = Setup {
            // Worker 0 has the queues, 1 seals, 2 opens: everything is handed over twice.
            workers: 3,
            outbound_worker: 1,
            inbound_worker: 2,
            vns: vec![Vn {
                ports: blue.ports,
                ..setup.vns[0].clone()
            }],
            ..setup
        };
        let mut rig = Rig::start(setup);
        let (mine, theirs) = (from_vlans(), from_peers(&rig));
        let handle = rig.handle();
        let stop = AtomicBool::new(false);
        let reports = thread::scope(|scope| {
            let asker = scope.spawn(|| {
                let mut reports = 0;
                while !stop.load(Ordering::Relaxed) {
                    agree(&handle.status_blocking(PATIENCE).expect("a report"));
                    reports += 1;
                }
                reports
            });
            let ending = Ending(&stop);
            let began = Instant::now();
            let (mut round, mut sent) = (0, 0);
            loop {
                rig.offer_trunk(&mine);
                sent += rig.offer_underlay(&theirs[sent % theirs.len()..]);
                round += 1;
                // One of the two ports is emptied, the other gets full; then the reverse.
                if round / 128 % 2 == 0 {
                    rig.discard_trunk();
                } else {
                    rig.discard_underlay();
                }
                if round % 64 == 0 {
                    let seen = rig.status();
                    let missing = KINDS.iter().find(|kind| count(&seen, kind) == 0);
                    match missing {
                        None if began.elapsed() > LOAD => break,
                        Some(kind) if began.elapsed() > PATIENCE => panic!("no {kind}"),
                        _ => {}
                    }
                }
                assert!(!asker.is_finished(), "the reports were not right");
            }
            drop(ending);
            asker.join().expect("all reports were right")
        });
        rig.settle();
        let last = rig.status();
        agree(&last);
        // Nothing is under way: also what goes from worker to worker adds up.
        let sealed: u64 = last
            .sas
            .iter()
            .filter(|sa| sa.direction == "outbound")
            .map(|sa| sa.packets)
            .sum();
        let lost = last.workers[1].verdicts.get("handoff-full");
        let underlay = count(&last, "to-underlay") + count(&last, "underlay-tx-full");
        assert_eq!(sealed, underlay + lost.copied().unwrap_or(0), "sealed");
        assert!(reports > 20, "{reports} reports");
        let followed = |direction: &str| {
            let found = last.latency.iter().find(|l| l.direction == direction);
            found.expect(direction).total
        };
        for direction in ["vlan-to-underlay", "underlay-to-vlan", "vlan-to-vlan"] {
            let found = followed(direction);
            assert!(found.samples > 0 && found.p50 > 0, "{direction}: {found:?}");
            assert!(
                found.p50 <= found.p99 && found.p99 <= found.max,
                "{found:?}"
            );
        }
        assert_eq!(followed("tenant-to-underlay").samples, 0);
        rig.stop();
    });
}

#[test]
fn what_a_full_ring_refuses_is_charged_to_whom_it_was_for() {
    isolated(|| {
        let _eal = Eal::init(&EalConfig {
            memory: Memory::NoHuge,
            memory_mb: 64,
            ..EalConfig::default()
        })
        .expect("EAL");
        let pool = Mempool::create("charged", 256, 2048, None, false).expect("pool");
        let (to, mut from) = ring::channel("charged", 2, None).expect("ring");
        let mut handoff = Handoff::new(vec![None, Some(to)], Vec::new());
        let mut counters = Counters::default();
        for table in [
            &mut counters.ports,
            &mut counters.tunnels,
            &mut counters.underlays,
            &mut counters.taps,
        ] {
            table.reserve(3);
        }
        let mut counters = Ledger::new(counters, NoProbe);
        let packet = || pool.alloc().expect("a buffer");
        let mut noted = packet();
        Note::tunnel(TunnelId(2), 64).put(&mut noted);
        // Two fit; of the others each kind of work once.
        for work in [Work::Deliver(PortId(0)), Work::Deliver(PortId(0))] {
            handoff.send(1, work, packet(), &mut counters);
        }
        handoff.send(1, Work::Deliver(PortId(1)), packet(), &mut counters);
        handoff.send(1, Work::Encapsulate(TunnelId(1)), packet(), &mut counters);
        handoff.send(1, Work::Open(1), packet(), &mut counters);
        handoff.send(1, Work::Kernel(1), packet(), &mut counters);
        handoff.send(1, Work::Transmit(2), noted, &mut counters);
        handoff.flush(&mut counters);

        let verdicts: BTreeMap<_, _> = counters
            .verdicts
            .iter()
            .map(|(v, n)| (v.name(), n))
            .collect();
        let expected = [
            (Verdict::HandedOut.name(), 2),
            (Verdict::HandoffFull.name(), 5),
        ];
        assert_eq!(verdicts, BTreeMap::from(expected));
        let drops = |table: &vswitch::datapath::counters::TrafficTable| -> Vec<(u64, u64)> {
            let entries = table.entries().iter();
            entries.map(|t| (t.rx_dropped, t.tx_dropped)).collect()
        };
        assert_eq!(drops(&counters.ports), [(0, 0), (0, 1), (0, 0), (0, 0)]);
        assert_eq!(drops(&counters.tunnels), [(0, 0), (0, 1), (0, 1), (0, 0)]);
        assert_eq!(drops(&counters.underlays), [(0, 0), (1, 0), (0, 1), (0, 0)]);
        assert_eq!(drops(&counters.taps), [(0, 0), (0, 1), (0, 0), (0, 0)]);
        let mut burst = vswitch::dpdk::mbuf::Burst::new();
        assert_eq!(from.receive(&mut burst), 2);
        drop(burst);
        assert_eq!(pool.in_use(), 0);
    });
}
