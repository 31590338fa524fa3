//! The sending side: sequence numbers, lifetimes, and ESP packets laid out for sealing.

use core::fmt;

use vswitch_aead::{Aad, Data, Job, Key};
use zeroize::Zeroizing;

use crate::Counters;
use crate::assigned::{Assigned, AssignedRun, Load};
use crate::error::{ConfigError, SealError};
use crate::esp::{
    ICV_LEN, MAX_PAYLOAD_LEN, PREFIX_LEN, Prefix, Sequence, TRAILER_LEN, blocks, nonce, pad_len,
    sealed_len, write_trailer, write_trailer_before_icv,
};
use crate::fingerprint::Fingerprint;
use crate::keys::{Algorithm, KeyMaterial, SALT_LEN};
use crate::spi::Spi;

/// How much one key may encipher, in AES blocks (the same count bounds AES-GMAC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From here on a new key is wanted.
    pub soft: u64,
    /// What would go beyond is refused, and the association closed.
    pub hard: u64,
}

impl Limits {
    /// The highest hard limit.
    pub const MAX: u64 = 1 << 48;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            soft: Self::MAX / 2,
            hard: Self::MAX,
        }
    }
}

/// How an outbound association starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboundConfig {
    /// Its SPI.
    pub spi: Spi,
    /// 64-bit sequence numbers (RFC 4303 section 2.2.1).
    pub esn: bool,
    /// The first sequence number to send, at least 1.
    pub next: u64,
    /// Sequence numbers below this are ours to send.
    pub reserved_until: u64,
    /// AES blocks that other associations may have enciphered under the key before.
    pub blocks_used: u64,
    /// Lifetime of the key.
    pub limits: Limits,
    /// The sequence number from which on a new key is wanted too: of a key that begins at 1, the
    /// packets that it may seal before.
    pub soft_sequence: u64,
}

impl OutboundConfig {
    /// For a key that lives and dies with the process: the whole 64-bit space from 1.
    #[must_use]
    pub fn ephemeral(spi: Spi) -> Self {
        Self::reserved(spi, 1, u64::MAX)
    }

    /// For a key that outlives the process: `next..until`, which must be recorded durably
    /// (see [`reservation`](crate::reservation)) before this association sends.
    #[must_use]
    pub fn reserved(spi: Spi, next: u64, until: u64) -> Self {
        Self {
            spi,
            esn: true,
            next,
            reserved_until: until,
            blocks_used: 0,
            limits: Limits::default(),
            soft_sequence: u64::MAX,
        }
    }
}

/// A sending association, owned by one worker.
pub struct Outbound {
    spi: Spi,
    algorithm: Algorithm,
    key: Key,
    salt: Zeroizing<[u8; SALT_LEN]>,
    esn: bool,
    /// Enciphers, with extended sequence numbers: what nearly all associations do.
    usual: bool,
    next: u64,
    /// Below this number, and with fewer blocks enciphered than that, there is nothing to think
    /// about: no limit is near.
    quiet: (u64, u64),
    reserved_until: u64,
    blocks: u64,
    limits: Limits,
    soft_sequence: u64,
    soft_reported: bool,
    closed: bool,
    counters: Counters,
}

