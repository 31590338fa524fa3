//! `vswitchctl trace`: what people and programs read, and what is refused.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::bounded;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use vswitch::datapath::observe::{Headers, Mark, Place, Record, Rule, Step};
use vswitch::datapath::verdict::Verdict;
use vswitch::dpdk::time::TscClock;
use vswitch::manage::api::{Source, StatusRequest, Unavailable};
use vswitch::manage::observe::{
    Ask, Inject, InjectError, Names, Rehearsed, Trace, TraceEnd, TraceRequest, Watch, WatchError,
};
use vswitch_net::{Encapsulation, MacAddr};
use vswitch_vn::{Destination, PortId, TunnelId, VnId};

use super::switch::{Switch, stderr};

const WEB: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const DB: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn names() -> Names {
    Names {
        ports: vec!["web1".into()],
        underlays: vec!["underlay0".into()],
        devices: vec![],
        vns: vec!["blue".into()],
        tunnels: vec![("blue".into(), "edge-b".into())],
        placed: vec![vec![(WEB, vec![ip(5)])]],
    }
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

fn headers() -> Headers {
    Headers {
        src_mac: WEB,
        dst_mac: DB,
        vlan: None,
        ethertype: 0x0800,
        ips: Some((ip(5), ip(6))),
        protocol: Some(6),
        ports: Some((40_000, 443)),
        len: 74,
    }
}

/// One that goes to a peer, and one that is dropped.
fn records() -> Vec<Record> {
    let mark = |tsc, worker, step| Mark { worker, tsc, step };
    let mut sent = Record::new();
    sent.id = 17;
    (sent.began, sent.ended) = (1000, 3100);
    (sent.from, sent.to) = (Place::Port(PortId(0)), Some(Place::Underlay(0)));
    (sent.vn, sent.tunnel) = (Some(VnId(0)), Some(TunnelId(0)));
    sent.frame = Some(headers());
    sent.steps.extend([
        mark(1000, 0, Step::Received(Place::Port(PortId(0)))),
        mark(
            1220,
            0,
            Step::Placed {
                port: PortId(0),
                mac: WEB,
            },
        ),
        mark(
            1300,
            0,
            Step::Lookup {
                vn: VnId(0),
                mac: DB,
                rule: Rule::Mapping(3),
                destination: Destination::Tunnel(TunnelId(0)),
            },
        ),
        mark(1310, 0, Step::HandedOut(1)),
        mark(1900, 1, Step::HandedIn(0)),
        mark(
            2400,
            1,
            Step::Encapsulated {
                tunnel: TunnelId(0),
                encapsulation: Encapsulation::Geneve,
                vni: 1001,
                sa: Some((0x1001, 4_194_305)),
                underlay: 0,
                next_hop: MacAddr([2, 0, 0, 0, 9, 9]),
            },
        ),
        mark(
            2700,
            1,
            Step::Sealed {
                algorithm: "aes-256-gcm",
            },
        ),
        mark(2710, 1, Step::Queued(Place::Underlay(0))),
    ]);
    sent.verdict = Verdict::ToUnderlay;
    let mut dropped = Record::new();
    dropped.id = 1 << 48 | 4;
    (dropped.began, dropped.ended) = (5000, 5090);
    dropped.worker = 1;
    dropped.from = Place::Port(PortId(0));
    dropped.vn = Some(VnId(0));
    dropped.frame = Some(Headers {
        src_mac: DB,
        ..headers()
    });
    dropped
        .steps
        .push(mark(5000, 1, Step::Received(Place::Port(PortId(0)))));
    dropped.verdict = Verdict::SpoofedMac;
    vec![sent, dropped]
}

/// A nanosecond a tick.
fn clock() -> TscClock {
    TscClock::with_frequency(1_000_000_000)
}

/// Has packets, and nothing else.
struct Packets;

impl Source for Packets {
    fn ask(&self, _: StatusRequest) -> Result<(), Unavailable> {
        Err(Unavailable::Busy)
    }

    fn watch(&self, ask: Ask) -> Result<oneshot::Receiver<Result<Watch, WatchError>>, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let watch = ask.filter.resolve(&names()).map_err(WatchError::from);
        let (reports, found) = bounded(8);
        for record in records() {
            reports.send(Box::new(record)).unwrap();
        }
        let watch = watch.map(|_| Watch::new(found, Arc::new(names()), clock()));
        std::thread::spawn(move || {
            // As a switch that goes on: the channel closes after a while.
            let _ = answer.send(watch);
            std::thread::sleep(Duration::from_secs(3));
            drop(reports);
        });
        Ok(answered)
    }

    fn rehearse(
        &self,
        inject: Inject,
    ) -> Result<oneshot::Receiver<Result<Rehearsed, InjectError>>, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let outcome = match inject.frame.len() {
            0..14 => Err(InjectError::NoBuffer),
            _ => Ok(Rehearsed {
                records: records().into_iter().skip(1).map(Box::new).collect(),
                names: Arc::new(names()),
                clock: clock(),
            }),
        };
        let _ = answer.send(outcome);
        Ok(answered)
    }
}

