//! Which packets are traced: those that match, as many as fit, for as many readers as there may be.

use pmd_tests::frames::{BROADCAST, DF, ethernet, mac, pattern, text, udp4};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};
use vswitch::manage::observe::{Filter, From};

use super::ALL;

#[test]
fn filters_let_through_what_they_say() {
    isolated(|| {
        let mut setup = Setup::new();
        setup.vns.push(Vn::red());
        let mut rig = Rig::start(setup);
        let request = [
            &[0, 1, 8, 0, 6, 4, 0, 1][..],
            &mac(3),
            &[10, 0, 0, 3],
            &[0; 6],
            &[10, 0, 0, 1],
        ];
        let arp = ethernet(BROADCAST, mac(3), 0x0806, &request.concat());
        let f = Filter::default;
        let port = |name: &str| Some(name.to_owned());
        let cases = [
            (f(), 6),
            (
                Filter {
                    port: port("blue-1"),
                    ..f()
                },
                4,
            ),
            (
                Filter {
                    port: port("red-1"),
                    ..f()
                },
                1,
            ),
            (
                Filter {
                    port: port("up0"),
                    ..f()
                },
                4,
            ),
            (
                Filter {
                    from: Some(From::Tenant),
                    ..f()
                },
                5,
            ),
            (
                Filter {
                    from: Some(From::Underlay),
                    ..f()
                },
                1,
            ),
            (
                Filter {
                    from: Some(From::Kernel),
                    ..f()
                },
                0,
            ),
            (
                Filter {
                    vn: port("blue"),
                    ..f()
                },
                5,
            ),
            (
                Filter {
                    vn: port("red"),
                    ..f()
                },
                1,
            ),
            (
                Filter {
                    mac: Some(text(mac(2)).parse().unwrap()),
                    ..f()
                },
                3,
            ),
            (
                Filter {
                    mac: Some(text(mac(98)).parse().unwrap()),
                    ..f()
                },
                0,
            ),
            (
                Filter {
                    ip: Some("10.0.0.2".parse().unwrap()),
                    ..f()
                },
                2,
            ),
            // The peer: outside of what goes to it and comes from it.
            (
                Filter {
                    ip: Some("192.0.2.2".parse().unwrap()),
                    ..f()
                },
                4,
            ),
            (
                Filter {
                    proto: port("icmp"),
                    ..f()
                },
                0,
            ),
            (
                Filter {
                    proto: port("esp"),
                    ..f()
                },
                4,
            ),
            (
                Filter {
                    proto: port("udp"),
                    ..f()
                },
                2,
            ),
            (
                Filter {
                    l4_port: Some(4500),
                    ..f()
                },
                0,
            ),
            (
                Filter {
                    ethertype: Some(0x88b5),
                    ..f()
                },
                2,
            ),
            (
                Filter {
                    proto: port("arp"),
                    ..f()
                },
                2,
            ),
            (
                Filter {
                    drop: port("any"),
                    ..f()
                },
                0,
            ),
            (
                Filter {
                    vn: port("blue"),
                    port: port("red-1"),
                    ..f()
                },
                0,
            ),
        ];
        for (filter, expected) in cases {
            let watch = rig.watch(filter.clone(), ALL).unwrap();
            // Two to the peer and one within, from blue-1; one from red-1; ARP to all.
            rig.from_vlan(101, &[udp4(1, 2, DF, 100)]);
            rig.from_vlan(201, &[pattern(mac(2), mac(1), 0, 64)]);
            rig.from_vlan(103, std::slice::from_ref(&arp));
            rig.from_vlan(101, &[pattern(mac(3), mac(1), 0, 64)]);
            let seq = rig.status().sas.iter().map(|sa| sa.sequence).max().unwrap() + 1;
            let back = rig.sealed("blue", "b", seq, &udp4(2, 1, DF, 100));
            rig.from_underlay(&[back]);
            rig.settle();
            let traces = Rig::told(&watch);
            assert_eq!(traces.len(), expected, "{filter:?}: {traces:#?}");
        }
        for (filter, complaint) in [
            (
                Filter {
                    port: port("blu-1"),
                    ..f()
                },
                "blue-1, blue-3, red-1, red-3, up0",
            ),
            (
                Filter {
                    vn: port("green"),
                    ..f()
                },
                "there are blue, red",
            ),
            (
                Filter {
                    proto: port("tpc"),
                    ..f()
                },
                "no protocol",
            ),
            (
                Filter {
                    drop: port("spoofed"),
                    ..f()
                },
                "show drops --all",
            ),
        ] {
            let error = rig.watch(filter, ALL).err().expect("refused").to_string();
            assert!(error.contains(complaint), "{error}");
        }
        rig.stop();
    });
}

#[test]
fn what_is_not_read_in_time_is_lost_and_counted() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        let watch = rig.watch(Filter::default(), 2).unwrap();
        let frames: Vec<_> = (0..10).map(|i| pattern(mac(3), mac(1), i, 64)).collect();
        rig.from_vlan(101, &frames);
        let out = rig.settle();
        assert_eq!(
            out.trunk.len(),
            10,
            "the packets themselves are not touched"
        );
        assert_eq!((Rig::told(&watch).len(), watch.lost()), (2, 8));
        // Eight at a time; those that nobody reads any more make room.
        let mut watches = vec![watch];
        watches.extend((1..8).map(|_| rig.watch(Filter::default(), 1).unwrap()));
        let error = rig.watch(Filter::default(), 1).err().expect("one too many");
        assert!(error.to_string().contains("8 traces"), "{error}");
        watches.clear();
        rig.watch(Filter::default(), 1).unwrap();
        rig.stop();
    });
}
