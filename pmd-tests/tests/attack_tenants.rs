//! A hostile tenant at a vhost-user port: in other's names, in tags, in headers that hide
//! something, in frames of odd lengths, and in masses. Every counter is checked; what may pass
//! arrives byte for byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pmd_tests::discovery::{
    self as nd, NEIGHBOR_ADVERT, NEIGHBOR_SOLICIT, REDIRECT, REPLY, REQUEST, ROUTER_ADVERT,
    ROUTER_SOLICIT, SOURCE_LLA, TARGET_LLA, about, arp, arp_to, chain, fragment, icmp6, link_local,
    lla, on_link, router,
};
use pmd_tests::frames::{
    self, BROADCAST, Mac, ethernet, ip4, ip6, ipv4, ipv6, mac, pattern, tagged, udp, udp4, udp6,
};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, VhostPort};
use pmd_tests::tally::{Tally, sealed_len};

const ME: Mac = mac(1);
const PORT: &str = "vm-1";
const NEIGHBOUR: &str = "vm-3";

/// Tenants 1 and 3 here, 2 at peer `b`, each bound to its MAC and IP addresses.
fn setup(bum_rate: u32) -> Setup {
    let mut setup = Setup::new();
    let blue = &mut setup.vns[0];
    blue.list_ips = true;
    blue.ports.clear();
    blue.tenants = [(PORT, 1), (NEIGHBOUR, 3)]
        .map(|(name, tenant)| VhostPort {
            name,
            tenant,
            bum_rate,
        })
        .to_vec();
    setup
}

