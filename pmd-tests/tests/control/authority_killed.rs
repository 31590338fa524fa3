//! `kill -9` of every process at every phase: while an edge registers, while keys are agreed on, in
//! steady traffic, and while keys are replaced. Traffic comes back by itself, nothing is in the clear
//! meanwhile, and without the authority everything goes on.

use std::time::{Duration, Instant};

use pmd_tests::asking::{rekeyed_since, sealing, shown, standing};
use pmd_tests::bridge::{self, Observer, cut, lost, mend, nothing_in_the_clear, wire};
use pmd_tests::daemon::Daemon;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::wait_for;
use pmd_tests::overlay::{By, Ima, PAIR, declaration, edge, pki, plug};
use pmd_tests::peer::tunnel;
use pmd_tests::stream::{SECRET, Stream};

/// Keys are replaced every second or so, by use; a stream uses some 5000 blocks a second.
const REKEY: &str = "  rekey-blocks: 6000";
/// From when a restarted edge has its port and its addresses again, to the first packet that passes.
const HEALED: Duration = Duration::from_secs(2);

fn config(name: &str) -> String {
    edge(
        name,
        if name == "a" { 1 } else { 2 },
        2,
        REKEY,
        (By::Machines, &PAIR),
    )
}

fn port(edge: &str) -> &'static str {
    if edge == "a" { "vm1" } else { "vm2" }
}

/// Whether an edge's machine is where it belongs, on both sides of the port.
fn ready(edge: &str) -> Option<()> {
    let port = port(edge);
    let ports = shown(edge, "ports").ok()?;
    let mut ports = ports.as_array()?.iter();
    let up = ports.any(|p| p["name"] == *port && p["state"] == "up");
    let admitted = standing(edge, "red") == [format!("{port}: admitted")];
    (up && admitted).then_some(())
}

struct Streams([Stream; 2]);

impl Streams {
    fn start() -> Streams {
        Streams([
            Stream::start("t1", "t2", 2, 250),
            Stream::start("t2", "t1", 1, 250),
        ])
    }

    /// All flow, within so long of `moment`; returns when the last did.
    #[track_caller]
    fn flow(&self, moment: Instant, within: Duration) -> Instant {
        let mut all = moment;
        for stream in &self.0 {
            let first = stream.first_after(moment, 20);
            let took = first.saturating_duration_since(moment);
            assert!(took < within, "no packet for {took:?}");
            all = all.max(first);
        }
        all
    }

    #[track_caller]
    fn whole(&self, since: Instant) {
        self.0.iter().for_each(|s| s.whole(since));
    }
}

/// A restarted edge comes back, and its traffic within [`HEALED`].
#[track_caller]
fn heals(edge: &str, streams: &Streams) -> Daemon {
    let daemon = Daemon::restart(edge);
    wait_for(&format!("{edge} is ready"), 20, || ready(edge));
    streams.flow(Instant::now(), HEALED);
    daemon
}

/// Waits until the other edge is asked for new keys, of which it hears nothing.
#[track_caller]
fn held_up_in_a_rekey() {
    let before = sealing("a", None);
    assert!(!before.is_empty());
    cut("udp dport 4600 meta length > 600");
    wait_for("a key is to be replaced", 15, || (lost() > 0).then_some(()));
}

/// What one edge sent the other received, while nothing else is lost.
#[track_caller]
fn counters_add_up(a: &Daemon, b: &Daemon) {
    let read = || (tunnel(&a.status(), "red"), tunnel(&b.status(), "red"));
    let settled = |what: &str| {
        wait_for(what, 10, || {
            let first = read();
            std::thread::sleep(bridge::UNDER_WAY);
            (read() == first).then_some(first)
        })
    };
    let before = settled("nothing under way");
    let streams = Streams::start();
    streams.flow(Instant::now(), HEALED);
    std::thread::sleep(bridge::UNDER_WAY);
    drop(streams);
    let after = settled("nothing under way any more");
    let there = (
        after.0.tx_packets - before.0.tx_packets,
        after.1.rx_packets - before.1.rx_packets,
    );
    let back = (
        after.1.tx_packets - before.1.tx_packets,
        after.0.rx_packets - before.0.rx_packets,
    );
    assert!(there.0 > 0 && back.0 > 0, "{there:?} {back:?}");
    assert_eq!((there.0, back.0), (there.1, back.1));
}

