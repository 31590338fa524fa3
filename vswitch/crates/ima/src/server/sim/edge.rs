//! An edge of the simulation: a client, what its ports want, and what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vswitch_control::client::{Addresses, Client, Settings};
use vswitch_control::message::decode;
use vswitch_control::message::overlay::{Endpoint, Ips, Mapping};
use vswitch_control::types::{BootId, Epoch, Generation, Mac, NveName, VnName};

use super::session::Session;
use super::{SERVERS, VNS, Wanted, address, name, vn};

pub fn identity(n: usize) -> String {
    format!("spiffe://lab/nve/{}", name(n))
}

pub fn endpoint(n: usize) -> Endpoint {
    let last = u8::try_from(n).unwrap() + 1;
    Endpoint {
        tunnel_addresses: vec![[192, 0, 2, last].into()].try_into().unwrap(),
        control_address: ([192, 0, 2, last], 4600).into(),
    }
}

pub fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

pub fn ips(n: u8) -> Ips {
    vec![[10, 0, 0, n].into()].try_into().unwrap()
}

/// What an edge was told of a network that it is on.
#[derive(Debug, Default)]
pub struct View {
    pub epoch: Epoch,
    pub members: BTreeMap<NveName, Endpoint>,
    pub mappings: BTreeMap<Mac, Mapping>,
    pub admitted: BTreeSet<Mac>,
    /// The latest that was said of each address.
    pub latest: BTreeMap<Mac, Generation>,
}

pub struct Edge {
    n: usize,
    pub client: Client,
    pub session: Option<Session>,
    /// When it notices that the session is gone.
    pub lost: Option<Duration>,
    /// When a dial comes to its end, and to which server.
    pub dialling: Option<(Duration, usize)>,
    /// Networks that it is on.
    pub views: BTreeMap<VnName, View>,
    /// Machines behind its ports, by network.
    pub wanted: Wanted,
}

fn client(n: usize, seed: u64, now: Duration) -> Client {
    let mut boot = [0; 16];
    boot[..8].copy_from_slice(&seed.to_be_bytes());
    let settings = Settings {
        name: name(n),
        identity: identity(n),
        boot: BootId(boot),
        endpoint: endpoint(n),
        servers: (0..SERVERS).map(address).collect(),
        always_stop: false,
        queries: 100,
        port_queries: 100,
        seed,
    };
    Client::new(settings, now)
}

impl Edge {
    pub fn new(n: usize, seed: u64) -> Self {
        Self {
            n,
            client: client(n, seed, Duration::ZERO),
            session: None,
            lost: None,
            dialling: None,
            views: BTreeMap::new(),
            wanted: BTreeMap::new(),
        }
    }

    pub fn reboot(&mut self, now: Duration, seed: u64) {
        self.client = client(self.n, seed, now);
        (self.lost, self.dialling) = (None, None);
        self.views.clear();
        self.wish(now);
    }

    /// What the authority says.
    pub fn hear(&mut self, now: Duration, frame: &[u8]) {
        self.client.received(now, decode(frame).unwrap());
    }

    /// Tells the client what ports want.
    pub fn wish(&mut self, now: Duration) {
        let wanted = self.wanted.iter().map(|(vn, machines)| {
            let port = |n: &u8| (mac(*n), ("p".parse().unwrap(), ips(*n)));
            (vn.clone(), machines.iter().map(port).collect::<Addresses>())
        });
        self.client.want(now, wanted.collect());
    }

    /// A port more or less.
    pub fn plug(&mut self, now: Duration, rng: &mut fastrand::Rng, machines: u8) {
        let name = vn(rng.usize(..VNS.len()));
        match rng.u8(..6) {
            0 => {
                self.wanted.remove(&name);
            }
            _ => {
                let machine = rng.u8(1..=machines);
                let wanted = self.wanted.entry(name).or_default();
                match wanted.iter().position(|it| *it == machine) {
                    Some(at) => {
                        wanted.remove(at);
                    }
                    None => wanted.push(machine),
                }
            }
        }
        self.wish(now);
    }

    /// The client closes its session. It does so when it was told to, or heard nothing for long.
    pub fn closed(&self, why: &str, ended: bool) {
        let honest = ended || ["said goodbye", "the authority does not answer"].contains(&why);
        assert!(honest, "{}: {why}", name(self.n));
    }
}
