//! One daemon over drivers that need no other end: null, pcap and ring. Whatever they bring
//! is nobody's; all of it ends under a reason and nothing is answered.

use std::collections::BTreeMap;
use std::fs;

use pmd_tests::daemon::Daemon;
use pmd_tests::frames::{self, mac, pattern};
use pmd_tests::hosts::Host;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::DIR;
use pmd_tests::testpmd::{BURST, Testpmd};
use pmd_tests::wire::{Algorithm, ESP_PORT, Encapsulation, Outer, Sa};
use vswitch::manage::status::Worker;

/// Verdicts of all workers.
fn verdicts(workers: &[Worker]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (verdict, n) in workers.iter().flat_map(|w| &w.verdicts) {
        *sums.entry(verdict.clone()).or_default() += n;
    }
    sums
}

#[test]
fn null() {
    isolated_in_lab(|| {
        let a = Daemon::start("a", &Host::new(1, "net_null0,size=64").yaml());
        let status = a.wait("traffic", |s| s.workers[0].received > 100_000);
        let worker = &status.workers[0];
        let all = BTreeMap::from([("not-for-us".to_owned(), worker.received)]);
        assert_eq!(worker.verdicts, all);
        let port = &status.ports[0].traffic;
        assert_eq!(
            (port.rx_packets, port.rx_dropped),
            (worker.received, worker.received)
        );
        assert_eq!(port.rx_bytes, worker.received * 64);
        a.stop();
    });
}

/// A small generator of its own: the same packets in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Garbage, and packets that are nearly right: none may be delivered.
fn corpus() -> Vec<Vec<u8>> {
    let mut noise = Noise(0x1234_5678_9abc_def1);
    let outer = |v6: bool, dport| Outer {
        // To everybody, so that they are taken up whatever MAC the driver has.
        dst_mac: frames::BROADCAST,
        src_mac: [2, 0, 0, 0, 0, 2],
        src: if v6 {
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, 2].into()
        } else {
            [192, 0, 2, 2].into()
        },
        dst: if v6 {
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()
        } else {
            [192, 0, 2, 1].into()
        },
        sport: 50_000,
        dport,
    };
    // The SPI of the blue network's inbound SA under another key.
    let sa = Sa {
        spi: 2 << 16 | 1001,
        ..Sa::new(0x0bad_cafe, Algorithm::Gcm256)
    };
    let frame = pattern(mac(1), mac(2), 0, 200);
    let geneve = Encapsulation::Geneve;
    let mut good: Vec<Vec<u8>> = Vec::new();
    for v6 in [false, true] {
        let esp = outer(v6, ESP_PORT);
        good.push(esp.packet(&sa.seal(9, &geneve.datagram(1001, &frame))));
        good.push(esp.packet(&[0, 0, 0, 0, 1, 2, 3, 4]));
        good.push(esp.packet(&[0xff, 0xff]));
        good.push(outer(v6, 6081).packet(&geneve.wrap(1001, &frame)));
        good.push(outer(v6, 4789).packet(&Encapsulation::Vxlan.wrap(2002, &frame)));
        good.push(outer(v6, 53).packet(&frame));
    }
    let mut corpus = good.clone();
    for _ in 0..400 {
        let mut packet = good[noise.below(good.len())].clone();
        match noise.below(3) {
            0 => packet.truncate(noise.below(packet.len()) + 1),
            1 => {
                for _ in 0..=noise.below(4) {
                    let at = noise.below(packet.len());
                    packet[at] ^= 1 << noise.below(8);
                }
            }
            _ => {
                // The start stays, the rest is noise.
                let from = noise.below(packet.len());
                packet[from..].fill_with(|| noise.next() as u8);
            }
        }
        corpus.push(packet);
    }
    for _ in 0..200 {
        let len = 1 + noise.below(1500);
        corpus.push((0..len).map(|_| noise.next() as u8).collect());
    }
    corpus
}

/// A capture file (libpcap's classic format, Ethernet).
fn write_pcap(path: &str, packets: &[Vec<u8>]) {
    let mut file: Vec<u8> = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for packet in packets {
        let len = (packet.len() as u32).to_le_bytes();
        file.extend([0; 8]);
        file.extend(len);
        file.extend(len);
        file.extend(packet);
    }
    fs::write(path, file).expect("capture file");
}

