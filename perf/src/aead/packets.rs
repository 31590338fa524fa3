//! What all contestants work on: packets in DPDK's buffers, and the keys they belong to.

use anyhow::{Context, ensure};
use vswitch::dpdk::mbuf::Mbuf;
use vswitch::dpdk::mempool::Mempool;
use vswitch_aead::{Algorithm, TAG_LEN};

use super::contestants::Contestant;

/// Bytes before the enciphered part of a packet: Ethernet, IPv4, UDP, ESP and its IV. So what
/// is enciphered lies where it does in production.
const HEADERS: usize = 14 + 20 + 8 + 8 + 8;

/// One packet: where it lies, and with what it is sealed.
pub struct Packet {
    buffer: Mbuf,
    /// Number of its key.
    pub key: usize,
    /// Its nonce.
    pub nonce: [u8; 12],
    /// SPI and 64-bit sequence number, as in ESP (RFC 4106, section 5).
    pub aad: [u8; 12],
}

impl Packet {
    /// Data and tag.
    #[inline]
    pub fn parts(&mut self) -> Option<(&mut [u8], &mut [u8; TAG_LEN])> {
        let (_, both) = self.buffer.head_mut().split_at_mut_checked(HEADERS)?;
        both.split_last_chunk_mut()
    }

    /// Data with the tag behind.
    #[inline]
    pub fn whole(&mut self) -> Option<&mut [u8]> {
        self.buffer.head_mut().get_mut(HEADERS..)
    }

    /// Turns it into the packet of key `key`.
    fn belong(&mut self, key: usize) {
        self.key = key;
        let number = (key as u64).to_be_bytes();
        self.nonce = [1; 12];
        self.aad = [2; 12];
        for field in [&mut self.nonce, &mut self.aad] {
            if let Some(end) = field.last_chunk_mut() {
                *end = number;
            }
        }
    }
}

/// Keys, and for each of them one packet in the clear and sealed.
pub struct Material {
    /// Algorithm of all keys.
    pub algorithm: Algorithm,
    /// Keys as bytes.
    pub keys: Vec<Vec<u8>>,
    plain: Vec<u8>,
    sealed: Vec<Vec<u8>>,
}

/// In which state a packet shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In the clear, its tag zero.
    Plain,
    /// Sealed by `aes-gcm`.
    Sealed,
}

impl Material {
    /// `count` random keys, and packets of `bytes` bytes.
    pub fn new(algorithm: Algorithm, count: usize, bytes: usize) -> Material {
        let mut random = fastrand::Rng::with_seed(0x5eed);
        let mut some = |n: usize| -> Vec<u8> { (0..n).map(|_| random.u8(..)).collect() };
        let keys = (0..count).map(|_| some(algorithm.key_len())).collect();
        let mut plain = some(bytes);
        plain.extend([0; TAG_LEN]);
        Material {
            algorithm,
            keys,
            plain,
            sealed: Vec::new(),
        }
    }

    /// Has a packet for each key sealed, for others to open.
    pub fn seal(&mut self, by: &mut dyn Contestant, pool: &Mempool) -> anyhow::Result<()> {
        let mut packets = self.packets(pool, 1)?;
        for key in 0..self.keys.len() {
            let packet = packets.first_mut().context("a packet")?;
            self.fill(packet, key, State::Plain)?;
            ensure!(by.seal(&mut packets) == 1, "{} seals nothing", by.name());
            let bytes = packets.first_mut().and_then(Packet::whole);
            self.sealed.push(bytes.context("a packet")?.to_vec());
        }
        Ok(())
    }

    /// `count` packets in buffers of their own, in the clear.
    pub fn packets(&self, pool: &Mempool, count: usize) -> anyhow::Result<Vec<Packet>> {
        let mut packets = Vec::new();
        for i in 0..count {
            let mut buffer = pool.alloc().context("the pool of buffers is too small")?;
            buffer.append(HEADERS + self.plain.len())?;
            let mut packet = Packet {
                buffer,
                key: 0,
                nonce: [0; 12],
                aad: [0; 12],
            };
            self.fill(&mut packet, i % self.keys.len().max(1), State::Plain)?;
            packets.push(packet);
        }
        Ok(packets)
    }

    /// Makes a packet that of a key, in a state.
    pub fn fill(&self, packet: &mut Packet, key: usize, state: State) -> anyhow::Result<()> {
        packet.belong(key);
        let from = self.expected(key, state)?;
        let to = packet.whole().context("a short buffer")?;
        ensure!(from.len() == to.len(), "a buffer of another size");
        to.copy_from_slice(from);
        Ok(())
    }

    fn expected(&self, key: usize, state: State) -> anyhow::Result<&[u8]> {
        Ok(match state {
            State::Plain => &self.plain,
            State::Sealed => self.sealed.get(key).context("no such key")?,
        })
    }

    /// Whether a packet's data is what it should be in a state (its tag too, when sealed).
    pub fn is(&self, packet: &mut Packet, state: State) -> anyhow::Result<bool> {
        let expected = self.expected(packet.key, state)?;
        let n = match state {
            State::Plain => expected.len() - TAG_LEN,
            State::Sealed => expected.len(),
        };
        let found = packet.whole().context("a short buffer")?;
        Ok(found.get(..n) == expected.get(..n))
    }
}
