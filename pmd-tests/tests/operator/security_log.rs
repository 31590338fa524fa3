//! The security log under attack: each kind of event with who and where, and every dropped
//! packet in its counts.

use std::fs;

use pmd_tests::frames::{BROADCAST, mac, pattern, tagged, text};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::Setup;
use pmd_tests::wire::{Algorithm, Craft, Encapsulation, Outer, Sa};
use serde_json::{Map, Value, json};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use vswitch::manage::security::{self, SecurityLog};

/// What the log says of a packet with these outer headers.
fn outer(from: &Outer, len: usize) -> Value {
    json!({
        "src_mac": text(from.src_mac), "dst_mac": text(from.dst_mac),
        "src": from.src.to_string(), "dst": from.dst.to_string(),
        "protocol": 17, "src_port": from.sport, "dst_port": from.dport, "length": len,
    })
}

/// What it says of a frame that is not IP.
fn inner(frame: &[u8]) -> Value {
    let mac = |at: usize| text(frame[at..at + 6].try_into().expect("6 bytes"));
    json!({"src_mac": mac(6), "dst_mac": mac(0), "length": frame.len()})
}

struct Expected {
    reason: &'static str,
    count: u64,
    fields: Value,
}

/// The lines of one reason: their counts add up, and otherwise they say what is expected.
#[track_caller]
fn check(lines: &[Map<String, Value>], expected: &Expected) {
    let reason = expected.reason;
    let of: Vec<_> = lines.iter().filter(|l| l["reason"] == reason).collect();
    let count = |l: &Map<String, Value>| l["count"].as_u64().expect("a count");
    let sum: u64 = of.iter().map(|l| count(l)).sum();
    assert_eq!(sum, expected.count, "{reason}: {of:?}");
    for (i, line) in of.into_iter().enumerate() {
        // What comes after the first line within some seconds was held back.
        let held_back = if i == 0 { 0 } else { count(line) };
        assert_eq!(line["suppressed"], held_back, "{reason}");
        assert!(line["time"].as_str().is_some_and(|t| t.ends_with('Z')));
        let mut rest = line.clone();
        for field in ["time", "count", "suppressed", "message"] {
            assert!(rest.remove(field).is_some(), "{reason}: {field}");
        }
        if i > 0 {
            // Another packet was the first of these.
            rest.insert("length".into(), expected.fields["length"].clone());
        }
        assert_eq!(Value::Object(rest), expected.fields, "{reason}");
    }
}

#[test]
fn every_attack_is_told_with_who_and_where() {
    isolated(attack);
}

