//! testpmd on both sides of an edge: as the tenant, who sends every frame back, and as the
//! other end of the underlay, which plays packets of a capture and records what returns. In
//! the clear and protected, each packet counted at every station.
//!
//! Independent here: DPDK's virtio-user, memif and pcap drivers and testpmd's MAC swapping.
//! The packets themselves are sealed and opened with `wire`.

use std::path::Path;

use pmd_tests::changes::{Changes, rx};
use pmd_tests::daemon::Daemon;
use pmd_tests::frames::{mac, pattern};
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{DIR, wait_for};
use pmd_tests::pcap;
use pmd_tests::peering::{Network, Peering};
use pmd_tests::testpmd::{PortStats, Testpmd};
use pmd_tests::wire::{Algorithm, ESP_PORT, Encapsulation, Outer};

const EDGE: &str = "02:00:00:00:00:01";
const PEER: &str = "02:00:00:00:00:02";
/// Of each network: no more than a virtio ring holds, so that nobody need be quick.
const PACKETS: u64 = 200;

fn networks() -> Vec<Network> {
    let network = |name, vni, peer: &str, encapsulation, protection| Network {
        name,
        vni,
        peer: peer.parse().expect("an address"),
        encapsulation,
        protection,
    };
    let gcm = Some((Algorithm::Gcm256, true));
    vec![
        network("sealed", 1001, "192.0.2.2", Encapsulation::Geneve, gcm),
        network("clear", 1002, "192.0.2.3", Encapsulation::Vxlan, None),
    ]
}

/// The `i`-th frame for a tenant, and what he makes of it.
fn frames(i: u64) -> (Vec<u8>, Vec<u8>) {
    let len = 60 + (i as usize * 7) % 1200;
    let frame = |dst, src| pattern(dst, src, i as u8, len);
    (frame(mac(1), mac(2)), frame(mac(2), mac(1)))
}

fn outer(network: &Network, sport: u16, dport: u16) -> Outer {
    Outer {
        src_mac: [2, 0, 0, 0, 0, 2],
        dst_mac: [2, 0, 0, 0, 0, 1],
        src: network.peer,
        dst: [192, 0, 2, 1].into(),
        sport,
        dport,
    }
}

/// The packet that brings a frame to the edge.
fn packet(network: &Network, seq: u64, frame: &[u8]) -> Vec<u8> {
    let Network {
        encapsulation, vni, ..
    } = *network;
    match network.inbound() {
        Some(sa) => outer(network, 55_555, ESP_PORT)
            .packet(&sa.seal(seq, &encapsulation.datagram(vni, frame))),
        None => {
            outer(network, 55_555, encapsulation.port()).packet(&encapsulation.wrap(vni, frame))
        }
    }
}

/// Both tenants, each of whom swaps the MAC addresses of what he gets and sends it back.
fn tenants(networks: &[Network]) -> Testpmd {
    let mut args = Vec::new();
    for (i, network) in networks.iter().enumerate() {
        args.push("--vdev".to_owned());
        let socket = network.socket();
        args.push(format!(
            "net_virtio_user{i},path={socket},queues=1,server=1"
        ));
    }
    let options = "-- -i --forward-mode=macswap --port-topology=loop --total-num-mbufs=8192 \
                   --no-mlockall --stats-period=0";
    args.extend(
        options
            .split(' ')
            .filter(|o| !o.is_empty())
            .map(str::to_owned),
    );
    Testpmd::start("tenants", &args)
}

/// The underlay's other end: port 0 is the memif, port 1 the captures.
fn underlay() -> Testpmd {
    let memif = format!("net_memif0,role=client,id=0,socket={DIR}/m.sock,socket-abstract=no");
    let captures = format!("net_pcap0,rx_pcap={DIR}/in.pcap,tx_pcap={DIR}/out.pcap");
    let mut args = vec!["--vdev".into(), memif, "--vdev".into(), captures];
    // Without the last it would throw away what the ports have before it starts.
    let options = "-- -i --forward-mode=io --port-topology=paired --total-num-mbufs=8192 \
                   --no-mlockall --stats-period=0 --no-flush-rx";
    args.extend(
        options
            .split(' ')
            .filter(|o| !o.is_empty())
            .map(str::to_owned),
    );
    Testpmd::start("underlay", &args)
}

#[test]
fn testpmd_bounces_every_packet() {
    isolated_in_lab(|| {
        let networks = networks();
        let peering = Peering {
            underlay: format!(
                "net_memif0,role=server,id=0,socket={DIR}/m.sock,socket-abstract=no,mac={EDGE}"
            ),
            addresses: vec!["192.0.2.1/24"],
            tap: None,
            neighbour: Some(PEER),
            networks: networks.clone(),
        };
        let (mut packets, mut inner) = (Vec::new(), 0);
        for i in 0..PACKETS {
            let (there, _) = frames(i);
            inner += there.len();
            packets.extend(networks.iter().map(|n| packet(n, i + 1, &there)));
        }
        pcap::write(Path::new(&format!("{DIR}/in.pcap")), &packets);

        let edge = Daemon::start("a", &peering.yaml());
        let mut tenants = tenants(&networks);
        tenants.command("start");
        let mut underlay = underlay();
        let before = edge.wait("everybody connected", |s| {
            s.tunnels.iter().all(|t| t.state == "up") && s.ports.iter().all(|p| p.state == "up")
        });
        underlay.command("start");
        let all = 2 * PACKETS;
        wait_for("all have returned", 30, || {
            (underlay.stats(0).rx >= all).then_some(())
        });
        for port in [0, 1] {
            let both = PortStats { rx: all, tx: all };
            assert_eq!(underlay.stats(port), both, "underlay, port {port}");
            let both = PortStats {
                rx: PACKETS,
                tx: PACKETS,
            };
            assert_eq!(tenants.stats(port), both, "tenant {port}");
        }

        let after = edge.wait("nothing held", |s| s.workers.iter().all(|w| w.held == 0));
        underlay.quit();
        tenants.quit();
        let returned = pcap::read(Path::new(&format!("{DIR}/out.pcap")));
        let bytes = |packets: &[Vec<u8>]| packets.iter().map(Vec::len).sum::<usize>();
        let each = rx(PACKETS, inner).tx(PACKETS, inner);
        Changes::between(&before, &after)
            .expect_verdicts(&[("to-tenant", all), ("to-underlay", all)])
            .expect_traffic(&[
                (
                    "port up0",
                    rx(all, bytes(&packets)).tx(all, bytes(&returned)),
                ),
                ("port port-sealed", each),
                ("port port-clear", each),
                ("vn sealed", each),
                ("vn clear", each),
                ("tunnel sealed/peer-192.0.2.2", each),
                ("tunnel clear/peer-192.0.2.3", each),
            ])
            .expect_books(2 * all, 0, 0, 0);

        // What was recorded: every frame of either network, in order, swapped.
        let mut next = [0; 2];
        for packet in &returned {
            let (outer, payload) = Outer::parse(packet);
            let which = networks.iter().position(|n| n.peer == outer.dst);
            let which = which.expect("one of the peers");
            let network = &networks[which];
            let i = next[which];
            next[which] += 1;
            let wrap = network.encapsulation;
            let (_, frame) = frames(i);
            match network.outbound() {
                Some(sa) => {
                    let expected = (i + 1, wrap.datagram(network.vni, &frame));
                    assert_eq!(sa.open(&payload), expected);
                }
                None => assert_eq!(payload, wrap.wrap(network.vni, &frame)),
            }
        }
        assert_eq!(next, [PACKETS; 2]);
        edge.stop();
    });
}
