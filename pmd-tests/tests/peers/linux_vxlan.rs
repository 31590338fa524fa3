//! Clear VXLAN with the Linux kernel of this machine, over IPv4 and IPv6.
//!
//! Independent here: the kernel's `vxlan` device, its IP stack, ARP and ND, its TCP.

use pmd_tests::daemon::Daemon;
use pmd_tests::guest;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{self, sh};
use pmd_tests::peer::{Meter, Namespace, interface, pings, reach, tcp_both_ways};
use pmd_tests::peering::{Network, Peering};
use pmd_tests::wire::Encapsulation;

fn network(name: &'static str, vni: u32, peer: &str) -> Network {
    Network {
        name,
        vni,
        peer: peer.parse().expect("an address"),
        encapsulation: Encapsulation::Vxlan,
        protection: None,
    }
}

#[test]
fn vxlan_with_the_kernel() {
    guest::image();
    isolated_in_lab(|| {
        lab::two_hosts();
        lab::cable(0);
        let peering = Peering {
            underlay: "net_af_packet0,iface=vh0".into(),
            addresses: vec!["192.0.2.1/24", "2001:db8::1/64"],
            tap: Some("vsw0"),
            neighbour: None,
            networks: vec![
                network("four", 1004, "192.0.2.2"),
                network("six", 1006, "2001:db8::2"),
            ],
        };
        let edge = Daemon::start("a", &peering.yaml());
        let tenant = peering.tenant();
        // Host b is Linux and nothing else.
        sh("ip netns exec b sysctl -qw net.ipv6.conf.vh0.disable_ipv6=0
            ip -n b address add 192.0.2.2/24 dev vh0
            ip -n b address add 2001:db8::2/64 dev vh0 nodad");
        edge.wait("tunnels up", |s| s.tunnels.iter().all(|t| t.state == "up"));
        sh("ip -n b link add vx4 type vxlan id 1004 dstport 4789 local 192.0.2.2 remote 192.0.2.1
            ip -n b link add vx6 type vxlan id 1006 dstport 4789 local 2001:db8::2 remote 2001:db8::1
            for i in vx4 vx6; do
                # One packet counted is one packet sent.
                ip netns exec b ethtool -K $i tso off gso off gro off
                ip -n b link set $i address 52:54:00:00:00:02 mtu 1380 up
            done
            ip -n b address add 10.0.0.2/24 dev vx4
            ip -n b address add fd00::2/64 dev vx4 nodad
            ip -n b address add 10.0.1.2/24 dev vx6");
        let linux = Namespace("b");
        reach(&tenant, "10.0.0.2");
        let four = Meter::start(&edge, "four", || interface(&linux, "vx4"));
        let six = Meter::start(&edge, "six", || interface(&linux, "vx6"));
        pings(&tenant, "10.0.0.2");
        pings(&tenant, "fd00::2");
        pings(&linux, "10.0.0.1");
        tcp_both_ways(&tenant, &linux, "10.0.0.2");
        pings(&tenant, "10.0.1.2");
        pings(&linux, "10.0.1.1");
        tcp_both_ways(&tenant, &linux, "10.0.1.2");
        four.both_ends_agree();
        six.both_ends_agree();
        edge.stop();
    });
}
