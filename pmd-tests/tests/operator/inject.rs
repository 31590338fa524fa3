//! `trace --inject`: a dry run tells what the very next packet goes through, and the switch is
//! afterwards as it was before, to the last number.

use pmd_tests::changes::rx;
use pmd_tests::frames::{BROADCAST, DF, mac, pattern, udp4};
use pmd_tests::isolate::isolated;
use pmd_tests::live::timeless;
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};
use vswitch::manage::observe::{Filter, Trace};
use vswitch::manage::status::Status;

/// Everything that the switch says of itself, but for the passing of time.
fn everything(rig: &Rig) -> Status {
    timeless(rig.status())
}

/// Steps (stage, worker, decision), verdict, and where to.
type Way = (Vec<(String, u16, String)>, String, Option<String>);

/// What a packet goes through, without times and names of its own.
fn way(traces: &[Trace]) -> Vec<Way> {
    let mut ways: Vec<_> = traces
        .iter()
        .map(|t| {
            let steps = t.steps.iter();
            let steps = steps.map(|s| (s.stage.clone(), s.worker, s.decision.clone()));
            (steps.collect(), t.verdict.clone(), t.to.clone())
        })
        .collect();
    ways.sort();
    ways
}

/// A dry run changes nothing, and the packet then goes the way it told.
fn tells_the_truth(
    rig: &mut Rig,
    port: &str,
    frame: &[u8],
    send: impl FnOnce(&mut Rig),
) -> Vec<Trace> {
    let before = everything(rig);
    let told = rig.dry_run(port, frame).unwrap();
    let again = rig.dry_run(port, frame).unwrap();
    assert_eq!(
        way(&told),
        way(&again),
        "a dry run has no effect on a dry run"
    );
    assert_eq!(everything(rig), before);
    let watch = rig.watch(Filter::default(), 1024).unwrap();
    send(rig);
    rig.settle();
    let real = Rig::told(&watch);
    assert_eq!(way(&told), way(&real));
    told
}

