//! `kill -9` of every process while a machine moves, and while an edge's last port in a network goes.
//! Whoever died: the machine is at its new edge and at no other, and of an edge that left a network no
//! key and no mapping is left anywhere.

use std::time::{Duration, Instant};

use pmd_tests::asking::{network, place, secured, show, standing, stands};
use pmd_tests::bridge::{Observer, UNDER_WAY, cut, lost, mend, nothing_in_the_clear, wire};
use pmd_tests::daemon::{Daemon, apply};
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::wait_for;
use pmd_tests::overlay::{By, Ima, Tenant, declaration, edge, pki, plug_quiet};
use pmd_tests::stream::{SECRET, Stream};
use pmd_tests::sums;

/// The fourth is one machine, and two edges have a port for it. Edge `c` only talks to it.
const TENANTS: [Tenant; 5] = [
    Tenant::new("t1", "a", "red", 1),
    Tenant::new("t2", "b", "red", 2),
    Tenant::new("t3", "c", "red", 3),
    Tenant::new("t4a", "a", "red", 4),
    Tenant::new("t4b", "b", "red", 4),
];
/// At this edge at first.
const PLACED: [Tenant; 4] = [TENANTS[0], TENANTS[1], TENANTS[2], TENANTS[3]];
const EDGES: [&str; 3] = ["a", "b", "c"];
const MACS: [&str; 4] = [
    "52:54:00:00:00:01",
    "52:54:00:00:00:02",
    "52:54:00:00:00:03",
    "52:54:00:00:00:04",
];
const PER_SECOND: u32 = 100;
/// From when all edges know where a machine is, to the first packet from there and to there.
const HEALED: Duration = Duration::from_secs(2);
/// Until everybody knows what is so, in seconds.
const CAUGHT_UP: u64 = 5;
/// The same, from when a killed authority runs again. An edge calls it silent after ten seconds of which
/// it said something in the last three (docs/identity.md), and dials again within one more.
const AUTHORITY_BACK: u64 = 20;

const AT_OTHER: &str = "vm4: the address is not placed on this edge";

/// Which edge it is; its own machine has the same number.
fn number(name: &str) -> u8 {
    1 + EDGES
        .iter()
        .position(|edge| *edge == name)
        .expect("an edge") as u8
}

fn config(name: &str) -> String {
    edge(name, number(name), 1, "", (By::Machines, &TENANTS))
}

/// The same without a network.
fn config_of_none(name: &str) -> String {
    let all = config(name);
    let networks = all.find("vns:").expect("networks");
    format!("{}vns: []\nports: []\n", &all[..networks])
}

/// The operator says that the machine is there now.
#[track_caller]
fn order_to(edge: &str) {
    Ima::ctl(&format!("placement move red {} {edge}", MACS[3]));
}

/// Where an edge has the machine: at its own port, at an edge, or nowhere.
#[track_caller]
fn at(edge: &str) -> Option<String> {
    place(edge, "red", 4)
}

/// How new that is, at the edge that only talks to it.
fn generation() -> u64 {
    let mappings = show("c", "mappings");
    let mut mappings = mappings.as_array().expect("mappings").iter();
    let of = mappings.find(|m| m["mac"] == MACS[3]);
    of.and_then(|m| m["generation"].as_u64())
        .expect("a mapping")
}

