//! Wall clocks that are set in the middle of things: while an edge's handshake with the authority is held
//! up, and while two edges' key exchange is. What is left of either comes about at once when packets pass.

use std::time::{Duration, Instant};

use pmd_tests::asking::{sealing, show, stands};
use pmd_tests::bridge::{cut, lost, mend, wire};
use pmd_tests::clock::WallClock;
use pmd_tests::daemon::Daemon;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::wait_for;
use pmd_tests::overlay::{By, Ima, PAIR, declaration, edge, pki, plug};
use pmd_tests::stream::Stream;

/// Certificates count from five minutes before they were made, for thirty days.
const STEPS: [i64; 3] = [24 * 3600, -240, 0];
/// The file of a clock is looked at once a second.
const SEEN: Duration = Duration::from_millis(1200);

#[test]
fn clocks_are_set_during_handshakes_and_exchanges() {
    isolated_in_lab(|| {
        wire(&["a", "b"], &[("ima", "192.0.2.250")]);
        pki(&["nve a", "nve b"]);
        let clocks = ["ima", "a", "b"].map(WallClock::new);
        let [of_ima, of_a, of_b] = &clocks;
        let _ima = Ima::start_with("", &of_ima.environment());
        Ima::declare(&declaration(&[("red", "")], &["a", "b"], &PAIR));
        let rekey = "  rekey-blocks: 6000";
        let config = |name: &str, n| edge(name, n, 1, rekey, (By::Switches, &PAIR));

        // The edge's first packets pass and nothing behind them: a handshake, or what is said in the
        // first moments of the session.
        cut("iifname a udp dport 4700 quota over 5000 bytes");
        let a = Daemon::start_with("a", &config("a", 1), &of_a.environment());
        wait_for("the handshake is held up", 20, || {
            (lost() > 0).then_some(())
        });
        assert_ne!(show("a", "ima")["vns"][0]["state"], "joined");
        of_a.set(STEPS[0]);
        of_ima.set(STEPS[1]);
        std::thread::sleep(SEEN);
        mend();
        let b = Daemon::start_with("b", &config("b", 2), &of_b.environment());
        let _tenants = plug("tenants", By::Switches, &PAIR, &PAIR);
        stands("a", "red", &["vm1: admitted"]);
        stands("b", "red", &["vm2: admitted"]);

        // The first exchange of the two edges, in the middle of which both clocks are set apart.
        cut("udp dport 4600 quota over 8000 bytes");
        let streams = [
            Stream::start("t1", "t2", 2, 250),
            Stream::start("t2", "t1", 1, 250),
        ];
        wait_for("the exchange is held up", 10, || (lost() > 0).then_some(()));
        assert!(sealing("a", None).is_empty() && sealing("b", None).is_empty());
        of_a.set(STEPS[1]);
        of_b.set(STEPS[0]);
        std::thread::sleep(SEEN);
        mend();
        let mended = Instant::now();
        for stream in &streams {
            let first = stream.first_after(mended, 20);
            let took = first.saturating_duration_since(mended);
            assert!(took < Duration::from_secs(5), "no packet for {took:?}");
        }

        // And of later ones: each clock jumps forth and back while keys are about to be replaced.
        let since = Instant::now();
        for (step, clock) in STEPS
            .iter()
            .flat_map(|step| clocks.iter().map(move |c| (step, c)))
        {
            let before = sealing("a", None);
            cut("udp dport 4600 meta length > 600");
            let cut_off = lost();
            wait_for("a key is to be replaced", 15, || {
                (lost() > cut_off).then_some(())
            });
            clock.set(*step);
            std::thread::sleep(SEEN);
            mend();
            wait_for("keys are replaced", 15, || {
                let now = sealing("a", None);
                (!now.is_empty() && now.iter().all(|spi| !before.contains(spi))).then_some(())
            });
        }
        for stream in &streams {
            stream.whole(since);
        }
        for host in ["a", "b"] {
            assert_eq!(show(host, "ima")["state"], "connected");
        }
        drop(streams);
        a.stop();
        b.stop();
    });
}
