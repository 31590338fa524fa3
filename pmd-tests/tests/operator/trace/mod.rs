//! `trace`: every stage that a packet passes, what each decided and from which entry, on every
//! worker that has it, and its verdict; and only the packets that were asked for.

mod command;
mod filters;

use pmd_tests::frames::{BROADCAST, DF, mac, pattern, udp4};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};
use vswitch::manage::observe::{Filter, Trace};

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
    isolated(|| {
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
    isolated(|| {
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
    isolated(|| {
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
    isolated(|| {
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

#[cfg(debug_assertions)]
#[test]
fn a_packet_dropped_without_a_verdict_is_reported_where_it_is() {
    use vswitch::dpdk::mbuf::{Burst, free_burst};
    isolated(|| {
        let rig = Rig::start(Setup::new());
        let pool = vswitch::dpdk::mempool::Mempool::create("debt", 64, 2048, None, true).unwrap();
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
    });
}

#[cfg(debug_assertions)]
#[inline(never)]
fn forgetful(packet: vswitch::dpdk::mbuf::Mbuf) {
    drop(packet);
}
