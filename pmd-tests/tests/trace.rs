//! `trace`: every stage that a packet passes, what each decided and from which entry, on every
//! worker that has it, and its verdict; and only the packets that were asked for.

use pmd_tests::daemon::binary;
use pmd_tests::frames::{BROADCAST, DF, ethernet, mac, pattern, text, udp4};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vswitch::manage::api::Api;
use vswitch::manage::observe::{Filter, From, Trace};

const ALL: usize = 1024;

/// Stage, worker and decision of each step.
fn steps(trace: &Trace) -> Vec<(&str, u16, &str)> {
    let of = trace.steps.iter();
    of.map(|s| (s.stage.as_str(), s.worker, s.decision.as_str()))
        .collect()
}

fn verdicts(traces: &[Trace]) -> Vec<&str> {
    traces.iter().map(|t| t.verdict.as_str()).collect()
}

fn dropped(reason: &str) -> Filter {
    Filter {
        drop: Some(reason.to_owned()),
        ..Filter::default()
    }
}

#[test]
fn every_stage_is_told_in_both_directions() {
    isolated("every_stage_is_told_in_both_directions", || {
        let mut rig = Rig::start(Setup::new());
        let watch = rig.watch(Filter::default(), ALL).unwrap();
        rig.from_vlan(101, &[udp4(1, 2, DF, 200)]);
        rig.settle();
        let traces = Rig::told(&watch);
        let [out] = &traces[..] else {
            panic!("{traces:#?}")
        };
        assert_eq!(
            steps(out),
            [
                ("receive", 0, "from device trunk0"),
                ("check", 0, "VLAN 101 is port blue-1 of VN blue"),
                (
                    "check",
                    0,
                    "source 52:54:00:00:00:01 is mapped to port blue-1"
                ),
                (
                    "forward",
                    0,
                    "mapping 52:54:00:00:00:02 (generation 1) -> tunnel to b"
                ),
                (
                    "encapsulate",
                    0,
                    "Geneve VNI 1001 to b, SA spi 0x12345600 seq 1, path up0 next hop 02:00:00:00:00:02"
                ),
                ("seal", 0, "sealed with aes-256-gcm"),
                ("transmit", 0, "queued for underlay port up0"),
            ]
        );
        assert_eq!(
            (out.verdict.as_str(), out.outcome.as_str()),
            ("to-underlay", "sent")
        );
        assert_eq!(out.help, "sent to a peer edge");
        assert_eq!(
            (
                out.from.as_str(),
                out.to.as_deref(),
                out.vn.as_deref(),
                out.peer.as_deref()
            ),
            (
                "port blue-1",
                Some("underlay port up0"),
                Some("blue"),
                Some("b")
            )
        );
        let frame = out.frame.as_ref().unwrap();
        assert_eq!(
            (frame.src_ip.as_deref(), frame.len),
            (Some("10.0.0.1"), 200)
        );
        let in_steps: u64 = out.steps.iter().map(|s| s.ns).sum();
        assert!(
            in_steps > 0 && in_steps + out.end_ns <= out.total_ns + 64,
            "{out:#?}"
        );

        let packet = rig.sealed("blue", "b", 1, &udp4(2, 1, DF, 200));
        rig.from_underlay(&[packet]);
        rig.settle();
        let traces = Rig::told(&watch);
        assert_eq!(
            steps(&traces[0]),
            [
                ("receive", 0, "from underlay port up0"),
                (
                    "classify",
                    0,
                    "ESP spi 0x23456700 seq 1 -> SA of VN blue from b"
                ),
                (
                    "open",
                    0,
                    "seq 1 not seen before (highest accepted: 0), from the SA's peer"
                ),
                ("open", 0, "authenticated with aes-256-gcm"),
                (
                    "decapsulate",
                    0,
                    "Geneve VNI 1001 is VN blue, tunnel from b"
                ),
                (
                    "decapsulate",
                    0,
                    "source 52:54:00:00:00:02 is mapped to this peer (generation 1)"
                ),
                (
                    "forward",
                    0,
                    "mapping 52:54:00:00:00:01 (generation 1) -> port blue-1"
                ),
                ("transmit", 0, "queued for port blue-1"),
            ]
        );
        assert_eq!(verdicts(&traces), ["to-vlan"]);
        let outer = traces[0].outer.as_ref().unwrap();
        assert_eq!(
            (outer.src_ip.as_deref(), outer.dst_port),
            (Some("192.0.2.2"), Some(4500))
        );
        assert_eq!(watch.lost(), 0);
        rig.stop();
    });
}

