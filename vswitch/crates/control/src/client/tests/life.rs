//! Joining, registering, members, mappings, moves, epochs, leaving.

use super::*;
use crate::client::{Alarm, Gone};

const NETS: &[(&str, LeaseEnd)] = &[("red", LeaseEnd::Stop), ("blue", LeaseEnd::Keep)];

#[test]
fn an_edge_joins_registers_and_is_told_of_the_others() {
    let mut world = World::new(Ima::new(NETS));
    world.ima.add_member("red", 2, "b");
    world.ima.map("red", 2, "b");
    world
        .client
        .want(world.now, wanted(&[("red", &[1]), ("blue", &[])]));
    world.run(seconds(2));
    assert!(world.is_joined("red") && world.is_joined("blue"));
    assert_eq!(world.admitted("red"), [mac(1)]);
    assert_eq!(world.told("red"), world.truth("red"));
    world.ima.add_member("red", 3, "c");
    world.ima.map("red", 3, "c");
    world.ima.map("red", 2, "c");
    world.ima.unmap("red", 3);
    world.settle();
    assert_eq!(world.told("red"), world.truth("red"));
    assert_eq!(world.told("red").1[&mac(2)], nve("c"));
    // Its own mapping is no other edge's.
    assert!(!world.told("red").1.contains_key(&mac(1)));
    assert_eq!(world.told("blue").0.len(), 0);
}

#[test]
fn an_address_that_moves_away_is_lost_and_not_won_back() {
    let mut world = World::joined(NETS, &[("red", &[1])]);
    world.ima.add_member("red", 2, "b");
    world.ima.net("red").elsewhere.insert(mac(1));
    world.ima.map("red", 1, "b");
    world.settle();
    assert!(world.admitted("red").is_empty());
    assert_eq!(world.told("red").1[&mac(1)], nve("b"));
    let lost =
        |event: &Event| matches!(event, Event::Alarm(Alarm::Lost { mac: of, .. }) if *of == mac(1));
    assert!(world.events.iter().any(lost));
    // A new session asks again, and is told that it is not placed here.
    world.cut();
    world.reachable = true;
    world.run(seconds(5));
    assert!(world.is_joined("red"));
    assert!(world.admitted("red").is_empty());
    assert_eq!(world.told("red").1[&mac(1)], nve("b"));
    // It comes back with its placement.
    world.ima.net("red").elsewhere.clear();
    world.ima.seal(&vn("red"), &VnFromIma::Placed);
    world.settle();
    assert_eq!(world.admitted("red"), [mac(1)]);
    assert!(!world.told("red").1.contains_key(&mac(1)));
}

#[test]
fn a_new_epoch_is_joined_with_a_fresh_exchange_and_nothing_is_told_twice() {
    let mut world = World::joined(NETS, &[("red", &[1])]);
    world.ima.map("red", 2, "b");
    world.settle();
    world.take_events();
    let joins = world.ima.joins.len();
    world.ima.add_member("red", 2, "b");
    world.settle();
    world.ima.net("red").epoch = 2;
    let epoch = Epoch(2);
    // Sealed under the former epoch's channel until the edge has joined anew.
    world.ima.replies.push_back(FromIma::NewEpoch {
        vn: vn("red"),
        epoch,
    });
    world.settle();
    assert_eq!(world.ima.joins.len(), joins + 1);
    let resume = world.ima.joins.last().unwrap().1.unwrap();
    assert_eq!(resume.version.0, world.ima.net("red").version);
    let epochs: Vec<u64> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Members { epoch, .. } => Some(epoch.0),
            _ => None,
        })
        .collect();
    assert_eq!(epochs, [1, 2]);
    let again = |event: &Event| matches!(event, Event::Joined { .. } | Event::Mappings { .. });
    assert!(!world.events.iter().any(again), "{:?}", world.events);
    assert!(world.is_joined("red"));
    // The new channel works both ways.
    world.client.want(world.now, wanted(&[("red", &[1, 4])]));
    world.settle();
    assert_eq!(world.admitted("red"), [mac(1), mac(4)]);
}

#[test]
fn who_has_no_port_left_leaves() {
    let mut world = World::joined(NETS, &[("red", &[1]), ("blue", &[9])]);
    world.client.want(world.now, wanted(&[("blue", &[])]));
    world.settle();
    assert_eq!(world.ima.left, [vn("red")]);
    assert!(world.events.contains(&Event::Left {
        vn: vn("red"),
        why: Gone::Unwanted
    }));
    // The port of the other is gone, and so is its address.
    assert!(world.admitted("blue").is_empty());
    assert!(world.ima.net("blue").mappings.is_empty());
    // What an earlier run left behind is withdrawn as soon as it is seen.
    world.ima.map("blue", 8, "a");
    world.settle();
    assert!(world.ima.net("blue").mappings.is_empty());
}

