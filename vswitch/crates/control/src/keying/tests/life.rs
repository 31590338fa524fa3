//! The life of SAs between honest edges.

use super::*;
use crate::keying::Direction;
use crate::keying::sim::World;
use crate::secret::live;

fn two(config: Config, workers: u16) -> World {
    let mut world = World::new(1, 2, config);
    world.declare("red", &[0, 1]);
    world.flow("red", 0, 1, workers);
    world.run(ms(1000));
    world.check_converged();
    world
}

fn current(world: &World) -> (VnName, NveName, u16, u32) {
    let keying = world.edges[0].keying.as_ref().unwrap();
    let mut sas = keying.sas();
    let sa = sas.find(|sa| sa.direction == Direction::Outbound).unwrap();
    (sa.vn, sa.peer, sa.worker, sa.spi)
}

fn soft_limit(world: &mut World) {
    let (vn, peer, worker, spi) = current(world);
    world.give(
        0,
        Event::SoftLimit {
            vn,
            peer,
            worker,
            spi,
        },
    );
}

#[test]
fn needs_are_met_once_however_often_they_are_said() {
    let mut b = Victim::new();
    for worker in [0, 1, 0, 0, 1] {
        b.need("m", worker);
    }
    assert_eq!(b.keying.counters().needs_coalesced, 3);
    let m = Speaker::greet(&mut b, "m");
    b.pass(ms(0));
    b.need("m", 0);
    b.pass(ms(100));
    drop(m);
    // One request for both workers, before and behind the session.
    let pair = &b.keying.pairs[&nve("m")][&vn("red")];
    assert!(pair.pending.is_some() && pair.exchange.is_none());
    assert_eq!(b.keying.counters().exchanges_failed, 0);
    b.need("nobody", 0);
    b.need("m", 64);
    assert_eq!(b.keying.counters().needs_unknown, 2);
}

#[test]
fn new_pairs_come_at_a_limited_rate() {
    let config = Config {
        new_pairs_per_second: 3,
        ..Config::default()
    };
    let mut b = Victim::with(config);
    let names: Vec<_> = (0..10).map(|n| format!("n{n}")).collect();
    let mut members: Vec<_> = names.iter().map(String::as_str).collect();
    members.push("b");
    b.members("red", 11, &members);
    for name in &names {
        b.need(name, 0);
        b.need(name, 1);
    }
    assert_eq!(b.keying.pairs.len(), 3);
    assert_eq!(b.keying.counters().needs_limited, 14);
}

#[test]
fn both_at_once_make_one_exchange() {
    let mut world = World::new(3, 2, Config::default());
    world.declare("red", &[0, 1]);
    world.flow("red", 0, 1, 1);
    world.flow("red", 1, 0, 1);
    world.run(ms(1000));
    world.check_converged();
    let id = |edge: usize| {
        let keying = world.edges[edge].keying.as_ref().unwrap();
        let pairs = keying.pairs.values().next().unwrap();
        pairs[&vn("red")].exchange.as_ref().unwrap().id
    };
    assert_eq!(id(0), id(1));
    let counters: Vec<_> = (0..2)
        .map(|edge| {
            world.edges[edge]
                .keying
                .as_ref()
                .unwrap()
                .counters()
                .clone()
        })
        .collect();
    let begun = counters[0].exchanges_begun + counters[1].exchanges_begun;
    assert_eq!(begun, 1, "{counters:?}");
    assert_eq!(
        counters[0].exchanges_failed + counters[1].exchanges_failed,
        0
    );
}

#[test]
fn a_soft_limit_brings_a_fresh_key_and_the_former_goes_behind_the_drain() {
    let mut world = two(Config::default(), 1);
    let before = current(&world).3;
    soft_limit(&mut world);
    world.run(ms(500));
    let after = current(&world).3;
    assert_ne!(before, after);
    let inbound = |world: &World| {
        world.edges[1]
            .plane
            .inbound
            .keys()
            .copied()
            .collect::<Vec<_>>()
    };
    assert!(inbound(&world).contains(&before), "it drains");
    world.run(ms(2000));
    assert_eq!(inbound(&world), [after]);
    assert_eq!(world.missed, 0);
    let counters = world.edges[0].keying.as_ref().unwrap().counters();
    assert_eq!(counters.exchanges_begun + counters.exchanges_answered, 2);
}

