//! Captures over the API: what was sent is what is in the file, with what became of it.

use std::time::{Duration, Instant, SystemTime};

use pmd_tests::frames::{BROADCAST, mac, pattern, tagged, udp4};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};
use pmd_tests::tap::{Served, Tap};

/// Runs `body` with a rig and its API.
fn with(setup: Setup, body: impl FnOnce(Rig, &Served)) {
    let dir = tempfile::tempdir().expect("a directory");
    let rig = Rig::start_in(setup, dir.path());
    let served = Served::start(rig.handle(), dir.path());
    body(rig, &served);
}

/// Begins a capture and waits until every worker knows of it.
fn tap(rig: &Rig, served: &Served, fields: &[(&'static str, &str)]) -> Tap {
    let tap = served.tap(fields).expect("a capture");
    // The workers answer in the order in which they were told.
    rig.status();
    tap
}

const IN: u32 = 1;
const OUT: u32 = 2;

#[test]
fn a_port_shows_what_comes_and_goes() {
    isolated(|| {
        with(Setup::new(), |mut rig, served| {
            let tap = tap(&rig, served, &[("port", "blue-1")]);
            let before = SystemTime::now();
            let local = pattern(mac(3), mac(1), 1, 100);
            let away = pattern(mac(2), mac(1), 2, 1400);
            let spoofed = pattern(mac(3), mac(9), 3, 60);
            let to_it = pattern(mac(1), mac(3), 4, 200);
            let from_b = pattern(mac(1), mac(2), 5, 300);
            let not_its = pattern(mac(3), mac(2), 6, 300);
            rig.from_vlan(101, &[local.clone(), away.clone()]);
            rig.settle();
            // A VLAN admits strangers, but none that a mapping has elsewhere.
            let spoofed = [spoofed, pattern(mac(3), mac(2), 7, 61)];
            rig.from_vlan(101, &spoofed);
            rig.from_vlan(103, std::slice::from_ref(&to_it));
            let sealed = [
                rig.sealed("blue", "b", 1, &from_b),
                rig.sealed("blue", "b", 2, &not_its),
            ];
            rig.from_underlay(&sealed);
            rig.settle();
            let captured = tap.end();
            let after = SystemTime::now();

            assert_eq!(captured.interfaces, [("blue-1".to_owned(), 65_535)]);
            let find = |frame: &[u8]| {
                let mut found = captured
                    .packets
                    .iter()
                    .filter(|p| p.data == frame || p.data == tagged(101, frame));
                let packet = found.next();
                assert!(found.next().is_none(), "once: {captured:#?}");
                packet.cloned()
            };
            let check = |frame: &[u8], flags, comment: &str| {
                let packet = find(frame).unwrap_or_else(|| panic!("{captured:#?}"));
                assert_eq!((packet.flags, packet.comment.as_str()), (flags, comment));
                assert_eq!(packet.len as usize, packet.data.len());
                let time = SystemTime::UNIX_EPOCH + packet.time;
                let margin = Duration::from_millis(50);
                assert!(
                    time + margin >= before && time <= after + margin,
                    "{time:?}"
                );
            };
            let to_vlan = "sent to a VLAN of a physical port";
            let local_comment = format!("vn=blue verdict=to-vlan worker=0 direction=in; {to_vlan}");
            check(&local, IN, &local_comment);
            check(
                &away,
                IN,
                "vn=blue peer=b verdict=to-underlay worker=0 direction=in; sent to a peer edge",
            );
            check(&to_it, OUT, &local_comment.replace("=in", "=out"));
            let comment =
                format!("vn=blue peer=b verdict=to-vlan worker=0 direction=out; {to_vlan}");
            check(&from_b, OUT, &comment);
            assert!(find(&not_its).is_none());
            let dropped = find(&spoofed[1]).expect("a dropped packet");
            assert_eq!(
                dropped.comment,
                "vn=blue verdict=spoofed-mac worker=0 direction=in; dropped: source MAC that is \
                 not placed on the port"
            );
            let n = captured.packets.len() as u64;
            assert_eq!((captured.summary.packets, captured.summary.lost), (n, 0));
            assert_eq!(captured.statistics, [(n, 0)]);
            rig.stop();
        });
    });
}

#[test]
fn the_underlay_shows_what_is_on_the_wire() {
    isolated(|| {
        let setup = Setup {
            workers: 2,
            inbound_worker: 1,
            ..Setup::new()
        };
        with(setup, |mut rig, served| {
            let tap = tap(&rig, served, &[("underlay", "true")]);
            let local = pattern(mac(3), mac(1), 1, 100);
            let away: Vec<_> = (0..40).map(|i| pattern(mac(2), mac(1), i, 300)).collect();
            rig.from_vlan(101, &[local]);
            rig.from_vlan(101, &away);
            let good = rig.sealed("blue", "b", 1, &pattern(mac(1), mac(2), 5, 300));
            let mut bad = rig.sealed("blue", "b", 2, &pattern(mac(1), mac(2), 5, 300));
            *bad.last_mut().expect("a packet") ^= 1;
            rig.from_underlay(&[good.clone(), bad.clone(), good.clone()]);
            let out = rig.settle();
            let captured = tap.end();
            assert_eq!(captured.interfaces, [("up0".to_owned(), 65_535)]);
            let help = "dropped: the integrity check value is wrong";
            let mut expected: Vec<_> = out
                .underlay
                .iter()
                .map(|packet| {
                    let comment = "vn=blue peer=b verdict=to-underlay worker=0 direction=out; \
                                   sent to a peer edge";
                    (packet.clone(), comment.to_owned())
                })
                .collect();
            assert_eq!(expected.len(), 40);
            // Handed to worker 1, which owns the SA; worker 0 took them up.
            expected.extend([
                (
                    good.clone(),
                    "vn=blue peer=b verdict=to-vlan worker=0 direction=in; sent to a VLAN of a \
                     physical port"
                        .to_owned(),
                ),
                (
                    bad,
                    format!("vn=blue peer=b verdict=auth-failed worker=0 direction=in; {help}"),
                ),
                (
                    good,
                    "vn=blue peer=b verdict=replayed worker=0 direction=in; dropped: sequence \
                     number seen before"
                        .to_owned(),
                ),
            ]);
            expected.sort();
            assert_eq!(captured.sorted(), expected);
            rig.stop();
        });
    });
}

#[test]
fn frames_are_captured_once_and_filters_narrow() {
    isolated(|| {
        let setup = Setup {
            vns: vec![Vn::blue(), Vn::red()],
            ..Setup::new()
        };
        with(setup, |mut rig, served| {
            let all = tap(&rig, served, &[]);
            let blue = tap(&rig, served, &[("vn", "blue")]);
            let drops = tap(&rig, served, &[("drop", "any")]);
            let unknown = tap(&rig, served, &[("drop", "unknown-unicast")]);
            let port = tap(&rig, served, &[("proto", "udp"), ("vn", "red")]);
            let address = tap(&rig, served, &[("mac", "52:54:00:00:00:03")]);
            let broadcast = pattern(BROADCAST, mac(1), 1, 80);
            let nowhere = pattern(mac(77), mac(1), 2, 90);
            let udp = udp4(1, 3, 0x4000, 100);
            let from_b = pattern(mac(1), mac(2), 5, 300);
            rig.from_vlan(101, &[broadcast.clone(), nowhere.clone(), udp.clone()]);
            rig.from_vlan(201, std::slice::from_ref(&udp));
            let sealed = rig.sealed("blue", "b", 1, &from_b);
            rig.from_underlay(&[sealed]);
            rig.settle();
            let frames = |tap: Tap| {
                let mut frames: Vec<Vec<u8>> = tap
                    .end()
                    .packets
                    .into_iter()
                    .map(|p| match p.data[12..14] {
                        [0x81, 0] => [&p.data[..12], &p.data[16..]].concat(),
                        _ => p.data,
                    })
                    .collect();
                frames.sort();
                frames
            };
            let sorted = |frames: &[&Vec<u8>]| {
                let mut frames: Vec<Vec<u8>> = frames.iter().map(|f| (*f).clone()).collect();
                frames.sort();
                frames
            };
            let of_blue = [&broadcast, &nowhere, &udp, &from_b];
            assert_eq!(frames(blue), sorted(&of_blue));
            assert_eq!(frames(all), sorted(&[&of_blue[..], &[&udp]].concat()));
            assert_eq!(frames(drops), sorted(&[&nowhere]));
            assert_eq!(frames(unknown), sorted(&[&nowhere]));
            assert_eq!(frames(port), sorted(&[&udp]));
            assert_eq!(frames(address), sorted(&[&udp, &udp]));
            rig.stop();
        });
    });
}

#[test]
fn limits_end_a_capture() {
    isolated(|| {
        with(Setup::new(), |mut rig, served| {
            let counted = tap(
                &rig,
                served,
                &[("port", "blue-1"), ("count", "7"), ("snaplen", "60")],
            );
            let sized = tap(&rig, served, &[("port", "blue-1"), ("size", "20000")]);
            let timed = tap(&rig, served, &[("port", "blue-1"), ("duration_ms", "300")]);
            let began = Instant::now();
            let frames: Vec<_> = (0..40).map(|i| pattern(mac(3), mac(1), i, 1000)).collect();
            rig.from_vlan(101, &frames);
            rig.settle();
            let counted = counted.wait();
            assert_eq!(counted.packets.len(), 7);
            for (packet, frame) in counted.packets.iter().zip(&frames) {
                assert_eq!(packet.data, tagged(101, frame)[..60]);
                assert_eq!(packet.len, 1004);
            }
            assert_eq!(counted.interfaces, [("blue-1".to_owned(), 60)]);
            let sized = sized.wait();
            let per_packet = 1004 + 28 + 12;
            assert!(sized.packets.len() <= 20_000 / per_packet);
            assert!(
                sized.packets.len() >= 20_000 / (per_packet + 200),
                "{}",
                sized.packets.len()
            );
            // The statistics come on top.
            let statistics = 4 + 4 + 4 + 8 + 6 * 12 + 4 + 4;
            assert!(sized.file.len() <= 20_000 + statistics);
            assert_eq!(timed.wait().packets.len(), 40);
            assert!(began.elapsed() >= Duration::from_millis(250));
            rig.stop();
        });
    });
}

#[test]
fn what_finds_no_room_is_counted() {
    isolated(|| {
        with(Setup::new(), |mut rig, served| {
            let tap = tap(&rig, served, &[("port", "blue-1"), ("buffer", "1")]);
            let frames: Vec<_> = (0..200).map(|i| pattern(mac(3), mac(1), i, 100)).collect();
            for _ in 0..4 {
                rig.from_vlan(101, &frames);
            }
            // The traffic itself loses nothing.
            assert_eq!(rig.settle().trunk.len(), 800);
            let captured = tap.end();
            let n = captured.packets.len() as u64;
            assert!(captured.summary.lost > 0);
            assert_eq!(captured.summary.packets, n);
            assert_eq!(n + captured.summary.lost, 800);
            assert_eq!(captured.statistics, [(800, captured.summary.lost)]);
            rig.stop();
        });
    });
}

#[test]
fn a_reader_who_goes_away_ends_the_observation() {
    isolated(|| {
        with(Setup::new(), |rig, served| {
            let mut taps: Vec<Tap> = (0..8)
                .map(|_| served.tap(&[]).expect("a capture"))
                .collect();
            let refused = served.tap(&[]).err().expect("no ninth").to_string();
            assert!(refused.contains("8 traces and captures"), "{refused}");
            // No packet has to come for the switch to notice.
            taps.remove(3).leave();
            let began = Instant::now();
            let again = loop {
                match served.tap(&[]) {
                    Ok(tap) => break tap,
                    Err(_) => assert!(began.elapsed() < Duration::from_secs(5)),
                }
                std::thread::sleep(Duration::from_millis(10));
            };
            assert_eq!(again.end().packets.len(), 0);
            for tap in taps {
                tap.end();
            }
            rig.stop();
        });
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    isolated(|| {
        with(Setup::new(), |rig, served| {
            for (fields, says) in [
                (&[("port", "blue-9")][..], "there is no port `blue-9`"),
                (&[("port", "up0"), ("underlay", "true")], "not both"),
                (&[("snaplen", "0")], "snaplen is 0, but must be 1 to 65535"),
                (&[("colour", "blue")], "unknown field `colour`"),
                (&[("drop", "boredom")], "no reason for a drop"),
            ] {
                let refused = served.tap(fields).err().expect(says).to_string();
                assert!(
                    refused.contains("400") && refused.contains(says),
                    "{refused}"
                );
            }
            rig.stop();
        });
    });
}

#[test]
fn the_end_of_the_switch_completes_the_file() {
    isolated(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let mut rig = Rig::start_in(Setup::new(), dir.path());
        let served = Served::start(rig.handle(), dir.path());
        let tap = tap(&rig, &served, &[("port", "blue-1")]);
        rig.from_vlan(101, &[pattern(mac(3), mac(1), 1, 100)]);
        rig.settle();
        let told = Instant::now();
        drop(served);
        // The grace for requests under way is not needed.
        assert!(told.elapsed() < Duration::from_secs(2));
        let captured = tap.wait();
        assert_eq!(
            (captured.packets.len(), &captured.statistics[..]),
            (1, &[(1, 0)][..])
        );
        rig.stop();
    });
}
