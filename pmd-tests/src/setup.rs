//! Configurations of the edge under test, host `a`, and what its peers know of it.

use std::fmt::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vswitch::manage::config::Config;

use crate::frames::{self, Mac};
use crate::wire::{Algorithm, Encapsulation, Sa};

/// A VLAN port: a tenant of this edge, behind the trunk.
#[derive(Debug, Clone)]
pub struct VlanPort {
    /// Name.
    pub name: &'static str,
    /// VLAN on the trunk.
    pub vid: u16,
    /// Addresses placed on it.
    pub macs: Vec<Mac>,
    /// Whether it learns.
    pub learning: bool,
    /// Broadcasts per second.
    pub bum_rate: u32,
}

/// A port with one tenant.
pub fn port(name: &'static str, vid: u16, tenant: u8) -> VlanPort {
    VlanPort {
        name,
        vid,
        macs: vec![frames::mac(tenant)],
        learning: false,
        bum_rate: 100_000,
    }
}

/// A vhost-user port: a tenant of this edge, bound to its addresses.
#[derive(Debug, Clone)]
pub struct VhostPort {
    /// Name.
    pub name: &'static str,
    /// Its number: its MAC and, if the network lists them, its IP addresses.
    pub tenant: u8,
    /// Broadcasts per second.
    pub bum_rate: u32,
}

/// A virtual network.
#[derive(Debug, Clone)]
pub struct Vn {
    /// Name.
    pub name: &'static str,
    /// Identifier.
    pub vni: u32,
    /// `confidential`, `integrity` or `none`.
    pub protection: &'static str,
    /// Algorithm of its SAs.
    pub algorithm: Algorithm,
    /// `drop` or `flood`.
    pub unknown_unicast: &'static str,
    /// Whether remote addresses are learned.
    pub learning: bool,
    /// Whether ports and mappings list each tenant's IPv4 and IPv6 address.
    pub list_ips: bool,
    /// Peers that are its edges.
    pub edges: Vec<&'static str>,
    /// Remote addresses and whose they are.
    pub mappings: Vec<(Mac, &'static str)>,
    /// Local ports.
    pub ports: Vec<VlanPort>,
    /// Local ports of virtual machines.
    pub tenants: Vec<VhostPort>,
}

impl Vn {
    /// The list of a tenant's addresses as the configuration writes it.
    fn ips(&self, mac: Mac) -> String {
        let [.., n] = mac;
        match self.list_ips {
            true => format!(", ips: [\"{}\", \"{}\"]", frames::ip4(n), frames::ip6(n)),
            false => String::new(),
        }
    }

    /// Tenants 1 (VLAN 101) and 3 (VLAN 103) here, tenant 2 at peer `b`.
    pub fn blue() -> Self {
        Vn {
            name: "blue",
            vni: 1001,
            protection: "confidential",
            algorithm: Algorithm::Gcm256,
            unknown_unicast: "drop",
            learning: false,
            list_ips: false,
            edges: vec!["b"],
            mappings: vec![(frames::mac(2), "b")],
            ports: vec![port("blue-1", 101, 1), port("blue-3", 103, 3)],
            tenants: Vec::new(),
        }
    }

    /// The same tenant addresses in another network, on VLANs 201 and 203.
    pub fn red() -> Self {
        Vn {
            name: "red",
            vni: 2002,
            ports: vec![port("red-1", 201, 1), port("red-3", 203, 3)],
            ..Vn::blue()
        }
    }
}

/// Another edge, played by the test.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Name.
    pub name: &'static str,
    /// MAC on the underlay.
    pub mac: Mac,
    /// Address.
    pub address: IpAddr,
    /// What it is sent.
    pub encapsulation: Encapsulation,
    /// `auto` or a port.
    pub esp_source_port: &'static str,
    /// Not our software.
    pub foreign: bool,
}

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Workers, all on one core.
    pub workers: u16,
    /// Queues of the underlay's port.
    pub underlay_queues: u16,
    /// Queues of the trunk.
    pub trunk_queues: u16,
    /// IP MTU of the underlay.
    pub mtu: u16,
    /// IP MTU of the trunk.
    pub trunk_mtu: u16,
    /// Worker that owns outbound SAs.
    pub outbound_worker: u16,
    /// Worker that owns inbound SAs.
    pub inbound_worker: u16,
    /// Whether sequence numbers have 64 bits; `false` for foreign peers only.
    pub esn: bool,
    /// Hard limit of outbound SAs, in AES blocks.
    pub hard_limit: Option<u64>,
    /// Address of the edge under test.
    pub local: IpAddr,
    /// Peers.
    pub peers: Vec<Peer>,
    /// Networks.
    pub vns: Vec<Vn>,
    /// Whether keys may be exported; `None`: not said.
    pub allow_key_export: Option<bool>,
}

