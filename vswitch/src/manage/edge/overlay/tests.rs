//! What the authority says, as the tables then have it.

use std::net::IpAddr;
use std::path::Path;

use vswitch_vn::{Destination, Protection, Tables};

use super::moves::Touched;
use super::{Order, Remote, Wanted};
use crate::manage::config::{Config, MacAddr, Source, Vni};
use crate::manage::edge::plan::{Ids, Plan};
use crate::manage::edge::steps::{Numbered, Steps};
use crate::manage::edge::view::View;

const LOCAL: &str = r#"
nve: {name: a}
underlay:
  ports: [{name: up0, device: net_ring_up0, addresses: ["192.0.2.1/24"], tap: up0}]
authority:
  servers: [192.0.2.250:4600]
  certificate: a.pem
  private-key: a.key
  bundle: bundle.pem
  listen: 192.0.2.1:4600
peers:
  - {name: by-hand, addresses: [192.0.2.9]}
vns:
  - {name: lab, vni: 7, edges: [by-hand], protection: none}
  - {name: red}
ports:
  - name: one
    vn: red
    vhost: {socket: /run/1.sock}
    addresses: [{mac: "52:54:00:00:00:01", ips: [10.0.0.1]}, {mac: "52:54:00:00:00:0f"}]
"#;

fn mac(n: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, n])
}

/// A master copy that follows what is wanted, as the control thread's does.
struct Follower {
    local: Config,
    wanted: Wanted,
    config: Config,
    plan: Plan,
    tables: Tables,
    generation: u64,
}

impl Follower {
    fn new() -> Self {
        let local = Config::parse(LOCAL, Path::new("/")).unwrap();
        let plan = Plan::first(&local).unwrap();
        let changes = View::default()
            .changes(&View::of(&local, &plan), 1)
            .unwrap();
        let mut tables = Tables::new(3);
        tables.transact(&changes).unwrap();
        Follower {
            config: local.clone(),
            local,
            wanted: Wanted::default(),
            plan,
            tables,
            generation: 1,
        }
    }

    fn order(&mut self, orders: Vec<Order>) -> Steps {
        for order in orders {
            assert!(self.wanted.take(order).is_none());
        }
        let config = self.wanted.adapt(&self.local);
        let plan = self.plan.next(&self.config, &config, &Ids::default());
        let plan = plan.unwrap();
        let old = Numbered {
            config: &self.config,
            plan: &self.plan,
        };
        let new = Numbered {
            config: &config,
            plan: &plan,
        };
        self.generation += 1;
        let steps = Steps::between(old, new, self.generation).unwrap();
        self.tables.transact(&steps.tables).unwrap();
        (self.config, self.plan) = (config, plan);
        steps
    }

    /// As `order`, but by changes of mappings alone where that will do; whether it did.
    fn quickly(&mut self, orders: Vec<Order>) -> bool {
        let mut touched = Touched::default();
        for order in orders {
            touched.note(&order);
            assert!(self.wanted.take(order).is_none());
        }
        let now = (&self.config, &self.plan, &self.tables);
        let Some(mut moves) = self.wanted.moves(&touched, now, self.generation + 1) else {
            self.order(vec![]);
            return false;
        };
        self.generation += 1;
        self.tables.transact(&moves.changes).unwrap();
        moves.note_in(&mut self.config);
        true
    }

    fn vn(&self) -> vswitch_vn::VnId {
        self.plan.vns[1]
    }

    /// The name of the edge behind which an address is; `here` if it is a port's.
    fn place(&self, n: u8) -> Option<String> {
        match self.tables.lookup(self.vn(), mac(n))? {
            Destination::Port(_) => Some("here".to_owned()),
            Destination::Tunnel(id) => {
                let peer = self.plan.tunnels[&id].peer;
                Some(self.config.peers[peer.index()].name.clone())
            }
        }
    }
}

