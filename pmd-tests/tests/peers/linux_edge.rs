//! ESP + Geneve, ESP + VXLAN and clear Geneve with Linux: a guest with Debian's kernel is the
//! remote edge, keyed by hand with `ip xfrm`.
//!
//! Independent here: Linux's xfrm with esp4 and esp6 (AES-GCM, UDP encapsulation, extended
//! sequence numbers and replay windows), its `geneve` and `vxlan` devices, ARP, ND and TCP. Its
//! IVs are its own: the sequence number, scrambled.

use std::path::Path;

use pmd_tests::daemon::Daemon;
use pmd_tests::guest::{self, Guest};
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{DIR, sh};
use pmd_tests::peer::{Meter, Shell, interface, pings, reach, tcp_both_ways};
use pmd_tests::peering::{Network, Peering};
use pmd_tests::records;
use pmd_tests::wire::{Algorithm, Encapsulation, Sa};
use vswitch::manage::status::Status;

/// Both directions begin this many packets before the low half of their numbers is used up.
const BEFORE: u64 = 40;
const BOUNDARY: u64 = 1 << 32;

fn network(
    name: &'static str,
    vni: u32,
    peer: &str,
    encapsulation: Encapsulation,
    protection: Option<(Algorithm, bool)>,
) -> Network {
    Network {
        name,
        vni,
        peer: peer.parse().expect("an address"),
        encapsulation,
        protection,
    }
}

fn peering() -> Peering {
    use {Algorithm::*, Encapsulation::*};
    let (four, six) = ("192.0.2.2", "2001:db8::2");
    Peering {
        underlay: "net_af_packet0,iface=up0".into(),
        addresses: vec!["192.0.2.1/24", "2001:db8::1/64"],
        tap: Some("vsw0"),
        neighbour: None,
        networks: vec![
            network("geneve4", 1001, four, Geneve, Some((Gcm256, true))),
            network("geneve6", 1002, six, Geneve, Some((Gcm128, true))),
            network("vxlan4", 1003, "192.0.2.3", Vxlan, Some((Gcm128, false))),
            network("clear", 1004, four, Geneve, None),
        ],
    }
}

/// What an operator types on the Linux edge for one association.
fn state(sa: &Sa, from: &str, to: &str, esn: bool, next: u64) -> String {
    let key = hex::encode(&sa.key_and_salt);
    let last = (next - 1) as u32;
    let counters = match esn {
        true => format!("replay-window 1024 flag esn replay-seq {last} replay-oseq {last}"),
        false => "replay-window 32".to_owned(),
    };
    let any = if from.contains(':') { "::" } else { "0.0.0.0" };
    format!(
        "ip xfrm state add src {from} dst {to} proto esp spi {} mode transport {counters} \
         aead 'rfc4106(gcm(aes))' 0x{key} 128 encap espinudp 4500 4500 {any}\n",
        sa.spi
    )
}

/// And for one direction of the policy: tunnel packets only protected.
fn policy(direction: &str, from: &str, to: &str, port: u16) -> String {
    format!(
        "ip xfrm policy add dir {direction} src {from} dst {to} proto 17 dport {port} \
         tmpl src {from} dst {to} proto esp mode transport\n"
    )
}

/// Makes the guest the other edge of a network.
fn peer_with(linux: &Guest, network: &Network, esn: bool, next: u64) {
    let there = network.peer.to_string();
    let here = match network.peer.is_ipv4() {
        true => "192.0.2.1",
        false => "2001:db8::1",
    };
    let (ours, theirs) = (network.outbound(), network.inbound());
    let (ours, theirs) = (ours.expect("protected"), theirs.expect("protected"));
    let port = network.encapsulation.port();
    linux.run(
        &[
            state(&ours, here, &there, esn, next),
            state(&theirs, &there, here, esn, next),
            policy("in", here, &there, port),
            policy("out", &there, here, port),
        ]
        .concat(),
    );
}

/// A tunnel device of the guest's, with tenant 2 on it. One packet counted is one packet sent.
fn device(linux: &Guest, name: &str, kind: &str, addresses: [&str; 2]) {
    linux.run(&format!(
        "ip link add {name} type {kind}
         ethtool -K {name} tso off gso off gro off >/dev/null
         ip link set {name} address 52:54:00:00:00:02 mtu 1380 up
         ip address add {}/24 dev {name}
         ip address add {}/64 dev {name} nodad",
        addresses[0], addresses[1]
    ));
}

/// Pings both ways, one way in each family, TCP both ways, both ends counting alike.
fn talk(edge: &Daemon, tenant: &Guest, linux: &Guest, vn: &str, n: u8) -> (u64, u64) {
    let (four, six) = match n {
        0 => ("10.0.0".to_owned(), "fd00:".to_owned()),
        n => (format!("10.0.{n}"), format!("fd00:{n}:")),
    };
    reach(tenant, &format!("{four}.2"));
    let meter = Meter::start(edge, vn, || interface(linux, vn));
    pings(tenant, &format!("{four}.2"));
    pings(linux, &format!("{six}:1"));
    tcp_both_ways(tenant, linux, &format!("{four}.2"));
    meter.both_ends_agree()
}

