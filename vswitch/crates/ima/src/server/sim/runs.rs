//! Many worlds, each by the number that it grows from.

use std::time::Duration;

use vswitch_control::message::ima::Wanted;
use vswitch_control::message::operator::{Change, Text};
use vswitch_control::message::overlay::{Admission, LeaseEnd, Placement, Protection, VnSettings};

use super::edge::{ips, mac};
use super::faults::Seen;
use super::{EDGES, MACHINES, SERVERS, VNS, World, name, vn};

fn add(network: usize) -> Change {
    let settings = VnSettings {
        vni: u32::try_from(network + 1).unwrap().try_into().unwrap(),
        protection: Protection::Confidential,
        lease_end: LeaseEnd::Stop,
        admission: [Admission::Strict, Admission::FirstClaim][network],
    };
    Change::VnAdd {
        vn: vn(network),
        settings,
    }
}

fn member(network: usize, n: usize) -> Change {
    let (vn, nve) = (vn(network), name(n));
    Change::MemberAdd { vn, nve }
}

fn place(network: usize, machine: u8, n: usize) -> Change {
    let placement = Placement {
        mac: mac(machine),
        ips: ips(machine),
        nve: name(n),
        port: "p".parse().unwrap(),
    };
    let vn = vn(network);
    Change::PlacementAdd { vn, placement }
}

impl World {
    /// Both networks, every edge a member and with a machine or two.
    fn grown(seed: u64) -> Self {
        let mut world = Self::new(seed);
        for network in 0..VNS.len() {
            assert!(world.change(&add(network)));
            for n in 0..EDGES.len() {
                world.settle_servers();
                assert!(world.change(&member(network, n)));
            }
        }
        for n in 0..EDGES.len() {
            let machine = u8::try_from(n).unwrap() + 1;
            world.settle_servers();
            assert!(world.change(&place(0, machine, n)));
            for network in 0..VNS.len() {
                let wanted = world.edges[n].wanted.entry(vn(network)).or_default();
                wanted.push(machine);
            }
            world.edges[n].wish(Duration::ZERO);
        }
        world
    }

    fn settle_servers(&mut self) {
        (0..SERVERS).for_each(|at| self.catch_up(at));
    }

    /// One of the things that happen.
    fn happen(&mut self) {
        let (n, network) = (self.rng.usize(..EDGES.len()), self.rng.usize(..VNS.len()));
        let machine = self.rng.u8(1..=MACHINES);
        let nve = name(n);
        let vn = vn(network);
        match self.rng.u8(..42) {
            0..=7 => {
                let now = self.now;
                let edge = &mut self.edges[n];
                edge.plug(now, &mut self.rng, MACHINES);
            }
            8..=13 => {
                self.change(&place(network, machine, n));
            }
            14..=16 => {
                self.change(&Change::PlacementMove {
                    vn,
                    mac: mac(machine),
                    nve,
                    port: None,
                });
            }
            17 => {
                let mac = mac(machine);
                self.change(&Change::PlacementRemove { vn, mac });
            }
            18..=20 => self.rights(network, &[n], &Change::MemberRemove { vn, nve }),
            21..=24 => self.rights(network, &[n], &Change::MemberAdd { vn, nve }),
            25 => {
                let reason = Text::of("lost");
                self.rights(0, &[n], &Change::Revoke { nve, reason });
                self.bound(n, 1);
            }
            26..=27 => {
                self.rights(0, &[n], &Change::Unrevoke { nve });
                self.bound(n, 1);
            }
            28 => self.rights(network, &[0, 1, 2, 3], &Change::VnRemove { vn }),
            29..=30 => {
                // Those of before were members of another network of this name.
                self.bounds.retain(|(_, of), _| *of != vn);
                self.rights(network, &[0, 1, 2, 3], &add(network));
                for n in 0..EDGES.len() {
                    self.rights(network, &[n], &member(network, n));
                }
            }
            31..=33 => {
                // Perhaps in the middle of something.
                if self.rng.bool() {
                    let now = self.now;
                    self.edges[n].plug(now, &mut self.rng, MACHINES);
                    self.change(&place(network, machine, n));
                    let pause = self.rng.u64(..20);
                    self.run(Duration::from_millis(pause));
                }
                self.cut(n);
            }
            34 => self.reboot(n),
            35 => self.restart(network % SERVERS),
            36..=37 => {
                self.tear(n);
            }
            39..=40 => self.tear_store(n % SERVERS),
            38 => {
                let (now, port) = (self.now, "p".parse().unwrap());
                let what = Wanted::Mac(mac(machine));
                self.edges[n].client.unknown(now, &vn, &port, what);
            }
            _ => {
                let pause = self.rng.u64(1..90_000);
                self.run(Duration::from_millis(pause));
            }
        }
    }

    /// A change of who may what.
    fn rights(&mut self, network: usize, edges: &[usize], change: &Change) {
        self.change(change);
        for n in edges {
            self.bound(*n, network);
        }
    }

    /// Nothing happens any more, and everything is in reach.
    fn rest(&mut self) {
        self.mend();
        self.run(Duration::from_secs(400));
        // The last moment may have had a renewal, of which the other servers hear in the next ones.
        for _ in 0..100 {
            let mut servers = self.servers.iter();
            if !servers.any(|at| at.broken || self.store.is_behind(&at.known)) {
                break;
            }
            self.run(Duration::from_millis(20));
        }
        self.check();
    }
}

#[test]
fn edges_know_what_is_so_and_nothing_else() {
    let (mut seen, mut joined) = (Seen::default(), 0);
    for seed in 0..60 {
        println!("seed {seed}");
        let mut world = World::grown(seed);
        world.run(Duration::from_secs(10));
        for _ in 0..40 {
            world.happen();
            let pause = Duration::from_millis(world.rng.u64(1..2000));
            world.run(pause);
        }
        world.rest();
        seen.add(&world.seen);
        joined += world
            .edges
            .iter()
            .flat_map(|edge| edge.views.values())
            .filter(|view| !view.is_empty())
            .count();
    }
    println!("{seen:?}");
    seen.check();
    assert!(
        joined > 100,
        "most edges are where they want to be: {joined}"
    );
}

/// What each test relies on: with nothing in the way all of it is known soon.
#[test]
fn a_calm_world_is_known_within_seconds() {
    let mut world = World::grown(1);
    world.run(Duration::from_secs(30));
    world.check();
    assert!(world.edges.iter().all(|edge| edge.views.len() == VNS.len()));
    // A machine moves.
    world.edges[1].wanted.get_mut(&vn(0)).unwrap().push(1);
    let now = world.now;
    world.edges[1].wish(now);
    world.change(&Change::PlacementMove {
        vn: vn(0),
        mac: mac(1),
        nve: name(1),
        port: None,
    });
    world.run(Duration::from_secs(30));
    world.check();
    assert_eq!(world.edges[2].views[&vn(0)].mappings[&mac(1)].nve, name(1));
}