#[test]
fn copies_have_traces_of_their_own() {
    isolated("copies_have_traces_of_their_own", || {
        let mut rig = Rig::start(Setup::with_c());
        let watch = rig.watch(Filter::default(), ALL).unwrap();
        rig.from_vlan(101, &[pattern(BROADCAST, mac(1), 9, 64)]);
        rig.settle();
        let traces = Rig::told(&watch);
        let mut ways: Vec<_> = traces
            .iter()
            .map(|t| {
                (
                    t.to.as_deref().unwrap(),
                    t.peer.as_deref(),
                    t.copy_of.is_some(),
                )
            })
            .collect();
        ways.sort_unstable();
        assert_eq!(
            ways,
            [
                ("port blue-3", None, true),
                ("underlay port up0", Some("b"), true),
                ("underlay port up0", Some("c"), false),
            ]
        );
        let original = traces.iter().find(|t| t.copy_of.is_none()).unwrap();
        for copy in traces.iter().filter(|t| t.copy_of.is_some()) {
            assert_eq!(copy.copy_of.as_ref(), Some(&original.id));
            assert_ne!(copy.id, original.id);
            let flood = "group address: a copy to every other port and edge of VN blue";
            assert!(steps(copy).contains(&("forward", 0, flood)), "{copy:#?}");
        }
        rig.stop();
    });
}

#[test]
fn a_packet_is_followed_from_worker_to_worker() {
    isolated("a_packet_is_followed_from_worker_to_worker", || {
        let mut rig = Rig::start(Setup {
            workers: 3,
            outbound_worker: 1,
            inbound_worker: 2,
            ..Setup::new()
        });
        // Known only where it ends, two workers later.
        let filter = Filter {
            port: Some("blue-1".to_owned()),
            vn: Some("blue".to_owned()),
            ..Filter::default()
        };
        let watch = rig.watch(filter, ALL).unwrap();
        rig.from_vlan(101, &[pattern(mac(2), mac(1), 0, 200)]);
        let back = rig.sealed("blue", "b", 1, &pattern(mac(1), mac(2), 0, 200));
        let elsewhere = rig.sealed("blue", "b", 2, &pattern(mac(3), mac(2), 0, 200));
        rig.from_underlay(&[back, elsewhere]);
        rig.settle();
        let mut traces = Rig::told(&watch);
        traces.sort_by(|a, b| a.verdict.cmp(&b.verdict));
        assert_eq!(verdicts(&traces), ["to-underlay", "to-vlan"]);
        let workers = |trace: &Trace| {
            let mut on: Vec<u16> = trace.steps.iter().map(|s| s.worker).collect();
            on.dedup();
            on
        };
        assert_eq!(workers(&traces[0]), [0, 1, 0]);
        assert_eq!(workers(&traces[1]), [0, 2, 0]);
        assert!(steps(&traces[0]).contains(&("transmit", 0, "handed to worker 1")));
        assert!(steps(&traces[0]).contains(&("receive", 1, "taken over from worker 0")));
        assert_eq!(traces[1].from, "underlay port up0");
        assert_eq!(watch.lost(), 0);
        rig.stop();
    });
}

