//! What must be remembered of a key that outlives the process, so that no nonce is used
//! twice under it and no packet accepted twice, whatever is killed or restarted.
//!
//! The logic only; writing a file, syncing it and renaming it into place is the caller's.
//! One [`Record`] is one file, named by [`Record::file_name`] after the *key*, not after
//! the SPI: nonces must be unique per key, so a key that returns under another SPI goes on
//! above, and another key under an old SPI starts afresh. The order that keeps the promise:
//! [`next_block`] from what is recorded, record its end durably, then send from the block.
//!
//! A record that cannot be read is an error and never a start at zero: fail closed. Only a
//! file that does not exist means a new key.

use core::fmt::Write;

use thiserror::Error;

use crate::fingerprint::Fingerprint;
use crate::spi::Spi;

/// What a record's number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Sequence numbers below it may have been sent under this key.
    Outbound,
    /// Sequence numbers up to and including it may have been accepted under this key.
    Inbound,
}

impl Direction {
    const fn name(self) -> &'static str {
        match self {
            Self::Outbound => "out",
            Self::Inbound => "in",
        }
    }
}

/// What is remembered of one key in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Which end of the key this is.
    pub direction: Direction,
    /// The SPI it was last used under; for the reader, it decides nothing.
    pub spi: Spi,
    /// The key.
    pub key: Fingerprint,
    /// Outbound: exclusive end of what is reserved. Inbound: the replay floor.
    pub sequence: u64,
}

/// Why a record cannot be used. Sending under its key must not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Not a complete record of a form known here (an empty file is one such).
    #[error("not a sequence record, or cut short")]
    Malformed,
    /// The checksum does not match the text before it.
    #[error("checksum of the sequence record does not match")]
    Checksum,
    /// The record is of another key or direction.
    #[error("the sequence record is of another key or direction")]
    OtherKey,
}

const MAGIC: &str = "vswitch-sequence 1";

impl Record {
    /// Name of the file that holds the record of a key: direction and fingerprint.
    #[must_use]
    pub fn file_name(direction: Direction, key: Fingerprint) -> String {
        format!("{}-{key}.seq", direction.name())
    }

    /// One line of text, with a CRC-64 against torn or damaged files:
    ///
    /// ```text
    /// vswitch-sequence 1 out spi=0x00001000 key=<32 hex> seq=65537 crc=<16 hex>
    /// ```
    #[must_use]
    pub fn encode(&self) -> String {
        let mut line = format!(
            "{MAGIC} {} spi={} key={} seq={}",
            self.direction.name(),
            self.spi,
            self.key,
            self.sequence
        );
        let crc = crc64(line.as_bytes());
        // Writing to a String cannot fail.
        let _ = writeln!(line, " crc={crc:016x}");
        line
    }

    /// Reads a record. Only the exact text that [`Self::encode`] writes is accepted.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn decode(text: &str) -> Result<Self, RecordError> {
        let (body, crc) = text
            .strip_suffix('\n')
            .and_then(|line| line.rsplit_once(" crc="))
            .ok_or(RecordError::Malformed)?;
        if crc != format!("{:016x}", crc64(body.as_bytes())) {
            return Err(RecordError::Checksum);
        }
        let record = Self::fields(body).ok_or(RecordError::Malformed)?;
        // One record, one text: a leading zero or sign is not ours.
        if record.encode() != text {
            return Err(RecordError::Malformed);
        }
        Ok(record)
    }

    fn fields(body: &str) -> Option<Self> {
        let mut fields = body.strip_prefix(MAGIC)?.strip_prefix(' ')?.split(' ');
        let direction = match fields.next()? {
            "out" => Direction::Outbound,
            "in" => Direction::Inbound,
            _ => return None,
        };
        let spi = fields.next()?.strip_prefix("spi=0x")?;
        let key = fields.next()?.strip_prefix("key=")?;
        let sequence = fields.next()?.strip_prefix("seq=")?;
        if fields.next().is_some() {
            return None;
        }
        Some(Self {
            direction,
            spi: Spi::new(u32::from_str_radix(spi, 16).ok()?).ok()?,
            key: key.parse().ok()?,
            sequence: sequence.parse().ok()?,
        })
    }

    /// Reads a record and makes sure that it is the one looked for.
    ///
    /// # Errors
    /// As for [`Self::decode`], and when it is of another key or direction.
    pub fn decode_for(
        text: &str,
        direction: Direction,
        key: Fingerprint,
    ) -> Result<Self, RecordError> {
        let record = Self::decode(text)?;
        if record.direction == direction && record.key == key {
            Ok(record)
        } else {
            Err(RecordError::OtherKey)
        }
    }
}

