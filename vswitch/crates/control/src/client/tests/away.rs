//! The authority away: leases, partitions, revocations, and how it is looked for.

use super::*;
use crate::client::{Alarm, Gone};
use crate::message::ima::Goodbye;

const NETS: &[(&str, LeaseEnd)] = &[("red", LeaseEnd::Stop), ("blue", LeaseEnd::Keep)];

fn left(world: &World, name: &str) -> Option<Gone> {
    world.events.iter().find_map(|event| match event {
        Event::Left { vn: of, why } if *of == vn(name) => Some(*why),
        _ => None,
    })
}

#[test]
fn a_vn_is_left_or_kept_when_the_lease_ends() {
    let mut world = World::joined(NETS, &[("red", &[1]), ("blue", &[2])]);
    world.cut();
    // Renewed a quarter of the lease ago at most.
    world.run(seconds(70));
    assert_eq!(left(&world, "red"), None);
    world.run(seconds(40));
    assert_eq!(left(&world, "red"), Some(Gone::LeaseEnded));
    assert_eq!(left(&world, "blue"), None);
    let kept = |event: &&Event| **event == Event::Alarm(Alarm::LeaseKept { vn: vn("blue") });
    assert_eq!(world.events.iter().filter(kept).count(), 1);
    assert_eq!(world.admitted("blue"), [mac(2)]);
    world.run(seconds(1000));
    assert_eq!(world.events.iter().filter(kept).count(), 1);
    // Back: the one is joined anew from nothing, the other where it stood.
    let known = world.ima.net("blue").version;
    world.reachable = true;
    world.run(seconds(40));
    assert!(world.is_joined("red") && world.is_joined("blue"));
    assert_eq!(world.admitted("red"), [mac(1)]);
    let resumed = world.ima.joins.iter().rev().find(|(n, _)| *n == vn("blue"));
    assert_eq!(resumed.unwrap().1.map(|r| r.version.0), Some(known));
    let fresh = world.ima.joins.iter().rev().find(|(n, _)| *n == vn("red"));
    assert_eq!(fresh.unwrap().1, None);
}

#[test]
fn an_operator_may_stop_what_the_authority_would_keep() {
    let mut world = World::new(Ima::new(NETS));
    world.client.settings.always_stop = true;
    world.client.want(world.now, wanted(&[("blue", &[2])]));
    world.run(seconds(2));
    assert!(world.is_joined("blue"));
    world.cut();
    world.run(seconds(110));
    assert_eq!(left(&world, "blue"), Some(Gone::LeaseEnded));
}

#[test]
fn answers_that_are_held_back_prolong_nothing() {
    let mut world = World::joined(&NETS[..1], &[("red", &[1])]);
    world.ima.answers_renewals = false;
    world.run(seconds(26));
    let sequence = *world.ima.renewals.last().unwrap();
    let sent = world.now;
    // The answer comes late, again and again, but before the server is given up.
    let lease = LEASE;
    world.run(seconds(6));
    for _ in 0..3 {
        let late = FromIma::Renewed { sequence, lease };
        world.ima.replies.push_back(late);
        world.settle();
    }
    let left = world.client.status(world.now).lease_left.unwrap();
    assert!(
        left <= u64::from(LEASE) - (world.now - sent).as_secs(),
        "{left}"
    );
    // A number that was never sent prolongs nothing either.
    let before = world.client.link.lease_end();
    let sequence = u64::MAX;
    let never = FromIma::Renewed { sequence, lease };
    world.ima.replies.push_back(never);
    world.settle();
    assert_eq!(world.client.link.lease_end(), before);
}

#[test]
fn a_lease_goes_on_as_long_as_the_authority_answers() {
    let mut world = World::joined(NETS, &[("red", &[1])]);
    world.run(seconds(10_000));
    assert!(world.is_joined("red"));
    assert_eq!(world.dials.len(), 1);
    // Four a lease, and not many more.
    assert!((350..=450).contains(&world.ima.renewals.len()));
}

#[test]
fn after_a_partition_both_sides_agree() {
    let mut world = World::joined(NETS, &[("red", &[1, 5])]);
    world.ima.add_member("red", 2, "b");
    world.ima.map("red", 2, "b");
    world.settle();
    world.cut();
    // Meanwhile somebody comes, somebody goes, and one of ours moves away.
    world.ima.add_member("red", 3, "c");
    world.ima.unmap("red", 2);
    world.ima.net("red").elsewhere.insert(mac(5));
    world.ima.map("red", 5, "c");
    world.ima.map("red", 7, "c");
    // And here a port came and another went.
    world.client.want(world.now, wanted(&[("red", &[5, 6])]));
    world.run(seconds(30));
    world.reachable = true;
    world.run(seconds(40));
    assert_eq!(world.told("red"), world.truth("red"));
    assert_eq!(world.admitted("red"), [mac(6)]);
    let own = world.ima.net("red").mappings.values();
    let own: Vec<Mac> = own.filter(|m| m.nve == nve("a")).map(|m| m.mac).collect();
    assert_eq!(own, [mac(6)]);
    // It went on from where it stood.
    assert!(world.ima.joins.last().unwrap().1.is_some());
}

#[test]
fn a_revoked_edge_loses_everything_at_once() {
    let mut world = World::joined(NETS, &[("red", &[1]), ("blue", &[2])]);
    let why = Goodbye::Revoked;
    world.ima.replies.push_back(FromIma::Goodbye { why });
    world.settle();
    for name in ["red", "blue"] {
        assert_eq!(left(&world, name), Some(Gone::Revoked));
        assert!(world.admitted(name).is_empty());
    }
    // It goes on asking, about once a minute.
    world.reachable = false;
    let dials = world.dials.len();
    world.run(seconds(59));
    assert!(world.dials.len() - dials <= 2, "{:?}", world.dials);
}

