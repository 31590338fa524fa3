//! The safe layer over DPDK itself: EAL, pools, buffers, rings and workers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::support::{bytes, eal, eal_with, isolated, packet, pool};
use vswitch::dpdk::eal::{Eal, EalConfig, EalError, Memory};
use vswitch::dpdk::mbuf::{BURST, Burst, MAX_SEGMENTS, Mbuf, free_burst};
use vswitch::dpdk::mempool::{HEADROOM, Mempool, MempoolError};
use vswitch::dpdk::ring::{self, RingError};
use vswitch::dpdk::thread::{WorkerError, allowed_cores, spawn_worker};
use vswitch::dpdk::time::{TscClock, tsc};

#[test]
fn eal_starts_once_and_leaves_affinity_alone() {
    isolated(|| {
        let early = Mempool::create("early", 64, 2048, None, false);
        assert!(matches!(
            early,
            Err(MempoolError::Eal(EalError::NotRunning))
        ));
        let before = allowed_cores();
        let eal = eal();
        assert_eq!(allowed_cores(), before);
        assert_eq!(eal.cpus(), before);
        assert!(!eal.hugepages());
        assert!(matches!(
            Eal::init(&EalConfig::default()),
            Err(EalError::SecondStart)
        ));

        let kept = pool("kept", 64);
        drop(eal);
        let packet = kept.alloc().expect("EAL runs while a pool is left");
        let runtime = format!("/var/run/dpdk/vswitch-{}", std::process::id());
        let was_there = std::path::Path::new(&runtime).exists();
        drop((packet, kept));
        assert!(
            was_there && !std::path::Path::new(&runtime).exists(),
            "{runtime}"
        );
        let late = Mempool::create("late", 64, 2048, None, false);
        assert!(matches!(late, Err(MempoolError::Eal(EalError::NotRunning))));
    });
}

#[test]
fn eal_refuses_wrong_arguments_with_advice() {
    isolated(|| {
        let extra_args = vec!["--no-such-argument".to_owned()];
        let config = EalConfig {
            memory: Memory::NoHuge,
            extra_args,
            ..EalConfig::default()
        };
        let error = Eal::init(&config)
            .map(drop)
            .expect_err("wrong argument")
            .to_string();
        assert!(error.contains("--no-such-argument"), "{error}");
        assert!(matches!(Eal::init(&config), Err(EalError::SecondStart)));
    });
}

#[test]
fn hugepages_are_used_where_there_are_some() {
    isolated(|| {
        let huge = vswitch::dpdk::hugepages::survey();
        let enough = huge
            .iter()
            .any(|p| p.mounted && p.free * p.kib >= 128 * 1024);
        let eal = eal_with(Memory::Auto);
        assert_eq!(eal.hugepages(), enough);
        let pool = pool("auto", 1023);
        assert_eq!(pool.available(), 1023);
    });
}

#[test]
fn exhaustion_is_a_value_and_everything_returns() {
    isolated(|| {
        let _eal = eal();
        for shared_cores in [false, true] {
            let name = format!("small{shared_cores}");
            let pool = Mempool::create(&name, 1000, 2048, None, shared_cores).expect("pool");
            assert_eq!(
                (pool.capacity(), pool.available(), pool.in_use()),
                (1000, 1000, 0)
            );
            let mut held: Vec<Burst> = Vec::new();
            loop {
                let mut burst = Burst::new();
                let n = pool.alloc_burst(&mut burst, BURST);
                assert_eq!(n, burst.len());
                if n == 0 {
                    break;
                }
                held.push(burst);
            }
            // 1000 is no multiple of a burst: the rest was found as well.
            assert_eq!(held.iter().map(|b| b.len()).sum::<usize>(), 1000);
            assert!(pool.alloc().is_none());
            assert_eq!(pool.in_use(), 1000);
            held.iter_mut().for_each(free_burst);
            assert_eq!(pool.in_use(), 0);
            let packet = pool.alloc().expect("a buffer");
            assert_eq!(packet.headroom(), HEADROOM);
            assert_eq!(packet.tailroom(), 2048);
        }
    });
}

#[test]
fn pools_say_which_setting_is_wrong() {
    isolated(|| {
        let _eal = eal();
        let first = pool("same", 64);
        let again = Mempool::create("same", 64, 2048, None, true);
        assert!(
            matches!(again, Err(MempoolError::NameTaken(_))),
            "{again:?}"
        );
        let huge = Mempool::create("huge", 1_000_000, 9000, None, true);
        let text = huge
            .map(drop)
            .expect_err("128 MB are not enough")
            .to_string();
        assert!(
            text.contains("eal.memory-mb") && text.contains("1000000"),
            "{text}"
        );
        let wide = Mempool::create("wide", 64, 65_535, None, true);
        assert!(
            matches!(wide, Err(MempoolError::DataRoom { .. })),
            "{wide:?}"
        );
        let long = Mempool::create(&"x".repeat(100), 64, 2048, None, true);
        assert!(
            matches!(long, Err(MempoolError::NameTooLong(_))),
            "{long:?}"
        );

        // A pool goes with its last clone, and its name is free again; with a buffer out it
        // stays, and the buffer stays valid.
        drop(first);
        let clone = pool("same", 64).clone();
        let mut out = packet(&clone, b"still here");
        drop(clone);
        out.head_mut()[0] = b'S';
        assert_eq!(bytes(&out), b"Still here");
        let again = Mempool::create("same", 64, 2048, None, true);
        assert!(
            matches!(again, Err(MempoolError::NameTaken(_))),
            "{again:?}"
        );
    });
}

