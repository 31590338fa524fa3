//! Paths from the kernel, against real routes and neighbours in network namespaces. The "taps"
//! are veth ends: their neighbours are kernels that answer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::host_support::{Namespace, possible};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout};
use vswitch::host::{
    Destinations, HostError, HostNetwork, Path, PathUpdate, StaticNeighbour, StaticRoute,
    UnderlayPort, setup_taps,
};

const PATIENCE: Duration = Duration::from_secs(12);

/// Our host with two underlay ports, each to a router of its own.
struct Lab {
    host: Namespace,
    left: Namespace,
    right: Namespace,
    ports: Vec<UnderlayPort>,
}

impl Lab {
    fn new() -> Self {
        let [host, left, right] = [(); 3].map(|()| Namespace::new());
        host.join("t0", &left, "e0");
        host.join("t1", &right, "e1");
        left.ip("addr add 192.0.2.2/24 dev e0");
        left.ip("addr add 2001:db8:a::2/64 dev e0 nodad");
        right.ip("addr add 198.51.100.2/24 dev e1");
        right.ip("addr add 2001:db8:b::2/64 dev e1 nodad");
        let port = |index: usize, tap: &str, addresses: [&str; 2]| UnderlayPort {
            index,
            tap: Some(tap.to_owned()),
            mac: [2, 0, 0, 0, 7, u8::try_from(index).unwrap()],
            mtu: 1400,
            addresses: addresses.map(|a| a.parse().unwrap()).to_vec(),
            static_neighbours: Vec::new(),
            static_routes: Vec::new(),
        };
        let ports = vec![
            port(10, "t0", ["192.0.2.1/24", "2001:db8:a::1/64"]),
            port(11, "t1", ["198.51.100.1/24", "2001:db8:b::1/64"]),
        ];
        Self {
            host,
            left,
            right,
            ports,
        }
    }

    /// Sets the taps up and runs `test` beside a [`HostNetwork`].
    fn run<F: Future<Output = ()>>(&self, test: impl FnOnce(Destinations, Updates) -> F + Send) {
        self.host.run(|| async {
            setup_taps(&self.ports, PATIENCE).await.unwrap();
            // No duplicate address detection, which takes a second; only the kernel's deferred
            // work is waited for.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let addresses = self.host.ip("-6 addr show dev t0");
            assert!(addresses.contains("fe80::ff:fe00:70a/64"), "{addresses}");
            assert!(!addresses.contains("tentative"), "{addresses}");
            let (network, destinations, updates) = HostNetwork::open(self.ports.clone()).unwrap();
            let task = tokio::spawn(network.run());
            test(destinations, Updates(updates)).await;
            timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
        });
    }

    fn path(&self, port: usize, source: &str) -> Path {
        let (neighbour, interface) = [(&self.left, "e0"), (&self.right, "e1")][port];
        Path {
            port: self.ports[port].index,
            source_hint: Some(ip(source)),
            src_mac: self.ports[port].mac,
            dst_mac: neighbour.mac(interface),
        }
    }
}

struct Updates(Receiver<PathUpdate>);

