//! `kill -9` of every process while a network's epoch changes, and while an edge loses its rights.
//! Whoever died: who is a member has keys of the new epoch and its traffic, who is none has nothing and
//! gets in no more, and what the authority once said it still says.

use std::time::{Duration, Instant};

use pmd_tests::asking::{network, place, sealing, secured, show, stands};
use pmd_tests::bridge::{Observer, UNDER_WAY, cut, lost, mend, nothing_in_the_clear, wire};
use pmd_tests::daemon::Daemon;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::wait_for;
use pmd_tests::overlay::{By, Ima, Tenant, declaration, edge, pki, plug_quiet};
use pmd_tests::stream::{SECRET, Stream};
use pmd_tests::sums;

/// One at each edge.
const TENANTS: [Tenant; 3] = [
    Tenant::new("t1", "a", "red", 1),
    Tenant::new("t2", "b", "red", 2),
    Tenant::new("t3", "c", "red", 3),
];
const EDGES: [&str; 3] = ["a", "b", "c"];
const PER_SECOND: u32 = 60;
/// From when a restarted edge has its port and its addresses again, to the first packet that passes.
const HEALED: Duration = Duration::from_secs(2);
/// What becomes of a word that is heard, in seconds.
const AT_ONCE: u64 = 5;
/// From when a killed authority runs again until everybody knows what is so, in seconds. An edge calls it
/// silent after ten seconds of which it said something in the last three (docs/identity.md), and dials again
/// within one more.
const AUTHORITY_BACK: u64 = 20;

fn number(edge: &str) -> u8 {
    1 + EDGES.iter().position(|it| *it == edge).expect("an edge") as u8
}

fn config(name: &str) -> String {
    edge(name, number(name), 1, "", (By::Machines, &TENANTS))
}

/// The epoch that an edge knows.
fn epoch(edge: &str) -> Option<u64> {
    network(&show(edge, "ima"), "red")?["epoch"].as_u64()
}

/// These edges are in an epoch after this one, and in the same, with all of their keys.
#[track_caller]
fn all_after(edges: &[&str], former: u64) -> u64 {
    wait_for("all keys are of the new epoch", AT_ONCE, || {
        let now = epoch(edges[0]).filter(|now| *now > former)?;
        let keys = |edge: &str| show(edge, "keys").as_array().cloned().unwrap_or_default();
        let follows = |edge: &&str| {
            let keys = keys(edge);
            epoch(edge) == Some(now) && !keys.is_empty() && keys.iter().all(|k| k["epoch"] == now)
        };
        edges.iter().all(follows).then_some(now)
    })
}

#[track_caller]
fn ready(edge: &str) {
    stands(edge, "red", &[&format!("vm{}: admitted", number(edge))]);
}

/// A killed edge is started again, and has its port and addresses.
#[track_caller]
fn again(edge: &str) -> Daemon {
    let daemon = Daemon::restart(edge);
    ready(edge);
    daemon
}

/// What each tenant sends each other one.
struct Traffic(Vec<(Tenant, Tenant, Stream)>);

impl Traffic {
    fn start() -> Traffic {
        Traffic(Stream::mesh(&TENANTS, PER_SECOND))
    }

    fn with(&self, edge: &str, it: bool) -> impl Iterator<Item = &Stream> {
        let of = self.0.iter();
        of.filter(move |(from, to, _)| [from.host, to.host].contains(&edge) == it)
            .map(|(_, _, stream)| stream)
    }

    /// All of it flows, soon. Since when.
    #[track_caller]
    fn flows(&self) -> Instant {
        let since = Instant::now();
        for (from, to, stream) in &self.0 {
            let took = stream.first_after(since, 20) - since;
            assert!(
                took < HEALED,
                "{} to {}: no packet for {took:?}",
                from.name,
                to.name
            );
        }
        since
    }

    /// Of what the other two edges' tenants sent one another since then nothing was lost.
    #[track_caller]
    fn whole_without(&self, edge: &str, since: Instant) {
        self.with(edge, false)
            .for_each(|stream| stream.whole(since));
    }