impl Setup {
    /// One worker, one network, one peer, over IPv4.
    pub fn new() -> Self {
        Setup {
            workers: 1,
            underlay_queues: 1,
            trunk_queues: 1,
            mtu: 1500,
            trunk_mtu: 1500,
            outbound_worker: 0,
            inbound_worker: 0,
            esn: true,
            hard_limit: None,
            local: [192, 0, 2, 1].into(),
            peers: vec![Setup::peer("b", 2)],
            vns: vec![Vn::blue()],
            allow_key_export: None,
        }
    }

    /// The same over IPv6.
    pub fn over_ipv6() -> Self {
        let address = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
        let mut setup = Setup::new();
        setup.local = address(1);
        setup.peers[0].address = address(2);
        setup
    }

    /// Blue with three edges: tenant 2 at `b`, tenant 4 at `c`.
    pub fn with_c() -> Self {
        let mut setup = Setup::new();
        setup.peers.push(Setup::peer("c", 3));
        setup.vns[0].edges.push("c");
        setup.vns[0].mappings.push((frames::mac(4), "c"));
        setup
    }

    /// A peer at 192.0.2.`n`.
    pub fn peer(name: &'static str, n: u8) -> Peer {
        Peer {
            name,
            mac: [2, 0, 0, 0, 0, n],
            address: [192, 0, 2, n].into(),
            encapsulation: Encapsulation::Geneve,
            esp_source_port: "auto",
            foreign: false,
        }
    }

    /// The SA from here to a peer.
    pub fn outbound(&self, vn: &str, peer: &str) -> Sa {
        self.sa(0x1234_5600, vn, peer)
    }

    /// The SA from a peer to here.
    pub fn inbound(&self, vn: &str, peer: &str) -> Sa {
        self.sa(0x2345_6700, vn, peer)
    }

    fn sa(&self, base: u32, vn: &str, peer: &str) -> Sa {
        let v = self.vns.iter().position(|v| v.name == vn).expect("a VN");
        let p = self
            .peers
            .iter()
            .position(|p| p.name == peer)
            .expect("a peer");
        Sa::new(base + v as u32 * 16 + p as u32, self.vns[v].algorithm)
    }

    /// The socket of a virtual machine's port.
    pub fn socket(dir: &Path, port: &VhostPort) -> String {
        format!("{}/{}.sock", dir.display(), port.name)
    }

    /// The peer of this name.
    pub fn peer_named(&self, name: &str) -> &Peer {
        self.peers.iter().find(|p| p.name == name).expect("a peer")
    }

    /// The network of this name.
    pub fn vn(&self, name: &str) -> &Vn {
        self.vns.iter().find(|v| v.name == name).expect("a VN")
    }

