//! A hostile tenant at a vhost-user port: in others' names, in frames of odd lengths, and in
//! masses. Every counter is checked; what may pass
//! arrives byte for byte.

use std::net::{Ipv4Addr, Ipv6Addr};

use pmd_tests::discovery::{self as nd, REPLY, REQUEST, arp, arp_to, link_local};
use pmd_tests::frames::{self, BROADCAST, ethernet, ip4, ip6, ipv4, mac, pattern, udp, udp4, udp6};
use pmd_tests::hostile::{ME, NEIGHBOUR, PORT, claims4, claims6, passes, refused, setup};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::tally::{Tally, sealed_len};

fn dhcp(src: Ipv4Addr, dst: Ipv4Addr, sport: u16, dport: u16) -> Vec<u8> {
    let datagram = udp(src.into(), dst.into(), sport, dport, &[0; 240]);
    ethernet(BROADCAST, ME, 0x0800, &ipv4(src, dst, 17, 0, 7, &datagram))
}

#[test]
fn spoofed_sources() {
    isolated(|| {
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
                (claims4(3, mac(3), ip4(1)), MAC),
                (claims4(3, mac(2), ip4(2)), MAC),
                (claims4(3, mac(77), ip4(1)), MAC),
                (claims4(3, [0; 6], ip4(1)), MAC),
                (claims4(3, BROADCAST, ip4(1)), MAC),
                (claims4(3, [1, 0, 0x5e, 0, 0, 1], ip4(1)), MAC),
                (pattern(mac(3), mac(3), 0, 60), MAC),
                // IPv4.
                (claims4(3, ME, ip4(3)), IP),
                (claims4(3, ME, ip4(2)), IP),
                (claims4(3, ME, ip4(9)), IP),
                (claims4(3, ME, none), IP),
                (claims4(3, ME, broadcast), IP),
                (claims4(3, ME, Ipv4Addr::LOCALHOST), IP),
                (claims4(3, ME, Ipv4Addr::new(224, 0, 0, 1)), IP),
                (claims4(3, ME, Ipv4Addr::new(169, 254, 1, 1)), IP),
                // IPv6.
                (claims6(3, ME, ip6(3)), IP),
                (claims6(3, ME, ip6(2)), IP),
                (claims6(3, ME, Ipv6Addr::UNSPECIFIED), IP),
                (claims6(3, ME, Ipv6Addr::LOCALHOST), IP),
                (claims6(3, ME, link_local(mac(3))), IP),
                (claims6(3, ME, nd::ALL_NODES), IP),
                (claims6(3, ME, ip4(1).to_ipv6_mapped()), IP),
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
                claims4(3, ME, ip4(1)),
                claims6(3, ME, ip6(1)),
                claims6(3, ME, link_local(ME)),
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
fn frames_of_odd_lengths() {
    isolated(|| {
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
    isolated(|| {
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
    isolated(|| {
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