#[test]
fn pcap() {
    isolated_in_lab(|| {
        let corpus = corpus();
        write_pcap(&format!("{DIR}/in.pcap"), &corpus);
        let device =
            format!("net_pcap0,rx_pcap={DIR}/in.pcap,tx_pcap={DIR}/out.pcap,infinite_rx=1");
        let a = Daemon::start("a", &Host::new(1, &device).yaml());
        let wanted = 100 * corpus.len() as u64;
        let status = a.wait("each packet many times", |s| s.workers[0].received > wanted);
        let worker = &status.workers[0];
        assert_eq!(
            (worker.generated, worker.copied, worker.sent, worker.held),
            (0, 0, 0, 0),
            "{worker:#?}"
        );
        // The untouched ones end as they must.
        let verdicts = verdicts(&status.workers);
        for why in [
            "auth-failed",
            "no-exception-port",
            "esp-truncated",
            "clear-for-protected",
            "malformed",
            "unknown-spi",
        ] {
            assert!(
                verdicts.get(why).copied().unwrap_or(0) >= 100,
                "{why}: {verdicts:?}"
            );
        }
        a.stop();
        let out = fs::metadata(format!("{DIR}/out.pcap")).expect("the driver's file");
        assert_eq!(out.len(), 24, "a header and no packet");
    });
}

#[test]
fn ring() {
    isolated_in_lab(|| {
        // The driver's ring leads back to where it came from.
        let mut host = Host::new(1, "net_ring0");
        host.bind_ips = false;
        let a = Daemon::start("a", &host.yaml());
        let mut testpmd = Testpmd::tenants(&[host.socket("blue")], true, 1);
        a.wait("the tenant", |s| {
            s.ports
                .iter()
                .any(|p| p.name == "a-blue" && p.state == "up")
        });
        let counted = testpmd.exchange(&[0], 8);
        let n = 8 * BURST;
        assert_eq!((counted[0].tx, counted[0].rx), (n, 0));
        let status = a.wait("all around", |s| s.workers[0].received >= 2 * n);
        let expected =
            BTreeMap::from([("not-for-us".to_owned(), n), ("to-underlay".to_owned(), n)]);
        assert_eq!(verdicts(&status.workers), expected);
        testpmd.quit();
        a.stop();
    });
}

#[test]
fn a_tenant_cannot_lie_about_its_addresses() {
    isolated_in_lab(|| {
        let host = Host::new(1, "net_ring0");
        let a = Daemon::start("a", &host.yaml());
        // testpmd sends from 198.18.0.1 where 10.0.0.1 is placed.
        let mut testpmd = Testpmd::tenants(&[host.socket("blue")], true, 1);
        let up = |s: &vswitch::manage::status::Status| {
            s.ports
                .iter()
                .any(|p| p.name == "a-blue" && p.state == "up")
        };
        a.wait("the tenant", up);
        let n = testpmd.exchange(&[0], 4)[0].tx;
        assert_eq!(n, 4 * BURST);
        let status = a.wait("all dropped", |s| s.workers[0].dropped >= n);
        assert_eq!(
            verdicts(&status.workers),
            BTreeMap::from([("spoofed-ip".to_owned(), n)])
        );
        let port = status
            .ports
            .iter()
            .find(|p| p.name == "a-blue")
            .expect("a port")
            .traffic;
        assert_eq!(
            (port.rx_packets, port.rx_dropped, port.tx_packets),
            (n, n, 0)
        );

        // It goes and comes back, and is another tenant's MAC now.
        testpmd.kill();
        a.wait("the tenant is gone", |s| !up(s));
        let sockets = [host.socket("red"), host.socket("blue")];
        let mut testpmd = Testpmd::tenants(&sockets, true, 1);
        a.wait("the tenant is back", up);
        testpmd.command("set portlist 1");
        let n = testpmd.exchange(&[1], 4)[0].tx;
        let status = a.wait("all dropped", |s| {
            verdicts(&s.workers)
                .get("spoofed-mac")
                .is_some_and(|dropped| *dropped >= n)
        });
        assert_eq!(verdicts(&status.workers)["spoofed-mac"], n);
        testpmd.quit();
        a.stop();
    });
}