fn attack() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("security.jsonl");
    let log = SecurityLog::default();
    log.direct_to(Some(&file)).expect("a file");
    tracing_subscriber::registry()
        .with(security::layer(log))
        .init();

    let mut setup = Setup::with_c();
    setup.hard_limit = Some(100);
    setup.vns[0].ports[1].bum_rate = 10;
    let mut rig = Rig::start_in(setup, dir.path());
    let mut expected = Vec::new();
    let mut tell = |kind: &str, reason: &'static str, count: u64, who: Value, packet: Value| {
        let mut fields = json!({"kind": kind, "reason": reason, "worker": 0});
        for part in [who, packet] {
            let all = fields.as_object_mut().expect("an object");
            all.extend(part.as_object().expect("an object").clone());
        }
        expected.push(Expected {
            reason,
            count,
            fields,
        });
    };

    let (sa, from, stranger) = (rig.setup.inbound("blue", "b"), rig.from("b"), rig.from("c"));
    let spi = format!("{:#010x}", sa.spi);
    let of_sa = || json!({"vn": "blue", "peer": "b", "spi": spi});
    let of_underlay = || json!({"underlay": "up0"});
    let good = pattern(mac(1), mac(2), 0, 90);
    let payload = rig.overlay("blue", "b", &good);

    // Packets of the association that are not right.
    let mut forged = sa.seal(1, &payload);
    *forged.last_mut().expect("a byte") ^= 1;
    let packet = from.packet(&forged);
    rig.from_underlay(&[packet.clone(), packet.clone(), packet.clone()]);
    rig.settle().changes.expect_verdicts(&[("auth-failed", 3)]);
    let about = outer(&from, packet.len());
    tell(
        "authentication-failure",
        "auth-failed",
        3,
        of_sa(),
        about.clone(),
    );

    let packet = rig.sealed("blue", "b", 5, &good);
    rig.from_underlay(&[packet.clone(), packet.clone()]);
    rig.settle()
        .changes
        .expect_verdicts(&[("to-vlan", 1), ("replayed", 1)]);
    tell("replay", "replayed", 1, of_sa(), about);

    let datagram = Encapsulation::Geneve.datagram(9999, &good);
    let packet = from.packet(&sa.seal(6, &datagram));
    let about = outer(&from, packet.len());
    rig.from_underlay(&[packet]);
    rig.settle().changes.expect_verdicts(&[("wrong-vni", 1)]);
    tell("vni-mismatch", "wrong-vni", 1, of_sa(), about);

    let packet = stranger.packet(&sa.seal(7, &payload));
    let about = outer(&stranger, packet.len());
    rig.from_underlay(&[packet]);
    rig.settle().changes.expect_verdicts(&[("wrong-peer", 1)]);
    tell("wrong-sender", "wrong-peer", 1, of_sa(), about);

    let channel = Craft {
        iv: 0x5ec2e7,
        ..Craft::right(8)
    };
    let packet = from.packet(&sa.craft(&channel, &payload));
    let about = outer(&from, packet.len());
    rig.from_underlay(&[packet]);
    rig.settle().changes.expect_verdicts(&[("iv-mismatch", 1)]);
    tell("protocol-violation", "iv-mismatch", 1, of_sa(), about);

    // Nobody's.
    let packet = from.packet(&Sa::new(0x7777, Algorithm::Gcm256).seal(1, &payload));
    let about = outer(&from, packet.len());
    rig.from_underlay(&[packet]);
    rig.settle().changes.expect_verdicts(&[("unknown-spi", 1)]);
    let who = json!({"underlay": "up0", "spi": "0x00007777"});
    tell("unknown-spi", "unknown-spi", 1, who, about);

    let clear = Outer {
        dport: 6081,
        ..rig.from("b")
    };
    let packet = clear.packet(&Encapsulation::Geneve.wrap(1001, &good));
    let about = outer(&clear, packet.len());
    rig.from_underlay(&[packet]);
    rig.settle()
        .changes
        .expect_verdicts(&[("clear-for-protected", 1)]);
    tell(
        "clear-packet",
        "clear-for-protected",
        1,
        of_underlay(),
        about,
    );

    // A member that speaks for another's tenant, or sends what nobody may.
    let of_tunnel = || json!({"vn": "blue", "peer": "b"});
    let lie = pattern(mac(1), mac(4), 0, 80);
    let packet = rig.sealed("blue", "b", 9, &lie);
    rig.from_underlay(&[packet]);
    rig.settle()
        .changes
        .expect_verdicts(&[("spoofed-remote", 1)]);
    tell(
        "spoofed-source",
        "spoofed-remote",
        1,
        of_tunnel(),
        inner(&lie),
    );

    let double = tagged(5, &good);
    let packet = rig.sealed("blue", "b", 10, &double);
    rig.from_underlay(&[packet]);
    rig.settle()
        .changes
        .expect_verdicts(&[("unexpected-vlan", 1)]);
    tell(
        "forbidden-frame",
        "unexpected-vlan",
        1,
        of_tunnel(),
        inner(&double),
    );

    // Tenants.
    let of_port = || json!({"port": "blue-3", "vn": "blue"});
    let lie = pattern(mac(1), mac(2), 0, 70);
    rig.from_vlan(103, &[lie.clone(), lie.clone()]);
    rig.settle().changes.expect_verdicts(&[("spoofed-mac", 2)]);
    tell("spoofed-source", "spoofed-mac", 2, of_port(), inner(&lie));

    let call = pattern(BROADCAST, mac(3), 0, 64);
    rig.from_vlan(103, &vec![call.clone(); 40]);
    let out = rig.settle();
    let refused = out.changes.verdicts["bum-rate"];
    assert!((25..=30).contains(&refused), "{refused}");
    tell(
        "limit-reached",
        "bum-rate",
        refused,
        of_port(),
        inner(&call),
    );

    // Nine blocks each, of a hundred; the broadcasts have used some.
    let frame = pattern(mac(2), mac(1), 0, 100);
    rig.from_vlan(101, &vec![frame.clone(); 20]);
    let out = rig.settle();
    let refused = out.changes.verdicts["sa-hard-limit"];
    assert!(refused >= 9);
    tell(
        "limit-reached",
        "sa-hard-limit",
        refused,
        of_tunnel(),
        inner(&frame),
    );

    rig.stop();
    let text = fs::read_to_string(&file).expect("the log");
    let lines: Vec<Map<String, Value>> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    for one in &expected {
        check(&lines, one);
    }
    let soft = lines
        .iter()
        .find(|l| l["reason"] == "sa-soft-limit" && l["peer"] == "b");
    let mut soft = soft.expect("the soft limit").clone();
    soft.remove("time");
    let spi = format!("{:#010x}", Setup::with_c().outbound("blue", "b").spi);
    assert_eq!(
        Value::Object(soft),
        json!({
            "kind": "limit-reached", "reason": "sa-soft-limit", "vn": "blue", "peer": "b",
            "spi": spi, "worker": 0, "count": 1, "suppressed": 0,
            "message": "the SA passed its soft limit: renew its key",
        })
    );
    let first = &lines[0];
    assert_eq!(first["kind"], "configuration-change");
    assert_eq!(first["reason"], "start");
    // And nothing else, whatever else happened.
    let known = |l: &&Map<String, Value>| {
        let reason = l["reason"].as_str().expect("text");
        reason == "start"
            || reason == "sa-soft-limit"
            || expected.iter().any(|e| e.reason == reason)
    };
    assert_eq!(lines.iter().filter(known).count(), lines.len(), "{text}");
}
