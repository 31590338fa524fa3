//! Bindings against frames as they come from a guest, byte by byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use vswitch_net::quick;
use vswitch_net::{Frame, MacAddr};
use vswitch_policy::{Bindings, Spoof, check_source, check_stranger, link_local};

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const SECOND: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
const OTHER: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 9]);
const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const V4_SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const V6_OTHER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);

fn bound() -> Bindings {
    Bindings::new([
        (MAC, vec![V4.into(), V6.into()]),
        (SECOND, vec![V4_SECOND.into()]),
    ])
}

/// The MAC alone: any IP.
fn open() -> Bindings {
    Bindings::new([(MAC, vec![])])
}

fn ethernet(src: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(src.0);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

fn arp(src: MacAddr, op: u8, sender: (MacAddr, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, op];
    packet.extend(sender.0.0);
    packet.extend(sender.1.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    ethernet(src, 0x0806, &packet)
}

fn udp4(mac: MacAddr, src: Ipv4Addr, dst: Ipv4Addr, ports: (u16, u16), fragment: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0];
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, 17, 0, 0]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(ports.0.to_be_bytes());
    packet.extend(ports.1.to_be_bytes());
    packet.extend([0, 8, 0, 0]);
    ethernet(mac, 0x0800, &packet)
}

fn ipv6(mac: MacAddr, src: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(src.octets());
    packet.extend(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets());
    packet.extend(payload);
    ethernet(mac, 0x86dd, &packet)
}

fn udp6(mac: MacAddr, src: Ipv6Addr) -> Vec<u8> {
    ipv6(mac, src, 17, &[0, 1, 0, 2, 0, 8, 0, 0])
}

/// An ICMPv6 message: type, fixed part behind the checksum, link-layer address option.
fn icmp6(src: Ipv6Addr, ty: u8, fixed: &[u8], option: Option<(u8, MacAddr)>) -> Vec<u8> {
    let mut message = vec![ty, 0, 0, 0];
    message.extend(fixed);
    if let Some((kind, mac)) = option {
        message.extend([kind, 1]);
        message.extend(mac.0);
    }
    ipv6(MAC, src, 58, &message)
}

fn solicit(src: Ipv6Addr, target: Ipv6Addr, lla: Option<MacAddr>) -> Vec<u8> {
    let fixed = [&[0; 4][..], &target.octets()].concat();
    icmp6(src, 135, &fixed, lla.map(|mac| (1, mac)))
}

fn advert(src: Ipv6Addr, target: Ipv6Addr, lla: Option<MacAddr>) -> Vec<u8> {
    let fixed = [&[0x20, 0, 0, 0][..], &target.octets()].concat();
    icmp6(src, 136, &fixed, lla.map(|mac| (2, mac)))
}

fn router_advert(lla: Option<MacAddr>) -> Vec<u8> {
    icmp6(link_local(MAC), 134, &[0; 12], lla.map(|mac| (1, mac)))
}

fn redirect() -> Vec<u8> {
    let fixed = [&[0; 4][..], &V6.octets(), &V6_OTHER.octets()].concat();
    icmp6(link_local(MAC), 137, &fixed, Some((2, OTHER)))
}

#[track_caller]
fn expect(bindings: &Bindings, frame: &[u8], expected: Result<(), Spoof>) {
    // The quick way decides only what the thorough one decides too.
    if let Some(quick) = quick::frame(frame, frame.len())
        && bindings.binds(quick.src, quick.src_ip)
    {
        assert_eq!(expected, Ok(()), "{quick:?}");
    }
    let frame = Frame::parse(frame, frame.len()).expect("the test's frame is well-formed");
    assert_eq!(bindings.check(&frame), expected, "{frame:?}");
}