/// A packet of three segments: 1000, 500 and 1 bytes, counting up.
fn chain(pool: &Mempool) -> (Mbuf, Vec<u8>) {
    let all: Vec<u8> = (0..1501u32).map(|i| i as u8).collect();
    let mut head = packet(pool, &all[..1000]);
    for part in [&all[1000..1500], &all[1500..]] {
        head.append_segment(packet(pool, part))
            .map_err(drop)
            .expect("few segments");
    }
    (head, all)
}

#[test]
fn chains_are_whole_packets() {
    isolated(|| {
        let _eal = eal();
        let pool = pool("chains", 511);
        let (mut m, all) = chain(&pool);
        assert_eq!(
            (m.len(), m.segment_count(), m.head().len()),
            (1501, 3, 1000)
        );
        assert_eq!(bytes(&m), all);
        m.append(2).expect("room").copy_from_slice(b"zz");
        m.prepend(3).expect("room").copy_from_slice(b"abc");
        let longer: Vec<u8> = [b"abc", &all[..], b"zz"].concat();
        assert_eq!(bytes(&m), longer);
        assert_eq!(pool.in_use(), 3);
        assert!(
            m.trim_front(1004).is_err(),
            "only 1003 bytes lie in the first segment"
        );
        m.trim_front(3).expect("in the first segment");
        m.truncate(1501);
        assert_eq!(bytes(&m), all);

        let mut head = chain(&pool).0;
        head.truncate(1200);
        assert_eq!((head.len(), head.segment_count()), (1200, 2));
        assert_eq!(bytes(&head), all[..1200]);
        head.truncate(1000);
        assert_eq!((head.len(), head.segment_count()), (1000, 1));
        head.truncate(5000);
        assert_eq!(head.len(), 1000);
        head.truncate(0);
        assert_eq!((head.len(), head.segment_count()), (0, 1));
        assert!(head.is_empty() && head.is_contiguous());
        head.append(4).expect("room");
        head.truncate(0);
        drop(head);

        let mut emptied = chain(&pool).0;
        emptied.truncate(0);
        assert_eq!((emptied.len(), emptied.segment_count()), (0, 1));
        drop(emptied);
        assert_eq!(pool.in_use(), 3);
        m.linearize().expect("room");
        assert_eq!((m.segment_count(), pool.in_use()), (1, 1));
        assert_eq!(bytes(&m), all);
        drop(m);
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn chains_have_a_limit_that_loses_nothing() {
    isolated(|| {
        let _eal = eal();
        let pool = pool("limit", 511);
        let mut long = packet(&pool, &[0]);
        for i in 1..MAX_SEGMENTS {
            long.append_segment(packet(&pool, &[i as u8]))
                .map_err(drop)
                .expect("below the limit");
        }
        assert_eq!(
            (long.segment_count(), long.len()),
            (MAX_SEGMENTS, MAX_SEGMENTS)
        );
        let refused = long
            .append_segment(packet(&pool, b"back"))
            .expect_err("at the limit");
        assert_eq!(bytes(&refused), b"back");
        assert_eq!(long.segment_count(), MAX_SEGMENTS);
        drop((long, refused));
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn copies_are_deep() {
    isolated(|| {
        let _eal = eal();
        let (from, to) = (pool("from", 63), pool("to", 2));
        let (mut original, all) = chain(&from);
        original.set_mark(77);
        let mut copy = original.copy(&to).expect("a buffer");
        assert_eq!(
            (bytes(&copy), copy.mark(), copy.segment_count()),
            (all.clone(), 77, 1)
        );
        copy.head_mut().fill(0xff);
        assert_eq!(bytes(&original), all);
        drop(original);
        assert_eq!(copy.head(), vec![0xff; 1501]);

        let large = packet(&from, &[1; 2048]);
        let empty = from
            .alloc()
            .expect("a buffer")
            .copy(&to)
            .expect("the last one");
        assert!(empty.is_empty());
        assert!(large.copy(&to).is_none(), "an exhausted pool is a value");
        drop((empty, copy, large));
        assert_eq!((from.in_use(), to.in_use()), (0, 0));
    });
}

#[test]
fn a_burst_keeps_what_a_full_ring_refuses() {
    isolated(|| {
        let _eal = eal();
        let pool = pool("ring", 127);
        let (mut producer, mut consumer) = ring::channel("hand-off", 20, None).expect("ring");
        assert!(matches!(
            ring::channel("hand-off", 20, None),
            Err(RingError::NameTaken(_))
        ));
        assert_eq!(producer.capacity(), 20);
        let mut burst: Burst = (0..BURST as u8).map(|i| packet(&pool, &[i])).collect();
        assert_eq!(producer.send(&mut burst), 20);
        assert_eq!(producer.send(&mut burst), 0);
        let left: Vec<u8> = burst.iter().map(|m| m.head()[0]).collect();
        assert_eq!(left, (20..32).collect::<Vec<u8>>());
        // A burst that holds something gets only what it has room for.
        let mut more: Burst = (0..30).map(|_| packet(&pool, b"old")).collect();
        assert_eq!(consumer.receive(&mut more), 2);
        assert_eq!(
            (more[30].head(), more[31].head(), consumer.len()),
            (&[0][..], &[1][..], 18)
        );
        assert_eq!(consumer.receive(&mut more), 0);
        drop(producer);
        drop((burst, more));
        assert_eq!(pool.in_use(), 18);
        drop(consumer);
        assert_eq!(pool.in_use(), 0, "the ring's packets went back with it");
        drop(ring::channel("hand-off", 20, None).expect("the name is free again"));
    });
}

#[test]
fn two_workers_on_one_core_hand_packets_over() {
    isolated(|| {
        const PACKETS: u32 = 50_000;
        let _eal = eal();
        let pool = pool("workers", 255);
        let (mut producer, mut consumer) = ring::channel("pair", 64, None).expect("ring");
        let core = *allowed_cores().last().expect("a core");
        let refused = Arc::new(AtomicUsize::new(0));
        let (count, source) = (refused.clone(), pool.clone());
        let started = Instant::now();
        let sender = spawn_worker("sender", core, move |lcore| {
            let (mut next, mut burst) = (0u32, Burst::new());
            while next < PACKETS || !burst.is_empty() {
                let want = ((PACKETS - next) as usize).min(burst.remaining_capacity());
                let at = burst.len();
                source.alloc_burst(&mut burst, want);
                for m in &mut burst[at..] {
                    m.append(4)
                        .expect("room")
                        .copy_from_slice(&next.to_be_bytes());
                    next += 1;
                }
                producer.send(&mut burst);
                if !burst.is_empty() {
                    count.fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                }
            }
            (lcore, allowed_cores())
        });
        let receiver = spawn_worker("receiver", core, move |lcore| {
            let (mut next, mut burst) = (0u32, Burst::new());
            while next < PACKETS {
                if consumer.receive(&mut burst) == 0 {
                    std::thread::yield_now();
                }
                for m in burst.drain(..) {
                    assert_eq!(m.head(), next.to_be_bytes());
                    next += 1;
                }
            }
            lcore
        });
        let receiver = receiver.expect("receiver").join().expect("in order");
        let (sender, cores) = sender.expect("sender").join().expect("all sent");
        assert_eq!(cores, [core]);
        assert_ne!(sender.id, receiver.id);
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "they spun on one another"
        );
        assert!(
            refused.load(Ordering::Relaxed) > 0,
            "the ring was never full"
        );
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn workers_are_refused_and_panic_alone() {
    isolated(|| {
        let _eal = eal();
        let missing = spawn_worker("nowhere", 100_000, |_| ());
        assert!(matches!(
            missing,
            Err(WorkerError::Core { core: 100_000, .. })
        ));
        let core = allowed_cores()[0];
        let mut ids = Vec::new();
        for _ in 0..300 {
            // More than DPDK has lcores: each must give its own back.
            let worker = spawn_worker("short", core, |lcore| lcore.id).expect("an lcore");
            ids.push(worker.join().expect("no panic"));
        }
        assert!(ids.iter().all(|id| *id != 0 && *id < 128), "{ids:?}");
        let panics = spawn_worker("panics", core, |_| panic!("on purpose")).expect("an lcore");
        let lcore = panics.lcore();
        assert!(panics.join().is_err());
        let next = spawn_worker("next", core, |l| l)
            .expect("an lcore")
            .join()
            .expect("ends");
        assert_eq!(next, lcore, "the panic gave the lcore back");

        let (stop, stopped) = mpsc::channel::<()>();
        let held = spawn_worker("held", core, move |_| stopped.recv().is_err()).expect("lcore");
        assert!(!held.is_finished());
        drop(stop);
        assert!(held.join().expect("ends"));
    });
}

#[test]
fn the_clock_agrees_with_the_system() {
    isolated(|| {
        let _eal = eal();
        let clock = TscClock::new().expect("EAL runs");
        let (ticks, wall) = (tsc(), Instant::now());
        std::thread::sleep(Duration::from_millis(200));
        let (ticks, wall) = (clock.to_ns(tsc() - ticks), wall.elapsed().as_nanos() as u64);
        assert!(
            ticks.abs_diff(wall) < wall / 20,
            "{ticks} ns by TSC, {wall} ns by the system"
        );
    });
}