impl Outbound {
    /// An association that consumes its key material.
    ///
    /// # Errors
    /// When sequence numbers or limits contradict each other, or the key is spent.
    pub fn new(material: KeyMaterial, config: OutboundConfig) -> Result<Self, ConfigError> {
        if config.next == 0 {
            return Err(ConfigError::ZeroSequence);
        }
        if config.next > config.reserved_until {
            return Err(ConfigError::Reservation {
                next: config.next,
                until: config.reserved_until,
            });
        }
        if config.limits.hard > Limits::MAX {
            return Err(ConfigError::HardLimit(config.limits.hard));
        }
        if config.limits.soft > config.limits.hard {
            return Err(ConfigError::SoftLimit {
                soft: config.limits.soft,
                hard: config.limits.hard,
            });
        }
        // Of a fresh key, any limit may be tried: tests lower it to nothing.
        if config.blocks_used > 0 && config.blocks_used >= config.limits.hard {
            return Err(ConfigError::Spent {
                used: config.blocks_used,
                hard: config.limits.hard,
            });
        }
        let (algorithm, key, salt) = material.into_parts();
        let mut sa = Self {
            spi: config.spi,
            algorithm,
            key,
            salt,
            esn: config.esn,
            usual: config.esn && algorithm.is_confidential(),
            next: config.next,
            quiet: (0, 0),
            reserved_until: config.reserved_until,
            blocks: config.blocks_used,
            limits: config.limits,
            soft_sequence: config.soft_sequence,
            soft_reported: false,
            closed: false,
            counters: Counters::default(),
        };
        sa.find_quiet();
        Ok(sa)
    }

    /// The last sequence number that there is.
    fn last(&self) -> u64 {
        if self.esn {
            u64::MAX - 1
        } else {
            u64::from(u32::MAX)
        }
    }

    /// Reckons `quiet` anew.
    fn find_quiet(&mut self) {
        let Limits { soft, hard } = self.limits;
        let blocks = match (self.closed, self.soft_reported) {
            (true, _) => 0,
            (false, true) => hard + 1,
            (false, false) => soft.min(hard + 1),
        };
        let soft = match self.soft_reported {
            true => u64::MAX,
            false => self.soft_sequence,
        };
        let sequence = self.reserved_until.min(self.last() + 1).min(soft);
        self.quiet = (sequence, blocks);
    }

    /// Spends the next sequence number on a payload of `payload_len` bytes.
    ///
    /// # Errors
    /// When the payload is too long (nothing is spent), the reservation is used up (extend
    /// it), sequence numbers are exhausted, or the hard limit is reached. The last two are
    /// final: the association never sends again.
    #[inline(always)]
    pub fn assign(&mut self, payload_len: usize) -> Result<Assigned, SealError> {
        let mut load = Load::default();
        let run = match load.add(payload_len) {
            true => self.assign_run(load),
            false => None,
        };
        match run.and_then(|mut run| run.next(payload_len)) {
            Some(assigned) => Ok(assigned),
            None => self.assign_carefully(payload_len),
        }
    }

    /// Spends consecutive numbers on a run of packets, where no limit is near. `None` decides
    /// nothing, and nothing is spent: [`Self::assign`] finds out more.
    #[inline]
    pub fn assign_run(&mut self, load: Load) -> Option<AssignedRun> {
        let next = self.next.checked_add(load.packets)?;
        // No overflow: the limit is at most 2^48 and a packet a few thousand blocks.
        let used = self.blocks + load.blocks;
        if next > self.quiet.0 || used >= self.quiet.1 {
            return None;
        }
        let run = AssignedRun {
            seq: self.next,
            spi: self.spi,
            left: load,
        };
        self.next = next;
        self.blocks = used;
        self.counters.packets += load.packets;
        self.counters.bytes += load.bytes;
        Some(run)
    }

    #[cold]
    #[inline(never)]
    fn assign_carefully(&mut self, payload_len: usize) -> Result<Assigned, SealError> {
        if self.closed {
            return Err(SealError::HardLimit);
        }
        if payload_len > MAX_PAYLOAD_LEN {
            return Err(SealError::TooLong);
        }
        if self.next > self.last() {
            return Err(SealError::SequenceExhausted);
        }
        if self.next >= self.reserved_until {
            return Err(SealError::ReservationExhausted);
        }
        let used = self.blocks + blocks(payload_len);
        if used > self.limits.hard {
            // Closed for shorter packets too, so that sending ends at one point.
            self.closed = true;
            self.find_quiet();
            return Err(SealError::HardLimit);
        }
        let wanted = used >= self.limits.soft || self.next >= self.soft_sequence;
        let soft_limit_hit = !self.soft_reported && wanted;
        self.soft_reported |= soft_limit_hit;
        self.find_quiet();
        Ok(self.spend(payload_len, used, soft_limit_hit))
    }