    /// Nothing passes between an edge and the others any more.
    #[track_caller]
    fn ends_with(&self, edge: &str) {
        let since = Instant::now();
        std::thread::sleep(2 * UNDER_WAY);
        for stream in self.with(edge, true) {
            assert!(!stream.any_after(since), "of {edge}");
        }
    }
}

/// Neither keys nor mappings with an edge are at these others.
#[track_caller]
fn nothing_of(edge: &str, others: &[&str], seconds: u64) {
    wait_for(&format!("nothing of {edge} is left"), seconds, || {
        let keys = |it: &str| {
            let keys = show(it, "keys");
            keys.as_array()
                .into_iter()
                .flatten()
                .any(|k| k["peer"] == edge)
        };
        let gone =
            |it: &&str| !secured(it, edge) && !keys(it) && place(it, "red", number(edge)).is_none();
        others.iter().all(gone).then_some(())
    });
}

/// A revoked edge gets no session any more, and knows why.
#[track_caller]
fn is_refused(edge: &str) {
    wait_for(&format!("{edge} is told why"), AT_ONCE, || {
        let ima = show(edge, "ima");
        let told = ima["trouble"].as_str()?.contains("revoked");
        (told && ima["state"] != "connected").then_some(())
    });
}

/// It has no session, is on no network, and has no key to send with.
fn standing_nowhere(edge: &str) -> bool {
    let ima = show(edge, "ima");
    let state = network(&ima, "red").map_or(String::new(), |vn| vn["state"].to_string());
    ima["state"] != "connected" && !state.contains("joined") && sealing(edge, None).is_empty()
}

/// Has an edge that was revoked let in again, with a new process.
#[track_caller]
fn forgiven(edge: &str, daemon: Daemon) -> Daemon {
    Ima::ctl(&format!("unrevoke {edge}"));
    daemon.kill();
    again(edge)
}