/// One of everything that the API tells of packets, for the comparison with its description.
pub fn examples() -> Vec<(&'static str, Value)> {
    let trace =
        |record: &Record| serde_json::to_value(Trace::new(record, &names(), clock())).unwrap();
    let end = TraceEnd {
        packets: 2,
        lost: 0,
        reason: "count".into(),
    };
    let records = records();
    vec![
        ("Trace", trace(&records[0])),
        ("Trace", trace(&records[1])),
        ("TraceEnd", serde_json::to_value(end).unwrap()),
    ]
}

const SENT: &str = "\
packet 0.17, VN blue
  frame: 02:00:00:00:00:01 > 02:00:00:00:00:02, TCP 10.0.0.5:40000 > 10.0.0.6:443, 74 bytes
          0 ns  w0  receive      from port web1
        220 ns  w0  check        source 02:00:00:00:00:01 is placed on port web1 (binding 10.0.0.5)
         80 ns  w0  forward      mapping 02:00:00:00:00:02 (generation 3) -> tunnel to edge-b
         10 ns  w0  transmit     handed to worker 1
        590 ns  w1  receive      taken over from worker 0
        500 ns  w1  encapsulate  Geneve VNI 1001 to edge-b, SA spi 0x1001 seq 4194305, path underlay0 next hop 02:00:00:00:09:09
        300 ns  w1  seal         sealed with aes-256-gcm
         10 ns  w1  transmit     queued for underlay port underlay0
        390 ns  => sent: to-underlay: sent to a peer edge
       2100 ns  in all

";

const DROPPED: &str = "\
packet 1.4, VN blue
  frame: 02:00:00:00:00:02 > 02:00:00:00:00:02, TCP 10.0.0.5:40000 > 10.0.0.6:443, 74 bytes
          0 ns  w1  receive      from port web1
         90 ns  => dropped: spoofed-mac: source MAC that is not placed on the port
                source 02:00:00:00:00:02 with 10.0.0.5; placed on port web1: 02:00:00:00:00:01 (10.0.0.5)
         90 ns  in all

";

#[test]
fn people_read_every_step() {
    let switch = Switch::of(Packets);
    let text = switch.shown(&["trace", "-n", "2"]);
    assert_eq!(text, format!("{SENT}{DROPPED}2 packets\n"));
    let text = switch.shown(&["trace", "--timeout", "1"]);
    assert_eq!(text, format!("{SENT}{DROPPED}2 packets (time is up)\n"));
}

#[test]
fn programs_read_lines() {
    let switch = Switch::of(Packets);
    let text = switch.shown(&["trace", "--json", "-n", "2"]);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["packet"]["steps"][5]["stage"], "encapsulate");
    assert_eq!(lines[1]["packet"]["verdict"], "spoofed-mac");
    assert_eq!(
        lines[2],
        json!({"end": {"packets": 2, "lost": 0, "reason": "count"}})
    );
    // The same by hand; an empty question asks for ten packets.
    let question = serde_json::to_string(&TraceRequest {
        count: 1,
        ..TraceRequest::default()
    });
    let (body, code) = switch.curl(&["--data", &question.unwrap()], "/v1/trace");
    assert_eq!(code, "200 application/jsonl");
    assert_eq!(body.lines().count(), 2, "{body}");
}

#[test]
fn a_dry_run_says_that_it_is_one() {
    let switch = Switch::of(Packets);
    let packet = "02000000000202000000000188b5";
    let inject = ["trace", "--inject", "--port", "web1"];
    let text = switch.shown(&[&inject[..], &["--frame", packet]].concat());
    let end = "This was a dry run: nothing was sent, nothing has changed.\n";
    assert_eq!(text, format!("{DROPPED}{end}"));
    let output = switch.ctl(&[&inject[..], &["--frame", "0200"]].concat());
    assert!(stderr(&output).contains("no buffer free"));
    let output = switch.ctl(&[&inject[..], &["--frame", "nonsense"]].concat());
    assert!(stderr(&output).contains("--frame"));
    let output = switch.ctl(&inject);
    assert!(stderr(&output).contains("--inject needs a packet"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn wrong_questions_are_refused() {
    let switch = Switch::of(Packets);
    for (args, complaint) in [
        (&["--vn", "red"][..], "there is no VN `red`; there are blue"),
        (&["--port", "web2"], "there are web1, underlay0"),
        (&["--drop", "whatever"], "show drops --all"),
        (&["--proto", "300"], "is no protocol"),
    ] {
        let output = switch.ctl(&[&["trace"], args].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(stderr(&output).contains(complaint), "{}", stderr(&output));
    }
    for args in [
        &["-n", "0"][..],
        &["--mac", "02"],
        &["--inject"],
        &["--frame", "00"],
    ] {
        let output = switch.ctl(&[&["trace"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
    let (body, code) = switch.curl(&["--data", "{\"cuont\": 1}"], "/v1/trace");
    assert_eq!(code, "400 application/json");
    assert!(body.contains("cuont"), "{body}");
    let (_, code) = switch.curl(&[], "/v1/trace");
    assert_eq!(code, "405 application/json");
    // A switch without packets.
    let output = Switch::start().ctl(&["trace"]);
    assert!(
        stderr(&output).contains("no packets here"),
        "{}",
        stderr(&output)
    );
}