/// The last port goes while nobody can be told, or in the last moment of a session.
#[test]
fn who_leaves_unheard_says_it_again() {
    let mut world = World::joined(NETS, &[("red", &[1]), ("blue", &[9])]);
    world.cut();
    world.client.want(world.now, wanted(&[("blue", &[9])]));
    world.run(seconds(20));
    assert!(world.ima.left.is_empty());
    world.reachable = true;
    world.run(seconds(60));
    assert_eq!(world.ima.left, [vn("red")]);
    // That was heard: it is not said in the next session.
    world.cut();
    world.reachable = true;
    world.run(seconds(60));
    assert_eq!(world.ima.left, [vn("red")]);
    assert!(world.is_joined("blue"));
    // Said, and lost with the session.
    world.client.want(world.now, BTreeMap::new());
    world.reachable = false;
    world.settle();
    world.cut();
    world.reachable = true;
    world.run(seconds(60));
    assert_eq!(world.ima.left, [vn("red"), vn("blue")]);
    // Not of what is wanted again.
    world.cut();
    world.reachable = true;
    world.client.want(world.now, wanted(&[("red", &[1])]));
    world.run(seconds(60));
    assert_eq!(world.ima.left.len(), 2);
    assert!(world.is_joined("red"));
}

#[test]
fn the_expelled_and_the_refused_lose_what_they_had_and_ask_ever_more_rarely() {
    let mut world = World::joined(NETS, &[("red", &[1]), ("blue", &[2])]);
    world.ima.refuse = Some(Refusal::NotMember);
    world.ima.net("red").channel = None;
    world
        .ima
        .replies
        .push_back(FromIma::Expelled { vn: vn("red") });
    world.settle();
    assert!(world.events.contains(&Event::Left {
        vn: vn("red"),
        why: Gone::Expelled
    }));
    assert!(world.is_joined("blue"));
    let before = world.ima.joins.len();
    world.run(seconds(600));
    let tries = world.ima.joins.len() - before;
    assert!((10..=30).contains(&tries), "{tries}");
    let refused = |event: &&Event| matches!(event, Event::Alarm(Alarm::Refused { .. }));
    assert_eq!(world.events.iter().filter(refused).count(), 1);
    // Let in again.
    world.ima.refuse = None;
    world.run(seconds(60));
    assert!(world.is_joined("red"));
    assert_eq!(world.admitted("red"), [mac(1)]);
}

#[test]
fn another_vns_channel_opens_nothing() {
    let mut world = World::joined(NETS, &[("red", &[1]), ("blue", &[2])]);
    // Sealed by the channel of the one, said to be of the other.
    world.ima.seal(&vn("blue"), &VnFromIma::Placed);
    let forged = match world.ima.replies.pop_back() {
        Some(FromIma::Sealed { epoch, bytes, .. }) => FromIma::Sealed {
            vn: vn("red"),
            epoch,
            bytes,
        },
        other => panic!("{other:?}"),
    };
    world.ima.replies.push_back(forged);
    let joins = world.ima.joins.len();
    world.settle();
    // It costs the one a fresh exchange, and the other and the session nothing.
    assert!(world.closed.is_empty(), "{:?}", world.closed);
    assert_eq!(world.ima.joins.len(), joins + 1);
    assert_eq!(world.ima.joins.last().unwrap().0, vn("red"));
    let alarm = Event::Alarm(Alarm::Unopened { vn: vn("red") });
    assert!(world.events.contains(&alarm));
    assert!(world.is_joined("red") && world.is_joined("blue"));
    world.ima.map("red", 2, "b");
    world.settle();
    assert_eq!(world.told("red"), world.truth("red"));
    // A server that never keeps to it is not asked without end.
    let joins = world.ima.joins.len();
    for _ in 0..3000 {
        world.ima.replies.push_back(FromIma::Sealed {
            vn: vn("red"),
            epoch: Epoch(1),
            bytes: SealedBytes::try_from(vec![7; 40]).unwrap(),
        });
        world.run(Duration::from_millis(100));
    }
    let joins = world.ima.joins.len() - joins;
    assert!((3..=20).contains(&joins), "{joins}");
}