#[test]
fn of_a_revoked_edge_nothing_stays() {
    let mut world = World::joined(NETS, &[("red", &[1]), ("blue", &[2])]);
    for name in ["red", "blue"] {
        world.ima.add_member(name, 2, "b");
        world.ima.add_member(name, 3, "c");
        world.ima.map(name, 7, "b");
        world.ima.map(name, 8, "c");
    }
    world.settle();
    world
        .ima
        .replies
        .push_back(FromIma::Revoked { nve: nve("b") });
    world.settle();
    assert!(world.events.contains(&Event::Revoked(nve("b"))));
    for name in ["red", "blue"] {
        let (members, mappings) = world.told(name);
        assert_eq!(members, BTreeSet::from([nve("c")]));
        assert_eq!(mappings, BTreeMap::from([(mac(8), nve("c"))]));
    }
}

#[test]
fn every_server_is_tried_ever_more_slowly() {
    let mut world = World::new(Ima::new(NETS));
    world.reachable = false;
    world.client.want(world.now, wanted(&[("red", &[1])]));
    world.run(seconds(600));
    let waits: Vec<f64> = world
        .dials
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64())
        .collect();
    assert!(
        waits.iter().all(|wait| (0.25..=30.0).contains(wait)),
        "{waits:?}"
    );
    assert!(waits[0] < 2.0 && *waits.last().unwrap() >= 15.0);
    assert!((25..=60).contains(&waits.len()), "{}", waits.len());
    world.reachable = true;
    world.run(seconds(31));
    assert!(world.is_joined("red"));
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let mut world = World::new(Ima::new(NETS));
    world.client.want(world.now, wanted(&[("red", &[1])]));
    world.run(seconds(2));
    // The session stays open, and nothing comes any more.
    world.reachable = false;
    world.run(seconds(40));
    assert_eq!(world.closed.first(), Some(&"the authority does not answer"));
    assert!(world.dials.len() > 1);
}

#[test]
fn a_vn_that_was_made_anew_is_left_before_it_is_joined() {
    let mut world = World::joined(NETS, &[("red", &[1])]);
    world.ima.add_member("red", 2, "b");
    world.ima.map("red", 7, "b");
    world.settle();
    world.cut();
    world.take_events();
    // Its epochs begin again: who compares them with the former ones would keep the former members.
    let net = world.ima.net("red");
    (net.log, net.epoch, net.version) = (LogId(99), 1, 0);
    net.members.clear();
    net.mappings.clear();
    net.steps.clear();
    world.reachable = true;
    world.run(seconds(40));
    let at = |which: fn(&Event) -> bool| world.events.iter().position(which);
    let left = at(|event| matches!(event, Event::Left { .. }));
    let joined = at(|event| matches!(event, Event::Joined { .. }));
    let members = at(|event| matches!(event, Event::Members { .. }));
    assert!(
        left.is_some() && left < joined && joined < members,
        "{:?}",
        world.events
    );
    assert_eq!(world.told("red"), world.truth("red"));
    assert_eq!(world.admitted("red"), [mac(1)]);
}

#[test]
fn a_revoked_edge_does_not_come_back_with_the_end_of_a_description() {
    let mut world = World::joined(NETS, &[("red", &[1])]);
    let red = vn("red");
    let mut part = |first, last, with: &[&str]| {
        let members = with.iter().map(|name| Member {
            nve: nve(name),
            endpoint: endpoint(2),
        });
        let mappings = with.iter().map(|name| Mapping {
            mac: mac(7),
            generation: Generation(1),
            nve: nve(name),
            ips: ips(7),
        });
        let update = Update {
            base: Base::Full { first, last },
            to: Version(world.ima.net("red").version),
            members: Bounded::try_from(members.collect::<Vec<_>>()).unwrap(),
            gone: Bounded::default(),
            mappings: Bounded::try_from(mappings.collect::<Vec<_>>()).unwrap(),
            withdrawn: Bounded::default(),
        };
        world.ima.seal(&red, &VnFromIma::Update(update));
        if !last {
            let nve = nve("b");
            world.ima.replies.push_back(FromIma::Revoked { nve });
        }
    };
    part(true, false, &["b"]);
    part(false, true, &[]);
    world.settle();
    let (members, mappings) = world.told("red");
    assert!(
        members.is_empty() && mappings.is_empty(),
        "{:?}",
        world.events
    );
}

#[test]
fn those_that_wait_for_their_turn_to_join_keep_nobody_busy() {
    let names: Vec<String> = (0..2 * super::super::JOINING)
        .map(|n| format!("n{n:03}"))
        .collect();
    let nets: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), LeaseEnd::Stop))
        .collect();
    let mut world = World::new(Ima::new(&nets));
    world.run(seconds(2));
    // The session is open, and nothing arrives.
    world.reachable = false;
    let networks: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
    world.client.want(world.now, wanted(&networks));
    world.settle();
    assert!(
        world.client.deadline() > Some(world.now),
        "the next deadline is not now"
    );
    world.reachable = true;
    world.run(seconds(12));
    assert_eq!(world.closed.len(), 0, "{:?}", world.closed);
    assert!(names.iter().all(|name| world.is_joined(name)));
}
