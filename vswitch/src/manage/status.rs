//! What the switch shows of itself: one report, taken from one snapshot of every worker.
//! The API gives it as JSON, `vswitchctl show` as tables.

mod authority;
mod latency;
mod memory;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use authority::{AgreedKeys, Ima, ImaVn, Key, Mapping, Report, Session};
pub use latency::{Bucket, Latency, Percentiles};
pub use memory::{Heap, Memory, Pages, Pool, Ring, Tables};

/// Everything `vswitchctl show` can show.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The edge.
    pub nve: Nve,
    /// Underlay ports, then tenants' ports and VLANs.
    pub ports: Vec<Port>,
    /// Virtual networks.
    pub vns: Vec<Vn>,
    /// Forwarding entries.
    pub fdb: Vec<FdbEntry>,
    /// One for each (VN, peer).
    pub tunnels: Vec<Tunnel>,
    /// Peers.
    pub peers: Vec<Peer>,
    /// Security associations.
    pub sas: Vec<Sa>,
    /// Workers with their books.
    pub workers: Vec<Worker>,
    /// Drops by reason, all workers.
    pub drops: Vec<Drop>,
    /// Time that packets take inside the switch, by direction.
    pub latency: Vec<Latency>,
    /// Memory.
    pub memory: Memory,
    /// The mapping authority, if there is one.
    #[serde(default)]
    pub ima: Option<Ima>,
}

/// The edge itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Nve {
    /// Its name.
    pub name: String,
    /// Version of the software.
    pub version: String,
    /// DPDK's version.
    pub dpdk: String,
    /// AEAD backend in use.
    pub aead: String,
    /// Whether DPDK's memory is hugepages.
    pub hugepages: bool,
    /// Seconds since the start.
    pub uptime: u64,
    /// The same in nanoseconds: what rates between two reports are to be taken over.
    pub uptime_ns: u64,
}

/// Packets and bytes. For a port rx is what the switch received from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received and then dropped.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets dropped on the way out.
    pub tx_dropped: u64,
}

impl Traffic {
    /// Adds what something else has counted.
    pub fn add(&mut self, other: &Traffic) {
        self.rx_packets += other.rx_packets;
        self.rx_bytes += other.rx_bytes;
        self.rx_dropped += other.rx_dropped;
        self.tx_packets += other.tx_packets;
        self.tx_bytes += other.tx_bytes;
        self.tx_dropped += other.tx_dropped;
    }
}

/// A port.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// `underlay`, `tap`, `vhost` or `vlan`.
    pub kind: String,
    /// Device, socket, or device and VLAN.
    pub device: String,
    /// `up` or `down`.
    pub state: String,
    /// VN of a tenant's port.
    pub vn: Option<String>,
    /// MAC addresses: the port's own (underlay), or those placed on it.
    pub macs: Vec<String>,
    /// IP MTU: of an underlay port, or what a tenant may use.
    pub mtu: u16,
    /// MTU that the guest negotiated (VIRTIO_NET_F_MTU).
    pub guest_mtu: Option<u16>,
    /// Queues in use.
    pub queues: u16,
    /// Workers that receive from it.
    pub workers: Vec<u16>,
    /// What is known of the spreading over queues, of an underlay port with several.
    #[serde(default)]
    pub rss: Option<String>,
    /// Something the operator should see to.
    pub warning: Option<String>,
    /// Counters.
    pub traffic: Traffic,
}

/// A virtual network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Vn {
    /// Its name.
    pub name: String,
    /// Its identifier.
    pub vni: u32,
    /// `confidential`, `integrity` or `none`.
    pub protection: String,
    /// `drop` or `flood`.
    pub unknown_unicast: String,
    /// Whether remote MACs are learned.
    pub learning: bool,
    /// IP MTU of its tenants.
    pub mtu: u16,
    /// Its ports here.
    pub ports: Vec<String>,
    /// Its other edges.
    pub edges: Vec<String>,
    /// rx: frames from tenants here; tx: frames from the overlay.
    pub traffic: Traffic,
}

