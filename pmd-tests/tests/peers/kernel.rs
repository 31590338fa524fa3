//! The host's kernel beside the overlay: it answers through the tap, and its routes and
//! neighbours say where the tunnels go.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pmd_tests::daemon::Daemon;
use pmd_tests::hosts::{Host, Underlay};
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{self, cable_mac, sh};
use pmd_tests::testpmd::{BURST, Testpmd};
use vswitch::manage::status::{Status, Traffic};

fn tenants(a: &Host, b: &Host) -> Testpmd {
    Testpmd::tenants(&[a.socket("blue"), b.socket("blue")], true, 1)
}

/// Both hosts with tunnels up and their blue tenants connected.
fn start(mut a: Host, mut b: Host, before: impl Fn()) -> (Daemon, Daemon, Testpmd) {
    (a.bind_ips, b.bind_ips) = (false, false);
    let (daemon_a, daemon_b) = (Daemon::start("a", &a.yaml()), Daemon::start("b", &b.yaml()));
    before();
    let testpmd = tenants(&a, &b);
    for daemon in [&daemon_a, &daemon_b] {
        daemon.wait("tunnels up", |s| s.tunnels.iter().all(|t| t.state == "up"));
        daemon.wait("the tenant", |s| {
            s.ports
                .iter()
                .any(|p| p.name.ends_with("-blue") && p.state == "up")
        });
    }
    (daemon_a, daemon_b, testpmd)
}

fn dropped(status: &Status, why: &str) -> u64 {
    status
        .drops
        .iter()
        .find(|d| d.reason == why)
        .map_or(0, |d| d.packets)
}

fn port(status: &Status, name: &str) -> Traffic {
    status
        .ports
        .iter()
        .find(|p| p.name == name)
        .expect("a port")
        .traffic
}

fn path(daemon: &Daemon, expected: &str) {
    daemon.wait(expected, |s| {
        s.tunnels.iter().all(|t| t.paths == [expected])
    });
}

#[test]
fn the_kernel_answers_through_the_switch_while_the_overlay_runs() {
    isolated_in_lab(|| {
        lab::two_hosts();
        lab::cable(0);
        let device = "net_af_packet0,iface=vh0";
        let (a, b) = (Host::with_tap(1, device), Host::with_tap(2, device));
        let (a, b, mut testpmd) = start(a, b, || ());
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let ping = scope.spawn(|| sh("ip netns exec a ping -n -c 10 -i 0.2 -W 5 192.0.2.2"));
            while !ping.is_finished() {
                testpmd.exchange(&[0, 1], 2);
            }
            let said = ping.join().expect("ping");
            assert!(
                said.contains("10 received") && !said.contains("DUP!"),
                "{said}"
            );
            done.store(true, Ordering::Relaxed);
        });
        // The kernel has found the other switch's MAC, and nothing answers beside it.
        let neighbours = sh("ip -n a neigh show dev vsw0");
        assert!(neighbours.contains(&cable_mac(0, 2)), "{neighbours}");
        let status = a.status();
        let tap = port(&status, "vsw0");
        assert!(tap.rx_packets >= 10 && tap.tx_packets >= 10, "{tap:?}");
        testpmd.quit();
        a.stop();
        b.stop();
    });
}

#[test]
fn a_neighbour_that_changes_moves_the_traffic() {
    isolated_in_lab(|| {
        lab::two_hosts();
        lab::cable(0);
        let device = "net_af_packet0,iface=vh0";
        let (a, b) = (Host::with_tap(1, device), Host::with_tap(2, device));
        let (a, b, mut testpmd) = start(a, b, || ());
        let n = 4 * BURST;
        let move_to = |mac: &str| {
            sh(&format!(
                "ip -n a neigh replace 192.0.2.2 lladdr {mac} dev vsw0 nud permanent"
            ));
            path(&a, &format!("up0 via {mac}"));
        };
        let elsewhere = "02:00:00:00:00:99";
        move_to(elsewhere);
        let before = dropped(&b.status(), "not-for-us");
        let counted = testpmd.exchange(&[0, 1], 4);
        assert_eq!(
            (counted[0].rx, counted[1].rx),
            (n, 0),
            "only one way is left"
        );
        let lost = b.wait("for another station", |s| {
            dropped(s, "not-for-us") >= before + n
        });
        assert_eq!(dropped(&lost, "not-for-us"), before + n);
        move_to(&cable_mac(0, 2));
        let counted = testpmd.exchange(&[0, 1], 4);
        assert_eq!((counted[0].rx, counted[1].rx), (n, n));
        testpmd.quit();
        a.stop();
        b.stop();
    });
}

/// Two cables, and the tunnel's ends behind both of them.
fn two_ways(n: u8) -> Host {
    let mut host = Host::with_tap(n, "net_af_packet0,iface=vh0");
    host.underlays.push(Underlay {
        device: "net_af_packet1,iface=vh1".to_owned(),
        address: format!("192.0.3.{n}/24"),
        tap: Some("vsw1".to_owned()),
        neighbour: None,
    });
    host.local = Some(format!("198.51.100.{n}"));
    host.remote = format!("198.51.100.{}", 3 - n);
    host
}

