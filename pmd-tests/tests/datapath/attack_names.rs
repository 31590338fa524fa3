//! A member edge that speaks in another's name: authentic packets, whose frames say of their
//! sender what is not so. Every counter is checked, and nothing comes out.

use std::net::{Ipv4Addr, Ipv6Addr};

use pmd_tests::discovery::{
    self as nd, NEIGHBOR_ADVERT, NEIGHBOR_SOLICIT, REDIRECT, REPLY, REQUEST, ROUTER_ADVERT,
    ROUTER_SOLICIT, SOURCE_LLA, TARGET_LLA, about, arp, arp_to, chain, icmp6, link_local, lla,
    on_link, router,
};
use pmd_tests::frames::{BROADCAST, ethernet, ip4, ip6, mac, pattern, tagged, udp4, udp6};
use pmd_tests::hostile::{claims4, claims6};
use pmd_tests::isolate::isolated;
use pmd_tests::plays::{BLUE, passes, refused};
use pmd_tests::rig::Rig;
use pmd_tests::setup::Setup;

const INNER: usize = 90;

/// Frames that peer `b` may not send for tenant 2, and why.
fn lies() -> Vec<(Vec<u8>, &'static str)> {
    const MAC: &str = "spoofed-remote";
    const IP: &str = "spoofed-remote-ip";
    let (me, all) = (mac(2), nd::ALL_NODES);
    let mine = link_local(me);
    let advert = |target, options: &[u8]| about(0x2000_0000, target, options);
    let nd = |src, kind, body: &[u8]| nd::nd(me, src, kind, body);
    let behind = |headers: &[u8], kind, body: &[u8]| {
        let message = icmp6(mine, all, kind, body);
        let (next, bytes) = chain(headers, nd::ICMPV6, &message);
        on_link(me, mine, next, &bytes)
    };
    vec![
        // Another peer's tenant, the receiver's own address, a local one, nobody's, groups.
        (udp4(4, 1, 0, INNER), MAC),
        (udp4(1, 1, 0, INNER), MAC),
        (udp4(3, 1, 0, INNER), MAC),
        (udp4(77, 1, 0, INNER), MAC),
        (claims4(1, BROADCAST, ip4(2)), MAC),
        (claims4(1, [0x33, 0x33, 0, 0, 0, 1], ip4(2)), MAC),
        (claims4(1, [0; 6], ip4(2)), MAC),
        (claims4(1, me, ip4(4)), IP),
        (claims4(1, me, ip4(1)), IP),
        (claims4(1, me, ip4(50)), IP),
        (claims4(1, me, Ipv4Addr::UNSPECIFIED), IP),
        (claims4(1, me, Ipv4Addr::BROADCAST), IP),
        (claims4(1, me, Ipv4Addr::LOCALHOST), IP),
        (claims4(1, me, Ipv4Addr::new(224, 0, 0, 5)), IP),
        (claims6(1, me, ip6(4)), IP),
        (claims6(1, me, ip6(1)), IP),
        (claims6(1, me, Ipv6Addr::UNSPECIFIED), IP),
        (claims6(1, me, Ipv6Addr::LOCALHOST), IP),
        (claims6(1, me, link_local(mac(4))), IP),
        (claims6(1, me, all), IP),
        // ARP: in another's name, with another's MAC, probing for another's address.
        (arp(me, REQUEST, (me, ip4(4)), ip4(1)), IP),
        (arp(me, REPLY, (me, ip4(4)), ip4(4)), IP),
        (arp(me, REPLY, (mac(4), ip4(2)), ip4(1)), IP),
        (arp(me, REQUEST, (mac(4), ip4(4)), ip4(4)), IP),
        (arp(me, REQUEST, (me, Ipv4Addr::UNSPECIFIED), ip4(4)), IP),
        (arp_to(mac(1), me, REPLY, (me, ip4(3)), ip4(1)), IP),
        (arp(mac(4), REPLY, (mac(4), ip4(4)), ip4(1)), MAC),
        // Neighbor Discovery likewise.
        (
            nd(
                ip6(2),
                NEIGHBOR_ADVERT,
                &advert(ip6(4), &lla(TARGET_LLA, me)),
            ),
            IP,
        ),
        (
            nd(mine, NEIGHBOR_ADVERT, &advert(ip6(1), &lla(TARGET_LLA, me))),
            IP,
        ),
        (
            nd(
                ip6(2),
                NEIGHBOR_ADVERT,
                &advert(ip6(2), &lla(TARGET_LLA, mac(4))),
            ),
            IP,
        ),
        (
            nd(
                ip6(4),
                NEIGHBOR_ADVERT,
                &advert(ip6(4), &lla(TARGET_LLA, mac(4))),
            ),
            IP,
        ),
        (
            nd(
                ip6(2),
                NEIGHBOR_SOLICIT,
                &about(0, ip6(1), &lla(SOURCE_LLA, mac(4))),
            ),
            IP,
        ),
        (
            nd(
                Ipv6Addr::UNSPECIFIED,
                NEIGHBOR_SOLICIT,
                &about(0, ip6(4), &[]),
            ),
            IP,
        ),
        (
            nd(
                mine,
                ROUTER_SOLICIT,
                &[&[0; 4][..], &lla(SOURCE_LLA, mac(4))].concat(),
            ),
            IP,
        ),
        (
            nd(mine, ROUTER_ADVERT, &router(&lla(SOURCE_LLA, me))),
            "rogue-router",
        ),
        (
            nd(
                mine,
                REDIRECT,
                &[&[0; 4][..], &ip6(4).octets(), &ip6(1).octets()].concat(),
            ),
            "rogue-router",
        ),
        // The same behind extension headers.
        (
            behind(&[nd::HOP_BY_HOP], ROUTER_ADVERT, &router(&[])),
            "rogue-router",
        ),
        (
            behind(&[nd::DESTINATION, nd::ROUTING], ROUTER_ADVERT, &router(&[])),
            "rogue-router",
        ),
        (
            behind(&[nd::DESTINATION], NEIGHBOR_ADVERT, &advert(ip6(4), &[])),
            IP,
        ),
        // Not readable as what a host would take it for.
        (
            nd(mine, NEIGHBOR_ADVERT, &advert(ip6(2), &[TARGET_LLA, 0])),
            "malformed",
        ),
        (
            nd(
                mine,
                NEIGHBOR_ADVERT,
                &advert(
                    ip6(2),
                    &[&lla(TARGET_LLA, me)[..], &lla(TARGET_LLA, me)].concat(),
                ),
            ),
            "malformed",
        ),
        (tagged(0, &udp4(2, 1, 0, INNER)), "unexpected-vlan"),
        (tagged(101, &udp4(2, 1, 0, INNER)), "unexpected-vlan"),
        (
            ethernet(
                mac(1),
                me,
                38,
                &[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &[0; 30]].concat(),
            ),
            "llc-frame",
        ),
        (ethernet(mac(1), me, 0x9100, &[0; 46]), "llc-frame"),
        // For the bridges of the other side.
        (
            pattern([1, 0x80, 0xc2, 0, 0, 0], me, 0, 60),
            "link-local-group",
        ),
        (
            pattern([1, 0x80, 0xc2, 0, 0, 0xe], me, 0, 60),
            "link-local-group",
        ),
        // Back to where it came from, and on to a third edge.
        (pattern(me, me, 0, 60), "same-port"),
        (pattern(mac(4), me, 0, 60), "split-horizon"),
        (pattern(mac(99), me, 0, 60), "unknown-unicast"),
    ]
}

#[test]
fn a_member_speaks_in_nobody_elses_name() {
    isolated(|| {
        let mut setup = Setup::with_c();
        setup.vns[0].list_ips = true;
        let mut rig = Rig::start(setup);
        let mut seq = 0;
        for (frame, why) in lies() {
            seq += 1;
            let packet = rig.sealed("blue", "b", seq, &frame);
            let lost = [
                "link-local-group",
                "same-port",
                "split-horizon",
                "unknown-unicast",
            ];
            refused(&mut rig, packet, |t, len| {
                t.inner_drop(len, BLUE, frame.len(), why);
                if lost.contains(&why) {
                    t.in_network("blue", frame.len());
                }
            });
        }
        // The same in its own name.
        for frame in [
            udp4(2, 1, 0, INNER),
            udp6(2, 1, INNER),
            claims6(1, mac(2), link_local(mac(2))),
            arp_to(mac(1), mac(2), REPLY, (mac(2), ip4(2)), ip4(1)),
        ] {
            seq += 1;
            let packet = rig.sealed("blue", "b", seq, &frame);
            passes(&mut rig, packet, &frame);
        }
        rig.stop();
    });
}
