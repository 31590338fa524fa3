//! What the authority says, as the tables then have it.

use std::net::IpAddr;
use std::path::Path;

use vswitch_vn::{Change, Destination, PeerId, Protection, Tables};

use super::moves::Touched;
use super::parts::{Now, Part};
use super::{Order, Remote, Wanted};
use crate::manage::config::{Config, MacAddr, Source, Vni};
use crate::manage::edge::plan::{Ids, Plan};
use crate::manage::edge::steps::Steps;
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
        let changes = View::default().changes(&View::of(&local, &plan), 1);
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
        let now = Now {
            config: &self.config,
            plan: &self.plan,
            resting: &Ids::default(),
            tables: &self.tables,
            generation: self.generation,
        };
        let (config, plan, steps) = self.wanted.settle(&self.local, now).unwrap();
        self.generation += 1;
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

fn peer_at(name: &str, addresses: &[&str]) -> Order {
    Order::Peer {
        name: name.to_owned(),
        addresses: addresses.iter().map(|at| at.parse().unwrap()).collect(),
    }
}

/// One edge that says nonsense of itself is left out; the others of its network are not.
#[test]
fn a_peer_that_cannot_be_stops_nobody_else() {
    let nonsense: [&[&str]; 9] = [
        &["192.0.2.66", "192.0.2.66"],
        &["192.0.2.66", "192.0.2.67", "192.0.2.66"],
        &["0.0.0.0"],
        &["224.0.0.1", "192.0.2.66"],
        &["255.255.255.255"],
        &["127.0.0.1"],
        &["::ffff:192.0.2.2"],
        &["192.0.2.66", "::"],
        &[],
    ];
    for addresses in nonsense {
        let mut edge = Follower::new();
        edge.order(joined());
        edge.order(vec![peer("b", "192.0.2.2"), edges(&["b"])]);
        edge.order(vec![
            peer_at("liar", addresses),
            peer("c", "192.0.2.3"),
            edges(&["b", "c", "liar"]),
            mappings(&[(2, "b"), (3, "c"), (4, "liar")], &[], true),
        ]);
        assert!(!edge.wanted.behind, "{addresses:?}");
        assert_eq!(edge.place(2).as_deref(), Some("b"), "{addresses:?}");
        assert_eq!(edge.place(3).as_deref(), Some("c"));
        assert_eq!(edge.place(4), None);
        assert_eq!(edge.wanted.told.len(), 1);
        // It says something else, and is as good as any other.
        edge.order(vec![peer("liar", "192.0.2.66")]);
        assert_eq!(edge.place(4).as_deref(), Some("liar"));
        assert!(edge.wanted.told.is_empty());
    }
}

#[test]
fn a_mapping_of_what_is_no_station_stops_no_other() {
    let mut edge = Follower::new();
    edge.order(joined());
    edge.order(vec![peer("b", "192.0.2.2"), edges(&["b"])]);
    let remote = |mac| Remote {
        mac,
        ips: vec![],
        peer: "b".to_owned(),
    };
    let wrong = [MacAddr::BROADCAST, MacAddr::ZERO];
    for full in [true, false] {
        let upserts = wrong.into_iter().chain([mac(2), mac(3)]).map(remote);
        let order = Order::Mappings {
            vn: "red".to_owned(),
            full,
            upserts: upserts.collect(),
            withdrawals: vec![],
        };
        edge.order(vec![order]);
        assert_eq!(edge.place(3).as_deref(), Some("b"));
        assert!(!edge.wanted.behind);
    }
}

/// Whatever it is that the tables refuse: it is found and left out, and comes when it can.
#[test]
fn what_the_tables_refuse_is_found_and_left_out() {
    let mut edge = Follower::new();
    edge.order(joined());
    // Somebody whom no configuration knows has two of the addresses.
    let hidden = Change::AddPeer {
        id: PeerId(4000),
        peer: vswitch_vn::Peer {
            addresses: vec!["192.0.2.13".parse().unwrap(), "192.0.2.17".parse().unwrap()].into(),
            encapsulation: crate::manage::config::Encapsulation::Geneve,
        },
    };
    edge.tables.transact(&[hidden]).unwrap();
    let names: Vec<String> = (10..30).map(|n| format!("e{n}")).collect();
    let mut orders: Vec<Order> = (10..30)
        .map(|n| peer(&format!("e{n}"), &format!("192.0.2.{n}")))
        .collect();
    orders.push(edges(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    orders.push(mappings(&[(2, "e12"), (3, "e13"), (4, "e29")], &[], true));
    edge.order(orders);
    let refused: Vec<Part> = edge.wanted.refused.keys().cloned().collect();
    let expected = ["e13", "e17"].map(|name| Part::Peer(name.to_owned()));
    assert_eq!(refused, expected);
    assert!(edge.wanted.behind);
    assert_eq!(edge.place(2).as_deref(), Some("e12"));
    assert_eq!(edge.place(3), None);
    assert_eq!(edge.place(4).as_deref(), Some("e29"));
    // The operator's file can be changed meanwhile.
    let config = edge.wanted.adapt(&edge.local);
    assert_eq!(config.peers.len(), 1 + 18);
    // The next word is believed as far as it goes, and the rest when it can be.
    edge.order(vec![mappings(&[(5, "e10")], &[], false)]);
    assert_eq!(edge.place(5).as_deref(), Some("e10"));
    let gone = Change::RemovePeer { id: PeerId(4000) };
    edge.tables.transact(&[gone]).unwrap();
    edge.order(vec![]);
    assert!(!edge.wanted.behind && edge.wanted.refused.is_empty());
    assert_eq!(edge.place(3).as_deref(), Some("e13"));
}

/// Two edges that exchange addresses while this one hears nothing of it: one word tells of both.
#[test]
fn edges_and_networks_exchange_what_they_have() {
    let mut edge = Follower::new();
    edge.order(joined());
    edge.order(vec![
        peer_at("b", &["192.0.2.2", "192.0.2.12"]),
        peer("c", "192.0.2.3"),
        edges(&["b", "c"]),
        mappings(&[(2, "b"), (3, "c")], &[], true),
    ]);
    let steps = edge.order(vec![
        peer_at("b", &["192.0.2.3", "192.0.2.12"]),
        peer("c", "192.0.2.2"),
    ]);
    assert!(!edge.wanted.behind && edge.wanted.told.is_empty());
    // No tunnel went, so no key.
    assert!(steps.freed.is_empty());
    let owner = |edge: &Follower, at: &str| {
        let id = edge.tables.peer_by_address(at.parse().unwrap())?;
        let place = edge.plan.peers.iter().position(|peer| *peer == id)?;
        Some(edge.config.peers[place].name.clone())
    };
    assert_eq!(owner(&edge, "192.0.2.2").as_deref(), Some("c"));
    assert_eq!(owner(&edge, "192.0.2.3").as_deref(), Some("b"));
    assert_eq!(owner(&edge, "192.0.2.12").as_deref(), Some("b"));
    assert_eq!(edge.tables.peers().count(), 3);
    assert_eq!(edge.place(2).as_deref(), Some("b"));
    assert_eq!(edge.place(3).as_deref(), Some("c"));
}
