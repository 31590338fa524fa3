//! Revoked, and not yet cleared away; unreadable, and not to be cleared away at all.

use vswitch_control::message::ima::{LogId, Refusal, VnFromEdge, VnFromIma, Wanted};
use vswitch_control::message::operator::{AuditId, Change, Denied, Text};
use vswitch_control::message::overlay::Admission;

use super::world::{World, mac, nve, placement, vn};
use crate::engine::{EdgeRequest, Engine, Limits, Reply, Stamp};
use crate::model::{Key, Record};

fn stamp(at: u64) -> Stamp {
    Stamp {
        who: Text::of("root"),
        id: AuditId { at, tie: 7 },
        log: LogId(0),
    }
}

/// The sweep comes by later: nobody is told of a revoked edge in between, nor is it pardoned.
#[test]
fn a_revoked_edge_is_told_to_nobody_before_the_sweep() {
    let mut world = World::new(Limits::default());
    world.declare("red", 1, Admission::FirstClaim, &["bad", "b", "c"]);
    for name in ["bad", "b"] {
        world.connect(name);
        world.join(name, "red").unwrap();
    }
    world.register("b", "red", "vm", 2);
    world.disconnect("b");
    world.register("bad", "red", "vm", 1);
    world.connect("c");
    let revoke = Change::Revoke {
        nve: nve("bad"),
        reason: Text::default(),
    };
    let plan = world.engine.operator(&revoke, &stamp(u64::MAX)).unwrap();
    world.store(&plan);
    assert!(
        world.engine.state().vns[&vn("red")]
            .joined
            .contains_key(&nve("bad"))
    );
    // `c` has never heard of anything, `b` of all but the last.
    for name in ["c", "b"] {
        if name == "b" {
            let id = crate::engine::SessionId(4000);
            world.engine.open(id, nve("b"), [192, 0, 2, 9].into());
            world.edges.get_mut(&nve("b")).unwrap().session = Some(id);
            let hello = EdgeRequest::Hello {
                boot: vswitch_control::types::BootId([1; 16]),
                endpoint: super::world::endpoint(&nve("b")),
            };
            let decision = world.engine.edge(id, &hello, world.now);
            world.store(&decision.plan);
            world.engine.confirm(id, &decision.reply.unwrap());
        }
        let id = world.edges[&nve(name)].session.unwrap();
        let view = world.edges[&nve(name)].views.get(&vn("red"));
        let resume = view.and_then(|view| {
            Some(vswitch_control::message::ima::Resume {
                log: view.log?,
                version: view.version,
            })
        });
        let vn_name = vn("red");
        let join = EdgeRequest::Join {
            vn: vn_name.clone(),
            resume,
        };
        let decision = world.engine.edge(id, &join, world.now);
        world.store(&decision.plan);
        let Some(reply @ Reply::Joined { log, epoch, .. }) = decision.reply else {
            panic!("{:?}", decision.reply)
        };
        world.engine.confirm(id, &reply);
        let view = world.edges.get_mut(&nve(name)).unwrap();
        let view = view.views.entry(vn_name).or_default();
        (view.log, view.epoch, view.joined) = (Some(log), epoch, true);
        world.deliver();
        let view = world.view(name, "red");
        // Who knew of it before hears of it by the sweep.
        assert!(name == "b" || !view.members.contains_key(&nve("bad")));
        assert!(!view.mappings.contains_key(&mac(1)), "{name}");
        assert!(view.mappings.contains_key(&mac(2)), "{name}");
    }
    let what = Wanted::Mac(mac(1));
    let id = world.edges[&nve("c")].session.unwrap();
    let message = VnFromEdge::Query { id: 1, what };
    let vn_name = vn("red");
    let request = EdgeRequest::Vn {
        vn: vn_name,
        message,
    };
    let decision = world.engine.edge(id, &request, world.now);
    assert!(matches!(
        decision.reply,
        Some(Reply::Vn {
            message: VnFromIma::Answer { mapping: None, .. },
            ..
        })
    ));
    let unrevoke = Change::Unrevoke { nve: nve("bad") };
    let answer = world.engine.operator(&unrevoke, &stamp(u64::MAX - 1));
    assert!(matches!(answer, Err(Denied::Conflict(_))), "{answer:?}");
    world.sweep();
    world.deliver();
    assert_eq!(world.change(unrevoke), Ok(true));
}

