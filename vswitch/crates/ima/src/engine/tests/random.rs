//! Random operations; the edges' own assertions and these invariants hold at every step.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use vswitch_control::message::ima::VnFromEdge;
use vswitch_control::message::operator::{Change, Text};
use vswitch_control::message::overlay::{Admission, Placement};
use vswitch_control::types::{Epoch, Generation, Mac, Version, VnName};

use super::world::{World, ips, mac, nve, settings, vn};
use crate::engine::{EdgeRequest, Engine, Limits};
use crate::model::{Key, Record};

const EDGES: [&str; 4] = ["a", "b", "c", "d"];
const VNS: [&str; 2] = ["red", "lab"];

#[derive(Debug, Clone)]
enum Step {
    Connect(usize),
    Disconnect(usize),
    Join(usize, usize),
    Leave(usize, usize),
    Register(usize, usize, u8, u8),
    Withdraw(usize, usize, u8),
    Renew(usize),
    MemberAdd(usize, usize),
    MemberRemove(usize, usize),
    Place(usize, u8, u8, usize),
    Unplace(usize, u8),
    Revoke(usize),
    Unrevoke(usize),
    VnRemove(usize),
    VnAdd(usize),
    Wait(u64),
    Restart,
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    let (edge, net, machine) = (0..EDGES.len(), 0..VNS.len(), 1..5_u8);
    prop_oneof![
        3 => edge.clone().prop_map(Step::Connect),
        1 => edge.clone().prop_map(Step::Disconnect),
        6 => (edge.clone(), net.clone()).prop_map(|(e, v)| Step::Join(e, v)),
        1 => (edge.clone(), net.clone()).prop_map(|(e, v)| Step::Leave(e, v)),
        8 => (edge.clone(), net.clone(), machine.clone(), machine.clone())
            .prop_map(|(e, v, m, i)| Step::Register(e, v, m, i)),
        3 => (edge.clone(), net.clone(), machine.clone()).prop_map(|(e, v, m)| Step::Withdraw(e, v, m)),
        1 => edge.clone().prop_map(Step::Renew),
        3 => (net.clone(), edge.clone()).prop_map(|(v, e)| Step::MemberAdd(v, e)),
        1 => (net.clone(), edge.clone()).prop_map(|(v, e)| Step::MemberRemove(v, e)),
        4 => (net.clone(), machine.clone(), machine.clone(), edge.clone())
            .prop_map(|(v, m, i, e)| Step::Place(v, m, i, e)),
        1 => (net.clone(), machine).prop_map(|(v, m)| Step::Unplace(v, m)),
        1 => edge.clone().prop_map(Step::Revoke),
        1 => edge.prop_map(Step::Unrevoke),
        1 => net.clone().prop_map(Step::VnRemove),
        2 => net.prop_map(Step::VnAdd),
        1 => (1..4000_u64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => Just(Step::Reload),
    ]
}

fn limits() -> Limits {
    // So short that both ways of resuming are taken.
    Limits {
        log: 3,
        ..Limits::default()
    }
}

fn run(world: &mut World, step: &Step) {
    let name = |e: &usize| nve(EDGES[*e]);
    let net = |v: &usize| vn(VNS[*v]);
    let connected = |world: &World, e: &usize| {
        world
            .edges
            .get(&name(e))
            .is_some_and(|edge| edge.session.is_some())
    };
    match step {
        Step::Connect(e) => drop(world.connect(EDGES[*e])),
        Step::Disconnect(e) if connected(world, e) => world.disconnect(EDGES[*e]),
        Step::Join(e, v) if connected(world, e) => drop(world.join(EDGES[*e], VNS[*v])),
        Step::Leave(e, v) => drop(world.ask(&name(e), &EdgeRequest::Leave { vn: net(v) })),
        Step::Register(e, v, m, i) => {
            let port = "p".parse().unwrap();
            let message = VnFromEdge::Register {
                port,
                mac: mac(*m),
                ips: ips(&[*i]),
            };
            drop(world.ask(
                &name(e),
                &EdgeRequest::Vn {
                    vn: net(v),
                    message,
                },
            ));
        }
        Step::Withdraw(e, v, m) => {
            let message = VnFromEdge::Withdraw { mac: mac(*m) };
            drop(world.ask(
                &name(e),
                &EdgeRequest::Vn {
                    vn: net(v),
                    message,
                },
            ));
        }
        Step::Renew(e) => drop(world.ask(&name(e), &EdgeRequest::Renew { sequence: 0 })),
        Step::MemberAdd(v, e) => {
            drop(world.change(Change::MemberAdd {
                vn: net(v),
                nve: name(e),
            }));
        }
        Step::MemberRemove(v, e) => {
            drop(world.change(Change::MemberRemove {
                vn: net(v),
                nve: name(e),
            }));
        }
        Step::Place(v, m, i, e) => {
            let placement = Placement {
                mac: mac(*m),
                ips: ips(&[*i]),
                nve: name(e),
                port: "p".parse().unwrap(),
            };
            drop(world.change(Change::PlacementAdd {
                vn: net(v),
                placement,
            }));
        }
        Step::Unplace(v, m) => {
            drop(world.change(Change::PlacementRemove {
                vn: net(v),
                mac: mac(*m),
            }));
        }
        Step::Revoke(e) => {
            drop(world.change(Change::Revoke {
                nve: name(e),
                reason: Text::of("test"),
            }));
        }
        Step::Unrevoke(e) => drop(world.change(Change::Unrevoke { nve: name(e) })),
        Step::VnRemove(v) => drop(world.change(Change::VnRemove { vn: net(v) })),
        Step::VnAdd(v) => drop(world.change(vn_add(*v))),
        Step::Wait(seconds) => {
            world.now += Duration::from_secs(*seconds);
            world.sweep();
            world.deliver();
        }
        Step::Restart => {
            world.engine = Engine::new(limits(), world.stored.clone(), world.now);
            for edge in world.edges.values_mut() {
                edge.session = None;
            }
            world.sweep();
        }
        Step::Reload => {
            world.engine.reload(world.stored.clone(), world.now);
            world.sweep();
            world.deliver();
        }
        Step::Disconnect(_) | Step::Join(..) => {}
    }
}

fn vn_add(v: usize) -> Change {
    let admission = if v == 0 {
        Admission::Strict
    } else {
        Admission::FirstClaim
    };
    let settings = settings(u32::try_from(v).unwrap() + 1, admission);
    Change::VnAdd {
        vn: vn(VNS[v]),
        settings,
    }
}

/// Both VNs, with all edges as members.
fn declare(world: &mut World) {
    for (v, name) in VNS.iter().enumerate() {
        world.change(vn_add(v)).unwrap();
        for e in EDGES {
            let nve = nve(e);
            world
                .change(Change::MemberAdd { vn: vn(name), nve })
                .unwrap();
        }
    }
}

/// What only grows, as long as the VN's history is the same.
#[derive(Default)]
struct Heights {
    clocks: BTreeMap<(VnName, u64), (Version, Epoch)>,
    generations: BTreeMap<(VnName, u64, Mac), Generation>,
}

impl Heights {
    fn check(&mut self, world: &World) {
        for (name, vn) in &world.engine.state().vns {
            let Some(log) = vn.declared.as_ref().map(|declared| declared.log.0) else {
                continue;
            };
            let now = (vn.clock.version, vn.clock.epoch);
            let before = self
                .clocks
                .insert((name.clone(), log), now)
                .unwrap_or_default();
            assert!(
                now.0 >= before.0 && now.1 >= before.1,
                "{name}: {before:?} {now:?}"
            );
            for (mac, mapping) in &vn.mappings {
                let key = (name.clone(), log, *mac);
                let before = self.generations.insert(key, mapping.generation);
                assert!(before.is_none_or(|before| before <= mapping.generation));
            }
        }
    }
}

/// Everything that must hold when nothing is under way.
fn check(world: &World) {
    let state = world.engine.state();
    // Memory and store agree, indexes included.
    let fresh = Engine::new(limits(), world.stored.clone(), world.now);
    let known = |engine: &Engine| {
        engine
            .state()
            .vns
            .iter()
            .map(|(name, vn)| {
                let mut ips: Vec<_> = vn.ips.clone().into_iter().collect();
                ips.sort_unstable();
                let held: BTreeMap<_, _> = vn.held.clone().into_iter().collect();
                (
                    name.clone(),
                    vn.clock,
                    vn.mappings.clone(),
                    vn.joined.clone(),
                    ips,
                    held,
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(known(&world.engine), known(&fresh));
    for (name, vn) in &state.vns {
        for (mac, mapping) in &vn.mappings {
            assert!(
                state.admits(name, &mapping.nve),
                "a mapping of a non-member"
            );
            assert!(vn.joined.contains_key(&mapping.nve));
            if let Some(placed) = vn.placements.get(mac) {
                assert_eq!(placed.nve, mapping.nve);
            } else {
                let declared = vn.declared.as_ref().unwrap();
                assert_eq!(declared.settings.admission, Admission::FirstClaim);
            }
            for ip in mapping.ips.iter() {
                assert_eq!(vn.ips[ip], *mac, "an IP address at two machines");
            }
        }
    }
    for (name, edge) in &world.edges {
        for (net, view) in edge.views.iter().filter(|(_, view)| view.joined) {
            if edge.session.is_none() {
                continue;
            }
            let vn = state.vn(net).expect("expelled from what is gone");
            assert!(state.admits(net, name), "{name} is told of {net}");
            assert_eq!(view.version, vn.clock.version);
            assert_eq!(view.epoch, vn.clock.epoch);
            let mappings: BTreeMap<_, _> = vn
                .mappings
                .keys()
                .map(|mac| (*mac, vn.mapping(*mac).unwrap()))
                .collect();
            assert_eq!(view.mappings, mappings, "resumed or not, the whole");
            let members: BTreeMap<_, _> = vn
                .joined
                .iter()
                .map(|(nve, joined)| (nve.clone(), joined.endpoint.clone()))
                .collect();
            assert_eq!(view.members, members);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 300 }, ..ProptestConfig::default() })]

    #[test]
    fn members_know_the_whole_and_nobody_else_anything(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(limits());
        let mut heights = Heights::default();
        declare(&mut world);
        for step in &steps {
            run(&mut world, step);
            heights.check(&world);
            check(&world);
        }
    }

    #[test]
    fn what_is_taken_back_never_was(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new(limits());
        declare(&mut world);
        for step in &steps {
            // The step's changes, applied and taken back, before the step itself.
            let stored = world.stored.clone();
            run(&mut world, step);
            let ops: Vec<_> = world.stored.iter()
                .filter(|(key, record)| stored.get(*key) != Some(*record))
                .map(|(key, record)| crate::model::Op::Put(key.clone(), record.clone()))
                .chain(stored.keys().filter(|key| !world.stored.contains_key(*key))
                    .map(|key| crate::model::Op::Delete(key.clone())))
                .collect();
            let mut twin = Engine::new(limits(), stored.clone(), world.now);
            let undo = twin.apply(&ops);
            twin.revert(&undo);
            let again = Engine::new(limits(), stored, world.now);
            let look = |engine: &Engine| engine.state().vns.iter().map(|(name, vn)| (
                name.clone(), vn.clock, vn.mappings.clone(), vn.joined.clone(), vn.members.clone(),
                vn.since(Version(0)).map(|(version, what)| (version, what.clone())).collect::<Vec<_>>(),
            )).collect::<Vec<_>>();
            prop_assert_eq!(look(&twin), look(&again));
        }
    }
}

#[test]
fn records_survive_their_encoding() {
    let mut world = World::new(limits());
    world.declare("red", 1, Admission::FirstClaim, &["a"]);
    world.connect("a");
    world.join("a", "red").unwrap();
    world.register("a", "red", "p", 1);
    let placement = super::world::placement(2, "a", "p");
    world
        .change(Change::PlacementAdd {
            vn: vn("red"),
            placement,
        })
        .unwrap();
    world
        .change(Change::Revoke {
            nve: nve("b"),
            reason: Text::of("lost"),
        })
        .unwrap();
    world
        .change(Change::OperatorRevoke {
            name: "former".parse().unwrap(),
            reason: Text::of("has left"),
        })
        .unwrap();
    let places = vswitch_control::message::operator::Places {
        tunnel_addresses: vec!["2001:db8::c".parse().unwrap()].try_into().unwrap(),
        control: vec!["10.0.0.0/8".parse().unwrap()].try_into().unwrap(),
    };
    let nve = nve("c");
    world.change(Change::EdgeSet { nve, places }).unwrap();
    let kinds: std::collections::BTreeSet<_> = world
        .stored
        .keys()
        .map(|key| key.to_string().split('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(kinds.len(), 13, "{kinds:?}");
    for (key, record) in &world.stored {
        let bytes = record.encode(key).unwrap();
        assert_eq!(Record::decode(key, &bytes).as_ref(), Ok(record));
        assert_eq!(Key::parse(&key.to_string()).as_ref(), Ok(key));
        let mut other = bytes.clone();
        other[0] = 99;
        assert!(Record::decode(key, &other).is_err());
    }
}