/// The answer to a join takes longer than the edge waits, and what follows it comes before the answer to
/// the second one.
#[test]
fn a_join_that_is_answered_late_costs_nothing() {
    let mut world = World::joined(NETS, &[("red", &[1]), ("blue", &[2])]);
    world.take_events();
    let announce = |world: &mut World, epoch| {
        world.ima.net("red").epoch = epoch;
        world.ima.replies.push_back(FromIma::NewEpoch {
            vn: vn("red"),
            epoch: Epoch(epoch),
        });
    };
    // The messages of both are on their way for long.
    announce(&mut world, 2);
    let reply = world.ima.replies.pop_back().unwrap();
    world.client.received(world.now, reply);
    let join = |world: &mut World| {
        let outputs: Vec<Output> = world.client.outputs().collect();
        let joins = outputs.into_iter().filter_map(|output| match output {
            Output::Send(message) if matches!(*message, FromEdge::Join { .. }) => Some(*message),
            _ => None,
        });
        joins.collect::<Vec<_>>()
    };
    let first = join(&mut world);
    assert_eq!(first.len(), 1);
    world.now += seconds(11);
    world.client.poll(world.now);
    let second = join(&mut world);
    assert_eq!(second.len(), 1);
    // What a port is given meanwhile is asked for when there is a channel that both agree about.
    let wants = wanted(&[("red", &[1, 3]), ("blue", &[2])]);
    world.client.want(world.now, wants);
    for message in first {
        world.ima.receive(message);
    }
    world.ima.map("red", 7, "b");
    world.settle();
    for message in second {
        world.ima.receive(message);
    }
    world.ima.map("red", 8, "b");
    world.settle();
    assert!(world.closed.is_empty(), "{:?}", world.closed);
    assert!(world.is_joined("red") && world.is_joined("blue"));
    assert_eq!(world.admitted("red"), [mac(1), mac(3)]);
    let (_, mappings) = world.told("red");
    assert_eq!(mappings, world.truth("red").1);
}

/// Two new epochs, the second announced before the join for the first is answered.
#[test]
fn a_join_under_way_is_that_of_the_next_epoch() {
    let mut world = World::joined(NETS, &[("red", &[1])]);
    let joins = world.ima.joins.len();
    for epoch in [2, 3] {
        world.ima.net("red").epoch = epoch;
        let (vn, epoch) = (vn("red"), Epoch(epoch));
        let message = FromIma::NewEpoch { vn, epoch };
        world.client.received(world.now, message);
    }
    world.settle();
    assert_eq!(world.ima.joins.len(), joins + 1);
    // One that ended in an earlier epoch is done again.
    world.ima.net("red").epoch = 4;
    let announced = |epoch| FromIma::NewEpoch {
        vn: vn("red"),
        epoch: Epoch(epoch),
    };
    world.client.received(world.now, announced(4));
    world.client.received(world.now, announced(5));
    world.settle();
    assert_eq!(world.ima.joins.len(), joins + 3);
    assert!(world.is_joined("red") && world.closed.is_empty());
}

#[test]
fn a_gap_in_the_log_is_noticed_and_everything_told_anew() {
    let mut world = World::joined(NETS, &[("red", &[1])]);
    world.ima.add_member("red", 2, "b");
    world.settle();
    // A step that never arrives.
    let channel = world.ima.net("red").channel.take();
    world.ima.map("red", 2, "b");
    world.ima.net("red").channel = channel;
    world.ima.map("red", 3, "b");
    world.settle();
    assert_eq!(world.ima.joins.last(), Some(&(vn("red"), None)));
    assert_eq!(world.told("red"), world.truth("red"));
    assert_eq!(world.admitted("red"), [mac(1)]);
}

/// What an earlier run was on and this one is not is over with the renewal that follows the joins.
#[test]
fn a_run_says_once_that_it_has_joined_all_that_it_wants() {
    let mut world = World::new(Ima::new(NETS));
    world.ima.answers_renewals = false;
    let both = wanted(&[("red", &[1]), ("blue", &[])]);
    world.client.want(world.now, both);
    world.run(seconds(2));
    assert!(world.is_joined("red") && world.is_joined("blue"));
    assert_eq!((world.ima.joins.len(), world.ima.renewals.len()), (2, 1));
    // Perhaps nobody heard it.
    world.cut();
    world.reachable = true;
    world.ima.answers_renewals = true;
    world.run(seconds(5));
    assert_eq!((world.ima.joins.len(), world.ima.renewals.len()), (4, 2));
    world.cut();
    world.reachable = true;
    world.run(seconds(5));
    assert_eq!((world.ima.joins.len(), world.ima.renewals.len()), (6, 2));
}

#[test]
fn who_is_refused_has_joined_all_that_it_may() {
    let mut world = World::new(Ima::new(NETS));
    world.ima.refuse = Some(Refusal::NotMember);
    world.client.want(world.now, wanted(&[("red", &[1])]));
    world.run(seconds(1));
    assert_eq!((world.ima.joins.len(), world.ima.renewals.len()), (1, 1));
}
