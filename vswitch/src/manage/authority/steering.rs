//! Which local worker owns an inbound SA: that of the network's ports here, else the one with the
//! sender's number, so that what one worker sends one worker opens. And which SPIs bring it there: an
//! SA's outer ports follow from its SPI, so where a port's RSS is known, the queue does as well.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use vswitch_control::keying;
use vswitch_control::types::{NveName, VnName};
use vswitch_net::IpVersion;
use vswitch_net::rss::{Fields, Flow, Spread};

use crate::datapath::source_port;
use crate::manage::config::{Config, Direction, IpPrefix};

/// What the choice depends on; the loop renews it with the configuration and with members.
#[derive(Debug, Default)]
struct Facts {
    workers: u16,
    /// Of networks whose ports one worker owns.
    owners: BTreeMap<String, u16>,
    /// SPIs of manual SAs.
    taken: BTreeSet<u32>,
    /// Our tunnel endpoints, the preferred one first.
    local: Vec<IpAddr>,
    esp_port: u16,
    /// Of each underlay port.
    addresses: Vec<Vec<IpPrefix>>,
    spreads: Vec<Option<Spread>>,
    /// Other edges' tunnel endpoints, the preferred one first.
    peers: BTreeMap<NveName, Vec<IpAddr>>,
}

/// Cloned freely; all clones know the same.
#[derive(Debug, Clone)]
pub(super) struct Steering(Arc<Mutex<Facts>>);

impl Steering {
    /// `spreads` are those of the underlay's ports, by index of the configuration.
    pub(super) fn new(config: &Config, workers: u16, spreads: Vec<Option<Spread>>) -> Steering {
        let facts = Facts {
            spreads,
            ..Facts::default()
        };
        let steering = Steering(Arc::new(Mutex::new(facts)));
        steering.follow(config, workers);
        steering
    }

    pub(super) fn follow(&self, config: &Config, workers: u16) {
        let mut owners: BTreeMap<String, Option<u16>> = BTreeMap::new();
        for port in &config.ports {
            let Some(vn) = config.vns.get(port.vn.index()) else {
                continue;
            };
            let owner = owners.entry(vn.name.clone()).or_insert(port.worker);
            if *owner != port.worker {
                *owner = None;
            }
        }
        let inbound = config.security_associations.iter();
        let taken = inbound
            .filter(|sa| sa.direction == Direction::Inbound)
            .map(|sa| sa.spi.get())
            .collect();
        let underlay = &config.underlay;
        let ports = underlay.ports.iter();
        let addresses = ports.map(|port| port.addresses.clone()).collect();
        self.with(|facts| {
            facts.workers = workers.max(1);
            facts.owners = owners
                .into_iter()
                .filter_map(|(vn, owner)| Some((vn, owner?)))
                .collect();
            facts.taken = taken;
            facts.local.clone_from(&underlay.local);
            facts.esp_port = underlay.esp_port;
            facts.addresses = addresses;
        });
    }

    /// Where another edge is.
    pub(super) fn peer_at(&self, peer: NveName, addresses: Vec<IpAddr>) {
        self.with(|facts| facts.peers.insert(peer, addresses));
    }

    /// It is nobody's neighbour any more.
    pub(super) fn forget(&self, peer: &NveName) {
        self.with(|facts| facts.peers.remove(peer));
    }

