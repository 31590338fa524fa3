//! Which steps a change asks for, and that ids stay.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use vswitch_net::{Encapsulation, Vni};
use vswitch_vn::{Change, Peer, PeerId, PortId, Tables, TunnelId, VnConfig, VnId};

use super::plan::{Ids, Plan};
use super::steps::{Numbered, Steps};
use super::view::View;
use crate::manage::config::Config;

const RUNNING: &str = r#"
nve: {name: a}
eal: {memory: no-huge, memory-mb: 192}
workers: {cores: [0, 0], idle: yield}
underlay:
  ports: [{name: up0, device: net_ring_up0, addresses: ["192.0.2.1/24"]}]
devices: [{name: trunk0, device: net_ring_trunk0}]
peers:
  - {name: b, addresses: [192.0.2.2]}
  - {name: c, addresses: [192.0.2.3]}
vns:
  - {name: blue, vni: 100, edges: [b, c], mappings: [{mac: "52:54:00:00:00:02", peer: b}]}
  - {name: red, vni: 200, protection: none, edges: [b]}
ports:
  - name: one
    vn: blue
    vhost: {socket: /run/1.sock}
    addresses: [{mac: "52:54:00:00:00:01"}]
  - {name: two, vn: red, vlan: {device: trunk0, vid: 20}, learning: true}
security-associations:
  - {vn: blue, peer: b, direction: outbound, spi: 4096, algorithm: aes-128-gcm, key-file: 1.key}
  - {vn: blue, peer: b, direction: inbound, spi: 4097, algorithm: aes-128-gcm, key-file: 2.key}
"#;

