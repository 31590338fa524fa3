//! Questions about unknown destinations: once, within limits, and not twice for nothing.

use super::*;
use crate::message::ima::Wanted;

const NETS: &[(&str, LeaseEnd)] = &[("red", LeaseEnd::Stop), ("blue", LeaseEnd::Stop)];

fn answer(world: &mut World, mapping: Option<Mapping>, ttl: u32) {
    let Some(VnFromEdge::Query { id, .. }) = world.ima.asked.last() else {
        panic!("nothing was asked");
    };
    let reply = VnFromIma::Answer {
        id: *id,
        mapping,
        ttl,
    };
    world.ima.seal(&vn("red"), &reply);
    world.settle();
}

#[test]
fn one_question_for_many_packets_and_none_for_what_does_not_exist() {
    let mut world = World::joined(NETS, &[("red", &[1])]);
    let what = Wanted::Mac(mac(9));
    for _ in 0..1000 {
        world
            .client
            .unknown(world.now, &vn("red"), &port("p"), what);
    }
    world.settle();
    assert_eq!(world.ima.asked.len(), 1);
    answer(&mut world, None, 30);
    world.run(seconds(29));
    world
        .client
        .unknown(world.now, &vn("red"), &port("p"), what);
    world.settle();
    assert_eq!(world.ima.asked.len(), 1);
    world.run(seconds(2));
    world
        .client
        .unknown(world.now, &vn("red"), &port("p"), what);
    world.settle();
    assert_eq!(world.ima.asked.len(), 2);
    // Never answered: asked again after a while, not before.
    world.run(seconds(1));
    world
        .client
        .unknown(world.now, &vn("red"), &port("p"), what);
    world.run(seconds(2));
    world
        .client
        .unknown(world.now, &vn("red"), &port("p"), what);
    world.settle();
    assert_eq!(world.ima.asked.len(), 3);
    let counts = world.client.status(world.now).questions;
    assert_eq!((counts.asked, counts.known), (3, 1001));
}

#[test]
fn an_answer_is_a_mapping_if_it_is_about_what_was_asked() {
    let mut world = World::joined(NETS, &[("red", &[1])]);
    world.ima.add_member("red", 2, "b");
    world.settle();
    let mapping = |n| Mapping {
        mac: mac(n),
        generation: Generation(50),
        nve: nve("b"),
        ips: ips(n),
    };
    let what = Wanted::Ip([10, 0, 0, 9].into());
    world
        .client
        .unknown(world.now, &vn("red"), &port("p"), what);
    world.settle();
    answer(&mut world, Some(mapping(8)), 0);
    assert!(world.told("red").1.is_empty());
    world
        .client
        .unknown(world.now, &vn("red"), &port("p"), what);
    world.settle();
    answer(&mut world, Some(mapping(9)), 0);
    assert_eq!(world.told("red").1[&mac(9)], nve("b"));
    // Known by now.
    let asked = world.ima.asked.len();
    world
        .client
        .unknown(world.now, &vn("red"), &port("p"), what);
    world.settle();
    assert_eq!(world.ima.asked.len(), asked);
    // Asked of the one VN, answered in the other: nobody's.
    world
        .client
        .want(world.now, wanted(&[("red", &[1]), ("blue", &[])]));
    world.settle();
    let other = Wanted::Mac(mac(77));
    world
        .client
        .unknown(world.now, &vn("red"), &port("p"), other);
    world.settle();
    let Some(VnFromEdge::Query { id, .. }) = world.ima.asked.last() else {
        panic!("nothing was asked");
    };
    let reply = VnFromIma::Answer {
        id: *id,
        mapping: Some(mapping(77)),
        ttl: 0,
    };
    world.ima.seal(&vn("blue"), &reply);
    world.settle();
    assert!(world.told("blue").1.is_empty());
}

#[test]
fn a_scan_costs_no_more_than_its_limit_and_delays_nobody() {
    let mut world = World::joined(NETS, &[("red", &[1])]);
    // Four a second are a port's, ten the edge's: 10,000 a second for ten seconds.
    for tenth in 0..100_u32 {
        for n in 0..1000_u32 {
            let address = u128::from(tenth) << 32 | u128::from(n);
            let what = Wanted::Ip(std::net::Ipv6Addr::from_bits(address).into());
            world
                .client
                .unknown(world.now, &vn("red"), &port("scanner"), what);
        }
        world.run(Duration::from_millis(100));
    }
    assert!(
        (40..=48).contains(&world.ima.asked.len()),
        "{}",
        world.ima.asked.len()
    );
    let limited = world.client.status(world.now).questions.limited;
    assert!(limited >= 99_900, "{limited}");
    // Another port's question is asked at once.
    let asked = world.ima.asked.len();
    world
        .client
        .unknown(world.now, &vn("red"), &port("honest"), Wanted::Mac(mac(9)));
    world.settle();
    assert_eq!(world.ima.asked.len(), asked + 1);
}

#[test]
fn without_a_session_nothing_is_asked_and_nothing_waits() {
    let mut world = World::joined(NETS, &[("red", &[1])]);
    world.cut();
    world
        .client
        .unknown(world.now, &vn("red"), &port("p"), Wanted::Mac(mac(9)));
    world
        .client
        .unknown(world.now, &vn("green"), &port("p"), Wanted::Mac(mac(9)));
    world.reachable = true;
    world.run(seconds(5));
    assert!(world.ima.asked.is_empty());
}