fn joined() -> Vec<Order> {
    vec![
        Order::Vn {
            vn: "red".to_owned(),
            vni: Vni::new(500).unwrap(),
            protection: Protection::Confidential,
        },
        Order::Admitted {
            vn: "red".to_owned(),
            macs: vec![mac(1)],
        },
    ]
}

fn peer(name: &str, address: &str) -> Order {
    Order::Peer {
        name: name.to_owned(),
        addresses: vec![address.parse::<IpAddr>().unwrap()],
    }
}

fn edges(names: &[&str]) -> Order {
    Order::Edges {
        vn: "red".to_owned(),
        peers: names.iter().map(ToString::to_string).collect(),
    }
}

fn mappings(upserts: &[(u8, &str)], withdrawals: &[u8], full: bool) -> Order {
    let upserts = upserts.iter().map(|(n, at)| Remote {
        mac: mac(*n),
        ips: vec![[10, 0, 0, *n].into()],
        peer: (*at).to_owned(),
    });
    Order::Mappings {
        vn: "red".to_owned(),
        full,
        upserts: upserts.collect(),
        withdrawals: withdrawals.iter().map(|n| mac(*n)).collect(),
    }
}

#[test]
fn a_network_that_is_awaited_is_in_no_table() {
    let mut edge = Follower::new();
    assert_eq!(edge.config.vns[1].source, Source::Awaited);
    assert_eq!(edge.tables.vns().count(), 1);
    assert_eq!(edge.tables.ports().count(), 0);
    // Members and mappings of a network that was not joined are nothing.
    edge.order(vec![peer("b", "192.0.2.2"), edges(&["b"])]);
    edge.order(vec![mappings(&[(2, "b")], &[], true)]);
    assert_eq!(edge.tables.tunnels().count(), 1);
    edge.order(joined());
    assert_eq!(edge.tables.ports().count(), 1);
    assert_eq!(edge.place(1).as_deref(), Some("here"));
    // In the file, and not admitted.
    assert_eq!(edge.place(15), None);
    assert_eq!(edge.config.ports[0].addresses.len(), 1);
}

#[test]
fn mappings_follow_their_members() {
    let mut edge = Follower::new();
    edge.order(joined());
    edge.order(vec![
        peer("b", "192.0.2.2"),
        peer("c", "192.0.2.3"),
        edges(&["b", "c"]),
        mappings(&[(2, "b"), (3, "c"), (4, "nobody")], &[], true),
    ]);
    let place = |edge: &Follower, n| edge.place(n);
    assert_eq!(place(&edge, 2).as_deref(), Some("b"));
    assert_eq!(place(&edge, 3).as_deref(), Some("c"));
    assert_eq!(place(&edge, 4), None);
    // A machine moves, here and away again.
    edge.order(vec![mappings(&[(2, "c")], &[], false)]);
    assert_eq!(place(&edge, 2).as_deref(), Some("c"));
    assert_eq!(place(&edge, 3).as_deref(), Some("c"));
    edge.order(vec![
        Order::Admitted {
            vn: "red".to_owned(),
            macs: vec![],
        },
        mappings(&[(1, "b")], &[3], false),
    ]);
    assert_eq!(place(&edge, 1).as_deref(), Some("b"));
    assert_eq!(place(&edge, 3), None);
    assert!(edge.config.ports[0].addresses.is_empty());
    // A member that goes takes its mappings along, and its tunnel's id is free.
    let steps = edge.order(vec![edges(&["c"])]);
    assert_eq!(place(&edge, 1), None);
    assert_eq!(steps.freed.tunnels.len(), 1);
    let steps = edge.order(vec![Order::LeaveVn {
        vn: "red".to_owned(),
    }]);
    assert_eq!(steps.freed.tunnels.len(), 1);
    assert_eq!(edge.tables.vns().count(), 1);
    assert_eq!(edge.config.vns[1].source, Source::Awaited);
}