/// Somebody else has what is bound above.
#[track_caller]
fn stranger(frame: &[u8], expected: Result<(), Spoof>) {
    let frame = Frame::parse(frame, frame.len()).expect("the test's frame is well-formed");
    let taken = [IpAddr::V4(V4), IpAddr::V4(V4_SECOND), IpAddr::V6(V6)];
    let verdict = check_stranger(&frame, true, |ip| taken.contains(&ip));
    assert_eq!(verdict, expected, "{frame:?}");
}

/// Likewise, out of a tunnel.
#[track_caller]
fn remote(frame: &[u8], expected: Result<(), Spoof>) {
    let frame = Frame::parse(frame, frame.len()).expect("the test's frame is well-formed");
    let taken = [IpAddr::V4(V4_SECOND)];
    let verdict = check_stranger(&frame, false, |ip| taken.contains(&ip));
    assert_eq!(verdict, expected, "{frame:?}");
}

#[test]
fn ethernet_source() {
    let frame = |src| ethernet(src, 0x88b5, &[0; 46]);
    expect(&bound(), &frame(MAC), Ok(()));
    expect(&bound(), &frame(SECOND), Ok(()));
    expect(&bound(), &frame(OTHER), Err(Spoof::Mac));
    expect(&Bindings::default(), &frame(MAC), Err(Spoof::Mac));
    // A group address is no source, even where a configuration lists it.
    let group = MacAddr([0x53, 0x54, 0, 0, 0, 1]);
    let bindings = Bindings::new([(group, vec![]), (MacAddr::BROADCAST, vec![])]);
    expect(&bindings, &frame(group), Err(Spoof::Mac));
    expect(&bindings, &frame(MacAddr::BROADCAST), Err(Spoof::Mac));
}

#[test]
fn tags() {
    for tag in [[0, 100], [0, 0]] {
        for outer in [0x8100, 0x88a8] {
            let frame = ethernet(MAC, outer, &[&tag[..], &[0x88, 0xb5], &[0; 46]].concat());
            expect(&bound(), &frame, Err(Spoof::Vlan));
        }
    }
}

#[test]
fn hidden_packets() {
    // LLC/SNAP with an ARP packet in it, under the frame's length.
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 6][..], &[0; 38]].concat();
    for hidden in [0, 46, 0x05dc, 0x05ff, 0x9100, 0x9200, 0x9300] {
        let frame = ethernet(MAC, hidden, &snap);
        for bindings in [bound(), open(), open().with_router(true)] {
            expect(&bindings, &frame, Err(Spoof::Llc));
        }
        stranger(&frame, Err(Spoof::Llc));
        // Behind a VLAN tag likewise, where tags are admitted.
        let tagged = [&[0, 5][..], &hidden.to_be_bytes(), &snap].concat();
        stranger(&ethernet(MAC, 0x8100, &tagged), Err(Spoof::Llc));
    }
    for unknown in [0x0600, 0x8035, 0x88b5, 0x88cc, 0x90ff, 0x9101, 0xffff] {
        expect(&bound(), &ethernet(MAC, unknown, &snap), Ok(()));
        stranger(&ethernet(MAC, unknown, &snap), Ok(()));
    }
}