#[test]
fn every_drop_is_told_with_its_reason() {
    isolated("every_drop_is_told_with_its_reason", || {
        let mut setup = Setup::with_c();
        setup.vns.push(Vn::red());
        let mut rig = Rig::start(setup);
        let watch = rig.watch(dropped("any"), ALL).unwrap();
        let only = rig.watch(dropped("unknown-unicast"), ALL).unwrap();
        for (vid, frame, why) in [
            (101, pattern(mac(3), mac(2), 0, 64), "spoofed-mac"),
            (101, pattern(mac(99), mac(1), 0, 64), "unknown-unicast"),
            (101, pattern(mac(1), mac(1), 0, 64), "same-port"),
            (
                101,
                pattern([1, 0x80, 0xc2, 0, 0, 2], mac(1), 0, 64),
                "link-local-group",
            ),
            (101, vec![0x52; 13], "malformed"),
            (999, pattern(mac(3), mac(1), 0, 64), "unexpected-vlan"),
            (101, pattern(mac(2), mac(1), 0, 1460), "too-big"),
        ] {
            rig.from_vlan(vid, &[frame]);
            rig.settle();
            assert_eq!(verdicts(&Rig::told(&watch)), [why]);
        }
        let good = rig.sealed("blue", "b", 9, &pattern(mac(1), mac(2), 0, 64));
        let changed = |at: usize| {
            let mut packet = good.clone();
            packet[at] ^= 1;
            packet
        };
        let last = good.len() - 1;
        let mut other = rig.from("b");
        other.dst_mac = mac(77);
        let esp = rig.setup.inbound("blue", "b");
        let mismatch = rig.overlay("red", "b", &pattern(mac(1), mac(2), 0, 64));
        for (packet, why, vn) in [
            (changed(last), "auth-failed", Some("blue")),
            (changed(14 + 20 + 8), "unknown-spi", None),
            (changed(14 + 20 + 8 + 15), "iv-mismatch", Some("blue")),
            (other.packet(&[0; 64]), "not-for-us", None),
            (
                rig.from("b").packet(&[0, 0, 0, 9, 0, 0, 0, 1]),
                "spi-reserved",
                None,
            ),
            (
                rig.from("c").packet(&esp.seal(3, &mismatch)),
                "wrong-peer",
                Some("blue"),
            ),
            (
                rig.from("b").packet(&esp.seal(4, &mismatch)),
                "wrong-vni",
                Some("blue"),
            ),
            (
                rig.sealed("blue", "b", 5, &pattern(mac(1), mac(4), 0, 64)),
                "spoofed-remote",
                Some("blue"),
            ),
            (
                rig.sealed("blue", "b", 6, &pattern(mac(4), mac(2), 0, 64)),
                "split-horizon",
                Some("blue"),
            ),
            (
                rig.sealed("blue", "b", 6, &pattern(mac(4), mac(2), 0, 64)),
                "replayed",
                Some("blue"),
            ),
        ] {
            rig.from_underlay(&[packet]);
            rig.settle();
            let traces = Rig::told(&watch);
            assert_eq!(verdicts(&traces), [why]);
            assert_eq!(traces[0].vn.as_deref(), vn, "{why}");
            assert_eq!(traces[0].outcome, "dropped");
        }
        assert_eq!(verdicts(&Rig::told(&only)), ["unknown-unicast"]);
        rig.stop();
    });
}

