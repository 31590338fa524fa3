//! What a frame says of its sender's IP addresses: from peers and from VLANs it must agree
//! with the mappings, and what does not is neither delivered nor learned.

use pmd_tests::frames::{BROADCAST, Mac, ethernet, ip4, ipv4, mac, pattern, udp, udp4, udp6};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::Setup;

/// A gratuitous ARP request: station `src` says it has tenant `n`'s address.
fn arp(src: Mac, n: u8) -> Vec<u8> {
    let ip = ip4(n).octets();
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    let body = [&head[..], &src, &ip, &[0; 6], &ip].concat();
    ethernet(mac(1), src, 0x0806, &body)
}

/// UDP of station `src` to tenant 1 with tenant `n`'s address.
fn claims(src: Mac, n: u8) -> Vec<u8> {
    let datagram = udp(ip4(n).into(), ip4(1).into(), 1, 2, &[0; 20]);
    let packet = ipv4(ip4(n), ip4(1), 17, 0, 7, &datagram);
    ethernet(mac(1), src, 0x0800, &packet)
}

/// LLC/SNAP with ARP in it.
fn snap(src: Mac) -> Vec<u8> {
    let body = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 6][..], &[0; 38]].concat();
    ethernet(mac(1), src, body.len() as u16, &body)
}

fn setup() -> Setup {
    let mut setup = Setup::with_c();
    setup.vns[0].list_ips = true;
    setup.vns[0].learning = true;
    setup.vns[0].ports[1].learning = true;
    setup
}

fn learned(rig: &Rig) -> usize {
    let status = rig.status();
    status.fdb.iter().filter(|e| e.origin == "learned").count()
}

#[test]
fn a_peer_speaks_only_for_its_own_tenants() {
    isolated(|| {
        let mut rig = Rig::start(setup());
        let good = "to-vlan";
        let cases = [
            (udp4(2, 1, 0, 90), good),
            (udp6(2, 1, 90), good),
            (arp(mac(2), 2), good),
            (pattern(mac(1), mac(2), 0, 70), good),
            // Tenant 2 is its own, but 4 is at the other peer, and 50 nobody's.
            (claims(mac(2), 4), "spoofed-remote-ip"),
            (claims(mac(2), 50), "spoofed-remote-ip"),
            (arp(mac(2), 4), "spoofed-remote-ip"),
            (arp(mac(2), 1), "spoofed-remote-ip"),
            (snap(mac(2)), "llc-frame"),
            (claims(mac(4), 4), "spoofed-remote"),
            // A learned source: anything but what is somebody's.
            (claims(mac(60), 4), "spoofed-remote-ip"),
            (arp(mac(60), 1), "spoofed-remote-ip"),
            (snap(mac(60)), "llc-frame"),
        ];
        for (seq, (frame, end)) in (1..).zip(cases) {
            let packet = rig.sealed("blue", "b", seq, &frame);
            rig.from_underlay(&[packet]);
            let out = rig.settle();
            out.changes.expect_verdicts(&[(end, 1)]);
            assert_eq!(out.trunk.len(), usize::from(end == good));
        }
        assert_eq!(learned(&rig), 0);
        let packet = rig.sealed("blue", "b", 100, &claims(mac(60), 60));
        rig.from_underlay(&[packet]);
        rig.settle().changes.expect_verdicts(&[(good, 1)]);
        assert_eq!(learned(&rig), 1);
        rig.stop();
    });
}

#[test]
fn a_vlan_uses_nobody_elses_addresses() {
    isolated(|| {
        let mut rig = Rig::start(setup());
        let good = "to-vlan";
        for (frame, end) in [
            (claims(mac(3), 3), good),
            (arp(mac(3), 3), good),
            (claims(mac(3), 50), "spoofed-ip"),
            (arp(mac(3), 2), "spoofed-arp"),
            (arp(BROADCAST, 3), "spoofed-mac"),
            (claims(mac(2), 2), "spoofed-mac"),
            (claims(mac(60), 2), "spoofed-ip"),
            (arp(mac(60), 1), "spoofed-arp"),
            (snap(mac(60)), "llc-frame"),
        ] {
            rig.from_vlan(103, &[frame]);
            let out = rig.settle();
            out.changes.expect_verdicts(&[(end, 1)]);
            assert_eq!(out.trunk.len(), usize::from(end == good));
        }
        assert_eq!(learned(&rig), 0);
        rig.from_vlan(103, &[claims(mac(60), 60)]);
        rig.settle().changes.expect_verdicts(&[(good, 1)]);
        assert_eq!(learned(&rig), 1);
        rig.stop();
    });
}