#[test]
fn strangers_use_nobody_elses_addresses() {
    let (own, own6) = (Ipv4Addr::new(10, 0, 0, 8), V6_OTHER);
    let (to, none) = (Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::UNSPECIFIED);
    for op in [1, 2] {
        stranger(&arp(OTHER, op, (OTHER, own), V4), Ok(()));
        stranger(&arp(OTHER, op, (OTHER, V4), own), Err(Spoof::ArpIp));
    }
    stranger(&arp(OTHER, 1, (OTHER, none), V4), Err(Spoof::ArpIp));
    stranger(&arp(OTHER, 1, (OTHER, none), own), Ok(()));
    stranger(&udp4(OTHER, own, to, (1, 2), 0), Ok(()));
    stranger(&udp4(OTHER, V4, to, (1, 2), 0), Err(Spoof::Ipv4));
    stranger(&udp4(OTHER, V4, to, (0, 0), 0x2001), Err(Spoof::Ipv4));
    stranger(&udp4(OTHER, none, Ipv4Addr::BROADCAST, (68, 67), 0), Ok(()));
    stranger(&udp6(OTHER, own6), Ok(()));
    stranger(&udp6(OTHER, V6), Err(Spoof::Ipv6));
    let nobody = Ipv6Addr::UNSPECIFIED;
    stranger(&solicit(own6, V6, Some(MAC)), Ok(()));
    stranger(&solicit(nobody, own6, None), Ok(()));
    stranger(&solicit(nobody, V6, None), Err(Spoof::NdTarget));
    stranger(&advert(own6, own6, Some(MAC)), Ok(()));
    stranger(&advert(own6, V6, Some(MAC)), Err(Spoof::NdTarget));
    stranger(&advert(V6, own6, Some(MAC)), Err(Spoof::Ipv6));
    // Routers behind a physical port are strangers with a say.
    stranger(&router_advert(Some(MAC)), Ok(()));
    stranger(&arp(OTHER, 2, (MAC, own), to), Ok(()));
}

/// Another edge's station without addresses: any that nobody has, but no router, and nobody else's
/// name for them.
#[test]
fn remote_strangers_are_no_routers_and_speak_for_themselves() {
    let refused = Err(Spoof::RouterAdvertisement);
    remote(&router_advert(Some(MAC)), refused);
    remote(&router_advert(None), refused);
    remote(&redirect(), Err(Spoof::Redirect));
    // Cut short, so that the parser makes nothing of them.
    for (ty, refused) in [(134, Spoof::RouterAdvertisement), (137, Spoof::Redirect)] {
        let frame = ipv6(MAC, link_local(MAC), 58, &[ty, 0, 0, 0]);
        if let Ok(frame) = Frame::parse(&frame, frame.len()) {
            assert_eq!(check_stranger(&frame, false, |_| false), Err(refused));
        }
    }
    let lla = Err(Spoof::NdLinkLayer);
    remote(&solicit(V6, V6_OTHER, Some(MAC)), Ok(()));
    remote(&solicit(V6, V6_OTHER, None), Ok(()));
    remote(&solicit(V6, V6_OTHER, Some(OTHER)), lla);
    remote(&advert(V6, V6, Some(MAC)), Ok(()));
    remote(&advert(V6, V6, Some(OTHER)), lla);
    remote(&icmp6(V6, 133, &[0; 4], Some((1, OTHER))), lla);
    remote(&icmp6(V6, 133, &[0; 4], Some((1, MAC))), Ok(()));
    let none = Ipv6Addr::UNSPECIFIED;
    remote(&solicit(none, V6, Some(MAC)), lla);
    remote(&solicit(none, V6, None), Ok(()));
    remote(&icmp6(V6, 128, &[0; 4], None), Ok(()));
    for op in [1, 2] {
        remote(&arp(MAC, op, (MAC, V4), V4_SECOND), Ok(()));
        remote(&arp(MAC, op, (OTHER, V4), V4_SECOND), Err(Spoof::ArpMac));
        remote(&arp(MAC, op, (MAC, V4_SECOND), V4), Err(Spoof::ArpIp));
    }
}

#[test]
fn a_source_is_checked_as_a_binding_is() {
    let ips = [IpAddr::V4(V4), IpAddr::V6(V6)];
    let check = |router, frame: &[u8]| {
        let frame = Frame::parse(frame, frame.len()).expect("the test's frame is well-formed");
        check_source(MAC, &ips, router, &frame)
    };
    let to = Ipv4Addr::new(10, 0, 0, 9);
    assert_eq!(check(false, &udp4(MAC, V4, to, (1, 2), 0)), Ok(()));
    let refused = check(false, &udp4(MAC, V4_SECOND, to, (1, 2), 0));
    assert_eq!(refused, Err(Spoof::Ipv4));
    let other = check(false, &udp4(SECOND, V4, to, (1, 2), 0));
    assert_eq!(other, Err(Spoof::Mac));
    assert_eq!(
        check(false, &advert(V6, V6_OTHER, None)),
        Err(Spoof::NdTarget)
    );
    let refused = Err(Spoof::RouterAdvertisement);
    assert_eq!(check(false, &router_advert(Some(MAC))), refused);
    assert_eq!(check(true, &router_advert(Some(MAC))), Ok(()));
}

