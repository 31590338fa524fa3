//! Configurations of two hosts, `a` and `b`, with the networks blue and red, a tenant of each
//! on each host, and the same tenant addresses in both.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::lab::DIR;
use crate::wire::{Algorithm, Sa};

/// An underlay port.
#[derive(Debug, Clone)]
pub struct Underlay {
    /// DPDK's string.
    pub device: String,
    /// Address, with prefix length.
    pub address: String,
    /// Its tap, if it has one.
    pub tap: Option<String>,
    /// Address and MAC of the other host, where there is no tap.
    pub neighbour: Option<(String, String)>,
}

/// One host.
#[derive(Debug, Clone)]
pub struct Host {
    /// `a` or `b`.
    pub name: &'static str,
    /// Underlay ports.
    pub underlays: Vec<Underlay>,
    /// Tunnel endpoint; the first address of the ports if absent.
    pub local: Option<String>,
    /// Tunnel endpoint of the other host.
    pub remote: String,
    /// Cores of its workers.
    pub cores: Vec<u16>,
    /// `client` or `server`.
    pub vhost_mode: &'static str,
    /// Queue pairs of its tenants.
    pub queues: u16,
    /// Whether tenants are bound to their IP addresses, not to their MACs alone.
    pub bind_ips: bool,
}

/// The networks.
pub const VNS: [(&str, u32, &str); 2] =
    [("blue", 1001, "aes-256-gcm"), ("red", 2002, "aes-128-gcm")];

impl Host {
    /// Host 1 (`a`) or 2 (`b`) with one underlay port, its addresses from 192.0.2.0/24.
    pub fn new(n: u8, device: &str) -> Host {
        let other = 3 - n;
        Host {
            name: if n == 1 { "a" } else { "b" },
            underlays: vec![Underlay {
                device: device.to_owned(),
                address: format!("192.0.2.{n}/24"),
                tap: None,
                neighbour: Some((format!("192.0.2.{other}"), crate::lab::cable_mac(0, other))),
            }],
            local: None,
            remote: format!("192.0.2.{other}"),
            cores: vec![u16::from(n - 1)],
            vhost_mode: "client",
            queues: 1,
            bind_ips: true,
        }
    }

    /// The same with a tap, from which next hops come.
    pub fn with_tap(n: u8, device: &str) -> Host {
        let mut host = Host::new(n, device);
        host.underlays[0].tap = Some("vsw0".to_owned());
        host.underlays[0].neighbour = None;
        host
    }

    fn number(&self) -> u8 {
        if self.name == "a" { 1 } else { 2 }
    }

    /// The vhost socket of this host's tenant in a network.
    pub fn socket(&self, vn: &str) -> String {
        format!("{DIR}/{}-{vn}.sock", self.name)
    }

    /// The configuration file. Key files are written beside it.
    pub fn yaml(&self) -> String {
        let (name, n) = (self.name, self.number());
        let (other, o) = if n == 1 { ("b", 2) } else { ("a", 1) };
        let cores: Vec<String> = self.cores.iter().map(u16::to_string).collect();
        let mut y = String::new();
        let mut line = |text: String| writeln!(y, "{text}").expect("a string");
        line(format!("nve: {{name: {name}}}"));
        line(format!(
            "eal: {{memory: no-huge, memory-mb: 256, file-prefix: {name}}}"
        ));
        line(format!(
            "workers: {{cores: [{}], idle: yield, aead: {}}}",
            cores.join(", "),
            crate::aead::name()
        ));
        line("mempool: {mbufs: 8192, data-room: 2048}".into());
        line(format!("state-dir: {DIR}/state-{name}"));
        line(format!("api: {{socket: {DIR}/{name}.api}}"));
        line("underlay:".into());
        if let Some(local) = &self.local {
            line(format!("  local: [{local}]"));
        }
        line("  ports:".into());
        for (i, port) in self.underlays.iter().enumerate() {
            line(format!("    - name: up{i}"));
            line(format!("      device: \"{}\"", port.device));
            line("      mtu: 1500".into());
            line(format!("      addresses: [{}]", port.address));
            if let Some(tap) = &port.tap {
                line(format!("      tap: {tap}"));
            }
            if let Some((address, mac)) = &port.neighbour {
                line(format!(
                    "      neighbours: [{{address: {address}, mac: \"{mac}\"}}]"
                ));
            }
        }
        line(format!(
            "peers: [{{name: {other}, addresses: [{}]}}]",
            self.remote
        ));
        let ips = |n: u8| match self.bind_ips {
            true => format!(", ips: [10.0.0.{n}, \"fd00::{n}\"]"),
            false => String::new(),
        };
        line("vns:".into());
        for (vn, vni, _) in VNS {
            line(format!("  - name: {vn}"));
            line(format!("    vni: {vni}"));
            line(format!("    edges: [{other}]"));
            line(format!(
                "    mappings: [{{mac: \"52:54:00:00:00:0{o}\"{}, peer: {other}}}]",
                ips(o)
            ));
        }
        line("ports:".into());
        for (vn, _, _) in VNS {
            line(format!("  - name: {name}-{vn}"));
            line(format!("    vn: {vn}"));
            line(format!(
                "    vhost: {{socket: {}, mode: {}, queues: {}, peer-uid: 0}}",
                self.socket(vn),
                self.vhost_mode,
                self.queues
            ));
            let ips = ips(n);
            line(format!(
                "    addresses: [{{mac: \"52:54:00:00:00:0{n}\"{ips}}}]"
            ));
        }
        line("security-associations:".into());
        for (vn, vni, algorithm) in VNS {
            for (direction, from) in [("outbound", n), ("inbound", o)] {
                let spi = u32::from(from) << 16 | vni;
                let key = match algorithm {
                    "aes-256-gcm" => Sa::new(spi, Algorithm::Gcm256),
                    _ => Sa::new(spi, Algorithm::Gcm128),
                };
                let file = format!("{DIR}/{spi:x}.key");
                fs::write(&file, key.key_file()).expect("key file");
                let owner_only = fs::Permissions::from_mode(0o600);
                fs::set_permissions(&file, owner_only).expect("mode");
                line(format!(
                    "  - {{vn: {vn}, peer: {other}, direction: {direction}, spi: {spi}, \
                     algorithm: {algorithm}, key-file: {file}}}"
                ));
            }
        }
        y
    }
}
