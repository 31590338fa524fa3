//! SAs of manual keys, made of the configuration and of what is kept of each key.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

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

/// A manual outbound SA, its first block reserved.
pub fn outbound(
    state: &mut StateDir,
    config: &SecurityAssociation,
) -> Result<Box<Outbound>, KeyError> {
    let block = state.reserve(config.spi, config.key.fingerprint(), config.esn)?;
    let material = config.key.material().map_err(|e| invalid(config.spi, e))?;
    let mut setup = OutboundConfig::reserved(config.spi, block.first, block.until);
    setup.esn = config.esn;
    setup.limits = config.limits;
    Outbound::new(material, setup)
        .map(Box::new)
        .map_err(|e| invalid(config.spi, e))
}

/// A manual inbound SA, and where its floor is kept.
pub fn inbound(
    state: &StateDir,
    config: &SecurityAssociation,
    peer: &Peer,
) -> Result<(Box<Inbound>, Arc<MappedCounters>), KeyError> {
    let (table, floor) = state.floor(config.key.fingerprint())?;
    let material = config.key.material().map_err(|e| invalid(config.spi, e))?;
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
