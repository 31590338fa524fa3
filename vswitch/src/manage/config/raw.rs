//! The configuration file as it is written: shapes and spelling, nothing checked yet.
//!
//! What is absent stays `None` here; [`super::defaults`] says what it then means. Addresses
//! stay text, so that one pass of the validation names all that are wrong and not the first.

use serde::Deserialize;

use super::scalars::{Account, AlgorithmName, Auto, FileMode};
use super::types::{
    Aead, Direction, Encapsulation, Idle, LeaseEnd, Memory, Protection, UnknownUnicast, VhostMode,
};

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct File {
    pub(super) nve: Nve,
    pub(super) eal: Option<Eal>,
    pub(super) workers: Option<Workers>,
    pub(super) mempool: Option<Mempool>,
    pub(super) state_dir: Option<String>,
    pub(super) api: Option<Api>,
    pub(super) metrics: Option<Metrics>,
    pub(super) security_log: Option<SecurityLog>,
    pub(super) underlay: Option<Underlay>,
    #[serde(default)]
    pub(super) devices: Vec<Device>,
    #[serde(default)]
    pub(super) peers: Vec<Peer>,
    #[serde(default)]
    pub(super) vns: Vec<Vn>,
    #[serde(default)]
    pub(super) ports: Vec<Port>,
    #[serde(default)]
    pub(super) security_associations: Vec<SecurityAssociation>,
    pub(super) allow_key_export: Option<bool>,
    pub(super) authority: Option<Authority>,
}

/// `authority`: where networks without a VNI, their members, mappings and keys come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Authority {
    pub(super) servers: Vec<String>,
    pub(super) certificate: String,
    pub(super) private_key: String,
    pub(super) bundle: String,
    pub(super) listen: String,
    pub(super) lease_end: Option<LeaseEnd>,
    pub(super) queries: Option<u64>,
    pub(super) port_queries: Option<u64>,
    pub(super) max_sas: Option<u64>,
    pub(super) idle: Option<u64>,
    pub(super) rekey: Option<u64>,
    pub(super) rekey_limit: Option<u64>,
    pub(super) rekey_blocks: Option<u64>,
    pub(super) rekey_packets: Option<u64>,
}

/// `nve`: who this edge is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Nve {
    pub(super) name: String,
}

/// `security-log`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct SecurityLog {
    pub(super) file: Option<String>,
}

/// `eal`: DPDK's environment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Eal {
    pub(super) memory: Option<Memory>,
    pub(super) memory_mb: Option<u64>,
    pub(super) file_prefix: Option<String>,
    #[serde(default)]
    pub(super) args: Vec<String>,
}

/// `workers`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Workers {
    pub(super) cores: Option<Vec<u64>>,
    pub(super) idle: Option<Idle>,
    pub(super) aead: Option<Aead>,
}

/// `mempool`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Mempool {
    pub(super) mbufs: Option<u64>,
    pub(super) data_room: Option<Auto>,
    pub(super) tenant_mbufs: Option<u64>,
}

/// `api`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Api {
    pub(super) socket: Option<String>,
}

/// `metrics`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) listen: Option<String>,
}

/// `underlay`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Underlay {
    pub(super) esp_port: Option<u64>,
    pub(super) kernel_rate: Option<u64>,
    pub(super) local: Option<Vec<String>>,
    #[serde(default)]
    pub(super) ports: Vec<UnderlayPort>,
    #[serde(default)]
    pub(super) routes: Vec<Route>,
}

/// One of `underlay.ports`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct UnderlayPort {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) mtu: Option<u64>,
    pub(super) queues: Option<Auto>,
    #[serde(default)]
    pub(super) addresses: Vec<String>,
    pub(super) tap: Option<String>,
    #[serde(default)]
    pub(super) neighbours: Vec<Neighbour>,
}

/// One of `underlay.ports[].neighbours`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Neighbour {
    pub(super) address: String,
    pub(super) mac: String,
}

/// One of `underlay.routes`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Route {
    pub(super) to: String,
    pub(super) via: String,
}

/// One of `devices`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) mtu: Option<u64>,
}

/// One of `peers`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) addresses: Vec<String>,
    pub(super) encapsulation: Option<Encapsulation>,
    pub(super) esp_source_port: Option<Auto>,
    pub(super) foreign: Option<bool>,
}

/// One of `vns`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Vn {
    pub(super) name: String,
    pub(super) vni: Option<u64>,
    pub(super) protection: Option<Protection>,
    pub(super) unknown_unicast: Option<UnknownUnicast>,
    pub(super) learning: Option<bool>,
    pub(super) learning_age: Option<u64>,
    #[serde(default)]
    pub(super) edges: Vec<String>,
    #[serde(default)]
    pub(super) mappings: Vec<Mapping>,
}

/// One of `vns[].mappings`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Mapping {
    pub(super) mac: String,
    #[serde(default)]
    pub(super) ips: Vec<String>,
    pub(super) peer: String,
}

/// One of `ports`: an attachment of tenants.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) vn: String,
    pub(super) vhost: Option<Vhost>,
    pub(super) vlan: Option<Vlan>,
    #[serde(default)]
    pub(super) addresses: Vec<TenantAddress>,
    pub(super) learning: Option<bool>,
    pub(super) bum_rate: Option<u64>,
    pub(super) worker: Option<u64>,
}

/// `ports[].vhost`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Vhost {
    pub(super) socket: String,
    pub(super) mode: Option<VhostMode>,
    pub(super) queues: Option<u64>,
    pub(super) owner: Option<Account>,
    pub(super) group: Option<Account>,
    pub(super) permissions: Option<FileMode>,
    pub(super) peer_uid: Option<u64>,
}

/// `ports[].vlan`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Vlan {
    pub(super) device: String,
    pub(super) vid: u64,
}

/// One of `ports[].addresses`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct TenantAddress {
    pub(super) mac: String,
    pub(super) ips: Option<Vec<String>>,
}

/// One of `security-associations`: a manual key.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct SecurityAssociation {
    pub(super) vn: String,
    pub(super) peer: String,
    pub(super) direction: Direction,
    pub(super) worker: Option<u64>,
    pub(super) spi: u64,
    pub(super) algorithm: AlgorithmName,
    pub(super) key_file: String,
    pub(super) esn: Option<bool>,
    pub(super) soft_limit: Option<u64>,
    pub(super) hard_limit: Option<u64>,
    pub(super) replay_window: Option<u64>,
}
