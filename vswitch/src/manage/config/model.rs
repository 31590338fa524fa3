//! The configuration as the daemon sees it: checked, complete, names resolved to indices.
//!
//! Lists keep the order of the file, so an identifier is an index into its list.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vswitch_aead::Backend;
use vswitch_sa::{Fingerprint, KeyMaterial, KeyMaterialError, SecretBytes};

use super::types::{
    Aead, Algorithm, DeviceId, Direction, Encapsulation, Idle, IpPrefix, LeaseEnd, Limits, MacAddr,
    Memory, PeerId, Protection, Spi, UnknownUnicast, VhostMode, VnId, Vni,
};

/// Everything the file says, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Name of this edge.
    pub name: String,
    /// DPDK's environment.
    pub eal: Eal,
    /// Worker threads.
    pub workers: Workers,
    /// Packet buffers.
    pub mempool: Mempool,
    /// Absolute; what must survive a restart is kept here.
    pub state_dir: PathBuf,
    /// Absolute; the unix socket `vswitchctl` talks to.
    pub api_socket: PathBuf,
    /// Where metrics are served over TCP; `None`: only over the API's socket.
    pub metrics_listen: Option<SocketAddr>,
    /// Absolute; where security events are written; `None`: standard error.
    pub security_log: Option<PathBuf>,
    /// The network between edges.
    pub underlay: Underlay,
    /// DPDK ports for VLAN attachments; [`DeviceId`] is the index.
    pub devices: Vec<Device>,
    /// The other edges; [`PeerId`] is the index.
    pub peers: Vec<Peer>,
    /// Virtual networks; [`VnId`] is the index.
    pub vns: Vec<Vn>,
    /// Attachments of tenants.
    pub ports: Vec<Port>,
    /// Manual security associations.
    pub security_associations: Vec<SecurityAssociation>,
    /// Whether root and the daemon's user may be given keys over the API.
    pub allow_key_export: bool,
    /// Where networks come from that are not described here.
    pub authority: Option<Authority>,
}

/// The mapping authority, who this edge is to it, and what is bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its servers, at least one; each knows all.
    pub servers: Vec<SocketAddr>,
    /// Absolute; PEM: this edge's certificate and those between it and the bundle's.
    pub certificate: PathBuf,
    /// Absolute; PEM: its private key.
    pub private_key: PathBuf,
    /// Absolute; PEM: certificates that others' certificates must lead to.
    pub bundle: PathBuf,
    /// Where sessions of other edges are accepted, and where this edge's own come from.
    pub listen: SocketAddr,
    /// What becomes of a network when its lease has ended.
    pub lease_end: LeaseEnd,
    /// Questions about unknown destinations per second, of this edge.
    pub queries: u32,
    /// The same of one port.
    pub port_queries: u32,
    /// Outbound SAs at a time.
    pub max_sas: u32,
    /// Seconds without a packet after which an SA is given up.
    pub idle: u32,
    /// Seconds after which an SA gets a new key.
    pub rekey: u32,
    /// Seconds after which an SA that got none is closed.
    pub rekey_limit: u32,
    /// AES blocks after which an SA gets a new key.
    pub rekey_blocks: u64,
    /// Packets after which it does.
    pub rekey_packets: u64,
}

/// DPDK's environment abstraction layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eal {
    /// Where memory comes from.
    pub memory: Memory,
    /// How much, in MiB.
    pub memory_mb: u32,
    /// Distinguishes DPDK processes of one host.
    pub file_prefix: String,
    /// Further arguments, verbatim.
    pub args: Vec<String>,
}

/// Worker threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workers {
    /// The core of each worker, at least one; a core may be there twice.
    pub cores: Vec<u16>,
    /// What they do when there is nothing to do.
    pub idle: Idle,
    /// What they seal and open with.
    pub aead: Aead,
}

/// Packet buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mempool {
    /// Buffers per NUMA node.
    pub mbufs: u32,
    /// Bytes of packet in one buffer, headroom not counted.
    pub data_room: u16,
    /// Buffers of each vhost port, for what its guest sends.
    pub tenant_mbufs: u32,
}

