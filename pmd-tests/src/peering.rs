//! Configurations of one edge, host `a`, whose peers are other people's programs: networks
//! with tenant 1 here and tenant 2 over there.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use crate::guest::Guest;
use crate::lab::DIR;
use crate::wire::{Algorithm, Encapsulation, Sa};

/// A network, tenant 1 of which is here and tenant 2 at its peer.
#[derive(Debug, Clone)]
pub struct Network {
    /// Name.
    pub name: &'static str,
    /// Identifier.
    pub vni: u32,
    /// The peer's address. Networks with one address have one peer.
    pub peer: IpAddr,
    /// Tunnel header; one for each peer.
    pub encapsulation: Encapsulation,
    /// Algorithm, and whether sequence numbers have 64 bits; `None`: no protection.
    pub protection: Option<(Algorithm, bool)>,
}

/// What a network adds to a section of the file.
type Lines = fn(&Network) -> Vec<String>;

/// Host `a`.
#[derive(Debug, Clone)]
pub struct Peering {
    /// DPDK's string of the underlay port.
    pub underlay: String,
    /// Addresses on it, with prefix length.
    pub addresses: Vec<&'static str>,
    /// The tap; without one, `neighbour` is the MAC address of every peer.
    pub tap: Option<&'static str>,
    /// MAC address of all peers where there is no tap.
    pub neighbour: Option<&'static str>,
    /// Networks.
    pub networks: Vec<Network>,
}

impl Network {
    /// The association from here to the peer, as both ends know it.
    pub fn outbound(&self) -> Option<Sa> {
        let (algorithm, _) = self.protection?;
        Some(Sa::new(0x10_0000 | self.vni, algorithm))
    }

    /// The association from the peer to here.
    pub fn inbound(&self) -> Option<Sa> {
        let (algorithm, _) = self.protection?;
        Some(Sa::new(0x20_0000 | self.vni, algorithm))
    }

    /// The vhost socket of its tenant, made by whoever the tenant is.
    pub fn socket(&self) -> String {
        format!("{DIR}/{}.sock", self.name)
    }

    /// What the configuration calls its peer.
    pub fn peer_name(&self) -> String {
        format!("peer-{}", self.peer.to_string().replace(':', "-"))
    }

    fn port_yaml(&self) -> String {
        format!(
            "  - {{name: port-{0}, vn: {0}, vhost: {{socket: {1}, peer-uid: 0}}, \
             addresses: [{{mac: \"52:54:00:00:00:01\"}}]}}",
            self.name,
            self.socket()
        )
    }

    fn vn_yaml(&self) -> String {
        let protection = match self.protection {
            Some(_) => "confidential",
            None => "none",
        };
        format!(
            "  - {{name: {0}, vni: {1}, protection: {protection}, edges: [{2}], \
             mappings: [{{mac: \"52:54:00:00:00:02\", peer: {2}}}]}}",
            self.name,
            self.vni,
            self.peer_name()
        )
    }

    fn sas_yaml(&self) -> Vec<String> {
        let Some((algorithm, esn)) = self.protection else {
            return vec![];
        };
        let ends = [("outbound", self.outbound()), ("inbound", self.inbound())];
        let ends = ends.into_iter().filter_map(|(d, sa)| Some((d, sa?)));
        ends.map(|(direction, sa)| {
            let file = format!("{DIR}/{:x}.key", sa.spi);
            fs::write(&file, sa.key_file()).expect("key file");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode");
            format!(
                "  - {{vn: {}, peer: {}, direction: {direction}, spi: {}, algorithm: {}, \
                 esn: {esn}, key-file: {file}}}",
                self.name,
                self.peer_name(),
                sa.spi,
                algorithm.name()
            )
        })
        .collect()
    }
}

impl Peering {
    /// One guest that is the tenant of all networks, on eth0, eth1 and so on in their order.
    /// It has 10.0.0.1 and fd00::1 in the first, and 10.0.N.1 and fd00:N::1 in the others.
    pub fn tenant(&self) -> Guest {
        let sockets: Vec<String> = self.networks.iter().map(Network::socket).collect();
        let guest = Guest::start("tenant", 1, &sockets.join(","), "client", &[]);
        for n in 1..sockets.len() {
            guest.sh(&format!(
                "ip link set eth{n} mtu 1380 up
                 ip address add 10.0.{n}.1/24 dev eth{n}
                 ip address add fd00:{n}::1/64 dev eth{n} nodad"
            ));
        }
        guest
    }

    fn peers(&self) -> BTreeMap<IpAddr, Vec<&Network>> {
        let mut peers = BTreeMap::<_, Vec<_>>::new();
        for network in &self.networks {
            peers.entry(network.peer).or_default().push(network);
        }
        peers
    }

    /// The configuration file. Key files are written beside it.
    pub fn yaml(&self) -> String {
        let mut y = String::new();
        let mut line = |text: &str| writeln!(y, "{text}").expect("a string");
        line("nve: {name: a}");
        line("eal: {memory: no-huge, memory-mb: 256, file-prefix: a}");
        line(&format!(
            "workers: {{cores: [0], idle: yield, aead: {}}}",
            crate::aead::name()
        ));
        line("mempool: {mbufs: 8192, data-room: 2048}");
        line(&format!("state-dir: {DIR}/state-a"));
        line(&format!("api: {{socket: {DIR}/a.api}}"));
        line("underlay:");
        line("  ports:");
        line("    - name: up0");
        line(&format!("      device: \"{}\"", self.underlay));
        let quoted = self.addresses.iter().map(|a| format!("\"{a}\""));
        let addresses: Vec<String> = quoted.collect();
        line(&format!("      addresses: [{}]", addresses.join(", ")));
        if let Some(tap) = self.tap {
            line(&format!("      tap: {tap}"));
        }
        if let Some(mac) = self.neighbour {
            line("      neighbours:");
            for address in self.peers().into_keys() {
                line(&format!(
                    "        - {{address: \"{address}\", mac: \"{mac}\"}}"
                ));
            }
        }
        line("peers:");
        for (address, of) in self.peers() {
            let encapsulation = match of[0].encapsulation {
                Encapsulation::Geneve => "geneve",
                Encapsulation::Vxlan => "vxlan",
            };
            let foreign = of.iter().any(|network| network.protection.is_some());
            line(&format!(
                "  - {{name: {}, addresses: [\"{address}\"], encapsulation: {encapsulation}, \
                 foreign: {foreign}}}",
                of[0].peer_name()
            ));
        }
        let sections: [(&str, Lines); 3] = [
            ("vns:", |n| vec![n.vn_yaml()]),
            ("ports:", |n| vec![n.port_yaml()]),
            ("security-associations:", Network::sas_yaml),
        ];
        for (section, of) in sections {
            let lines: Vec<String> = self.networks.iter().flat_map(of).collect();
            if !lines.is_empty() {
                line(section);
                lines.iter().for_each(|text| line(text));
            }
        }
        y
    }
}