#[test]
fn whoever_is_killed_at_whatever_phase_comes_back() {
    isolated_in_lab(|| {
        wire(&["a", "b"], &[("ima", "192.0.2.250")]);
        pki(&["nve a", "nve b"]);
        let observer = Observer::start();
        let ima = Ima::start("");
        Ima::declare(&declaration(&[("red", "")], &["a", "b"], &PAIR));

        // The authority, while an edge joins: the edge's words end in the middle.
        cut("iifname a udp dport 4700 quota over 7000 bytes");
        let a = Daemon::start("a", &config("a"));
        wait_for("a is held up", 20, || (lost() > 0).then_some(()));
        assert_ne!(standing("a", "red"), ["vm1: admitted"]);
        ima.kill();
        mend();
        let ima = Ima::again();
        let b = Daemon::start("b", &config("b"));
        let mut daemons = [Some(a), Some(b)];
        let _tenants = plug("tenants", By::Machines, &PAIR, &PAIR);
        for edge in ["a", "b"] {
            wait_for(&format!("{edge} is ready"), 30, || ready(edge));
        }

        // The authority, while two edges agree on their first keys: they need it no more.
        cut("udp dport 4600 quota over 8000 bytes");
        let streams = Streams::start();
        wait_for("the exchange is held up", 10, || (lost() > 0).then_some(()));
        assert!(sealing("a", None).is_empty() && sealing("b", None).is_empty());
        ima.kill();
        mend();
        let since = streams.flow(Instant::now(), Duration::from_secs(5));
        let before = (sealing("a", None), sealing("b", None));
        rekeyed_since("a", None, &before.0);
        rekeyed_since("b", None, &before.1);
        streams.whole(since);
        let ima = Ima::again();
        drop(streams);

        for (name, registering, agreeing) in [("a", 3000, 8000), ("b", 7000, 5000)] {
            let place = usize::from(name == "b");
            let streams = Streams::start();
            streams.flow(Instant::now(), HEALED);
            // In steady traffic.
            daemons[place].take().expect("an edge").kill();
            // And again while it registers.
            cut(&format!(
                "iifname {name} udp dport 4700 quota over {registering} bytes"
            ));
            let again = Daemon::restart(name);
            wait_for("it is held up", 20, || (lost() > 0).then_some(()));
            assert!(ready(name).is_none());
            again.kill();
            mend();
            let healed = heals(name, &streams);
            // While keys are replaced.
            held_up_in_a_rekey();
            healed.kill();
            mend();
            // And again while the first keys are agreed on.
            cut(&format!("udp dport 4600 quota over {agreeing} bytes"));
            let again = Daemon::restart(name);
            wait_for("it is held up", 20, || (lost() > 0).then_some(()));
            assert!(sealing(name, None).is_empty());
            again.kill();
            mend();
            daemons[place] = Some(heals(name, &streams));
        }

        // Who is only sent to: the other has to notice by itself that the keys are gone.
        let one_way = Stream::start("t1", "t2", 2, 250);
        one_way.first_after(Instant::now(), 20);
        daemons[1].take().expect("an edge").kill();
        daemons[1] = Some(Daemon::restart("b"));
        wait_for("b is ready", 20, || ready("b"));
        let back = Instant::now();
        let took = one_way
            .first_after(back, 20)
            .saturating_duration_since(back);
        assert!(took < HEALED, "no packet for {took:?}");
        drop(one_way);

        // The authority in steady traffic and while keys are replaced: nobody notices.
        let edges = Ima::ctl("show edges");
        assert_eq!(edges.matches("\"connected\":true").count(), 2, "{edges}");
        let streams = Streams::start();
        let since = streams.flow(Instant::now(), HEALED);
        held_up_in_a_rekey();
        ima.kill();
        mend();
        let before = (sealing("a", None), sealing("b", None));
        rekeyed_since("a", None, &before.0);
        rekeyed_since("b", None, &before.1);
        streams.whole(since);
        drop(streams);
        let [Some(a), Some(b)] = daemons else {
            panic!("both run");
        };
        counters_add_up(&a, &b);
        a.stop();
        b.stop();
        assert!(nothing_in_the_clear(&observer.frames(), SECRET) > 1000);
    });
}