    #[inline(always)]
    fn spend(&mut self, payload_len: usize, used: u64, soft_limit_hit: bool) -> Assigned {
        let seq = self.next;
        self.next = seq + 1;
        self.blocks = used;
        self.counters.packets += 1;
        self.counters.bytes += payload_len as u64;
        Assigned {
            seq,
            spi: self.spi,
            // MAX_PAYLOAD_LEN has 16 bits.
            payload_len: payload_len as u16,
            soft_limit_hit,
        }
    }

    /// Lays the ESP packet out around its payload and gives the job that seals it to `take`, which
    /// is inlined: jobs are large, and are to be made where they stay.
    ///
    /// `packet` has [`sealed_len`] bytes for the payload's length, and the payload already
    /// at offset [`PREFIX_LEN`](crate::PREFIX_LEN).
    ///
    /// # Errors
    /// When the buffer has another length or `assigned` is another association's. The
    /// sequence number is spent all the same.
    #[inline(always)]
    pub fn seal_job<'a, R>(
        &'a self,
        assigned: Assigned,
        packet: &'a mut [u8],
        next_header: u8,
        take: impl FnOnce(Job<'a>) -> R,
    ) -> Result<R, SealError> {
        self.check(&assigned, packet.len())?;
        let (prefix, rest) = packet
            .split_first_chunk_mut::<PREFIX_LEN>()
            .ok_or(SealError::BufferLength)?;
        self.write_prefix(prefix, assigned.seq);
        write_trailer_before_icv(rest, assigned.payload_len(), next_header);
        let (data, tag) = rest
            .split_last_chunk_mut::<ICV_LEN>()
            .ok_or(SealError::BufferLength)?;
        let seq = assigned.seq;
        if self.usual {
            let aad = self.sequence(seq).extended();
            let nonce = nonce(*self.salt, seq);
            let data = Data::Contiguous(data);
            return Ok(take(Job::seal(&self.key, nonce, aad, data, tag)));
        }
        Ok(take(self.unusual_job(seq, Data::Contiguous(data), tag)))
    }