struct Case {
    dir: tempfile::TempDir,
    config: Config,
    plan: Plan,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for n in 1..=4 {
            let file = dir.path().join(format!("{n}.key"));
            fs::write(&file, format!("0{n}").repeat(20)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let config = Config::parse(RUNNING, dir.path()).unwrap();
        let plan = Plan::first(&config).unwrap();
        Case { dir, config, plan }
    }

    fn changed(&self, replacements: &[(&str, &str)]) -> (Config, Plan) {
        let mut text = RUNNING.to_owned();
        for (old, new) in replacements {
            assert_eq!(text.matches(old).count(), 1, "{old}");
            text = text.replace(old, new);
        }
        let config = Config::parse(&text, self.dir.path()).unwrap_or_else(|e| panic!("{e}"));
        let plan = self.plan.next(&self.config, &config, &Ids::default());
        (config, plan.unwrap())
    }

    /// The steps, of which those of the tables are tried on tables, which must then be those
    /// of a switch that starts with the new configuration.
    fn steps(&self, replacements: &[(&str, &str)]) -> Steps {
        let (config, plan) = self.changed(replacements);
        let old = Numbered {
            config: &self.config,
            plan: &self.plan,
        };
        let new = Numbered {
            config: &config,
            plan: &plan,
        };
        let steps = Steps::between(old, new, 2);
        let start = |config: &Config, plan: &Plan| {
            let mut tables = Tables::new(7);
            let view = View::of(config, plan);
            let changes = View::default().changes(&view, 1);
            tables.transact(&changes).unwrap();
            tables
        };
        let mut tables = start(&self.config, &self.plan);
        tables.transact(&steps.tables).unwrap();
        let wanted = start(&config, &plan);
        assert!(
            tables
                .vns()
                .map(|(id, vn)| (id, &vn.config))
                .eq(wanted.vns().map(|(id, vn)| (id, &vn.config)))
        );
        assert!(tables.ports().eq(wanted.ports()));
        assert!(tables.peers().eq(wanted.peers()));
        assert!(tables.tunnels().eq(wanted.tunnels()));
        let mappings = |tables: &Tables| {
            let mut all: Vec<_> = tables
                .mappings()
                .map(|(key, m)| (key.vn(), key.mac(), m.ips.to_vec(), m.destination))
                .collect();
            all.sort_unstable();
            all
        };
        assert_eq!(mappings(&tables), mappings(&wanted));
        steps
    }
}

#[test]
fn nothing_to_do_is_nothing() {
    let steps = Case::new().steps(&[]);
    assert_eq!(format!("{steps:?}"), format!("{:?}", Steps::default()));
}

#[test]
fn ids_stay_and_those_that_rest_are_not_given_away() {
    let case = Case::new();
    let front = (
        "vns:\n",
        "vns:\n  - {name: green, vni: 300, protection: none, edges: [c]}\n",
    );
    let (config, plan) = case.changed(&[front]);
    // In front of the others in the file, behind them in numbers.
    assert_eq!(plan.vns, [VnId(2), VnId(0), VnId(1)]);
    assert_eq!(plan.vn_place(VnId(2)), Some(0));
    let tunnels: Vec<TunnelId> = plan.tunnels.keys().copied().collect();
    assert_eq!(tunnels, [0, 1, 2, 3].map(TunnelId));
    let green = config.vns[0].edges[0];
    assert_eq!(
        plan.tunnel(crate::manage::config::VnId(0), green),
        Some(TunnelId(3))
    );

    let gone = (
        "  - {name: two, vn: red, vlan: {device: trunk0, vid: 20}, learning: true}\n",
        "",
    );
    let (without, plan) = case.changed(&[gone]);
    assert_eq!(plan.ports, [PortId(0)]);
    let mut resting = Ids::default();
    resting.ports.insert(PortId(1));
    let again = plan.next(&without, &case.config, &resting).unwrap();
    assert_eq!(again.ports, [PortId(0), PortId(2)]);
    let again = plan.next(&without, &case.config, &Ids::default()).unwrap();
    assert_eq!(again.ports, [PortId(0), PortId(1)]);
}

#[test]
fn a_port_in_another_network_is_another_port_and_its_tenant_stays_connected() {
    let case = Case::new();
    let steps = case.steps(&[("    vn: blue\n    vhost", "    vn: red\n    vhost")]);
    assert_eq!(steps.removed_ports, [PortId(0)]);
    assert_eq!(steps.moved, [(PortId(0), PortId(2))]);
    assert!(steps.opened.is_empty() && steps.closed.is_empty() && steps.reopened.is_empty());
    assert_eq!(
        steps.freed.ports.iter().copied().collect::<Vec<_>>(),
        [PortId(0)]
    );
}

#[test]
fn sockets_are_known_by_their_paths() {
    let case = Case::new();
    let renamed = case.steps(&[("name: one", "name: uno")]);
    assert_eq!(renamed.moved, [(PortId(0), PortId(2))]);
    let other = case.steps(&[("{socket: /run/1.sock}", "{socket: /run/1.sock, queues: 2}")]);
    assert_eq!(other.reopened, [(PortId(0), 0)]);
    assert!(other.closed.is_empty() && other.opened.is_empty() && other.moved.is_empty());
    let elsewhere = case.steps(&[("/run/1.sock", "/run/9.sock")]);
    assert_eq!(
        (elsewhere.closed, elsewhere.opened),
        (vec![PortId(0)], vec![0])
    );
    let worker = case.steps(&[("    vn: blue\n", "    vn: blue\n    worker: 1\n")]);
    assert_eq!(worker.redistributed, [PortId(0)]);
    assert!(worker.tables.is_empty() && worker.ports.is_empty());
}

#[test]
fn a_vlan_moves_and_bindings_change_in_place() {
    let case = Case::new();
    let steps = case.steps(&[("vid: 20", "vid: 21")]);
    assert_eq!(
        (steps.ports.as_slice(), steps.removed_ports.len()),
        (&[1][..], 0)
    );
    let steps = case.steps(&[("52:54:00:00:00:01", "52:54:00:00:00:07")]);
    assert_eq!(
        (steps.ports.as_slice(), steps.removed_ports.len()),
        (&[0][..], 0)
    );
    assert_eq!(steps.tables.len(), 2);
    let steps = case.steps(&[("learning: true}", "learning: true, bum-rate: 7}")]);
    assert!(steps.tables.is_empty());
    assert_eq!(steps.ports, [1]);
}

#[test]
fn keys_are_replaced_in_place_and_one_that_stays_waits_for_its_floor() {
    let case = Case::new();
    let steps = case.steps(&[("key-file: 1.key", "key-file: 3.key")]);
    assert_eq!(
        (steps.outbound.as_slice(), steps.outbound_removed.len()),
        (&[0][..], 0)
    );
    assert!(steps.inbound.is_empty() && steps.inbound_removed.is_empty());
    // A new key beside the old one: nothing is removed.
    let more = "key-file: 2.key}\n  - {vn: blue, peer: b, direction: inbound, spi: 5000, \
                algorithm: aes-128-gcm, key-file: 3.key}";
    let steps = case.steps(&[("key-file: 2.key}", more)]);
    assert_eq!(
        (steps.inbound.as_slice(), steps.inbound_removed.len()),
        (&[2][..], 0)
    );
    // The same key under another SPI, with another worker, or of a wider window.
    for other in [
        ("spi: 4097,", "spi: 4099,"),
        ("spi: 4097,", "spi: 4097, worker: 1,"),
        ("spi: 4097,", "spi: 4097, replay-window: 8192,"),
    ] {
        let steps = case.steps(&[other]);
        assert_eq!(steps.inbound_later, [1], "{other:?}");
        assert_eq!(steps.inbound_removed.len(), 1);
        assert!(steps.inbound.is_empty());
    }
    let steps = case.steps(&[("spi: 4096,", "spi: 4096, worker: 1,")]);
    assert_eq!(steps.outbound_removed, [(0, TunnelId(0))]);
    assert_eq!(steps.owners, [(TunnelId(0), Some(1))]);
}

#[test]
fn peers_and_vnis_hand_over_and_swap() {
    let case = Case::new();
    let handed = [("192.0.2.3", "192.0.2.4"), ("[192.0.2.2]", "[192.0.2.3]")];
    let steps = case.steps(&handed);
    assert_eq!(steps.peers, [0, 1]);
    // In a row, against the order of ids: nobody has to stand aside.
    let vnis = [("vni: 200", "vni: 201"), ("vni: 100", "vni: 200")];
    assert_eq!(case.steps(&vnis).tables.len(), 2);
    let swapped = case.steps(&[
        ("vni: 100", "vni: x"),
        ("vni: 200", "vni: 100"),
        ("vni: x", "vni: 200"),
    ]);
    assert_eq!(swapped.tables.len(), 3);
    let swapped = case.steps(&[
        ("addresses: [192.0.2.2]", "addresses: [x]"),
        ("addresses: [192.0.2.3]", "addresses: [192.0.2.2]"),
        ("addresses: [x]", "addresses: [192.0.2.3]"),
    ]);
    assert_eq!(swapped.tables.len(), 3);
    // Both, and nothing of either goes: no id, so no key.
    assert_eq!(swapped.peers, [0, 1]);
    assert!(swapped.freed.is_empty());
}

/// Whatever three have and are to have: an order is found, and only exchanges cost more than a
/// change for each.
#[test]
fn all_ways_to_hand_over() {
    let all: Vec<[u32; 3]> = (0..64)
        .map(|n| [n % 4, n / 4 % 4, n / 16])
        .filter(|n| n[0] != n[1] && n[0] != n[2] && n[1] != n[2])
        .collect();
    assert_eq!(all.len(), 24);
    let view = |ends: &[u32; 3]| {
        let mut view = View::default();
        for (id, end) in (0..).zip(ends) {
            let peer = Peer {
                addresses: vec![IpAddr::V4((0xc000_0200 + end).into())].into(),
                encapsulation: Encapsulation::Geneve,
            };
            view.peers.insert(PeerId(id), peer);
            let vni = Vni::new(100 + end).unwrap();
            view.vns.insert(VnId(id as u16), VnConfig::new(vni, 65_535));
        }
        view
    };
    for old in &all {
        for new in &all {
            let (before, after) = (view(old), view(new));
            let mut tables = Tables::new(7);
            let changes = View::default().changes(&before, 1);
            tables.transact(&changes).unwrap();
            let changes = before.changes(&after, 2);
            tables.transact(&changes).unwrap();
            let moved = (0..3).filter(|i| old[*i] != new[*i]).count();
            // Who has what this one is to have, and so on, back to this one.
            let circle = |i: usize| {
                let holder = |at: usize| old.iter().position(|n| *n == new[at]);
                let ring = [Some(i), holder(i), holder(i).and_then(holder)];
                old[i] != new[i] && ring.into_iter().flatten().any(|at| holder(at) == Some(i))
            };
            let aside = usize::from((0..3).any(circle));
            assert_eq!(changes.len(), 2 * (moved + aside), "{old:?} to {new:?}");
            for (id, peer) in tables.peers() {
                assert_eq!(*peer, after.peers[&id]);
            }
            for (id, vn) in tables.vns() {
                assert_eq!(vn.config, after.vns[&id]);
            }
        }
    }
}

#[test]
fn a_network_goes_with_all_that_is_in_it() {
    let case = Case::new();
    let steps = case.steps(&[
        (
            "  - {name: red, vni: 200, protection: none, edges: [b]}\n",
            "",
        ),
        (
            "  - {name: two, vn: red, vlan: {device: trunk0, vid: 20}, learning: true}\n",
            "",
        ),
    ]);
    assert_eq!(steps.tables, [Change::RemoveVn { id: VnId(1) }]);
    assert_eq!(steps.removed_ports, [PortId(1)]);
    let mut freed = Ids::default();
    freed.vns.insert(VnId(1));
    freed.ports.insert(PortId(1));
    freed.tunnels.insert(TunnelId(2));
    assert_eq!(steps.freed, freed);
}