/// A forwarding entry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// VN.
    pub vn: String,
    /// Address.
    pub mac: String,
    /// IP addresses of its mapping.
    pub ips: Vec<IpAddr>,
    /// Port or peer.
    pub destination: String,
    /// `local`, `remote`.
    pub place: String,
    /// `static` or `learned`.
    pub origin: String,
}

/// A tunnel: one (VN, peer).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tunnel {
    /// VN.
    pub vn: String,
    /// VNI.
    pub vni: u32,
    /// Peer.
    pub peer: String,
    /// Its address in use.
    pub remote: Option<IpAddr>,
    /// Ours.
    pub local: Option<IpAddr>,
    /// `geneve` or `vxlan`.
    pub encapsulation: String,
    /// Protection.
    pub protection: String,
    /// Resolved next hops: `port via mac`.
    pub paths: Vec<String>,
    /// `up`, `no-neighbour` or `no-sa`.
    pub state: String,
    /// Inner frames: tx into the tunnel, rx out of it.
    pub traffic: Traffic,
}

/// Another edge: the sum of its tunnels and SAs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Tunnels to it.
    pub tunnels: u64,
    /// Of them, those that are up.
    pub tunnels_up: u64,
    /// Inner frames of all its tunnels: tx to it, rx from it.
    pub traffic: Traffic,
    /// Security associations with it.
    pub sas: u64,
    /// Packets of its SAs refused as replayed or too old.
    pub replayed: u64,
    /// Packets of its SAs that failed authentication.
    pub auth_failed: u64,
}

/// A security association. Never key bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sa {
    /// `outbound` or `inbound`.
    pub direction: String,
    /// SPI.
    pub spi: u32,
    /// VN.
    pub vn: String,
    /// Peer.
    pub peer: String,
    /// Owner.
    pub worker: u16,
    /// Algorithm.
    pub algorithm: String,
    /// Outbound: next number; inbound: highest accepted.
    pub sequence: u64,
    /// Outbound manual keys: end of what is reserved.
    pub reserved_until: Option<u64>,
    /// AES blocks used (outbound).
    pub blocks: u64,
    /// AES blocks at which it closes (outbound).
    pub hard_limit: u64,
    /// Packets.
    pub packets: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Packets refused as replayed or too old.
    pub replayed: u64,
    /// Packets that failed authentication.
    pub auth_failed: u64,
    /// When its key was first given away (RFC 3339, UTC); absent as long as it was not.
    pub exported: Option<String>,
    /// Whether its key should be replaced, which it should if it was given away.
    pub rekey_due: bool,
}

/// A worker: its books balance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Number.
    pub id: u16,
    /// Core it is pinned to.
    pub core: u16,
    /// Share of time with packets at hand, 0 to 1, since the start.
    pub busy: f64,
    /// TSC ticks of loop passes with packets at hand.
    pub busy_ticks: u64,
    /// TSC ticks of loop passes with nothing to do.
    pub idle_ticks: u64,
    /// Taken from receive queues.
    pub received: u64,
    /// Made by the switch.
    pub generated: u64,
    /// Copies made.
    pub copied: u64,
    /// Taken over from colleagues.
    pub handed_in: u64,
    /// Left through a port.
    pub sent: u64,
    /// Discarded.
    pub dropped: u64,
    /// Ended on purpose.
    pub consumed: u64,
    /// Passed to colleagues.
    pub handed_out: u64,
    /// In hands at the snapshot.
    pub held: u64,
    /// Whether in equals out.
    pub balanced: bool,
    /// Packets by verdict, those that are not zero.
    pub verdicts: BTreeMap<String, u64>,
}

/// Drops of one reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Drop {
    /// Its stable name.
    pub reason: String,
    /// What it means.
    pub help: String,
    /// Packets, all workers.
    pub packets: u64,
    /// Packets by worker.
    pub workers: Vec<u64>,
}