    /// [`Self::seal_job`] for a packet in several segments, the slow way. ESP header and IV
    /// must lie in the first, padding, trailer and ICV in the last; the payload may be cut
    /// anywhere. Segments in the middle may be empty. The slices named by `segments` are
    /// shortened to what is enciphered.
    ///
    /// # Errors
    /// As for [`Self::seal_job`], and when the layout is not as described.
    pub fn seal_job_segments<'a>(
        &'a self,
        assigned: Assigned,
        segments: &'a mut [&'a mut [u8]],
        next_header: u8,
    ) -> Result<Job<'a>, SealError> {
        self.check(&assigned, segments.iter().map(|s| s.len()).sum())?;
        let first = segments.first_mut().ok_or(SealError::BufferLength)?;
        let (prefix, rest) = core::mem::take(first)
            .split_first_chunk_mut::<PREFIX_LEN>()
            .ok_or(SealError::Layout)?;
        *first = rest;
        let last = segments.last_mut().ok_or(SealError::BufferLength)?;
        let (rest, tag) = core::mem::take(last)
            .split_last_chunk_mut::<ICV_LEN>()
            .ok_or(SealError::Layout)?;
        let trailer_at = rest
            .len()
            .checked_sub(TRAILER_LEN + pad_len(assigned.payload_len()))
            .ok_or(SealError::Layout)?;
        let trailer = rest.get_mut(trailer_at..).ok_or(SealError::Layout)?;
        self.write_prefix(prefix, assigned.seq);
        write_trailer(trailer, next_header);
        *last = rest;
        Ok(self.unusual_job(assigned.seq, Data::Segments(segments), tag))
    }

    /// An association that stands where this one stands, with another key: for a dry run, so
    /// that no nonce is used under the real key for a packet that is never sent.
    ///
    /// # Errors
    /// When `material` is for another algorithm.
    pub fn rehearsal(&self, material: KeyMaterial) -> Result<Self, ConfigError> {
        if material.algorithm() != self.algorithm {
            return Err(ConfigError::Algorithm);
        }
        let (algorithm, key, salt) = material.into_parts();
        Ok(Self {
            spi: self.spi,
            algorithm,
            key,
            salt,
            esn: self.esn,
            usual: self.usual,
            next: self.next,
            quiet: self.quiet,
            reserved_until: self.reserved_until,
            blocks: self.blocks,
            limits: self.limits,
            soft_sequence: self.soft_sequence,
            soft_reported: self.soft_reported,
            closed: self.closed,
            counters: self.counters,
        })
    }

    #[inline(always)]
    fn check(&self, assigned: &Assigned, len: usize) -> Result<(), SealError> {
        if assigned.spi != self.spi {
            return Err(SealError::WrongAssociation);
        }
        if len != sealed_len(assigned.payload_len()) {
            return Err(SealError::BufferLength);
        }
        Ok(())
    }

    #[inline(always)]
    fn write_prefix(&self, prefix: &mut [u8; PREFIX_LEN], seq: u64) {
        Prefix {
            spi: self.spi.get().into(),
            seq: (seq as u32).into(),
            iv: seq.into(),
        }
        .write(prefix);
    }

    #[inline(always)]
    fn sequence(&self, seq: u64) -> Sequence {
        Sequence {
            spi: self.spi.get(),
            number: seq,
            esn: self.esn,
        }
    }

    #[inline(never)]
    fn unusual_job<'a>(&'a self, seq: u64, data: Data<'a>, tag: &'a mut [u8; ICV_LEN]) -> Job<'a> {
        let (aad, data): (Aad<'a>, _) = self.sequence(seq).split(self.algorithm, seq, data);
        Job::seal(&self.key, nonce(*self.salt, seq), aad, data, tag)
    }

    /// Asks the CPU to fetch the key, without waiting, and reads what it is used with: a number
    /// without meaning, which the caller must not let the compiler find unused.
    #[inline]
    pub fn touch(&self) -> u64 {
        self.key.prefetch(crate::SHORT);
        self.next ^ self.blocks ^ self.counters.bytes
    }

    /// Nobody could be told that the soft limit was reached: the next packet says so again.
    #[cold]
    pub fn soft_limit_unheard(&mut self) {
        self.soft_reported = false;
        self.find_quiet();
    }

    /// Raises the exclusive end of the reservation to `until`, which must be recorded
    /// durably by then. A lower value changes nothing.
    pub fn extend_reservation(&mut self, until: u64) {
        self.reserved_until = self.reserved_until.max(until);
        self.find_quiet();
    }

    /// Sequence numbers left before [`SealError::ReservationExhausted`].
    #[must_use]
    #[inline]
    pub fn reservation_left(&self) -> u64 {
        self.reserved_until.saturating_sub(self.next)
    }

    /// Exclusive end of the reservation.
    #[must_use]
    pub fn reserved_until(&self) -> u64 {
        self.reserved_until
    }

    /// The next sequence number.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    /// AES blocks enciphered under this key so far, with what was charged at the start.
    #[must_use]
    pub fn blocks_used(&self) -> u64 {
        self.blocks
    }

    /// Lifetime of the key.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether the hard limit has closed the association.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Its SPI.
    #[must_use]
    #[inline]
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// Its transform.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The name of its key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::new(self.key.fingerprint())
    }

    /// Packets and payload bytes for which sequence numbers were spent.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("spi", &self.spi)
            .field("algorithm", &self.algorithm)
            .field("next", &self.next)
            .field("reserved_until", &self.reserved_until)
            .field("blocks", &self.blocks)
            .finish_non_exhaustive()
    }
}