    /// The checked configuration; key files and state are in `dir`.
    pub fn config(&self, dir: &Path) -> Config {
        let text = self.yaml(dir);
        let file = dir.join("nve.yaml");
        Config::parse_as(&text, &file).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// Its text; the key files are written into `dir`.
    pub fn yaml(&self, dir: &Path) -> String {
        let mut y = String::new();
        let d = dir.display();
        let cores = vec!["0"; self.workers.into()].join(", ");
        let prefix = if self.local.is_ipv4() { 24 } else { 64 };
        let mut line = |text: String| writeln!(y, "{text}").expect("a string");
        line("nve: {name: host-a}".into());
        line("eal: {memory: no-huge, memory-mb: 192}".into());
        line(format!(
            "workers: {{cores: [{cores}], idle: yield, aead: {}}}",
            crate::aead::name()
        ));
        line("mempool: {mbufs: 4096, data-room: 2048}".into());
        line(format!("state-dir: {d}/state"));
        line(format!("api: {{socket: {d}/api.sock}}"));
        if let Some(allowed) = self.allow_key_export {
            line(format!("allow-key-export: {allowed}"));
        }
        line("underlay:".into());
        line("  ports:".into());
        line("    - name: up0".into());
        line("      device: net_ring_up0".into());
        line(format!("      mtu: {}", self.mtu));
        line(format!("      queues: {}", self.underlay_queues));
        line(format!("      addresses: [\"{}/{prefix}\"]", self.local));
        line("      neighbours:".into());
        for peer in &self.peers {
            let (address, mac) = (peer.address, frames::text(peer.mac));
            line(format!(
                "        - {{address: \"{address}\", mac: \"{mac}\"}}"
            ));
        }
        line("devices:".into());
        let mtu = self.trunk_mtu;
        line(format!(
            "  - {{name: trunk0, device: net_ring_trunk0, mtu: {mtu}}}"
        ));
        line("peers:".into());
        for peer in &self.peers {
            let encapsulation = match peer.encapsulation {
                Encapsulation::Geneve => "geneve",
                Encapsulation::Vxlan => "vxlan",
            };
            let (name, address, port, foreign) =
                (peer.name, peer.address, peer.esp_source_port, peer.foreign);
            line(format!(
                "  - {{name: {name}, addresses: [\"{address}\"], encapsulation: {encapsulation}, \
                 esp-source-port: {port}, foreign: {foreign}}}"
            ));
        }
        line("vns:".into());
        for vn in &self.vns {
            line(format!("  - name: {}", vn.name));
            line(format!("    vni: {}", vn.vni));
            line(format!("    protection: {}", vn.protection));
            line(format!("    unknown-unicast: {}", vn.unknown_unicast));
            line(format!("    learning: {}", vn.learning));
            line(format!("    edges: [{}]", vn.edges.join(", ")));
            line("    mappings:".into());
            for (mac, peer) in &vn.mappings {
                let (ips, mac) = (vn.ips(*mac), frames::text(*mac));
                line(format!("      - {{mac: \"{mac}\", peer: {peer}{ips}}}"));
            }
        }
        line("ports:".into());
        for vn in &self.vns {
            for port in &vn.ports {
                line(format!("  - name: {}", port.name));
                line(format!("    vn: {}", vn.name));
                line(format!("    vlan: {{device: trunk0, vid: {}}}", port.vid));
                line(format!("    learning: {}", port.learning));
                line(format!("    bum-rate: {}", port.bum_rate));
                let macs: Vec<String> = port
                    .macs
                    .iter()
                    .map(|mac| format!("{{mac: \"{}\"{}}}", frames::text(*mac), vn.ips(*mac)))
                    .collect();
                line(format!("    addresses: [{}]", macs.join(", ")));
            }
            for port in &vn.tenants {
                let (mac, socket) = (frames::mac(port.tenant), Setup::socket(dir, port));
                line(format!("  - name: {}", port.name));
                line(format!("    vn: {}", vn.name));
                line(format!("    vhost: {{socket: {socket}, mode: server}}"));
                line(format!("    bum-rate: {}", port.bum_rate));
                let (ips, mac) = (vn.ips(mac), frames::text(mac));
                line(format!("    addresses: [{{mac: \"{mac}\"{ips}}}]"));
            }
        }
        line("security-associations:".into());
        for vn in self.vns.iter().filter(|vn| vn.protection != "none") {
            for edge in &vn.edges {
                for (direction, sa, worker) in [
                    (
                        "outbound",
                        self.outbound(vn.name, edge),
                        self.outbound_worker,
                    ),
                    ("inbound", self.inbound(vn.name, edge), self.inbound_worker),
                ] {
                    let file = format!("{:x}.key", sa.spi);
                    let path = dir.join(&file);
                    std::fs::write(&path, sa.key_file()).expect("key file");
                    let owner_only = std::fs::Permissions::from_mode(0o600);
                    std::fs::set_permissions(&path, owner_only).expect("mode");
                    line(format!("  - vn: {}", vn.name));
                    line(format!("    peer: {edge}"));
                    line(format!("    direction: {direction}"));
                    line(format!("    worker: {worker}"));
                    line(format!("    spi: {}", sa.spi));
                    line(format!("    algorithm: {}", sa.algorithm.name()));
                    line(format!("    key-file: {file}"));
                    line(format!("    esn: {}", self.esn));
                    if let (Some(limit), "outbound") = (self.hard_limit, direction) {
                        line(format!("    hard-limit: {limit}"));
                    }
                }
            }
        }
        y
    }
}

impl Default for Setup {
    fn default() -> Self {
        Setup::new()
    }
}
