//! A hostile tenant that hides what it says: in neighbour discovery, behind extension headers,
//! in fragments, in tags. Every counter is checked; what may pass arrives byte for byte.

use std::net::Ipv6Addr;

use pmd_tests::discovery::{
    self as nd, NEIGHBOR_ADVERT, NEIGHBOR_SOLICIT, REDIRECT, ROUTER_ADVERT, ROUTER_SOLICIT,
    SOURCE_LLA, TARGET_LLA, about, chain, fragment, icmp6, link_local, lla, on_link, router,
};
use pmd_tests::frames::{ethernet, ip4, ip6, ipv4, mac, pattern, tagged, udp4};
use pmd_tests::hostile::{ME, passes, refused, setup};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;

#[test]
fn neighbour_discovery() {
    isolated(|| {
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
    isolated(|| {
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
    isolated(|| {
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