fn tenants_frames(setup: Setup) {
    let mut rig = Rig::start(setup);
    // Nothing comes out of a dry run, and no buffer is lost.
    rig.dry_run("blue-1", &udp4(1, 2, DF, 200)).unwrap();
    let out = rig.settle();
    assert!(out.underlay.is_empty() && out.trunk.is_empty());
    out.changes.expect_verdicts(&[]).expect_traffic(&[]);
    for (frame, verdicts) in [
        (udp4(1, 2, DF, 200), &["to-underlay"][..]),
        (pattern(mac(3), mac(1), 0, 64), &["to-vlan"]),
        (
            pattern(BROADCAST, mac(1), 0, 64),
            &["to-vlan", "to-underlay"],
        ),
        (pattern(mac(3), mac(2), 0, 64), &["spoofed-mac"]),
        (pattern(mac(99), mac(1), 0, 64), &["unknown-unicast"]),
        (vec![7; 13], &["malformed"]),
        // The switch would answer.
        (udp4(1, 2, DF, 1480), &["to-vlan", "too-big"]),
        // A chain of buffers.
        (pattern(mac(2), mac(1), 0, 6000), &["too-big"]),
    ] {
        let told = tells_the_truth(&mut rig, "blue-1", &frame, |rig| {
            rig.from_vlan(101, std::slice::from_ref(&frame));
        });
        let mut found: Vec<_> = told.iter().map(|t| t.verdict.as_str()).collect();
        found.sort_unstable();
        let mut expected = verdicts.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
    // No sequence number was spent: three packets went to the peer in all.
    let frame = pattern(mac(2), mac(1), 0, 64);
    rig.from_vlan(101, std::slice::from_ref(&frame));
    let out = rig.settle();
    assert_eq!(rig.opened("blue", "b", &out.underlay[0]), (3, frame));
    rig.stop();
}

#[test]
fn a_tenants_frame() {
    isolated(|| tenants_frames(Setup::new()));
}

#[test]
fn a_tenants_frame_over_three_workers() {
    isolated(|| {
        tenants_frames(Setup {
            workers: 3,
            outbound_worker: 1,
            inbound_worker: 2,
            ..Setup::new()
        });
    });
}

#[test]
fn a_packet_from_the_underlay() {
    isolated(|| {
        let mut setup = Setup {
            workers: 2,
            inbound_worker: 1,
            trunk_mtu: 9000,
            mtu: 9000,
            ..Setup::new()
        };
        setup.vns.push(Vn::red());
        let mut rig = Rig::start(setup);
        let good = rig.sealed("blue", "b", 5, &udp4(2, 1, DF, 200));
        let mut bad = rig.sealed("blue", "b", 6, &udp4(2, 1, DF, 200));
        *bad.last_mut().unwrap() ^= 1;
        let long = rig.sealed("blue", "b", 7, &pattern(mac(1), mac(2), 0, 5000));
        let stranger = rig.sealed("red", "b", 1, &pattern(mac(1), mac(77), 0, 64));
        for (packet, verdict) in [
            (&good, "to-vlan"),
            // Now it has been seen.
            (&good, "replayed"),
            (&bad, "auth-failed"),
            (&long, "to-vlan"),
            (&stranger, "spoofed-remote"),
        ] {
            let told = tells_the_truth(&mut rig, "up0", packet, |rig| {
                rig.from_underlay(std::slice::from_ref(packet));
            });
            assert_eq!(told.len(), 1);
            assert_eq!(told[0].verdict, verdict);
        }
        rig.stop();
    });
}

#[test]
fn nothing_is_learned_and_no_token_taken() {
    isolated(|| {
        let mut setup = Setup::new();
        setup.vns[0].learning = true;
        setup.vns[0].ports[0].learning = true;
        setup.vns[0].ports[0].bum_rate = 10;
        let mut rig = Rig::start(setup);
        let before = everything(&rig);
        let remote = rig.sealed("blue", "b", 1, &pattern(mac(1), mac(66), 0, 64));
        for _ in 0..50 {
            let told = rig
                .dry_run("blue-1", &pattern(BROADCAST, mac(55), 0, 64))
                .unwrap();
            assert!(told.iter().all(|t| t.outcome == "sent"), "{told:#?}");
            rig.dry_run("up0", &remote).unwrap();
        }
        assert_eq!(everything(&rig), before, "nothing learned");
        // All ten tokens are there.
        let frames: Vec<_> = (0..10).map(|i| pattern(BROADCAST, mac(1), i, 64)).collect();
        rig.from_vlan(101, &frames);
        let out = rig.settle();
        assert_eq!(out.trunk.len(), 10);
        out.changes
            .expect_verdicts(&[("to-underlay", 10), ("to-vlan", 10)]);
        assert_eq!(out.changes.traffic["port blue-1"], rx(10, 640));
        rig.stop();
    });
}

#[test]
fn real_packets_before_behind_and_between_are_not_touched() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        let handle = rig.handle();
        let frame = pattern(mac(2), mac(1), 7, 200);
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let dry = frame.clone();
        let injector = std::thread::spawn(move || {
            let mut n = 0;
            while stopped.try_recv().is_err() {
                let inject = vswitch::manage::observe::Inject {
                    port: "blue-1".to_owned(),
                    frame: dry.clone(),
                };
                let patience = std::time::Duration::from_secs(10);
                handle.rehearse_blocking(inject, patience).unwrap().unwrap();
                n += 1;
            }
            n
        });
        for round in 0..100 {
            rig.from_vlan(101, &vec![frame.clone(); 32]);
            // The injector has buffers of the edge in hand from time to time.
            let out = rig.settle_beside_others();
            let seqs: Vec<u64> = out
                .underlay
                .iter()
                .map(|p| rig.opened("blue", "b", p).0)
                .collect();
            let first = round * 32 + 1;
            assert_eq!(seqs, (first..first + 32).collect::<Vec<u64>>());
            out.changes.expect_verdicts(&[("to-underlay", 32)]);
        }
        stop.send(()).unwrap();
        assert!(injector.join().unwrap() > 10);
        rig.stop();
    });
}

#[test]
fn what_cannot_be_tried_is_refused() {
    isolated(|| {
        let rig = Rig::start(Setup::new());
        let error = rig.dry_run("nope", &[0; 60]).unwrap_err().to_string();
        assert!(error.contains("there are blue-1, blue-3, up0"), "{error}");
        let error = rig
            .dry_run("blue-1", &vec![0; 70_000])
            .unwrap_err()
            .to_string();
        assert!(error.contains("65535"), "{error}");
        assert_eq!(rig.dry_run("up0", &[]).unwrap()[0].verdict, "malformed");
        rig.stop();
    });
}