/// Whatever is said of mappings, looking at them alone comes to the same as looking at everything.
#[test]
fn mappings_alone_come_to_the_same() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut one, mut other) = (Follower::new(), Follower::new());
        let begin = || {
            let mut orders = joined();
            orders.extend([peer("b", "192.0.2.2"), peer("c", "192.0.2.3")]);
            orders.push(edges(&["b", "c"]));
            orders
        };
        one.order(begin());
        assert!(!other.quickly(begin()));
        let mut quick = 0;
        for _ in 0..40 {
            let count = random.usize(1..4);
            let orders: Vec<Order> = (0..count).map(|_| any(&mut random)).collect();
            let again = orders.iter().map(copy).collect();
            one.order(orders);
            quick += u32::from(other.quickly(again));
            assert_eq!(one.tables, other.tables);
            let said = |edge: &Follower| format!("{:?}", edge.config.vns);
            assert_eq!(said(&one), said(&other));
        }
        assert!(quick > 0);
    }
}

fn any(random: &mut fastrand::Rng) -> Order {
    let at = ["b", "c", "nobody"][random.usize(0..3)];
    let (come, go) = (random.u8(0..6), random.u8(0..6));
    match random.u8(0..12) {
        0 => edges(&["b", "c"]),
        1 => edges(&["c"]),
        2 => Order::Admitted {
            vn: "red".to_owned(),
            macs: (1..random.u8(1..4)).map(mac).collect(),
        },
        3 => mappings(&[(come, at)], &[], true),
        4..8 => mappings(&[(come, at)], &[go], false),
        _ => mappings(&[], &[go], false),
    }
}

fn copy(order: &Order) -> Order {
    match order {
        Order::Edges { vn, peers } => Order::Edges {
            vn: vn.clone(),
            peers: peers.clone(),
        },
        Order::Admitted { vn, macs } => Order::Admitted {
            vn: vn.clone(),
            macs: macs.clone(),
        },
        Order::Mappings {
            vn,
            full,
            upserts,
            withdrawals,
        } => Order::Mappings {
            vn: vn.clone(),
            full: *full,
            upserts: upserts.clone(),
            withdrawals: withdrawals.clone(),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_file_is_not_contradicted() {
    let mut edge = Follower::new();
    edge.order(vec![
        // Somebody's by the file, our own, and our own name.
        peer("by-hand", "192.0.2.4"),
        peer("thief", "192.0.2.9"),
        peer("us", "192.0.2.1"),
        peer("a", "192.0.2.5"),
        Order::Vn {
            vn: "red".to_owned(),
            vni: Vni::new(7).unwrap(),
            protection: Protection::None,
        },
    ]);
    assert_eq!(edge.config.peers.len(), 1);
    assert_eq!(edge.config.vns[1].source, Source::Awaited);
    assert_eq!(edge.tables.vns().count(), 1);
    // What the operator describes is not the authority's to change.
    edge.order(vec![Order::Vn {
        vn: "lab".to_owned(),
        vni: Vni::new(8).unwrap(),
        protection: Protection::Confidential,
    }]);
    assert_eq!(edge.config.vns[0].vni.get(), 7);
}

/// In the clear only where the operator of this edge says so: whoever has taken over the authority
/// does not get it by a word.
#[test]
fn the_authority_cannot_take_protection_away() {
    let given = |protection| {
        vec![Order::Vn {
            vn: "red".to_owned(),
            vni: Vni::new(500).unwrap(),
            protection,
        }]
    };
    let mut edge = Follower::new();
    assert_eq!(edge.config.vns[1].least, Protection::Integrity);
    edge.order(given(Protection::None));
    assert_eq!(edge.config.vns[1].source, Source::Awaited);
    edge.order(given(Protection::Integrity));
    assert_eq!(edge.config.vns[1].source, Source::Authority);
    edge.order(given(Protection::None));
    assert_eq!(edge.config.vns[1].source, Source::Awaited);
    assert_eq!(edge.tables.vns().count(), 1);
}
