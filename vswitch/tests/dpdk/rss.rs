//! What drivers say of their RSS: one that tells everything (`net_null`, whose queues it does not fill by
//! it, but whose key and table are real), and those that do not.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::ports::config;
use crate::support::{eal, isolated, isolated_in_netns, pool};
use vswitch::dpdk::ethdev::{Port, Queues};
use vswitch::dpdk::ring_port::ring_port;
use vswitch::dpdk::rss::NoSpread;
use vswitch::manage::config::Config;
use vswitch::manage::edge::Edge;
use vswitch_net::rss::{Fields, Flow, PUBLISHED_KEY, hash};

fn start(port: &Port, queues: u16) -> Queues {
    let pools = [pool(&format!("{}_{queues}", port.name()), 2047)];
    port.configure(&config(queues, &pools)).expect("start")
}

fn flow(src: &str, src_port: u16, dst: &str) -> Flow {
    Flow {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        src_port,
        dst_port: 4500,
    }
}

/// Hash types are those that the port was configured with, the key is the driver's own, and its table,
/// which led everything to queue 0, leads to all queues now: it was set, and read back.
#[test]
fn what_a_driver_tells_of_its_rss_is_known() {
    isolated(|| {
        let _eal = eal();
        for queues in [2, 4, 3] {
            let port = Port::open("net_null0,no-rx=1").expect("port");
            assert_eq!(port.caps().reta_size, 128);
            let started = start(&port, queues);
            assert!(started.settings.rss);
            let spread = started.spread.expect("it tells everything");
            assert_eq!(
                spread.to_string(),
                "Toeplitz of addresses and ports (IPv4), addresses and ports (IPv6), table of 128"
            );
            for (src, dst) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
                for port in (49152..=u16::MAX).step_by(7) {
                    let flow = flow(src, port, dst);
                    let hash = hash(&PUBLISHED_KEY, &flow, Fields::AddressesAndPorts);
                    let place = hash.expect("one IP version") % 128;
                    assert_eq!(spread.queue(&flow), Some(place as u16 % queues));
                }
            }
            assert!(spread.reaches(queues - 1) && !spread.reaches(queues));
        }
    });
}

#[test]
fn a_port_that_does_not_tell_is_unknown() {
    isolated_in_netns(|| {
        let _eal = eal();
        let null = Port::open("net_null0,no-rx=1").expect("port");
        assert_eq!(start(&null, 1).spread, Err(NoSpread::OneQueue));
        let (ring, _wire) = ring_port("r0", 2, 64, None).expect("port");
        assert_eq!(start(&ring, 2).spread, Err(NoSpread::NoRss));
        // It offers RSS, and has no answer to any question about it.
        let tap = Port::open("net_tap0,iface=t0").expect("port");
        let why = start(&tap, 2).spread.expect_err("nothing is known");
        assert_eq!(
            why.to_string(),
            "the driver does not tell its hash: Operation not supported (error 95)"
        );
    });
}

/// What the operator sees of it.
#[test]
fn an_edge_shows_what_it_knows_of_rss() {
    isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"
nve: {name: a}
eal: {memory: no-huge, memory-mb: 128}
workers: {cores: [0, 0], idle: yield}
mempool: {mbufs: 2048}
state-dir: DIR/state
underlay:
  ports:
    - {name: up0, device: "net_null0,no-rx=1", addresses: [192.0.2.1/24]}
    - {name: up1, device: "net_null1,no-rx=1", addresses: [192.0.2.3/24], queues: 1}
    - {name: up2, device: net_ring_up2, addresses: [192.0.2.5/24]}
"#;
        let text = text.replace("DIR", &dir.path().display().to_string());
        let config = Config::parse(&text, Path::new("/")).unwrap_or_else(|e| panic!("{e}"));
        let eal = eal();
        let (ring, _wire) = ring_port("up2", 2, 64, None).expect("port");
        let given = BTreeMap::from([("net_ring_up2".to_owned(), ring)]);
        let edge = Edge::start_on(eal, config, given).expect("an edge");
        let status = edge.handle().status_blocking(Duration::from_secs(5));
        let ports = status.expect("a report").ports;
        let shown: Vec<(u16, Option<&str>)> = ports
            .iter()
            .map(|port| (port.queues, port.rss.as_deref()))
            .collect();
        let known =
            "Toeplitz of addresses and ports (IPv4), addresses and ports (IPv6), table of 128";
        let expected = [
            (2, Some(known)),
            (1, None),
            (2, Some("unknown: there is no RSS")),
        ];
        assert_eq!(shown, expected);
        drop(edge);
    });
}