    fn with<T>(&self, of: impl FnOnce(&mut Facts) -> T) -> T {
        of(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Facts {
    /// Source and destination of a peer's packets, chosen as a sender chooses them (`Control::paths_of`
    /// over there): to the first of our endpoints that it has an address for, from one in the
    /// same prefix, else from its first. When it sends otherwise because a path is down, workers
    /// hand over.
    fn ends(&self, peer: &NveName) -> Option<(IpAddr, IpAddr)> {
        let theirs = self.peers.get(peer)?;
        self.local.iter().find_map(|dst| {
            let mut alike = theirs.iter().filter(|src| src.is_ipv4() == dst.is_ipv4());
            let first = alike.clone().next()?;
            let nets = self.addresses.iter().flatten();
            let net = nets.copied().find(|net| net.addr == *dst);
            let near = alike.find(|src| net.is_some_and(|net| net.contains(**src)));
            Some((*near.unwrap_or(first), *dst))
        })
    }

    /// What is known of the ports at which packets for one of our endpoints arrive: the port that has
    /// the address, or any, if the network routes it here.
    fn arrivals(&self, dst: IpAddr) -> impl Iterator<Item = &Spread> {
        let has = move |nets: &Vec<IpPrefix>| nets.iter().any(|net| net.addr == dst);
        let routed = !self.addresses.iter().any(has);
        let ports = self.addresses.iter().zip(&self.spreads);
        ports.filter_map(move |(nets, spread)| spread.as_ref().filter(|_| routed || has(nets)))
    }
}

impl keying::Steering for Steering {
    fn owner(&self, vn: &VnName, _peer: &NveName, sender_worker: u16) -> u16 {
        self.with(|facts| match facts.owners.get(vn.as_str()) {
            Some(owner) => *owner,
            None => sender_worker % facts.workers.max(1),
        })
    }

    fn free(&self, spi: u32) -> bool {
        self.with(|facts| !facts.taken.contains(&spi))
    }

    /// At every port where its packets may arrive. Queue *i* is worker *i*'s. A port makes no
    /// difference whose RSS is not known, or leaves ports out, or has no queue of the worker's: there
    /// any SPI is as good, and packets are handed to the owner, which is counted.
    fn steers(&self, peer: &NveName, spi: u32, worker: u16) -> bool {
        self.with(|facts| {
            let Some((src, dst)) = facts.ends(peer) else {
                return true;
            };
            let flow = Flow {
                src,
                dst,
                src_port: source_port(spi),
                dst_port: facts.esp_port,
            };
            let by_port = Some(Fields::AddressesAndPorts);
            facts
                .arrivals(dst)
                .filter(|spread| spread.fields(IpVersion::of(dst)) == by_port)
                .filter(|spread| spread.reaches(worker))
                .all(|spread| spread.queue(&flow) == Some(worker))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use keying::Steering as _;
    use vswitch_net::rss::{KEY_BYTES, PUBLISHED_KEY};

    const PORTS: Option<Fields> = Some(Fields::AddressesAndPorts);
    const ADDRESSES: Option<Fields> = Some(Fields::Addresses);

    fn config(underlay: &str) -> Config {
        let text = format!("nve: {{name: a}}\nunderlay: {underlay}\n");
        Config::parse(&text, Path::new("/")).unwrap()
    }

    /// One port in one network.
    fn single() -> Config {
        config(
            r#"{ports: [{name: up0, device: net_ring0, tap: up0,
                addresses: ["192.0.2.1/24", "2001:db8::1/64"]}]}"#,
        )
    }

    fn spread(queues: u16, fields: (Option<Fields>, Option<Fields>)) -> Option<Spread> {
        let table = (0..queues).cycle().take(128).collect();
        Some(Spread::new(PUBLISHED_KEY, fields, table).unwrap())
    }

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    fn b() -> NveName {
        "b".parse().unwrap()
    }

    fn to(src: &str, dst: &str, spi: u32) -> Flow {
        Flow {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            src_port: source_port(spi),
            dst_port: 4500,
        }
    }

    /// For any peer, and whatever worker is to own its SA, one of as many SPIs as are tried comes there:
    /// over IPv4 and IPv6, with as many queues as there may be.
    #[test]
    fn an_spi_that_steers_is_found_and_comes_to_the_owner() {
        let tries = usize::from(keying::Config::default().steering_tries);
        let mut random = fastrand::Rng::with_seed(11);
        for queues in [2, 4, 8, 16] {
            let known = spread(queues, (PORTS, PORTS));
            let steering = Steering::new(&single(), queues, vec![known.clone()]);
            let known = known.unwrap();
            for _ in 0..50 {
                let v4 = format!("198.51.100.{}", random.u8(1..255));
                let v6 = format!("2001:db8:1::{:x}", random.u16(1..));
                let (src, dst) = match random.bool() {
                    true => (v4, "192.0.2.1"),
                    false => (v6, "2001:db8::1"),
                };
                steering.peer_at(b(), ips(&[&src]));
                for worker in 0..queues {
                    let mut spis = (0..tries).map(|_| random.u32(256..));
                    let spi = spis.find(|spi| steering.steers(&b(), *spi, worker));
                    let flow = to(&src, dst, spi.expect("one of 256 steers"));
                    assert_eq!(known.queue(&flow), Some(worker), "{flow:?}");
                }
            }
        }
    }

    /// How many of so many SPIs come to worker 1.
    fn steered(steering: &Steering) -> usize {
        let steers = |spi: &u32| steering.steers(&b(), *spi, 1);
        (1000..2000).filter(steers).count()
    }

    #[test]
    fn any_spi_will_do_where_it_makes_no_difference() {
        let all = [
            // Not known; hashed without ports, or not at all; no queue of the worker's.
            None,
            spread(4, (ADDRESSES, ADDRESSES)),
            spread(4, (None, PORTS)),
            spread(1, (PORTS, PORTS)),
        ];
        for spread in all {
            let steering = Steering::new(&single(), 4, vec![spread.clone()]);
            // Nobody knows where it is.
            assert_eq!(steered(&steering), 1000);
            steering.peer_at(b(), ips(&["192.0.2.2"]));
            assert_eq!(steered(&steering), 1000, "{spread:?}");
        }
        let steering = Steering::new(&single(), 4, vec![spread(4, (PORTS, None))]);
        steering.peer_at(b(), ips(&["192.0.2.2"]));
        assert!((200..300).contains(&steered(&steering)));
        // Over IPv6 it is not hashed here.
        steering.peer_at(b(), ips(&["2001:db8::2"]));
        assert_eq!(steered(&steering), 1000);
        steering.peer_at(b(), ips(&["192.0.2.2"]));
        assert!(steered(&steering) < 300);
        steering.forget(&b());
        assert_eq!(steered(&steering), 1000);
    }

    #[test]
    fn the_addresses_are_those_that_the_peer_will_use() {
        let two = config(
            r#"{local: ["192.0.2.1", "203.0.113.1", "2001:db8::1"], ports: [
                {name: up0, device: net_ring0, tap: up0, addresses: ["192.0.2.1/24"]},
                {name: up1, device: net_ring1, tap: up1,
                 addresses: ["203.0.113.1/24", "2001:db8::1/64"]}]}"#,
        );
        let steering = Steering::new(&two, 4, vec![None, None]);
        let ends = |addresses: &[&str]| {
            steering.peer_at(b(), ips(addresses));
            let ends = steering.with(|facts| facts.ends(&b()));
            ends.map(|(src, dst)| (src.to_string(), dst.to_string()))
        };
        let pair = |src: &str, dst: &str| Some((src.to_owned(), dst.to_owned()));
        // To our first, from its own in that network.
        let near = ends(&["203.0.113.2", "192.0.2.2"]);
        assert_eq!(near, pair("192.0.2.2", "192.0.2.1"));
        // Elsewhere: its first.
        let far = ends(&["198.51.100.9", "198.51.100.8"]);
        assert_eq!(far, pair("198.51.100.9", "192.0.2.1"));
        // With IPv6 alone: to the first that it can reach.
        assert_eq!(
            ends(&["2001:db8:9::2"]),
            pair("2001:db8:9::2", "2001:db8::1")
        );
        assert_eq!(ends(&[]), None);
    }

    /// Two ports with other keys: an SPI must suit the one that has the address, and both if none has.
    #[test]
    fn an_spi_suits_the_ports_where_its_packets_arrive() {
        let ports = r#"ports: [
            {name: up0, device: net_ring0, tap: up0, addresses: ["192.0.2.1/24"]},
            {name: up1, device: net_ring1, tap: up1, addresses: ["203.0.113.1/24"]}]"#;
        let other = std::array::from_fn::<u8, KEY_BYTES, _>(|i| PUBLISHED_KEY[KEY_BYTES - 1 - i]);
        let table: Vec<u16> = (0..4).cycle().take(64).collect();
        let first = spread(4, (PORTS, PORTS));
        let second = Spread::new(other, (PORTS, PORTS), table).unwrap();
        let spreads = vec![first.clone(), Some(second.clone())];
        let suits = |known: &Spread, dst: &str, spi: u32| {
            known.queue(&to("198.51.100.9", dst, spi)) == Some(1)
        };
        let first = first.unwrap();
        let mut differed = false;
        for dst in ["192.0.2.1", "203.0.113.1", "192.0.2.77"] {
            let local = config(&format!("{{local: [\"{dst}\"], {ports}}}"));
            let steering = Steering::new(&local, 4, spreads.clone());
            steering.peer_at(b(), ips(&["198.51.100.9"]));
            for spi in 1000..2000 {
                let (one, two) = (suits(&first, dst, spi), suits(&second, dst, spi));
                differed |= one != two;
                let expected = match dst {
                    "192.0.2.1" => one,
                    "203.0.113.1" => two,
                    _ => one && two,
                };
                assert_eq!(steering.steers(&b(), spi, 1), expected, "{dst} {spi}");
            }
        }
        assert!(differed);
    }
}