/// The network between edges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// UDP destination port of ESP packets.
    pub esp_port: u16,
    /// Packets per second of each worker that the host's kernel is given, a third of them for each
    /// urgency.
    pub kernel_rate: u64,
    /// Tunnel endpoint addresses of this edge, without repetition.
    pub local: Vec<IpAddr>,
    /// DPDK ports to it.
    pub ports: Vec<UnderlayPort>,
    /// Static routes.
    pub routes: Vec<Route>,
}

/// A DPDK port to the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderlayPort {
    /// Its name.
    pub name: String,
    /// DPDK's argument for it: a vdev string or a PCI address.
    pub device: String,
    /// Largest IP packet.
    pub mtu: u16,
    /// Queues; `None`: one for each worker where the device can.
    pub queues: Option<u16>,
    /// Addresses of its tap.
    pub addresses: Vec<IpPrefix>,
    /// The interface through which the host's kernel uses the port.
    pub tap: Option<String>,
    /// Static neighbours.
    pub neighbours: Vec<Neighbour>,
}

/// A static neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Where frames for it go.
    pub mac: MacAddr,
}

/// A static route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destinations, host bits zero.
    pub to: IpPrefix,
    /// The next hop.
    pub via: IpAddr,
}

/// A DPDK port whose VLANs may be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// DPDK's argument for it.
    pub device: String,
    /// Largest IP packet in a tagged frame.
    pub mtu: u16,
}

/// Another edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its tunnel endpoint addresses, at least one, no other peer's, the preferred one first.
    pub addresses: Vec<IpAddr>,
    /// The overlay header it is sent.
    pub encapsulation: Encapsulation,
    /// UDP source port of ESP packets to it; `None`: each SA's own, derived from its SPI.
    pub esp_source_port: Option<u16>,
    /// Not this software: any IV, and Seq-hi is inferred (RFC 4303, appendix A).
    pub foreign: bool,
}

/// A virtual network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vn {
    /// Its name.
    pub name: String,
    /// Its identifier on the wire.
    pub vni: Vni,
    /// Its protection between edges.
    pub protection: Protection,
    /// Fate of unicast frames to addresses nobody knows.
    pub unknown_unicast: UnknownUnicast,
    /// Whether remote MAC addresses are learned from data.
    pub learning: bool,
    /// Seconds after which an unused learned address is forgotten.
    pub learning_age: u32,
    /// The other edges it is on, without repetition.
    pub edges: Vec<PeerId>,
    /// Who is where.
    pub mappings: Vec<Mapping>,
    /// Largest IP packet a tenant may send: what the underlay leaves after all headers.
    pub inner_mtu: u16,
    /// Who describes it.
    pub source: Source,
    /// The least protection that the authority may give it: `none` only where the file says so.
    pub least: Protection,
}

/// Who says what a virtual network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file.
    File,
    /// The authority, which has not done so yet: VNI, edges and mappings mean nothing.
    Awaited,
    /// The authority.
    Authority,
}

/// Where a remote tenant's address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its MAC address, once in a virtual network.
    pub mac: MacAddr,
    /// Its IP addresses; may be empty.
    pub ips: Vec<IpAddr>,
    /// The edge it is on; one of the network's.
    pub peer: PeerId,
}

/// An attachment of tenants to a virtual network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The network.
    pub vn: VnId,
    /// What is attached.
    pub attachment: Attachment,
    /// The addresses behind it.
    pub addresses: Vec<TenantAddress>,
    /// Whether MAC addresses behind it are learned; never true of a vhost port.
    pub learning: bool,
    /// Broadcast, unknown and multicast packets per second; the burst is one second.
    pub bum_rate: u32,
    /// Owner of queue 0; `None`: any.
    pub worker: Option<u16>,
}

/// What is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A virtual machine.
    Vhost(Vhost),
    /// A VLAN of a DPDK port.
    Vlan(Vlan),
}