#[test]
fn filters_let_through_what_they_say() {
    isolated("filters_let_through_what_they_say", || {
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
    isolated("what_is_not_read_in_time_is_lost_and_counted", || {
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

#[test]
fn a_trace_on_the_command_line_ends_by_itself_or_with_its_reader() {
    isolated(
        "a_trace_on_the_command_line_ends_by_itself_or_with_its_reader",
        || {
            let mut rig = Rig::start(Setup::new());
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("api.sock");
            let (path, handle) = (socket.clone(), rig.handle());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let api = Api::bind(&path).await.unwrap();
                    api.serve(handle, std::future::pending()).await.unwrap();
                });
            });
            let began = Instant::now();
            while !socket.exists() {
                assert!(began.elapsed() < Duration::from_secs(10));
                std::thread::sleep(Duration::from_millis(5));
            }
            let ctl = |args: &[&str]| {
                let mut command = Command::new(binary("vswitchctl"));
                command.arg("--socket").arg(&socket).arg("trace").args(args);
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                command
            };
            // Two packets and no more.
            let mut child = ctl(&["-n", "2", "--vn", "blue"]).spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut text = String::new();
            let began = Instant::now();
            // It begins when the switch has its question: packets until then pass unseen.
            while child.try_wait().unwrap().is_none() {
                assert!(began.elapsed() < Duration::from_secs(10));
                rig.from_vlan(101, &[pattern(mac(3), mac(1), 0, 64)]);
                rig.settle();
            }
            for line in lines.by_ref() {
                text += &(line.unwrap() + "\n");
            }
            assert_eq!(text.matches("\npacket 0.").count() + 1, 2, "{text}");
            assert!(
                text.contains("ns  w0  forward      mapping 52:54:00:00:00:03"),
                "{text}"
            );
            assert!(
                text.contains("=> sent: to-vlan: sent to a VLAN of a physical port"),
                "{text}"
            );
            assert!(text.ends_with("2 packets\n"), "{text}");
            // None in a second.
            let output = ctl(&["--timeout", "1", "--json", "--drop", "any"])
                .output()
                .unwrap();
            let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(
                line["end"],
                serde_json::json!({"packets": 0, "lost": 0, "reason": "timeout"})
            );
            // A wrong name is refused.
            let output = ctl(&["--port", "nope"]).output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1));
            assert!(
                error.contains("there is no port `nope`; there are blue-1"),
                "{error}"
            );
            // A reader who goes away: all eight places are free again.
            let mut readers: Vec<_> = (0..8).map(|_| ctl(&[]).spawn().unwrap()).collect();
            let full = || rig.watch(Filter::default(), 1).is_err();
            let wait = |what: &str, so: &mut dyn FnMut() -> bool| {
                let began = Instant::now();
                while !so() {
                    assert!(began.elapsed() < Duration::from_secs(30), "{what}");
                    std::thread::sleep(Duration::from_millis(10));
                }
            };
            wait("eight traces", &mut || {
                // To look takes a place for a moment, in which a reader may be refused.
                for reader in &mut readers {
                    if reader.try_wait().unwrap().is_some() {
                        *reader = ctl(&[]).spawn().unwrap();
                    }
                }
                full()
            });
            for reader in &mut readers {
                reader.kill().unwrap();
                reader.wait().unwrap();
            }
            wait("room", &mut || !full());
            // A dry run by its addresses.
            let output = ctl(&[
                "--inject",
                "--port",
                "blue-1",
                "--src-mac",
                &text_of(1),
                "--dst-mac",
                &text_of(2),
                "--src-ip",
                "10.0.0.1",
                "--dst-ip",
                "10.0.0.2",
                "--proto",
                "tcp",
            ])
            .output()
            .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains("=> sent: to-underlay"), "{text}");
            assert!(
                text.ends_with("nothing was sent, nothing has changed.\n"),
                "{text}"
            );
            rig.stop();
        },
    );
}

fn text_of(n: u8) -> String {
    text(mac(n))
}

#[cfg(debug_assertions)]
#[test]
fn a_packet_dropped_without_a_verdict_is_reported_where_it_is() {
    use vswitch::dpdk::mbuf::{Burst, free_burst};
    isolated(
        "a_packet_dropped_without_a_verdict_is_reported_where_it_is",
        || {
            let rig = Rig::start(Setup::new());
            let pool =
                vswitch::dpdk::mempool::Mempool::create("debt", 64, 2048, None, true).unwrap();
            let message = |what: Box<dyn FnOnce() + std::panic::UnwindSafe>| {
                let panic = std::panic::catch_unwind(what).expect_err("reported");
                panic.downcast_ref::<String>().unwrap().clone()
            };
            let mut packet = pool.alloc().unwrap();
            packet.owe_verdict();
            let text = message(Box::new(std::panic::AssertUnwindSafe(move || {
                forgetful(packet)
            })));
            assert!(
                text.starts_with("a packet is dropped without a verdict"),
                "{text}"
            );
            assert!(text.contains("forgetful"), "the place: {text}");
            let mut burst = Burst::new();
            burst.push(pool.alloc().unwrap());
            burst[0].owe_verdict();
            let text = message(Box::new(std::panic::AssertUnwindSafe(|| {
                free_burst(&mut burst)
            })));
            assert!(text.contains("without a verdict"), "{text}");
            burst[0].settle();
            free_burst(&mut burst);
            let mut packet = pool.alloc().unwrap();
            packet.owe_verdict();
            packet.clear_offload_flags();
            packet.settle();
            drop(packet);
            rig.stop();
        },
    );
}

#[cfg(debug_assertions)]
#[inline(never)]
fn forgetful(packet: vswitch::dpdk::mbuf::Mbuf) {
    drop(packet);
}