#[test]
fn arp_sender() {
    let (request, reply) = (1, 2);
    let b = bound();
    for op in [request, reply] {
        expect(&b, &arp(MAC, op, (MAC, V4), V4_SECOND), Ok(()));
        expect(&b, &arp(MAC, op, (MAC, V4), V4), Ok(()));
        expect(
            &b,
            &arp(MAC, op, (SECOND, V4_SECOND), V4),
            Err(Spoof::ArpMac),
        );
        expect(&b, &arp(MAC, op, (OTHER, V4), V4), Err(Spoof::ArpMac));
        // Bound to the port, but to its other MAC.
        expect(&b, &arp(MAC, op, (MAC, V4_SECOND), V4), Err(Spoof::ArpIp));
        expect(&open(), &arp(MAC, op, (MAC, V4_SECOND), V4), Ok(()));
        expect(&open(), &arp(MAC, op, (OTHER, V4), V4), Err(Spoof::ArpMac));
    }
    let nobody = Ipv4Addr::UNSPECIFIED;
    expect(&b, &arp(MAC, request, (MAC, nobody), V4), Ok(()));
    expect(
        &b,
        &arp(MAC, request, (MAC, nobody), V4_SECOND),
        Err(Spoof::ArpIp),
    );
    expect(&b, &arp(MAC, reply, (MAC, nobody), V4), Err(Spoof::ArpIp));
    expect(
        &open(),
        &arp(MAC, request, (MAC, nobody), V4_SECOND),
        Ok(()),
    );
    expect(
        &open(),
        &arp(MAC, request, (OTHER, nobody), V4),
        Err(Spoof::ArpMac),
    );
}

#[test]
fn ipv4_source() {
    let b = bound();
    let to = Ipv4Addr::new(10, 0, 0, 9);
    let plain = |mac, src| udp4(mac, src, to, (1000, 2000), 0);
    expect(&b, &plain(MAC, V4), Ok(()));
    expect(&b, &plain(MAC, V4_SECOND), Err(Spoof::Ipv4));
    expect(&b, &plain(SECOND, V4_SECOND), Ok(()));
    expect(&open(), &plain(MAC, V4_SECOND), Ok(()));
    // Fragments have a source too.
    expect(&b, &udp4(MAC, V4, to, (0, 0), 0x2001), Ok(()));
    expect(&b, &udp4(MAC, to, to, (0, 0), 0x2001), Err(Spoof::Ipv4));
    for impossible in [
        Ipv4Addr::BROADCAST,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(224, 0, 0, 1),
    ] {
        expect(&open(), &plain(MAC, impossible), Err(Spoof::Ipv4));
    }
}

#[test]
fn dhcp_client() {
    let b = bound();
    let (none, all) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    let refused = Err(Spoof::Ipv4);
    expect(&b, &udp4(MAC, none, all, (68, 67), 0), Ok(()));
    expect(&b, &udp4(MAC, none, all, (67, 68), 0), refused);
    expect(&b, &udp4(MAC, none, all, (68, 68), 0), refused);
    expect(&b, &udp4(MAC, none, all, (53, 67), 0), refused);
    expect(&b, &udp4(MAC, none, V4_SECOND, (68, 67), 0), refused);
    expect(&b, &udp4(MAC, none, all, (68, 67), 0x2000), refused);
    expect(&b, &udp4(MAC, none, all, (68, 67), 0x0001), refused);
}