/// Sequence numbers `first..until`, to be sent once `until` is recorded durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The first number, at least 1.
    pub first: u64,
    /// Exclusive end, above `first`.
    pub until: u64,
}

/// No sequence number is left under this key, or a block of none was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no sequence numbers left to reserve under this key")]
pub struct Exhausted;

/// The next `size` numbers above what is recorded; `recorded` is the `sequence` of the
/// key's outbound record, or `None` if the key was never used. The last block may be short.
///
/// # Errors
/// When nothing is left, or `size` is 0.
pub fn next_block(recorded: Option<u64>, size: u64) -> Result<Block, Exhausted> {
    // Number 0 is never sent.
    let first = recorded.unwrap_or(1).max(1);
    let until = first.saturating_add(size);
    if until > first {
        Ok(Block { first, until })
    } else {
        Err(Exhausted)
    }
}

/// CRC-64/XZ.
fn crc64(bytes: &[u8]) -> u64 {
    const POLY: u64 = 0xc96c_5795_d787_0f42;
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u64::from(*byte), |c: u64, _| {
            (c >> 1) ^ (POLY & (c & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            direction: Direction::Outbound,
            spi: Spi::new(0x1000).unwrap(),
            key: "00112233445566778899aabbccddeeff".parse().unwrap(),
            sequence: 65_537,
        }
    }

    #[test]
    fn crc_check_value() {
        assert_eq!(crc64(b"123456789"), 0x995d_c9bb_df19_39fa);
    }

    #[test]
    fn text_and_back() {
        for direction in [Direction::Outbound, Direction::Inbound] {
            for sequence in [0, 1, 65_537, u64::MAX] {
                let r = Record {
                    direction,
                    sequence,
                    ..record()
                };
                assert_eq!(Record::decode(&r.encode()), Ok(r));
            }
        }
        assert!(record().encode().starts_with(
            "vswitch-sequence 1 out spi=0x00001000 key=00112233445566778899aabbccddeeff seq=65537 crc="
        ));
    }

    #[test]
    #[cfg_attr(miri, ignore = "minutes under Miri")]
    fn every_damage_is_noticed() {
        let text = record().encode();
        for len in 0..text.len() {
            assert!(Record::decode(&text[..len]).is_err(), "cut to {len}");
        }
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let damaged = String::from_utf8(bytes).unwrap();
                assert!(Record::decode(&damaged).is_err(), "{damaged}");
            }
        }
        assert!(Record::decode(&format!("{text}{text}")).is_err());
        assert!(Record::decode(&"\0".repeat(text.len())).is_err());
    }

    #[test]
    fn unknown_forms_with_a_good_checksum() {
        for body in [
            "vswitch-sequence 2 out spi=0x00001000 key=00112233445566778899aabbccddeeff seq=1",
            "vswitch-sequence 1 up spi=0x00001000 key=00112233445566778899aabbccddeeff seq=1",
            "vswitch-sequence 1 out spi=0x000000ff key=00112233445566778899aabbccddeeff seq=1",
            "vswitch-sequence 1 out spi=0x00001000 key=00112233445566778899aabbccddeeff seq=+1",
            "vswitch-sequence 1 out spi=0x00001000 key=00112233445566778899aabbccddeeff seq=-1",
            "vswitch-sequence 1 out spi=0x00001000 key=00112233445566778899aabbccddeeff seq=1 x",
        ] {
            let text = format!("{body} crc={:016x}\n", crc64(body.as_bytes()));
            assert_eq!(Record::decode(&text), Err(RecordError::Malformed), "{body}");
        }
    }

    #[test]
    fn other_key() {
        let text = record().encode();
        let other = "ff112233445566778899aabbccddeeff".parse().unwrap();
        let read = |d, k| Record::decode_for(&text, d, k);
        assert_eq!(read(Direction::Outbound, record().key), Ok(record()));
        assert_eq!(read(Direction::Outbound, other), Err(RecordError::OtherKey));
        assert_eq!(
            read(Direction::Inbound, record().key),
            Err(RecordError::OtherKey)
        );
    }

    #[test]
    fn blocks_never_overlap() {
        let mut recorded = None;
        let mut above = 0;
        for size in [1, 5, 1 << 20, u64::MAX / 2, u64::MAX] {
            let block = next_block(recorded, size).unwrap();
            assert!(block.first > above && block.until > block.first);
            above = block.until - 1;
            recorded = Some(block.until);
        }
        assert_eq!(next_block(recorded, 10), Err(Exhausted));
        assert_eq!(next_block(None, 0), Err(Exhausted));
        assert_eq!(next_block(Some(0), 4), Ok(Block { first: 1, until: 5 }));
    }
}