/// A vhost-user socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vhost {
    /// Absolute, short enough for a socket address.
    pub socket: PathBuf,
    /// Who creates it.
    pub mode: VhostMode,
    /// Queue pairs.
    pub queues: u16,
    /// Owner the socket gets.
    pub owner: Option<u32>,
    /// Group the socket gets.
    pub group: Option<u32>,
    /// Permission bits the socket gets.
    pub permissions: u32,
    /// User the process at the other end must be.
    pub peer_uid: Option<u32>,
}

/// A VLAN of a DPDK port, attached once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// The port.
    pub device: DeviceId,
    /// VLAN identifier, 1 to 4094.
    pub vid: u16,
}

/// An address behind a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantAddress {
    /// The MAC address, once in a virtual network.
    pub mac: MacAddr,
    /// The IP addresses it may use.
    pub ips: AllowedIps,
}

/// The IP addresses a MAC address may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedIps {
    /// All.
    Any,
    /// These only; at least one.
    Only(Vec<IpAddr>),
}

/// A manual security association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityAssociation {
    /// The virtual network whose packets it carries.
    pub vn: VnId,
    /// The edge at the other end.
    pub peer: PeerId,
    /// Direction.
    pub direction: Direction,
    /// The local worker that owns it.
    pub worker: u16,
    /// Unique inbound, and per peer outbound.
    pub spi: Spi,
    /// Algorithm; gives the protection of the network.
    pub algorithm: Algorithm,
    /// Key and salt.
    pub key: ManualKey,
    /// 64-bit sequence numbers (RFC 4303, 2.2.1); false only with a foreign peer.
    pub esn: bool,
    /// AES blocks after which a new key is asked for, and after which nothing more is sent.
    pub limits: Limits,
    /// Packets; a multiple of 64. Of use inbound.
    pub replay_window: usize,
}

/// A key and its salt from a file, in the vault. Zeroized when the last clone is dropped,
/// compared in constant time, never printed.
#[derive(Clone)]
pub struct ManualKey {
    algorithm: Algorithm,
    key_and_salt: Arc<SecretBytes>,
    fingerprint: Fingerprint,
    file: PathBuf,
}

impl ManualKey {
    /// Takes what [`KeyMaterial`] takes.
    pub(in crate::manage) fn new(
        algorithm: Algorithm,
        key_and_salt: SecretBytes,
        file: &Path,
    ) -> Result<Self, KeyMaterialError> {
        // Only to be looked at: which backend will use it is decided at start.
        let material =
            KeyMaterial::from_bytes(vswitch_aead::portable(), algorithm, key_and_salt.expose())?;
        let fingerprint = material.fingerprint();
        Ok(Self {
            algorithm,
            key_and_salt: Arc::new(key_and_salt),
            fingerprint,
            file: file.to_owned(),
        })
    }

    /// What an association is made of, for a worker with `backend`. An error would mean that what was fit when the file
    /// was checked no longer is.
    pub fn material(&self, backend: &dyn Backend) -> Result<KeyMaterial, KeyMaterialError> {
        KeyMaterial::from_bytes(backend, self.algorithm, self.key_and_salt.expose())
    }

    /// Key and salt, one after the other, where they lie in the vault. For a key export that
    /// the configuration allows, on a control thread, and for nothing else: what is copied
    /// from here is in ordinary memory, and its writer must zeroize it.
    pub fn expose(&self) -> &[u8] {
        self.key_and_salt.expose()
    }

    /// What the key is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Lends key and salt, for the one purpose of showing them to somebody who may see them.
    pub(crate) fn reveal<R>(&self, to: impl FnOnce(&[u8]) -> R) -> R {
        to(self.key_and_salt.expose())
    }

    /// The name of the AES key; keys that differ in their salt only have the same.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The file it came from.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl PartialEq for ManualKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.key_and_salt.ct_eq(&other.key_and_salt)
    }
}

impl Eq for ManualKey {}

impl fmt::Debug for ManualKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualKey")
            .field("file", &self.file)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}