#[test]
fn a_route_that_changes_moves_the_traffic_without_loss() {
    isolated_in_lab(|| {
        lab::two_hosts();
        lab::cable(0);
        lab::cable(1);
        let route = |way: u8| {
            sh(&format!(
                "ip -n a route replace 198.51.100.2/32 via 192.0.{way}.2
                 ip -n b route replace 198.51.100.1/32 via 192.0.{way}.1"
            ));
        };
        let (a, b, mut testpmd) = start(two_ways(1), two_ways(2), || route(2));
        path(&a, &format!("up0 via {}", cable_mac(0, 2)));
        let n = 4 * BURST;
        let sent_by = |status: &Status| {
            (
                port(status, "up0").tx_packets,
                port(status, "up1").tx_packets,
            )
        };
        let tap = |s: &Status, name: &str| port(s, name).rx_packets;
        let overlay = |s: &Status| {
            let (up0, up1) = sent_by(s);
            (up0 - tap(s, "vsw0"), up1 - tap(s, "vsw1"))
        };
        let before = overlay(&a.status());
        testpmd.exchange(&[0, 1], 4);
        let after = overlay(&a.status());
        assert_eq!((after.0 - before.0, after.1 - before.1), (n, 0));

        // Back and forth while packets are under way: none is lost.
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut way = 2;
                while !stop.load(Ordering::Relaxed) {
                    way = 5 - way;
                    route(way);
                    thread::sleep(Duration::from_millis(150));
                }
            });
            for round in 0..10 {
                let counted = testpmd.exchange(&[0, 1], 4);
                let received: Vec<u64> = counted.iter().map(|c| c.rx).collect();
                if received != [n, n] {
                    stop.store(true, Ordering::Relaxed);
                    panic!(
                        "round {round}: {received:?} of {n}: {:?}",
                        (a.status().drops, b.status().drops)
                    );
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        route(3);
        path(&a, &format!("up1 via {}", cable_mac(1, 2)));
        let before = overlay(&a.status());
        testpmd.exchange(&[0, 1], 4);
        let after = overlay(&a.status());
        assert_eq!((after.0 - before.0, after.1 - before.1), (0, n));
        testpmd.quit();
        a.stop();
        b.stop();
    });
}

#[test]
fn tunnel_packets_never_reach_the_kernel_and_are_not_answered() {
    isolated_in_lab(|| {
        lab::two_hosts();
        lab::cable(0);
        let device = "net_af_packet0,iface=vh0";
        let (a, b) = (Host::with_tap(1, device), Host::with_tap(2, device));
        let (a, b) = (Daemon::start("a", &a.yaml()), Daemon::start("b", &b.yaml()));
        a.wait("tunnels up", |s| s.tunnels.iter().all(|t| t.state == "up"));
        // A kernel answers a datagram for a port without listener: refused.
        let refused = |port: u16, payload: &[u8]| {
            lab::on_host("b", || {
                let socket = UdpSocket::bind("192.0.2.2:0").expect("an address");
                socket.connect(("192.0.2.1", port)).expect("a route");
                socket
                    .set_read_timeout(Some(Duration::from_millis(400)))
                    .expect("a socket");
                socket.send(payload).expect("sent");
                match socket.recv(&mut [0; 64]) {
                    Err(error) => error.kind() == ErrorKind::ConnectionRefused,
                    Ok(n) => panic!("{n} bytes of answer"),
                }
            })
        };
        assert!(refused(9, b"discard"), "the way there and back is open");
        let spi = |spi: u32| [&spi.to_be_bytes()[..], &[0; 60]].concat();
        for (port, payload, why) in [
            (4500, spi(0x7777_7777), "unknown-spi"),
            (4500, spi(77), "spi-reserved"),
            (4500, vec![0xff, 0, 0], "esp-truncated"),
            (
                6081,
                vec![0, 0, 0x65, 0x58, 0, 3, 0xe9, 0, 1, 2, 3],
                "clear-for-protected",
            ),
            (
                4789,
                vec![8, 0, 0, 0, 0, 0, 9, 0, 1, 2, 3],
                "clear-unknown-vni",
            ),
        ] {
            let before = dropped(&a.status(), why);
            assert!(!refused(port, &payload), "{why} was answered");
            assert_eq!(dropped(&a.status(), why), before + 1, "{why}");
        }
        // IKE behind its marker is the kernel's, here with a listener.
        let ike = lab::on_host("a", || {
            let socket = UdpSocket::bind("192.0.2.1:4500").expect("an address");
            socket
                .set_read_timeout(Some(Duration::from_secs(5)))
                .expect("a socket");
            assert!(!refused(4500, &[0xff]), "a keepalive is not answered");
            assert!(!refused(4500, &[0, 0, 0, 0, 1, 2, 3, 4]));
            let mut bytes = [0; 64];
            let n = socket.recv(&mut bytes).expect("the IKE message");
            bytes[..n].to_vec()
        });
        assert_eq!(ike, [0, 0, 0, 0, 1, 2, 3, 4]);
        let keepalives = a.status().workers[0].verdicts.get("keepalive").copied();
        assert_eq!(keepalives, Some(1));
        a.stop();
        b.stop();
    });
}
