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