impl Updates {
    /// Waits until the paths are these; returns how many path sets came before, and how many
    /// of those were empty.
    async fn until(&mut self, destination: &str, paths: &[Path]) -> (usize, usize) {
        let (mut before, mut empty) = (0, 0);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let update = tokio::time::timeout_at(deadline, self.0.recv())
                .await
                .unwrap_or_else(|_| panic!("{destination} never had the paths {paths:?}"))
                .unwrap();
            if update.destination != ip(destination) {
                continue;
            }
            if update.paths == paths {
                return (before, empty);
            }
            before += 1;
            empty += usize::from(update.paths.is_empty());
        }
    }

    /// Waits for that many updates that are as wanted.
    async fn many(&mut self, mut missing: usize, wanted: impl Fn(&PathUpdate) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while missing > 0 {
            let update = tokio::time::timeout_at(deadline, self.0.recv()).await;
            let update = update.expect("an update in time").unwrap();
            missing -= usize::from(wanted(&update));
        }
    }

    async fn silent(&mut self, how_long: Duration) {
        let update = timeout(how_long, self.0.recv()).await;
        assert!(update.is_err(), "unexpected {update:?}");
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn neighbours_are_resolved_and_route_changes_move_the_path_without_a_gap() {
    if !possible() {
        return;
    }
    let lab = &Lab::new();
    let left = lab.path(0, "192.0.2.1");
    let right = lab.path(1, "198.51.100.1");
    lab.run(|destinations, mut updates| async move {
        destinations.add(ip("192.0.2.2"));
        updates.until("192.0.2.2", &[left]).await;
        destinations.set(BTreeSet::from([ip("203.0.113.5")]));
        updates.until("203.0.113.5", &[]).await;
        lab.host.ip("route add 203.0.113.0/24 via 192.0.2.2");
        updates.until("203.0.113.5", &[left]).await;
        // The new gateway is not resolved yet; the old path stays until it is.
        let changed = Instant::now();
        lab.host.ip("route replace 203.0.113.0/24 via 198.51.100.2");
        let (before, _) = updates.until("203.0.113.5", &[right]).await;
        assert_eq!(before, 0);
        assert!(changed.elapsed() < Duration::from_millis(500));
        // A more specific route, then its withdrawal.
        lab.host.ip("route add 203.0.113.4/30 via 192.0.2.2");
        assert_eq!(updates.until("203.0.113.5", &[left]).await.0, 0);
        lab.host.ip("route del 203.0.113.4/30");
        assert_eq!(updates.until("203.0.113.5", &[right]).await.0, 0);
        lab.host.ip("route replace blackhole 203.0.113.5/32");
        updates.until("203.0.113.5", &[]).await;
        lab.host.ip("route del 203.0.113.5/32");
        updates.until("203.0.113.5", &[right]).await;
        lab.host.ip("link set t1 down");
        updates.until("203.0.113.5", &[]).await;
        destinations.remove(ip("203.0.113.5"));
        lab.host.ip("link set t1 up");
        updates.silent(Duration::from_millis(300)).await;
    });
}

#[test]
fn multipath_routes_give_every_next_hop() {
    if !possible() {
        return;
    }
    let lab = &Lab::new();
    let left = lab.path(0, "192.0.2.1");
    let right = lab.path(1, "198.51.100.1");
    let (left6, right6) = (lab.path(0, "2001:db8:a::1"), lab.path(1, "2001:db8:b::1"));
    lab.run(|destinations, mut updates| async move {
        let host = &lab.host;
        destinations.set(BTreeSet::from([ip("203.0.113.5"), ip("2001:db8:f::5")]));
        let hops = "nexthop via 192.0.2.2 nexthop via 198.51.100.2";
        host.ip(&format!("route add 203.0.113.0/24 {hops}"));
        updates.until("203.0.113.5", &[left, right]).await;
        let hops = "nexthop via 2001:db8:a::2 nexthop via 2001:db8:b::2";
        host.ip(&format!("-6 route add 2001:db8:f::/48 {hops}"));
        updates.until("2001:db8:f::5", &[left6, right6]).await;
        // One leg goes; the other carries on.
        host.ip("link set t1 down");
        assert_eq!(updates.until("203.0.113.5", &[left]).await.1, 0);
        host.ip("link set t1 up");
        host.ip("route del 203.0.113.0/24");
        updates.until("203.0.113.5", &[]).await;
        // The same as nexthop objects, which vanish from the routes without an IPv4 event.
        host.ip("nexthop add id 1 via 192.0.2.2 dev t0");
        host.ip("nexthop add id 2 via 198.51.100.2 dev t1");
        host.ip("nexthop add id 3 group 1/2");
        host.ip("route add 203.0.113.0/24 nhid 3");
        updates.until("203.0.113.5", &[left, right]).await;
        host.ip("nexthop replace id 3 group 2");
        assert_eq!(updates.until("203.0.113.5", &[right]).await.1, 0);
        host.ip("nexthop del id 3");
        updates.until("203.0.113.5", &[]).await;
        // IPv4 through an IPv6 next hop; the route names its source.
        host.ip("route add 203.0.113.0/24 via inet6 2001:db8:a::2 dev t0 src 198.51.100.1");
        let source_hint = Some(ip("198.51.100.1"));
        updates
            .until(
                "203.0.113.5",
                &[Path {
                    source_hint,
                    ..left
                }],
            )
            .await;
    });
}

#[test]
fn neighbours_that_change_or_come_late_are_noticed() {
    if !possible() {
        return;
    }
    let lab = &Lab::new();
    let old = lab.path(0, "192.0.2.1");
    lab.run(|destinations, mut updates| async move {
        let left = &lab.left;
        destinations.add(ip("192.0.2.2"));
        updates.until("192.0.2.2", &[old]).await;
        // The neighbour announces its new address itself (gratuitous ARP, RFC 5227).
        left.exec("sysctl -qw net.ipv4.conf.e0.arp_notify=1");
        left.ip("link set e0 address 02:00:00:00:99:01");
        let new = Path {
            dst_mac: [2, 0, 0, 0, 0x99, 1],
            ..old
        };
        assert_eq!(updates.until("192.0.2.2", &[new]).await.0, 0);
        // Nobody answers for an address; the kernel gives up; then somebody does.
        destinations.add(ip("192.0.2.77"));
        updates.until("192.0.2.77", &[]).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let state = lab.host.ip("neigh show 192.0.2.77 dev t0");
        assert!(
            state.contains("FAILED") || state.contains("INCOMPLETE"),
            "{state}"
        );
        left.ip("addr add 192.0.2.77/24 dev e0");
        updates.until("192.0.2.77", &[new]).await;
        // An entry that is thrown away comes back without a gap.
        lab.host.ip("neigh flush dev t0");
        updates.silent(Duration::from_millis(700)).await;
        let state = lab.host.ip("neigh show 192.0.2.2 dev t0");
        assert!(state.contains("02:00:00:00:99:01"), "{state}");
    });
}

#[test]
fn stale_neighbours_are_confirmed() {
    if !possible() {
        return;
    }
    let lab = &Lab::new();
    let path = lab.path(0, "192.0.2.1");
    lab.run(|destinations, mut updates| async move {
        destinations.add(ip("192.0.2.2"));
        updates.until("192.0.2.2", &[path]).await;
        let mac = path.dst_mac.map(|b| format!("{b:02x}")).join(":");
        lab.host.ip(&format!(
            "neigh replace 192.0.2.2 lladdr {mac} dev t0 nud stale"
        ));
        updates.silent(Duration::from_secs(29)).await;
        let state = lab.host.ip("neigh show 192.0.2.2 dev t0");
        assert!(state.contains("REACHABLE"), "{state}");
    });
}

#[test]
fn a_thousand_destinations_move_together() {
    if !possible() {
        return;
    }
    let lab = &Lab::new();
    let (left, right) = (lab.path(0, "192.0.2.1"), lab.path(1, "198.51.100.1"));
    lab.run(|destinations, mut updates| async move {
        lab.host.ip("route add 10.0.0.0/8 via 192.0.2.2");
        destinations.set(
            (0..1000_u32)
                .map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()))
                .collect(),
        );
        let count = |path: Path| move |update: &PathUpdate| update.paths == [path];
        updates.many(1000, count(left)).await;
        lab.host
            .ip("neigh replace 198.51.100.2 lladdr 02:00:00:00:00:01 dev t1");
        let right = Path {
            dst_mac: [2, 0, 0, 0, 0, 1],
            ..right
        };
        let changed = Instant::now();
        lab.host.ip("route replace 10.0.0.0/8 via 198.51.100.2");
        updates.many(1000, count(right)).await;
        let took = changed.elapsed();
        eprintln!("1000 destinations moved in {took:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    });
}

#[test]
fn taps_get_mac_mtu_and_addresses_and_errors_name_them() {
    if !possible() {
        return;
    }
    let host = Namespace::new();
    let mut port = UnderlayPort {
        index: 0,
        tap: Some("vsw0".to_owned()),
        mac: [2, 0, 0, 0, 0, 0x42],
        mtu: 1380,
        addresses: ["192.0.2.1/24", "2001:db8::1/64"]
            .map(|a| a.parse().unwrap())
            .to_vec(),
        static_neighbours: vec![StaticNeighbour {
            address: ip("192.0.2.9"),
            mac: [2, 0, 0, 0, 0, 9],
        }],
        static_routes: Vec::new(),
    };
    let setup = |port: &UnderlayPort, patience| {
        host.run(|| async { setup_taps(std::slice::from_ref(port), patience).await })
    };
    let missing = setup(&port, Duration::from_millis(50)).unwrap_err();
    assert!(matches!(missing, HostError::TapMissing { .. }));
    assert!(missing.to_string().contains("vsw0"), "{missing}");

    // The tap may come late.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            host.ip("tuntap add vsw0 mode tap");
        });
        setup(&port, PATIENCE).unwrap();
    });
    host.ip("addr add 198.51.100.7/32 dev vsw0");
    setup(&port, PATIENCE).unwrap();
    let shown = host.ip("addr show dev vsw0");
    for part in [
        "02:00:00:00:00:42",
        "mtu 1380",
        ",UP",
        "192.0.2.1/24 brd 192.0.2.255",
        "2001:db8::1/64",
        "198.51.100.7/32",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains("tentative"), "{shown}");
    let neighbour = host.ip("neigh show 192.0.2.9 dev vsw0");
    assert!(
        neighbour.contains("02:00:00:00:00:09 PERMANENT"),
        "{neighbour}"
    );

    port.mtu = 20;
    let refused = setup(&port, PATIENCE).unwrap_err().to_string();
    assert!(refused.contains("MTU of vsw0"), "{refused}");
}

#[test]
fn ports_without_a_tap_need_no_kernel() {
    let port = UnderlayPort {
        index: 3,
        tap: None,
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        addresses: vec!["192.0.2.1/24".parse().unwrap()],
        static_neighbours: vec![StaticNeighbour {
            address: ip("192.0.2.254"),
            mac: [2, 0, 0, 0, 0, 0xfe],
        }],
        static_routes: vec![StaticRoute {
            to: "0.0.0.0/0".parse().unwrap(),
            via: ip("192.0.2.254"),
        }],
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (network, destinations, updates) = HostNetwork::open(vec![port]).unwrap();
        let task = tokio::spawn(network.run());
        let mut updates = Updates(updates);
        destinations.add(ip("203.0.113.5"));
        let path = Path {
            port: 3,
            source_hint: Some(ip("192.0.2.1")),
            src_mac: [2, 0, 0, 0, 0, 1],
            dst_mac: [2, 0, 0, 0, 0, 0xfe],
        };
        updates.until("203.0.113.5", &[path]).await;
        destinations.add(ip("2001:db8::5"));
        updates.until("2001:db8::5", &[]).await;
        drop(destinations);
        timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
        assert!(updates.0.recv().await.is_none());
    });
}