/// Frames that end where they came from, each for its reason.
#[track_caller]
fn refused(rig: &mut Rig, frames: &[(Vec<u8>, &'static str)]) {
    for (frame, why) in frames {
        let mut tally = Tally::new();
        tally.refused(PORT, "blue", frame.len(), why);
        rig.from_tenant(PORT, std::slice::from_ref(frame));
        let out = rig.settle();
        tally.check(&out.changes);
        assert!(out.underlay.is_empty() && out.trunk.is_empty() && out.tenants.is_empty());
    }
}

/// Frames that pass: to the neighbour's address, to the peer's, or as a group to both.
#[track_caller]
fn passes(rig: &mut Rig, frames: &[Vec<u8>]) {
    for frame in frames {
        let (mut tally, len) = (Tally::new(), frame.len());
        let (here, there) = match frame[..6] {
            [first, ..] if first & 1 == 1 => (true, true),
            _ => (frame[..6] == mac(3), frame[..6] == mac(2)),
        };
        tally.admitted(PORT, "blue", len, u64::from(here) + u64::from(there));
        if here {
            tally.to_port(NEIGHBOUR, len, "to-tenant");
        }
        if there {
            tally.to_peer("blue/b", len, sealed_len(len));
        }
        rig.from_tenant(PORT, std::slice::from_ref(frame));
        let out = rig.settle();
        tally.check(&out.changes);
        let local: Vec<_> = here
            .then(|| (NEIGHBOUR, frame.clone()))
            .into_iter()
            .collect();
        assert_eq!(out.tenants, local);
        let remote: Vec<_> = out
            .underlay
            .iter()
            .map(|p| rig.opened("blue", "b", p).1)
            .collect();
        assert_eq!(
            remote,
            there.then(|| frame.clone()).into_iter().collect::<Vec<_>>()
        );
    }
}

fn claims4(src: Mac, ip: Ipv4Addr) -> Vec<u8> {
    let datagram = udp(ip.into(), ip4(3).into(), 1, 2, &[0; 20]);
    ethernet(mac(3), src, 0x0800, &ipv4(ip, ip4(3), 17, 0, 7, &datagram))
}

fn claims6(src: Mac, ip: Ipv6Addr) -> Vec<u8> {
    let datagram = udp(IpAddr::V6(ip), ip6(3).into(), 1, 2, &[0; 20]);
    ethernet(mac(3), src, 0x86dd, &ipv6(ip, ip6(3), 17, &datagram))
}

fn dhcp(src: Ipv4Addr, dst: Ipv4Addr, sport: u16, dport: u16) -> Vec<u8> {
    let datagram = udp(src.into(), dst.into(), sport, dport, &[0; 240]);
    ethernet(BROADCAST, ME, 0x0800, &ipv4(src, dst, 17, 0, 7, &datagram))
}

#[test]
fn spoofed_sources() {
    isolated("spoofed_sources", || {
        let mut rig = Rig::start(setup(100_000));
        const MAC: &str = "spoofed-mac";
        const IP: &str = "spoofed-ip";
        const ARP: &str = "spoofed-arp";
        let none = Ipv4Addr::UNSPECIFIED;
        let broadcast = Ipv4Addr::BROADCAST;
        refused(
            &mut rig,
            &[
                // The neighbour's, the remote one's, nobody's, everybody's, a group's.
                (claims4(mac(3), ip4(1)), MAC),
                (claims4(mac(2), ip4(2)), MAC),
                (claims4(mac(77), ip4(1)), MAC),
                (claims4([0; 6], ip4(1)), MAC),
                (claims4(BROADCAST, ip4(1)), MAC),
                (claims4([1, 0, 0x5e, 0, 0, 1], ip4(1)), MAC),
                (pattern(mac(3), mac(3), 0, 60), MAC),
                // IPv4.
                (claims4(ME, ip4(3)), IP),
                (claims4(ME, ip4(2)), IP),
                (claims4(ME, ip4(9)), IP),
                (claims4(ME, none), IP),
                (claims4(ME, broadcast), IP),
                (claims4(ME, Ipv4Addr::LOCALHOST), IP),
                (claims4(ME, Ipv4Addr::new(224, 0, 0, 1)), IP),
                (claims4(ME, Ipv4Addr::new(169, 254, 1, 1)), IP),
                // IPv6.
                (claims6(ME, ip6(3)), IP),
                (claims6(ME, ip6(2)), IP),
                (claims6(ME, Ipv6Addr::UNSPECIFIED), IP),
                (claims6(ME, Ipv6Addr::LOCALHOST), IP),
                (claims6(ME, link_local(mac(3))), IP),
                (claims6(ME, nd::ALL_NODES), IP),
                (claims6(ME, ip4(1).to_ipv6_mapped()), IP),
                // DHCP: a client has no address yet, but it asks everybody, and is no server.
                (dhcp(none, broadcast, 67, 68), IP),
                (dhcp(none, ip4(3), 68, 67), IP),
                (dhcp(none, broadcast, 68, 53), IP),
                (dhcp(ip4(3), broadcast, 67, 68), IP),
                // ARP: another's IP, another's MAC, both, a probe, gratuitous, a reply.
                (arp(ME, REQUEST, (ME, ip4(3)), ip4(2)), ARP),
                (arp(ME, REQUEST, (mac(3), ip4(1)), ip4(2)), ARP),
                (arp(ME, REQUEST, (mac(3), ip4(3)), ip4(3)), ARP),
                (arp(ME, REQUEST, (ME, none), ip4(3)), ARP),
                (arp(ME, REPLY, (ME, none), ip4(3)), ARP),
                (arp(ME, REQUEST, (ME, ip4(3)), ip4(3)), ARP),
                (arp(ME, REPLY, (ME, ip4(3)), ip4(3)), ARP),
                (arp_to(mac(3), ME, REPLY, (ME, ip4(2)), ip4(3)), ARP),
                (arp_to(mac(3), ME, 9, (ME, ip4(2)), ip4(3)), ARP),
                (arp(mac(3), REPLY, (mac(3), ip4(3)), ip4(2)), MAC),
            ],
        );
        passes(
            &mut rig,
            &[
                claims4(ME, ip4(1)),
                claims6(ME, ip6(1)),
                claims6(ME, link_local(ME)),
                udp4(1, 2, 0, 90),
                udp6(1, 2, 90),
                arp(ME, REQUEST, (ME, ip4(1)), ip4(3)),
                arp(ME, REQUEST, (ME, ip4(1)), ip4(1)),
                arp(ME, REQUEST, (ME, none), ip4(1)),
                arp_to(mac(3), ME, REPLY, (ME, ip4(1)), ip4(3)),
                dhcp(none, broadcast, 68, 67),
                // There is no rule against a tenant that serves DHCP from its own address.
                dhcp(ip4(1), broadcast, 67, 68),
            ],
        );
        rig.stop();
    });
}

#[test]
fn neighbour_discovery() {
    isolated("neighbour_discovery", || {
        const ND: &str = "spoofed-nd";
        const IP: &str = "spoofed-ip";
        const ROUTER: &str = "rogue-router";
        const BAD: &str = "malformed";
        let mut rig = Rig::start(setup(100_000));
        let mine = link_local(ME);
        let nobody = Ipv6Addr::UNSPECIFIED;
        let solicit = |target, options: &[u8]| about(0, target, options);
        let advert = |target, options: &[u8]| about(0x2000_0000, target, options);
        let (own, other) = (lla(TARGET_LLA, ME), lla(TARGET_LLA, mac(3)));
        let (own_src, other_src) = (lla(SOURCE_LLA, ME), lla(SOURCE_LLA, mac(3)));
        let say = |src, kind, body: &[u8]| nd::nd(ME, src, kind, body);
        let redirect = [&[0; 4][..], &ip6(1).octets(), &ip6(3).octets()].concat();
        let behind = |headers: &[u8], kind, body: &[u8]| {
            let message = icmp6(mine, nd::ALL_NODES, kind, body);
            let (next, bytes) = chain(headers, nd::ICMPV6, &message);
            on_link(ME, mine, next, &bytes)
        };
        let with = |mut frame: Vec<u8>, at: usize, byte: u8| {
            frame[at] = byte;
            frame
        };
        let rs = |options: &[u8]| [&[0; 4][..], options].concat();
        refused(
            &mut rig,
            &[
                // Another's target, another's link-layer address, both.
                (say(ip6(1), NEIGHBOR_ADVERT, &advert(ip6(3), &own)), ND),
                (say(mine, NEIGHBOR_ADVERT, &advert(ip6(2), &own)), ND),
                (
                    say(mine, NEIGHBOR_ADVERT, &advert(link_local(mac(3)), &[])),
                    ND,
                ),
                (say(mine, NEIGHBOR_ADVERT, &advert(ip6(1), &other)), ND),
                (say(mine, NEIGHBOR_ADVERT, &advert(ip6(3), &other)), ND),
                (
                    say(mine, NEIGHBOR_SOLICIT, &solicit(ip6(3), &other_src)),
                    ND,
                ),
                (say(nobody, NEIGHBOR_SOLICIT, &solicit(ip6(3), &[])), ND),
                (
                    say(nobody, NEIGHBOR_SOLICIT, &solicit(ip6(1), &own_src)),
                    ND,
                ),
                (say(mine, ROUTER_SOLICIT, &rs(&other_src)), ND),
                (say(nobody, ROUTER_SOLICIT, &rs(&own_src)), ND),
                // From another's address.
                (say(ip6(3), NEIGHBOR_ADVERT, &advert(ip6(3), &other)), IP),
                (say(nobody, NEIGHBOR_ADVERT, &advert(ip6(1), &own)), IP),
                (
                    say(link_local(mac(3)), NEIGHBOR_SOLICIT, &solicit(ip6(2), &[])),
                    IP,
                ),
                // Routers, plainly and hidden behind what hosts skip.
                (say(mine, ROUTER_ADVERT, &router(&[])), ROUTER),
                (say(mine, ROUTER_ADVERT, &router(&own_src)), ROUTER),
                (say(mine, REDIRECT, &redirect), ROUTER),
                (
                    behind(&[nd::HOP_BY_HOP], ROUTER_ADVERT, &router(&[])),
                    ROUTER,
                ),
                (
                    behind(&[nd::DESTINATION], ROUTER_ADVERT, &router(&[])),
                    ROUTER,
                ),
                (behind(&[nd::ROUTING], REDIRECT, &redirect), ROUTER),
                (
                    behind(
                        &[nd::HOP_BY_HOP, nd::DESTINATION, nd::ROUTING],
                        ROUTER_ADVERT,
                        &router(&[]),
                    ),
                    ROUTER,
                ),
                (
                    behind(&[nd::DESTINATION; 7], ROUTER_ADVERT, &router(&[])),
                    ROUTER,
                ),
                (
                    behind(&[nd::DESTINATION; 7], NEIGHBOR_ADVERT, &advert(ip6(3), &[])),
                    ND,
                ),
                // Longer chains than anyone has reason to send, and out of order.
                (
                    behind(&[nd::DESTINATION; 9], ROUTER_ADVERT, &router(&[])),
                    BAD,
                ),
                (
                    behind(
                        &[nd::DESTINATION, nd::HOP_BY_HOP],
                        ROUTER_ADVERT,
                        &router(&[]),
                    ),
                    BAD,
                ),
                // Not valid for any host (RFC 4861, 6.1 and 7.1): from afar, code, cut off.
                (
                    with(say(mine, ROUTER_ADVERT, &router(&[])), 14 + 7, 254),
                    BAD,
                ),
                (
                    with(
                        say(mine, NEIGHBOR_ADVERT, &advert(ip6(1), &own)),
                        14 + 40 + 1,
                        1,
                    ),
                    BAD,
                ),
                (say(mine, NEIGHBOR_ADVERT, &[0; 12]), BAD),
                (
                    say(
                        mine,
                        NEIGHBOR_ADVERT,
                        &advert(ip6(1), &[2, 0, 0, 0, 0, 0, 0, 0]),
                    ),
                    BAD,
                ),
                (
                    say(
                        mine,
                        NEIGHBOR_ADVERT,
                        &advert(ip6(1), &[2, 2, 0, 0, 0, 0, 0, 0]),
                    ),
                    BAD,
                ),
                (
                    say(
                        mine,
                        NEIGHBOR_ADVERT,
                        &advert(ip6(1), &[&own[..], &other].concat()),
                    ),
                    BAD,
                ),
            ],
        );
        passes(
            &mut rig,
            &[
                say(ip6(1), NEIGHBOR_ADVERT, &advert(ip6(1), &own)),
                say(mine, NEIGHBOR_ADVERT, &advert(mine, &own)),
                say(mine, NEIGHBOR_SOLICIT, &solicit(ip6(3), &own_src)),
                // Duplicate address detection of its own address.
                say(nobody, NEIGHBOR_SOLICIT, &solicit(ip6(1), &[])),
                say(nobody, ROUTER_SOLICIT, &rs(&[])),
                behind(&[nd::HOP_BY_HOP], NEIGHBOR_ADVERT, &advert(ip6(1), &own)),
            ],
        );
        rig.stop();
    });
}

#[test]
fn fragments_hide_nothing() {
    isolated("fragments_hide_nothing", || {
        const BAD: &str = "malformed";
        let mut rig = Rig::start(setup(100_000));
        let mine = link_local(ME);
        let advert = icmp6(mine, nd::ALL_NODES, ROUTER_ADVERT, &router(&[]));
        let packet = |next, body: &[u8]| on_link(ME, mine, next, body);
        let (options, behind) = chain(&[nd::DESTINATION], nd::ICMPV6, &advert);
        let (two, behind_two) = chain(&[nd::DESTINATION, nd::DESTINATION], nd::ICMPV6, &advert);
        let nested = fragment(
            nd::FRAGMENT,
            0,
            false,
            &fragment(nd::ICMPV6, 0, false, &advert),
        );
        refused(
            &mut rig,
            &[
                // RFC 6980: in no fragment at all, not even one that is a whole packet.
                (
                    packet(nd::FRAGMENT, &fragment(nd::ICMPV6, 0, false, &advert)),
                    BAD,
                ),
                (
                    packet(nd::FRAGMENT, &fragment(nd::ICMPV6, 0, true, &advert)),
                    BAD,
                ),
                (
                    packet(nd::FRAGMENT, &fragment(options, 0, true, &behind)),
                    BAD,
                ),
                (
                    packet(nd::FRAGMENT, &fragment(options, 0, false, &behind)),
                    BAD,
                ),
                // RFC 7112: headers that go on in the next fragment.
                (
                    packet(nd::FRAGMENT, &fragment(options, 0, true, &behind[..8])),
                    BAD,
                ),
                (
                    packet(nd::FRAGMENT, &fragment(two, 0, true, &behind_two[..16])),
                    BAD,
                ),
                (
                    packet(nd::FRAGMENT, &fragment(two, 0, true, &behind_two[..8])),
                    BAD,
                ),
                (
                    packet(nd::FRAGMENT, &fragment(nd::ICMPV6, 0, true, &[])),
                    BAD,
                ),
                (packet(nd::FRAGMENT, &nested), BAD),
                (packet(nd::FRAGMENT, &[nd::ICMPV6, 0, 0]), BAD),
                // A later fragment still has a source.
                (
                    on_link(
                        ME,
                        ip6(3),
                        nd::FRAGMENT,
                        &fragment(nd::ICMPV6, 2, false, &advert),
                    ),
                    "spoofed-ip",
                ),
            ],
        );
        // IPv4: a first fragment without its transport header, and one that writes over it.
        let tcp = [&[0, 80, 0, 80][..], &[0; 8], &[0x50, 2, 0, 0, 0, 0, 0, 0]].concat();
        let part = |protocol, field, body: &[u8]| {
            ethernet(
                mac(3),
                ME,
                0x0800,
                &ipv4(ip4(1), ip4(3), protocol, field, 7, body),
            )
        };
        refused(
            &mut rig,
            &[
                (part(6, 0x2000, &tcp[..8]), BAD),
                (part(17, 0x2000, &[0; 4]), BAD),
                (part(1, 0x2000, &[8, 0]), BAD),
                (part(6, 1, &tcp), BAD),
                (part(6, 0x2001, &tcp), BAD),
            ],
        );
        passes(
            &mut rig,
            &[
                // Of what never had a first fragment, no host makes anything.
                packet(nd::FRAGMENT, &fragment(nd::ICMPV6, 3, false, &[0; 24])),
                part(6, 0x2000, &tcp),
                part(6, 3, &tcp),
            ],
        );
        rig.stop();
    });
}

#[test]
fn tags_and_llc() {
    isolated("tags_and_llc", || {
        let mut rig = Rig::start(setup(100_000));
        let good = udp4(1, 3, 0, 90);
        let retagged = |ethertype: u16, frame: &[u8]| {
            let mut frame = tagged(5, frame);
            frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
            frame
        };
        let snap = |oui: [u8; 3], ethertype: u16| {
            let body = [
                &[0xaa, 0xaa, 3][..],
                &oui,
                &ethertype.to_be_bytes(),
                &good[14..],
            ]
            .concat();
            ethernet(mac(3), ME, body.len() as u16, &body)
        };
        let nest = |n: usize| (0..n).fold(good.clone(), |frame, _| tagged(0, &frame));
        const VLAN: &str = "unexpected-vlan";
        const LLC: &str = "llc-frame";
        refused(
            &mut rig,
            &[
                // Priority tags: every priority, VLAN 0; then VLANs; then the last there is.
                (tagged(0, &good), VLAN),
                (tagged(0xe000, &good), VLAN),
                (tagged(0x1000, &good), VLAN),
                (tagged(1, &good), VLAN),
                (tagged(101, &good), VLAN),
                (tagged(0xfff, &good), VLAN),
                // QinQ, in both EtherTypes and both orders.
                (retagged(0x88a8, &good), VLAN),
                (retagged(0x88a8, &tagged(5, &good)), VLAN),
                (tagged(5, &retagged(0x88a8, &good)), VLAN),
                (nest(2), VLAN),
                (nest(4), VLAN),
                (nest(5), "malformed"),
                (nest(100), "malformed"),
                // A tag at the end of the frame, and half a tag.
                (tagged(0, &pattern(mac(3), ME, 0, 14)), VLAN),
                (nest(1)[..18].to_vec(), "malformed"),
                (nest(1)[..17].to_vec(), "malformed"),
                // Vendors' tags, LLC, SNAP of both kinds, Novell's raw 802.3, length zero.
                (retagged(0x9100, &good), LLC),
                (retagged(0x9200, &good), LLC),
                (retagged(0x9300, &good), LLC),
                (snap([0, 0, 0], 0x0800), LLC),
                (snap([0, 0, 0xf8], 0x0800), LLC),
                (snap([0, 0, 0], 0x8100), LLC),
                (ethernet(mac(3), ME, 46, &[0xff; 46]), LLC),
                (ethernet(mac(3), ME, 0, &[0; 46]), LLC),
                (ethernet(mac(3), ME, 0x05ff, &[0x42; 60]), LLC),
                (ethernet([1, 0x80, 0xc2, 0, 0, 0], ME, 38, &[0x42; 46]), LLC),
            ],
        );
        passes(&mut rig, &[good]);
        rig.stop();
    });
}

#[test]
fn frames_of_odd_lengths() {
    isolated("frames_of_odd_lengths", || {
        let mut rig = Rig::start(setup(100_000));
        let (v4, v6) = (udp4(1, 3, 0, 90), udp6(1, 3, 90));
        let me = arp_to(mac(3), ME, REPLY, (ME, ip4(1)), ip4(3));
        let mut cut = Vec::new();
        // librte_vhost keeps a frame without a byte to itself: it is none.
        for frame in [&v4, &v6, &me] {
            for len in 1..frame.len() {
                cut.push((frame[..len].to_vec(), "malformed"));
            }
        }
        // The lengths inside beyond those outside, and below themselves.
        for (at, bytes) in [
            (16, [0xff, 0xff]),
            (16, [0, 19]),
            (16, [0, 77]),
            (38, [0, 7]),
            (38, [0xff, 0xff]),
            (38, [0, 57]),
        ] {
            let mut frame = v4.clone();
            frame[at..at + 2].copy_from_slice(&bytes);
            cut.push((frame, "malformed"));
        }
        let mut header = v4.clone();
        header[14] = 0x44;
        cut.push((header.clone(), "malformed"));
        header[14] = 0x65;
        cut.push((header, "malformed"));
        let mut hardware = me.clone();
        hardware[14 + 1] = 6;
        cut.push((hardware, "malformed"));
        refused(&mut rig, &cut);
        // From a bare header on, what is not IP or ARP has no length of its own.
        let bare: Vec<_> = (14..=60).map(|len| pattern(mac(3), ME, 0, len)).collect();
        passes(&mut rig, &bare);

        // To the neighbour anything the ring takes; over the overlay what its MTU takes.
        let largest = 1440 - 2 - 16;
        passes(
            &mut rig,
            &[
                pattern(mac(2), ME, 0, largest),
                pattern(mac(3), ME, 0, 9000),
            ],
        );
        for frame in [
            pattern(mac(2), ME, 0, largest + 1),
            pattern(mac(2), ME, 0, 9000),
            pattern(mac(2), ME, 0, 65_000),
        ] {
            let mut tally = Tally::new();
            tally.lost(PORT, "blue", frame.len(), "too-big");
            rig.from_tenant(PORT, &[frame]);
            let out = rig.settle();
            tally.check(&out.changes);
            assert!(out.underlay.is_empty() && out.tenants.is_empty());
        }
        rig.stop();
    });
}

#[test]
fn frames_that_lead_nowhere() {
    isolated("frames_that_lead_nowhere", || {
        let mut rig = Rig::start(setup(100_000));
        let groups = (0..16).map(|n| ([1, 0x80, 0xc2, 0, 0, n], "link-local-group"));
        let others = [
            (ME, "same-port"),
            (mac(99), "unknown-unicast"),
            ([0; 6], "unknown-unicast"),
            // The edge's own MAC on the underlay is nobody's in here.
            (rig.mac(), "unknown-unicast"),
        ];
        for (dst, why) in groups.chain(others) {
            let frame = pattern(dst, ME, 0, 60);
            let mut tally = Tally::new();
            tally.lost(PORT, "blue", 60, why);
            rig.from_tenant(PORT, &[frame]);
            let out = rig.settle();
            tally.check(&out.changes);
            assert!(out.underlay.is_empty() && out.tenants.is_empty());
        }
        // The next group address is a bridge's no more.
        passes(&mut rig, &[pattern([1, 0x80, 0xc2, 0, 0, 0x10], ME, 0, 60)]);
        rig.stop();
    });
}

#[test]
fn a_broadcast_storm_costs_its_port_only() {
    isolated("a_broadcast_storm_costs_its_port_only", || {
        const RATE: u32 = 50;
        // More than the port has buffers, so that one that leaks would run dry.
        const STORM: usize = 6_000;
        let mut rig = Rig::start(setup(RATE));
        let frame = pattern(BROADCAST, ME, 0, 64);
        let began = std::time::Instant::now();
        let (mut admitted, mut policed) = (0, 0);
        for _ in 0..STORM / 200 {
            rig.from_tenant(PORT, &vec![frame.clone(); 200]);
            let out = rig.settle();
            let count = |v: &str| out.changes.verdicts.get(v).copied().unwrap_or(0);
            let (passed, dropped) = (count("to-underlay"), count("bum-rate"));
            assert_eq!(passed + dropped, 200);
            // Whatever the clock let pass, every counter agrees with it.
            let mut tally = Tally::new();
            for _ in 0..passed {
                tally.admitted(PORT, "blue", 64, 2);
                tally.to_port(NEIGHBOUR, 64, "to-tenant");
                tally.to_peer("blue/b", 64, sealed_len(64));
            }
            for _ in 0..dropped {
                tally.lost(PORT, "blue", 64, "bum-rate");
            }
            tally.check(&out.changes);
            assert_eq!(out.tenants.len() as u64, passed);
            assert_eq!(out.underlay.len() as u64, passed);
            (admitted, policed) = (admitted + passed, policed + dropped);
        }
        // A second's worth at once, then the rate.
        let most = u64::from(RATE) * (began.elapsed().as_secs() + 2);
        assert!(
            (u64::from(RATE)..=most).contains(&admitted),
            "{admitted} of at most {most}"
        );
        assert_eq!(admitted + policed, STORM as u64);
        // Unicast is not policed, and the neighbour's broadcasts have a rate of their own.
        passes(&mut rig, &[udp4(1, 3, 0, 90), udp4(1, 2, 0, 90)]);
        let frame = frames::ethernet(BROADCAST, mac(3), 0x88b5, &[7; 46]);
        rig.from_tenant(NEIGHBOUR, std::slice::from_ref(&frame));
        let out = rig.settle();
        assert_eq!(out.tenants, [(PORT, frame)]);
        out.changes
            .expect_verdicts(&[("to-tenant", 1), ("to-underlay", 1)]);
        rig.stop();
    });
}