/// A record that cannot be read costs what it is about, and nothing of the rest; and it costs nobody what
/// an operator declared.
#[test]
fn what_cannot_be_read_is_left_alone_and_the_rest_goes_on() {
    let mut world = World::new(Limits::default());
    for (n, name) in ["red", "blue", "green"].into_iter().enumerate() {
        world.declare(name, 1 + n as u32, Admission::FirstClaim, &["a", "b"]);
        let placement = placement(1, "a", "vm");
        let vn = vn(name);
        world
            .change(Change::PlacementAdd { vn, placement })
            .unwrap();
    }
    for bad in [
        Key::Vn(vn("red")),
        Key::Clock(vn("blue")),
        Key::Placement(vn("green"), mac(1)),
        Key::Revoked(nve("c")),
        Key::Claim([192, 0, 2, 200].into()),
    ] {
        world.stored.insert(bad, Record::Unreadable);
    }
    let before = world.stored.clone();
    world.engine = Engine::new(Limits::default(), before.clone(), world.now);
    world.sweep();
    assert_eq!(world.stored, before, "nothing is cleared away");
    world.connect("a");
    assert_eq!(world.join("a", "red"), Err(Refusal::Unavailable));
    assert_eq!(world.join("a", "blue"), Err(Refusal::Unavailable));
    assert_eq!(world.join("a", "green"), Ok(()));
    // Where it belongs is not known; that it belongs to whoever comes first is not assumed.
    let rejected =
        |answer, wanted| matches!(answer, Some(VnFromIma::Rejected { why, .. }) if why == wanted);
    use vswitch_control::message::ima::{Goodbye, Rejection};
    assert!(rejected(
        world.register("a", "green", "vm", 1),
        Rejection::Unavailable
    ));
    assert!(matches!(
        world.register("a", "green", "vm", 2),
        Some(VnFromIma::Registered { .. })
    ));
    for name in ["red", "blue"] {
        let (vn, member) = (vn(name), nve("c"));
        let change = Change::MemberAdd { vn, nve: member };
        assert!(matches!(world.change(change), Err(Denied::Unavailable(_))));
    }
    world.connect("c");
    let goodbye = world.edges[&nve("c")].goodbye;
    assert_eq!(goodbye, Some(Goodbye::Revoked), "the worst is believed");
    let mut there = super::world::endpoint(&nve("b"));
    let ips = vec![[192, 0, 2, 200].into()];
    there.tunnel_addresses = ips.try_into().unwrap();
    assert_eq!(
        world.connect_at("b", there),
        Some(Reply::Goodbye(Goodbye::Unavailable))
    );
    // Whoever repairs a record has the rest as it was.
    let good = crate::model::Op::Put(Key::Vn(vn("red")), {
        let vn = &world.engine.state().vns[&vn("green")];
        let mut record = vn.declared.clone().unwrap();
        record.settings.vni = 1.try_into().unwrap();
        Record::Vn(record)
    });
    world.stored.insert(
        good.key().clone(),
        match &good {
            crate::model::Op::Put(_, record) => record.clone(),
            crate::model::Op::Delete(_) => unreachable!(),
        },
    );
    world.engine.apply(std::slice::from_ref(&good));
    world.engine.committed(&[good], world.now);
    assert_eq!(world.join("a", "red"), Ok(()));
    assert_eq!(world.engine.state().vns[&vn("red")].placements.len(), 1);
}