/// The machine's ports at both edges, both of which have one who talks all the time, and is talked to.
struct Machine([(&'static str, [Stream; 2]); 2]);

impl Machine {
    fn start() -> Machine {
        let there = |tenant| Stream::start("t3", tenant, 4, PER_SECOND);
        let back = |tenant| Stream::start(tenant, "t3", 3, PER_SECOND);
        Machine([
            ("a", [there("t4a"), back("t4a")]),
            ("b", [there("t4b"), back("t4b")]),
        ])
    }

    fn of(&self, edge: &str, this: bool) -> impl Iterator<Item = &Stream> {
        let of = self.0.iter().filter(move |(at, _)| (*at == edge) == this);
        of.flat_map(|(_, streams)| streams)
    }

    /// Everybody knows that it is at `edge`, and its traffic flows there. Since when.
    #[track_caller]
    fn settles_at(&self, edge: &str) -> Instant {
        wait_for(&format!("all have it at {edge}"), CAUGHT_UP, || {
            let right = |it: &str| at(it).as_deref() == Some(if it == edge { "vm4" } else { edge });
            EDGES.iter().all(|it| right(it)).then_some(())
        });
        self.flows_at(edge)
    }

    /// Its traffic flows at `edge`. Since when.
    #[track_caller]
    fn flows_at(&self, edge: &str) -> Instant {
        let since = Instant::now();
        for stream in self.of(edge, true) {
            let took = stream.first_after(since, 20) - since;
            assert!(took < HEALED, "no packet for {took:?}");
        }
        since
    }

    /// Since then nothing came from its former place, nor went there.
    #[track_caller]
    fn nothing_but_at(&self, edge: &str, since: Instant) {
        std::thread::sleep(UNDER_WAY);
        for stream in self.of(edge, false) {
            assert!(!stream.any_after(since), "at another edge than {edge}");
        }
    }
}

/// Nothing that is of `edge` is at the others, nor at the authority.
#[track_caller]
fn has_left(edge: &str, others: &[&str], seconds: u64) {
    let n = number(edge);
    wait_for(&format!("{edge} has left"), seconds, || {
        let known = Ima::ctl("show mappings red").contains(MACS[usize::from(n) - 1]);
        let gone = |it: &&str| place(it, "red", n).is_none() && !secured(it, edge);
        (!known && others.iter().all(gone)).then_some(())
    });
}

#[test]
fn whoever_is_killed_a_machine_has_one_place_and_who_leaves_is_gone() {
    isolated_in_lab(|| {
        wire(&EDGES, &[("ima", "192.0.2.250")]);
        pki(&["nve a", "nve b", "nve c"]);
        let observer = Observer::start();
        let ima = Ima::start("");
        Ima::declare(&declaration(&[("red", "")], &EDGES, &PLACED));
        let [mut a, mut b, mut c] = EDGES.map(|name| Daemon::start(name, &config(name)));
        let _tenants = plug_quiet("tenants", By::Machines, &TENANTS, &TENANTS);
        stands("a", "red", &["vm1: admitted", "vm4: admitted"]);
        stands("b", "red", &["vm2: admitted", AT_OTHER]);
        stands("c", "red", &["vm3: admitted"]);
        let machine = Machine::start();
        let since = machine.settles_at("a");
        machine.nothing_but_at("a", since);

        // The authority: it has said that the machine is elsewhere, of which nobody has heard yet, and has
        // itself not heard of an edge that it is on the network no more.
        let began = Instant::now();
        cut("iifname ima udp sport 4700");
        cut("iifname c udp dport 4700");
        order_to("b");
        apply("c", &config_of_none("c"));
        wait_for("no key of an edge that left is left", CAUGHT_UP, || {
            (!secured("a", "c") && !secured("c", "a") && lost() > 0).then_some(())
        });
        assert_eq!(["a", "b"].map(at), ["vm4", "a"].map(|it| Some(it.into())));
        assert!(Ima::ctl("show mappings red").contains(MACS[2]));
        ima.kill();
        mend();
        let ima = Ima::again();
        Ima::ready(2);
        has_left("c", &["a", "b"], AUTHORITY_BACK);
        wait_for("both follow", CAUGHT_UP, || {
            (at("a")? == "b" && at("b")? == "vm4").then_some(())
        });
        println!("MEASURED: authority killed: {:?}", began.elapsed());
        apply("c", &config("c"));
        stands("c", "red", &["vm3: admitted"]);
        let since = machine.settles_at("b");
        machine.nothing_but_at("b", since);

        // The edge that it leaves, which has not heard of it. Nobody needs that edge, and it wins
        // nothing back, though machine and port are there as before.
        let began = Instant::now();
        cut("oifname b udp sport 4700");
        order_to("a");
        wait_for("the others follow", CAUGHT_UP, || {
            (at("a")? == "vm4" && at("c")? == "a").then_some(())
        });
        let since = machine.flows_at("a");
        assert_eq!(at("b").as_deref(), Some("vm4"));
        b.kill();
        mend();
        let before = generation();
        b = Daemon::restart("b");
        stands("b", "red", &["vm2: admitted", AT_OTHER]);
        machine.settles_at("a");
        machine.of("a", true).for_each(|stream| stream.whole(since));
        machine.nothing_but_at("a", since);
        assert_eq!(generation(), before);
        println!("MEASURED: former edge killed: {:?}", began.elapsed());

        // The edge that it goes to, whose claim is not heard.
        let began = Instant::now();
        cut("iifname b udp dport 4700");
        order_to("b");
        wait_for("it is nowhere", CAUGHT_UP, || {
            (at("c").is_none() && lost() > 0).then_some(())
        });
        b.kill();
        mend();
        b = Daemon::restart("b");
        stands("b", "red", &["vm2: admitted", "vm4: admitted"]);
        let since = machine.settles_at("b");
        machine.nothing_but_at("b", since);
        assert!(generation() > before);
        println!("MEASURED: new edge killed: {:?}", began.elapsed());

        // An edge that only talks to it, and has not heard of it.
        let began = Instant::now();
        cut("oifname c udp sport 4700");
        order_to("a");
        wait_for("both follow", CAUGHT_UP, || {
            (at("a")? == "vm4" && at("b")? == "a").then_some(())
        });
        assert_eq!(at("c").as_deref(), Some("b"));
        c.kill();
        mend();
        c = Daemon::restart("c");
        stands("c", "red", &["vm3: admitted"]);
        let since = machine.settles_at("a");
        machine.nothing_but_at("a", since);
        println!("MEASURED: talker killed: {:?}", began.elapsed());

        let streams = [
            Stream::start("t1", "t2", 2, PER_SECOND),
            Stream::start("t2", "t1", 1, PER_SECOND),
        ];
        let talk = || {
            wait_for("b is on the network", CAUGHT_UP, || {
                let own = standing("b", "red");
                own.contains(&"vm2: admitted".to_owned()).then_some(())
            });
            let since = Instant::now();
            for stream in &streams {
                stream.first_after(since, 20);
            }
            assert!(secured("a", "b") && secured("b", "a"));
        };

        // The edge that leaves, before anybody has heard of it.
        let began = Instant::now();
        talk();
        cut("iifname b");
        apply("b", &config_of_none("b"));
        wait_for("it is left here", CAUGHT_UP, || {
            (network(&show("b", "ima"), "red").is_none() && lost() > 0).then_some(())
        });
        assert!(secured("a", "b") && place("a", "red", 2).is_some());
        b.kill();
        mend();
        b = Daemon::restart("b");
        has_left("b", &["a", "c"], CAUGHT_UP);
        println!("MEASURED: leaving edge killed: {:?}", began.elapsed());

        // One that talked to it, and has not heard of it.
        let began = Instant::now();
        apply("b", &config("b"));
        talk();
        cut("oifname a");
        apply("b", &config_of_none("b"));
        wait_for("the other knows", CAUGHT_UP, || {
            place("c", "red", 2).is_none().then_some(())
        });
        assert!(place("a", "red", 2).as_deref() == Some("b"));
        a.kill();
        mend();
        a = Daemon::restart("a");
        stands("a", "red", &["vm1: admitted", "vm4: admitted"]);
        has_left("b", &["a", "c"], CAUGHT_UP);
        machine.flows_at("a");
        println!(
            "MEASURED: peer of a leaving edge killed: {:?}",
            began.elapsed()
        );

        // All is as it was.
        apply("b", &config("b"));
        talk();
        drop((streams, machine));
        sums::add_up(&EDGES, || {
            let streams = Stream::mesh(&TENANTS[..3], PER_SECOND);
            let since = Instant::now();
            for (_, _, stream) in &streams {
                stream.first_after(since, 20);
            }
            std::thread::sleep(UNDER_WAY);
        });
        drop(ima);
        for edge in [a, b, c] {
            edge.stop();
        }
        assert!(nothing_in_the_clear(&observer.frames(), SECRET) > 1000);
    });
}
