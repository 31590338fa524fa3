//! Ports of the safe layer, over the drivers that need no hardware.

use std::time::{Duration, Instant};

use crate::support::{bytes, eal, isolated, isolated_in_netns, packet, pool, sh};
use vswitch::dpdk::ethdev::{DeviceError, Port, PortConfig, PortError, Queues, RxQueue, TxQueue};
use vswitch::dpdk::mbuf::{BURST, Burst, Mbuf, free_burst};
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::ring_port::ring_port;

/// A port that receives everything, spread over its queues.
pub fn config(queues: u16, pools: &[Mempool]) -> PortConfig<'_> {
    PortConfig {
        rx_queues: queues,
        tx_queues: queues,
        rx_desc: 256,
        tx_desc: 256,
        mtu: None,
        rss: true,
        promiscuous: true,
        pools,
    }
}

fn start(port: &Port, pool: &Mempool) -> Queues {
    port.configure(&config(1, std::slice::from_ref(pool)))
        .expect("a port with one queue")
}

/// Frames with an Ethernet header, numbered.
fn frame(number: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![number; len];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, number]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]); // IEEE 802 local experiments
    frame
}

fn in_two_segments(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let (front, back) = bytes.split_at(bytes.len() / 2);
    let mut chain = packet(pool, front);
    chain
        .append_segment(packet(pool, back))
        .map_err(drop)
        .expect("two segments");
    chain
}

/// Receives until `n` of our frames are here; others (the kernel's) do not count.
fn collect(rx: &mut RxQueue, n: usize) -> Vec<Vec<u8>> {
    collect_for(rx, n, Duration::from_secs(5))
}

fn collect_for(rx: &mut RxQueue, n: usize, time: Duration) -> Vec<Vec<u8>> {
    let (mut got, start) = (Vec::new(), Instant::now());
    while got.len() < n && start.elapsed() < time {
        let mut burst = Burst::new();
        if rx.receive(&mut burst) == 0 {
            std::thread::yield_now();
        }
        got.extend(
            burst
                .iter()
                .map(bytes)
                .filter(|b| b.get(12..14) == Some(&[0x88, 0xb5])),
        );
    }
    got
}

/// Sends one plain and one chained frame and sees both arrive whole.
fn exchange(pool: &Mempool, tx: &mut TxQueue, rx: &mut RxQueue) {
    let frames = [frame(1, 60), frame(2, 1200)];
    let mut chain = in_two_segments(pool, &frames[1]);
    let mut burst = Burst::new();
    if !tx.accepts_chains() {
        let mut refused = Burst::from_iter([chain]);
        assert_eq!(
            tx.send(&mut refused),
            0,
            "a chain is never given to such a driver"
        );
        chain = refused.pop().expect("still in the burst");
        chain.linearize().expect("room");
    }
    burst.push(packet(pool, &frames[0]));
    burst.push(chain);
    assert_eq!(tx.send(&mut burst), 2);
    assert_eq!(collect(rx, 2), frames);
}