#[test]
fn a_rekey_that_fails_is_reported_and_the_sa_runs_to_its_hard_limit() {
    let mut world = two(Config::default(), 1);
    let (vn, peer, worker, spi) = current(&world);
    // The peer's process hangs: sessions stay, nothing is answered.
    let hung = world.edges[1].keying.take();
    soft_limit(&mut world);
    world.run(ms(10_000));
    assert_eq!(current(&world).3, spi);
    assert_eq!(world.missed, 0);
    let failing = Report::Failing {
        vn: vn.clone(),
        peer: peer.clone(),
        failures: 4,
    };
    assert_eq!(world.edges[0].reports, [failing]);
    let failed = |world: &World| {
        let keying = world.edges[0].keying.as_ref().unwrap();
        keying.counters().exchanges_failed
    };
    // Half a second for an answer, and about one to wait.
    assert!((6..=12).contains(&failed(&world)), "{}", failed(&world));
    let event = Event::HardLimit {
        vn: vn.clone(),
        peer: peer.clone(),
        worker,
        spi,
    };
    world.give(0, event);
    world.run(ms(10));
    assert_eq!(world.edges[0].plane.outbound.len(), 0);
    let hard = Report::HardLimit {
        vn,
        peer,
        worker,
        spi,
    };
    assert_eq!(world.edges[0].reports[1..], [hard]);
    // It answers again.
    world.edges[1].keying = hung;
    world.run(ms(1999));
    world.check_converged();
}

#[test]
fn workers_beyond_the_limit_share_and_it_is_counted() {
    for (here, there) in [(2, 16), (16, 2)] {
        let mut world = World::new(1, 2, Config::default());
        world.config.workers_per_pair = here.max(there);
        for (edge, workers) in [(0, here), (1, there)] {
            let keying = world.edges[edge].keying.as_mut().unwrap();
            keying.config.workers_per_pair = workers;
        }
        world.declare("red", &[0, 1]);
        world.flow("red", 0, 1, 4);
        world.run(ms(1000));
        world.check_converged();
        assert_eq!(world.edges[0].plane.outbound.len(), 2);
        assert_eq!(world.edges[0].plane.shares.len(), 2);
        let counters = world.edges[0].keying.as_ref().unwrap().counters();
        assert!(counters.shared >= 2, "{counters:?}");
    }
}

#[test]
fn beyond_the_greatest_number_there_is_none() {
    let config = Config {
        ample_sas: 1,
        max_sas: 2,
        ..Config::default()
    };
    let mut b = Victim::with(config);
    b.members("red", 11, &["a", "b", "m", "n"]);
    for peer in ["a", "m", "n"] {
        b.need(peer, 0);
        b.need(peer, 1);
    }
    let keying = &b.keying;
    assert_eq!((keying.senders, keying.counters().shared), (2, 2));
    assert_eq!(keying.counters().denied, 2);
}

#[test]
fn idle_sas_go_on_both_sides_and_later_the_exchange_too() {
    for direction in [Direction::Outbound, Direction::Inbound] {
        let mut world = two(Config::default(), 1);
        assert!(live::count() > 0);
        world.edges[0].flows.clear();
        let (vn, peer, _, spi) = current(&world);
        let (edge, peer) = match direction {
            Direction::Outbound => (0, peer),
            Direction::Inbound => (1, world.edges[0].name.clone()),
        };
        world.excuse(0); // Packets on their way to what is idle.
        world.give(
            edge,
            Event::Idle {
                vn,
                peer,
                direction,
                spi,
            },
        );
        world.run(ms(2500));
        for edge in &world.edges {
            assert_eq!(edge.keying.as_ref().unwrap().sas().count(), 0);
            assert!(edge.plane.inbound.is_empty() && edge.plane.outbound.is_empty());
        }
        world.run(ms(12_500));
        for edge in &world.edges {
            assert!(edge.keying.as_ref().unwrap().pairs.is_empty());
        }
        assert_eq!(live::count(), 0, "roots and channels are gone too");
    }
}

#[test]
fn sas_outlive_a_session_and_its_secrets_do_not() {
    let mut world = two(Config::default(), 2);
    assert!(live::count() > 0);
    world.part(0, 1);
    world.run(ms(5000));
    assert_eq!(live::count(), 0);
    assert_eq!(world.missed, 0);
    world.calm();
    world.run(ms(1999));
    world.check_converged();
    world.run(ms(3000));
    world.check_tidy();
    assert_eq!(world.missed, 0);
}

/// Of two requests that cross, both sides must keep the same one.
#[test]
fn of_two_at_once_the_higher_epoch_stays_else_that_of_the_smaller_name() {
    // Who asks `b` while it is asking, at which epoch, and whether `b` (at epoch 10) gives way.
    for (name, epoch, gives_way) in [
        ("a", 10, true),
        ("m", 10, false),
        ("m", 11, true),
        ("a", 9, false),
    ] {
        let mut b = Victim::new();
        b.members("red", 9, &["a", "b"]); // Told late: changes nothing.
        b.need(name, 0);
        let speaker = Speaker::greet(&mut b, name);
        b.pass(ms(100));
        let [PeerMessage::KeyRequest { exchange: own, .. }] = b.said[..] else {
            panic!("{:?}", b.said);
        };
        let _ = speaker.request(&mut b, "red", epoch, 1);
        let answered = matches!(b.said.first(), Some(PeerMessage::KeyResponse { .. }));
        assert_eq!(answered, gives_way, "{name} {epoch}");
        let pair = &b.keying.pairs[&nve(name)][&vn("red")];
        let pending = pair.pending.as_ref().map(|pending| pending.id);
        assert_eq!(pending, (!gives_way).then_some(own), "{name} {epoch}");
    }
}