#[test]
fn ipv6_source() {
    let b = bound();
    expect(&b, &udp6(MAC, V6), Ok(()));
    expect(&b, &udp6(MAC, link_local(MAC)), Ok(()));
    expect(&b, &udp6(MAC, link_local(SECOND)), Err(Spoof::Ipv6));
    expect(&b, &udp6(MAC, V6_OTHER), Err(Spoof::Ipv6));
    // Only IPv4 is listed for this one.
    expect(&b, &udp6(SECOND, V6), Err(Spoof::Ipv6));
    expect(&b, &udp6(SECOND, link_local(SECOND)), Ok(()));
    expect(&open(), &udp6(MAC, V6_OTHER), Ok(()));
    for bindings in [b, open()] {
        for impossible in [
            Ipv6Addr::UNSPECIFIED,
            Ipv6Addr::LOCALHOST,
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
        ] {
            expect(&bindings, &udp6(MAC, impossible), Err(Spoof::Ipv6));
        }
    }
}

#[test]
fn link_local_of_a_known_interface() {
    // Example of RFC 4291, appendix A: 34-56-78-9A-BC-DE.
    let mac = MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
    assert_eq!(
        link_local(mac),
        "fe80::3656:78ff:fe9a:bcde".parse::<Ipv6Addr>().unwrap()
    );
}

#[test]
fn unspecified_source_only_before_there_is_an_address() {
    let none = Ipv6Addr::UNSPECIFIED;
    for bindings in [bound(), open()] {
        expect(&bindings, &solicit(none, V6, None), Ok(()));
        expect(&bindings, &solicit(none, link_local(MAC), None), Ok(()));
        expect(&bindings, &icmp6(none, 133, &[0; 4], None), Ok(()));
        for report in [131, 132, 143] {
            expect(&bindings, &icmp6(none, report, &[0; 20], None), Ok(()));
        }
        for other in [1, 128, 129, 130] {
            expect(
                &bindings,
                &icmp6(none, other, &[0; 20], None),
                Err(Spoof::Ipv6),
            );
        }
        expect(&bindings, &advert(none, V6, Some(MAC)), Err(Spoof::Ipv6));
        // An option that must not be there.
        let lla = Err(Spoof::NdLinkLayer);
        expect(&bindings, &solicit(none, V6, Some(MAC)), lla);
        expect(&bindings, &icmp6(none, 133, &[0; 4], Some((1, MAC))), lla);
    }
    expect(
        &bound(),
        &solicit(none, V6_OTHER, None),
        Err(Spoof::NdTarget),
    );
    expect(&open(), &solicit(none, V6_OTHER, None), Ok(()));
}

#[test]
fn neighbor_discovery() {
    for bindings in [bound(), open()] {
        expect(&bindings, &solicit(V6, V6_OTHER, Some(MAC)), Ok(()));
        expect(&bindings, &solicit(V6, V6_OTHER, None), Ok(()));
        expect(&bindings, &advert(V6, V6, Some(MAC)), Ok(()));
        expect(&bindings, &advert(V6, V6, None), Ok(()));
        expect(
            &bindings,
            &advert(link_local(MAC), link_local(MAC), Some(MAC)),
            Ok(()),
        );
        let lla = Err(Spoof::NdLinkLayer);
        expect(&bindings, &solicit(V6, V6_OTHER, Some(OTHER)), lla);
        expect(&bindings, &advert(V6, V6, Some(OTHER)), lla);
        expect(&bindings, &icmp6(V6, 133, &[0; 4], Some((1, OTHER))), lla);
        expect(&bindings, &icmp6(V6, 133, &[0; 4], Some((1, MAC))), Ok(()));
    }
    expect(
        &bound(),
        &advert(V6, V6_OTHER, Some(MAC)),
        Err(Spoof::NdTarget),
    );
    expect(&bound(), &advert(V6_OTHER, V6, Some(MAC)), Err(Spoof::Ipv6));
    expect(&open(), &advert(V6, V6_OTHER, Some(MAC)), Ok(()));
}