#[test]
fn ring_port_passes_bursts_both_ways_on_every_queue() {
    isolated(|| {
        let _eal = eal();
        let pool = pool("p", 511);
        let (port, mut wire) = ring_port("r0", 2, 64, None).expect("port");
        assert_eq!(port.driver(), "net_ring");
        let mut queues = port
            .configure(&config(2, &[pool.clone(), pool.clone()]))
            .expect("start");
        assert!(!queues.settings.rss, "rings have no RSS");
        assert!(port.link().expect("link").up);
        for q in 0..2 {
            let mut burst: Burst = (0..BURST as u8)
                .map(|i| packet(&pool, &frame(i, 64)))
                .collect();
            assert_eq!(wire.to_port[q].send(&mut burst), BURST);
            assert_eq!(queues.rx[1 - q].receive(&mut burst), 0);
            assert_eq!(queues.rx[q].receive(&mut burst), BURST);
            let sent = queues.tx[q].send(&mut burst);
            assert_eq!((sent, burst.len()), (BURST, 0));
            assert_eq!(wire.from_port[q].receive(&mut burst), BURST);
            let got: Vec<_> = burst.iter().map(bytes).collect();
            assert_eq!(
                got,
                (0..BURST as u8).map(|i| frame(i, 64)).collect::<Vec<_>>()
            );
        }
        let stats = port.stats().expect("stats");
        assert_eq!(
            (stats.rx_packets, stats.tx_packets),
            (2 * BURST as u64, 2 * BURST as u64)
        );
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn what_a_port_refuses_stays_in_the_burst() {
    isolated(|| {
        let _eal = eal();
        let pool = pool("p", 511);
        let (port, mut wire) = ring_port("r0", 1, 10, None).expect("port");
        let mut queues = start(&port, &pool);
        let tx = &mut queues.tx[0];
        let mut burst: Burst = (0..BURST as u8).map(|i| packet(&pool, &[i])).collect();
        assert_eq!(tx.send(&mut burst), 10);
        assert_eq!(tx.send(&mut burst), 0);
        assert_eq!(
            burst.iter().map(|m| m.head()[0]).collect::<Vec<_>>(),
            (10..32).collect::<Vec<_>>()
        );
        let mut out = Burst::new();
        assert_eq!(wire.from_port[0].receive(&mut out), 10);
        free_burst(&mut out);
        assert_eq!(
            tx.send(&mut burst),
            10,
            "after room was made it goes on in order"
        );
        wire.from_port[0].receive(&mut out);
        assert_eq!(out[0].head(), [10]);
        free_burst(&mut burst);
        drop(out);
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn a_port_lives_as_long_as_its_queues() {
    isolated(|| {
        let _eal = eal();
        let pool = pool("p", 511);
        let port = Port::open("net_null0,size=100").expect("port");
        assert!(matches!(
            Port::open("net_null0"),
            Err(PortError::Device(DeviceError::InUse(name))) if name == "net_null0"
        ));
        let mut queues = start(&port, &pool);
        let again = port.configure(&config(1, std::slice::from_ref(&pool)));
        assert!(matches!(again, Err(PortError::Configured(_))));
        drop((port, pool.clone()));
        let mut burst = Burst::new();
        assert_eq!(queues.rx[0].receive(&mut burst), BURST, "still running");
        assert!(burst.iter().all(|m| m.len() == 100));
        assert_eq!(queues.tx[0].send(&mut burst), BURST);
        let rx = queues.rx.pop();
        drop(queues);
        assert!(Port::open("net_null0").is_err(), "a queue is left");
        drop(rx);
        let port = Port::open("net_null0,no-rx=1").expect("the device was removed and is back");
        let mut queues = start(&port, &pool);
        assert_eq!(queues.rx[0].receive(&mut burst), 0);
        burst.push(in_two_segments(&pool, &frame(1, 100)));
        assert_eq!(queues.tx[0].send(&mut burst), 1);
        drop((port, queues));
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn pcap_files_come_out_as_they_went_in() {
    isolated(|| {
        let _eal = eal();
        let pool = pool("p", 511);
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("frames.pcap");
        let file = file.to_str().expect("a path of ours");
        let frames: Vec<Vec<u8>> = (1..=40)
            .map(|i| frame(i, 60 + usize::from(i) * 40))
            .collect();
        {
            let port = Port::open(&format!("net_pcap0,tx_pcap={file}")).expect("port");
            let mut queues = start(&port, &pool);
            assert!(queues.tx[0].accepts_chains());
            for some in frames.chunks(BURST) {
                let mut burst: Burst = some.iter().map(|f| in_two_segments(&pool, f)).collect();
                assert_eq!(queues.tx[0].send(&mut burst), some.len());
            }
        }
        let port = Port::open(&format!("net_pcap1,rx_pcap={file}")).expect("port");
        let mut queues = start(&port, &pool);
        assert_eq!(collect(&mut queues.rx[0], 40), frames);
        drop((port, queues));
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn refusals_name_the_port_and_the_limit() {
    isolated(|| {
        let _eal = eal();
        let pool = pool("p", 255);
        let text = |r: Result<Queues, PortError>| r.map(drop).expect_err("refused").to_string();
        let unknown = Port::open("net_nonsense0")
            .map(drop)
            .expect_err("no driver")
            .to_string();
        assert!(unknown.contains("net_nonsense0"), "{unknown}");
        let nul = Port::open("net_null0\0").map(drop);
        assert!(matches!(
            nul,
            Err(PortError::Device(DeviceError::Argument(_)))
        ));

        let (port, _wire) = ring_port("r0", 1, 16, None).expect("port");
        let pools = [pool.clone()];
        let limit = port.caps().max_rx_queues;
        let many = text(port.configure(&config(limit + 1, &pools)));
        assert!(
            many.starts_with("r0: ") && many.contains(&format!("driver's {limit}")),
            "{many}"
        );
        let tiny = PortConfig {
            mtu: Some(10),
            ..config(1, &pools)
        };
        let tiny = text(port.configure(&tiny));
        assert!(tiny.contains("MTU 10 is below"), "{tiny}");
        let pools = [pool.clone(), pool.clone(), pool.clone()];
        let unmatched = port.configure(&config(1, &pools));
        assert!(matches!(
            unmatched,
            Err(PortError::Pools {
                pools: 3,
                queues: 1,
                ..
            })
        ));
        assert_eq!(
            port.configure(&config(1, &pools[..1]))
                .expect("after all that")
                .rx
                .len(),
            1
        );
    });
}

#[test]
fn memif_joins_two_ports() {
    isolated(|| {
        let _eal = eal();
        let pool = pool("p", 2047);
        let dir = tempfile::tempdir().expect("directory");
        let socket = dir.path().join("memif.sock");
        let args = format!("id=0,socket={},socket-abstract=no", socket.display());
        let server = Port::open(&format!("net_memif0,role=server,{args}")).expect("server");
        let jumbo = PortConfig {
            mtu: Some(9000),
            ..config(1, std::slice::from_ref(&pool))
        };
        let mut a = server.configure(&jumbo).expect("start");
        let client = Port::open(&format!("net_memif1,role=client,{args}")).expect("client");
        let mut b = client.configure(&jumbo).expect("start");
        let start = Instant::now();
        while !(server.link().expect("link").up && client.link().expect("link").up) {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "the link stays down"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        // A memif sends into buffers that the other side offers when it polls.
        assert_eq!(
            collect_for(&mut b.rx[0], 1, Duration::from_millis(1)).len(),
            0
        );
        exchange(&pool, &mut a.tx[0], &mut b.rx[0]);
        exchange(&pool, &mut b.tx[0], &mut a.rx[0]);
        assert_eq!((a.settings.mtu, server.mtu().expect("MTU")), (9000, 9000));
        let jumbo: Vec<u8> = (0..9014u32).map(|i| (i / 7) as u8).collect();
        let jumbo = [&frame(3, 14)[..], &jumbo[14..]].concat();
        for (tx, rx) in [(&mut a.tx[0], &mut b.rx[0]), (&mut b.tx[0], &mut a.rx[0])] {
            let mut parts = jumbo.chunks(2048).map(|part| packet(&pool, part));
            let mut chain = parts.next().expect("five of them");
            parts.for_each(|p| chain.append_segment(p).map_err(drop).expect("few segments"));
            assert_eq!(tx.send(&mut Burst::from_iter([chain])), 1);
            assert_eq!(collect(rx, 1), std::slice::from_ref(&jumbo));
        }
        drop((server, client, a, b));
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn packet_sockets_join_two_ports_over_veth() {
    isolated_in_netns(|| {
        veth();
        let _eal = eal();
        let pool = pool("p", 2047);
        let a = Port::open("net_af_packet0,iface=va").expect("port");
        let b = Port::open("net_af_packet1,iface=vb").expect("port");
        assert_eq!(a.mac().expect("MAC"), [2, 0, 0, 0, 0, 0xa]);
        let (mut qa, mut qb) = (start(&a, &pool), start(&b, &pool));
        exchange(&pool, &mut qa.tx[0], &mut qb.rx[0]);
        exchange(&pool, &mut qb.tx[0], &mut qa.rx[0]);
        drop((a, b, qa, qb));
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn packet_sockets_carry_jumbo_frames() {
    isolated_in_netns(|| {
        veth();
        sh("ip link set va mtu 9000 && ip link set vb mtu 9000");
        let _eal = eal();
        let pool = Mempool::create("p", 511, 16384, None, true).expect("pool");
        let args = "blocksz=16384,framesz=16384,framecnt=64";
        let a = Port::open(&format!("net_af_packet0,iface=va,{args}")).expect("port");
        let b = Port::open(&format!("net_af_packet1,iface=vb,{args}")).expect("port");
        let jumbo = PortConfig {
            mtu: Some(9000),
            ..config(1, std::slice::from_ref(&pool))
        };
        let mut qa = a.configure(&jumbo).expect("start");
        let mut qb = b.configure(&jumbo).expect("start");
        assert_eq!((qa.settings.mtu, a.mtu().expect("MTU")), (9000, 9000));
        let frame = frame(9, 9014);
        let mut burst = Burst::from_iter([in_two_segments(&pool, &frame)]);
        assert_eq!(qa.tx[0].send(&mut burst), 1);
        assert_eq!(collect(&mut qb.rx[0], 1), [frame]);
    });
}

#[test]
fn af_xdp_joins_two_ports_over_veth() {
    isolated_in_netns(|| {
        veth();
        let _eal = eal();
        let pool = pool("p", 16383);
        let a = Port::open("net_af_xdp0,iface=va").expect("port");
        let b = Port::open("net_af_xdp1,iface=vb").expect("port");
        let limit = a.caps().max_mtu;
        let jumbo = PortConfig {
            mtu: Some(9000),
            ..config(1, std::slice::from_ref(&pool))
        };
        let refused = a
            .configure(&jumbo)
            .map(drop)
            .expect_err("too large")
            .to_string();
        assert_eq!(
            refused,
            format!("net_af_xdp0: MTU 9000 exceeds the driver's {limit}")
        );
        let (mut qa, mut qb) = (start(&a, &pool), start(&b, &pool));
        exchange(&pool, &mut qa.tx[0], &mut qb.rx[0]);
        exchange(&pool, &mut qb.tx[0], &mut qa.rx[0]);
    });
}

#[test]
fn a_tap_has_the_mac_and_mtu_it_was_given() {
    isolated_in_netns(|| {
        let _eal = eal();
        let pool = pool("p", 2047);
        let port = Port::open("net_tap0,iface=t0").expect("port");
        let with_mtu = PortConfig {
            mtu: Some(1400),
            ..config(1, std::slice::from_ref(&pool))
        };
        let queues = port.configure(&with_mtu).expect("start");
        port.set_mac([2, 0, 0, 0, 0, 0x77]).expect("MAC");
        assert_eq!(port.mac().expect("MAC"), [2, 0, 0, 0, 0, 0x77]);
        assert_eq!(
            (queues.settings.mtu, port.mtu().expect("MTU")),
            (1400, 1400)
        );
        sh("ip link show t0 | grep -q 'mtu 1400' && ip link show t0 | grep -q 02:00:00:00:00:77");
        drop((port, queues));
        sh("! ip link show t0 2>/dev/null");
        assert_eq!(pool.in_use(), 0);
    });
}

fn veth() {
    sh(
        "sysctl -qw net.ipv6.conf.default.disable_ipv6=1 2>/dev/null || true
        ip link add va address 02:00:00:00:00:0a type veth peer name vb address 02:00:00:00:00:0b
        ip link set va up && ip link set vb up",
    );
}