#[test]
fn whoever_is_killed_epochs_change_and_the_revoked_are_out() {
    isolated_in_lab(|| {
        wire(&EDGES, &[("ima", "192.0.2.250")]);
        pki(&["nve a", "nve b", "nve c"]);
        let observer = Observer::start();
        let ima = Ima::start("");
        // With a fourth one, for whom there is no process.
        let members = ["a", "b", "c", "d"];
        Ima::declare(&declaration(&[("red", "")], &members, &TENANTS));
        let [mut a, mut b, mut c] = EDGES.map(|name| Daemon::start(name, &config(name)));
        let _tenants = plug_quiet("tenants", By::Machines, &TENANTS, &TENANTS);
        EDGES.iter().for_each(|edge| ready(edge));
        let traffic = Traffic::start();
        wait_for("traffic", 20, || {
            let flows = |(_, _, stream): &(_, _, Stream)| stream.last().is_some();
            traffic.0.iter().all(flows).then_some(())
        });
        let first = epoch("a").expect("an epoch");

        // The authority, as soon as it has said that a member is none any more and that an edge is revoked:
        // nobody has heard of it.
        let began = Instant::now();
        let since = traffic.flows();
        cut("iifname ima udp sport 4700");
        Ima::ctl("member remove red d");
        Ima::ctl("revoke b --reason stolen");
        wait_for("nobody is told", AT_ONCE, || (lost() > 0).then_some(()));
        traffic.flows();
        assert_eq!(EDGES.map(epoch), [Some(first); 3]);
        ima.kill();
        mend();
        let ima = Ima::again();
        nothing_of("b", &["a", "c"], AUTHORITY_BACK);
        // The authority says no more to it than that: TLS refuses it.
        is_refused("b");
        assert!(!secured("b", "a") && !secured("b", "c"));
        traffic.ends_with("b");
        // Both changed it.
        let second = all_after(&["a", "c"], first + 1);
        traffic.whole_without("b", since);
        println!("MEASURED: authority killed: {:?}", began.elapsed());
        b.kill();
        b = Daemon::restart("b");
        is_refused("b");
        assert!(standing_nowhere("b"), "{}", show("b", "ima"));
        b = forgiven("b", b);
        traffic.flows();
        println!(
            "MEASURED: and the revoked edge again: {:?}",
            began.elapsed()
        );

        // An edge, while keys of the new epoch are agreed on: the others notice nothing.
        let (began, since) = (Instant::now(), traffic.flows());
        cut("iifname a udp dport 4600 meta length > 600");
        Ima::ctl("member add red d");
        wait_for("keys are to be agreed on", AT_ONCE, || {
            (epoch("a")? > second && lost() > 0).then_some(())
        });
        a.kill();
        mend();
        a = again("a");
        traffic.flows();
        let third = all_after(&EDGES, second);
        traffic.whole_without("a", since);
        println!(
            "MEASURED: edge killed in an epoch's change: {:?}",
            began.elapsed()
        );

        // A member that is none any more, and has not heard of it.
        let began = Instant::now();
        cut("oifname c udp sport 4700");
        Ima::ctl("member remove red c");
        nothing_of("c", &["a", "b"], AT_ONCE);
        assert!(network(&show("c", "ima"), "red").is_some_and(|vn| vn["state"] == "joined"));
        c.kill();
        mend();
        c = Daemon::restart("c");
        wait_for("c is told why", AT_ONCE, || {
            let ima = show("c", "ima");
            let why = network(&ima, "red")?["refusal"].as_str()?.to_owned();
            why.contains("member").then_some(())
        });
        traffic.ends_with("c");
        all_after(&["a", "b"], third);
        Ima::ctl("member add red c");
        ready("c");
        traffic.flows();
        println!("MEASURED: former member killed: {:?}", began.elapsed());

        // The revoked edge, which has not heard of it.
        let (began, since) = (Instant::now(), traffic.flows());
        cut("oifname b udp sport 4700");
        Ima::ctl("revoke b --reason stolen");
        nothing_of("b", &["a", "c"], AT_ONCE);
        assert!(network(&show("b", "ima"), "red").is_some_and(|vn| vn["state"] == "joined"));
        traffic.ends_with("b");
        b.kill();
        mend();
        b = Daemon::restart("b");
        is_refused("b");
        assert!(standing_nowhere("b"), "{}", show("b", "ima"));
        nothing_of("b", &["a", "c"], AT_ONCE);
        traffic.ends_with("b");
        traffic.whole_without("b", since);
        println!("MEASURED: revoked edge killed: {:?}", began.elapsed());

        // One that talked to it, and has not heard of it.
        let began = Instant::now();
        b = forgiven("b", b);
        traffic.flows();
        cut("oifname a udp sport 4700");
        Ima::ctl("revoke b --reason stolen");
        wait_for("the others know", AT_ONCE, || {
            (!secured("c", "b") && standing_nowhere("b")).then_some(())
        });
        assert_eq!(place("a", "red", 2).as_deref(), Some("b"));
        a.kill();
        mend();
        a = again("a");
        nothing_of("b", &["a", "c"], AT_ONCE);
        let back = Instant::now();
        for stream in traffic.with("b", false) {
            let took = stream.first_after(back, 20) - back;
            assert!(took < HEALED, "no packet for {took:?}");
        }
        traffic.ends_with("b");
        println!(
            "MEASURED: peer of a revoked edge killed: {:?}",
            began.elapsed()
        );

        // All is as it was.
        b = forgiven("b", b);
        traffic.flows();
        drop(traffic);
        sums::add_up(&EDGES, || {
            let traffic = Traffic::start();
            traffic.flows();
            std::thread::sleep(UNDER_WAY);
        });
        drop(ima);
        for edge in [a, b, c] {
            edge.stop();
        }
        assert!(nothing_in_the_clear(&observer.frames(), SECRET) > 1000);
    });
}
