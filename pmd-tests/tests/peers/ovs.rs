//! Clear Geneve over IPv4 and clear VXLAN over IPv6 with Open vSwitch on DPDK.
//!
//! Independent here: OVS 3.1's userspace datapath with its tunnels, its neighbour table for
//! them, and DPDK's af_packet driver under it; behind it the kernel's ARP, ND and TCP.

use pmd_tests::daemon::Daemon;
use pmd_tests::guest;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{self, sh};
use pmd_tests::ovs::{self, Ovs};
use pmd_tests::peer::{Meter, Namespace, interface, pings, reach, tcp_both_ways};
use pmd_tests::peering::{Network, Peering};
use pmd_tests::wire::Encapsulation;

#[test]
fn geneve_and_vxlan_with_ovs_dpdk() {
    guest::image();
    ovs::unpack();
    isolated_in_lab(|| {
        lab::two_hosts();
        lab::cable(0);
        let network = |name, vni, peer: &str, encapsulation| Network {
            name,
            vni,
            peer: peer.parse().expect("an address"),
            encapsulation,
            protection: None,
        };
        let peering = Peering {
            underlay: "net_af_packet0,iface=vh0".into(),
            addresses: vec!["192.0.2.1/24", "2001:db8::1/64"],
            tap: Some("vsw0"),
            neighbour: None,
            networks: vec![
                network("geneve", 3001, "192.0.2.2", Encapsulation::Geneve),
                network("vxlan", 3002, "2001:db8::2", Encapsulation::Vxlan),
            ],
        };
        let ovs = Ovs::start("b", "vh0");
        // The bridge has the port's MAC address, and its addresses are the tunnels'.
        sh("ip -n b address add 192.0.2.2/24 dev underlay
            ip -n b address add 2001:db8::2/64 dev underlay nodad
            ip -n b link set underlay up");
        let edge = Daemon::start("a", &peering.yaml());
        let tenant = peering.tenant();
        edge.wait("tunnels up", |s| s.tunnels.iter().all(|t| t.state == "up"));
        ovs.tenant(
            "geneve",
            "type=geneve options:remote_ip=192.0.2.1 options:key=3001",
            ["10.0.0.2", "fd00::2"],
        );
        ovs.tenant(
            "vxlan",
            "type=vxlan options:remote_ip=2001:db8::1 options:key=3002",
            ["10.0.1.2", "fd00:1::2"],
        );
        let there = Namespace("b");
        for (vn, n, six) in [("geneve", 0, "fd00:"), ("vxlan", 1, "fd00:1:")] {
            reach(&tenant, &format!("10.0.{n}.2"));
            let meter = Meter::start(&edge, vn, || interface(&there, vn));
            pings(&tenant, &format!("10.0.{n}.2"));
            pings(&there, &format!("{six}:1"));
            tcp_both_ways(&tenant, &there, &format!("10.0.{n}.2"));
            meter.both_ends_agree();
        }
        edge.stop();
        ovs.stop();
    });
}
