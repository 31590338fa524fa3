//! Two daemons over each kind of underlay, testpmd's virtio-user ports as tenants in two
//! networks with the same addresses: every packet accounted for, the networks apart.

use pmd_tests::daemon::Daemon;
use pmd_tests::hosts::Host;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{self, DIR, cable_mac};
use pmd_tests::testpmd::{BURST, PortStats, Testpmd};
use vswitch::manage::status::{Status, Traffic};

/// Tenants in the order of testpmd's ports: each sends to its neighbour in the list.
const TENANTS: [(&str, &str); 4] = [("a", "blue"), ("b", "blue"), ("a", "red"), ("b", "red")];

fn tenant(status: &Status, host: &str, vn: &str) -> Traffic {
    let name = format!("{host}-{vn}");
    status
        .ports
        .iter()
        .find(|p| p.name == name)
        .expect("a port")
        .traffic
}

/// Packets dropped, by reason, at both hosts.
fn drops(a: &Status, b: &Status) -> Vec<(String, u64)> {
    let all = a.drops.iter().chain(&b.drops);
    all.filter(|d| d.packets > 0)
        .map(|d| (d.reason.clone(), d.packets))
        .collect()
}

/// Packets in the switch's hands end within a moment.
fn settled(daemon: &Daemon) -> Status {
    daemon.wait("nothing held", |s| s.workers.iter().all(|w| w.held == 0))
}

/// Starts both hosts and their tenants, exchanges packets and checks every count there is.
fn all_accounted_for(a: Host, b: Host, rounds: u64) {
    let (a, b, testpmd) = start(a, b);
    exchange(a, b, testpmd, rounds);
}

/// testpmd sends with one IP address for all ports, so the tenants are bound by MAC alone.
fn start(mut a: Host, mut b: Host) -> (Daemon, Daemon, Testpmd) {
    (a.bind_ips, b.bind_ips) = (false, false);
    let daemons = (Daemon::start("a", &a.yaml()), Daemon::start("b", &b.yaml()));
    let testpmd = tenants_of(&a, &b);
    (daemons.0, daemons.1, testpmd)
}

fn exchange(a: Daemon, b: Daemon, mut testpmd: Testpmd, rounds: u64) {
    a.wait("tunnels up", |s| s.tunnels.iter().all(|t| t.state == "up"));
    b.wait("tunnels up", |s| s.tunnels.iter().all(|t| t.state == "up"));
    for daemon in [&a, &b] {
        daemon.wait("tenants connected", |s| {
            s.ports
                .iter()
                .filter(|p| p.kind == "vhost")
                .all(|p| p.state == "up")
        });
    }
    let mut totals = [PortStats::default(); 4];
    for round in 0..rounds {
        // The red network is silent in every other round, and must stay so.
        let blue_only = round % 2 == 1;
        let list = if blue_only {
            "set portlist 0,1"
        } else {
            "set portlist 0,1,2,3"
        };
        testpmd.command(list);
        let counted = testpmd.exchange(&[0, 1, 2, 3], 4);
        for (i, (total, counted)) in totals.iter_mut().zip(&counted).enumerate() {
            let sent = if blue_only && i >= 2 { 0 } else { 4 * BURST };
            assert_eq!(counted.tx, sent, "port {i}, round {round}");
            total.rx += counted.rx;
            total.tx += counted.tx;
            if blue_only && i >= 2 {
                assert_eq!(counted.rx, 0, "red hears blue");
            }
        }
    }
    let (sa, sb) = (settled(&a), settled(&b));
    for (i, (host, vn)) in TENANTS.into_iter().enumerate() {
        let (own, others) = if host == "a" { (&sa, &sb) } else { (&sb, &sa) };
        let (other_host, other) = (if host == "a" { "b" } else { "a" }, i ^ 1);
        let (here, there) = (tenant(own, host, vn), tenant(others, other_host, vn));
        assert_eq!(
            here.rx_packets, totals[i].tx,
            "{host}-{vn}: what the tenant sent"
        );
        assert_eq!(
            there.tx_packets, totals[other].rx,
            "what the other received"
        );
        // Tenant to tenant: received, or dropped for a reason at one of three places.
        let tunnel = |s: &Status| {
            s.tunnels
                .iter()
                .find(|t| t.vn == vn)
                .expect("a tunnel")
                .traffic
        };
        let (up, down) = (tunnel(own), tunnel(others));
        assert_eq!(
            up.tx_packets + up.tx_dropped + here.rx_dropped,
            here.rx_packets
        );
        assert_eq!(
            there.tx_packets + there.tx_dropped + down.rx_dropped,
            down.rx_packets,
            "{:?}",
            drops(&sa, &sb)
        );
    }
    // Over all: sent = received + dropped for a reason.
    let sent: u64 = totals.iter().map(|t| t.tx).sum();
    let received: u64 = totals.iter().map(|t| t.rx).sum();
    let drops = drops(&sa, &sb);
    let overlay: u64 = drops
        .iter()
        // Not a tenant's packets: what the host's kernel and others put on the wire.
        .filter(|(why, _)| !matches!(why.as_str(), "not-for-us" | "no-exception-port"))
        .map(|(_, n)| n)
        .sum();
    assert_eq!(received + overlay, sent, "{drops:?}");
    assert!(received * 10 >= sent * 9, "{received} of {sent}: {drops:?}");
    testpmd.quit();
    a.stop();
    b.stop();
}