/// What Linux has refused, by reason. Not counted: what reaches it in the clear because no
/// other way is agreed for the network `clear`, which its policy is against.
fn refused(linux: &Guest) -> String {
    linux.run("grep -v XfrmInTmplMismatch /proc/net/xfrm_stat")
}

/// Three pings from Linux, none of them answered, each dropped here for this reason.
fn pings_that_fail(edge: &Daemon, linux: &Guest, device: &str, address: &str, why: &str) {
    let dropped = |status: &Status| {
        let drop = status.drops.iter().find(|d| d.reason == why);
        drop.map_or(0, |d| d.packets)
    };
    let before = dropped(&edge.status());
    // No ARP: each packet is a ping.
    let neighbour = format!("neigh replace {address} nud permanent dev {device}");
    linux.run(&format!("ip {neighbour} lladdr 52:54:00:00:00:01"));
    assert!(!linux.succeeds(&format!("ping -c 3 -i 0.2 -W 1 {address}")));
    edge.wait(why, |s| dropped(s) >= before + 3);
    linux.run(&format!("ip neigh del {address} dev {device}"));
}

#[test]
fn esp_and_geneve_with_linux() {
    guest::image();
    isolated_in_lab(|| {
        sh("ip tuntap add up0 mode tap
            sysctl -qw net.ipv6.conf.up0.disable_ipv6=1
            ip link set up0 address 02:00:00:00:00:01 up");
        let linux = Guest::run(&[
            "linux",
            "tap:up0",
            "02:00:00:00:00:02",
            "192.0.2.2/24",
            "192.0.2.3/24",
            "2001:db8::2/64",
            "--modules",
            "esp4,esp6,geneve,vxlan,xfrm_user",
        ]);
        let peering = peering();
        let [geneve4, geneve6, vxlan4, _] = &peering.networks[..] else {
            unreachable!("four networks");
        };
        let next = BOUNDARY - BEFORE;
        for network in [geneve4, geneve6] {
            let sa = network.outbound().expect("protected");
            records::goes_on_at(Path::new(&format!("{DIR}/state-a")), &sa, next);
        }
        let edge = Daemon::start("a", &peering.yaml());
        let tenant = peering.tenant();

        // In the clear Linux would otherwise join TCP segments before it counts them.
        linux.run("ethtool -K eth0 gro off >/dev/null");
        // Sockets that take ESP in UDP; an IKE daemon has its own.
        linux.run(
            "for on in UDP4-RECV:4500 UDP6-RECV:4500,ipv6only=1; do
                (socat -u $on,setsockopt-listen=17:100:i2 OPEN:/dev/null \\
                    >/dev/null 2>&1 </dev/null &)
            done",
        );
        peer_with(&linux, geneve4, true, next);
        peer_with(&linux, geneve6, true, next);
        peer_with(&linux, vxlan4, false, 1);
        edge.wait("tunnels up", |s| s.tunnels.iter().all(|t| t.state == "up"));
        let geneve = "geneve id 1001 remote 192.0.2.1";
        device(&linux, "geneve4", geneve, ["10.0.0.2", "fd00::2"]);
        let geneve = "geneve id 1002 remote 2001:db8::1";
        device(&linux, "geneve6", geneve, ["10.0.1.2", "fd00:1::2"]);
        let vxlan = "vxlan id 1003 local 192.0.2.3 remote 192.0.2.1 dstport 4789";
        device(&linux, "vxlan4", vxlan, ["10.0.2.2", "fd00:2::2"]);

        let before = refused(&linux);
        for (n, network) in [(0, geneve4), (1, geneve6), (2, vxlan4)] {
            let (sent, received) = talk(&edge, &tenant, &linux, network.name, n);
            let status = edge.status();
            let sa = |direction: &str| {
                let mut sas = status.sas.iter();
                let sa = sas.find(|sa| sa.vn == network.name && sa.direction == direction);
                sa.expect("an association").clone()
            };
            let (out, inn) = (sa("outbound"), sa("inbound"));
            // Outbound: the next number; inbound: the highest. Nothing was lost or repeated.
            let first = if n == 2 { 1 } else { next };
            assert_eq!(out.sequence, first + out.packets, "{}", network.name);
            assert_eq!(inn.sequence, first + inn.packets - 1, "{}", network.name);
            assert!(out.packets >= sent && inn.packets >= received);
            if n != 2 {
                assert!(out.sequence > BOUNDARY && inn.sequence > BOUNDARY);
            }
            assert_eq!((inn.replayed, inn.auth_failed), (0, 0));
        }
        assert_eq!(refused(&linux), before);

        // A second network with the same peer, in the clear. While the policy stands Linux
        // protects it too, with the first one's association: refused.
        let geneve = "geneve id 1004 remote 192.0.2.1";
        device(&linux, "clear", geneve, ["10.0.3.2", "fd00:3::2"]);
        pings_that_fail(&edge, &linux, "clear", "10.0.3.1", "wrong-vni");
        // Without policy and keys everything leaves Linux in the clear: refused where it must
        // be protected.
        linux.run("ip xfrm policy flush; ip xfrm state flush");
        pings_that_fail(&edge, &linux, "geneve4", "10.0.0.1", "clear-for-protected");
        talk(&edge, &tenant, &linux, "clear", 3);
        edge.stop();
    });
}
