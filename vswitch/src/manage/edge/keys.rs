//! SAs of manual keys, made of the configuration and of what is kept of each key.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use vswitch_aead::Backend;
use vswitch_sa::reservation::RecordError;
use vswitch_sa::{Inbound, InboundConfig, IvMode, Outbound, OutboundConfig, Spi};

use super::state::StateDir;
use crate::dpdk::mapped::{MappedCounters, MappedError};
use crate::manage::config::{Peer, SecurityAssociation};

/// Why a key's state could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system refused.
    #[error("{path}: {doing}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the state.
    #[error("{0}: another vswitchd uses this state directory; give each its own `state-dir`")]
    InUse(PathBuf),
    /// Others could change the state.
    #[error(
        "{path}: the state directory belongs to user {owner} and has mode {mode:o}; only root or \
         the daemon's own user ({us}) may own it and nobody else may write to it: \
         `chown {us} {path}` and `chmod 0700 {path}`, once you know what is in it"
    )]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
        /// The effective user of this process.
        us: u32,
    },
    /// Another process sends under the key.
    #[error(
        "{0} is locked: another process of this host sends under the same key (with another \
         `state-dir`); both would use the same nonces, so give each association its own key"
    )]
    KeyInUse(PathBuf),
    /// Another process has sent under the key.
    #[error(
        "{path}: records {recorded}, but this process reserved only up to {known}: another one \
         uses the same key; give the association a new key"
    )]
    Foreign {
        /// The record.
        path: PathBuf,
        /// Exclusive end found there.
        recorded: u64,
        /// Exclusive end of what this process asked for.
        known: u64,
    },
    /// The record cannot be trusted.
    #[error(
        "{path}: {source}. Its key may have sealed packets already, so it is not used again: \
         give the association a new key (and keep this file as evidence)"
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: RecordError,
    },
    /// The key was used in the other direction.
    #[error(
        "{0}: the key was used in the other direction: whoever had it there has used nonces \
         that would be used again; give the association a new key"
    )]
    OtherDirection(PathBuf),
    /// All sequence numbers of the key are spent.
    #[error("{0}: all sequence numbers of this key are spent; give the association a new key")]
    Exhausted(PathBuf),
    /// The replay floor's file.
    #[error(transparent)]
    Floor(#[from] MappedError),
    /// The configuration asks for something impossible.
    #[error("association {spi}: {reason}")]
    Config {
        /// Which.
        spi: Spi,
        /// Why not.
        reason: String,
    },
}

/// AES blocks of the largest packet: the configuration admits MTUs up to 9,600, and each
/// packet costs one more for its tag.
const MAX_PACKET_BLOCKS: u64 = 9_600 / 16 + 1;

/// What earlier processes may have enciphered, at most: the limit is the key's and not the
/// process's, and of the numbers below `first` it is not known how long their packets were,
/// nor whether they were sent at all. An upper bound needs no further durable write; of a
/// key with the highest hard limit it leaves 100,000 restarts.
fn charged(first: u64) -> u64 {
    first.saturating_sub(1).saturating_mul(MAX_PACKET_BLOCKS)
}

/// A manual outbound SA, its first block reserved.
pub fn outbound(
    state: &mut StateDir,
    config: &SecurityAssociation,
    backend: &dyn Backend,
) -> Result<Box<Outbound>, KeyError> {
    let block = state.reserve(config.spi, config.key.fingerprint(), config.esn)?;
    let material = config
        .key
        .material(backend)
        .map_err(|e| invalid(config.spi, e))?;
    let mut setup = OutboundConfig::reserved(config.spi, block.first, block.until);
    setup.esn = config.esn;
    setup.limits = config.limits;
    setup.blocks_used = charged(block.first);
    Outbound::new(material, setup)
        .map(Box::new)
        .map_err(|e| invalid(config.spi, e))
}

/// A manual inbound SA, and where its floor is kept.
pub fn inbound(
    state: &mut StateDir,
    config: &SecurityAssociation,
    peer: &Peer,
    backend: &dyn Backend,
) -> Result<(Box<Inbound>, Arc<MappedCounters>), KeyError> {
    let (table, floor) = state.floor(config.key.fingerprint())?;
    let material = config
        .key
        .material(backend)
        .map_err(|e| invalid(config.spi, e))?;
    let setup = InboundConfig {
        spi: config.spi,
        esn: config.esn,
        iv_mode: if peer.foreign {
            IvMode::Any
        } else {
            IvMode::EqualsEsn
        },
        window: config.replay_window,
        floor,
    };
    let inbound = Inbound::new(material, setup).map_err(|e| invalid(config.spi, e))?;
    Ok((Box::new(inbound), table))
}

fn invalid(spi: Spi, reason: impl std::fmt::Display) -> KeyError {
    KeyError::Config {
        spi,
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use vswitch_sa::{Algorithm, ConfigError, KeyMaterial};

    use super::*;

    #[test]
    fn a_restart_charges_what_may_have_been_sent() {
        assert_eq!(charged(1), 0);
        assert_eq!(charged(3), 2 * 601);
        assert_eq!(charged(u64::MAX), u64::MAX);
        let start = |first, hard| {
            let key =
                KeyMaterial::from_bytes(vswitch_aead::portable(), Algorithm::Aes128Gcm, &[1; 20])
                    .unwrap();
            let mut setup = OutboundConfig::reserved(Spi::new(4096).unwrap(), first, first + 9);
            setup.limits = vswitch_sa::Limits { soft: hard, hard };
            setup.blocks_used = charged(first);
            Outbound::new(key, setup)
        };
        assert_eq!(start(1, 4).unwrap().blocks_used(), 0);
        let mut sa = start(3, 1203).unwrap();
        assert_eq!(sa.blocks_used(), 1202);
        assert!(sa.assign(100).is_err(), "one block is left");
        assert_eq!(
            start(3, 1202).err(),
            Some(ConfigError::Spent {
                used: 1202,
                hard: 1202
            })
        );
    }
}
