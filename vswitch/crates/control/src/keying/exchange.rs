//! What one hybrid exchange gives a pair: the channel for its signaling, and the root from which
//! the keys of single SAs are expanded. Both go with it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::hybrid::{ExchangeId, Root, Transcript};
use crate::message::peer::SaAlgorithm;
use crate::secret::Secret;
use crate::types::{Epoch, VnName};
use crate::vnchannel::{ChannelError, Side, VnChannel};

/// First in the expansion of an SPI.
const SPI_LABEL: &[u8] = b"vswitch sa spi 1";
/// First in the expansion of an SA's key and salt.
const KEY_LABEL: &[u8] = b"vswitch sa key 1";
/// SPIs below are reserved (RFC 4303, section 2.1).
pub const FIRST_SPI: u32 = 256;

/// Which SA of an exchange: all that its keys are bound to, besides the exchange itself.
#[derive(Debug, Clone, Copy)]
pub struct SaName<'a> {
    /// Identity of who sends.
    pub sender: &'a str,
    /// Identity of who receives.
    pub receiver: &'a str,
    /// The network.
    pub vn: &'a VnName,
    /// The sender's worker.
    pub worker: u16,
    /// Counts the SAs of this worker; none comes twice.
    pub index: u16,
    /// The cipher.
    pub algorithm: SaAlgorithm,
}

/// A completed exchange.
pub struct Exchange {
    /// Its number.
    pub id: ExchangeId,
    /// The membership epoch that its initiator named.
    pub epoch: Epoch,
    /// When it was completed: its SAs are as old as it is.
    pub born: Duration,
    /// Its signaling.
    pub channel: VnChannel,
    root: Root,
    /// The first index not used yet, by worker: for SAs to the peer and from it. An index that came
    /// twice would be a key with its nonces twice.
    sent: BTreeMap<u16, u32>,
    received: BTreeMap<u16, u32>,
}

impl Exchange {
    /// From the root that `transcript` gave at `born`, seen from `side`.
    pub fn new(
        born: Duration,
        root: Root,
        transcript: &Transcript<'_>,
        side: Side,
    ) -> Result<Self, ChannelError> {
        Ok(Self {
            born,
            id: transcript.exchange,
            epoch: transcript.epoch,
            channel: VnChannel::new(&root, transcript, side)?,
            root,
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
        })
    }

    /// Indexes that a worker's next SA may have.
    pub fn free_indexes(&self, worker: u16, sending: bool) -> core::ops::RangeInclusive<u32> {
        let used = if sending { &self.sent } else { &self.received };
        used.get(&worker).copied().unwrap_or(0)..=u32::from(u16::MAX)
    }

    /// No index up to this one is free any more.
    pub fn spend(&mut self, worker: u16, sending: bool, index: u16) {
        let used = if sending {
            &mut self.sent
        } else {
            &mut self.received
        };
        used.insert(worker, u32::from(index) + 1);
    }

    fn expand<const N: usize>(&self, label: &[u8], name: &SaName<'_>) -> Option<Secret<N>> {
        let algorithm: &[u8] = match name.algorithm {
            SaAlgorithm::Aes256Gcm => b"aes-256-gcm",
            SaAlgorithm::Aes256Gmac => b"aes-256-gmac",
        };
        self.root.expand(&[
            label,
            name.sender.as_bytes(),
            name.receiver.as_bytes(),
            name.vn.as_str().as_bytes(),
            &self.epoch.0.to_be_bytes(),
            &name.worker.to_be_bytes(),
            &name.index.to_be_bytes(),
            algorithm,
        ])
    }

    /// The SPI of an SA, which is no secret. `None` if it is a reserved one.
    pub fn spi(&self, name: &SaName<'_>) -> Option<u32> {
        let bytes = self.expand::<4>(SPI_LABEL, name)?;
        let spi = u32::from_be_bytes(*bytes.expose());
        (spi >= FIRST_SPI).then_some(spi)
    }

    /// AES key and salt of an SA.
    pub fn key(&self, name: &SaName<'_>) -> Option<Secret<36>> {
        self.expand(KEY_LABEL, name)
    }
}
