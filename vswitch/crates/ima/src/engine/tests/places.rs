//! Where edges may say that they are.

use std::net::IpAddr;

use vswitch_control::message::ima::{Goodbye, Refusal};
use vswitch_control::message::operator::{Change, Denied, Places};
use vswitch_control::message::overlay::{Admission, Endpoint};
use vswitch_control::types::NveName;

use super::world::{World, nve, vn};
use crate::engine::{EdgeRequest, Limits, Reply};

fn ip(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn at(tunnels: &[u8], control: IpAddr) -> Endpoint {
    let tunnels: Vec<_> = tunnels.iter().map(|last| ip(*last)).collect();
    Endpoint {
        tunnel_addresses: tunnels.try_into().unwrap(),
        control_address: (control, 4790).into(),
    }
}

fn set(name: &str, tunnels: &[u8], control: &[&str]) -> Change {
    let tunnels: Vec<_> = tunnels.iter().map(|last| ip(*last)).collect();
    let control: Vec<_> = control.iter().map(|text| text.parse().unwrap()).collect();
    Change::EdgeSet {
        nve: nve(name),
        places: Places {
            tunnel_addresses: tunnels.try_into().unwrap(),
            control: control.try_into().unwrap(),
        },
    }
}

fn welcome(reply: Option<Reply>) -> bool {
    matches!(reply, Some(Reply::Welcome { .. }))
}

fn goodbye(reply: Option<Reply>) -> Goodbye {
    match reply {
        Some(Reply::Goodbye(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn owner(world: &World, last: u8) -> Option<(NveName, bool)> {
    let claim = world.engine.state().claims.get(&ip(last))?;
    Some((claim.nve.clone(), claim.declared))
}

#[test]
fn a_declared_edge_has_its_own_addresses_and_nobody_else_has() {
    let mut world = World::new(Limits::default());
    world.change(set("a", &[1, 2], &[])).unwrap();
    assert_eq!(world.change(set("a", &[1, 2], &[])), Ok(false));
    // Long before the edge comes for the first time.
    for claimed in [&[1][..], &[3, 2]] {
        let answer = world.connect_at("liar", at(claimed, ip(claimed[0])));
        assert_eq!(goodbye(answer), Goodbye::AddressTaken);
    }
    let answer = world.connect_at("a", at(&[1, 3], ip(1)));
    assert_eq!(goodbye(answer), Goodbye::Undeclared);
    assert!(world.engine.state().edges.is_empty(), "no lease came of it");
    assert!(welcome(world.connect_at("a", at(&[1], ip(1)))));
    assert!(welcome(world.connect_at("a", at(&[2, 1], ip(2)))));
    assert!(matches!(
        world.change(set("liar", &[2], &[])),
        Err(Denied::Conflict(_))
    ));
    let unset = Change::EdgeUnset { nve: nve("a") };
    assert_eq!(world.change(unset.clone()), Ok(true));
    assert_eq!(world.change(unset), Ok(false));
    // Where it is it stays, as the first to have said so.
    assert_eq!(owner(&world, 2), Some((nve("a"), false)));
    assert!(welcome(world.connect_at("a", at(&[2], ip(2)))));
    assert_eq!(owner(&world, 1), None, "what it says no more is free");
}

#[test]
fn an_edge_is_nowhere_twice() {
    let mut world = World::new(Limits::default());
    for twice in [&[1, 1][..], &[1, 2, 1]] {
        let refused = world.change(set("a", twice, &[]));
        assert!(matches!(refused, Err(Denied::Conflict(_))), "{refused:?}");
        let answer = world.connect_at("a", at(twice, ip(1)));
        assert_eq!(goodbye(answer), Goodbye::Protocol);
    }
    assert!(world.engine.state().edges.is_empty() && world.engine.state().claims.is_empty());
}

#[test]
fn where_only_declared_addresses_count_no_other_edge_is_let_in() {
    let limits = Limits {
        declared_only: true,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let answer = world.connect_at("a", at(&[1], ip(1)));
    assert_eq!(goodbye(answer), Goodbye::Undeclared);
    world.change(set("a", &[1], &[])).unwrap();
    assert!(welcome(world.connect_at("a", at(&[1], ip(1)))));
    world.change(Change::EdgeUnset { nve: nve("a") }).unwrap();
    let answer = world.ask(&nve("a"), &EdgeRequest::Renew { sequence: 1 });
    assert_eq!(goodbye(answer), Goodbye::Undeclared);
}

#[test]
fn a_first_claim_outlives_the_lease_and_ends_with_another() {
    let limits = Limits::default();
    let mut world = World::new(limits);
    assert!(welcome(world.connect_at("a", at(&[1], ip(1)))));
    world.disconnect("a");
    world.now += limits.lease * 2;
    world.sweep();
    assert!(world.engine.state().edges.is_empty(), "the lease has ended");
    let answer = world.connect_at("b", at(&[1], ip(1)));
    assert_eq!(goodbye(answer), Goodbye::AddressTaken);
    // A restart of the server forgets nothing of it.
    let records = world.stored.clone();
    world.engine = crate::engine::Engine::new(limits, records, world.now);
    let answer = world.connect_at("b", at(&[1], ip(1)));
    assert_eq!(goodbye(answer), Goodbye::AddressTaken);
    // Nobody collects addresses: what an edge says no more is free.
    assert!(welcome(world.connect_at("a", at(&[2], ip(2)))));
    assert_eq!(owner(&world, 1), None);
    assert!(welcome(world.connect_at("b", at(&[1], ip(1)))));
    // And an operator frees what nobody uses.
    world.disconnect("a");
    world.change(Change::Release { nve: nve("a") }).unwrap();
    assert!(welcome(world.connect_at("b", at(&[1, 2], ip(1)))));
    assert_eq!(owner(&world, 2), Some((nve("b"), false)));
}

#[test]
fn an_operators_word_ends_a_first_claim_at_once() {
    let mut world = World::new(Limits::default());
    world.declare("red", 1, Admission::FirstClaim, &["liar", "b"]);
    assert!(welcome(world.connect_at("liar", at(&[1], ip(1)))));
    assert!(welcome(world.connect_at("b", at(&[2], ip(2)))));
    for name in ["liar", "b"] {
        world.join(name, "red").unwrap();
    }
    assert_eq!(world.view("b", "red").members.len(), 2);
    world.change(set("a", &[1], &[])).unwrap();
    assert_eq!(
        world.edges[&nve("liar")].goodbye,
        Some(Goodbye::AddressTaken)
    );
    assert_eq!(world.view("b", "red").members.len(), 1, "and is no member");
    assert!(welcome(world.connect_at("a", at(&[1], ip(1)))));
    // Whose addresses have nothing to do with it stays.
    assert_eq!(world.edges[&nve("b")].goodbye, None);
    world.change(set("b", &[2, 9], &[])).unwrap();
    assert_eq!(world.edges[&nve("b")].goodbye, None);
    world.change(set("b", &[9], &[])).unwrap();
    assert_eq!(world.edges[&nve("b")].goodbye, Some(Goodbye::Undeclared));
    assert_eq!(world.join("a", "red"), Err(Refusal::NotMember));
    let _ = vn("red");
}

#[test]
fn the_control_address_is_the_edges_own() {
    let mut world = World::new(Limits::default());
    let elsewhere: IpAddr = [10, 1, 2, 3].into();
    // Neither a tunnel address of its own nor where the session comes from.
    let answer = world.connect_from("a", at(&[1], elsewhere), ip(1));
    assert_eq!(goodbye(answer), Goodbye::Undeclared);
    let answer = world.connect_from("a", at(&[1], ip(2)), ip(1));
    assert_eq!(goodbye(answer), Goodbye::Undeclared);
    assert!(welcome(world.connect_from(
        "a",
        at(&[1], elsewhere),
        elsewhere
    )));
    let mapped = "::ffff:10.1.2.3".parse().unwrap();
    assert!(welcome(world.connect_from(
        "a",
        at(&[1], elsewhere),
        mapped
    )));
    // What is declared counts more than where the session comes from.
    world.change(set("a", &[1], &["10.1.2.0/30"])).unwrap();
    assert!(welcome(world.connect_from(
        "a",
        at(&[1], elsewhere),
        ip(77)
    )));
    let outside: IpAddr = [10, 1, 2, 4].into();
    let answer = world.connect_from("a", at(&[1], outside), outside);
    assert_eq!(goodbye(answer), Goodbye::Undeclared);
}
