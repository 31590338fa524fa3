//! Every default of the configuration file, in one place. `docs/configuration.md` repeats them.

use super::types::{
    Aead, Encapsulation, Idle, LeaseEnd, Memory, Protection, UnknownUnicast, VhostMode,
};

pub(super) const MEMORY: Memory = Memory::Auto;
pub(super) const MEMORY_MB: u64 = 1024;
/// Followed by the name of the edge: two edges of one host must not share it.
pub(super) const FILE_PREFIX: &str = "vswitch-";
pub(super) const CORES: &[u64] = &[0];
pub(super) const IDLE: Idle = Idle::Poll;
pub(super) const AEAD: Aead = Aead::Auto;
pub(super) const MBUFS: u64 = 16384;
pub(super) const TENANT_MBUFS: u64 = 2048;
pub(super) const STATE_DIR: &str = "/var/lib/vswitch";
pub(super) const API_SOCKET: &str = "/run/vswitch/api.sock";
/// RFC 3948, section 2.1.
pub(super) const ESP_PORT: u64 = 4500;
/// Packets per second, of each worker.
pub(super) const KERNEL_RATE: u64 = 200_000;
pub(super) const MTU: u64 = 1500;
pub(super) const ENCAPSULATION: Encapsulation = Encapsulation::Geneve;
pub(super) const FOREIGN: bool = false;
pub(super) const PROTECTION: Protection = Protection::Confidential;
/// Of a network that the authority describes: what it may not go below.
pub(super) const LEAST_PROTECTION: Protection = Protection::Integrity;
pub(super) const UNKNOWN_UNICAST: UnknownUnicast = UnknownUnicast::Drop;
pub(super) const LEARNING: bool = false;
/// Seconds.
pub(super) const LEARNING_AGE: u64 = 300;
/// QEMU waits with a socket and the switch connects: so both survive the other's restart.
pub(super) const VHOST_MODE: VhostMode = VhostMode::Client;
pub(super) const VHOST_QUEUES: u64 = 1;
pub(super) const VHOST_PERMISSIONS: u32 = 0o660;
/// Packets per second.
pub(super) const BUM_RATE: u64 = 1000;
pub(super) const SA_WORKER: u64 = 0;
pub(super) const ESN: bool = true;
/// AES blocks.
pub(super) const SOFT_LIMIT: u64 = 1 << 47;
/// AES blocks under one key; also the most that may be asked for.
pub(super) const HARD_LIMIT: u64 = 1 << 48;
pub(super) const ALLOW_KEY_EXPORT: bool = false;
pub(super) const LEASE_END: LeaseEnd = LeaseEnd::AsTold;
/// Per second.
pub(super) const QUERIES: u64 = 200;
/// Per second.
pub(super) const PORT_QUERIES: u64 = 20;
pub(super) const MAX_SAS: u64 = 16384;
/// Seconds.
pub(super) const IDLE_SA: u64 = 600;
/// Seconds.
pub(super) const REKEY: u64 = 3600;
/// Packets.
pub(super) const REPLAY_WINDOW: u64 = 1024;