#[test]
fn only_routers_speak_as_routers() {
    for bindings in [bound(), open()] {
        let refused = Err(Spoof::RouterAdvertisement);
        expect(&bindings, &router_advert(Some(MAC)), refused);
        expect(&bindings, &router_advert(None), refused);
        expect(&bindings, &redirect(), Err(Spoof::Redirect));
        let router = bindings.with_router(true);
        expect(&router, &router_advert(Some(MAC)), Ok(()));
        expect(&router, &router_advert(None), Ok(()));
        expect(
            &router,
            &router_advert(Some(OTHER)),
            Err(Spoof::NdLinkLayer),
        );
        expect(&router, &redirect(), Ok(()));
    }
}

#[test]
fn extension_headers_hide_nothing() {
    // RFC 7113: a destination options header before the router advertisement.
    let mut payload = vec![58, 0, 1, 4, 0, 0, 0, 0];
    payload.extend([134, 0, 0, 0]);
    payload.extend([0; 12]);
    let frame = ipv6(MAC, link_local(MAC), 60, &payload);
    expect(&bound(), &frame, Err(Spoof::RouterAdvertisement));
}

#[test]
fn a_mac_given_twice_has_both_lists() {
    let bindings = Bindings::new([(MAC, vec![V4.into()]), (MAC, vec![V4_SECOND.into()])]);
    let to = Ipv4Addr::new(10, 0, 0, 9);
    expect(&bindings, &udp4(MAC, V4, to, (1, 2), 0), Ok(()));
    expect(&bindings, &udp4(MAC, V4_SECOND, to, (1, 2), 0), Ok(()));
    expect(&bindings, &udp4(MAC, to, to, (1, 2), 0), Err(Spoof::Ipv4));
    assert_eq!(bindings.macs().collect::<Vec<_>>(), [MAC]);
}

proptest! {
    /// Whatever passes has a bound Ethernet source, and a bound (or initial) IP source.
    #[test]
    fn nothing_unbound_passes(
        head in prop::collection::vec(any::<u8>(), 0..120),
        ethertype in prop::sample::select(vec![0x0800u16, 0x0806, 0x86dd, 0x8100, 0x88b5, 0x0026]),
        src in prop::sample::select(vec![MAC, SECOND, OTHER]),
        patch in prop::collection::vec((0usize..60, any::<u8>()), 0..4),
    ) {
        // Mostly well-formed packets with a few octets changed, and pure noise.
        let mut frames = vec![
            ethernet(src, ethertype, &head),
            arp(src, 1, (MAC, V4), V4_SECOND),
            udp4(src, V4, V4_SECOND, (1, 2), 0),
            udp6(src, V6),
            solicit(V6, V6_OTHER, Some(MAC)),
            router_advert(Some(MAC)),
        ];
        for frame in &mut frames {
            for &(at, value) in &patch {
                if let Some(octet) = frame.get_mut(at) {
                    *octet = value;
                }
            }
            let Ok(parsed) = Frame::parse(frame, frame.len()) else { continue };
            if bound().check(&parsed).is_err() {
                continue;
            }
            prop_assert!([MAC, SECOND].contains(&parsed.src));
            prop_assert_eq!(parsed.vlan, None);
            prop_assert!(parsed.ethertype >= 0x0600);
            let listed: &[IpAddr] = if parsed.src == MAC {
                &[IpAddr::V4(V4), IpAddr::V6(V6)]
            } else {
                &[IpAddr::V4(V4_SECOND)]
            };
            if let Some(ip) = parsed.src_ip() {
                prop_assert!(
                    listed.contains(&ip)
                        || ip == IpAddr::V6(link_local(parsed.src))
                        || ip.is_unspecified()
                );
            }
        }
    }
}