fn tenants_of(a: &Host, b: &Host) -> Testpmd {
    let sockets: Vec<String> = TENANTS
        .iter()
        .map(|(host, vn)| {
            if *host == "a" {
                a.socket(vn)
            } else {
                b.socket(vn)
            }
        })
        .collect();
    Testpmd::tenants(&sockets, a.vhost_mode == "client", a.queues)
}

#[test]
fn memif() {
    isolated_in_lab(|| {
        let device = |n: u8, role: &str| {
            format!(
                "net_memif0,role={role},id=0,socket={DIR}/m.sock,socket-abstract=no,mac={}",
                cable_mac(0, n)
            )
        };
        let (a, b) = (
            Host::new(1, &device(1, "server")),
            Host::new(2, &device(2, "client")),
        );
        all_accounted_for(a, b, 10);
    });
}

#[test]
fn memif_with_the_switch_as_vhost_server_and_three_workers() {
    isolated_in_lab(|| {
        let device = |n: u8, role: &str| {
            format!(
                "net_memif0,role={role},id=0,socket={DIR}/m.sock,socket-abstract=no,mac={}",
                cable_mac(0, n)
            )
        };
        let mut a = Host::new(1, &device(1, "server"));
        let mut b = Host::new(2, &device(2, "client"));
        for host in [&mut a, &mut b] {
            host.vhost_mode = "server";
            host.cores = vec![0, 0, 1];
        }
        all_accounted_for(a, b, 6);
    });
}

#[test]
fn af_packet() {
    isolated_in_lab(|| {
        lab::two_hosts();
        lab::cable(0);
        let device = "net_af_packet0,iface=vh0";
        let (a, b) = (Host::with_tap(1, device), Host::with_tap(2, device));
        all_accounted_for(a, b, 6);
    });
}

#[test]
fn af_xdp() {
    isolated_in_lab(|| {
        lab::two_hosts();
        lab::cable(0);
        let device = "net_af_xdp0,iface=vh0";
        let (a, b) = (Host::with_tap(1, device), Host::with_tap(2, device));
        all_accounted_for(a, b, 6);
    });
}

#[test]
fn tap() {
    isolated_in_lab(|| {
        let device = |n: u8| format!("net_tap9,iface=up{n},mac={}", cable_mac(0, n));
        let (mut a, mut b) = (Host::new(1, &device(1)), Host::new(2, &device(2)));
        (a.bind_ips, b.bind_ips) = (false, false);
        let daemons = (Daemon::start("a", &a.yaml()), Daemon::start("b", &b.yaml()));
        lab::sh(
            "ip link add br0 type bridge mcast_snooping 0
             for i in up1 up2; do
                 sysctl -qw net.ipv6.conf.$i.disable_ipv6=1; ip link set $i master br0 up
             done
             sysctl -qw net.ipv6.conf.br0.disable_ipv6=1; ip link set br0 up",
        );
        // The bridge's ports carry the MACs of the switches; what is for them must still be
        // forwarded and not taken for the bridge's own.
        lab::sh(
            "ip link set up1 address 02:00:00:00:0f:01; ip link set up2 address 02:00:00:00:0f:02",
        );
        let testpmd = tenants_of(&a, &b);
        exchange(daemons.0, daemons.1, testpmd, 6);
    });
}
