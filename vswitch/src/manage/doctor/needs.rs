//! What a configuration needs of its host; without one, what every switch does.

use std::path::PathBuf;

use crate::host::parse_iface;
use crate::manage::api::DEFAULT_SOCKET;
use crate::manage::config::{Attachment, Config, Direction, Idle, Memory, VhostMode};

/// Where state is if the configuration does not say.
const STATE_DIR: &str = "/var/lib/vswitch";

/// Bytes of a buffer beside its room for data: headroom, `rte_mbuf`, the pool's header.
const BUFFER_OVERHEAD: u64 = 320;

/// What a port's device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceKind {
    /// On the PCI bus, by its address with domain.
    Pci(String),
    /// A kernel interface that a driver uses beside the kernel.
    Interface {
        /// The interface.
        name: String,
        /// By af_xdp; if not, by af_packet.
        xdp: bool,
    },
    /// Anything else: needs nothing of the host.
    Virtual,
}

/// A port of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name in the configuration.
    pub port: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Its MTU.
    pub mtu: u16,
}

/// A vhost-user socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// What it is for, in words.
    pub of: String,
    /// Where it is.
    pub path: PathBuf,
    /// The switch makes it; if not, it connects to it.
    pub ours: bool,
    /// It gets an owner or a group.
    pub given_away: bool,
}

/// Everything that is asked of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Where memory comes from.
    pub memory: Memory,
    /// How much in all, in MiB.
    pub memory_mb: u64,
    /// How much of it each NUMA node with a worker needs for its buffers, in MiB.
    pub pool_mb: u64,
    /// The EAL's file prefix, if one is named.
    pub file_prefix: Option<String>,
    /// The workers' cores, in their order.
    pub cores: Vec<u16>,
    /// Workers poll without pause.
    pub poll: bool,
    /// Ports of the underlay, and those with VLANs.
    pub devices: Vec<Device>,
    /// Taps.
    pub taps: Vec<String>,
    /// Sockets, the API's first.
    pub sockets: Vec<Socket>,
    /// Queue pairs of all tenants' sockets.
    pub queue_pairs: u64,
    /// Where state is.
    pub state_dir: PathBuf,
    /// Whether sequence numbers of manual keys are kept there.
    pub manual_keys: bool,
}

impl Default for Needs {
    fn default() -> Self {
        Needs {
            memory: Memory::Auto,
            memory_mb: 1024,
            pool_mb: 0,
            file_prefix: None,
            cores: Vec::new(),
            poll: true,
            devices: Vec::new(),
            taps: Vec::new(),
            sockets: vec![api_socket(DEFAULT_SOCKET.into())],
            queue_pairs: 0,
            state_dir: STATE_DIR.into(),
            manual_keys: true,
        }
    }
}

impl Needs {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let underlay = config.underlay.ports.iter();
        let trunks = config.devices.iter();
        let mut sockets = vec![api_socket(config.api_socket.clone())];
        let mut queue_pairs = 0;
        for port in &config.ports {
            if let Attachment::Vhost(vhost) = &port.attachment {
                queue_pairs += u64::from(vhost.queues);
                sockets.push(Socket {
                    of: format!("port {}", port.name),
                    path: vhost.socket.clone(),
                    ours: vhost.mode == VhostMode::Server,
                    given_away: vhost.owner.is_some() || vhost.group.is_some(),
                });
            }
        }
        let pool = &config.mempool;
        let bytes = u64::from(pool.mbufs) * (u64::from(pool.data_room) + BUFFER_OVERHEAD);
        let outbound = |direction| direction == Direction::Outbound;
        Needs {
            memory: config.eal.memory,
            memory_mb: config.eal.memory_mb.into(),
            pool_mb: bytes.div_ceil(1 << 20),
            file_prefix: Some(config.eal.file_prefix.clone()),
            cores: config.workers.cores.clone(),
            poll: config.workers.idle == Idle::Poll,
            devices: underlay
                .map(|p| device(&p.name, &p.device, p.mtu))
                .chain(trunks.map(|d| device(&d.name, &d.device, d.mtu)))
                .collect(),
            taps: config
                .underlay
                .ports
                .iter()
                .filter_map(|p| p.tap.clone())
                .collect(),
            sockets,
            queue_pairs,
            state_dir: config.state_dir.clone(),
            manual_keys: config
                .security_associations
                .iter()
                .any(|sa| outbound(sa.direction)),
        }
    }

    /// Ports on the PCI bus.
    pub fn pci(&self) -> impl Iterator<Item = (&Device, &str)> {
        self.devices.iter().filter_map(|device| match &device.kind {
            DeviceKind::Pci(address) => Some((device, address.as_str())),
            _ => None,
        })
    }

    /// Ports on kernel interfaces: the port, the interface, and whether by af_xdp.
    pub fn interfaces(&self) -> impl Iterator<Item = (&Device, &str, bool)> {
        self.devices.iter().filter_map(|device| match &device.kind {
            DeviceKind::Interface { name, xdp } => Some((device, name.as_str(), *xdp)),
            _ => None,
        })
    }
}

fn api_socket(path: PathBuf) -> Socket {
    Socket {
        of: "the API".to_owned(),
        path,
        ours: true,
        given_away: false,
    }
}

fn device(port: &str, text: &str, mtu: u16) -> Device {
    let name = text.split(',').next().unwrap_or(text);
    let kind = if let Some(address) = pci_address(name) {
        DeviceKind::Pci(address)
    } else if let Some(interface) = parse_iface(text) {
        DeviceKind::Interface {
            name: interface,
            xdp: name.contains("af_xdp"),
        }
    } else {
        DeviceKind::Virtual
    };
    Device {
        port: port.to_owned(),
        kind,
        mtu,
    }
}

/// `01:00.0` or `0000:01:00.0`, as sysfs has it.
fn pci_address(name: &str) -> Option<String> {
    let (rest, function) = name.rsplit_once('.')?;
    let parts: Vec<&str> = rest.split(':').collect();
    let hex = |text: &str, width: usize| {
        text.len() == width && text.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let (domain, bus, slot) = match parts.as_slice() {
        [bus, slot] => ("0000", *bus, *slot),
        [domain, bus, slot] => (*domain, *bus, *slot),
        _ => return None,
    };
    let good = hex(domain, 4) && hex(bus, 2) && hex(slot, 2) && hex(function, 1);
    good.then(|| format!("{domain}:{bus}:{slot}.{function}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_apart() {
        let kind = |text| device("p", text, 1500).kind;
        assert_eq!(kind("0000:01:00.0"), DeviceKind::Pci("0000:01:00.0".into()));
        assert_eq!(kind("3B:00.1,x=1"), DeviceKind::Pci("0000:3b:00.1".into()));
        for (text, xdp) in [
            ("net_af_packet0,iface=e1", false),
            ("net_af_xdp0,iface=e1", true),
        ] {
            let name = "e1".to_owned();
            assert_eq!(kind(text), DeviceKind::Interface { name, xdp });
        }
        for text in ["net_memif0,id=0", "a:b.c", "net_ring0", ""] {
            assert_eq!(kind(text), DeviceKind::Virtual, "{text}");
        }
    }
}
